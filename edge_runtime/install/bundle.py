"""One file that carries a release: a zip that only ever has one form, checked whole; standard library only.

    bundle.json          format, version, bytes and SHA-256 of every other member; the release's number, if it has one
    __main__.py          `python3 FILE install` puts the release in place on a board (edge_runtime/install/receive.py)
    artifact/...         what `quant build` left
    wheels/...           the runtime, and what it needs where the board has no network
    units/...            a systemd unit, if asked for

A file is read once: what was checked is what is unpacked, whatever becomes of the file meanwhile. Members are stored,
not compressed: the files that are large are compressed already, bytes do not depend on a zlib, and no member can be
larger than the file. The same members give the same bytes, and whatever is not those bytes is refused.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from edge_runtime.errors import Failure
from edge_runtime.whole_folder import whole_folder

INDEX: Final = "bundle.json"
FORMAT: Final = "edge-denoise bundle"
VERSION: Final = 1
MAX_BYTES: Final = 1 << 30  # the runtime with every engine's wheels is a tenth of this
MAX_INDEX_BYTES: Final = 1 << 20
_MAX_MEMBERS: Final = 10_000
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_MODE: Final = 0o100644  # a regular file: no link, no device, no set-user-id
_UNIX: Final = 3
_BLOCK_BYTES: Final = 1 << 20
_PART: Final = r"[A-Za-z0-9_][A-Za-z0-9._+-]*"
_NAME: Final = re.compile(rf"{_PART}(/{_PART})*")  # relative, no "..", no hidden file, no backslash
_REMEDY: Final = "make it again with `quant bundle`"


@dataclass(frozen=True)
class Bundle:
    """A bundle whose members were all found to be what its index says."""

    path: Path
    files: Mapping[str, int]  # name -> bytes, without the index
    number: int = 0  # of the release; 0 is none


@dataclass(frozen=True)
class Snapshot:
    """A file as it was when it was read, for whoever checks it and uses it; nobody else can change that."""

    path: Path
    file: IO[bytes]
    n_bytes: int
    sha256: str

    def blocks(self) -> Iterator[bytes]:
        """All of its bytes."""
        self.file.seek(0)
        while block := self.file.read(_BLOCK_BYTES):
            yield block


@contextmanager
def snapshot(path: Path, folder: Path | None = None) -> Iterator[Snapshot]:
    """The file, read once; `folder` is where its copy may lie without a name. Failure: it cannot be read."""
    digest, n_bytes = hashlib.sha256(), 0
    with tempfile.TemporaryFile(dir=folder) as copy:
        with _failures(path), path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                n_bytes += len(block)
                if n_bytes > MAX_BYTES:
                    raise _refused(f"has more than {MAX_BYTES} bytes", path)
                digest.update(block)
                copy.write(block)
        yield Snapshot(path, copy, n_bytes, digest.hexdigest())


def pack(members: Mapping[str, bytes], number: int = 0) -> bytes:
    """The bundle of these members, in the order of their names behind the index. Failure: a name it may not have."""
    for name in members:
        if not _NAME.fullmatch(name) or name == INDEX:
            raise Failure(f"no bundle holds a file of the name {name!r}", remedy="rename it: letters, digits, . _ + -")
    entries = {name: {"bytes": len(d), "sha256": hashlib.sha256(d).hexdigest()} for name, d in members.items()}
    index = _index_bytes(entries, number)
    buffer = io.BytesIO()
    _write(buffer, [INDEX, *sorted(members)], lambda name: index if name == INDEX else members[name])
    return buffer.getvalue()


def check(source: Path | Snapshot) -> Bundle:
    """Failure unless the file is, byte for byte, what `pack` makes of what it holds."""
    with _taken(source) as taken, _opened(taken) as archive:
        bundle = _checked(archive, taken)
        with tempfile.TemporaryFile() as again:
            _write(again, [INDEX, *sorted(bundle.files)], archive.read)
            again.seek(0)
            if any(block != again.read(len(block)) for block in taken.blocks()) or again.read(1):
                raise _refused("holds bytes that belong to no file of it", taken.path)
    return bundle


def unpack(source: Path | Snapshot, into: Path, accept: Callable[[Path], object] = lambda folder: None) -> Bundle:
    """Check everything, then write the members to the new folder `into`, whole or not at all.

    `accept` sees them in a folder beside it first, and may raise.
    Failure: not a bundle, not as packed, or `into` is there.
    """
    with _taken(source) as taken:
        bundle = check(taken)
        extract(taken, bundle, into, accept)
    return bundle


def extract(
    taken: Snapshot, bundle: Bundle, into: Path, accept: Callable[[Path], object] = lambda folder: None
) -> None:
    """`unpack` where `bundle` is what `check` said of this snapshot, which takes longer than the writing."""
    with whole_folder(into, _refuse) as part:
        with _opened(taken) as archive:
            for name in (INDEX, *bundle.files):
                target = part / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as file, target.open("xb") as written:
                    shutil.copyfileobj(file, written, _BLOCK_BYTES)
        accept(part)


def is_unpacked(source: Path | Snapshot, folder: Path) -> bool:
    """Whether every file of the bundle lies in `folder`, byte for byte."""
    with _taken(source) as taken, _opened(taken) as archive:
        index, _ = _index(archive, archive.namelist(), taken.path)
        try:
            own = (folder / INDEX).read_bytes() == archive.read(INDEX)
            return own and all(file_sha256(folder / name) == entry["sha256"] for name, entry in index.items())
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return False


def is_of_a_bundle(folder: Path) -> bool:
    """Whether a bundle was unpacked here, of this version or another."""
    try:
        return bool(json.loads((folder / INDEX).read_bytes())["format"] == FORMAT)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _refuse(into: Path) -> Collection[str]:
    raise Failure("is there already", where=into, remedy="name a folder that is not there")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in hex, a block at a time."""
    with path.open("rb") as file:
        return _sha256(file)


