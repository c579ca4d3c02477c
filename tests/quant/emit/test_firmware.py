"""`quant build --target generic-c`: C that compiles without a warning and proves itself, here and emulated."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from c_programs import SANITIZED, WARNINGS
from places import ROOT, TESTS
from random_networks import random_network
from toy_build import TOY, toy

from edge_runtime import native as library
from edge_runtime.engines import native
from edge_runtime.engines.golden import check_golden
from edge_runtime.errors import Failure
from edge_runtime.manifest import DIGEST_FILE, MANIFEST_FILE, open_artifact
from edge_runtime.quiet import silent
from edge_runtime.stft import HOP_SAMPLES, Float32Array
from quant.build import stages
from quant.build.settings import Settings
from quant.emit.native import c_project
from quant.emit.native.emitter import emit_native
from quant.emit.native.file import KINDS as OP_KINDS
from quant.emit.native.file import OP
from quant.int8.reference import Reference
from quant.int8.roundings import with_fewer_roundings
from quant.network.float_model import FloatModel
from quant.network.passes import streaming_graph
from quant.ptq.quantize import Quantized

QUICK = "CFLAGS=-Og"  # half the compiler's time, where -O3 has been seen by another row or another test
WARN = f"WARN={' '.join(WARNINGS)}"
ARMV7 = "-Og -march=armv7-a -mfpu=vfpv3-d16 -static"
CORTEX_M = TESTS / "edge_runtime" / "native" / "cortex_m" / "run.sh"
N_HOPS = 48  # of golden vectors; 32 frames are remembered by the dilated convolutions of encoder and decoder
SIZES = r"text (\d+) bytes \(code, tables and weights\), data (\d+), bss (\d+)"
NEEDS = {"memcpy", "memset", "memmove", "strcmp", "sqrtf"}  # of the C library, as README.md says

APP = """#include "ed_weights.h"
#include "edge_denoise.h"
static union { uint8_t bytes[ED_STATE_BYTES]; double align; } state;
int main(void) { return ed_init(state.bytes, sizeof state, ED_WEIGHTS, ED_WEIGHT_BYTES) != ED_OK; }
"""

pytestmark = pytest.mark.skipif(not shutil.which("gcc") or not shutil.which("make"), reason="no C compiler or make")


def heard(out: Path) -> Settings:
    """N_HOPS of golden vectors."""
    return toy("generic-c", out, effort=replace(TOY, golden_samples=N_HOPS * HOP_SAMPLES))


@pytest.fixture(scope="module")
def folder(made_once: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder as built; not to be changed."""
    return made_once("firmware", lambda: stages.build(heard(tmp_path_factory.mktemp("firmware") / "c"), silent).folder)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "c"))


Make = Callable[..., None]


@pytest.fixture
def make(once: tuple[str, ...]) -> Make:
    """(folder, *variables): `make` there without a warning."""

    def run(folder: Path, *variables: str, compiler: str = "gcc") -> None:
        command = ["make", WARN, f"CC={' '.join(once)} {compiler}", *variables]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stderr[-2000:]

    return run


def self_test(folder: Path, *emulator: str) -> tuple[int, list[str]]:
    """Exit status and lines."""
    done = subprocess.run([*emulator, "./self_test"], cwd=folder, capture_output=True, text=True, timeout=1800)
    return done.returncode, (done.stdout + done.stderr).splitlines()


def emulator(arch: str, cpu: str, compiler: str) -> list[str]:
    found = shutil.which(f"qemu-{arch}-static") or shutil.which(f"qemu-{arch}")
    if found is None or shutil.which(compiler) is None:
        pytest.skip(f"needs Debian's qemu-user-static and {compiler}")
    return [found, "-cpu", cpu]


def compiles_32_bit_x86(tmp_path: Path) -> bool:
    source = tmp_path / "probe.c"
    source.write_text('#include <stdio.h>\nint main(void) { return puts("") < 0; }\n')
    return subprocess.run(["gcc", "-m32", source, "-o", tmp_path / "probe"], capture_output=True).returncode == 0


