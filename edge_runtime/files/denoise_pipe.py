"""`edge-denoise pipe`: raw samples in, raw samples out, for programs that take a microphone as a command.

Signed 16-bit little-endian, mono, 16 kHz unless told. Every hop is written the moment it is whole: sample i comes out
when sample i + LATENCY_SAMPLES and the rest of its hop are in, 16 to 32 ms behind; at other rates filters add 7 ms.
As many samples out as in.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from edge_runtime.errors import Failure
from edge_runtime.files import mp3
from edge_runtime.files.any_rate import OneChannel
from edge_runtime.stft import Float32Array

_READ_BYTES: Final = 1 << 16  # at most; a live source gives what it has
_FULL_SCALE: Final = 32768.0
_SAMPLE: Final = np.dtype("<i2")
_HEAD_BYTES: Final = 12  # a hop has 512: nothing waits for them
_MARKS: Final = (
    ("WAV", 8, b"WAVE"),
    ("FLAC", 0, b"fLaC"),
    ("Ogg", 0, b"OggS"),
    ("MP3", 0, b"ID3"),
    ("AIFF", 0, b"FORM"),
    ("AU", 0, b".snd"),
    ("CAF", 0, b"caff"),
    ("Wave64", 0, b"riff"),
    ("MP4", 4, b"ftyp"),
    ("WebM", 0, b"\x1a\x45\xdf\xa3"),
)


class PipeSummary(NamedTuple):
    """`n_clipped` output samples were beyond full scale."""

    n_samples: int
    n_clipped: int


def denoise_pipe(source_fd: int, sink_fd: int, denoiser: OneChannel) -> PipeSummary:
    """Until the source ends. Failure: it is a sound file, it ends within a sample, or the sink is a terminal."""
    if os.isatty(sink_fd):
        raise Failure("standard output is a terminal, not for samples", remedy="pipe it into a program or a file")
    rest, n_samples, n_clipped = b"", 0, 0
    for chunk in _chunks(source_fd):
        data = rest + chunk
        n_whole = len(data) - len(data) % _SAMPLE.itemsize
        rest, n_samples = data[n_whole:], n_samples + n_whole // _SAMPLE.itemsize
        n_clipped += _write(sink_fd, denoiser.feed(_from_pcm(data[:n_whole])))
    n_clipped += _write(sink_fd, denoiser.flush())
    if rest:
        raise Failure("ends within a sample", where="standard input", remedy="send signed 16-bit samples")
    return PipeSummary(n_samples, n_clipped)


def _chunks(fd: int) -> Iterator[bytes]:
    """What comes, as it comes; of the first so much that a sound file would be known. Failure: it is one."""
    head = b""
    while len(head) < _HEAD_BYTES and (data := os.read(fd, _READ_BYTES)):
        head += data
    if kind := file_kind(head):
        wav = "`arecord -t raw` sends samples without; for a file: " if kind == "WAV" else ""
        what = f"a {kind} file, not raw signed 16-bit samples at 16 kHz"
        raise Failure(what, where="standard input", remedy=f"{wav}`edge-denoise file IN OUT`")
    yield head
    while data := os.read(fd, _READ_BYTES):
        yield data


def file_kind(head: bytes) -> str | None:
    """The sound file that begins so; None: it may be samples.

    Four given bytes are two samples that noise has once in 4 billion starts; an MP3 without tags has but eleven bits,
    so it must show a second frame where its first ends.
    """
    for kind, place, mark in _MARKS:
        if head[place : place + len(mark)] == mark:
            return kind
    n_frame = mp3.frame_bytes(head)
    return "MP3" if n_frame and mp3.frame_bytes(head[n_frame:]) else None


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