@contextmanager
def _taken(source: Path | Snapshot) -> Iterator[Snapshot]:
    if isinstance(source, Snapshot):
        yield source
    else:
        with snapshot(source) as taken:
            yield taken


@contextmanager
def _opened(taken: Snapshot) -> Iterator[zipfile.ZipFile]:
    """Failure, too, for what zipfile finds only while it reads."""
    taken.file.seek(0)
    with _failures(taken.path), zipfile.ZipFile(taken.file) as archive:
        yield archive


@contextmanager
def _failures(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Failure(f"cannot be read or unpacked ({error.strerror})", where=path, remedy=None) from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, EOFError) as error:
        raise _refused(f"not a bundle ({error})", path) from error


def _checked(archive: zipfile.ZipFile, taken: Snapshot) -> Bundle:
    """What it holds, after names, kinds, sizes, hashes and the index itself were found right."""
    path, infos = taken.path, archive.infolist()
    if len(infos) > _MAX_MEMBERS:
        raise _refused(f"has {len(infos)} members", path)
    for info in infos:
        _check_member(info, path)
    names = [info.filename for info in infos]
    if len(set(names)) != len(names):
        raise _refused("holds two files of one name", path)
    if sum(info.file_size for info in infos) > taken.n_bytes:
        raise _refused("holds files that overlap", path)
    index, number = _index(archive, names, path)
    sizes = {info.filename: info.file_size for info in infos}
    entries = {}
    for name, entry in index.items():
        with archive.open(name) as file:
            entries[name] = {"bytes": sizes[name], "sha256": _sha256(file)}
        if entry != entries[name]:
            raise _refused(f"{name} is not what {INDEX} says (bytes or SHA-256)", path)
    if archive.read(INDEX) != _index_bytes(entries, number):
        raise _refused(f"its {INDEX} is not written as it must be", path)
    return Bundle(path, {name: sizes[name] for name in index}, number)


def _check_member(info: zipfile.ZipInfo, path: Path) -> None:
    name = info.filename
    if not _NAME.fullmatch(name):
        raise _refused(f"holds a file of the name {name!r}, which may lead elsewhere", path)
    if info.external_attr >> 16 != _MODE:
        raise _refused(f"{name} is no plain file but a link, a folder or the like", path)
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size or info.flag_bits:
        raise _refused(f"{name} is compressed or encrypted", path)


def _index(archive: zipfile.ZipFile, names: list[str], path: Path) -> tuple[dict[str, Any], int]:
    """Name -> entry, from an index that names every member and no other; the release's number."""
    if INDEX not in names:
        raise _refused(f"no {INDEX} in it", path)
    if archive.getinfo(INDEX).file_size > MAX_INDEX_BYTES:
        raise _refused(f"its {INDEX} is too large", path)
    try:
        index = json.loads(archive.read(INDEX))
        found, version, files = index["format"], index["version"], dict(index["files"])
        number = int(index.get("number", 0))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise _refused(f"its {INDEX} is no index ({type(error).__name__})", path) from error
    if found != FORMAT:
        raise _refused(f"not an {FORMAT} but {found!r}", path)
    if version != VERSION:
        raise Failure(f"has version {version!r}, this reads {VERSION}", where=path, remedy="update edge-denoise")
    if set(files) != set(names) - {INDEX}:
        raise _refused(f"holds other files than its {INDEX} names", path)
    return files, number


def _index_bytes(entries: Mapping[str, Any], number: int) -> bytes:
    """The one way it is written; an unnumbered one says nothing of numbers."""
    index = {"files": entries, "format": FORMAT, "version": VERSION} | ({"number": number} if number else {})
    return (json.dumps(index, indent=1, sort_keys=True) + "\n").encode()


def _write(file: IO[bytes], names: list[str], read: Callable[[str], bytes]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system, info.external_attr = _UNIX, _MODE << 16
            archive.writestr(info, read(name))


def _sha256(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := file.read(_BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


def _refused(what: str, path: Path) -> Failure:
    return Failure(what, where=path, remedy=_REMEDY)
