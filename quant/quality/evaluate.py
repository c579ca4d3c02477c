"""Speech quality through the real runtimes: the noisy recording and every system, clip by clip, with streaming state.

rows = evaluate(systems, find_pairs(folder), ["pesq", "sisdr"])       # any systems: see `systems`
summaries = summarise(rows, comparisons(systems))                     # means, paired differences
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_runtime.errors import Failure
from edge_runtime.stft import SAMPLE_RATE_HZ, Float32Array
from edge_runtime.whole_file import written_whole
from quant.quality import isolated, parallel
from quant.quality.isolated import Call, Died
from quant.quality.metrics import HINTS, score
from quant.quality.pairs import Pair, snr_and_groups
from quant.quality.results import Row
from quant.quality.systems import NOISY, System

MOST_LINES: Final = 10  # about failures, on a terminal


def evaluate(
    systems: Sequence[System],
    pairs: Sequence[Pair],
    metrics: Sequence[str],
    *,
    scheduler: str | None = None,
    n_jobs: int = -1,
    quiet: bool = False,
    rows: list[Row] | None = None,
) -> list[Row]:
    """Every pair under `noisy` and every system, in parallel by clip; a clip that fails is a row with its error.

    Systems travel to the workers, sound files do not: on a cluster their paths must be the same there. Without one, a
    metric or a system that takes its process with it costs one row: the clip is scored again piece by piece, and what
    dies is named. A system that dies on its first sound has an error in every row. `rows` takes them clip by clip, for
    a caller who is interrupted. Failure: see `parallel.completed`.
    """
    rows = [] if rows is None else rows
    if len({NOISY, *(s.label for s in systems)}) != len(systems) + 1:
        raise ValueError(f"labels are not unique: {[s.label for s in systems]}")
    packed = [(s.label, parallel.packed(s.open)) for s in systems]
    deaths = _tried_out(packed) if scheduler is None else {}
    shared = ((NOISY, None), *(each for each in packed if each[0] not in deaths))
    done = parallel.completed(
        score_pair,
        [(pair, shared, tuple(metrics)) for pair in pairs],
        unit="s of sound",
        sizes=[pair.duration_s() for pair in pairs],
        n_jobs=n_jobs,
        scheduler=scheduler,
        quiet=quiet,
        after_death=_piece_by_piece,
    )
    places = {pair.name: place for place, pair in enumerate(pairs)}
    try:
        for _, found in done:
            rows += found + [replace(found[0], system=label, scores={}, error=died) for label, died in deaths.items()]
    finally:
        rows.sort(key=lambda row: places[row.clip])
    return rows


Opener = tuple[str, bytes | None]  # label, packed opener; None for the recording itself


def score_pair(pair: Pair, systems: Sequence[Opener], metrics: Sequence[str]) -> list[Row]:
    """The rows of one pair."""
    try:
        clean, noisy = pair.read()
    except Failure as failure:
        return [Row(pair.name, NOISY, {}, str(failure), pair.snr_db, pair.groups)]
    snr_db, groups = snr_and_groups(pair, clean, noisy)
    rows = []
    for label, opener in systems:
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


def _tried_out(systems: Sequence[tuple[str, bytes]]) -> dict[str, str]:
    """Systems that die on a little noise, each in a process of its own, and of what; errors show with every clip."""

    def apart(call: Call, job: tuple[Any, ...], of: str) -> dict[str, str]:
        deaths = {}
        for system in systems:
            try:
                call(_try_out, [system])
            except Died as died:
                deaths[system[0]] = f"died on its first sound: {died}"
        return deaths

    ((_, deaths),) = isolated.each(_try_out, [(systems,)], 1, apart)
    return deaths


def _try_out(systems: Sequence[tuple[str, bytes]]) -> dict[str, str]:
    noise = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE_HZ // 4).astype(np.float32)
    for _, opener in systems:
        with suppress(Exception):
            parallel.opened(opener)(noise)
    return {}


def _piece_by_piece(call: Call, job: tuple[Any, ...], of: str) -> list[Row]:
    """The rows of a pair whose scoring died: system by system and metric by metric, to learn what does."""
    pair, systems, metrics = job
    rows = []
    for label, opener in systems:
        row = Row(pair.name, label, {}, "", pair.snr_db, pair.groups)
        for pieces in ((), *((metric,) for metric in metrics)):
            try:
                scores = row.scores
                row = call(score_pair, pair, ((label, opener),), pieces)[0]
                row = replace(row, scores={} if row.error else {**scores, **row.scores})
            except Died as died:
                hint = HINTS.get(pieces[0], "") if pieces else ""
                row = replace(row, scores={}, error=f"{pieces[0] if pieces else label} died on it: {died}{hint}")
            if row.error:
                break
        rows.append(replace(row, system=label))
    return rows


def comparisons(systems: Sequence[System]) -> dict[str, str]:
    """System -> what it is compared with."""
    return {s.label: s.against for s in systems if s.against is not None}


def failures(rows: Sequence[Row], n_most: int = MOST_LINES) -> list[str]:
    """A line for each reason why clips failed, with the first of them and how many more; the last counts the rest."""
    systems: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.error:
            systems.setdefault((row.clip, row.error.rpartition(f"{row.clip}: ")[2]), []).append(row.system)
    clips: dict[tuple[str, str], list[str]] = {}
    for (clip, reason), of in systems.items():
        clips.setdefault((", ".join(of), reason), []).append(clip)
    lines = [
        f"{of[0]}{f' and {len(of) - 1} more clips' if len(of) > 1 else ''}, {labels}: {reason}"
        for (labels, reason), of in clips.items()
    ]
    rest = [f"and {len(lines) - n_most} reasons more: --rows lists every clip"] if len(lines) > n_most else []
    return lines[:n_most] + rest


def refuse_if_all_failed(rows: Sequence[Row]) -> None:
    """Failure when a system has no clip that went well, or no clip went well under all systems."""
    for system in dict.fromkeys(row.system for row in rows):
        its = [row for row in rows if row.system == system]
        if all(row.error for row in its):
            raise Failure(f"every clip failed, first {its[0].clip}, {system}: {its[0].error}")
    broken = {row.clip for row in rows if row.error}
    if broken and broken == {row.clip for row in rows}:
        raise Failure(f"no clip has all its scores, first {failures(rows)[0]}")


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
