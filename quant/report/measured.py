"""Measurements made elsewhere, read for the report: benches, evaluations, robustness. Wrong files are refused."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from edge_runtime.errors import Failure
from quant.quality.evaluate import Row
from quant.quality.metrics import METRICS
from quant.quality.summary import summarise, summarise_by
from quant.report.schema import QualityPart, RobustnessRow

NOT_METRICS: Final = frozenset({"clip", "system", "error", "snr_db"})
COLUMNS: Final = frozenset(column for metric in METRICS.values() for column in metric.columns)
T = TypeVar("T")


class _Robustness(msgspec.Struct):
    rows: list[RobustnessRow]


def merged(old: Iterable[dict[str, Any]], new: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The benches, a new one in the place of one of the same engine, precision, threads and machine; sorted."""
    by_key = {_bench_key(b): b for b in [*old, *new]}
    return [by_key[key] for key in sorted(by_key)]


def _bench_key(b: dict[str, Any]) -> tuple[str, ...]:
    return b["machine"]["cpu"], b["engine"], b["precision"], str(b["n_threads"])


def quality(path: Path) -> dict[str, Any]:
    """What `quant eval --pairs` printed as JSON, or its --rows as CSV; summaries without their clips."""
    if path.suffix == ".csv":
        return _from_csv(path)
    found = _decoded(path, _text(path), QualityPart, "`quant eval --pairs DIR --json`, or its --rows (.csv)")
    return dict(msgspec.to_builtins(found))


def robustness(path: Path) -> list[dict[str, Any]]:
    """What `quant eval --suite robustness --json` printed."""
    return _plain(_decoded(path, _text(path), _Robustness, "`quant eval --suite robustness --json`").rows)


def _from_csv(path: Path) -> dict[str, Any]:
    try:
        lines = list(csv.DictReader(_text(path).splitlines()))
        columns = [c for c in lines[0] if c in COLUMNS]
        groupings = [c for c in lines[0] if c not in NOT_METRICS and c not in columns]
        rows = [_row(line, columns, groupings) for line in lines]
    except (IndexError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise _refused(path, error, "`quant eval --pairs DIR --rows FILE.csv`") from None
    if not columns:
        raise _refused(path, ValueError("no metric in its first line"), "`quant eval --pairs DIR --rows FILE.csv`")
    labels = {r.system for r in rows}
    against = {s: s.replace("int8", "fp32") for s in labels if "int8" in s and s.replace("int8", "fp32") in labels}
    groups = {g: {n: [s.to_dict() for s in of] for n, of in summarise_by(rows, g, against).items()} for g in groupings}
    return {"systems": [s.to_dict() for s in summarise(rows, against)], "groups": groups}


def _row(line: dict[str, str], columns: Sequence[str], groupings: Sequence[str]) -> Row:
    scores = {} if line.get("error") else {c: float(line[c]) for c in columns}
    snr_db = float(line["snr_db"]) if line.get("snr_db") else None
    if any(not math.isfinite(v) for v in scores.values()):
        raise ValueError(f"{line['clip']} has a score that is not finite")
    return Row(
        line["clip"], line["system"], scores, line.get("error", ""), snr_db, {g: line[g] for g in groupings if line[g]}
    )


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not text"
        raise Failure(f"cannot be read ({why})", where=path) from None


def _decoded(path: Path, text: str, type_: type[T], made_by: str) -> T:
    try:
        return msgspec.json.decode(text, type=type_)
    except msgspec.MsgspecError as error:
        raise _refused(path, error, made_by) from None


def _refused(path: Path, error: Exception, made_by: str) -> Failure:
    return Failure(f"is not what was asked for ({error})", where=path, remedy=f"give what {made_by} writes")


def _plain(parts: Iterable[Any]) -> list[dict[str, Any]]:
    return [msgspec.to_builtins(part) for part in parts]
