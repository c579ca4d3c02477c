"""A report against the report of an older artifact: figures that both have, what changed, and what changed too much."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from edge_runtime.errors import Failure


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


def compare(old: Mapping[str, Any], new: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Every figure that both have; those that only the older one has are `missing`. `name`: of the older artifact."""
    before, after = dict(figures(old)), dict(figures(new))
    changes = [_change(key, before[key], after[key]) for key in after if key in before]
    missing = [_title(key) for key in before if key not in after]
    return {"against": name, "changes": changes, "missing": missing}


def refuse_regressions(history: Mapping[str, Any], where: object) -> None:
    """Failure that names every figure that got worse by more than its limit."""
    worse = [f"{c['figure']} {c['change']} (allowed {c['limit']})" for c in history["changes"] if c["regressed"]]
    if worse:
        raise Failure(f"worse than {history['against']}: {'; '.join(worse)}", where=where)


def figures(report: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], float]]:
    """((kind of LIMITS, of what), value), in the order of the page."""
    for name, file in sorted(report["files"].items()):
        yield ("file bytes", name), file["bytes"]
    published = report["budget"]["published"]
    yield ("parameters", ""), published["n_learned"] + published["n_fixed"]
    yield ("MACs a frame", ""), report["budget"]["totals"]["macs_frame"]
    yield ("arena bytes", ""), report["memory"]["arena_bytes"]
    for engine, coverage in sorted(report["coverage"].items()):
        yield ("int8 share", engine), coverage["int8_share"]
    for row in report["accuracy"]:
        if row["tap"] == "enhanced":
            yield ("output SQNR dB", ""), row["cumulative_sqnr_db"]
    yield from _measured(report)


def _measured(report: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], float]]:
    for system in (report.get("quality") or {"systems": []})["systems"]:
        for metric, mean in system["means"].items():
            kind = "dnsmos" if metric.startswith("dnsmos") else metric
            if kind in LIMITS and system["system"] != "noisy":
                yield (kind, f"{system['system']} {metric}" if kind == "dnsmos" else system["system"]), mean
    for b in report.get("benches", ()):
        yield ("hop µs", f"{b['engine']} {b['precision']} on {b['machine']['cpu']}"), b["hop_us"]["p50"]
    if report.get("robustness"):
        yield ("broken bounds", ""), sum(not row["ok"] for row in report["robustness"])


def _change(key: tuple[str, str], old: float, new: float) -> dict[str, Any]:
    limit = LIMITS[key[0]]
    moved = (new - old) / abs(old) if limit.is_share and old else new - old
    worse = moved if limit.higher_is_worse else -moved
    sign = "+" if limit.higher_is_worse else "-"
    shown, allowed = (
        (f"{moved:+.1%}", f"{sign}{limit.by:.0%}") if limit.is_share else (f"{moved:+.3g}", f"{sign}{limit.by:g}")
    )
    return {
        "figure": _title(key),
        "old": old,
        "new": new,
        "change": shown,
        "limit": allowed,
        "regressed": worse > limit.by + 1e-9,
    }


def _title(key: tuple[str, str]) -> str:
    return " ".join(part for part in key if part)
