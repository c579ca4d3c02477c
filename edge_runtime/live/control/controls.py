"""What a listener may set while the denoiser runs, and the mix that it makes. The LADSPA plugin computes the same.

    wet = strength (1 - 10^(-limit_db / 20)), 0 in bypass; no limit is a limit of infinitely many dB
    out = ((1 - wet) dry + wet clean) gate

`dry` is the noisy signal LATENCY_SAMPLES late, so that it lies in phase with `clean`. `wet` and `gate` move to a new
value along a straight line of one hop: whatever is set, a sample never jumps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, log10
from typing import Any, Final, NamedTuple

import numpy as np

from edge_runtime.stft import HOP_SAMPLES, LATENCY_SAMPLES, SAMPLE_RATE_HZ, Float32Array

GATE_HOLD_MS: Final = 200.0
LOWEST_DBFS: Final = -120.0  # digital silence, for people and for JSON
OFFSET_DBFS: Final = -46.0  # of a microphone, half a percent: from here on it is worth a word
_OFFSET_HOPS: Final = 64  # time constant of an offset's mean: a second
_HOLD_HOPS: Final = round(GATE_HOLD_MS * SAMPLE_RATE_HZ / 1000 / HOP_SAMPLES)


class Settings(NamedTuple):
    """strength 0 to 1; limit_db 0 (nothing is removed) to inf (off); the gate closes below gate_dbfs, -inf is off."""

    strength: float = 1.0
    limit_db: float = inf
    bypass: bool = False
    gate_dbfs: float = -inf

    @property
    def wet(self) -> float:
        """How much of the output is the denoiser's."""
        return 0.0 if self.bypass else self.strength * (1.0 - 10.0 ** (-self.limit_db / 20.0))


def plain(settings: Settings) -> dict[str, Any]:
    """For JSON: what is off is None."""
    return {name: None if abs(value) == inf else value for name, value in settings._asdict().items()}


def of_plain(values: Mapping[str, Any]) -> Settings:
    """The settings that `plain` told. ValueError: a value is out of its range."""
    off = Settings()
    settings = Settings(**{name: getattr(off, name) if value is None else value for name, value in values.items()})
    check(settings)
    return settings


def check(settings: Settings) -> None:
    """ValueError, in one sentence: a value is out of its range."""
    if not 0.0 <= settings.strength <= 1.0:
        raise ValueError(f"strength is {settings.strength}, it goes from 0 to 1")
    if not settings.limit_db >= 0.0:
        raise ValueError(f"limit_db is {settings.limit_db}, it goes from 0 up; off is no limit")
    if not settings.gate_dbfs <= 0.0:
        raise ValueError(f"gate_dbfs is {settings.gate_dbfs}, it goes from 0 down; off is no gate")


def dbfs(power: float) -> float:
    """10 log10, no lower than LOWEST_DBFS."""
    return max(LOWEST_DBFS, 10.0 * log10(power)) if power > 0.0 else LOWEST_DBFS


def level_dbfs(samples: Float32Array) -> float:
    """Root mean square of (n,) samples in dB of full scale, no lower than LOWEST_DBFS."""
    return dbfs(float(samples.dot(samples)) / max(1, samples.size))


def mean_dbfs(levels_dbfs: Sequence[float]) -> float:
    """Of their powers."""
    return dbfs(sum(10 ** (level / 10) for level in levels_dbfs) / len(levels_dbfs))


class Meter:
    """Levels of one stream, a hop at a time. The offset of a microphone is no sound and is left out: the mean, which
    follows within some seconds."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Nothing was heard."""
        self.offset = 0.0

    def push(self, hop: Float32Array) -> float:
        """Take a hop, (n,), and return its level."""
        mean, power = float(hop.sum()) / hop.size, float(hop.dot(hop)) / hop.size
        self.offset += (mean - self.offset) / _OFFSET_HOPS
        return dbfs(power - 2 * mean * self.offset + self.offset * self.offset)

    @property
    def offset_dbfs(self) -> float:
        """How large the offset is."""
        return dbfs(self.offset * self.offset)


class Mixer:
    """The controls of one stream. Nothing is allocated after it was made."""

    def __init__(self) -> None:
        self._recent = np.zeros(LATENCY_SAMPLES + HOP_SAMPLES, np.float32)
        self._line = np.arange(1, HOP_SAMPLES + 1, dtype=np.float32) / np.float32(HOP_SAMPLES)
        self._ramp = np.zeros(HOP_SAMPLES, np.float32)
        self._wet_part = np.zeros(HOP_SAMPLES, np.float32)
        self._clean_meter = Meter()
        self.clean_dbfs = LOWEST_DBFS  # of the last clean hop
        self.reset()

    def reset(self) -> None:
        """As new: silence behind, everything wet, the gate open."""
        self._recent.fill(0)
        self.wet = 1.0
        self.gate = 1.0
        self._n_quiet = 0
        self._clean_meter.reset()

    @property
    def dry(self) -> Float32Array:
        """The noisy hop that lies in phase with the clean one of the last `mix`, (256,)."""
        return self._recent[:HOP_SAMPLES]

    def delay(self, noisy: Float32Array) -> None:
        """Take the next noisy hop, (256,): from now on `dry` is what came LATENCY_SAMPLES before it."""
        self._recent[:LATENCY_SAMPLES] = self._recent[HOP_SAMPLES:]
        self._recent[LATENCY_SAMPLES:] = noisy

    def mix(self, clean: Float32Array, wet: float, gate_dbfs: float, out: Float32Array) -> None:
        """Mix `dry` and the clean hop, (256,), into `out`, moving to `wet`; `gate_dbfs` is -inf for no gate."""
        self._move(self.wet, wet)
        self.wet = wet
        np.multiply(clean, self._ramp, out=self._wet_part)
        np.subtract(1, self._ramp, out=self._ramp)
        np.multiply(self.dry, self._ramp, out=out)
        out += self._wet_part
        self._close_or_open(clean, gate_dbfs, out)

    def _close_or_open(self, clean: Float32Array, gate_dbfs: float, out: Float32Array) -> None:
        self.clean_dbfs = self._clean_meter.push(clean)  # always: an offset is learned while the gate is off
        self._n_quiet = 0 if self.clean_dbfs >= gate_dbfs else self._n_quiet + 1
        gate = 0.0 if self._n_quiet > _HOLD_HOPS else 1.0
        if gate != 1.0 or self.gate != 1.0:
            self._move(self.gate, gate)
            out *= self._ramp
        self.gate = gate

    def _move(self, start: float, end: float) -> None:
        """The ramp from after `start` to `end`; exactly `end` at its end, and everywhere if they are equal."""
        if start == end:
            self._ramp.fill(end)
            return
        np.multiply(self._line, end - start, out=self._ramp)
        self._ramp += start
        self._ramp[-1] = end
