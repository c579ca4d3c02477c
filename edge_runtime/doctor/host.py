"""What the doctor reads of a machine: files under a root, limits, programs. A test hands in one that it made up."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from edge_runtime.folders import home_folder, named_folder
from edge_runtime.machine import Program, read_text, run_program


def _runtime_folder() -> Path:
    """Where this user's sound server keeps its sockets (XDG base directory specification)."""
    return named_folder("XDG_RUNTIME_DIR") or Path(f"/run/user/{os.getuid()}")


@dataclass(frozen=True)
class Host:
    """A machine and its user. Paths are absolute, and read below `root`."""

    root: Path = Path("/")
    arch: str = field(default_factory=platform.machine)
    n_cores: int = field(default_factory=lambda: os.cpu_count() or 1)
    home: Path = field(default_factory=home_folder)
    runtime_folder: Path = field(default_factory=_runtime_folder)
    limit: Callable[[int], tuple[int, int]] = resource.getrlimit
    program: Program = run_program
    may_use: Callable[[Path], bool] = lambda path: os.access(path, os.R_OK | os.W_OK)
    free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free
    now_s: Callable[[], float] = time.time  # since 1970

    def path(self, name: str) -> Path:
        """Where "/sys/…" lies on this machine."""
        return self.root / name.lstrip("/")

    def text(self, name: str) -> str:
        """The file's text without white space around it; "" when it cannot be read."""
        return read_text(self.path(name))

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
