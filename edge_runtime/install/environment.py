"""The environment of a release on a board: a virtual one that sees the system's packages, with the bundle's wheels.

Standard library only.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from edge_runtime.errors import Failure

PACKAGE: Final = "edge-denoise"
_NO_PIP: Final = "give --with-deps, which brings pip, or install Debian's python3-pip there"


def install_wheels(release: Path, extras: Sequence[str]) -> dict[str, Any]:
    """A virtual environment that sees the system's packages, and the bundle's wheels in it; no network.

    Failure: pip is nowhere, or a package is missing.
    """
    venv, wheels = release / "venv", release / "wheels"
    own = sorted(wheels.glob(f"{PACKAGE.replace('-', '_')}-*.whl"))
    if len(own) != 1:
        remedy = "make it again with one --wheel of it"
        raise Failure(f"holds {len(own)} wheels of {PACKAGE}, not one", where=release.name, remedy=remedy)
    wheel = own[0]
    run(sys.executable, "-m", "venv", "--without-pip", "--system-site-packages", str(venv))
    python = venv / "bin" / "python"
    pip = [*_pip(wheels, python), "install", "--quiet", "--no-index", "--no-cache-dir", "--disable-pip-version-check"]
    wanted = f"{wheel}[{','.join(extras)}]" if extras else str(wheel)
    try:
        if _finds(python, "edge_runtime"):  # the system's own, perhaps of this very version: pip would be content
            run(*pip, "--ignore-installed", "--no-deps", str(wheel))
        run(*pip, "--find-links", str(wheels), wanted)
    except Failure as failure:
        raise Failure(str(failure), remedy="give --with-deps, or install what is missing with apt there") from None
    return {"wheels": len(list(wheels.glob("*.whl")))}


def _pip(wheels: Path, python: Path) -> list[str]:
    """pip out of the bundle, or the board's own, into the environment of `python`."""
    if own := sorted(wheels.glob("pip-*.whl")):
        return [str(python), f"{own[-1]}/pip"]
    if _finds(python, "pip"):
        return [str(python), "-m", "pip"]
    raise Failure("no pip for this Python", where=sys.executable, remedy=_NO_PIP)


def _finds(python: Path, module: str) -> bool:
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    return subprocess.run([str(python), "-c", code], capture_output=True, cwd=python.parent).returncode == 0


def run(*command: str) -> str:
    """Standard output. Failure: the last line of standard error."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
    except OSError as error:
        raise Failure(f"{command[0]}: {error.strerror}") from None
    if done.returncode != 0:
        raise Failure(last_line(done))
    return done.stdout


def _ended(status: int) -> str:
    """
    >>> _ended(1), _ended(-4)
    ('exit status 1', 'ended by SIGILL')
    """
    with suppress(ValueError):
        return f"ended by {signal.Signals(-status).name}"
    return f"exit status {status}"


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """What a program said at the end; pip's errors come before its hints."""
    program = " ".join(Path(str(word)).name for word in done.args[:2])
    lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"{program}: {_ended(done.returncode)}"]
    errors = [line for line in lines if line.startswith("ERROR: ")]
    return errors[0].removeprefix("ERROR: ") if errors else lines[-1]
