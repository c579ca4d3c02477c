"""The artifact folder, written whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_runtime.errors import Failure
from edge_runtime.manifest import DIGEST_FILE, MANIFEST_FILE, Manifest, digest_line, dump


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
