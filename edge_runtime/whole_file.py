"""Files that are there whole: the old one or the new one, whatever ends the program or fills the disk meanwhile.

A new file is written beside the old one under a name that nobody can guess, `.edge-denoise-....part`, synced, and
renamed into its place. What a killed run left is removed by the next one that writes into that folder: a run holds a
lock on it while it lives. Folders: edge_runtime/whole_folder.py. Standard library only.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from edge_runtime.errors import Failure

_PART: Final = re.compile(r"\.edge-denoise-[0-9a-f]{16}\.part")
_REMEDIES: Final = {
    errno.ENOSPC: "free some space on its disk, or write elsewhere",
    errno.EDQUOT: "free some of your quota, or write elsewhere",
    errno.EFBIG: "write to a file system, or under a limit, that takes larger files",
    errno.EROFS: "write elsewhere",
    errno.EIO: "look at its disk, or write elsewhere",
}
_TRIED_BYTES: Final = 1 << 16
_DENIED: Final = "check who may write there, or write elsewhere"


@contextmanager
def written_whole(path: Path, *, mode: int | None = None, replaces: bool = True) -> Iterator[Path]:
    """A new file to write to, which takes the place of `path` when the block ends well; else nothing is left.

    A link stays a link: what it points to is written. Mode and owner are those of the file that is replaced, else the
    mode is `mode`, or what the user lets new files have.
    Failure: it cannot be written, and why; or, unless `replaces`, something is there.
    """
    target = resolved(path)
    if not target.parent.is_dir():
        raise Failure("no such folder", where=path.parent, remedy="make it first")
    part = lock = None
    try:
        remove_left(target.parent)
        with undisturbed():
            part, lock = _new_part(target, mode)
        yield part
        _become_like(part, target, mode)
        sync(part)
        _place(part, target, replaces)
        sync(target.parent)
    except OSError as error:
        if part is None or (says_why(error) if error.filename is None else Path(os.fsdecode(error.filename)) == part):
            raise unwritten(error, path) from error
        raise
    finally:
        if part is not None and lock is not None:
            with undisturbed(), closing(lock):
                part.unlink(missing_ok=True)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Signals wait for the milliseconds that this takes."""
    waiting: list[int] = []
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) not in (None, signal.SIG_IGN):
                before[number] = signal.signal(number, lambda number, _: waiting.append(number))
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        for each in waiting:
            signal.raise_signal(each)


@contextmanager
def closing(opened: int) -> Iterator[None]:
    """Close a file, and with it its lock, after the block."""
    try:
        yield
    finally:
        os.close(opened)


def unwritten(error: OSError, path: Path) -> Failure:
    """Why `path` cannot be written, in the system's words, and what helps."""
    remedy = _REMEDIES.get(error.errno or 0, _DENIED)
    return Failure(f"cannot be written ({error.strerror or error})", where=path, remedy=remedy)


def says_why(error: OSError) -> bool:
    """Whether an error that names no file can only come of writing."""
    return error.errno in _REMEDIES


def resolved(path: Path) -> Path:
    """`path` without links, `.` and `..`. Failure: links that lead nowhere."""
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # the working folder was removed; links in a circle
        raise Failure(f"leads nowhere ({error})", where=path, remedy="name another") from error


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on its disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError:
        if not stat.S_ISDIR(os.fstat(opened).st_mode):  # not every file system can sync a folder
            raise
    finally:
        os.close(opened)


@contextmanager
def scratch_folder(beside: Path) -> Iterator[Path]:
    """A hidden folder in `beside`, for what is to be moved there; removed at the end. OSError: it cannot be made."""
    part = lock = None
    try:
        remove_left(beside)
        with undisturbed():
            part, lock = _new(beside, _opened_folder)
        yield part
    finally:
        if part is not None and lock is not None:
            with undisturbed(), closing(lock):
                shutil.rmtree(part, ignore_errors=True)


def refusal(path: Path) -> OSError | None:
    """What the system says when more is written to a file, for libraries that do not tell; the file stays as it is."""
    try:
        opened = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        return error
    n_bytes = os.fstat(opened).st_size
    try:
        n_written = 0
        while n_written < _TRIED_BYTES:
            n_written += os.pwrite(opened, bytes(_TRIED_BYTES - n_written), n_bytes + n_written)
        os.fsync(opened)
        return None
    except OSError as error:
        return error
    finally:
        os.ftruncate(opened, n_bytes)
        os.close(opened)


def _new_part(path: Path, mode: int | None) -> tuple[Path, int]:
    """An empty file beside `path`, open and locked, which nobody may read who may not read `path`."""
    with suppress(OSError):
        mode = path.stat().st_mode
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return _new(path.parent, lambda part: os.open(part, flags, 0o666 if mode is None else mode & 0o666 | 0o600))


def _become_like(part: Path, path: Path, mode: int | None) -> None:
    """Mode, and owner where that may be given, of what is replaced."""
    with suppress(OSError):
        old = path.stat()
        mode = old.st_mode & 0o777
        os.chown(part, old.st_uid, old.st_gid)
    if mode is not None:
        part.chmod(mode)


def _opened_folder(part: Path) -> int:
    part.mkdir(0o700)
    return os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _new(folder: Path, opened: Callable[[Path], int]) -> tuple[Path, int]:
    """Something new and empty in `folder`, and what keeps it locked."""
    while True:
        part = folder / f".edge-denoise-{os.urandom(8).hex()}.part"
        lock = opened(part)
        with suppress(OSError):  # there are file systems without locks
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_at(lock, part):  # else another run took it for dead, before it was locked
            return part, lock
        os.close(lock)


def is_at(opened: int, path: Path) -> bool:
    """Whether an open file is the one at `path`."""
    try:
        return os.path.samestat(os.fstat(opened), os.lstat(path))
    except FileNotFoundError:
        return False


def _place(part: Path, path: Path, replaces: bool) -> None:
    if replaces:
        os.replace(part, path)
        return
    try:
        os.link(part, path)
    except OSError as error:
        if os.path.lexists(path):
            remedy = "name another file, or remove it yourself"
            raise Failure("is there already", where=path, remedy=remedy) from error
        os.rename(part, path)  # a file system without links


def remove_left(folder: Path) -> None:
    """Remove what killed runs left in `folder`, if there is one: what nobody holds locked."""
    left: list[str] = []
    with suppress(OSError), os.scandir(folder) as entries:  # a folder may be written to and not read
        left = [entry.path for entry in entries if _PART.fullmatch(entry.name)]
    for path in left:
        with suppress(OSError):
            opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with closing(opened):
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if stat.S_ISDIR(os.fstat(opened).st_mode):
                    shutil.rmtree(path)
                else:
                    os.unlink(path)
