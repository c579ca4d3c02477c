"""Between the devices' rates and the network's hops, in fixed memory: what is heard, without or with a full band.

Speech     capture's rate -> 16 kHz -> hops ... mixed hops -> drift of the clocks -> playback's rate
FullBand   capture's rate -> hops ... clean hops -> mixed at capture's rate -> drift of the clocks -> playback's rate
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple, Protocol

import numpy as np

from edge_runtime.band import FULL, SPEECH, Band, Filters, chosen
from edge_runtime.live.sound.fifo import Fifo
from edge_runtime.live.sound.rate import DriftConverter, RateConverter
from edge_runtime.stft import HOP_SAMPLES, LATENCY_SAMPLES, SAMPLE_RATE_HZ, Float32Array


class Lines(NamedTuple):
    """How a hop was mixed: along straight lines from and to so wet, and so loud."""

    wet: tuple[float, float]
    gate: tuple[float, float]


class Bridge(Protocol):
    """One stream a row. `ready` waits for playback, at its rate; `delay_s` is all between capture and it."""

    band: str
    ready: Fifo
    delay_s: float
    drift: DriftConverter

    @property
    def n_wanted(self) -> int:
        """Captured samples that complete the next hop: the first time more, because converters lag."""

    def push(self, streams: Float32Array) -> None:
        """Take (n_streams, n) of capture; `pop` until it says no."""

    def pop(self, hop: Float32Array) -> bool:
        """The next hop into (n_streams, 256), if it is complete."""

    def join(self, clean: Float32Array, mixed: Float32Array, lines: Sequence[Lines]) -> None:
        """The hop denoised, and mixed with what it was, (n_streams, 256)."""


def bridge(asked: str | None, capture_hz: int, playback_hz: int, n_streams: int, n_most: int) -> Bridge:
    """For pushes of at most `n_most`; `asked` as in `band.chosen`. Failure: a full band was asked for in vain."""
    band = chosen(asked, capture_hz) if playback_hz > SAMPLE_RATE_HZ else SPEECH
    return (FullBand if band == FULL else Speech)(capture_hz, playback_hz, n_streams, n_most)


class Speech:
    """What the network hears, and nothing above."""

    band = SPEECH

    def __init__(self, capture_hz: int, playback_hz: int, n_streams: int, n_most: int) -> None:
        self._down = _converter(capture_hz, SAMPLE_RATE_HZ, n_streams, n_most)
        self._up = _converter(SAMPLE_RATE_HZ, playback_hz, n_streams, 2 * HOP_SAMPLES + 64)
        self._noisy, self._clean = (Fifo(n_streams, 4 * HOP_SAMPLES) for _ in range(2))
        self.drift = DriftConverter(n_streams, HOP_SAMPLES)
        self.ready = _queue(playback_hz, n_streams) if self._up else self._clean
        converters_s = sum(one.delay_s for one in (self._down, self._up) if one)
        self.delay_s = (LATENCY_SAMPLES + self.drift.delay_samples) / SAMPLE_RATE_HZ + converters_s

    @property
    def n_wanted(self) -> int:
        n = HOP_SAMPLES - self._noisy.n
        return self._down.n_needed(n) if self._down else n

    def push(self, streams: Float32Array) -> None:
        if self._down:
            self._down.push(streams, self._noisy)
        else:
            self._noisy.push(streams)

    def pop(self, hop: Float32Array) -> bool:
        if self._noisy.n < HOP_SAMPLES:
            return False
        self._noisy.pop(hop)
        return True

    def join(self, clean: Float32Array, mixed: Float32Array, lines: Sequence[Lines]) -> None:
        self.drift.push(mixed, self._clean)
        if self._up:
            self._up.push(self._clean.view(self._clean.n), self.ready)
            self._clean.drop(self._clean.n)


class FullBand:
    """All that capture's rate holds."""

    band = FULL

    def __init__(self, capture_hz: int, playback_hz: int, n_streams: int, n_most: int) -> None:
        filters = Filters(capture_hz)
        self._bands = [Band(filters) for _ in range(n_streams)]
        self._streams = np.zeros((n_streams, 0), np.float32)
        self._joined = np.zeros((n_streams, filters.n_most), np.float32)
        self.drift = DriftConverter(n_streams, filters.n_most)
        self._up = _converter(capture_hz, playback_hz, n_streams, 2 * filters.n_most)
        self._clean = Fifo(n_streams, 4 * filters.n_most)
        self.ready = _queue(playback_hz, n_streams) if self._up else self._clean
        at_capture = (filters.n_latency + self.drift.delay_samples) / capture_hz
        self.delay_s = at_capture + (self._up.delay_s if self._up else 0.0)

    @property
    def n_wanted(self) -> int:
        return self._bands[0].n_wanted

    def push(self, streams: Float32Array) -> None:
        self._streams = streams

    def pop(self, hop: Float32Array) -> bool:
        n = 0
        for band, stream, out in zip(self._bands, self._streams, hop, strict=True):
            n = band.push(stream)
            out[:] = band.hop
        self._streams = self._streams[:, n:]
        return self._bands[0].is_whole

    def join(self, clean: Float32Array, mixed: Float32Array, lines: Sequence[Lines]) -> None:
        n = 0
        for band, hop, line, out in zip(self._bands, clean, lines, self._joined, strict=True):
            joined = band.join(hop, *line)
            n = len(joined)
            out[:n] = joined
        self.drift.push(self._joined[:, :n], self._clean)
        if self._up:
            self._up.push(self._clean.view(self._clean.n), self.ready)
            self._clean.drop(self._clean.n)


def _queue(rate_hz: int, n_rows: int) -> Fifo:
    return Fifo(n_rows, 2 * ceil(3 * HOP_SAMPLES * rate_hz / SAMPLE_RATE_HZ))


def _converter(from_hz: int, to_hz: int, n_rows: int, n_block: int) -> RateConverter | None:
    return RateConverter(from_hz, to_hz, n_rows, n_block) if from_hz != to_hz else None
