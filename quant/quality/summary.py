"""Rows of an evaluation -> means and paired differences with bootstrap intervals, over all clips or by group."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from quant.quality.results import SNR, ClipDifference, Difference, Row, SystemPart

N_BOOTSTRAP: Final = 2000

Scores = Mapping[str, Mapping[str, float]]  # clip -> metric -> value


def summarise(rows: Sequence[Row], against: Mapping[str, str]) -> tuple[SystemPart, ...]:
    """One summary a system, all over the same clips: those that went well under every system.

    A system under which none did has no summary, and costs the others nothing. `against` maps a system to the one it is
    compared with.
    """
    table: dict[str, dict[str, Mapping[str, float]]] = {}
    for row in rows:
        if not row.error:
            table.setdefault(row.system, {})[row.clip] = row.scores
    common = [clip for clip in next(iter(table.values()), {}) if all(clip in clips for clips in table.values())]
    same = {system: {clip: clips[clip] for clip in common} for system, clips in table.items() if common}
    return tuple(_summary(system, clips, against.get(system), same) for system, clips in same.items())


def _summary(system: str, clips: Scores, against: str | None, table: Mapping[str, Scores]) -> SystemPart:
    metrics, base = next(iter(clips.values())), table.get(against or "")
    return SystemPart(
        system=system,
        n_clips=len(clips),
        means={m: float(np.mean([scores[m] for scores in clips.values()])) for m in metrics},
        against=against,
        differences={m: bootstrap(np.array([clips[c][m] - base[c][m] for c in clips])) for m in metrics if base},
    )


def by_clip(rows: Sequence[Row], against: Mapping[str, str]) -> tuple[ClipDifference, ...]:
    """What each system has more than the one it is compared with, on every clip that went well under both."""
    scores = {(row.system, row.clip): row.scores for row in rows if not row.error}
    return tuple(
        ClipDifference(clip=clip, system=system, differences={m: own[m] - base[m] for m in own if m in base})
        for (system, clip), own in scores.items()
        if (base := scores.get((against.get(system, ""), clip)))
    )


def summarise_by(rows: Sequence[Row], grouping: str, against: Mapping[str, str]) -> dict[str, tuple[SystemPart, ...]]:
    """Group -> the summaries of its clips, by rising SNR or by name; a group in which every clip failed is left out."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        if grouping in row.groups:
            groups.setdefault(row.groups[grouping], []).append(row)
    names = sorted(groups)
    if grouping.startswith(SNR):
        names.sort(key=lambda name: _lowest_snr_db(groups[name]))
    return {name: found for name in names if (found := summarise(groups[name], against))}


def _lowest_snr_db(rows: Sequence[Row]) -> float:
    return min((row.snr_db for row in rows if row.snr_db is not None), default=math.inf)


def bootstrap(differences: NDArray[np.float64], seed: int = 0) -> Difference:
    """Mean, and the 2.5 and 97.5 percentiles of means over resampled clips."""
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(differences), (N_BOOTSTRAP, len(differences)))
    low, high = np.percentile(differences[picks].mean(1), [2.5, 97.5])
    return Difference(mean=float(differences.mean()), low=float(low), high=float(high))
