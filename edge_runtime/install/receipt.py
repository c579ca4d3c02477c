"""What an installation did, so that it can be taken back: which files, as they were written.

A receipt is not trusted: it names only files that such an installation makes, from its root on, wherever that lies now;
whatever else stands in one is refused, and nothing is touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from edge_runtime.errors import Failure

OPEN, CLOSE = "# >>> edge-denoise >>>", "# <<< edge-denoise <<<"


class Place(NamedTuple):
    """Where an installation lies, and which files it may consist of: path from the root on -> whether it is a block.
    One of them, no block, may lie in another folder, as the environment has it: `anywhere` is how its path ends."""

    root: Path
    receipt: Path
    files: Mapping[str, bool]
    anywhere: str | None = None

    def folders(self) -> Iterator[str]:
        """That may have been made for them, from the root on."""
        for name in (*self.files, str(self.receipt)):
            yield from (str(folder) for folder in Path(name).parents if folder != Path("."))


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """One change as it was made. `block` is the exact text put into the user's file; that file is removed when it was
    `created` for it and holds nothing else."""

    path: str
    sha256: str = ""
    block: str = ""
    created: bool = False
    is_config: bool = False


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What an installation did; `folders` were made for it, outermost first. While one is under way, a path stands in
    it twice: as it was and as it will be. Paths are absolute here, and from the root on where it is written."""

    format: Literal["edge-denoise-install"] = "edge-denoise-install"
    version: Literal[1] = 1
    done: tuple[Done, ...]
    folders: tuple[str, ...]


def load_receipt(place: Place) -> Receipt | None:
    """None when nothing is installed. Failure: it cannot be read, or names what no such installation makes."""
    path = place.root / place.receipt
    if not path.exists():
        return None
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Receipt)
    except (msgspec.DecodeError, OSError) as error:
        raise Failure(f"not a receipt of an installation ({error})", where=path, remedy="remove it by hand") from error
    done = tuple(msgspec.structs.replace(done, path=_placed(done, place)) for done in found.done)
    known = set(place.folders())
    folders = tuple(str(place.root / own) for name in found.folders if (own := _own(name, known)))
    return msgspec.structs.replace(found, done=done, folders=folders)


def _placed(done: Done, place: Place) -> str:
    name = _own(done.path, place.files) or _elsewhere(done.path, place)
    is_fenced = done.block.strip().startswith(OPEN) and done.block.endswith(f"{CLOSE}\n")
    if name is None or place.files.get(name, False) != bool(done.block) or not (is_fenced or not done.block):
        remedy = "look at it by hand, then remove it"
        raise Failure(
            f"names {done.path}, which no installation makes", where=place.root / place.receipt, remedy=remedy
        )
    return str(place.root / name)


def _elsewhere(name: str, place: Place) -> str | None:
    is_it = place.anywhere is not None and name.endswith(f"/{place.anywhere}")
    return name if is_it and name[:1] != "/" and ".." not in Path(name).parts else None


def _own(name: str, known: Iterable[str]) -> str | None:
    """Which of the known paths it is; an absolute one may be of a root that has moved since."""
    return next((each for each in known if name == each or (name[:1] == "/" and name.endswith(f"/{each}"))), None)


def written(done: Sequence[Done], folders: Sequence[str], place: Place) -> bytes:
    """As `load_receipt` reads it."""
    own = [msgspec.structs.replace(each, path=str(Path(each.path).relative_to(place.root))) for each in done]
    below = [str(Path(folder).relative_to(place.root)) for folder in folders if folder != str(place.root)]
    below = [folder for folder in below if folder in set(place.folders())]
    return msgspec.json.format(msgspec.json.encode(Receipt(done=tuple(own), folders=tuple(below))))
