"""Runs of `whole_folder` that a kill, a signal or a full disk ends at every touch of files, and what must be left.

As a program, `python replaced_folder.py LAW FOLDER WAY BEFORE`: a small process forks a hundred times for the price of
one fork of a process with PyTorch in it.
"""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ended import ended, full
from places import ROOT

from edge_runtime import whole_folder as module
from edge_runtime.errors import Failure
from edge_runtime.whole_folder import whole_folder

OLD, NEW = {"mark": "old", "gone": "old", "both": "old"}, {"mark": "new", "both": "new", "more": "new"}
MINE = {"notes.txt": "mine", "sub/take.wav": "mine"}  # the user's
Tree = dict[str, str]
BEFORE: dict[str, Tree | None] = {"absent": None, "empty": {}, "old": OLD, "old and the user's": OLD | MINE}
WAYS = ("by exchange", "in the open")  # as file systems can exchange two folders, or cannot


def ours(folder: Path) -> set[str]:
    """Folders that hold a file `mark` are ours, with the files of OLD and NEW in them; empty ones are free."""
    if any(path.name[0] != "." for path in folder.iterdir()) and not (folder / "mark").is_file():
        raise Failure("holds other files", where=folder)
    return {"mark", "gone", "both", "more"} if (folder / "mark").is_file() else set()


def make(folder: Path, files: Tree) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def tree(folder: Path) -> Tree:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def write(out: Path, files: Tree = NEW) -> None:
    with whole_folder(out, ours) as part:
        make(part, files)


def cannot_exchange(one: Path, other: Path) -> None:
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


# --- laws ---------------------------------------------------------------------------------------------------------


def holds(law: str, folder: Path, way: str, before: str) -> None:
    """A law of LAWS in a process of its own; AssertionError with what it said."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(Path(__file__).parent)))}
    command = [sys.executable, __file__, law, str(folder), way, before]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def times(top: Path, before: Tree | None) -> Iterator[tuple[int, Path]]:
    """For ever: a number, and an `out` as it was `before` in a folder of its own."""
    for n in itertools.count(1):
        out = top / str(n) / "out"
        (out if before is not None else out.parent).mkdir(parents=True)
        yield n, make(out, before or {})


def written(out: Path) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    write(out)
    return 0


def told(out: Path) -> int:
    try:
        write(out)
    except Failure as failure:
        print(failure, end="", file=sys.stderr)
        return 1
    return 0


def killed(top: Path, way: str, before: Tree | None) -> None:
    """Old or new; and the next run leaves nothing hidden."""
    kept = MINE if before == OLD | MINE else {}
    for n, out in times(top, before):
        done = ended(partial(written, out), top, n)
        found = tree(out) if out.is_dir() else {}
        visible = {name: text for name, text in found.items() if not name.startswith(".")}
        if way == "by exchange":
            assert visible in (before or {}, NEW | kept), (n, visible)
        assert visible.items() >= kept.items(), (n, visible)
        if done.status == 0:
            break
        write(out)
        assert tree(out.parent) == {f"out/{name}": text for name, text in (NEW | kept).items()}, (n, tree(out.parent))
        assert [path.name for path in out.parent.iterdir()] == ["out"], n
    assert n > 20, "so often it touches files at least"


def signalled(top: Path, way: str, before: Tree | None) -> None:
    """Old or new, and nothing hidden."""
    for n, out in times(top, before):
        done = ended(partial(written, out), top, n, signal.SIGTERM)
        states = (before or {}, NEW | (MINE if before else {}))
        assert tree(out.parent) in ({f"out/{name}": text for name, text in files.items()} for files in states), n
        assert [path.name for path in out.parent.iterdir()] in (["out"], []), n
        if done.status == 0:
            break


def filled(top: Path, way: str, before: Tree | None) -> None:
    """The old, one line, and nothing hidden."""
    for n, out in times(top, before):
        done = full(partial(told, out), top, n)
        if done.status == 0:
            break
        why = "cannot be written (No space left on device); free some space on its disk, or write elsewhere"
        assert done.errors == f"{out}: {why}", (n, done.errors)
        assert tree(out.parent) == {f"out/{name}": text for name, text in (before or {}).items()}, n
        assert [path.name for path in out.parent.iterdir()] in (["out"], []), n
    assert n > 5


LAWS = {law.__name__: law for law in (killed, signalled, filled)}


def main(law: str, folder: str, way: str, before: str) -> None:
    if way == "in the open":
        module._exchange = cannot_exchange
    LAWS[law](Path(folder), way, BEFORE[before])


if __name__ == "__main__":
    main(*sys.argv[1:])
