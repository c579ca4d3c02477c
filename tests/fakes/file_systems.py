"""File systems that a test mounts for itself: small ones, or a folder once more."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(folder: Path, *how: str) -> Iterator[None]:
    """A file system at `folder`, of a megabyte in memory by default; skips where mounts are not allowed."""
    folder.mkdir(exist_ok=True)
    command = ["mount", *(how or ("-t", "tmpfs", "-o", "size=1m", "none")), str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)
