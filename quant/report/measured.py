"""Measurements made elsewhere, read for the report: evaluations, robustness, benches. Wrong files are refused."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from shlex import quote
from typing import Any, Final

import msgspec

from edge_runtime.bench import BenchPart
from edge_runtime.errors import Failure
from edge_runtime.manifest import Artifact
from quant.artifact import typed_json
from quant.quality.kept import QUALITY_FILE, ROBUSTNESS_FILE
from quant.quality.metrics import METRICS
from quant.quality.results import QualityPart, RobustnessRow, Row
from quant.quality.summary import by_clip, summarise, summarise_by

NOT_METRICS: Final = frozenset({"clip", "system", "error", "snr_db"})
COLUMNS: Final = frozenset(column for metric in METRICS.values() for column in metric.columns)
EVALUATION: Final = "an evaluation"
EVALUATION_REMEDY: Final = "give what `quant eval --pairs DIR --json` printed, or its --rows FILE.csv"
ROBUSTNESS: Final = "a run of the robustness suite"
ROBUSTNESS_REMEDY: Final = "give what `quant eval --suite robustness --json` printed"


class _Evaluation(QualityPart, frozen=True, kw_only=True):
    """As printed: every clip under every system, its scores beside what is known of it."""

    clips: tuple[dict[str, Any], ...] = ()
    checkpoint_sha256: str = ""  # of the weights; "" where several were measured, or an older run did not tell


class _Robustness(msgspec.Struct):
    rows: tuple[RobustnessRow, ...]
    checkpoint_sha256: str = ""


def merged(old: Iterable[BenchPart], new: Iterable[BenchPart]) -> tuple[BenchPart, ...]:
    """The benches, a new one in the place of one of the same engine, precision, threads and machine; sorted."""
    by_key = {(b.machine.cpu, b.engine, b.precision, str(b.n_threads)): b for b in [*old, *new]}
    return tuple(by_key[key] for key in sorted(by_key))


def quality(path: Path, artifact: Artifact) -> QualityPart:
    """What `quant eval --pairs` printed as JSON, or its --rows as CSV; summaries without their clips. Failure: it is
    neither, or was measured on other weights than the artifact's."""
    if path.suffix == ".csv":
        return _from_csv(path)
    found = typed_json.read(path, _Evaluation, EVALUATION, EVALUATION_REMEDY)
    _check_weights(found, artifact, path)
    return with_differences(found)


def with_differences(found: _Evaluation) -> QualityPart:
    """Without the scores of every clip, but with what they differ by."""
    against = {s.system: s.against for s in found.systems if s.against}
    rows = [
        Row(str(clip["clip"]), str(clip["system"]), scores)
        for clip in found.clips
        if {"clip", "system"} <= clip.keys()
        and (scores := {m: float(value) for m in COLUMNS if isinstance(value := clip.get(m), int | float)})
    ]
    parts = {name: getattr(found, name) for name in QualityPart.__struct_fields__}
    return QualityPart(**parts | {"by_clip": by_clip(rows, against) if rows else found.by_clip})


def kept(artifact: Artifact) -> tuple[QualityPart | None, tuple[RobustnessRow, ...] | None]:
    """What `quant eval` left in an artifact: quality, robustness. Failure: not what it wrote, or changed since."""
    held = artifact.manifest.files
    quality = robustness = None
    if QUALITY_FILE in held:
        data, where = artifact.read(QUALITY_FILE), artifact.path(QUALITY_FILE)
        found = typed_json.decoded(data, _Evaluation, where, EVALUATION, EVALUATION_REMEDY)
        _check_weights(found, artifact, where)
        quality = with_differences(found)
    if ROBUSTNESS_FILE in held:
        data, where = artifact.read(ROBUSTNESS_FILE), artifact.path(ROBUSTNESS_FILE)
        suite = typed_json.decoded(data, _Robustness, where, ROBUSTNESS, ROBUSTNESS_REMEDY)
        _check_weights(suite, artifact, where)
        robustness = suite.rows
    return quality, robustness


def robustness(path: Path, artifact: Artifact) -> tuple[RobustnessRow, ...]:
    """What `quant eval --suite robustness --json` printed. Failure as of `quality`."""
    found = typed_json.read(path, _Robustness, ROBUSTNESS, ROBUSTNESS_REMEDY)
    _check_weights(found, artifact, path)
    return found.rows


def _check_weights(found: _Evaluation | _Robustness, artifact: Artifact, where: Path) -> None:
    if found.checkpoint_sha256 not in ("", artifact.manifest.checkpoint.sha256):
        what = f"was measured on other weights than those of {artifact.directory}"
        raise Failure(what, where=where, remedy=f"evaluate these: `quant eval {quote(str(artifact.directory))} ...`")


def _from_csv(path: Path) -> QualityPart:
    text = typed_json.text(path, EVALUATION_REMEDY)
    try:
        lines = list(csv.DictReader(text.splitlines()))
        columns = [c for c in lines[0] if c in COLUMNS]
        groupings = [c for c in lines[0] if c not in NOT_METRICS and c not in columns]
        rows = [_row(line, columns, groupings) for line in lines]
        if not columns:
            raise ValueError("no metric in its first line")
    except (IndexError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise Failure(f"is not {EVALUATION} ({error})", where=path, remedy=EVALUATION_REMEDY) from None
    labels = {r.system for r in rows}
    against = {s: s.replace("int8", "fp32") for s in labels if "int8" in s and s.replace("int8", "fp32") in labels}
    groups = {grouping: summarise_by(rows, grouping, against) for grouping in groupings}
    return QualityPart(systems=summarise(rows, against), groups=groups, by_clip=by_clip(rows, against))


def _row(line: dict[str, str], columns: Sequence[str], groupings: Sequence[str]) -> Row:
    """A clip that could not be read has no scores, and no SNR to be grouped by."""
    scores = {} if line.get("error") else {c: float(line[c]) for c in columns}
    snr_db = float(line["snr_db"]) if line.get("snr_db") else None
    if any(not math.isfinite(v) for v in scores.values()):
        raise ValueError(f"{line['clip']} has a score that is not finite")
    groups = {g: line[g] for g in groupings if line[g]}
    return Row(line["clip"], line["system"], scores, line.get("error", ""), snr_db, groups)
