"""Whole recordings as spectra, for calibration and measurement; the runtime's own windows (`edge_runtime.stft`)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from edge_runtime.stft import HOP_SAMPLES, WINDOW_SAMPLES, Float32Array, WindowName, window

COMPRESSION = 0.3  # magnitude ** 0.3


def analyse(samples: Float32Array, name: WindowName) -> Float32Array:
    """(..., n) samples -> (..., 2, frames, 257): what a stream sees from its start, padded to whole hops, through the
    window `name`."""
    n = samples.shape[-1]
    before, after = WINDOW_SAMPLES - HOP_SAMPLES, -n % HOP_SAMPLES
    padded = np.pad(samples, [(0, 0)] * (samples.ndim - 1) + [(before, after)])
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW_SAMPLES, -1)[..., ::HOP_SAMPLES, :]
    spectrum = np.fft.rfft(frames * window(name).analysis)
    return np.stack([spectrum.real, spectrum.imag], -3).astype(np.float32)


def compressed(spectrum: Tensor) -> tuple[Tensor, Tensor]:
    """(spectrum with compressed magnitude, that magnitude (batch, 1, frames, 257)): loudness grows about so."""
    magnitude = torch.sqrt((spectrum * spectrum).sum(1, keepdim=True) + 1e-12)
    return spectrum * magnitude ** (COMPRESSION - 1), magnitude**COMPRESSION
