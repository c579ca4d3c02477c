"""`make counts`: instructions a hop on emulated ARM cores, into quant/audit/instructions.json.

    python tests/counting/count.py [--artifact DIR] [--root DIR] [--firmware DIR] [--out FILE]

The native engine is cross-compiled as setup.py compiles it and counted in all and by operation. With --root, a Debian
arm64 root that has Python 3.11 and, in /opt/wheels, the engines' wheels (`tests/counting/root.sh` makes one), whole
hops through the Python runtime are counted too: every engine, as `edge-denoise` runs it. With --firmware, what `quant
build --target generic-c` left is counted on Cortex-M (`cortex_m/run.sh`), with --only-firmware nothing
else. Rows that are not counted now stay, with their date.
Needs Debian's qemu-user 7.2 (later ones load no plugins), gcc, gcc-aarch64-linux-gnu and gcc-arm-linux-gnueabihf.
Counts of C repeat exactly, those of Python nearly so.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1] / "fakes"))
from places import INCLUDES, engine_sources

import setup

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
CORTEX_M = PROJECT / "tests" / "edge_runtime" / "native" / "cortex_m" / "run.sh"
OUT = PROJECT / "quant" / "audit" / "instructions.json"
N_HOPS = 40
N_APART = 20  # of them, counted by operation
EACH_STEP = "-DED_AFTER_STEP=count_mark"
N_PYTHON_HOPS = 20
CLASSES = ("simd_fp", "load_store", "branch", "integer")


ZIG = (sys.executable, "-m", "ziglang", "cc")  # of the extra `wheels`
# Not every distribution's C library is for Armv6, and none is linked whole, so zig links its own.
ZIG_ARM = (*ZIG, "-target", "arm-linux-musleabihf")
GCC_ARM = "arm-linux-gnueabihf-gcc"


class Core(NamedTuple):
    """An emulated core, the kernels that run there, and what to compile for it with."""

    name: str
    isa: str
    arch: str = "aarch64"
    compiler: tuple[str, ...] = ("aarch64-linux-gnu-gcc",)
    flags: tuple[str, ...] = ()
    row: str = ""  # in instructions.json, where a core has several compilers

    @property
    def by_zig(self) -> bool:
        """Whether its compiler is the one of the extra `wheels`."""
        return self.compiler[: len(ZIG)] == ZIG

    @property
    def label(self) -> str:
        return self.row or self.name


CORES = (
    Core("cortex-a53", "neon"),
    Core("cortex-a72", "neon"),
    Core("cortex-a76", "dotprod"),
    # As wheels are compiled, and as Debian's package is.
    Core("cortex-a7", "neon", "arm", ZIG_ARM, ("-mcpu=generic+v7a+vfp3d16", "-fno-unroll-loops")),
    Core("cortex-a7", "neon", "arm", (GCC_ARM,), ("-march=armv7-a", "-mfpu=vfpv3-d16"), "cortex-a7, gcc"),
    Core("arm1176", "scalar", "arm", ZIG_ARM, ("-mcpu=arm1176jzf_s",)),
)
COMPILERS = sorted({core.compiler[0] for core in CORES if not core.by_zig})
MICROCONTROLLERS = ("m4", "m7", "m33", "m55")
FILES = {"int8": "model.native", "fp32": "model.fp32.native"}


def setup_flags() -> list[str]:
    """What setup.py compiles with that may cost instructions."""
    flags = [*setup.FLAGS, *(flag for compiling, _ in setup.HARDENING for flag in compiling)]
    return [flag for flag in flags if not flag.startswith(("-W", "-std", "-fvisibility", "-I"))]


def compile_plugin(folder: Path) -> Path:
    plugin = folder / "icount.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", str(HERE / "icount.c"), "-o", str(plugin)], check=True)
    return plugin


def compile_hops(folder: Path, core: Core, *defines: str) -> Path:
    """The engine and its driver; with EACH_STEP the engine marks its steps."""
    compiler = "zig" if core.by_zig else "gcc"
    program = folder / "-".join(("steps" if defines else "hops", core.arch, core.isa, compiler, *core.flags))
    if not program.exists():
        sources = [str(HERE / "hops.c"), *engine_sources()]
        flags = [*setup_flags(), "-std=gnu11", "-static", *INCLUDES, *core.flags, *defines]
        subprocess.run([*core.compiler, *flags, *sources, "-o", str(program), "-lm"], check=True)
    return program


def emulate(plugin: Path, core: Core, *command: object, options: tuple[str, ...] = ()) -> list[list[int]]:
    """Counts at each mark and, last, at the end: [sum, *CLASSES]."""
    emulator = [f"qemu-{core.arch}", "-cpu", core.name, *options, "-plugin", str(plugin), "-d", "plugin"]
    done = subprocess.run([*emulator, *map(str, command)], env={}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} failed on {core.name}: {done.stderr[-1000:]}")
    lines = (line.split() for line in done.stderr.splitlines())
    return [[int(n) for n in words[1:]] for words in lines if words and words[0] in ("mark", "total")]


def count_hops(plugin: Path, program: Path, core: Core, weights: Path, samples: np.ndarray) -> np.ndarray:
    """Instructions between marks, (n_hops, marks a hop, 5): a hop's steps, or the whole of it. Of the five, the first
    is the sum, then CLASSES."""
    with tempfile.NamedTemporaryFile() as file:
        samples.astype("<f4").tofile(file.name)
        marks = np.array(emulate(plugin, core, program, weights, core.isa, file.name))
    spent = np.diff(marks, axis=0)
    cost, spent = spent[0], spent[1:-1]
    return (spent - cost).reshape(len(samples) // 256, -1, 5)


def print_full_band(artifact: Path, plugin: Path, folder: Path, rate_hz: int) -> None:
    """Whole hops in and out at `rate_hz`: high-pass, gain, full band, a second clock."""
    n_up = rate_hz / 16_000
    samples = np.interp(np.arange(int(N_HOPS * 256 * n_up)) / n_up, np.arange(N_HOPS * 256), speech(artifact))
    (folder / "samples").write_bytes(samples.astype("<f4").tobytes())
    for core in CORES:
        program = compile_hops(folder, core)
        for precision, name in FILES.items():
            command = (program, artifact / name, core.isa, folder / "samples", rate_hz)
            spent = np.diff(np.array(emulate(plugin, core, *command))[:, 0])
            print(f"{core.label} {precision} at {rate_hz} Hz: {round(float((spent[1:-1] - spent[0]).mean())):,}")


def speech(artifact: Path) -> np.ndarray:
    """Samples of the golden spectra."""
    from edge_runtime.stft import Synthesis

    spectra = np.load(artifact / "golden.npz")["spectrum"][:N_HOPS]
    synthesis, hops = Synthesis(), np.empty((len(spectra), 256), np.float32)
    for spectrum, hop in zip(spectra, hops, strict=True):
        synthesis.push(spectrum, hop)
    return hops.reshape(-1)


def steps_of(precision: str, network: str) -> list[tuple[str, str]]:
    """(node, kernel) of every step of a hop of a network's default model."""
    from quant.emit.native.emitter import Lowering
    from quant.inputs.source import open_source
    from quant.ptq import quantize

    source = open_source(None, None, network=network)
    assert source.ranges is not None
    if precision == "fp32":
        lowering = Lowering(source.graph, None)
    else:
        quantized = quantize.requantize(source.graph, source.recipe, source.ranges)
        lowering = Lowering(quantized.graph, quantized.plan)
    lowering.run()
    return [("analysis", "analysis"), *((op.node, op.kind) for op in lowering.file.ops), ("synthesis", "synthesis")]


