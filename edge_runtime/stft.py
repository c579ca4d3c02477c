"""Streaming short-time Fourier transform: one hop of samples <-> one spectrum.

Frame k covers hops k-1 and k (hop -1 is silence), which is torch.stft(n_fft=512, hop_length=256,
window=sqrt(hann), center=True, pad_mode="constant"); the synthesis is the matching istft. The squared windows
of neighbouring frames add up to one: analysis, then synthesis, returns the input, LATENCY_SAMPLES later.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

SAMPLE_RATE_HZ: Final = 16_000
HOP_SAMPLES: Final = 256
WINDOW_SAMPLES: Final = 512
N_BINS: Final = 257

# A sample is final once both frames that cover it are in: the second half of a window waits for the next hop.
LATENCY_SAMPLES: Final = WINDOW_SAMPLES - HOP_SAMPLES

# Full scale is 1. Eight times that is never speech, and keeps every value of the network far from overflow.
INPUT_LIMIT: Final = 8.0

Float32Array = npt.NDArray[np.float32]


class Repairs(NamedTuple):
    """How many samples were not fit for the network."""

    n_nonfinite: int = 0
    n_limited: int = 0


def sqrt_hann() -> Float32Array:
    """The periodic sqrt-Hann window, (512,)."""
    phase = 2 * np.pi * np.arange(WINDOW_SAMPLES) / WINDOW_SAMPLES
    window: Float32Array = np.sqrt(0.5 - 0.5 * np.cos(phase)).astype(np.float32)
    return window


class Analysis:
    """Hops in, spectra out. Carries the previous hop."""

    def __init__(self) -> None:
        self._window = sqrt_hann()
        self._recent = np.zeros(WINDOW_SAMPLES, np.float32)
        self._windowed = np.empty(WINDOW_SAMPLES, np.float32)

    def reset(self) -> None:
        """Back to silence."""
        self._recent.fill(0)

    def push(self, hop: Float32Array, spectrum_out: Float32Array) -> None:
        """Take the next hop, (256,), and write its spectrum, (257, 2) real and imaginary, C-contiguous."""
        self._recent[:HOP_SAMPLES] = self._recent[HOP_SAMPLES:]
        self._recent[HOP_SAMPLES:] = hop
        np.multiply(self._recent, self._window, out=self._windowed)
        spectrum_out.view(np.complex64)[:, 0] = np.fft.rfft(self._windowed)


class Synthesis:
    """Spectra in, hops out, LATENCY_SAMPLES behind. Carries the second half of the previous frame."""

    def __init__(self) -> None:
        self._window = sqrt_hann()
        self._frame = np.empty(WINDOW_SAMPLES, np.float32)
        self._tail = np.zeros(HOP_SAMPLES, np.float32)

    def reset(self) -> None:
        """Back to silence."""
        self._tail.fill(0)

    def push(self, spectrum: Float32Array, hop_out: Float32Array) -> None:
        """Take the next spectrum, (257, 2) C-contiguous, and write the hop it completes, (256,)."""
        self._frame[:] = np.fft.irfft(spectrum.view(np.complex64)[:, 0], WINDOW_SAMPLES)
        self._frame *= self._window
        np.add(self._tail, self._frame[:HOP_SAMPLES], out=hop_out)
        self._tail[:] = self._frame[HOP_SAMPLES:]
