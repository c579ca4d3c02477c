"""Files put on a machine and taken away again: a list of changes, and a receipt of what was done.

Changes are shown before anything happens, made all or none, and undone exactly: a file or block that someone changed
since is refused, unless forced. The receipt is written first, with what is there and what is to come: a run that was
killed is ended by the next install, and taken back by an uninstall.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec

from edge_runtime.errors import Failure
from edge_runtime.whole_file import undisturbed, unwritten, written_whole

OPEN, CLOSE = "# >>> edge-denoise >>>", "# <<< edge-denoise <<<"
_BLOCK: Final = re.compile(re.escape(OPEN) + r".*?" + re.escape(CLOSE) + r"\n?", re.DOTALL)


class Change(NamedTuple):
    """A file of our own, or, `is_block`, lines in a file that is the user's."""

    path: Path
    content: bytes
    is_block: bool = False


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """One change as it was made. `block` is the exact text put into the user's file; that file is removed when it was
    `created` for it and holds nothing else."""

    path: str
    sha256: str = ""
    block: str = ""
    created: bool = False


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What an installation did; `folders` were made for it, outermost first. While one is under way, a path stands in
    it twice: as it was and as it will be."""

    format: Literal["edge-denoise-install"] = "edge-denoise-install"
    version: Literal[1] = 1
    done: tuple[Done, ...]
    folders: tuple[str, ...]


class Edit(NamedTuple):
    """A file before and after; None is no file."""

    path: Path
    before: bytes | None
    after: bytes | None

    @property
    def verb(self) -> str:
        if self.before == self.after:
            return "keep"
        return "add" if self.before is None else "remove" if self.after is None else "change"


def load_receipt(path: Path) -> Receipt | None:
    """None when nothing is installed. Failure: it cannot be read."""
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Receipt)
    except (msgspec.DecodeError, OSError) as error:
        raise Failure(f"not a receipt of an installation ({error})", where=path, remedy="remove it by hand") from error


def plan_install(changes: Sequence[Change], receipt: Receipt | None, *, force: bool) -> tuple[list[Edit], list[Done]]:
    """What would be written over what is there. Failure: a file there is not ours, or was changed since."""
    ours = _by_path(receipt)
    edits, made = [], []
    for change in changes:
        edit, done = (_block_edit if change.is_block else _file_edit)(change, ours.pop(str(change.path), []), force)
        edits.append(edit)
        made.append(done)
    return edits + _removals(ours, force=force), made


def plan_uninstall(receipt: Receipt, *, force: bool) -> list[Edit]:
    """Every change taken back. Failure: something was changed since."""
    return _removals(_by_path(receipt), force=force)


def install(edits: Sequence[Edit], made: Sequence[Done], old: Receipt | None, receipt_path: Path) -> None:
    """Make the edits and leave a receipt. Failure: something cannot be written; everything is as before then."""
    missing = {str(folder) for folder in _missing_folders([edit.path for edit in edits] + [receipt_path])}
    folders = sorted(missing.union(old.folders if old else ()))  # a folder before those in it
    was = [done for done in (old.done if old else ()) if done not in made]
    before, meanwhile, after = _content(receipt_path), _receipt([*was, *made], folders), _receipt(made, folders)
    _apply([Edit(receipt_path, before, meanwhile)])  # before any folder is made
    try:
        _apply([*edits, Edit(receipt_path, meanwhile, after)])
    except Failure:
        with suppress(Failure):  # else what is to come stays in it, and does no harm
            _apply([Edit(receipt_path, meanwhile, before)])
        for folder in reversed(folders):
            with suppress(OSError):
                os.rmdir(folder)
        raise


def uninstall(edits: Sequence[Edit], receipt: Receipt, receipt_path: Path) -> None:
    """Make the edits, remove the receipt and the folders that are empty again."""
    _apply([*edits, Edit(receipt_path, _content(receipt_path), None)])
    for folder in reversed(receipt.folders):
        with suppress(OSError):  # in use by others, or gone
            os.rmdir(folder)


def _receipt(done: Sequence[Done], folders: Sequence[str]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(Receipt(done=tuple(done), folders=tuple(folders))))


def _by_path(receipt: Receipt | None) -> dict[str, list[Done]]:
    found: dict[str, list[Done]] = {}
    for done in receipt.done if receipt else ():
        found.setdefault(done.path, []).append(done)
    return found


def edit_lines(edit: Edit) -> list[str]:
    """As a patch; binary files by size and hash."""
    if edit.verb == "keep":
        return [f"  {edit.path}: as it is"]
    content = edit.after if edit.after is not None else edit.before
    assert content is not None
    if b"\0" in content:
        what = f"{len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()[:12]}"
        return [f"{edit.verb} {edit.path} ({what})"]
    before, after = (_lines(side) for side in (edit.before, edit.after))
    return [f"{edit.verb} {edit.path}", *(f"    {line}" for line in list(_diff(before, after))[2:])]


def edit_record(edit: Edit) -> dict[str, Any]:
    """For --json."""
    sha256 = hashlib.sha256(edit.after).hexdigest() if edit.after is not None else None
    return {"path": str(edit.path), "verb": edit.verb, "bytes": len(edit.after or b""), "sha256": sha256}


def _diff(before: list[str], after: list[str]) -> Iterable[str]:
    return (line for line in difflib.unified_diff(before, after, lineterm="", n=1) if not line.startswith("@@"))


def _lines(content: bytes | None) -> list[str]:
    return (content or b"").decode(errors="replace").splitlines()


def _file_edit(change: Change, ours: Sequence[Done], force: bool) -> tuple[Edit, Done]:
    before = _content(change.path)
    if before is not None and before != change.content and not force:
        if not ours:
            raise Failure("exists and is not ours", where=change.path, remedy="move it, or pass --force to replace it")
        _check_unchanged(ours, before)
    return Edit(change.path, before, change.content), Done(path=str(change.path), sha256=_sha256(change.content))


def _block_edit(change: Change, ours: Sequence[Done], force: bool) -> tuple[Edit, Done]:
    before = _content(change.path)
    text = _text(change.path, before)
    rest = _without_block(ours, text, force=force) if ours else _BLOCK.sub("", text)
    joint = "" if rest == "" or rest.endswith("\n") else "\n"
    block = f"{joint}{OPEN}\n{change.content.decode()}{CLOSE}\n"
    created = ours[0].created if ours else before is None
    return Edit(change.path, before, (rest + block).encode()), Done(path=str(change.path), block=block, created=created)


def _removals(ours: Mapping[str, Sequence[Done]], *, force: bool) -> list[Edit]:
    edits = []
    for name, done in ours.items():
        path = Path(name)
        before = _content(path)
        after: bytes | None = None
        if before is not None and done[0].block:
            rest = _without_block(done, _text(path, before), force=force)
            after = None if rest == "" and done[0].created else rest.encode()
        elif before is not None and not force:
            _check_unchanged(done, before)
        edits.append(Edit(path, before, after))
    return edits


def _without_block(ours: Sequence[Done], text: str, *, force: bool) -> str:
    for done in ours:
        if done.block in text:
            return text.replace(done.block, "", 1)
    if _BLOCK.search(text) and not force:
        remedy = "pass --force to remove it all the same"
        raise Failure("our block in it was changed", where=ours[0].path, remedy=remedy)
    return _BLOCK.sub("", text)


def _check_unchanged(ours: Sequence[Done], content: bytes) -> None:
    if _sha256(content) not in {done.sha256 for done in ours}:
        raise Failure("was changed since it was installed", where=ours[0].path, remedy="keep a copy, then pass --force")


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Failure(f"cannot be read ({error.strerror})", where=path) from error


def _text(path: Path, content: bytes | None) -> str:
    try:
        return (content or b"").decode()
    except UnicodeDecodeError as error:
        raise Failure("is not text", where=path, remedy="look at it by hand") from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _missing_folders(paths: Iterable[Path]) -> list[Path]:
    missing = {folder for path in paths for folder in path.parents if not folder.exists()}
    return sorted(missing, key=lambda folder: len(folder.parts))


def _apply(edits: Sequence[Edit]) -> None:
    """All or none: everything is written before the first file is replaced. A signal waits."""
    made: list[Edit] = []
    folders = _missing_folders(edit.path for edit in edits if edit.after is not None)
    with undisturbed():
        try:
            with ExitStack() as stack:
                for edit in reversed(edits):  # contexts end in the order of the edits
                    stack.enter_context(_edited(edit, made))
        except (OSError, Failure) as error:
            for edit in reversed(made):
                with suppress(OSError, Failure), _edited(Edit(edit.path, edit.after, edit.before), []):
                    pass
            for folder in reversed(folders):
                with suppress(OSError):
                    os.rmdir(folder)
            who = "; --service needs root" if isinstance(error.__cause__, PermissionError) else ""
            raise Failure(f"{error}{who}; everything is as before") from error


@contextmanager
def _edited(edit: Edit, made: list[Edit]) -> Iterator[None]:
    """Make the edit at the end of the block. A link stays a link: what it points to is written."""
    if edit.after is None:
        yield
        edit.path.unlink(missing_ok=True)
    else:
        try:
            edit.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritten(error, edit.path) from error
        with written_whole(edit.path, mode=0o644) as part:
            part.write_bytes(edit.after)
            yield
    made.append(edit)