def native_rows(artifact: Path, plugin: Path, folder: Path) -> Iterator[dict[str, Any]]:
    samples = speech(artifact)
    network = json.loads((artifact / "manifest.json").read_text())["network"]
    for core in CORES:
        if core.by_zig and importlib.util.find_spec("ziglang") is None:
            print(f"{core.label}: not counted, needs the extra `wheels`", file=sys.stderr)
            continue
        program, apart = compile_hops(folder, core), compile_hops(folder, core, EACH_STEP)
        for precision, name in FILES.items():
            hops = count_hops(plugin, program, core, artifact / name, samples)[:, 0]
            by_step = count_hops(plugin, apart, core, artifact / name, samples[: N_APART * 256])[:, :, 0].mean(0)
            row: dict[str, Any] = {
                "core": core.label,
                "isa": core.isa,
                "engine": "libedge_denoise",
                "precision": precision,
                "n_instructions": round(float(hops[:, 0].mean())),
                "n_min": int(hops[:, 0].min()),
                "n_max": int(hops[:, 0].max()),
            }
            if core.arch == "aarch64":
                mean = hops.mean(0)
                row["by_class"] = {name: round(float(mean[i + 1])) for i, name in enumerate(CLASSES)}
            steps = zip(steps_of(precision, network), by_step, strict=True)
            row["steps"] = [[*step, round(float(n))] for step, n in steps]
            print(f"{core.label} {core.isa} {precision}: {row['n_instructions']:,}", file=sys.stderr)
            yield row