def test_it_is_an_artifact_like_any_other(folder: Path) -> None:
    opened = open_artifact(folder)
    opened.check_all()
    assert {path.name for path in folder.iterdir()} == {*opened.manifest.files, MANIFEST_FILE, DIGEST_FILE}
    assert (opened.manifest.board, set(opened.manifest.models)) == ("generic-c", {"native"})
    assert [(row.precision, row.ok) for row in check_golden(opened)] == [("fp32", True), ("int8", True)]


def test_the_licence_is_this_projects(folder: Path) -> None:
    assert (folder / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


def test_every_c_file_is_compiled_or_included(folder: Path) -> None:
    asked = [
        subprocess.run(["make", "-n", "SIMD=1", f"PRECISION={p}"], cwd=folder, capture_output=True, text=True)
        for p in ("int8", "fp32")
    ]
    compiled = {name for done in asked for name in re.findall(r"\S+\.c\b", done.stdout)} | {"double_buffer.c"}
    texts = {path.name: path.read_text() for path in folder.iterdir() if path.suffix in (".c", ".h", ".inc")}
    included = {name for text in texts.values() for name in re.findall(r'#include "(.+)"', text)}
    assert set(texts) == compiled | included


def test_two_builds_are_equal(folder: Path, tmp_path: Path) -> None:
    again = stages.build(heard(tmp_path / "again"), silent).folder
    assert {f.name: f.read_bytes() for f in again.iterdir()} == {f.name: f.read_bytes() for f in folder.iterdir()}


def test_no_line_names_this_machine(folder: Path) -> None:
    for path in folder.iterdir():
        assert str(ROOT).encode() not in path.read_bytes(), path.name


@pytest.mark.parametrize(
    ("variables", "n_sets"),
    [
        ((), 2),
        (("SIMD=1", QUICK), None),  # as many as the processor can run
        (("PRECISION=fp32",), 2),
        (("PRECISION=fp32", "SIMD=1", QUICK), None),
        (("SIMD=1", f"CFLAGS={' '.join(SANITIZED)}"), None),
        (("CFLAGS=-Os",), 2),
    ],
)
def test_make_and_self_test(make: Make, copy: Path, variables: tuple[str, ...], n_sets: int | None) -> None:
    make(copy, *variables)
    status, lines = self_test(copy)
    assert status == 0, lines
    assert len(lines) == (n_sets or len(library.isas()))
    how = "within their bounds" if "PRECISION=fp32" in variables else "bit for bit"
    assert all(f"16 frames and {N_HOPS} hops {how}" in line and line.endswith(": ok") for line in lines), lines


@pytest.mark.skipif(not shutil.which("cmake"), reason="no CMake (Debian: cmake)")
@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_cmake_and_its_test(once: tuple[str, ...], copy: Path, tmp_path: Path, precision: str) -> None:
    """By itself; and as part of another project, which takes the library alone."""
    launcher = f"-DCMAKE_C_COMPILER_LAUNCHER={';'.join(once)}"

    def run(*command: object) -> None:
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]

    options = (f"-DED_FP32={'ON' if precision == 'fp32' else 'OFF'}", launcher)
    as_within = "-DCMAKE_C_FLAGS_RELEASE="  # objects are made once
    run("cmake", "-S", copy, "-B", tmp_path / "alone", as_within, *options)
    run("cmake", "--build", tmp_path / "alone")
    run("ctest", "--test-dir", tmp_path / "alone")
    (tmp_path / "app.c").write_text(APP)
    (tmp_path / "CMakeLists.txt").write_text(
        f"cmake_minimum_required(VERSION 3.13)\nproject(app C)\nadd_subdirectory({copy.name})\n"
        "add_executable(app app.c)\ntarget_link_libraries(app edge_denoise)\n"
    )
    run("cmake", "-S", tmp_path, "-B", tmp_path / "within", *options)
    run("cmake", "--build", tmp_path / "within")
    run(tmp_path / "within" / "app")


