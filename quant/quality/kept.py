"""Where the result of `quant eval` goes: into the artifact that it is about, for `quant report` to find, or a file.

quality.json       what `quant eval DIR --pairs ...` prints as JSON
robustness.json    what `quant eval DIR --suite robustness` does

The manifest names them, so that whatever replaces the models takes away what was measured on them. A quality.json is
replaced by what measures at least as much: a look at one metric, or at a few clips, must not cost hours.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from edge_runtime.errors import Failure
from edge_runtime.manifest import SIGNATURE_FILE, SIGNER_FILE, Artifact, open_artifact
from edge_runtime.whole_file import written_whole
from quant.artifact.folder import renew
from quant.artifact.stable_bytes import json_bytes
from quant.quality.results import ClipDifference, SystemPart, in_order, title

QUALITY_FILE: Final = "quality.json"
ROBUSTNESS_FILE: Final = "robustness.json"


class _Kept(msgspec.Struct):
    """A quality.json, as far as it tells what was measured."""

    systems: tuple[SystemPart, ...]
    clips: tuple[dict[str, Any], ...] = ()
    by_clip: tuple[ClipDifference, ...] = ()


class Place(NamedTuple):
    """A file, or an artifact as it is before the work; neither, for a reason."""

    name: str
    file: Path | None = None
    artifact: Artifact | None = None
    why_not: str = ""

    def keep(self, found: Mapping[str, Any]) -> Path | None:
        """Put a result there, and say where. Failure: it cannot be written, or the artifact was changed meanwhile."""
        if self.file is not None:
            with written_whole(self.file) as part:
                part.write_bytes(json_bytes(found))
            return self.file
        if self.artifact is not None:
            renew(self.artifact, {self.name: json_bytes(found)})
            return self.artifact.path(self.name)
        return None


def place(name: str, artifacts: Sequence[Path], out: Path | None, *, force: bool) -> Place:
    """Where a result about these artifacts goes. Failure: `out` cannot be written, or is there and not `force`."""
    if out is not None:
        check_file(out, force=force)
        return Place(name, file=out)
    if len(artifacts) != 1:
        return Place(name, why_not="it is about several artifacts")
    opened = open_artifact(artifacts[0])
    if opened.path(SIGNATURE_FILE).exists() or opened.path(SIGNER_FILE).exists():
        return Place(name, why_not=f"{opened.directory} is signed")
    if not os.access(opened.directory, os.W_OK):
        return Place(name, why_not=f"{opened.directory} may not be written")
    return Place(name, artifact=opened)


def fuller(artifact: Artifact, systems: Iterable[str], columns: Iterable[str], clips: Iterable[str]) -> str:
    """What the quality.json in an artifact has more than one of these; "" where it has nothing, or is unfit."""
    try:
        kept = msgspec.json.decode(artifact.read(QUALITY_FILE), type=_Kept)
    except (Failure, KeyError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    names = {str(clip.get("clip")) for clip in kept.clips} or {clip.clip for clip in kept.by_clip}
    metrics = {column for system in kept.systems for column in system.means}
    if {s.system for s in kept.systems} <= {*systems} and metrics <= {*columns} and names <= {*clips}:
        return ""
    more = f"{len(names)} clips under {len(kept.systems)} systems in {', '.join(map(title, in_order(metrics)))}"
    return f"{artifact.directory} keeps one that holds other things ({more}; --force replaces it)"


def facts(artifacts: Sequence[Path], data: Path | None) -> dict[str, str]:
    """When, on what, and of which weights, so that a report of others refuses it."""
    weights = set()
    with suppress(Failure):  # one that went meanwhile costs no result
        weights = {open_artifact(artifact).manifest.checkpoint.sha256 for artifact in artifacts}
    return {
        "date": date.today().isoformat(),
        **({} if data is None else {"data": data.resolve().name}),
        **({"checkpoint_sha256": weights.pop()} if len(weights) == 1 else {}),
    }


def tried(save: Callable[[], Path | None]) -> Path | Exception | None:
    """What it returns or raises: of the files and what is printed none may cost the others, which took hours."""
    try:
        return save()
    except (Failure, OSError) as error:
        return error


def check_file(path: Path, *, force: bool) -> None:
    """Failure, before the work: `path` cannot be written, or there is something already."""
    if not path.parent.is_dir():
        raise Failure("no such folder", where=path.parent, remedy="make it first")
    if path.is_dir():
        raise Failure("is a folder", where=path, remedy="name a file")
    if path.exists() and path.stat().st_size > 0 and not force:
        raise Failure("exists already", where=path, remedy="pass --force to replace it, or name another file")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise Failure("may not be written", where=path, remedy="name another file")
