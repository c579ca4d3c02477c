"""Sound files through libsndfile: what is read, what is written, and why it is not."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from edge_runtime.errors import Failure
from edge_runtime.quiet import quiet_stderr
from edge_runtime.stft import Float32Array
from edge_runtime.whole_file import refusal, unwritten

try:
    import soundfile
except OSError as error:  # the wheel for this machine carries no libsndfile
    raise Failure("libsndfile is not installed", remedy="`apt install libsndfile1`") from error


class Container(NamedTuple):
    """An output format and the subtypes it stores without changing the length, its default first."""

    format: str
    subtypes: tuple[str, ...]


_LINEAR = ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")

CONTAINERS: Final = {
    ".wav": Container("WAV", (*_LINEAR, "PCM_U8", "ULAW", "ALAW")),
    ".flac": Container("FLAC", ("PCM_16", "PCM_24", "PCM_S8")),
    ".ogg": Container("OGG", ("VORBIS", "OPUS")),
    ".oga": Container("OGG", ("VORBIS", "OPUS")),
    ".opus": Container("OGG", ("OPUS",)),
    ".mp3": Container("MP3", ("MPEG_LAYER_III",)),
    ".aiff": Container("AIFF", _LINEAR),
    ".aif": Container("AIFF", _LINEAR),
    ".au": Container("AU", (*_LINEAR, "PCM_S8", "ULAW", "ALAW")),
    ".caf": Container("CAF", (*_LINEAR, "PCM_S8", "ULAW", "ALAW")),
    ".w64": Container("W64", (*_LINEAR, "PCM_U8", "ULAW", "ALAW")),
    ".rf64": Container("RF64", (*_LINEAR, "PCM_U8", "ULAW", "ALAW")),
}
_UNCLIPPED = ("FLOAT", "DOUBLE")
_DEEP = ("PCM_24", "PCM_32", "FLOAT", "DOUBLE")  # more than 16 bits

# libsndfile's log of a header that promises more sound than the file holds: "data : 96000 (should be 47978)".
_CUT_SHORT = re.compile(r"(?:data|SSND|Data Size) +: (\d+) \(should be (\d+)\)")
_MOST_BYTES = 0xFFFF_0000  # of a file whose header counts bytes in 32 bits
_LARGE = (".flac", ".w64", ".rf64", ".caf")  # those that count further
_NEVER_UPDATED_BYTES = 0x7FFF_0000  # headers of streams written to a pipe state about 2 or 4 GiB


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


def open_source(path: Path) -> Any:
    """An open soundfile.SoundFile. Failure: it is not sound, or less of it than its header promises."""
    try:
        with quiet_stderr():  # libmpg123 prints its doubts
            source = soundfile.SoundFile(os.open(path, os.O_RDONLY))
    except OSError as error:
        raise Failure(f"cannot be opened ({error.strerror})", where=path) from error
    except soundfile.LibsndfileError as error:
        raise Failure(f"cannot be read as sound ({_reason(error)})", where=path) from error
    _check_whole(source, path)
    return source


def read_blocks(source: Any, path: Path, n_block: int) -> Iterator[Float32Array]:
    """Blocks of (n <= n_block, n_channels). Failure: the sound ends, or breaks, before its stated length."""
    n_read = 0
    while n_read < source.frames:
        try:
            block: Float32Array = source.read(n_block, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise _broken(path, n_read, source.frames, _reason(error)) from error
        if len(block) == 0:
            raise _broken(path, n_read, source.frames, "cut short")
        n_read += len(block)
        yield block


def kept_subtype(container: Container, subtype: str) -> str:
    """The subtype of the input where the container stores it; else the nearest that loses nothing audible."""
    if subtype in container.subtypes:
        return subtype
    if subtype in _DEEP and "PCM_24" in container.subtypes:
        return "PCM_24"
    return container.subtypes[0]


def create(part: Path, path: Path, container: Container, subtype: str, rate_hz: int, n_channels: int) -> Any:
    """An open soundfile.SoundFile on `part`, to become `path`. Failure: no such sound in it, or no room for it."""
    try:
        return soundfile.SoundFile(
            part, "w", samplerate=rate_hz, channels=n_channels, subtype=subtype, format=container.format
        )
    except soundfile.LibsndfileError as error:
        if refused := refusal(part):
            raise unwritten(refused, path) from error
        sound = f"{n_channels} channels at {rate_hz} Hz"
        what = f"{container.format} {subtype} cannot hold {sound} ({_reason(error)})"
        raise Failure(what, where=path, remedy="write a .wav file") from error


def write_block(sink: Any, path: Path, block: Float32Array) -> int:
    """Append (n, n_channels); returns how many values had to be clipped. Failure: the system refuses it."""
    n_clipped = 0
    if sink.subtype not in _UNCLIPPED:
        n_clipped = int(np.count_nonzero(np.abs(block) > 1))
        block = np.clip(block, -1, 1)
    try:
        sink.write(block)
    except (soundfile.LibsndfileError, AssertionError) as error:  # soundfile asserts that all of it was taken
        raise why_unwritten(Path(sink.name), path) from error
    return n_clipped


def check_written(part: Path, path: Path, n_samples: int) -> None:
    """Failure unless `part` holds exactly `n_samples` per channel."""
    if n_samples == 0:  # FLAC, MP3 and Opus cannot be reopened empty
        return
    try:
        n_written = soundfile.info(str(part)).frames
    except soundfile.LibsndfileError:
        n_written = 0
    if n_written != n_samples:
        raise why_unwritten(part, path)


def why_unwritten(part: Path, path: Path) -> Failure:
    """Why libsndfile, which does not tell, could not write all of `part`, to become `path`."""
    if refused := refusal(part):
        return unwritten(refused, path)
    if part.stat().st_size > _MOST_BYTES and path.suffix.lower() not in _LARGE:
        what = f"more sound than a {path.suffix} file can hold, 4 GiB"
        return Failure(what, where=path, remedy=f"write one of: {', '.join(_LARGE)}")
    return Failure("cannot be written whole", where=path, remedy="write a .wav file")


def _check_whole(source: Any, path: Path) -> None:
    sizes = _CUT_SHORT.search(source.extra_info)
    if sizes and int(sizes[2]) < int(sizes[1]) < _NEVER_UPDATED_BYTES:
        source.close()
        raise Failure(
            f"cut short: its header promises {sizes[1]} bytes of sound, {sizes[2]} are there",
            where=path,
            remedy="copy it again",
        )


def _broken(path: Path, n_read: int, n_stated: int, reason: str) -> Failure:
    return Failure(f"damaged after {n_read} of {n_stated} samples ({reason})", where=path, remedy="copy it again")


def _reason(error: soundfile.LibsndfileError) -> str:
    return str(error.error_string).removeprefix("Error : ").rstrip(".")
