"""Which machine this is, for every figure that was measured on it."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

HOT_C: Final = 75.0  # a Pi slows down from 80 on
# Raspberry Pi documentation, vcgencmd get_throttled: now, and since the start
THROTTLED: Final = {
    0: "under-voltage",
    1: "clock capped",
    2: "throttled",
    3: "near its temperature limit",
    16: "under-voltage has occurred",
    17: "the clock was capped",
    18: "throttling has occurred",
    19: "the temperature limit was reached",
}


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


def this_machine() -> Machine:
    """Describe the machine and the software under it."""
    return Machine(
        cpu=cpu_name(),
        arch=platform.machine(),
        n_cores=os.cpu_count() or 1,
        os=_os_name(),
        python=platform.python_version(),
    )


def conditions(root: Path = Path("/")) -> Conditions:
    """What holds now."""
    frequency = root / "sys/devices/system/cpu/cpu0/cpufreq"
    zones = [_number(path) for path in sorted((root / "sys/class/thermal").glob("thermal_zone*/temp"))]
    heats = [heat for heat in zones if heat is not None]
    clock, most = _number(frequency / "scaling_cur_freq"), _number(frequency / "cpuinfo_max_freq")
    found = Conditions(
        temperature_c=round(max(heats) / 1e3, 1) if heats else None,
        governor=_text(frequency / "scaling_governor").strip() or None,
        clock_mhz=None if clock is None else clock // 1000,
        most_mhz=None if most is None else most // 1000,
        throttled=_text(root / "sys/devices/platform/soc/soc:firmware/get_throttled").strip() or _vcgencmd(),
    )
    return msgspec.structs.replace(found, notes=tuple(_notes(found)))


def _notes(found: Conditions) -> list[str]:
    notes = []
    if (found.temperature_c or 0) >= HOT_C:
        notes.append(f"{found.temperature_c:g} degrees C: the processor may slow down")
    if found.governor not in (None, "performance"):
        notes.append(f"the governor is {found.governor}: a core that mostly waits may run below its highest clock")
    try:
        word = int(found.throttled or "0", 16)
    except ValueError:
        word = 0
    said = [text for bit, text in THROTTLED.items() if word >> bit & 1]
    return notes + [f"the firmware says: {', '.join(said)}"] * bool(said)


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.lstrip("-").isdecimal() else None


def _vcgencmd() -> str | None:
    """`throttled=0x50000` without its name."""
    import subprocess  # a start to denoise need not wait for it

    try:
        command = ["vcgencmd", "get_throttled"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip().removeprefix("throttled=") if done.returncode == 0 else None


def cpu_name() -> str:
    """The board's name, or the processor's."""
    return _device_tree_model() or _cpuinfo("model name") or platform.processor() or "unknown"


def _device_tree_model() -> str:
    return _text(Path("/proc/device-tree/model")).rstrip("\0")


def _cpuinfo(key: str) -> str:
    for line in _text(Path("/proc/cpuinfo")).splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform()


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
