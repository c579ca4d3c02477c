"""Sound files out: what is refused before the work begins, and output that is whole or not there."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import soundfile

from edge_runtime.errors import Failure
from edge_runtime.files import sound_source
from edge_runtime.files.containers import CONTAINERS, Container
from edge_runtime.files.sound_source import SAMPLE_BYTES
from edge_runtime.stft import Float32Array
from edge_runtime.whole_file import refusal, unwritten

__all__ = [
    "CONTAINERS",
    "check_source",
    "check_target",
    "check_written",
    "create",
    "kept_subtype",
    "why_unwritten",
    "write_block",
]

_UNCLIPPED = ("FLOAT", "DOUBLE")
_PLAIN_IF_SMALL: Final = 0x1210  # libsndfile's SFC_RF64_AUTO_DOWNGRADE: at its end a file below 4 GiB becomes a WAV
_DEEP = ("PCM_24", "PCM_32", "FLOAT", "DOUBLE")  # more than 16 bits


def check_source(path: Path) -> None:
    """Failure unless `path` is a file."""
    if not path.exists():
        raise Failure("no such file", where=path)
    if path.is_dir():
        raise Failure("a folder, not a sound file", where=path)
    if not path.is_file():
        raise Failure("not a regular file", where=path, remedy="save the sound to a file first")


def check_target(path: Path, source: Path, *, force: bool) -> Container:
    """The container that the name of `path` asks for. Failure: it may not or cannot be written."""
    if path.suffix.lower() not in CONTAINERS:
        known = ", ".join(CONTAINERS)
        raise Failure(f"unknown output format {path.suffix!r}", where=path, remedy=f"use one of: {known}")
    if path.is_dir() or (path.exists() and not path.is_file()):
        raise Failure("exists and is not a regular file", where=path, remedy="choose another output")
    if path.exists() and path.samefile(source):
        raise Failure("input and output are the same file", where=path, remedy="choose another output")
    if not path.parent.is_dir():
        raise Failure("no such folder", where=path.parent, remedy="make it first")
    if path.exists() and path.stat().st_size > 0 and not force:
        raise Failure("exists already", where=path, remedy="pass --force to replace it")
    return CONTAINERS[path.suffix.lower()]


def kept_subtype(container: Container, subtype: str) -> str:
    """The subtype of the input where the container stores it; else the nearest that loses nothing audible."""
    if subtype in container.subtypes:
        return subtype
    if subtype in _DEEP and "PCM_24" in container.subtypes:
        return "PCM_24"
    return container.subtypes[0]


class _Sink(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """An open output. `part` is where its bytes are, `path` what it will be called."""

    def __init__(self, part: Path, path: Path, **form: Any) -> None:
        self.part, self.path = part, path
        super().__init__(
            os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), "w", **form
        )


def create(
    part: Path,
    path: Path,
    container: Container,
    subtype: str,
    rate_hz: int,
    n_channels: int,
    n_samples: int | None = None,
    tags: Mapping[str, str] = MappingProxyType({}),
) -> Any:
    """An open soundfile.SoundFile on `part`, to become `path`; `n_samples` a channel are to come, None: any number.

    A WAV of more than 4 GiB is written as RF64. Failure: the container has no such sound, or not so much of it; the
    disk has not; it cannot be written.
    """
    n_bytes = None if n_samples is None else n_samples * n_channels * SAMPLE_BYTES.get(subtype, 0)
    _check_room(path, container, n_bytes)
    may_grow = container.larger is not None and (n_bytes is None or n_bytes > (container.most_bytes or 0))
    form = container.larger if may_grow else container.format
    try:
        sink = _Sink(part, path, samplerate=rate_hz, channels=n_channels, subtype=subtype, format=form)
    except OSError as error:
        raise unwritten(error, path) from error
    except soundfile.LibsndfileError as error:
        if refused := refusal(part):
            raise unwritten(refused, path) from error
        sound = f"{n_channels} channels at {rate_hz} Hz"
        what = f"{container.format} {subtype} cannot hold {sound} ({sound_source.reason(error)})"
        raise Failure(what, where=path, remedy="write a .wav file") from error
    if may_grow and n_bytes is None:
        soundfile._snd.sf_command(sink._file, _PLAIN_IF_SMALL, soundfile._ffi.NULL, 1)
    for name, text in tags.items():
        with suppress(soundfile.LibsndfileError):  # a container has the tags that it has
            setattr(sink, name, text)
    return sink


def _check_room(path: Path, container: Container, n_bytes: int | None) -> None:
    if n_bytes is None:
        return
    if container.most_bytes is not None and container.larger is None and n_bytes > container.most_bytes:
        what = f"{n_bytes / 2**30:.1f} GiB of sound do not fit into {container.format}"
        raise Failure(what, where=path, remedy="write a .wav, .w64 or .caf file")
    n_free = shutil.disk_usage(path.parent).free
    if n_bytes > n_free:
        what = f"{n_bytes / 2**20:.0f} MiB are to come, {n_free / 2**20:.0f} MiB are free"
        raise unwritten(OSError(errno.ENOSPC, what), path)


def write_block(sink: Any, path: Path, block: Float32Array) -> int:
    """Append (n, n_channels); returns how many values had to be clipped. Failure: it cannot be written."""
    n_clipped = 0
    if sink.subtype not in _UNCLIPPED:
        n_clipped = int(np.count_nonzero(np.abs(block) > 1))
        block = np.clip(block, -1, 1)
    try:
        sink.write(block)
    except (soundfile.LibsndfileError, AssertionError) as error:  # soundfile asserts that all of it was taken
        raise why_unwritten(sink.part, path) from error
    return n_clipped


def check_written(part: Path, path: Path, n_samples: int) -> None:
    """Failure unless `part` holds exactly `n_samples` per channel."""
    if n_samples == 0:  # FLAC, MP3 and Opus cannot be reopened empty
        return
    try:
        n_written, _ = sound_source.count(part)
    except Failure:
        n_written = 0
    if n_written != n_samples:
        raise why_unwritten(part, path)


def why_unwritten(part: Path, path: Path) -> Failure:
    """Why libsndfile, which does not tell, could not write all of `part`, to become `path`."""
    if refused := refusal(part):
        return unwritten(refused, path)
    return Failure("cannot be written whole", where=path, remedy="try again, or write a .wav file")
