"""What an evaluation finds, as its JSON and report.json hold it: structs alone, so that reading them is quick."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

N_WORST: Final = 5
SNR: Final = "snr"  # how groupings by SNR begin
# Column of an evaluation -> what people call it, in the order in which they look at them.
TITLES: Final[Mapping[str, str]] = {
    "pesq": "PESQ-WB",
    "stoi": "STOI",
    "estoi": "ESTOI",
    "sisdr": "SI-SDR dB",
    "dnsmos_ovrl": "DNSMOS OVRL",
    "dnsmos_sig": "DNSMOS SIG",
    "dnsmos_bak": "DNSMOS BAK",
}


@dataclass(frozen=True)
class Row:
    """The scores of one clip under one system; `error` says why there are none. `groups` is grouping -> group."""

    clip: str
    system: str
    scores: Mapping[str, float]
    error: str = ""
    snr_db: float | None = None
    groups: Mapping[str, str] = field(default_factory=dict)


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Paired: the mean over clips that both systems have, with a bootstrap 95 % interval."""

    mean: float
    low: float
    high: float


class SystemPart(msgspec.Struct, frozen=True, kw_only=True):
    """Means of a system over its clips, and its paired differences to `against`."""

    system: str
    n_clips: int
    means: dict[str, float]
    against: str | None
    differences: dict[str, Difference]


class ClipDifference(msgspec.Struct, frozen=True, kw_only=True):
    """What an int8 system has more than its float one on one clip, by metric."""

    clip: str
    system: str
    differences: dict[str, float]


class QualityPart(msgspec.Struct, frozen=True, kw_only=True):
    """What `quant eval --pairs --json` prints, without its clips: grouping -> group -> systems.

    `date`: of the measurement, as 2026-11-28; `data`: the folder's name. Both "" where an older run did not tell.
    """

    systems: tuple[SystemPart, ...]
    groups: dict[str, dict[str, tuple[SystemPart, ...]]] = {}
    date: str = ""
    data: str = ""
    by_clip: tuple[ClipDifference, ...] = ()


class RobustnessRow(msgspec.Struct, frozen=True, kw_only=True):
    """One input and one quantity under one system: `value` is None where it could not be measured, `error` says why."""

    system: str
    stimulus: str
    quantity: str
    unit: str
    value: float | None
    bound: float
    is_upper: bool
    why: str = ""
    error: str = ""
    ok: bool


def title(metric: str) -> str:
    """What people call it."""
    return TITLES.get(metric, metric)


def in_order(metrics: Iterable[str]) -> list[str]:
    """Each once, as people look at them; what has no title comes last, by name."""
    found = set(metrics)
    return [name for name in TITLES if name in found] + sorted(found - TITLES.keys())


def worst(quality: QualityPart, engine: str) -> list[ClipDifference]:
    """On which 8 bits lost most, in the first metric and `engine`, most first."""
    own = int8_system(quality, engine)
    if own is None:
        return []
    metric = in_order(own.differences)[0]
    found = [c for c in quality.by_clip if c.system == own.system and metric in c.differences]
    return sorted(found, key=lambda c: (c.differences[metric], c.clip))[:N_WORST]


def int8_system(quality: QualityPart, engine: str) -> SystemPart | None:
    """Of `engine`, else of any other that was compared with float."""
    found = [s for s in quality.systems if s.system.endswith("int8") and s.differences]
    return next((s for s in found if engine in s.system), found[0] if found else None)


def uneven(systems: Sequence[SystemPart]) -> str:
    """What to know before means of different clips are compared; nothing where all have as many."""
    if len({s.n_clips for s in systems}) < 2:
        return ""
    counts = ", ".join(f"{s.system} {s.n_clips}" for s in systems)
    return f"Means are over different clips, for some failed ({counts}): compare the differences, which are paired."
