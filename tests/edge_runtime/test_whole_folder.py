"""Folders that are whole: the old one or the new one stands, the user's files stay, and nothing hidden is left."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from ended import ended, full
from file_systems import mounted
from places import ROOT, TESTS

from edge_runtime import whole_folder as module
from edge_runtime.errors import Failure
from edge_runtime.whole_folder import whole_folder

OLD, NEW = {"mark": "old", "gone": "old", "both": "old"}, {"mark": "new", "both": "new", "more": "new"}
MINE = {"notes.txt": "mine", "sub/take.wav": "mine"}  # the user's
Tree = dict[str, str]


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


@pytest.fixture(params=["by exchange", "in the open"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """As file systems can exchange two folders, or cannot."""
    if request.param == "in the open":

        def cannot(one: Path, other: Path) -> None:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

        monkeypatch.setattr(module, "_exchange", cannot)
    return str(request.param)


# --- what is there afterwards -------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [None, {}, OLD, OLD | MINE], ids=["absent", "empty", "old", "old and the user's"])
def test_the_new_files_and_the_users_are_there_and_nothing_else(tmp_path: Path, way: str, before: Tree | None) -> None:
    out = tmp_path / "deep" / "out"
    if before is not None:
        out.mkdir(parents=True)
        make(out, before)
    write(out)
    kept = MINE if before == OLD | MINE else {}
    assert tree(tmp_path) == {f"deep/out/{name}": text for name, text in (NEW | kept).items()}


@pytest.mark.parametrize("name", [".", "link", "../out", "link/."])
def test_the_folder_stays_the_one_that_a_shell_stands_in(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    out = make(tmp_path / "out", OLD | MINE)
    (out / "link").symlink_to(out)
    monkeypatch.chdir(out)
    write(Path(name))
    (out / "link").unlink()
    assert tree(Path()) == tree(out) == NEW | MINE
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_link_stays_a_link(tmp_path: Path, way: str) -> None:
    make(tmp_path / "disk" / "out", OLD)
    (tmp_path / "out").symlink_to("disk/out")
    write(tmp_path / "out")
    assert (tmp_path / "out").is_symlink()
    assert tree(tmp_path / "disk") == {f"out/{name}": text for name, text in NEW.items()}


@pytest.mark.parametrize("before", [{}, OLD | MINE], ids=["fresh", "old"])
def test_a_mount_point_is_written_from_within(tmp_path: Path, before: Tree) -> None:
    with mounted(tmp_path / "out"):
        make(tmp_path / "out", before)
        write(tmp_path / "out")
        assert tree(tmp_path) == {f"out/{n}": t for n, t in (NEW | (MINE if before else {})).items()}


def test_a_folder_that_is_mounted_on_itself_is_written_from_within(tmp_path: Path) -> None:
    out = make(tmp_path / "a b" / "out", OLD | MINE)
    with mounted(out, "--bind", str(out)):
        write(out)
        assert tree(tmp_path) == {f"a b/out/{n}": t for n, t in (NEW | MINE).items()}


def test_a_parent_that_may_not_be_written_is_left_alone(tmp_path: Path) -> None:
    out = make(tmp_path / "out", OLD | MINE)
    body = f"from pathlib import Path; from test_whole_folder import *; write(Path({str(out)!r}))"
    done = as_nobody(tmp_path, out, body)
    assert (done.returncode, done.stderr) == (0, "")
    assert tree(tmp_path) == {f"out/{name}": text for name, text in (NEW | MINE).items()}


def as_nobody(top: Path, out: Path, body: str) -> subprocess.CompletedProcess[str]:
    """Run Python as a user who may write in `out` and nowhere above."""
    if os.geteuid() != 0:
        pytest.skip("needs the right to become another user")
    for folder in (top, *top.parents):
        if folder != Path("/") and "pytest" in str(folder):
            folder.chmod(0o755)
    for path in (out, *out.rglob("*")):
        os.chown(path, 65534, 65534)
    here = Path(__file__).parent
    script = f"import os, sys; sys.path[:0] = {[str(here), str(TESTS / 'fakes'), str(ROOT)]}; import test_whole_folder"
    script += f"; os.setuid(65534); {body}"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd="/")


# --- what is refused ------------------------------------------------------------------------------------------------


def refused(out: Path, words: str, meanwhile: Callable[[], object] = lambda: None, new: Tree = NEW) -> None:
    """Write, while `meanwhile` happens; the Failure has these words."""

    def try_it() -> None:
        with whole_folder(out, ours) as part:
            make(part, new)
            meanwhile()

    with pytest.raises(Failure, match=words):
        try_it()


def test_what_another_did_meanwhile_is_kept(tmp_path: Path, way: str) -> None:
    rows = [
        # before, what another puts there meanwhile, words of the refusal
        (None, {"thesis.tex": "theirs"}, "was made by another run"),
        ({}, {"mark": "theirs"}, "holds mark, which is not ours"),
        (OLD, {"mark": "theirs"}, "was changed by another run"),
        (OLD, {"both": "theirs"}, "was changed by another run"),
        (OLD | MINE, {"gone": "theirs"}, "was changed by another run"),
    ]
    for i, (before, theirs, words) in enumerate(rows):
        out = tmp_path / str(i) / "out"
        if before is not None:
            out.mkdir(parents=True)
            make(out, before)
        refused(out, words, lambda out=out, theirs=theirs: make(out, theirs))
        assert tree(tmp_path / str(i)) == {f"out/{n}": t for n, t in ((before or {}) | theirs).items()}, words


def test_what_the_user_adds_meanwhile_is_carried_over(tmp_path: Path, way: str) -> None:
    out = make(tmp_path / "out", OLD)
    with whole_folder(out, ours) as part:
        make(part, NEW)
        make(out, MINE)
    assert tree(tmp_path) == {f"out/{name}": text for name, text in (NEW | MINE).items()}


def test_a_users_file_of_a_new_name_is_not_overwritten(tmp_path: Path, way: str) -> None:
    out = make(tmp_path / "out", OLD | {"extra": "mine"})
    with pytest.raises(Failure, match="holds extra, which is not ours to replace; move it away"):
        write(out, NEW | {"extra": "new"})
    assert tree(tmp_path) == {f"out/{name}": text for name, text in (OLD | {"extra": "mine"}).items()}


def test_only_one_run_writes_a_folder_at_a_time(tmp_path: Path) -> None:
    out = make(tmp_path / "out", OLD)
    with whole_folder(out, ours) as part:
        make(part, NEW)
        refused(out, "is being written by another run; wait for it")
    assert tree(tmp_path) == {f"out/{name}": text for name, text in NEW.items()}


def test_one_file_that_cannot_be_moved_keeps_the_old_folder(tmp_path: Path, way: str) -> None:
    out = make(tmp_path / "out", OLD | MINE)
    if subprocess.run(["chattr", "+i", out / "gone"], capture_output=True).returncode != 0:
        pytest.skip("needs a file system with immutable files")
    try:
        refused(out, r"out: cannot be written \(Operation not permitted\); check who may write there")
    finally:
        subprocess.run(["chattr", "-i", out / "gone"], check=True)
    assert tree(tmp_path) == {f"out/{name}": text for name, text in (OLD | MINE).items()}


def test_a_failing_run_says_why_and_takes_back_only_what_it_made(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"

    def fail() -> None:
        make(tmp_path / "deep", {"theirs": "theirs"})
        raise Failure("the emitter broke")

    refused(out, "^the emitter broke$", fail)
    assert tree(tmp_path) == {"deep/theirs": "theirs"}


def test_a_full_disk_keeps_the_old_folder_and_says_so(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk"):
        out = make(tmp_path / "disk" / "out", OLD | MINE)
        words = r"out: cannot be written \(No space left on device\); free some space on its disk"
        refused(out, words, new=NEW | {"large": "y" * 2**21})
        assert tree(tmp_path) == {f"disk/out/{name}": text for name, text in (OLD | MINE).items()}


# --- what a kill leaves ---------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("before", [None, {}, OLD, OLD | MINE], ids=["absent", "empty", "old", "old and the user's"])
def test_a_kill_at_any_touch_leaves_old_or_new_and_the_next_run_nothing_hidden(
    in_memory: Path, way: str, before: Tree | None
) -> None:
    kept = MINE if before == OLD | MINE else {}
    for n, out in times(in_memory, before):
        done = ended(partial(written, out), in_memory, n)
        found = tree(out) if out.is_dir() else {}
        visible = {name: text for name, text in found.items() if not name.startswith(".")}
        if way == "by exchange":
            assert visible in (before or {}, NEW | kept), n
        assert visible.items() >= kept.items(), n
        if done.status == 0:
            break
        write(out)
        assert tree(out.parent) == {f"out/{name}": text for name, text in (NEW | kept).items()}, n
        assert [path.name for path in out.parent.iterdir()] == ["out"], n
    assert n > 20, "so often it touches files at least"


@pytest.mark.parametrize("before", [None, OLD | MINE], ids=["absent", "old"])
def test_a_signal_at_any_touch_leaves_old_or_new_and_nothing_hidden(
    in_memory: Path, way: str, before: Tree | None
) -> None:
    for n, out in times(in_memory, before):
        done = ended(partial(written, out), in_memory, n, signal.SIGTERM)
        states = (before or {}, NEW | (MINE if before else {}))
        assert tree(out.parent) in ({f"out/{name}": text for name, text in files.items()} for files in states), n
        assert [path.name for path in out.parent.iterdir()] in (["out"], []), n
        if done.status == 0:
            break


@pytest.mark.parametrize("before", [None, OLD | MINE], ids=["absent", "old"])
def test_a_disk_that_is_full_at_any_touch_leaves_the_old_and_nothing_hidden(
    in_memory: Path, way: str, before: Tree | None
) -> None:
    def told(out: Path) -> int:
        try:
            write(out)
        except Failure as failure:
            print(failure, end="", file=sys.stderr)
            return 1
        return 0

    for n, out in times(in_memory, before):
        done = full(partial(told, out), in_memory, n)
        if done.status == 0:
            break
        why = "cannot be written (No space left on device); free some space on its disk, or write elsewhere"
        assert done.errors == f"{out}: {why}", n
        assert tree(out.parent) == {f"out/{name}": text for name, text in (before or {}).items()}, n
        assert [path.name for path in out.parent.iterdir()] in (["out"], []), n
    assert n > 5
