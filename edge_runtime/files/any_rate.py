"""The denoiser for sound as it comes: any sample rate, any number of channels, as many samples out as in.

repair -> 16 kHz -> one mono denoiser a channel -> back to the rate it came with
repair -> the full band (`edge_runtime.band`) around one mono denoiser a channel
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np

from edge_runtime.band import FULL, SPEECH, Filters, FullBandDenoiser, chosen
from edge_runtime.denoiser import Denoiser, floats, repair
from edge_runtime.files.resample import Resampler
from edge_runtime.stft import SAMPLE_RATE_HZ, Float32Array, Repairs

_TAIL_S: Final = 0.02  # silence after the end, so that no rounding of two resamplers leaves a sample short


class AnyRateDenoiser:
    """One stream of (n, n_channels) blocks at `rate_hz`. Sample i out is sample i in, some tens of ms later.

    `repairs` counts the input samples, over all channels, that were not fit for the network.
    """

    def __init__(self, denoisers: Sequence[Denoiser], rate_hz: int, band: str = SPEECH) -> None:
        """`band` is FULL or SPEECH. Failure: FULL cannot be had; see `band.chosen`."""
        self._stream = (_FullBand if band == FULL else _Resampled)(denoisers, rate_hz)
        self.repairs = Repairs()

    def feed(self, block: Float32Array) -> Float32Array:
        """Take (n, n_channels) float32 and return what is ready, (m, n_channels)."""
        sound = np.array(floats(block))
        self._count(repair(sound))  # before a filter would smear a NaN
        return self._stream.feed(sound)

    def flush(self) -> Float32Array:
        """What is still owed. Total out equals total in; the stream cannot be fed again."""
        return self._stream.flush()

    def _count(self, new: Repairs) -> None:
        old = self.repairs
        self.repairs = Repairs(old.n_nonfinite + new.n_nonfinite, old.n_limited + new.n_limited)


class _FullBand:
    """Channels that keep what is above 8 kHz."""

    def __init__(self, denoisers: Sequence[Denoiser], rate_hz: int) -> None:
        filters = Filters(rate_hz)
        self._channels = [FullBandDenoiser(denoiser, filters) for denoiser in denoisers]

    def feed(self, sound: Float32Array) -> Float32Array:
        return _columns([channel.feed(sound[:, c]) for c, channel in enumerate(self._channels)])

    def flush(self) -> Float32Array:
        return _columns([channel.flush() for channel in self._channels])


class _Resampled:
    """Channels through soxr, there and back."""

    def __init__(self, denoisers: Sequence[Denoiser], rate_hz: int) -> None:
        self._denoisers = denoisers
        self._rate_hz = rate_hz
        self._down = Resampler(rate_hz, SAMPLE_RATE_HZ, len(denoisers))
        self._up = Resampler(SAMPLE_RATE_HZ, rate_hz, len(denoisers))
        self._n_owed = 0

    def feed(self, sound: Float32Array) -> Float32Array:
        self._n_owed += len(sound)
        ready = self._up.feed(self._denoise(self._down.feed(sound)))
        self._n_owed -= len(ready)
        return ready

    def flush(self) -> Float32Array:
        silence = np.zeros((int(_TAIL_S * self._rate_hz) + 1, len(self._denoisers)), np.float32)
        at_16k = np.concatenate((self._down.feed(silence), self._down.flush()))
        clean = np.concatenate((self._denoise(at_16k), _columns([d.flush() for d in self._denoisers])))
        return np.concatenate((self._up.feed(clean), self._up.flush()))[: self._n_owed]

    def _denoise(self, sound: Float32Array) -> Float32Array:
        return _columns([denoiser.feed(sound[:, c]) for c, denoiser in enumerate(self._denoisers)])


class OneChannel(Protocol):
    """A stream of one channel: `Denoiser`, or the same at another rate."""

    def feed(self, samples: Float32Array, /) -> Float32Array:
        """Take (n,), return what is ready."""

    def flush(self) -> Float32Array:
        """What is still owed. Total out equals total in."""


class _Mono:
    def __init__(self, stream: _Resampled) -> None:
        self._stream = stream

    def feed(self, samples: Float32Array) -> Float32Array:
        return self._stream.feed(samples[:, None])[:, 0]

    def flush(self) -> Float32Array:
        return self._stream.flush()[:, 0]


def one_channel(denoiser: Denoiser, rate_hz: int, band: str | None = None) -> OneChannel:
    """The denoiser for one channel at any rate, at 16 kHz itself. Failure: see `band.chosen`."""
    if chosen(band, rate_hz, "--rate") == FULL:
        return FullBandDenoiser(denoiser, Filters(rate_hz))
    return denoiser if rate_hz == SAMPLE_RATE_HZ else _Mono(_Resampled([denoiser], rate_hz))


def _columns(channels: list[Float32Array]) -> Float32Array:
    return np.stack(channels, axis=1)
