"""`edge-denoise pipe`: raw samples in, raw samples out, for programs that take a microphone as a command.

Signed 16-bit little-endian, 16 kHz, mono. Every hop is written the moment it is whole: sample i comes out when sample
i + LATENCY_SAMPLES and the rest of its hop are in, 16 to 32 ms behind. As many samples out as in.
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple

import numpy as np

from edge_runtime.denoiser import Denoiser
from edge_runtime.errors import Failure
from edge_runtime.stft import Float32Array

_READ_BYTES: Final = 1 << 16  # at most; a live source gives what it has
_FULL_SCALE: Final = 32768.0
_SAMPLE: Final = np.dtype("<i2")


class PipeSummary(NamedTuple):
    """`n_clipped` output samples were beyond full scale."""

    n_samples: int
    n_clipped: int


def denoise_pipe(source_fd: int, sink_fd: int, denoiser: Denoiser) -> PipeSummary:
    """Until the source ends. Failure: it ends within a sample, or the sink is a terminal."""
    if os.isatty(sink_fd):
        raise Failure("standard output is a terminal, not for samples", remedy="pipe it into a program or a file")
    rest, n_samples, n_clipped = b"", 0, 0
    while data := os.read(source_fd, _READ_BYTES):
        data = rest + data
        n_whole = len(data) - len(data) % _SAMPLE.itemsize
        rest, n_samples = data[n_whole:], n_samples + n_whole // _SAMPLE.itemsize
        n_clipped += _write(sink_fd, denoiser.feed(_from_pcm(data[:n_whole])))
    n_clipped += _write(sink_fd, denoiser.flush())
    if rest:
        raise Failure("ends within a sample", where="standard input", remedy="send signed 16-bit samples")
    return PipeSummary(n_samples, n_clipped)


def _from_pcm(data: bytes) -> Float32Array:
    samples: Float32Array = np.frombuffer(data, _SAMPLE).astype(np.float32) / np.float32(_FULL_SCALE)
    return samples


def _write(fd: int, samples: Float32Array) -> int:
    """All of it; returns how many samples were clipped."""
    scaled = np.rint(samples * np.float32(_FULL_SCALE))
    pcm = np.clip(scaled, -_FULL_SCALE, _FULL_SCALE - 1)
    data = memoryview(pcm.astype(_SAMPLE).tobytes())
    while data:
        data = data[os.write(fd, data) :]
    return int(np.count_nonzero(scaled != pcm))
