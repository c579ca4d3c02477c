"""A report against the report of an older artifact: figures that both have, what changed, and what changed too much."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from edge_runtime.errors import Failure
from quant.report.schema import Change, HistoryPart, Report


class Limit(NamedTuple):
    """How far a kind of figure may move for the worse: `by` in its own unit, or as a share of the old value."""

    by: float
    is_share: bool
    higher_is_worse: bool


# Sizes and counts are exact, so that little is allowed; times and scores are measured, so that noise has its room.
LIMITS: Final[dict[str, Limit]] = {
    "file bytes": Limit(0.05, True, True),
    "parameters": Limit(0.01, True, True),
    "MACs a frame": Limit(0.01, True, True),
    "RAM bytes": Limit(0.05, True, True),
    "arena bytes": Limit(0.05, True, True),
    "int8 share": Limit(0.02, False, False),
    "output SQNR dB": Limit(1.0, False, False),
    "pesq": Limit(0.02, False, False),
    "stoi": Limit(0.005, False, False),
    "estoi": Limit(0.005, False, False),
    "sisdr": Limit(0.3, False, False),
    "dnsmos": Limit(0.03, False, False),
    "hop µs": Limit(0.10, True, True),
    "broken bounds": Limit(0, False, True),
}


Key = tuple[str, str]  # kind of LIMITS, of what


def compare(old: Report, new: Report, name: str) -> HistoryPart:
    """Every figure that both have; those that only the older one has are `missing`. `name`: of the older artifact."""
    before, after = dict(figures(old)), dict(figures(new))
    changes = tuple(_change(key, before[key], after[key]) for key in after if key in before)
    return HistoryPart(against=name, changes=changes, missing=tuple(_title(key) for key in before if key not in after))


def refuse_regressions(history: HistoryPart, where: object) -> None:
    """Failure that names every figure that got worse by more than its limit."""
    worse = [f"{c.figure} {c.change} (allowed {c.limit})" for c in history.changes if c.regressed]
    if worse:
        raise Failure(f"worse than {history.against}: {'; '.join(worse)}", where=where)


def figures(report: Report) -> Iterator[tuple[Key, float]]:
    """(what, value), in the order of the page."""
    for name, file in sorted(report.files.items()):
        yield ("file bytes", name), file.bytes
    yield ("parameters", ""), report.budget.published.n_parameters
    yield ("MACs a frame", ""), report.budget.totals.macs_frame
    yield ("RAM bytes", ""), report.budget.totals.ram_bytes
    yield ("arena bytes", ""), report.memory.arena_bytes
    for engine, coverage in sorted(report.coverage.items()):
        yield ("int8 share", engine), coverage.int8_share
    for row in report.accuracy:
        if row.tap == "enhanced":
            yield ("output SQNR dB", ""), row.cumulative_sqnr_db
    yield from _measured(report)


def _measured(report: Report) -> Iterator[tuple[Key, float]]:
    for s in report.quality.systems if report.quality else ():
        for metric, mean in s.means.items():
            kind = "dnsmos" if metric.startswith("dnsmos") else metric
            if kind in LIMITS and s.system != "noisy":
                yield (kind, f"{s.system} {metric}" if kind == "dnsmos" else s.system), mean
    for b in report.benches:
        yield ("hop µs", f"{b.engine} {b.precision} on {b.machine.cpu}"), b.hop_us.p50
    if report.robustness:
        yield ("broken bounds", ""), sum(not row.ok for row in report.robustness)


def _change(key: Key, old: float, new: float) -> Change:
    limit = LIMITS[key[0]]
    moved = (new - old) / abs(old) if limit.is_share and old else new - old
    worse = moved if limit.higher_is_worse else -moved
    sign = "+" if limit.higher_is_worse else "-"
    shown, allowed = (
        (f"{moved:+.1%}", f"{sign}{limit.by:.0%}") if limit.is_share else (f"{moved:+.3g}", f"{sign}{limit.by:g}")
    )
    regressed = worse > limit.by + 1e-9
    return Change(figure=_title(key), old=old, new=new, change=shown, limit=allowed, regressed=regressed)


def _title(key: Key) -> str:
    return " ".join(part for part in key if part)
