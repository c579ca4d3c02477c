"""The players: every clip as sound and spectrogram, so that one can be laid over the other."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from PIL import Image

from edge_runtime.stft import Float32Array
from quant.report.clips import Clip, ClipPart, SignalPart

ROLES: Final = {
    "noisy": "Noisy",
    "fp32": "Float",
    "int8": "8 bits",
    "clean": "Clean",
    "difference": "8 bits − float",
}
FIRST: Final = "int8"  # what is shown and heard first
N_STOPS: Final = 9  # of the scale of colours
WEBP_QUALITY: Final = 70


class Player(NamedTuple):
    """One signal of a clip: `flac` is base64, `picture` a data URI; `key` switches to it."""

    role: str
    title: str
    key: int
    flac: str
    picture: str
    level: SignalPart


class Heard(NamedTuple):
    """A clip with its signals; `x_ticks` are seconds and percent from the left."""

    clip: ClipPart
    players: tuple[Player, ...]
    x_ticks: tuple[tuple[str, float], ...]


def heard(clips: Sequence[Clip], facts: Sequence[ClipPart]) -> list[Heard]:
    """In the order of the report."""
    return [_heard(clip, part) for clip, part in zip(clips, facts, strict=True)]


def gradient() -> str:
    """The colours of the dB scale, quietest first, for CSS."""
    stops = np.rint(255 * _magma(np.linspace(0, 1, N_STOPS, dtype=np.float32))).astype(int)
    return ", ".join(f"#{r:02x}{g:02x}{b:02x}" for r, g, b in stops)


def _heard(clip: Clip, facts: ClipPart) -> Heard:
    levels = {s.role: s for s in facts.signals}
    players = [
        Player(
            role=role,
            title=title,
            key=key,
            flac=base64.b64encode(clip.flac(role)).decode(),
            picture=picture(clip.spectrogram(role)),
            level=levels[role],
        )
        for key, (role, title) in enumerate(ROLES.items(), 1)
        if role in clip.signals
    ]
    return Heard(facts, tuple(players), tuple(_seconds(facts.seconds)))


def _seconds(total: float) -> list[tuple[str, float]]:
    step = next(s for s in (0.25, 0.5, 1.0, 2.0) if total / s <= 6 or s == 2.0)
    return [(f"{i * step:g}", round(100 * i * step / total, 2)) for i in range(int(total / step) + 1)]


def picture(values: Float32Array) -> str:
    """(bins, columns) of 0 to 1 -> data URI. Lossy, a fifth of the bytes: to be looked at, not to be measured."""
    image = Image.fromarray(np.rint(255 * _magma(values)).astype(np.uint8), "RGB")
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=WEBP_QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _magma(values: Float32Array) -> Float32Array:
    """(...) of 0 to 1 -> (..., 3) of 0 to 1."""
    from matplotlib import colormaps

    return np.asarray(colormaps["magma"](values)[..., :3], np.float32)
