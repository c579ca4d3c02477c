"""The artifact folder, written whole or not at all."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from edge_runtime.errors import Failure
from edge_runtime.manifest import (
    DIGEST_FILE,
    MANIFEST_FILE,
    SEALS,
    SIGNATURE_FILE,
    SIGNER_FILE,
    Artifact,
    FileName,
    Manifest,
    digest_line,
    dump,
    open_artifact,
)
from edge_runtime.whole_folder import linked, whole_folder
from quant.artifact.stable_bytes import file_entry

NO_CONTENT: Final = ("lost+found",)  # a new file system is empty with it


class _Mark(msgspec.Struct):
    """What makes a folder an artifact, of this version or another."""

    format: Literal["edge-denoise"]
    files: dict[FileName, Any]


def replaceable(out: Path, force: bool) -> set[str]:
    """The files of the artifact in `out`, none if it is empty. Failure: it is neither, or `force` was not given."""
    if not out.is_dir():
        raise Failure("is a file, not a folder", where=out, remedy="name another folder with --out")
    if not (out / MANIFEST_FILE).is_file():
        if any(path.name not in NO_CONTENT and not path.name.startswith(".") for path in out.iterdir()):
            raise Failure("holds other files and no artifact", where=out, remedy="name another folder with --out")
        return set()
    names = _named(out)
    if not force:
        raise occupied(out)
    return names


def occupied(out: Path, why: str = "") -> Failure:
    """That an artifact is there which nobody asked to replace, with a place that is free."""
    numbers = (out.with_name(f"{out.name}-{n}") for n in count(2))
    free = next(path for path in numbers if not path.exists())
    remedy = f"give --force to replace it, or --out {shlex.quote(str(free))}"
    return Failure(f"holds an artifact already{why and f', {why}'}", where=out, remedy=remedy)


def whole_artifact(out: Path, force: bool) -> AbstractContextManager[Path]:
    """A folder that takes the place of `out` when the block ends well; files there that no manifest lists stay."""
    return whole_folder(out, partial(replaceable, force=force))


def renew(opened: Artifact, files: Mapping[str, bytes]) -> None:
    """Put these files into an artifact, and a manifest that agrees. Failure: signed, or changed since it was opened."""
    if any(opened.path(name).exists() for name in (SIGNATURE_FILE, SIGNER_FILE)):
        remedy = f"do this first, then sign; or take {SIGNATURE_FILE} and {SIGNER_FILE} out, and sign again"
        raise Failure("is signed", where=opened.directory, remedy=remedy)

    def as_opened(out: Path) -> set[str]:
        if open_artifact(out).manifest != opened.manifest:
            raise Failure("was changed by another run meanwhile, and is kept", where=out, remedy="run this again")
        return _named(out)

    entries = {**opened.manifest.files, **{name: file_entry(data) for name, data in files.items()}}
    with whole_folder(opened.directory, as_opened) as part:
        for name in opened.manifest.files.keys() - files.keys():
            linked(opened.path(name), part / name)
        for name, data in files.items():
            (part / name).write_bytes(data)
        write_manifest(part, msgspec.structs.replace(opened.manifest, files=dict(sorted(entries.items()))))


def _named(out: Path) -> set[str]:
    """What an artifact consists of. Failure: this is none."""
    try:
        mark = msgspec.json.decode((out / MANIFEST_FILE).read_bytes(), type=_Mark)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        what = f"holds a {MANIFEST_FILE} that is not of an artifact, or is damaged"
        raise Failure(what, where=out, remedy="name another folder, or remove this one yourself") from None
    return {*mark.files, MANIFEST_FILE, *SEALS}


def index(manifest: Manifest) -> dict[str, bytes]:
    """File name -> bytes of the index, and of the digest that finds a change in it."""
    text = dump(manifest)
    return {MANIFEST_FILE: text, DIGEST_FILE: digest_line(text)}


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Both into a folder."""
    for name, data in index(manifest).items():
        (directory / name).write_bytes(data)
