"""Files put on a machine and taken away again: a list of changes, and a receipt of what was done.

Changes are shown before anything happens, made all or none, and undone exactly. What somebody changed since is refused,
unless forced; a configuration that was edited is kept, and saved under another name when it has to go. The receipt is
written first, with what is there and what is to come: a run that was killed is ended by the next install, and taken
back by an uninstall.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

from edge_runtime.errors import Failure
from edge_runtime.install.receipt import CLOSE, OPEN, Done, Place, Receipt, written
from edge_runtime.whole_file import undisturbed, unwritten, written_whole

_EDITED: Final = "edited since, and kept; --force replaces it"
_BLOCK: Final = re.compile(re.escape(OPEN) + r".*?" + re.escape(CLOSE) + r"\n?", re.DOTALL)


class Change(NamedTuple):
    """A file of our own, or, `is_block`, lines in a file that is the user's. `is_config`: the user may edit it."""

    path: Path
    content: bytes
    is_block: bool = False
    is_config: bool = False


class Edit(NamedTuple):
    """A file before and after; None is no file."""

    path: Path
    before: bytes | None
    after: bytes | None
    note: str = ""

    @property
    def verb(self) -> str:
        if self.before == self.after:
            return "keep"
        return "add" if self.before is None else "remove" if self.after is None else "change"


def plan_install(
    place: Place, changes: Sequence[Change], receipt: Receipt | None, *, force: bool
) -> tuple[list[Edit], list[Done]]:
    """What would be written over what is there. Failure: a file there is not ours, or was changed since."""
    ours = _by_path(receipt)
    edits, made = [], []
    for change in changes:
        _check_inside(change.path, place.root)
        edit, done = (_block_edit if change.is_block else _file_edit)(change, ours.pop(str(change.path), []), force)
        edits.append(edit)
        made.append(done)
    return edits + _removals(place, ours, force=force), made


def plan_uninstall(place: Place, receipt: Receipt, *, force: bool) -> list[Edit]:
    """Every change taken back. Failure: something was changed since."""
    return _removals(place, _by_path(receipt), force=force)


def install(edits: Sequence[Edit], made: Sequence[Done], old: Receipt | None, place: Place) -> None:
    """Make the edits and leave a receipt. Failure: something cannot be written; everything is as before then."""
    receipt_path = place.root / place.receipt
    missing = {str(folder) for folder in _missing_folders([edit.path for edit in edits] + [receipt_path])}
    folders = sorted(missing.union(old.folders if old else ()))  # a folder before those in it
    was = [done for done in (old.done if old else ()) if done not in made]
    before = _content(receipt_path)
    meanwhile, after = written([*was, *made], folders, place), written(made, folders, place)
    _apply([Edit(receipt_path, before, meanwhile)])  # before any folder is made
    try:
        _apply([*edits, Edit(receipt_path, meanwhile, after)])
    except Failure:
        with suppress(Failure):  # else what is to come stays in it, and does no harm
            _apply([Edit(receipt_path, meanwhile, before)])
        _remove_empty(folders)
        raise


def uninstall(edits: Sequence[Edit], receipt: Receipt, place: Place) -> None:
    """Make the edits, remove the receipt and the folders that are empty again."""
    receipt_path = place.root / place.receipt
    _apply([*edits, Edit(receipt_path, _content(receipt_path), None)])
    _remove_empty(receipt.folders)


def _by_path(receipt: Receipt | None) -> dict[str, list[Done]]:
    found: dict[str, list[Done]] = {}
    for done in receipt.done if receipt else ():
        found.setdefault(done.path, []).append(done)
    return found


def edit_lines(edit: Edit) -> list[str]:
    """As a patch; binary files by size and hash."""
    if edit.verb == "keep":
        return [f"  {edit.path}: {edit.note or 'as it is'}"]
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
    said = {"path": str(edit.path), "verb": edit.verb, "bytes": len(edit.after or b""), "sha256": sha256}
    return said | ({"note": edit.note} if edit.note else {})


def _diff(before: list[str], after: list[str]) -> Iterable[str]:
    return (line for line in difflib.unified_diff(before, after, lineterm="", n=1) if not line.startswith("@@"))


def _lines(content: bytes | None) -> list[str]:
    return (content or b"").decode(errors="replace").splitlines()


def _file_edit(change: Change, ours: Sequence[Done], force: bool) -> tuple[Edit, Done]:
    before = _content(change.path)
    done = Done(path=str(change.path), sha256=_sha256(change.content), is_config=change.is_config)
    if before is not None and before != change.content and not force:
        if not ours:
            raise Failure("exists and is not ours", where=change.path, remedy="move it, or pass --force to replace it")
        if change.is_config and _is_changed(ours, before):
            return Edit(change.path, before, before, _EDITED), done
        _check_unchanged(ours, before)
    return Edit(change.path, before, change.content), done


