"""Which machine this is, for every figure that was measured on it."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TypedDict


class Machine(TypedDict):
    """A board names itself in its device tree ("Raspberry Pi 4 Model B Rev 1.4"); a PC names its CPU."""

    cpu: str
    arch: str
    n_cores: int
    os: str
    python: str


def this_machine() -> Machine:
    """Describe the machine and the software under it."""
    return Machine(
        cpu=_device_tree_model() or _cpuinfo("model name") or platform.processor() or "unknown",
        arch=platform.machine(),
        n_cores=os.cpu_count() or 1,
        os=_os_name(),
        python=platform.python_version(),
    )


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
