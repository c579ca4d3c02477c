"""Folders that are there whole: the old one or the new one, whatever ends the program or fills the disk meanwhile.

    out/                   the folder
    .out.edge-denoise/     the scaffold, beside it, or inside it where nobody may write beside it or it is a mount point
        lock               held while a run lives; what a killed run left here, the next one puts right
        new/               filled by the caller, then synced
        names, open        what is ours in the old folder and in the new one; `open`: files of `out` itself change
        aside/             the new folder, or the old one while the new one stands in for it
        old/               what was replaced

`aside` and `out` change places by one system call, so that a whole folder is at `out` at every moment. The old folder,
out of sight, gets the new files, keeps what is not ours, and changes places again: `out` stays the folder that it was
for a shell or a container that stands in it. Where a file system cannot do that, its files change in the open; a run
that is killed in these moments leaves both kinds, and the next one into the same place ends the change.

Nothing of ours is removed before its successor is synced, and nothing else at all. Standard library only.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

from edge_runtime.errors import Failure
from edge_runtime.whole_file import closing, is_at, resolved, says_why, sync, undisturbed, unwritten

Ours = Callable[[Path], Collection[str]]
Stamps = dict[str, tuple[int, int, int]]  # name -> inode, bytes, time of the last change in ns

SCAFFOLD: Final = ".edge-denoise"  # what its name ends with
_AT_FDCWD: Final = -100  # of renameat2(2)
_EXCHANGE: Final = 2
_MOUNTS: Final = Path("/proc/self/mountinfo")
_AGAIN: Final = "look at what is there now, then run this again"
_link: Final = partial(os.link, follow_symlinks=False)


@contextmanager
def whole_folder(path: Path, ours: Ours) -> Iterator[Path]:
    """A new folder to fill, which takes the place of `path` when the block ends well; else all is as before.

    `ours` names what may be replaced in the folder that is there, and raises Failure where that is not ours to do.
    Whatever else lies in it stays. A link stays a link: what it points to is replaced.
    Failure: it cannot be written, and why; another run is writing it; what was there was changed meanwhile.
    """
    out = resolved(path)
    made = [parent for parent in out.parents if not parent.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with _scaffold(out) as scaffold:
            before = _stamps(out, ours(out)) if os.path.lexists(out) else None
            new = scaffold / "new"
            new.mkdir()
            yield new
            _sync_all(new)
            with undisturbed():
                _move_in(new, out) if before is None else _replace(scaffold, out, before)
    except BaseException as error:
        for parent in made:
            with suppress(OSError):  # others have put something there
                parent.rmdir()
        if isinstance(error, OSError) and _is_of_writing(error, out):
            raise unwritten(error, path) from error
        raise


def linked(source: Path | str, target: Path | str) -> None:
    """A second name for a file, or a copy where there are no links. OSError: `target` is there."""
    try:
        _link(source, target)
    except FileExistsError:
        raise
    except OSError:
        with open(source, "rb") as file, open(target, "xb") as copy:
            shutil.copyfileobj(file, copy)
        shutil.copystat(source, target)
        sync(Path(target))


def _is_of_writing(error: OSError, out: Path) -> bool:
    """Whether it names the folder, its scaffold or a folder above, or no file at all."""
    if error.filename is None:
        return says_why(error)
    named = Path(os.fsdecode(error.filename))
    return out.is_relative_to(named) or any(named.is_relative_to(each) for each in (out, _beside(out)))


def _move_in(new: Path, out: Path) -> None:
    try:
        os.rename(new, out)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        raise Failure("was made by another run meanwhile, and is kept", where=out, remedy=_AGAIN) from error
    sync(out.parent)


def _replace(scaffold: Path, out: Path, before: Stamps) -> None:
    """`new` in place of what `before` names in `out`. Failure: that is not the same any more; it stays as it is."""
    names = sorted(os.listdir(scaffold / "new"))
    if taken := sorted(set(names) & (set(os.listdir(out)) - set(before))):
        raise _not_ours(taken[0], out)
    (scaffold / "old").mkdir()
    (scaffold / "names").write_text(json.dumps({"old": sorted(before), "new": names}))
    sync(scaffold / "names")
    shielded = _stand_in(scaffold, out, before)
    if not shielded:
        os.rename(scaffold / "names", scaffold / "open")
    trouble = _change(scaffold, out, shielded, names, before)
    if shielded:
        _exchange(scaffold / "aside", out)
    else:
        os.rename(scaffold / "open", scaffold / "names")
    if trouble:
        raise trouble
    sync(out.parent)


def _change(
    scaffold: Path, out: Path, shielded: bool, names: Sequence[str], before: Stamps
) -> OSError | Failure | None:
    """Put the files of `before` aside and the new ones in their place; what hindered it, when all is as it was again.

    OSError: it is neither as it was nor as it should be.
    """
    folder, source = (scaffold / "aside", out) if shielded else (out, scaffold / "new")
    given: list[str] = []
    try:
        for name in before:
            os.rename(folder / name, scaffold / "old" / name)
        if _stamps(scaffold / "old", before) != before:
            raise Failure("was changed by another run meanwhile, and is kept", where=out, remedy=_AGAIN)
        for name in names:
            _give(source / name, folder / name, linked)
            given.append(name)
        sync(folder)
        return None
    except (OSError, Failure) as error:
        for name in given:
            _remove(folder / name)
        for name in os.listdir(scaffold / "old"):
            os.rename(scaffold / "old" / name, folder / name)
        return _not_ours(names[len(given)], out) if isinstance(error, FileExistsError) else error


def _stand_in(scaffold: Path, out: Path, before: Stamps) -> bool:
    """Let the new folder, with links to all that is not ours, stand at `out`; False where that cannot be."""
    if scaffold.parent == out:
        return False
    new, aside = scaffold / "new", scaffold / "aside"
    try:
        for name in set(os.listdir(out)) - set(before):
            _give(out / name, new / name, _link)
        shutil.copymode(out, new)
        new.rename(aside)
        _exchange(aside, out)
        return True
    except OSError:
        with suppress(FileNotFoundError):
            aside.rename(new)
        return False


def _give(source: Path, target: Path, one: Callable[[Path | str, Path | str], Any]) -> None:
    if source.is_dir() and not source.is_symlink():
        shutil.copytree(source, target, symlinks=True, copy_function=one)
    else:
        one(source, target)


def _exchange(one: Path, other: Path) -> None:
    """Both change places at one moment. OSError: they cannot."""
    import ctypes

    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), ctypes.c_uint(_EXCHANGE)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(one), None, str(other))


@contextmanager
def _scaffold(out: Path) -> Iterator[Path]:
    """The locked scaffold, empty: what a killed run left in it was put right. Failure: another run holds it."""
    lock = None
    try:
        with undisturbed():
            scaffold, lock = _entered(out)
            _settle(scaffold, out)
        yield scaffold
    finally:
        if lock is not None:
            with undisturbed(), closing(lock):
                _settle(scaffold, out)
                (scaffold / "lock").unlink()
                with suppress(OSError):  # the next run is there already
                    scaffold.rmdir()


def _beside(out: Path) -> Path:
    return out.parent / f".{out.name}{SCAFFOLD}"


def _entered(out: Path) -> tuple[Path, int]:
    while True:
        scaffold = _made(out)
        with suppress(FileNotFoundError):  # the run before has just left
            if scaffold.is_symlink() or not scaffold.is_dir() or scaffold.stat().st_uid != os.geteuid():
                raise Failure("is in the way and not ours", where=scaffold, remedy="remove it, or write elsewhere")
            lock = _opened_lock(scaffold)
            _lock(lock, out)
            if is_at(lock, scaffold / "lock"):
                return scaffold, lock
            os.close(lock)


def _made(out: Path) -> Path:
    beside, inside = _beside(out), out / _beside(out).name
    try:
        with suppress(FileExistsError):
            scaffold = inside if _is_mount_point(out) else beside
            scaffold.mkdir(0o700)
        return scaffold
    except OSError:
        if not out.is_dir():
            raise
    with suppress(FileExistsError):
        inside.mkdir(0o700)
    return inside


def _opened_lock(scaffold: Path) -> int:
    try:
        return os.open(scaffold / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError:
        with suppress(OSError):  # not if another run's things are in it
            scaffold.rmdir()
        raise


def _lock(lock: int, out: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        remedy = "wait for it, or write elsewhere"
        raise Failure("is being written by another run", where=out, remedy=remedy) from None
    except OSError:  # a file system without locks
        pass


def _settle(scaffold: Path, out: Path) -> None:
    """End a change that a killed run had begun, by what lies here; then remove all of it but the lock."""
    names: dict[str, list[str]] = {}
    for file in ("names", "open"):
        with suppress(FileNotFoundError, ValueError):
            names = json.loads((scaffold / file).read_bytes())
    if names and (scaffold / "open").exists() and out.is_dir():
        _end_in_the_open(scaffold / "new", out, names)
    if names and (scaffold / "aside").exists() and out.is_dir():
        for name in set(os.listdir(scaffold / "aside")).difference(*names.values()):
            if not os.path.lexists(out / name):  # it was put there while the new folder stood in
                os.rename(scaffold / "aside" / name, out / name)
    for name in ("open", "aside", "new", "old", "names"):
        _remove(scaffold / name)


def _end_in_the_open(new: Path, out: Path, names: dict[str, list[str]]) -> None:
    for name in set(names["old"]) - set(names["new"]):
        _remove(out / name)
    for name in names["new"]:
        if os.path.lexists(new / name):
            _remove(out / name)
            os.rename(new / name, out / name)
    sync(out)


def _remove(path: Path) -> None:
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    for root, names, _ in os.walk(path):  # a user's folder may have been closed to writing when it was linked
        for folder in (Path(root, name) for name in names):
            if not folder.is_symlink():
                folder.chmod(0o700)
    shutil.rmtree(path)


def _stamps(folder: Path, names: Collection[str]) -> Stamps:
    """What tells whether a file is still the same one."""
    found = {name: os.lstat(folder / name) for name in sorted(names) if os.path.lexists(folder / name)}
    return {name: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in found.items()}


def _sync_all(folder: Path) -> None:
    for root, _, names in os.walk(folder):
        for path in (Path(root, name) for name in names):
            if not path.is_symlink():
                sync(path)
        sync(Path(root))


def _not_ours(name: str, out: Path) -> Failure:
    return Failure(f"holds {name}, which is not ours to replace", where=out, remedy="move it away, then run this again")


def _is_mount_point(path: Path) -> bool:
    if os.path.ismount(path):
        return True
    with suppress(OSError):  # a folder that is mounted again in its own file system
        escaped = "".join(f"\\{ord(letter):03o}" if letter in " \t\n\\" else letter for letter in str(path))
        return any(line.split()[4] == escaped for line in _MOUNTS.read_text(errors="surrogateescape").splitlines())
    return False
