"""Side by side: every engine and precision of the artifact on its board, and the artifact on every board."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from quant.quality.results import Difference
from quant.report import verdict
from quant.report.page.first import known_quality
from quant.report.page.words import LogAxis
from quant.report.schema import Report

Range = tuple[float, float]


class EngineRow(NamedTuple):
    """An engine in a precision; what is not known is None. `how`: measured on the board, or estimated for it."""

    engine: str
    precision: str
    ms: Range | None
    how: str
    pesq: Difference | None
    n_bytes: int
    int8_share: float
    preferred: bool


class Bar(NamedTuple):
    """A range on a log axis: both ends in percent from the left."""

    left: float
    width: float


def engines(report: Report) -> list[EngineRow]:
    """Int8 before float, the board's engine first, then by time."""
    rows = [row for engine in ("native", "onnx", "tflite") for row in _rows(report, engine)]
    return sorted(rows, key=lambda r: (not r.preferred, r.engine, r.precision != "int8"))


def axis(rows: Sequence[Range | None]) -> LogAxis:
    """One that holds all times and the deadline."""
    times = [ms for row in rows if row is not None for ms in row]
    return LogAxis.around(*times, verdict.HOP_MS)


def bar(on: LogAxis, ms: Range) -> Bar:
    """At least a visible sliver."""
    left = on.at(ms[0])
    return Bar(left, max(0.8, round(on.at(ms[1]) - left, 2)))


def _rows(report: Report, engine: str) -> Iterator[EngineRow]:
    times, quality = _times(report), known_quality(report)[0]
    for precision in ("int8", "fp32"):
        file = f"model.{engine}" if precision == "int8" else f"model.fp32.{engine}"
        if file not in report.files:
            continue
        systems = quality.systems if quality and precision == "int8" else ()
        found = next((s for s in systems if f"{engine} int8" in s.system), None)
        ms, how = times.get((engine, precision), (None, ""))
        executed = report.coverage.get(engine)
        share = executed.int8_share if executed else report.budget.totals.int8_share
        yield EngineRow(
            engine=engine,
            precision=precision,
            ms=ms,
            how=how,
            pesq=found.differences.get("pesq") if found else None,
            n_bytes=report.files[file].bytes,
            int8_share=share if precision == "int8" else 0.0,
            preferred=engine == report.target.preferred_engine,
        )


def _times(report: Report) -> dict[tuple[str, str], tuple[Range, str]]:
    """(engine, precision) -> ms, how known: a bench of the board before an estimate for it."""
    c_only = {e.engine for e in report.estimates} - {"onnx", "tflite"} if report.target.bare else set()
    found: dict[tuple[str, str], tuple[Range, str]] = {}
    for e in report.estimates:
        engine = "native" if e.engine in c_only else e.engine
        found[engine, e.precision] = (e.low_ms, e.high_ms), "estimate"
    for b in report.benches:
        if verdict.is_of(b, report.target):
            found[b.engine, b.precision] = (b.hop_us.p50 / 1e3, b.hop_us.p99 / 1e3), "measured"
    return found
