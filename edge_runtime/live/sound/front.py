"""The microphone as it should be: without offset and rumble, loud enough for the network, at the rate of capture.

High-pass   Butterworth, second order (`native/band/ed_front.c`). "auto" measures what lies below 30 Hz: it is on for
            good where that is above FAINT_DBFS and within NEAR_DB of all the rest, as it is in a pause
Gain        a number of dB, or "auto": slow, at most MOST_GAIN_DB, and only while the network says that somebody speaks,
            so that noise is never pumped up; at once down where a sample would be beyond full scale

What needs neither is handed through bit for bit.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_runtime.live.control.controls import LOWEST_DBFS, dbfs
from edge_runtime.live.sound.library import sound_library
from edge_runtime.native import Front
from edge_runtime.stft import HOP_SAMPLES, SAMPLE_RATE_HZ, Float32Array

HIGHPASS_HZ: Final = 60.0  # below it nobody speaks
FAINT_DBFS: Final = -60.0
NEAR_DB: Final = 6.0
_MEASURED_S: Final = 0.5  # until the high-pass has settled and its measure holds
_HOP_S: Final = HOP_SAMPLES / SAMPLE_RATE_HZ
TARGET_DBFS: Final = -26.0  # of speech: the level of the recordings that networks are trained with
MOST_GAIN_DB: Final = 30.0
RISE_DB_S, FALL_DB_S = 3.0, 6.0
_SPEECH_S: Final = 1.0  # time constant of its level
_KEPT_DB: Final = 6.0  # of a hop: where the network takes more, it is noise
_HEARD_DBFS: Final = -75.0  # of speech, before the gain
_FULL_SCALE: Final = 0.9


@dataclass(frozen=True, kw_only=True)
class FrontSettings:
    """`highpass_hz` and `gain_db` None mean auto; 0 is off."""

    highpass_hz: float | None = None
    gain_db: float | None = 0.0


class AutoGain:
    """The gain for speech of any level, learned from hops before and after the network."""

    def __init__(self) -> None:
        self.gain_db = 0.0
        self._speech_power = 0.0

    def learn(self, noisy_dbfs: float, clean_dbfs: float) -> None:
        """A hop as it came, the gain in it, and denoised."""
        before_dbfs = clean_dbfs - self.gain_db
        if clean_dbfs < noisy_dbfs - _KEPT_DB or before_dbfs < _HEARD_DBFS:
            return
        power, weight = 10 ** (before_dbfs / 10), _HOP_S / _SPEECH_S
        self._speech_power += (power - self._speech_power) * (weight if self._speech_power else 1.0)
        wanted_db = min(MOST_GAIN_DB, max(0.0, TARGET_DBFS - dbfs(self._speech_power)))
        step_db = min(RISE_DB_S * _HOP_S, max(-FALL_DB_S * _HOP_S, wanted_db - self.gain_db))
        self.gain_db += step_db

    def limit(self, peak: float) -> None:
        """At once down, so that `peak` of the sound as it came stays below full scale."""
        if peak > 0:
            self.gain_db = min(self.gain_db, max(0.0, -20 * float(np.log10(peak / _FULL_SCALE))))


class FrontEnd:
    """All streams of one device. Nothing is allocated after it was made."""

    def __init__(self, settings: FrontSettings, rate_hz: int, n_streams: int) -> None:
        """Failure: the native library is not here."""
        self._settings, self._rate_hz = settings, rate_hz
        self.auto = AutoGain() if settings.gain_db is None else None
        self.gain_db = settings.gain_db or 0.0
        self.highpass_hz = settings.highpass_hz or 0.0  # in use; 0: none
        self.below_dbfs = LOWEST_DBFS  # what lies below 30 Hz
        self._share, self._gain = float(self.highpass_hz > 0), 10 ** (self.gain_db / 20)
        self._n_heard = 0
        self._power_below = self._passed = 0.0
        self._library = sound_library()
        self._fronts = [Front() for _ in range(n_streams)]
        self._lines, self._below = np.zeros(4, np.float32), ctypes.c_double()
        for front in self._fronts:
            self._library.ed_front_init(ctypes.byref(front), rate_hz, settings.highpass_hz or HIGHPASS_HZ)

    def run(self, streams: Float32Array) -> None:
        """(n_streams, n), in place."""
        if not streams.shape[1]:
            return
        if self.auto:
            self.auto.limit(max(float(streams.max()), -float(streams.min())))
            self.gain_db = self.auto.gain_db
        gain = 10 ** (self.gain_db / 20)
        share = float(self.highpass_hz > 0)
        self._lines[:] = self._share, share, self._gain, gain
        self._share, self._gain = share, gain
        passed = below = 0.0
        for front, stream in zip(self._fronts, streams, strict=True):
            n, to, below_to = len(stream), ctypes.byref(front), ctypes.byref(self._below)
            energy = self._library.ed_front_run(to, stream.ctypes.data, n, self._lines.ctypes.data, below_to)
            passed, below = max(passed, energy / n), max(below, self._below.value / n)
        self._measure(passed, below, streams.shape[1])

    def _measure(self, passed: float, below: float, n: int) -> None:
        self._n_heard += n
        if self._n_heard < _MEASURED_S * self._rate_hz:
            return
        weight = min(1.0, n / self._rate_hz) if self._power_below else 1.0
        self._passed += (passed - self._passed) * weight
        self._power_below += (below - self._power_below) * weight
        self.below_dbfs = dbfs(self._power_below)
        is_needed = self.below_dbfs >= max(FAINT_DBFS, dbfs(self._passed) - NEAR_DB)
        if self._settings.highpass_hz is None and is_needed:
            self.highpass_hz = HIGHPASS_HZ

    def learn(self, noisy_dbfs: Sequence[float], clean_dbfs: Sequence[float]) -> None:
        """The levels of a hop's streams before and after the network."""
        if self.auto:
            k = int(np.argmax(clean_dbfs))
            self.auto.learn(noisy_dbfs[k], clean_dbfs[k])

    @property
    def note(self) -> str:
        """What "auto" has found; "" for nothing."""
        if self._settings.highpass_hz is None and self.highpass_hz:
            what = f"offset or rumble of {self.below_dbfs:.0f} dBFS is taken off"
            return f"{what}; --highpass {self.highpass_hz:.0f} says so for good, off leaves it"
        return ""