def test_a_folder_that_is_compiled_whole_is_a_library(copy: Path, tmp_path: Path) -> None:
    """As Arduino and PlatformIO do: every C file of the folder, no option of ours; no main is among them."""
    objects = []
    for source in sorted(copy.glob("*.c")):
        objects.append(tmp_path / f"{source.stem}.o")
        done = subprocess.run(["gcc", "-O0", "-Wall", "-c", source, "-o", objects[-1]], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), source.name
    (tmp_path / "app.c").write_text(APP)
    app = ["gcc", tmp_path / "app.c", f"-I{copy}", *objects, "-lm", "-o", tmp_path / "app"]
    assert subprocess.run(app, capture_output=True).returncode == 0
    assert subprocess.run([tmp_path / "app"]).returncode == 0


REFUSED = """#include <stdio.h>
#include "edge_denoise.h"
#include "ed_weights.h"
int main(void)
{
    size_t n;
    return puts(ed_status_text(ed_size(ed_weights_fp32, sizeof ed_weights_fp32, &n))) < 0;
}
"""


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_only_kernels_of_the_programs_kinds_are_compiled(make: Make, copy: Path, precision: str) -> None:
    """However one compiles, without help of a linker; the other kernels are in no object."""
    make(copy, f"PRECISION={precision}", QUICK)
    done = subprocess.run(["nm", *copy.glob("build-*/libedge_denoise.a")], capture_output=True, text=True, check=True)
    found = set(re.findall(r" [tT] ed_portable_(\w+)", done.stdout))
    lowered = {OP_KINDS[kind] for kind in kinds_of(copy / c_project.MODELS[precision])}
    assert found == {kind.upper() for kind in lowered | {*c_project.EVERY_STREAM}}
    assert found < {kind.upper() for kind in OP_KINDS}


def kinds_of(model: Path) -> set[int]:
    data = model.read_bytes()
    header = c_project.header_of(data)
    return {int(kind) for kind in np.frombuffer(data, OP, int(header["n_ops"]), int(header["ops"]))["kind"]}


def test_weights_of_other_kinds_are_refused_in_a_line(make: Make, copy: Path, tmp_path: Path) -> None:
    make(copy)
    (tmp_path / "app.c").write_text(REFUSED)
    library = next(copy.glob("build-*/libedge_denoise.a"))
    app = ["gcc", tmp_path / "app.c", copy / "ed_weights_fp32.c", f"-I{copy}", library, "-lm", "-o", tmp_path / "app"]
    assert subprocess.run(app, capture_output=True).returncode == 0
    said = subprocess.run([tmp_path / "app"], capture_output=True, text=True).stdout
    assert said == "holds an operation that cannot be run\n"


