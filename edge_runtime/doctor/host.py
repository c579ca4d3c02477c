"""What the doctor reads of a machine: files under a root, limits, programs. A test hands in one that it made up."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_PROGRAM_LIMIT_S: Final = 5.0


def run_program(command: Sequence[str]) -> str | None:
    """Its standard output; None when it is not installed, fails, or takes longer than 5 s."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PROGRAM_LIMIT_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _runtime_folder() -> Path:
    """Where this user's sound server keeps its sockets (XDG base directory specification)."""
    return Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")


@dataclass(frozen=True)
class Host:
    """A machine and its user. Paths are absolute, and read below `root`."""

    root: Path = Path("/")
    arch: str = field(default_factory=platform.machine)
    n_cores: int = field(default_factory=lambda: os.cpu_count() or 1)
    runtime_folder: Path = field(default_factory=_runtime_folder)
    limit: Callable[[int], tuple[int, int]] = resource.getrlimit
    program: Callable[[Sequence[str]], str | None] = run_program
    may_use: Callable[[Path], bool] = lambda path: os.access(path, os.R_OK | os.W_OK)
    free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free
    now_s: Callable[[], float] = time.time  # since 1970

    def path(self, name: str) -> Path:
        """Where "/sys/…" lies on this machine."""
        return self.root / name.lstrip("/")

    def text(self, name: str) -> str:
        """The file's text without white space around it; "" when it cannot be read."""
        try:
            return self.path(name).read_text(errors="replace").strip(" \n\0")
        except OSError:
            return ""

    def texts(self, pattern: str) -> dict[str, str]:
        """Name -> text of every readable file that matches, names as on the machine, sorted."""
        found = sorted(self.root.glob(pattern.lstrip("/")))
        names = [f"/{path.relative_to(self.root)}" for path in found]
        return {name: text for name in names if (text := self.text(name))}

    def has_capability(self, bit: int) -> bool:
        """Whether this process holds a capability of capabilities(7), by number."""
        for line in self.text("/proc/self/status").splitlines():
            if line.startswith("CapEff:"):
                return bool(int(line.partition(":")[2], 16) >> bit & 1)
        return False
