"""Every engine and precision of an artifact that runs here, each measured in a process of its own, and remembered.

A process each: what one engine loads is neither in the memory nor in the start of the next, and one that dies is a row.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from edge_runtime.engines import ENGINES, available
from edge_runtime.engines.apart import engine_apart
from edge_runtime.engines.choice import remember
from edge_runtime.errors import Failure
from edge_runtime.machine import conditions, this_machine
from edge_runtime.manifest import Artifact


def bench_all(
    artifact: Artifact,
    precisions: tuple[str, ...] = ("int8", "fp32"),
    n_threads: int = 1,
    progress: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """`rows` as of `bench`, fastest hop first; `failed`: engine, precision, why. What `auto` takes follows from it.

    Failure: nothing that could run the artifact is installed, or nothing ran.
    """
    models = artifact.manifest.models
    chosen = [(e, p) for e in ENGINES if e in models and e in available() for p in precisions if p in models[e]]
    if not chosen:
        held = ", ".join(sorted(models))
        raise Failure("no engine of it is installed", where=artifact.directory, remedy=f"install one of: {held}")
    rows, failed = [], []
    for k, (engine, precision) in enumerate(chosen, 1):
        progress(f"measuring {engine} {precision}, {k} of {len(chosen)}")
        row, error = _apart(artifact, engine, precision, n_threads)
        if row is None:
            failed.append({"engine": engine, "precision": precision, "error": error})
        else:
            rows.append(row)
    if not rows:
        raise Failure(f"no engine ran: {failed[0]['error']}", where=artifact.directory)
    rows.sort(key=lambda row: row["hop_us"]["p50"])
    kept = remember(artifact, rows)
    return {
        "rows": rows,
        "failed": failed,
        "fastest": {p: next((r["engine"] for r in rows if r["precision"] == p), None) for p in precisions},
        "remembered": None if kept is None else str(kept),
        "machine": {**this_machine(), "conditions": conditions()},
    }


def lines(figures: dict[str, Any]) -> list[str]:
    """For people."""
    machine = figures["machine"]
    said = ["on {cpu}, {os}, Python {python}".format(**machine)]
    said += [f"note: {note}" for note in machine["conditions"]["notes"]]
    headings = "".join(f"{heading:>9}" for heading in ("p50", "p95", "p99", "max", "network", "load ms"))
    said.append(f"{'a hop of 16 ms, us':<20}{headings}{'MiB':>7}")
    for row in figures["rows"]:
        hop = row["hop_us"]
        name = f"{row['engine']} {row['precision']}"
        times = "".join(f"{hop[key]:>9.1f}" for key in ("p50", "p95", "p99", "max"))
        rest = f"{row['frame_us']['p50']:>9.1f}{row['load_ms']:>9.0f}{row['rss_bytes'] / 2**20:>7.0f}"
        said.append(f"{name:<20}{times}{rest}")
    said += ["{engine} {precision} failed: {error}".format(**row) for row in figures["failed"]]
    best = ", ".join(f"{engine} for {precision}" for precision, engine in figures["fastest"].items() if engine)
    kept = "and this is remembered" if figures["remembered"] else "but this could not be remembered"
    return [*said, f"`--engine auto` takes {best}, {kept}" if figures["remembered"] else f"fastest: {best}, {kept}"]


def _apart(artifact: Artifact, engine: str, precision: str, n_threads: int) -> tuple[dict[str, Any] | None, str]:
    try:
        row = engine_apart(
            engine, "edge_runtime.bench:benched", str(artifact.directory), engine, precision, str(n_threads)
        )
    except Failure as failure:
        return None, str(failure)
    return dict(json.loads(row)), ""
