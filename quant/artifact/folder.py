"""The artifact folder, written whole or not at all; the same inputs give the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import Failure
from edge_runtime.manifest import DIGEST_FILE, MANIFEST_FILE, FileEntry, Manifest, digest_line, dump
from edge_runtime.stft import Float32Array

ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # a date in an archive would change its hash


def refuse_to_clobber(out: Path, force: bool) -> None:
    """Failure unless `out` may be written: it is absent, empty, or an artifact and `force` was given."""
    if not out.exists():
        return
    if not out.is_dir():
        raise Failure("is a file, not a folder", where=out, remedy="name another folder with --out")
    if not any(out.iterdir()):
        return
    if not (out / MANIFEST_FILE).is_file():
        raise Failure("holds other files and no artifact", where=out, remedy="name another folder with --out")
    if not force:
        raise Failure("holds an artifact already", where=out, remedy="give --force to replace it, or another --out")


@contextmanager
def folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out` that takes its place when the block ends well; else nothing is left."""
    made = [parent for parent in out.absolute().parents if not parent.exists()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise Failure(
            f"cannot be written ({error.strerror})", where=out, remedy="name another folder with --out"
        ) from None
    try:
        part.chmod(0o777 & ~_umask())
        yield part
        if out.exists():
            shutil.rmtree(out)
        part.replace(out)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        for parent in made:
            parent.rmdir()
        raise


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """The index, and the digest that finds a change in it."""
    text = dump(manifest)
    (directory / MANIFEST_FILE).write_bytes(text)
    (directory / DIGEST_FILE).write_bytes(digest_line(text))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def json_bytes(value: Any) -> bytes:
    """JSON that does not depend on the order of keys."""
    return (json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def npz_bytes(arrays: Mapping[str, Float32Array]) -> bytes:
    """A compressed .npz without dates in it."""
    return zip_bytes({f"{name}.npy": npy_bytes(values) for name, values in arrays.items()})


def npy_bytes(values: NDArray[Any]) -> bytes:
    """An array as a .npy file."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(values), allow_pickle=False)
    return buffer.getvalue()


def zip_bytes(members: Mapping[str, bytes]) -> bytes:
    """A compressed archive of `members` in the order of their names, without dates in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(members):
            archive.writestr(zipfile.ZipInfo(name, ZIP_EPOCH), members[name], zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def file_entry(data: bytes) -> FileEntry:
    """Size and SHA-256."""
    return FileEntry(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
