"""The picture at the head of README.md, and its three sounds: python docs/img/hero.py build/rpi4

Noisy speech that comes with the embedded default (six seconds; see NOTICE), denoised by the float and the 8-bit model
of an artifact; one scale of colours for all three.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import soundfile
from PIL import Image

from edge_runtime import Denoiser
from edge_runtime.stft import SAMPLE_RATE_HZ
from quant.inputs.source import open_source

HERE = Path(__file__).parent
CLIP = 1  # of the three that are there: speech throughout
BLUR = 256  # samples between the columns of a spectrogram
FLOOR_DB, CEILING_DB = -80, -10  # 0 dB: the loudest bin of the noisy one
TITLES = {"noisy": "noisy", "float": "denoised, float", "int8": "denoised, 8 bits"}
THEMES = {"light": ("#ffffff", "#1f2328"), "dark": ("#0d1117", "#e6edf3")}


def denoised(precision: str, noisy: np.ndarray) -> np.ndarray:
    """In time with the noisy sound."""
    denoiser = Denoiser.open(sys.argv[1], engine="native", precision=precision)
    return np.concatenate([denoiser.feed(noisy), denoiser.flush()])[: len(noisy)]


def power_db(sound: np.ndarray) -> np.ndarray:
    """(257, columns)."""
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(sound, 256), 512)[::BLUR] * np.hanning(512)
    return 20 * np.log10(np.abs(np.fft.rfft(frames)).T + 1e-9)


noisy = open_source(None, None, print).noisy[CLIP]
sounds = {"noisy": noisy, "float": denoised("fp32", noisy), "int8": denoised("int8", noisy)}
loudest = power_db(noisy).max()
for name, sound in sounds.items():
    soundfile.write(HERE / f"hero-{name}.flac", sound, SAMPLE_RATE_HZ, "PCM_16")
for theme, (background, ink) in THEMES.items():
    figure, axes = plt.subplots(1, 3, figsize=(10, 2.6), sharey=True, layout="constrained", facecolor=background)
    for axis, (name, sound) in zip(axes, sounds.items(), strict=True):
        picture = axis.imshow(
            power_db(sound) - loudest,
            origin="lower",
            aspect="auto",
            extent=(0, len(sound) / SAMPLE_RATE_HZ, 0, SAMPLE_RATE_HZ / 2000),
            cmap="magma",
            vmin=FLOOR_DB,
            vmax=CEILING_DB,
        )
        axis.set_title(TITLES[name], color=ink, fontsize=12)
        axis.set_xlabel("s", color=ink)
        axis.tick_params(colors=ink)
    axes[0].set_ylabel("kHz", color=ink)
    bar = figure.colorbar(picture, ax=axes, pad=0.01)
    bar.ax.tick_params(colors=ink)
    bar.set_label("dB", color=ink)
    drawn = HERE / f"hero-{theme}.png"
    figure.savefig(drawn, dpi=110, facecolor=background)
    plt.close(figure)
    Image.open(drawn).convert("RGB").quantize(64).save(drawn, optimize=True)  # a third of the bytes
