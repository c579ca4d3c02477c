"""Device samples to float32 and back, in fixed memory: (n, n_channels) interleaved <-> (n_channels, n) in [-1, 1).

A sample that a device stores comes back as the same sample; beyond full scale it is clipped. FLOAT_LE is neither scaled
nor clipped.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_runtime.alsa.pcm import Block, SampleFormat
from edge_runtime.stft import Float32Array

_BITS: Final = {"S16_LE": 16, "S24_LE": 24, "S24_3LE": 24, "S32_LE": 32}


class SampleConverter:
    """For blocks of at most `n_most` pcm_frames of one format."""

    def __init__(self, sample_format: SampleFormat, n_channels: int, n_most: int) -> None:
        self._name = sample_format.name
        self._is_float = self._name not in _BITS
        bits = _BITS.get(self._name, 32)
        self._full_scale = 2.0 ** (bits - 1)
        self._scaled = np.zeros((n_most, n_channels), np.float64)
        self._words = np.zeros((n_most, n_channels), "<i4")  # 24 bits, in the upper three bytes to read their sign
        self._bytes: npt.NDArray[Any] = self._words.view("u1").reshape(n_most, n_channels, 4)

    def decode(self, block: Block, out: Float32Array) -> None:
        """(n, n_channels), S24_3LE (n, n_channels, 3), into (n_channels, n)."""
        n = len(block)
        if self._is_float:
            out[:] = block.T
        elif self._name in ("S16_LE", "S32_LE"):
            np.multiply(block, 1 / self._full_scale, out=self._scaled[:n])
            out[:] = self._scaled[:n].T
        else:
            if self._name == "S24_LE":
                np.left_shift(block, 8, out=self._words[:n])  # what the fourth byte holds is not defined
            else:
                self._words[:n] = 0
                self._bytes[:n, :, 1:] = block
            np.multiply(self._words[:n], 2.0**-31, out=self._scaled[:n])
            out[:] = self._scaled[:n].T

    def encode(self, rows: Float32Array, block: Block) -> None:
        """(n_channels, n) into (n, n_channels), S24_3LE (n, n_channels, 3)."""
        n = len(block)
        if self._is_float:
            block[:] = rows.T
            return
        scaled = self._scaled[:n]
        np.multiply(rows.T, self._full_scale, out=scaled)
        np.rint(scaled, out=scaled)
        np.clip(scaled, -self._full_scale, self._full_scale - 1, out=scaled)
        if self._name == "S24_3LE":
            self._words[:n] = scaled
            block[:] = self._bytes[:n, :, :3]
        else:
            block[:] = scaled
