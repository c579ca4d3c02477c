"""What training minimises: distances between spectra, compressed as the ear compresses, and SI-SNR of the samples.

The hybrid loss is the paper's (section 3.3) with the weights of the official `loss.py`: 30 on the compressed real and
imaginary parts, 70 on the compressed magnitude, 1 on SI-SNR. Spectra are (batch, 2, frames, 257), real and imaginary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from edge_runtime.stft import HOP_SAMPLES, WINDOW_SAMPLES, WindowName, window
from quant.network.spectra import compressed

COMPLEX_WEIGHT, MAGNITUDE_WEIGHT = 30.0, 70.0


def hybrid(enhanced: Tensor, clean: Tensor, name: WindowName) -> Tensor:
    """Compressed spectral distance plus negative SI-SNR, of spectra through the window `name`; a scalar."""
    return spectral(enhanced, clean) + si_snr(samples(enhanced, name), samples(clean, name))


def spectral(enhanced: Tensor, clean: Tensor) -> Tensor:
    """Mean squared error of the compressed complex spectrum and of the compressed magnitude, weighted; a scalar."""
    (e, e_magnitude), (c, c_magnitude) = (compressed(x) for x in (enhanced, clean))
    parts = 2 * torch.mean((e - c) ** 2)  # real plus imaginary: a mean over both is half of it
    return COMPLEX_WEIGHT * parts + MAGNITUDE_WEIGHT * torch.mean((e_magnitude - c_magnitude) ** 2)


def si_snr(enhanced: Tensor, clean: Tensor) -> Tensor:
    """-log10 of the scale-invariant signal to noise ratio of samples (batch, n), the mean over the batch."""
    energy = (clean * clean).sum(-1, keepdim=True) + 1e-8
    target = (enhanced * clean).sum(-1, keepdim=True) / energy * clean
    noise = ((enhanced - target) ** 2).sum(-1) + 1e-8
    return -torch.log10((target * target).sum(-1) / noise + 1e-8).mean()


def samples(spectrum: Tensor, name: WindowName) -> Tensor:
    """(batch, 2, frames, 257) -> (batch, (frames - 1) * hop): overlap-add, without the half window at either end."""
    w = torch.from_numpy(window(name).synthesis).to(spectrum.device)
    frames = torch.fft.irfft(torch.complex(spectrum[:, 0], spectrum[:, 1]), WINDOW_SAMPLES) * w
    hops: Tensor = frames[:, :-1, HOP_SAMPLES:] + frames[:, 1:, :HOP_SAMPLES]
    return hops.flatten(1)
