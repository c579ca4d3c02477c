"""The native engine judged in C (`tests/native`): each kernel against portable C, sanitized, fuzzed, emulated."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from c_programs import NO_VECTORS, SANITIZED, compiled, linked, linked_fuzzer, output, sanitized_engine, written
from native_program import regressions
from places import TESTS
from random_networks import PUBLISHED, random_network

from edge_runtime.stft import Float32Array
from quant.emit.native.emitter import emit_native
from quant.emit.native.file import KINDS
from quant.int8.reference import Reference
from quant.int8.roundings import with_fewer_roundings
from quant.network.graph import Graph
from quant.network.passes import streaming_graph
from quant.ptq.quantize import Quantized

CORTEX_M_KERNELS = TESTS / "edge_runtime" / "native" / "cortex_m" / "kernels.sh"

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler")


@pytest.fixture(scope="module")
def engine(once: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Objects under both sanitizers."""
    return sanitized_engine(tmp_path_factory.mktemp("engine"), (*once, "gcc"))


@pytest.fixture(scope="module", params=["vectors", "scalar"])
def check(request: pytest.FixtureRequest, once: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("check") / "check"
    if request.param == "scalar":
        return compiled(out, "check.c", *SANITIZED, NO_VECTORS, compiler=(*once, "gcc"))
    return linked(out, "check.c", request.getfixturevalue("engine"), *SANITIZED)


@pytest.mark.parametrize("seed", [1, 2])
def test_every_kernel_is_the_portable_one(check: Path, seed: int) -> None:
    """Random shapes and numbers for each row of the table that dispatch reads, under ASan and UBSan."""
    output(check, "kernels", seed, 30)


@pytest.mark.parametrize("signal", ["noise", "silence", "tiny", "loud"])
def test_whole_hops_are_clean_under_sanitizers(
    check: Path, quantized: Quantized, graph: Graph, ulunas_quantized: Quantized, tmp_path: Path, signal: str
) -> None:
    networks = {"gtcrn": (quantized, graph), "ul-unas": (ulunas_quantized, streaming_graph(random_network("ul-unas")))}
    for name, (chosen, floating) in networks.items():
        (tmp_path / f"{name}-int8").write_bytes(emit_native(chosen.graph, chosen.plan).data)
        (tmp_path / f"{name}-fp32").write_bytes(emit_native(floating).data)
    for isa in output(check, "isas").split():
        for weights in sorted(tmp_path.iterdir()):
            assert "hops" in output(check, "hops", weights, isa, 6, signal)


@pytest.fixture(scope="module")
def fuzz(engine: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return linked_fuzzer(tmp_path_factory.mktemp("fuzz") / "fuzz", engine)


def test_whatever_is_accepted_runs_within_its_memory(fuzz: Path, tmp_path: Path) -> None:
    """A few seconds of `make fuzz`: through every kernel set, and 8-bit programs to the same results. Every kind of
    operation is among what is changed and accepted."""
    from fuzz_seeds import networks

    printed = output(fuzz, 6, 1, tmp_path / "found", *written(tmp_path, networks()))
    n_tried, n_accepted = (int(number) for number in re.findall(r"(\d+) (?:programs|accepted)", printed))
    assert n_tried > 200, printed
    assert n_accepted > n_tried / 5, printed
    n_of_kind = {kind.lower(): int(n) for kind, n in re.findall(r" ([A-Z][A-Z_0-9]+) (\d+)", printed)}
    assert list(n_of_kind) == [kind for kind in KINDS if kind not in ("analysis", "synthesis")]
    assert min(n_of_kind.values()) > 0, printed


def test_what_once_left_its_memory_no_longer_does(fuzz: Path, tmp_path: Path) -> None:
    """Three are refused; the fourth is a proper program, which a kernel read beyond."""
    printed = output(fuzz, 0, 1, tmp_path / "found", *written(tmp_path, regressions()))
    assert "4 programs, 1 accepted" in printed


N_REPLAYED = 48  # frames; 32 are remembered by the dilated convolutions of encoder and decoder


class Target(NamedTuple):
    arch: str
    compiler: str
    flags: tuple[str, ...]


A64 = Target("aarch64", "aarch64-linux-gnu-gcc", ("-Og", "-static"))
# 32-bit: what every Armv7-A has; the NEON file asks for more by itself and is chosen at run time.
A32 = Target("arm", "arm-linux-gnueabihf-gcc", ("-Og", "-march=armv7-a", "-mfpu=vfpv3-d16", "-static"))
A32_SCALAR = A32._replace(flags=(*A32.flags, NO_VECTORS))  # the same 8-bit products as on Armv6 and microcontrollers
# Cores, and the kernel sets that they have: a wrong instruction traps.
CORES = [
    (A64, "cortex-a53", ["neon", "portable"]),
    (A64, "cortex-a72", ["neon", "portable"]),
    (A64, "cortex-a76", ["dotprod", "neon", "portable"]),
    (A32, "cortex-a7", ["neon", "portable"]),
    (A32, "cortex-a15", ["neon", "portable"]),
    (A32_SCALAR, "cortex-a7", ["scalar", "portable"]),
]
# Random cases of each kernel: two cores that run the same instructions share them, of one chance each.
CASES = [(1, 10), (2, 10), (3, 20), (1, 10), (2, 10), (1, 20)]


@pytest.fixture(scope="module")
def arm_check(once: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Callable[[Target, str], list[str]]:
    """(target, core) -> the command that runs `check` there; compiled once a target."""
    built: dict[Target, Path] = {}

    def command(target: Target, cpu: str) -> list[str]:
        arch, compiler, flags = target
        emulator = shutil.which(f"qemu-{arch}-static") or shutil.which(f"qemu-{arch}")
        if shutil.which(compiler) is None or emulator is None:
            pytest.skip(f"needs Debian's {compiler} and qemu-user-static")
        if target not in built:
            out = tmp_path_factory.mktemp("arm") / "check"
            built[target] = compiled(out, "check.c", *flags, compiler=(*once, compiler))
        return [emulator, "-cpu", cpu, str(built[target])]

    return command


@pytest.mark.qemu
@pytest.mark.parametrize(
    ("target", "cpu", "isas", "cases"), [(*core, cases) for core, cases in zip(CORES, CASES, strict=True)]
)
def test_arm_kernels_are_the_portable_ones(
    arm_check: Callable[[Target, str], list[str]], target: Target, cpu: str, isas: list[str], cases: tuple[int, int]
) -> None:
    check = arm_check(target, cpu)
    assert output(*check, "isas").split() == isas
    output(*check, "kernels", *cases)


@pytest.mark.slow
@pytest.mark.qemu
@pytest.mark.parametrize("core", ["m4", "m33", "m55"])
def test_kernels_of_microcontrollers_are_the_portable_ones(core: str) -> None:
    """Pairs of 8-bit products, rounding in floating-point registers, Helium."""
    if not shutil.which("arm-none-eabi-gcc") or not shutil.which("qemu-system-arm"):
        pytest.skip("needs Debian's gcc-arm-none-eabi, libnewlib-arm-none-eabi and qemu-system-arm")
    done = subprocess.run([CORTEX_M_KERNELS, "10", core], capture_output=True, text=True, timeout=900)
    assert (done.returncode, done.stdout.endswith("10 cases each: 0 differ\n")) == (0, True), done.stdout + done.stderr


@pytest.fixture(scope="module", params=PUBLISHED)
def replayed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, spectra_3_s: Float32Array
) -> tuple[Path, Path]:
    """int8 weights of each network, and 0.8 s of speech, half as much again as convolutions remember, with what the
    integer reference makes of it."""
    chosen: Quantized = request.getfixturevalue("ulunas_quantized" if request.param == "ul-unas" else "quantized")
    folder, spectra = tmp_path_factory.mktemp("replay"), spectra_3_s[:N_REPLAYED]
    (folder / "int8").write_bytes(emit_native(chosen.graph, chosen.plan).data)
    reference = Reference(*with_fewer_roundings(chosen.graph, chosen.plan))
    enhanced = np.stack([reference.step(frame) for frame in spectra])
    frames = np.concatenate([spectra.reshape(-1, 514), enhanced.reshape(-1, 514)], 1)
    frames.astype("<f4").tofile(folder / "frames")
    return folder / "int8", folder / "frames"


@pytest.mark.qemu
@pytest.mark.parametrize(("target", "cpu", "isas"), CORES)
def test_arm_streams_are_the_references(
    arm_check: Callable[[Target, str], list[str]],
    replayed: tuple[Path, Path],
    target: Target,
    cpu: str,
    isas: list[str],
) -> None:
    """Bit for bit, through every kernel set."""
    check = arm_check(target, cpu)
    for isa in isas:
        assert "bit for bit" in output(*check, "replay", *replayed, isa)


def test_an_object_is_made_once_and_again_where_a_header_an_option_or_a_macro_differs(
    once: tuple[str, ...], tmp_path: Path
) -> None:
    compiler, objects = (*once[:-1], str(tmp_path / "kept"), "gcc"), tmp_path / "kept"
    (tmp_path / "x.c").write_text('#include "x.h"\nint x(void) { return X; }\n')

    def n_after(header: str, *options: str) -> int:
        (tmp_path / "x.h").write_text(header)
        command = [*compiler, *options, "-c", str(tmp_path / "x.c"), "-o", str(tmp_path / "x.o")]
        assert subprocess.run(command, capture_output=True).returncode == ("error" in header)
        return len(list(objects.glob("*.o")))

    first = "#ifndef X\n#define X 1\n#endif\n"
    assert [n_after(first), n_after(first), n_after("/* said */\n" + first)] == [1, 1, 1]
    assert [n_after("#define X 2\n"), n_after(first, "-O1"), n_after(first, "-DX=3")] == [2, 3, 4]
    assert n_after("#error error\n") == 4
