"""Processors other than this one: its own with features hidden (quick), or QEMU's (slow, and without AVX-512).

As a program: pytest on such a processor. `python tests/fakes/processors.py "AVX2 (Haswell, Zen 3)" tests/quant`
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
from places import ROOT, TESTS

AVX512 = {"7_B": (16, 17, 21, 26, 27, 28, 30, 31), "7_C": (1, 6, 12, 14)}
VNNI_512 = {"7_C": (11,)}
VNNI_256 = {"71_A": (4,), "71_D": (4, 10)}
NEWER = {"7_D": (2, 3, 8, 22, 23, 24, 25), "71_A": (5, 21, 23), "71_D": (5, 19)}  # AMX, half precision, bfloat16
AVX2 = {"7_B": (3, 5, 8), "7_C": (8, 9, 10), "1_C": (12, 28, 29)}  # with AVX, FMA, F16C, BMI


class Processor(NamedTuple):
    """`has`: flags of /proc/cpuinfo that this one must have to play it; `hidden`: what it must not show; `emulated`:
    QEMU's name of it, where QEMU has it."""

    has: tuple[str, ...]
    hidden: tuple[dict[str, tuple[int, ...]], ...]
    native: str  # the fastest kernels of the native engine there
    emulated: str = ""

    def bits(self) -> str:
        """For hidden_cpuid.c."""
        bits = dict.fromkeys(("1_C", "7_B", "7_C", "7_D", "71_A", "71_D"), 0)
        for features in self.hidden:
            for register, numbers in features.items():
                bits[register] |= sum(1 << n for n in numbers)
        return " ".join(f"{value:x}" for value in bits.values())


PROCESSORS = {
    "SSE4.2 (Nehalem)": Processor(("sse4_2",), (AVX2, AVX512, VNNI_512, VNNI_256, NEWER), "portable", "Nehalem"),
    "AVX2 (Haswell, Zen 3)": Processor(("avx2",), (AVX512, VNNI_512, VNNI_256, NEWER), "avx2", "Haswell"),
    "AVX2 with VNNI (Alder Lake)": Processor(("avx_vnni",), (AVX512, VNNI_512, NEWER), "avx2"),
    "AVX-512 (Skylake-Server)": Processor(("avx512f",), (VNNI_512, VNNI_256, NEWER), "avx2"),
    "AVX-512 with VNNI (Ice Lake)": Processor(("avx512_vnni",), (VNNI_256, NEWER), "avx512"),
}
# QEMU's -> the fastest kernels of the native engine there. "max" is AVX2 and all that QEMU knows besides: 7.2 has
# neither AVX-512 nor VNNI.
EMULATED = {"Nehalem": "portable", "Haswell": "avx2", "max": "avx2"}


def run_as(name: str, folder: Path, *program: object) -> str:
    """What a Python program prints on this processor without some features, or on QEMU's; skips without either.
    `folder`: as of `hiding`."""
    processor = PROCESSORS[name]
    if not (missing := lacking(processor)):
        return run([sys.executable, *program], hiding(processor, folder))
    if processor.emulated:
        return run_emulated(processor.emulated, *program)
    pytest.skip(missing)


def lacking(processor: Processor) -> str:
    """Why this machine cannot play it, or ""."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    missing = sorted(set(processor.has) - flags)
    return f"this processor has no {', '.join(missing)}, and QEMU 7.2 no AVX-512" if missing else ""


def hiding(processor: Processor, folder: Path) -> dict[str, str]:
    """The environment in which programs see no more than the processor has. `folder`: for all processors and workers
    of a session; every library is looked through once."""
    shim = folder / "hidden_cpuid.so"
    if not shim.exists():
        part = folder / f"{os.getpid()}.part"
        fakes = TESTS / "fakes"
        finder = shlex.join([sys.executable, "-I", "-S", str(fakes / "cpuid_places.py")])
        options = ["-O2", "-Wall", "-Werror", "-shared", "-fPIC", f"-DFINDER={json.dumps(finder)}"]
        subprocess.run(["gcc", *options, fakes / "hidden_cpuid.c", "-o", part], check=True)
        part.replace(shim)
    return {"LD_AUDIT": str(shim), "HIDDEN_CPUID": processor.bits(), "CPUID_PLACES": str(folder)}


def run_emulated(cpu: str, *program: object) -> str:
    """A Python program on one of QEMU's processors; skips without QEMU."""
    emulator = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")
    if emulator is None or os.uname().machine != "x86_64":
        pytest.skip("needs x86-64 and Debian's qemu-user-static")
    # QEMU 7.2 takes a wrong index for some gathers of AVX2, which NumPy's loops of that level are full of.
    return run([emulator, "-cpu", cpu, sys.executable, *program], {"NPY_DISABLE_CPU_FEATURES": "X86_V3"})


def run(command: list[object], environment: dict[str, str]) -> str:
    path = os.pathsep.join((str(ROOT), str(TESTS / "fakes")))
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"exit status {done.returncode}: {done.stderr[-2000:]}"
    return done.stdout


def main(name: str, *arguments: str) -> int:
    """Pytest's exit status; 2 where this machine cannot play the processor."""
    if name not in PROCESSORS:
        print(f"no processor {name!r}; there are: {', '.join(PROCESSORS)}", file=sys.stderr)
        return 2
    if missing := lacking(PROCESSORS[name]):
        print(missing, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, **hiding(PROCESSORS[name], Path(folder))}
        # Sanitizers want to be loaded first, and need not be.
        command = [sys.executable, "-m", "pytest", *arguments]
        return subprocess.run(command, env={**environment, "ASAN_OPTIONS": "verify_asan_link_order=0"}).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