def test_library_managers_can_read_what_it_is(folder: Path) -> None:
    properties = dict(line.split("=", 1) for line in (folder / "library.properties").read_text().splitlines())
    described = json.loads((folder / "library.json").read_text())
    assert (properties["name"], properties["version"]) == (described["name"], described["version"])
    assert described["version"] == version("edge-denoise")
    needed = {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures"}
    assert needed <= set(properties)
    assert properties["includes"] in {path.name for path in folder.iterdir()}


def test_the_folder_has_one_window_and_nothing_of_hosts(folder: Path) -> None:
    sources = [path for path in folder.iterdir() if path.suffix in (".c", ".h", ".inc")]
    assert not [path.name for path in sources if "ladspa" in path.read_text().lower()]
    assert (folder / "ed_tables.c").read_text().startswith("#define ED_ONLY_WINDOW 0 ")


def test_32_bit_x86(make: Make, copy: Path, tmp_path: Path) -> None:
    """As on a microcontroller, pointers and size_t have four bytes."""
    if not compiles_32_bit_x86(tmp_path):
        pytest.skip("no 32-bit C library (Debian: libc6-dev-i386 lib32gcc-12-dev)")
    make(copy, "CFLAGS=-Og -m32 -msse2 -mfpmath=sse")
    assert self_test(copy)[0] == 0


@pytest.mark.qemu
@pytest.mark.parametrize(
    ("arch", "compiler", "flags", "cpus"),
    [
        ("arm", "arm-linux-gnueabihf-gcc", ARMV7, {"cortex-a7": "neon", "cortex-a15": "neon"}),
        ("aarch64", "aarch64-linux-gnu-gcc", "-Og -static", {"cortex-a53": "neon", "cortex-a76": "dotprod"}),
    ],
)
def test_on_emulated_arm(make: Make, copy: Path, arch: str, compiler: str, flags: str, cpus: dict[str, str]) -> None:
    emulator(arch, "max", compiler)
    make(copy, "SIMD=1", f"CFLAGS={flags}", compiler=compiler)
    for cpu, fastest in cpus.items():
        status, lines = self_test(copy, *emulator(arch, cpu, compiler))
        assert (status, lines[0].split()[0]) == (0, fastest), lines


@pytest.mark.slow
@pytest.mark.qemu
def test_on_an_emulated_armv6(make: Make, copy: Path) -> None:
    """The first Pi's and Zero's processor: no distribution's C library here is for it, so zig links its own."""
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("needs the extra `wheels`")
    run = emulator("arm", "arm1176", "gcc")
    zig = f"{sys.executable} -m ziglang cc -target arm-linux-musleabihf -mcpu=arm1176jzf_s"
    make(copy, "CFLAGS=-O2 -static", "SIMD=1", compiler=zig)
    status, lines = self_test(copy, *run)
    assert (status, [line.split()[0] for line in lines]) == (0, ["scalar", "portable"]), lines


@pytest.mark.slow
@pytest.mark.qemu
@pytest.mark.parametrize(
    ("core", "isa", "most"),  # bytes of flash: int8, fp32
    [("m7", "scalar", (89_000, 129_000)), ("m33", "scalar", (89_000, 129_000)), ("m55", "helium", (91_000, 131_500))],
)
def test_on_an_emulated_microcontroller(folder: Path, core: str, isa: str, most: tuple[int, int]) -> None:
    """Cortex-M with an FPU, no operating system: bit for bit, and the sizes that the guide tells."""
    if not shutil.which("arm-none-eabi-gcc") or not shutil.which("qemu-system-arm"):
        pytest.skip("needs Debian's gcc-arm-none-eabi, libnewlib-arm-none-eabi and qemu-system-arm")
    done = subprocess.run([CORTEX_M, folder, core], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout
    assert f"{core} {isa} int8: 16 frames and {N_HOPS} hops bit for bit" in said
    late = rf"double_buffer: 0 of {N_HOPS} hops wrong, 0 late; a hop every 1800000 instructions"
    assert re.search(f"{core} int8: {late}", said), "live sound, three quarters of a hop of 150 MHz"
    assert f"{core} {isa} fp32: 16 frames and {N_HOPS} hops within their bounds" in said
    texts = [(int(text), int(data), int(bss)) for text, data, bss in re.findall(SIZES, said)]
    assert [(data, bss) for _, data, bss in texts] == [(0, 0), (0, 0)], "the caller owns every byte of RAM"
    assert [text <= bound for (text, _, _), bound in zip(texts, most, strict=True)] == [True, True]
    assert len(re.findall(r"\d{6,7} instructions a hop, \d{4} bytes of stack", said)) == 2


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_the_second_network_is_a_folder_like_the_first(
    make: Make, tmp_path: Path, ulunas_quantized: Quantized, spectra_3_s: Float32Array, precision: str
) -> None:
    """Bit for bit in 8 bits; through its own window."""
    floating = streaming_graph(random_network("ul-unas"))
    frames = spectra_3_s[: c_project.N_FRAMES]
    reference = Reference(*with_fewer_roundings(ulunas_quantized.graph, ulunas_quantized.plan))
    with torch.no_grad():
        enhanced, _ = FloatModel(floating)(torch.from_numpy(frames.transpose(2, 0, 1).copy())[None])
    golden = {
        "spectrum": frames,
        "enhanced_int8": np.stack([reference.step(frame) for frame in frames]),
        "enhanced_fp32": np.ascontiguousarray(enhanced[0].permute(1, 2, 0).numpy()),
    }
    models = {
        "model.native": emit_native(ulunas_quantized.graph, ulunas_quantized.plan),
        "model.fp32.native": emit_native(floating),
    }
    noise = (0.1 * np.random.default_rng(0).standard_normal(16_000)).astype(np.float32)
    for name, data in c_project.files(
        models, golden, noise, dict.fromkeys(("version", "checkpoint", "recipe"), "")
    ).items():
        (tmp_path / name).write_bytes(data)
    make(tmp_path, f"PRECISION={precision}", QUICK)
    status, lines = self_test(tmp_path)
    assert (status, len(lines)) == (0, 2), lines


def test_the_engine_needs_five_functions_and_no_memory_of_its_own(make: Make, copy: Path) -> None:
    make(copy)
    library = next(copy.glob("build-*/libedge_denoise.a"))
    done = subprocess.run(["nm", str(library)], capture_output=True, text=True, check=True)
    symbols = [line.split()[-2:] for line in done.stdout.splitlines() if len(line.split()) >= 2]
    defined = {name for kind, name in symbols if kind in "TtRrDdBbC"}
    assert {name for kind, name in symbols if kind == "U"} - defined <= NEEDS
    assert "C" not in {kind for kind, _ in symbols}
    assert {name: n for name, n in sections(library) if changes(name) and n > 0} == {}, "no globals that change"


def sections(library: Path) -> list[tuple[str, int]]:
    """Name and bytes of every section of every object."""
    done = subprocess.run(["size", "-A", str(library)], capture_output=True, text=True, check=True)
    return [(name, int(n)) for name, n in re.findall(r"^(\.\S+|COMMON)\s+(\d+)\s", done.stdout, re.MULTILINE)]


def changes(section: str) -> bool:
    """.data.rel.ro: constants that hold addresses, which the loader fills in."""
    is_constant = section.startswith(".data.rel.ro")
    return section.startswith((".data", ".bss", ".tdata", ".tbss", "COMMON")) and not is_constant


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("ed_weights_int8.c", "changed since it was written"),
        ("test_vectors_int8.c", "frame 15"),
    ],
)
def test_what_was_changed_is_found(make: Make, copy: Path, file: str, words: str) -> None:
    """The last word of the first array."""
    text = (copy / file).read_text()
    end = text.index("\n};")
    other = "0x3f800000" if text[end - 10 : end] != "0x3f800000" else "0x40000000"
    (copy / file).write_text(text[: end - 10] + other + text[end:])
    make(copy)
    status, lines = self_test(copy)
    assert status == 1
    assert words in lines[0]
    assert lines[-1] == "portable: FAILED"


def test_the_size_of_a_state_is_the_engines(folder: Path) -> None:
    for model in c_project.MODELS.values():
        data = (folder / model).read_bytes()
        entry = open_artifact(folder).manifest.models["native"]["int8" if model == "model.native" else "fp32"]
        engine = native.open_model(data, entry, "int8" if model == "model.native" else "fp32", 1)
        assert (
            c_project.state_bytes(data) == engine.n_stream_bytes + engine.n_scratch_bytes + c_project.STATE_HEAD_BYTES
        )


def test_without_a_compiled_engine_it_fails_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ImportError("no library")

    monkeypatch.setattr(library, "load_library", missing)
    with pytest.raises(Failure, match="not compiled here; install a C compiler"):
        stages.build(toy("generic-c", tmp_path / "out"), silent)
    assert list(tmp_path.iterdir()) == []
