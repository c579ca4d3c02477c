"""Streaming conversion between sample rates; output sample 0 is input sample 0: soxr drops its own delay."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_runtime.stft import Float32Array


class Resampler:
    """Blocks of (n, n_channels) float32 in and out; at equal rates it hands them through.

    The total length is that of the input times the ratio of the rates, to within one sample.
    """

    def __init__(self, from_hz: int, to_hz: int, n_channels: int) -> None:
        self._n_channels = n_channels
        self._stream = _soxr_stream(from_hz, to_hz, n_channels) if from_hz != to_hz else None

    def feed(self, block: Float32Array) -> Float32Array:
        """Take a block and return what is ready."""
        return self._convert(block, last=False)

    def flush(self) -> Float32Array:
        """What is left at the end of the input."""
        return self._convert(np.empty((0, self._n_channels), np.float32), last=True)

    def _convert(self, block: Float32Array, *, last: bool) -> Float32Array:
        if self._stream is None:
            return block
        out: Float32Array = self._stream.resample_chunk(np.ascontiguousarray(block), last=last)
        return out.reshape(-1, self._n_channels)


def _soxr_stream(from_hz: int, to_hz: int, n_channels: int) -> Any:
    import soxr

    return soxr.ResampleStream(from_hz, to_hz, n_channels, dtype="float32", quality="HQ")
