"""The delay as a ladder: what a sound waits for between microphone and loudspeaker."""

from __future__ import annotations

from typing import Final, NamedTuple

from edge_runtime.live.loop import LivePlan
from edge_runtime.live.sound.rate import DRIFT_CROSSINGS
from edge_runtime.stft import HOP_SAMPLES, LATENCY_SAMPLES, SAMPLE_RATE_HZ

_MS: Final = 1e3 / SAMPLE_RATE_HZ
IN_SOUND_MS: Final = (HOP_SAMPLES + LATENCY_SAMPLES) * _MS
OTHER_RATE_MS: Final = 2.0  # of each device at another rate than 16 kHz: see `edge_runtime.live.sound.rate`
_RESERVE_MS: Final = LivePlan.margin_ms
_WAITS: Final = (
    ("a hop of sound is collected", HOP_SAMPLES * _MS),
    ("the other half of its window", LATENCY_SAMPLES * _MS),
    ("two clocks are kept together", DRIFT_CROSSINGS * _MS),
    ("reserve, in which it is computed", _RESERVE_MS),
)


class Step(NamedTuple):
    """Something to wait for; `start_ms` is the sum of those before it."""

    what: str
    ms: float
    start_ms: float


def ladder() -> list[Step]:
    """The steps of `edge-denoise live` with its defaults, devices at 16 kHz."""
    starts = [sum(ms for _, ms in _WAITS[:i]) for i in range(len(_WAITS))]
    return [Step(what, ms, start) for (what, ms), start in zip(_WAITS, starts, strict=True)]


def total_ms() -> float:
    """From microphone to loudspeaker."""
    return sum(step.ms for step in ladder())
