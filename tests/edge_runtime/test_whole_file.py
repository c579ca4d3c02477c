"""Files that are whole: what is replaced and what not, with which mode, and why not in the system's words."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import stat
from pathlib import Path

import pytest
from ended import ended
from file_systems import mounted

from edge_runtime.errors import Failure
from edge_runtime.whole_file import refusal, scratch_folder, unwritten, written_whole


def write(path: Path, text: str = "new", **options: int | bool) -> None:
    with written_whole(path, **options) as part:  # type: ignore[arg-type]  # either is right
        assert part.parent == path.resolve().parent
        part.write_text(text)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_mode_and_owner_are_those_of_what_is_replaced(tmp_path: Path) -> None:
    old_mask = os.umask(0o027)
    try:
        write(tmp_path / "fresh")
        write(tmp_path / "unit", mode=0o644)
        write(tmp_path / "key", mode=0o600)
        (tmp_path / "old").touch(0o440)
        (tmp_path / "old").chmod(0o440)
        if os.geteuid() == 0:
            os.chown(tmp_path / "old", 1234, 1234)
        write(tmp_path / "old", mode=0o644)
    finally:
        os.umask(old_mask)
    modes = {path.name: mode(path) for path in tmp_path.iterdir()}
    assert modes == {"fresh": 0o640, "unit": 0o644, "key": 0o600, "old": 0o440}
    assert (tmp_path / "old").stat().st_uid in (1234, os.geteuid())
    assert (tmp_path / "old").stat().st_uid == (1234 if os.geteuid() == 0 else os.geteuid())


def test_a_key_is_never_readable_by_others_while_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    (tmp_path / "old").chmod(0o600)
    for name in ("new", "old"):
        with written_whole(tmp_path / name, mode=0o600) as part:
            assert mode(part) == 0o600


def test_links_stay_links_and_new_names_take_nothing(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real/file")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "file").read_text() == "new"
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(Failure, match="loop: leads nowhere"):
        write(tmp_path / "loop")
    with pytest.raises(Failure, match="is there already; name another file"):
        write(tmp_path / "real" / "file", "newer", replaces=False)
    assert (tmp_path / "real" / "file").read_text() == "new"
    write(tmp_path / "other", "newer", replaces=False)
    assert {path.name for path in tmp_path.iterdir()} == {"real", "link", "loop", "other"}


def test_what_appears_meanwhile_is_not_taken_for_a_new_name(tmp_path: Path) -> None:
    def late() -> None:
        with written_whole(tmp_path / "key", replaces=False) as part:
            part.write_text("mine")
            (tmp_path / "key").write_text("theirs")

    with pytest.raises(Failure, match="is there already"):
        late()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"key": "theirs"}


def test_only_what_nobody_holds_is_swept(tmp_path: Path) -> None:
    dead, held, others = (tmp_path / f".edge-denoise-{c * 16}.part" for c in "ab0")
    for path in (dead, held):
        path.write_text("half")
    others = tmp_path / ".edge-denoise-notes.part"
    others.write_text("the user's")
    with held.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with written_whole(tmp_path / "a") as one, written_whole(tmp_path / "b") as other:
            assert one.exists(), "two of one process do not sweep each other"
            assert other.exists()
        assert {path.name for path in tmp_path.iterdir()} == {"a", "b", held.name, others.name}


def test_a_scratch_folder_goes_with_the_run_or_with_the_next(tmp_path: Path) -> None:
    def killed() -> int:
        with scratch_folder(tmp_path) as folder:
            (folder / "half").write_text("half")
            (tmp_path / "now").mkdir()
        return 0

    assert ended(killed, tmp_path, 5).status < 0
    assert len(list(tmp_path.iterdir())) in (1, 2)
    with scratch_folder(tmp_path) as folder:
        assert [path for path in tmp_path.iterdir() if path.name != "now"] == [folder]
    assert [path.name for path in tmp_path.iterdir()] in ([], ["now"])


def test_the_reason_is_the_systems(tmp_path: Path) -> None:
    rows = {
        errno.ENOSPC: "(No space left on device); free some space on its disk, or write elsewhere",
        errno.EDQUOT: "(Disk quota exceeded); free some of your quota",
        errno.EFBIG: "(File too large); write to a file system",
        errno.EROFS: "(Read-only file system); write elsewhere",
        errno.EACCES: "(Permission denied); check who may write there",
        errno.EIO: "(Input/output error); look at its disk",
    }
    for number, words in rows.items():
        told = str(unwritten(OSError(number, os.strerror(number)), Path("a.wav")))
        assert told.startswith(f"a.wav: cannot be written {words}")


def test_a_limit_a_full_disk_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    def limited() -> int:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            write(tmp_path / "a", 9999 * "x")
        except Failure as failure:
            return 0 if "a: cannot be written (File too large)" in str(failure) else 2
        return 3

    assert ended(limited, tmp_path).status == 0
    (tmp_path / "folder").mkdir()
    with pytest.raises(Failure, match=r"folder: cannot be written \(Is a directory\)"):
        write(tmp_path / "folder")
    with pytest.raises(Failure, match="gone: no such folder; make it first"):
        write(tmp_path / "gone" / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_an_error_that_is_none_of_writing_is_not_told_as_one(tmp_path: Path) -> None:
    def reads() -> None:
        with written_whole(tmp_path / "a"):
            (tmp_path / "absent").read_bytes()

    with pytest.raises(FileNotFoundError):
        reads()
    assert list(tmp_path.iterdir()) == []


def test_the_system_is_asked_why_a_library_could_not_write(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk"):
        path = tmp_path / "disk" / "a"
        path.write_bytes(b"kept")
        assert refusal(path) is None
        (tmp_path / "disk" / "full").write_bytes(bytes(2**20 - 2 * 4096))
        refused = refusal(path)
        assert refused is not None
        assert refused.errno == errno.ENOSPC
        assert path.read_bytes() == b"kept"
