"""What hardening costs: instructions of a start and of a hop, with and without it, of the library as it is shipped.

    python tests/counting/hardening.py [--artifact DIR]

It is compiled as setup.py does it by gcc and as `make wheels` does it by zig, where that is there, for a Cortex-A72 and
for an x86 processor with AVX2: three times each, hardened; without hardening; and as it was before there was any, when
its calls to itself were looked up. What is emulated is counted, so a run repeats to the digit.
Needs Debian's qemu-user 7.2 (later ones load no plugins), gcc and gcc-aarch64-linux-gnu.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "fakes"))
from count import FILES, PROJECT, ZIG, Core, compile_plugin, emulate, speech
from places import INCLUDES, engine_sources

import setup
from quant.deploy.wheels import NOT_ZIGS, TARGETS

HERE = Path(__file__).parent
N_HOPS = 20
HARDENING = tuple(flag for pair in setup.HARDENING for flags in pair for flag in flags)


class Machine(NamedTuple):
    """A processor, what compiles for it, and where its C library lies."""

    core: Core
    compiler: tuple[str, ...]
    flags: tuple[str, ...]
    options: tuple[str, ...] = ()


A72 = Core("cortex-a72", "neon")
HASWELL = Core("Haswell", "avx2", "x86_64", ("gcc",))
ARM_LIBRARIES = ("-L", "/usr/aarch64-linux-gnu")


class Counted(NamedTuple):
    """Instructions: of loading the library, of all until the first hop, of a hop on the average."""

    load: int
    start: int
    hop: float


def gcc(core: Core, options: tuple[str, ...] = ()) -> Machine:
    """As setup.py compiles."""
    return Machine(core, core.compiler, (*setup.FLAGS, *setup.LINK_FLAGS, "-fPIC"), options)


def zig(core: Core, machine: str, options: tuple[str, ...] = ()) -> Machine:
    """As `make wheels` does."""
    (target,) = (one for one in TARGETS if one.machine == machine)
    linking = [flag for flag in setup.LINK_FLAGS if flag not in NOT_ZIGS]
    return Machine(core, ZIG, (*target.flags, *setup.FLAGS, "-fno-unroll-loops", *linking), options)


def machines() -> Iterator[tuple[str, Machine]]:
    """Each with its name."""
    yield "Cortex-A72, gcc", gcc(A72, ARM_LIBRARIES)
    yield "AVX2, gcc", gcc(HASWELL)
    if importlib.util.find_spec("ziglang"):
        yield "Cortex-A72, zig", zig(A72, "aarch64", ARM_LIBRARIES)
        yield "AVX2, zig", zig(HASWELL, "x86_64")


def variants(flags: Sequence[str]) -> dict[str, list[str]]:
    """Flags of a library: hardened, without that, and as it was before."""
    plain = [flag for flag in flags if flag not in HARDENING]
    return {
        "hardened": [*plain, *HARDENING],
        "without": plain,
        "before": [flag for flag in plain if not flag.startswith("-Wl,-Bsymbolic")],
    }


def compile_library(out: Path, machine: Machine, flags: Iterable[str]) -> Path:
    command = [*machine.compiler, *flags, "-shared", *engine_sources(), "-o", str(out), "-lm"]
    subprocess.run(command, cwd=PROJECT, check=True)
    return out


def compile_start(out: Path, core: Core) -> Path:
    """libm is there before the library, as in Python."""
    linking = ["-no-pie", "-Wl,--no-as-needed", "-lm", "-ldl"]
    subprocess.run([*core.compiler, "-O2", *INCLUDES, str(HERE / "start.c"), "-o", str(out), *linking], check=True)
    return out


def counted(plugin: Path, machine: Machine, start: Path, library: Path, weights: Path, samples: Path) -> Counted:
    marks = [row[0] for row in emulate(plugin, machine.core, start, library, weights, samples, options=machine.options)]
    cost, load, make, *hops = (b - a for a, b in pairwise(marks[:-1]))
    return Counted(load - cost, load + make - 2 * cost, sum(hops) / len(hops) - cost)


def main() -> None:
    """A table."""
    parser = argparse.ArgumentParser(description="What hardening costs, in instructions.")
    parser.add_argument("--artifact", type=Path, default=PROJECT / "build" / "rpi4", help="default: build/rpi4")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        plugin, samples = compile_plugin(folder), folder / "samples"
        samples.write_bytes(speech(args.artifact)[: N_HOPS * 256].astype("<f4").tobytes())
        print(f"{'':36} {'load':>10} {'start':>10} {'hop':>10}")
        for name, machine in machines():
            start = compile_start(folder / f"start-{machine.core.arch}", machine.core)
            for variant, flags in variants(machine.flags).items():
                library = compile_library(folder / "library.so", machine, flags)
                for precision, file in FILES.items():
                    row = counted(plugin, machine, start, library, args.artifact / file, samples)
                    print(
                        f"{name + ', ' + precision + ', ' + variant:36} {row.load:10,} {row.start:10,} {row.hop:10,.0f}"
                    )


if __name__ == "__main__":
    main()
