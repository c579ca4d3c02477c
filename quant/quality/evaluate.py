"""Speech quality through the real runtimes: the noisy recording and every system, clip by clip, with streaming state.

rows = evaluate(systems, find_pairs(folder), ["pesq", "sisdr"])       # any systems: see `systems`
summaries = summarise(rows, comparisons(systems))                     # means, paired differences
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from edge_runtime.errors import Failure
from edge_runtime.stft import Float32Array
from edge_runtime.whole_file import written_whole
from quant.quality import parallel
from quant.quality.metrics import score
from quant.quality.pairs import Pair, snr_and_groups
from quant.quality.results import Row
from quant.quality.systems import NOISY, System


def evaluate(
    systems: Sequence[System],
    pairs: Sequence[Pair],
    metrics: Sequence[str],
    *,
    scheduler: str | None = None,
    n_jobs: int = -1,
    quiet: bool = False,
) -> list[Row]:
    """Every pair under `noisy` and every system, in parallel by clip; a clip that fails is a row with its error.

    Systems travel to the workers, sound files do not: on a cluster their paths must be the same there.
    Failure: see `parallel.run`.
    """
    if len({NOISY, *(s.label for s in systems)}) != len(systems) + 1:
        raise ValueError(f"labels are not unique: {[s.label for s in systems]}")
    shared = tuple((s.label, parallel.packed(s.open)) for s in systems)
    jobs = [(pair, shared, tuple(metrics)) for pair in pairs]
    done = parallel.run(score_pair, jobs, unit="clips", n_jobs=n_jobs, scheduler=scheduler, quiet=quiet)
    return [row for rows in done for row in rows]


def score_pair(pair: Pair, systems: Sequence[tuple[str, bytes]], metrics: Sequence[str]) -> list[Row]:
    """The rows of one pair; `systems` are labels and packed openers."""
    try:
        clean, noisy = pair.read()
    except Failure as failure:
        return [Row(pair.name, NOISY, {}, str(failure), pair.snr_db, pair.groups)]
    snr_db, groups = snr_and_groups(pair, clean, noisy)
    rows = []
    for label, opener in ((NOISY, None), *systems):
        scores, error = _scores(opener, clean, noisy, metrics)
        rows.append(Row(pair.name, label, scores, error, snr_db, groups))
    return rows


def _scores(
    opener: bytes | None, clean: Float32Array, noisy: Float32Array, metrics: Sequence[str]
) -> tuple[dict[str, float], str]:
    try:
        return score(metrics, clean, noisy if opener is None else parallel.opened(opener)(noisy)), ""
    except Failure as failure:
        return {}, str(failure)
    except Exception as error:  # PESQ raises its own kinds for silent clips, and a system may be anybody's
        return {}, " ".join(f"{type(error).__name__}: {error}".split())


def comparisons(systems: Sequence[System]) -> dict[str, str]:
    """System -> what it is compared with."""
    return {s.label: s.against for s in systems if s.against is not None}


def failures(rows: Sequence[Row]) -> list[str]:
    """One line for each clip and system that failed, equal errors of a clip once."""
    by_error: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.error:
            by_error.setdefault((row.clip, row.error), []).append(row.system)
    return [f"{clip}, {', '.join(systems)}: {error}" for (clip, error), systems in by_error.items()]


def refuse_if_all_failed(rows: Sequence[Row]) -> None:
    """Failure when no clip has all its scores."""
    broken = {row.clip for row in rows if row.error}
    if broken and broken == {row.clip for row in rows}:
        raise Failure(f"every clip failed, first {failures(rows)[0]}")


def write_rows(path: Path, rows: Sequence[Row], columns: Sequence[str], groupings: Sequence[str]) -> None:
    """One line a clip and system as CSV, whole or not at all. Failure: it cannot be written."""
    with written_whole(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["clip", "system", *columns, "error", "snr_db", *groupings])
        for row in rows:
            scores = [row.scores.get(column, "") for column in columns]
            groups = [row.groups.get(name, "") for name in groupings]
            snr_db = "" if row.snr_db is None else row.snr_db
            table.writerow([row.clip, row.system, *scores, row.error, snr_db, *groups])
