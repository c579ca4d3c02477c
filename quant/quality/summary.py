"""Rows of an evaluation -> means and paired differences with bootstrap intervals, over all clips or by group."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from quant.quality.evaluate import Row
from quant.quality.pairs import SNR

N_BOOTSTRAP: Final = 2000


@dataclass(frozen=True)
class Summary:
    """Means of a system over its clips, and their paired difference to `against` with a bootstrap 95 % interval."""

    system: str
    n_clips: int
    means: Mapping[str, float]
    against: str | None
    differences: Mapping[str, tuple[float, float, float]]  # mean, low, high

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "system": self.system,
            "n_clips": self.n_clips,
            "means": dict(self.means),
            "against": self.against,
            "differences": {k: dict(zip(("mean", "low", "high"), v, strict=True)) for k, v in self.differences.items()},
        }


def summarise(rows: Sequence[Row], against: Mapping[str, str]) -> list[Summary]:
    """One summary a system, all over the same clips: those that went well under every system.

    A system under which none did has no summary, and costs the others nothing. `against` maps a system to the one it is
    compared with.
    """
    table: dict[str, dict[str, Mapping[str, float]]] = {}
    for row in rows:
        if not row.error:
            table.setdefault(row.system, {})[row.clip] = row.scores
    common = [clip for clip in next(iter(table.values()), {}) if all(clip in clips for clips in table.values())]
    if not common:
        return []
    out = []
    for system, clips in table.items():
        names = clips[common[0]]
        means = {m: float(np.mean([clips[clip][m] for clip in common])) for m in names}
        base = table.get(against.get(system, ""))
        differences = (
            {m: bootstrap(np.array([clips[c][m] - base[c][m] for c in common])) for m in names} if base else {}
        )
        out.append(Summary(system, len(common), means, against.get(system), differences))
    return out


def summarise_by(rows: Sequence[Row], grouping: str, against: Mapping[str, str]) -> dict[str, list[Summary]]:
    """Group -> the summaries of its clips, by rising SNR or by name; clips without a group are in none."""
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


def bootstrap(differences: NDArray[np.float64], seed: int = 0) -> tuple[float, float, float]:
    """Mean, and the 2.5 and 97.5 percentiles of means over resampled clips."""
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(differences), (N_BOOTSTRAP, len(differences)))
    low, high = np.percentile(differences[picks].mean(1), [2.5, 97.5])
    return float(differences.mean()), float(low), float(high)
