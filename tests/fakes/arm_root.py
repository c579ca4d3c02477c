"""An emulated arm64 Debian: what it needs from us (a compiler's name and flags, the processor's files), and one with
the runtimes, made here for it has no network of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from places import INCLUDES, TESTS, engine_sources

import edge_runtime

BINFMT = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64")
EMULATOR = "qemu-aarch64-static"
COMPILER = "aarch64-linux-gnu-gcc"
FLAGS = ("-std=c99", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden")
DEBIAN_PACKAGES = "python3,libsndfile1,libgomp1,libc-bin,coreutils,bash,dash,libstdc++6"
ENGINES = ("onnxruntime==1.32.0", "ai-edge-litert==2.3.0", "backports.strenum")
WHEELS = ("numpy", *ENGINES, "soundfile", "soxr", "msgspec", "tqdm")
PLATFORMS = ("manylinux_2_17_aarch64", "manylinux2014_aarch64", "manylinux_2_27_aarch64", "manylinux_2_28_aarch64")


class Core(NamedTuple):
    """`features`, `part`: as /proc/cpuinfo tells them; `native`: the fastest kernels of the native engine there."""

    what: str
    features: str
    part: int
    native: str


_NEON = "fp asimd evtstrm crc32 cpuid"
CORES = {
    "cortex-a53": Core("Pi 3: NEON alone", _NEON, 0xD03, "neon"),
    "cortex-a72": Core("Pi 4: NEON alone", _NEON, 0xD08, "neon"),
    "cortex-a76": Core("Pi 5: with the dot product", f"{_NEON} fphp asimdhp asimddp", 0xD0B, "dotprod"),
}


def write_cpu_files(root: Path, cpu: str = "cortex-a72") -> None:
    """Four cores of that kind: ONNX Runtime reads these files."""
    (root / "sys/devices/system/cpu").mkdir(parents=True, exist_ok=True)
    for name in ("possible", "present"):
        (root / "sys/devices/system/cpu" / name).write_text("0-3\n")
    _, features, part, _ = CORES[cpu]
    core = f"processor : {{}}\nFeatures : {features}\nCPU implementer : 0x41\nCPU part : {part:#x}\n\n"
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/cpuinfo").write_text("".join(core.format(i) for i in range(4)))


def compile_library(to: Path, *more: str) -> None:
    """The native engine for arm64."""
    flags = (*FLAGS, *INCLUDES, *more, "-shared", "-fPIC", *engine_sources())
    subprocess.run([COMPILER, *flags, "-o", str(to), "-lm"], check=True)


def make(folder: Path) -> Path:
    """A root with the runtime and the wheels of every engine, fetched here, for nothing slow runs emulated. Skips
    without what makes it."""
    if not all(map(shutil.which, ("mmdebstrap", COMPILER, EMULATOR))) or os.geteuid() != 0:
        pytest.skip("needs root and Debian's mmdebstrap, qemu-user-static and gcc-aarch64-linux-gnu")
    root = folder / "root"
    options = ["--variant=extract", "--architectures=arm64", f"--include={DEBIAN_PACKAGES}", "--quiet"]
    subprocess.run(["mmdebstrap", *options, "bookworm", str(root)], check=True)
    platforms = [part for p in PLATFORMS for part in ("--platform", p)]
    abis = ["--implementation=cp", "--python-version=3.11", "--abi=cp311", "--abi=abi3", "--abi=none"]
    wheels = ["--quiet", "--no-compile", f"--target={root}/opt/wheels", "--only-binary=:all:"]
    subprocess.run([sys.executable, "-m", "pip", "install", *wheels, *abis, *platforms, *WHEELS], check=True)
    here = Path(edge_runtime.__file__).parent
    shutil.copytree(here, root / "opt/project/edge_runtime", ignore=shutil.ignore_patterns("*.so"))
    compile_library(root / "opt/project/edge_runtime/native/libedge_denoise.so")
    shutil.copy(TESTS / "fakes" / "recorded.py", root / "opt/project")
    shutil.copy(shutil.which(EMULATOR) or "", root)  # needs no registration with the kernel
    return root


def run(root: Path, cpu: str, *arguments: str) -> str:
    """What Python in the root prints, on that core. It cannot start programs of its own: see BINFMT."""
    write_cpu_files(root, cpu)
    environment = {"PYTHONPATH": "/opt/project:/opt/wheels", "PATH": os.environ["PATH"], "QEMU_CPU": cpu}
    command = ["chroot", str(root), f"/{EMULATOR}", "/usr/bin/python3", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, f"exit status {done.returncode}: {done.stderr[-2000:]}"
    return done.stdout
