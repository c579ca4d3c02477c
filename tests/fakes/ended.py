"""A run that ends at a moment of choice: killed, signalled, or refused by a full disk at its n-th touch of files.

It runs in a forked process whose audit hook counts what it does below a folder; after a kill nothing of it runs.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

TOUCHES = {
    "open", "os.mkdir", "os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.chmod", "os.chown",
    "os.truncate", "os.listdir", "os.scandir", "ctypes.dlsym",
}  # fmt: skip
MAKES = {"os.mkdir", "os.link", "os.symlink"}  # and an open that may create
NEVER = 1 << 30


class Ended(NamedTuple):
    """How it ended: exit status, negative for a signal; its touches; what it printed for errors."""

    status: int
    n_touches: int
    errors: str


def ended(run: Callable[[], int], top: Path, n: int = NEVER, by: int = signal.SIGKILL) -> Ended:
    """Run until a signal at the n-th touch below `top`."""
    return _forked(run, top, lambda k, _: os.kill(os.getpid(), by) if k == n else None)


def timed_out(run: Callable[[], int], top: Path, after_s: float) -> Ended:
    """Run until the system ends it, after a time."""

    def timed() -> int:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # as SIGKILL: nothing runs afterwards
        signal.setitimer(signal.ITIMER_REAL, after_s)
        return run()

    return _forked(timed, top, lambda *_: None)


def full(run: Callable[[], int], top: Path, n: int) -> Ended:
    """Run on a disk that has room for n - 1 more files, folders or links."""
    n_made = 0

    def refuse(_: int, makes: str | None) -> None:
        nonlocal n_made
        if makes is not None:
            n_made += 1
            if n_made >= n:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), makes)

    return _forked(run, top, refuse)


def _forked(run: Callable[[], int], top: Path, at: Callable[[int, str | None], None]) -> Ended:
    with tempfile.TemporaryFile() as counted, tempfile.TemporaryFile() as printed:
        child = os.fork()
        if child == 0:
            os.dup2(printed.fileno(), 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            status = 99
            try:
                sys.stderr, sys.stdout = os.fdopen(2, "w"), os.fdopen(1, "w")
                sys.addaudithook(_hook(top, at, counted.fileno()))
                status = run()
                sys.stderr.flush()
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        counted.seek(0)
        printed.seek(0)
        return Ended(status, len(counted.read()), printed.read().decode())


def _hook(top: Path, at: Callable[[int, str | None], None], counter: int) -> Callable[[str, tuple[object, ...]], None]:
    below, n = os.fspath(top), 0

    def count(event: str, args: tuple[object, ...]) -> None:
        nonlocal n
        if event not in TOUCHES:
            return
        path = os.fsdecode(args[0]) if isinstance(args[0], (str, bytes, os.PathLike)) else ""
        if event != "ctypes.dlsym" and (not path or (os.path.isabs(path) and not path.startswith(below))):
            return
        n += 1
        os.write(counter, b".")
        makes = event in MAKES or (event == "open" and isinstance(args[2], int) and args[2] & os.O_CREAT)
        at(n, path if makes else None)

    return count
