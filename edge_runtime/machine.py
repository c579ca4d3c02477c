"""Which machine this is and what holds it back, for every figure that was measured on it, and for the doctor.

Paths are those of the kernel's Documentation/ABI, below a root that a test makes up.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from edge_runtime.errors import Failure

ROOT: Final = Path("/")
HOT_MC: Final = 75_000  # thousandths of a degree: a Pi slows down at 80 °C, and hard at 85 °C
PROGRAM_LIMIT_S: Final = 5.0

# https://www.raspberrypi.com/documentation/computers/os.html, get_throttled: what is, and 16 bits up what has been.
THROTTLED: Final = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
HAS_BEEN_BIT: Final = 16

# What kernels are chosen by, the native engine's (native/engine/ed_isas.c) and others', as /proc/cpuinfo names it.
FEATURES: Final = {
    "neon": "NEON", "asimd": "NEON", "asimddp": "dot product", "i8mm": "int8 matrix product", "fphp": "half precision",
    "avx2": "AVX2", "avx_vnni": "AVX-VNNI", "avx512f": "AVX-512", "avx512_vnni": "AVX-512 VNNI",
}  # fmt: skip
VNNI: Final = frozenset({"AVX-VNNI", "AVX-512 VNNI"})

Program = Callable[[Sequence[str]], str | None]  # a command -> its output, None where it does not run


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """What may hold the processor back, as far as Linux tells; None where unknown.

    `throttled` is the Pi firmware's word, hexadecimal; `notes` puts what matters in sentences.
    """

    temperature_c: float | None = None
    governor: str | None = None
    clock_mhz: int | None = None
    most_mhz: int | None = None
    throttled: str | None = None
    notes: tuple[str, ...] = ()


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """A board names itself in its device tree ("Raspberry Pi 4 Model B Rev 1.4"); a PC names its CPU.

    `engine_version` and `conditions` are set by whoever measured.
    """

    cpu: str
    arch: str
    n_cores: int = 1
    os: str
    python: str = ""
    engine_version: str | UnsetType = UNSET
    conditions: Conditions | UnsetType = UNSET


def run_program(command: Sequence[str]) -> str | None:
    """Its standard output; None when it is not installed, fails, or takes longer than 5 s."""
    import subprocess  # a start to denoise need not wait for it

    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROGRAM_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def this_machine() -> Machine:
    """Describe the machine and the software under it."""
    return Machine(
        cpu=cpu_name(),
        arch=platform.machine(),
        n_cores=os.cpu_count() or 1,
        os=_os_name(),
        python=platform.python_version(),
    )


def conditions(root: Path = ROOT) -> Conditions:
    """What holds now."""
    heat_mc = hottest_mc(root)
    found = Conditions(
        temperature_c=None if heat_mc is None else round(heat_mc / 1e3, 1),
        governor=", ".join(governors(root)) or None,
        clock_mhz=_clock_mhz(root, "scaling_cur_freq"),
        most_mhz=_clock_mhz(root, "cpuinfo_max_freq"),
        throttled=firmware_word(root),
    )
    return msgspec.structs.replace(found, notes=tuple(_notes(found)))


def _notes(found: Conditions) -> list[str]:
    notes = []
    if (found.temperature_c or 0) * 1e3 >= HOT_MC:
        notes.append(f"{found.temperature_c:g} degrees C: the processor may slow down")
    if found.governor not in (None, "performance"):
        notes.append(f"the governor is {found.governor}: a core that mostly waits may run below its highest clock")
    now, before = firmware_says(found.throttled or "0")
    said = [", ".join(now)] * bool(now) + [f"since it started {', '.join(before)}"] * bool(before)
    return notes + [f"the firmware says: {'; '.join(said)}"] * bool(said)


def hottest_mc(root: Path = ROOT) -> int | None:
    """Of all sensors, in thousandths of a degree."""
    heats = [_number(path) for path in root.glob("sys/class/thermal/thermal_zone*/temp")]
    return max((heat for heat in heats if heat is not None), default=None)


def governors(root: Path = ROOT) -> list[str]:
    """What decides the clock of the cores, each once."""
    paths = root.glob("sys/devices/system/cpu/cpu*/cpufreq/scaling_governor")
    return sorted({text for path in paths if (text := read_text(path))})


def firmware_word(root: Path = ROOT, program: Program = run_program) -> str | None:
    """What a Raspberry Pi's firmware says of its power and heat, hexadecimal; None elsewhere."""
    text = read_text(root / "sys/devices/platform/soc/soc:firmware/get_throttled")
    text = text or (program(["vcgencmd", "get_throttled"]) or "").strip().removeprefix("throttled=")
    try:
        int(text, 16)
    except ValueError:
        return None
    return text


def firmware_says(word: str) -> tuple[list[str], list[str]]:
    """That word in words: now, and since the start."""
    bits = int(word, 16)
    now = [text for bit, text in THROTTLED.items() if bits >> bit & 1]
    return now, [text for bit, text in THROTTLED.items() if bits >> bit + HAS_BEEN_BIT & 1]


def cpu_name() -> str:
    """The board's name, or the processor's."""
    return named_processor() or platform.processor() or "unknown"


def named_processor(root: Path = ROOT) -> str:
    """The same as Linux tells it; "" where it does not."""
    board = read_text(root / "proc/device-tree/model")
    return board or fields(read_text(root / "proc/cpuinfo")).get("model name", "")


def features(root: Path = ROOT) -> list[str]:
    """What this processor offers kernels, by the words of FEATURES."""
    cpuinfo = fields(read_text(root / "proc/cpuinfo"))
    words = f"{cpuinfo.get('Features', '')} {cpuinfo.get('flags', '')}".split()
    return list(dict.fromkeys(name for word, name in FEATURES.items() if word in words))


def is_x86(root: Path = ROOT) -> bool:
    """Linux names the features of ARM otherwise."""
    return "flags" in fields(read_text(root / "proc/cpuinfo"))


def fields(text: str) -> dict[str, str]:
    """The first value of every `key: value`."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        found.setdefault(key.strip(), value.strip())
    return found


def read_text(path: Path) -> str:
    """The file's text without white space around it; "" when it cannot be read."""
    try:
        return path.read_text(errors="replace").strip(" \n\0")
    except OSError:
        return ""


def _clock_mhz(root: Path, name: str) -> int | None:
    khz = _number(root / "sys/devices/system/cpu/cpu0/cpufreq" / name)
    return None if khz is None else khz // 1000


def _number(path: Path) -> int | None:
    text = read_text(path)
    return int(text) if text.lstrip("-").isdecimal() else None


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform()


def check_semaphores() -> None:
    """Failure: this system has none, which processes need to wait for each other."""
    import multiprocessing  # a command that starts no process does not wait for it

    try:
        multiprocessing.get_context("fork").Lock()
    except OSError as error:
        remedy = "let programs write there: `mount -o remount,rw,mode=1777 /dev/shm`; in a container --shm-size 1g"
        raise Failure(f"holds no semaphores ({error.strerror})", where="/dev/shm", remedy=remedy) from error
