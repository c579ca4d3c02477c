"""The Python of a board: what it is, which of our wheels fits it, and the wheels it needs where it has no network."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from boards import Board
from edge_runtime import __version__
from edge_runtime.errors import Failure

OLDEST, NEWEST = (3, 10), (3, 13)  # as pyproject.toml has it
GLIBC_OF_RELEASE: Final = {"bookworm": (2, 36), "trixie": (2, 41)}
_OLDEST_GLIBC: Final = 17  # 2.17 is manylinux2014
_PURE: Final = "any"

# Read by the board's own Python, whichever it is: standard library, and nothing newer than 3.6.
PROBE: Final = """\
import json, os, platform, shutil, struct, sys
libc, version = platform.libc_ver()
print(json.dumps({
    "machine": platform.machine(), "word_bits": 8 * struct.calcsize("P"), "python": sys.version_info[:2],
    "glibc": [int(n) for n in version.split(".")[:2]] if libc == "glibc" else [0, 0],
    "free_bytes": shutil.disk_usage(os.path.expanduser("~")).free,
}))
"""


class BoardPython(msgspec.Struct, frozen=True, kw_only=True):
    """`machine`: as uname has it; `glibc`: (0, 0) on another C library."""

    machine: str
    word_bits: int
    python: tuple[int, int]
    glibc: tuple[int, int]
    free_bytes: int

    @property
    def architecture(self) -> str:
        """As wheels name it: a 32-bit system on a 64-bit kernel is armv7l."""
        return "armv7l" if (self.machine, self.word_bits) == ("aarch64", 32) else self.machine

    def runs(self, tag: str) -> bool:
        """Whether a wheel of this platform tag installs there."""
        if tag == _PURE:
            return True
        tag = tag.replace("manylinux2014_", "manylinux_2_17_")
        if many := re.fullmatch(r"manylinux_(\d+)_(\d+)_(\w+)", tag):
            return many[3] == self.architecture and (int(many[1]), int(many[2])) <= self.glibc
        return tag == f"linux_{self.architecture}"

    def platforms(self) -> list[str]:
        """The platform tags that install there, newest glibc first."""
        own = self.architecture
        many = [f"manylinux_2_{minor}_{own}" for minor in range(self.glibc[1], _OLDEST_GLIBC - 1, -1)]
        return [*many, f"manylinux2014_{own}", f"linux_{own}"]


def parse(text: str, where: str) -> BoardPython:
    """What PROBE printed, whatever a login script printed before it. Failure: nothing, or a Python too old or new."""
    lines = [line for line in text.splitlines() if line.startswith("{")]
    try:
        found = msgspec.convert(json.loads(lines[-1]), BoardPython)
    except (IndexError, ValueError, msgspec.ValidationError):
        raise Failure("its Python did not answer", where=where, remedy="name another one with --python") from None
    if not OLDEST <= found.python <= NEWEST:
        own, oldest, newest = (".".join(map(str, version)) for version in (found.python, OLDEST, NEWEST))
        remedy = f"name a Python from {oldest} to {newest} with --python"
        raise Failure(f"its Python is {own}", where=where, remedy=remedy)
    return found


def assumed(board: Board) -> BoardPython:
    """What the board's TOML says, for a dry run that asks nobody: its preferred system."""
    if not board.os:
        raise Failure("runs no operating system", where=f"board {board.name}", remedy="deploy to a board with Linux")
    system = board.os[0]
    isa = board.cpu.isa
    machine = "armv6l" if isa == "armv6" else "aarch64" if isa.startswith("armv") else platform.machine()
    major, minor = (int(n) for n in system.python.split("."))
    glibc = GLIBC_OF_RELEASE.get(system.release, (2, _OLDEST_GLIBC))
    return BoardPython(
        machine=machine, word_bits=system.word_bits, python=(major, minor), glibc=glibc, free_bytes=board.ram_bytes
    )


def own_wheel(folder: Path, python: BoardPython) -> Path:
    """The runtime's wheel for that board in `folder`, or `folder` itself if it is a wheel. Failure: none fits."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    remedy = "make them with `make wheels`, or name one with --wheels"
    candidates = [folder] if folder.is_file() else sorted(folder.glob("edge_denoise-*.whl"))
    fitting = []
    for path in candidates:
        try:
            name, version, _, tags = parse_wheel_filename(path.name)
        except InvalidWheelFilename:
            continue
        if name == "edge-denoise" and str(version) == __version__ and any(python.runs(tag.platform) for tag in tags):
            fitting.append(path)
    if not fitting:
        what = f"no wheel of edge-denoise {__version__} for {python.architecture}"
        raise Failure(what, where=folder, remedy=remedy)
    return fitting[0]


def download(wheel: Path, extras: Sequence[str], python: BoardPython, into: Path) -> list[Path]:
    """pip, and what the runtime and its extras need on that board, into `into`. Failure: pip's own line."""
    release = "".join(map(str, python.python))
    abis = [f"--abi=cp{release}", "--abi=abi3", "--abi=none"]
    kind = ["--only-binary=:all:", "--implementation=cp", f"--python-version={release}", *abis]
    platforms = [f"--platform={tag}" for tag in python.platforms()]
    wanted = f"{wheel}[{','.join(extras)}]" if extras else str(wheel)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", f"--dest={into}"]
    done = subprocess.run([*command, *kind, *platforms, wanted, "pip"], capture_output=True, text=True)
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")] or ["pip failed"]
        remedy = f"see that there is a wheel of it for Python {python.python[0]}.{python.python[1]} there"
        raise Failure(errors[0].removeprefix("ERROR: "), where="--with-deps", remedy=remedy)
    return sorted(path for path in into.glob("*.whl") if path.name != wheel.name)
