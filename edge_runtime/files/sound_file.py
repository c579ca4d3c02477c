"""Sound files out: what is refused before the work begins, and output that is whole or not there."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import soundfile

from edge_runtime.errors import Failure
from edge_runtime.files import sound_source
from edge_runtime.files.containers import CONTAINERS, Container
from edge_runtime.files.sound_source import SAMPLE_BYTES
from edge_runtime.stft import Float32Array
from edge_runtime.whole_file import refusal, unwritten

_UNCLIPPED = ("FLOAT", "DOUBLE")
_DEEP = ("PCM_24", "PCM_32", "FLOAT", "DOUBLE")  # more than 16 bits


def check_source(path: Path) -> None:
    """Failure unless `path` is a file."""
    if not path.exists():
        raise Failure("no such file", where=path, remedy="name a sound file")
    if path.is_dir():
        raise Failure("a folder, not a sound file", where=path, remedy="name a file in it")
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


class Form(NamedTuple):
    """What is to be written: `n_samples` a channel are to come."""

    container: Container
    subtype: str
    rate_hz: int
    n_channels: int
    n_samples: int
    tags: Mapping[str, str] = MappingProxyType({})

    @property
    def n_bytes(self) -> int:
        """Of samples, as far as the subtype says."""
        return self.n_samples * self.n_channels * SAMPLE_BYTES.get(self.subtype, 0)

    @property
    def fits(self) -> bool:
        """The container can state so much."""
        return self.container.most_bytes is None or self.n_bytes <= self.container.most_bytes


class _Sink(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """An open output. `part` is where its bytes are, `path` what it will be called."""

    def __init__(self, part: Path, path: Path, form: Form) -> None:
        self.part, self.path = part, path
        super().__init__(
            os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666),
            "w",
            samplerate=form.rate_hz,
            channels=form.n_channels,
            subtype=form.subtype,
            format=form.container.format if form.fits else form.container.larger,
        )


def create(part: Path, path: Path, form: Form) -> Any:
    """An open soundfile.SoundFile on `part`, to become `path`.

    A WAV of more than 4 GiB is written as RF64. Failure: the container has no such sound, or not so much of it; the
    disk has not; it cannot be written.
    """
    _check_room(path, form)
    try:
        sink = _Sink(part, path, form)
    except OSError as error:
        raise unwritten(error, path) from error
    except soundfile.LibsndfileError as error:
        if refused := refusal(part):
            raise unwritten(refused, path) from error
        sound = f"{form.n_channels} channels at {form.rate_hz} Hz"
        what = f"{form.container.format} {form.subtype} cannot hold {sound} ({sound_source.reason(error)})"
        raise Failure(what, where=path, remedy="write a .wav file") from error
    for name, text in form.tags.items():
        with suppress(soundfile.LibsndfileError):  # a container has the tags that it has
            setattr(sink, name, text)
    return sink


def _check_room(path: Path, form: Form) -> None:
    if not form.fits and form.container.larger is None:
        what = f"{form.n_bytes / 2**30:.1f} GiB of sound do not fit into {form.container.format}"
        raise Failure(what, where=path, remedy="write a .wav, .w64 or .caf file")
    n_free = shutil.disk_usage(path.parent).free
    if form.n_bytes > n_free:
        what = f"{form.n_bytes / 2**20:.0f} MiB are to come, {n_free / 2**20:.0f} MiB are free"
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
