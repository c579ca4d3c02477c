"""Folders that are whole: the old one or the new one stands, the user's files stay, and nothing hidden is left."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from file_systems import mounted
from places import ROOT, TESTS
from replaced_folder import BEFORE, MINE, NEW, OLD, WAYS, Tree, cannot_exchange, holds, make, ours, tree, write

from edge_runtime import whole_folder as module
from edge_runtime.errors import Failure
from edge_runtime.whole_folder import whole_folder


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "in the open":
        monkeypatch.setattr(module, "_exchange", cannot_exchange)
    return str(request.param)


# --- what is there afterwards -------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
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
    body = f"from pathlib import Path; replaced_folder.write(Path({str(out)!r}))"
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
    script = f"import os, sys; sys.path[:0] = {[str(TESTS / 'fakes'), str(ROOT)]}; import replaced_folder"
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


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("before", BEFORE)
def test_a_kill_at_any_touch_leaves_old_or_new_and_the_next_run_nothing_hidden(
    in_memory: Path, way: str, before: str
) -> None:
    holds("killed", in_memory, way, before)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("before", ["absent", "old and the user's"])
def test_a_signal_at_any_touch_leaves_old_or_new_and_nothing_hidden(in_memory: Path, way: str, before: str) -> None:
    holds("signalled", in_memory, way, before)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("before", ["absent", "old and the user's"])
def test_a_disk_that_is_full_at_any_touch_leaves_the_old_and_nothing_hidden(
    in_memory: Path, way: str, before: str
) -> None:
    holds("filled", in_memory, way, before)