def _block_edit(change: Change, ours: Sequence[Done], force: bool) -> tuple[Edit, Done]:
    before = _content(change.path)
    text = _text(before)
    created = ours[0].created if ours else before is None
    is_edited = bool(ours) and _is_block_changed(ours, text)
    rest = _without_block(ours, text) if ours else _BLOCK.sub("", text)
    joint = "" if rest == "" or rest.endswith("\n") else "\n"
    block = f"{joint}{OPEN}\n{change.content.decode()}{CLOSE}\n"
    done = Done(path=str(change.path), block=block, created=created, is_config=change.is_config)
    if is_edited and change.is_config and not force:
        return Edit(change.path, before, before, _EDITED), done
    return Edit(change.path, before, _bytes(rest + block)), done


def _removals(place: Place, ours: Mapping[str, Sequence[Done]], *, force: bool) -> list[Edit]:
    edits = []
    for name, done in ours.items():
        path = Path(name)
        _check_inside(path, place.root)
        before = _content(path)
        after: bytes | None = None
        saved: bytes | None = None
        if before is not None and done[0].block:
            text = _text(before)
            rest = _without_block(done, text)
            after = None if rest == "" and done[0].created else _bytes(rest)
            found = _BLOCK.search(text)
            saved = _bytes(found[0]) if found and _is_block_changed(done, text) else None
        elif before is not None and _is_changed(done, before):
            saved = before
            if not (force or done[0].is_config):
                _check_unchanged(done, before)
        edits.append(Edit(path, before, after))
        if saved is not None and not force:
            edits.append(Edit(_free(path), None, saved))
    return edits


def _free(path: Path) -> Path:
    """Where an edited configuration is saved: a name that nothing reads."""
    names = (path.with_name(f"{path.name}.edge-denoise-saved{n or ''}") for n in count())
    return next(name for name in names if not os.path.lexists(name))


def _is_block_changed(ours: Sequence[Done], text: str) -> bool:
    return _BLOCK.search(text) is not None and not any(done.block.lstrip("\n") in text for done in ours)


def _without_block(ours: Sequence[Done], text: str) -> str:
    """Whoever wrote behind the block keeps a line of his own."""
    for done in ours:
        if done.block in text:
            before, _, after = text.partition(done.block)
            return before + ("\n" if after and done.block.startswith("\n") else "") + after
    return _BLOCK.sub("", text)


def _is_changed(ours: Sequence[Done], content: bytes) -> bool:
    return _sha256(content) not in {done.sha256 for done in ours}


def _check_unchanged(ours: Sequence[Done], content: bytes) -> None:
    if _is_changed(ours, content):
        raise Failure("was changed since it was installed", where=ours[0].path, remedy="keep a copy, then pass --force")


def _check_inside(path: Path, root: Path) -> None:
    """Failure: a link leads out of the root; who made it may not be who installs."""
    if not path.resolve().is_relative_to(root.resolve()):
        remedy = f"replace the link to {path.resolve()} by a file, or leave it out by hand"
        raise Failure(f"leads out of {root}", where=path, remedy=remedy)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Failure(f"cannot be read ({error.strerror})", where=path) from error


def _text(content: bytes | None) -> str:
    """In whatever encoding: bytes that are no UTF-8 come back as they were."""
    return (content or b"").decode(errors="surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _missing_folders(paths: Iterable[Path]) -> list[Path]:
    missing = {folder for path in paths for folder in path.parents if not folder.exists()}
    return sorted(missing, key=lambda folder: len(folder.parts))


def _remove_empty(folders: Sequence[Path | str]) -> None:
    """Those that were made, outermost first; what others use stays."""
    for folder in reversed(folders):
        with suppress(OSError):  # in use, or gone
            os.rmdir(folder)


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
            _remove_empty(folders)
            who = "; --service needs root" if isinstance(error.__cause__, PermissionError) else ""
            raise Failure(f"{error}{who}; everything is as before") from error


@contextmanager
def _edited(edit: Edit, made: list[Edit]) -> Iterator[None]:
    """Make the edit at the end of the block. A link stays a link: what it points to is written. What is new belongs to
    whom the folder belongs that it is made in."""
    if edit.after is None:
        yield
        edit.path.unlink(missing_ok=True)
    else:
        try:
            _make_folder(edit.path.parent)
        except OSError as error:
            raise unwritten(error, edit.path) from error
        with written_whole(edit.path, mode=0o644) as part:
            part.write_bytes(edit.after)
            if not edit.path.exists():
                _own_like(edit.path.parent, part)
            yield
    made.append(edit)


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _own_like(folder.parent, folder)


def _own_like(folder: Path, path: Path) -> None:
    """Only root can, and need: as `sudo` in somebody's home folder."""
    if os.geteuid() == 0:
        whose = folder.stat()
        os.chown(path, whose.st_uid, whose.st_gid)
