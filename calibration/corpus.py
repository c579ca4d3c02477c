"""A folder of recordings, read as mono float32 at 16 kHz in an order that no file system can change."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from edge_runtime.errors import Failure
from edge_runtime.quiet import quiet_stderr
from edge_runtime.stft import SAMPLE_RATE_HZ, Float32Array

SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".mp3"})
SHORTEST_S = 5.0


@dataclass(frozen=True)
class Corpus:
    """The recordings under one folder; `names` are sorted paths below it, with forward slashes."""

    folder: Path
    names: tuple[str, ...]
    duration_s: float

    @classmethod
    def open(cls, folder: str | Path) -> Corpus:
        """Find the recordings under `folder`, at any depth; only their headers are read.

        Fails on a missing folder, one without audio, an unreadable header, or less than 5 s in total.
        """
        root = Path(folder)
        if not root.is_dir():
            raise Failure("no such folder", where=root, remedy="name a folder of recordings")
        names = tuple(sorted(_recordings(root)))
        if not names:
            raise Failure("no recordings in it", where=root, remedy=f"put in some {_formats()} files")
        duration_s = sum(_duration_s(root / name) for name in names)
        if duration_s < SHORTEST_S:
            shortage = f"holds only {duration_s:.1f} s of audio"
            raise Failure(shortage, where=root, remedy=f"at least {SHORTEST_S:.0f} s are needed")
        return cls(root, names, duration_s)

    def read(self, name: str) -> Float32Array:
        """One recording -> (n,) float32 mono at 16 kHz; channels are averaged, a DC offset stays.

        Fails, naming the file, when it cannot be decoded or holds NaN or infinity.
        """
        path = self.folder / name
        try:
            with quiet_stderr():  # MP3 decoders talk
                channels, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, OSError) as error:
            raise _unreadable(path, error) from error
        if not np.isfinite(channels).all():
            raise Failure("holds NaN or infinite samples", where=path, remedy="remove or repair the file")
        mono = channels.mean(axis=1, dtype=np.float32)
        resampled = mono if rate_hz == SAMPLE_RATE_HZ else soxr.resample(mono, rate_hz, SAMPLE_RATE_HZ)
        return np.ascontiguousarray(resampled, dtype=np.float32)

    def fingerprint(self) -> str:
        """SHA-256 over every name and content: equal wherever the same recordings lie, and only there."""
        whole = hashlib.sha256()
        for name in self.names:
            content = hashlib.sha256((self.folder / name).read_bytes()).hexdigest()
            whole.update(f"{name}\0{content}\n".encode())
        return whole.hexdigest()


def _recordings(root: Path) -> Iterator[str]:
    for path in root.rglob("*"):
        # "._x.wav" is what macOS leaves beside x.wav on foreign disks: metadata, not audio.
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file():
            yield path.relative_to(root).as_posix()


def _duration_s(path: Path) -> float:
    try:
        with quiet_stderr():
            header = soundfile.info(path)
    except (soundfile.SoundFileError, OSError) as error:
        raise _unreadable(path, error) from error
    return float(header.frames / header.samplerate)


def _unreadable(path: Path, error: Exception) -> Failure:
    reason = getattr(error, "error_string", None) or str(error)
    return Failure(f"cannot be read as audio ({reason})", where=path, remedy="remove or repair the file")


def _formats() -> str:
    return ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