def python_rows(artifact: Path, plugin: Path, root: Path) -> Iterator[dict[str, Any]]:
    """Whole hops through `Denoiser.step` in the root's Python."""
    core = CORES[1]
    variables = {
        "PYTHONHOME": f"{root}/usr",
        "PYTHONPATH": f"{root}/opt/wheels:{root}/opt/project",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    options = ("-L", str(root), *(part for k, v in variables.items() for part in ("-E", f"{k}={v}")))
    python = f"{root}/usr/bin/python3.11"
    for engine in ("native", "onnx", "tflite"):
        for precision in FILES:
            command = (python, HERE / "python_hops.py", artifact, engine, precision, N_PYTHON_HOPS)
            (warm, *_), (done, *_) = emulate(plugin, core, *command, options=options)[-3:-1]
            n_instructions = round((done - warm) / N_PYTHON_HOPS)
            print(f"{core.name} {engine} {precision} through Python: {n_instructions:,}", file=sys.stderr)
            yield {
                "core": core.name,
                "isa": core.isa,
                "engine": engine,
                "precision": precision,
                "n_instructions": n_instructions,
            }


def firmware_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """Hops of microcontrollers."""
    done = subprocess.run([CORTEX_M, folder, *MICROCONTROLLERS], capture_output=True, text=True, check=True)
    for core, precision, n in re.findall(r"(m\d+) (int8|fp32): (\d+) instructions a hop", done.stdout):
        print(f"cortex-{core} {precision}: {int(n):,}", file=sys.stderr)
        yield {
            "core": f"cortex-{core}",
            "isa": "helium" if core == "m55" else "scalar",
            "engine": "libedge_denoise",
            "precision": precision,
            "n_instructions": int(n),
        }


def first_line(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]


def main() -> None:
    parser = argparse.ArgumentParser(description="Count instructions a hop on emulated ARM cores.")
    parser.add_argument("--artifact", type=Path, default=PROJECT / "build" / "rpi4", help="default: build/rpi4")
    parser.add_argument("--root", type=Path, help="a Debian arm64 root, to count the other engines too")
    parser.add_argument("--firmware", type=Path, help="a generic-c folder, to count on Cortex-M")
    parser.add_argument("--only-firmware", action="store_true", help="count nothing else")
    parser.add_argument("--rate", type=int, metavar="HZ", help="print live sound's hops at this rate instead")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    if args.rate:
        with tempfile.TemporaryDirectory() as folder:
            print_full_band(args.artifact, compile_plugin(Path(folder)), Path(folder), args.rate)
        return
    artifact = args.firmware if args.only_firmware and args.firmware else args.artifact
    manifest = json.loads((artifact / "manifest.json").read_text())
    before = json.loads(args.out.read_text()) if args.out.exists() else {"rows": []}
    network = manifest["network"]
    with tempfile.TemporaryDirectory() as folder:
        plugin = compile_plugin(Path(folder))
        rows = [] if args.only_firmware else list(native_rows(args.artifact, plugin, Path(folder)))
        if args.root:
            rows += python_rows(args.artifact, plugin, args.root.resolve())
        if args.firmware:
            rows += firmware_rows(args.firmware)
    counted_now = {(row["core"], row["engine"], network) for row in rows}
    rows = [{**row, "network": network, "date": date.today().isoformat()} for row in rows]
    kept = [{"network": "gtcrn", **row} for row in before["rows"]]
    rows += [row for row in kept if (row["core"], row["engine"], row["network"]) not in counted_now]
    counted = {
        "what": "instructions a hop of 256 samples, counted by tests/counting/count.py",
        "networks": {
            **before.get("networks", {}),
            network: {"checkpoint": manifest["checkpoint"], "recipe": manifest["recipe"]},
        },
        "flags": setup_flags(),
        "tools": [
            first_line(tool, "--version")
            for tool in ("qemu-aarch64", *sorted({c.compiler[0] for c in CORES if c.compiler[:4] != ZIG}))
        ],
        "n_hops": N_HOPS,
        "rows": rows,
    }
    text = json.dumps(counted, indent=1)
    args.out.write_text(compact(text) + "\n")


def compact(text: str) -> str:
    """Lists of a step on one line."""
    return re.sub(r'\[\s+("[^"]*"),\s+("[^"]*"),\s+(\d+)\s+\]', r"[\1, \2, \3]", text)


if __name__ == "__main__":
    main()
