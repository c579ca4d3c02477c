"""Streaming short-time Fourier transform: one hop of samples <-> one spectrum.

Frame k covers hops k-1 and k (hop -1 is silence), which is torch.stft(n_fft=512, hop_length=256,
window=..., center=True, pad_mode="constant"); the synthesis is the matching istft. Which window is the network's to
say: it hears the spectra that it was trained on. Analysis, then synthesis, returns the input, LATENCY_SAMPLES later.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

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

WindowName = Literal["sqrt_hann", "hann"]
SQRT_HANN: Final = "sqrt_hann"  # GTCRN's, and of every artifact that names none
HANN: Final = "hann"


class Repairs(NamedTuple):
    """How many samples were not fit for the network."""

    n_nonfinite: int = 0
    n_limited: int = 0


class Window(NamedTuple):
    """What a frame is multiplied by before its transform, and after the inverse one; (512,) each."""

    analysis: Float32Array
    synthesis: Float32Array


def window(name: WindowName) -> Window:
    """The periodic window. For synthesis it is divided by the sum of the squared windows that lie over a sample, as in
    istft: w(n)^2 + w(n + 256)^2, which is 1 for the root of Hann, 1/2 to 1 for Hann."""
    phase = 2 * np.pi * np.arange(WINDOW_SAMPLES) / WINDOW_SAMPLES
    hann = 0.5 - 0.5 * np.cos(phase)
    w = np.sqrt(hann) if name == SQRT_HANN else hann
    squares = w**2 + np.roll(w, HOP_SAMPLES) ** 2
    return Window(w.astype(np.float32), (w / squares).astype(np.float32))


class Analysis:
    """Hops in, spectra out. Carries the previous hop."""

    def __init__(self, name: WindowName = SQRT_HANN) -> None:
        self._window = window(name).analysis
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

    def __init__(self, name: WindowName = SQRT_HANN) -> None:
        self._window = window(name).synthesis
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
