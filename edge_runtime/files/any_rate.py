"""The denoiser for sound as it comes: any sample rate, any number of channels, as many samples out as in.

repair -> 16 kHz -> one mono denoiser a channel -> back to the rate it came with
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from edge_runtime.denoiser import Denoiser, floats, repair
from edge_runtime.files.resample import Resampler
from edge_runtime.stft import SAMPLE_RATE_HZ, Float32Array, Repairs

_TAIL_S: Final = 0.02  # silence after the end, so that no rounding of two resamplers leaves a sample short


class AnyRateDenoiser:
    """One stream of (n, n_channels) blocks at `rate_hz`. Sample i out is sample i in, some tens of ms later.

    `repairs` counts the input samples, over all channels, that were not fit for the network.
    """

    def __init__(self, denoisers: Sequence[Denoiser], rate_hz: int) -> None:
        self._denoisers = denoisers
        self._rate_hz = rate_hz
        self._down = Resampler(rate_hz, SAMPLE_RATE_HZ, len(denoisers))
        self._up = Resampler(SAMPLE_RATE_HZ, rate_hz, len(denoisers))
        self._n_owed = 0
        self.repairs = Repairs()

    def feed(self, block: Float32Array) -> Float32Array:
        """Take (n, n_channels) float32 and return what is ready, (m, n_channels)."""
        sound = np.array(floats(block))
        self._count(repair(sound))  # before the resampler would smear a NaN
        self._n_owed += len(sound)
        ready = self._up.feed(self._denoise(self._down.feed(sound)))
        self._n_owed -= len(ready)
        return ready

    def flush(self) -> Float32Array:
        """What is still owed. Total out equals total in; the stream cannot be fed again."""
        silence = np.zeros((int(_TAIL_S * self._rate_hz) + 1, len(self._denoisers)), np.float32)
        at_16k = np.concatenate((self._down.feed(silence), self._down.flush()))
        clean = np.concatenate((self._denoise(at_16k), _columns([d.flush() for d in self._denoisers])))
        return np.concatenate((self._up.feed(clean), self._up.flush()))[: self._n_owed]

    def _denoise(self, sound: Float32Array) -> Float32Array:
        return _columns([denoiser.feed(sound[:, c]) for c, denoiser in enumerate(self._denoisers)])

    def _count(self, new: Repairs) -> None:
        old = self.repairs
        self.repairs = Repairs(old.n_nonfinite + new.n_nonfinite, old.n_limited + new.n_limited)


def _columns(channels: list[Float32Array]) -> Float32Array:
    return np.stack(channels, axis=1)
