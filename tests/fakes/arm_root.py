"""What an emulated arm64 Debian root needs from us: a compiler's name and flags, and the processor's files."""

from __future__ import annotations

from pathlib import Path

BINFMT = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64")
COMPILER = "aarch64-linux-gnu-gcc"
FLAGS = ("-std=c99", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden")
CPU_FEATURES = "fp asimd evtstrm crc32 cpuid"


def write_cpu_files(root: Path) -> None:
    (root / "sys/devices/system/cpu").mkdir(parents=True)
    for name in ("possible", "present"):
        (root / "sys/devices/system/cpu" / name).write_text("0-3\n")
    core = f"processor : {{}}\nFeatures : {CPU_FEATURES}\nCPU implementer : 0x41\nCPU part : 0xd08\n\n"
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/cpuinfo").write_text("".join(core.format(i) for i in range(4)))
