"""Sound files in: the one reader of the product. What comes out is every sample that is in the file, or one line.

The length in a header is a promise: it is told as `n_stated`, for bars and bounds, and no memory is made for it. Files
are read from front to back, never by seeking, for some lengths are known only at their end.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np

from edge_runtime.errors import Failure
from edge_runtime.files import contents
from edge_runtime.files.containers import foreign
from edge_runtime.quiet import quiet_stderr
from edge_runtime.stft import Float32Array

try:
    import soundfile
except OSError as error:  # the wheel for this machine carries no libsndfile
    raise Failure("libsndfile is not installed", remedy="`apt install libsndfile1`") from error

LEAST_RATE_HZ: Final = 1000  # at 16 kHz a header's 1 Hz is 16,000 times the sound
MOST_RATE_HZ: Final = 10_000_000
_WIDE: Final = {"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
SAMPLE_BYTES: Final = {"PCM_S8": 1, "PCM_U8": 1, "ULAW": 1, "ALAW": 1, **_WIDE}
_BLOCK_VALUES: Final = 1 << 18  # read at once, over all channels
_NEVER_KNOWN: Final = 1 << 62  # libsndfile's length of a stream without one


class Sound(NamedTuple):
    """A recording in memory: (n, n_channels) float32."""

    samples: Float32Array
    rate_hz: int


class _Stream(soundfile.SoundFile):  # type: ignore[misc]  # soundfile has no types
    """Read from front to back: soundfile would seek after every block, to where a wrong length may say."""

    def seekable(self) -> bool:
        return False


class SoundSource:
    """An open sound file; `blocks` gives all of it, once.

    `n_stated` samples a channel are promised by its headers, None where they promise nothing.
    """

    def __init__(self, path: Path) -> None:
        """Failure: it cannot be opened, is not sound, or holds less of it than its header promises."""
        self._path = path
        self._file = _opened(path)
        try:
            self._parts = contents.parts(self._file, path)
            self._stream = self._open_part(0)
            self.n_stated = self._count_stated()
        except BaseException:
            self._file.close()
            raise
        self.rate_hz: int = self._stream.samplerate
        self.n_channels: int = self._stream.channels
        self.subtype: str = self._stream.subtype
        self.tags: Mapping[str, str] = self._stream.copy_metadata()

    def __enter__(self) -> SoundSource:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stream.close()
        self._file.close()

    def blocks(self, n_block: int | None = None) -> Iterator[Float32Array]:
        """(n <= n_block, n_channels) float32 each. Failure: the sound breaks, or ends before its stated length."""
        n_most = max(1, _BLOCK_VALUES // self.n_channels)
        n_block, n_read = min(n_block or n_most, n_most), 0
        for number in range(max(1, len(self._parts))):
            if number:
                self._stream.close()
                self._stream = self._open_part(number)
                self._check_same_kind()
            broken: soundfile.LibsndfileError | None = None
            while broken is None:
                block, broken = self._read(n_block)
                if len(block) == 0:
                    break
                n_read += len(block)
                yield block
            if broken is not None and n_read != self.n_stated:  # else all sound is there, and something else follows
                raise self._broken(n_read, reason(broken)) from broken
        if self.n_stated is not None and n_read < self.n_stated:
            raise self._broken(n_read, "cut short")

    def _read(self, n_block: int) -> tuple[Float32Array, soundfile.LibsndfileError | None]:
        """What comes next, and why there is no more."""
        block, before = np.empty((n_block, self.n_channels), np.float32), self._stream.tell()
        try:
            return self._stream.read(out=block), None
        except soundfile.LibsndfileError as error:
            return block[: self._stream.tell() - before], error

    def _open_part(self, number: int) -> Any:
        """libsndfile on the file itself, or on a part of it. Never by name: that has it look for `._` files."""
        self._file.seek(0)
        try:
            with quiet_stderr():  # libmpg123 prints its doubts
                if self._parts:
                    return _Stream(contents.PartView(self._file, self._parts[number]), "r")
                return _Stream(os.dup(self._file.fileno()))
        except soundfile.LibsndfileError as error:
            raise _not_sound(self._file, self._path, reason(error)) from error

    def _count_stated(self) -> int | None:
        """Over all parts."""
        stream, n_stated = self._stream, self._stream.frames
        if not LEAST_RATE_HZ <= stream.samplerate <= MOST_RATE_HZ:
            raise Failure(f"has a sample rate of {stream.samplerate} Hz", where=self._path, remedy="repair its header")
        for part in self._parts:
            n_stated = part.n_stated if part.n_stated is not None else n_stated
        is_exact = not self._parts[1:] and all(part.is_exact for part in self._parts)
        return int(n_stated) if is_exact and 0 <= n_stated < _NEVER_KNOWN else None

    def _check_same_kind(self) -> None:
        if (self._stream.samplerate, self._stream.channels) != (self.rate_hz, self.n_channels):
            what = (
                f"goes on with {self._stream.channels} x {self._stream.samplerate} Hz "
                f"after {self.n_channels} x {self.rate_hz} Hz"
            )
            raise Failure(what, where=self._path, remedy=f"convert it: {conversion(self._path)}")

    def _broken(self, n_read: int, reason: str) -> Failure:
        of = "" if self.n_stated is None else f" of {self.n_stated}"
        return Failure(f"damaged after {n_read}{of} samples ({reason})", where=self._path, remedy="copy it again")


def read(path: Path, most_s: float | None = None, *, start_s: float = 0.0, mixed: bool = False) -> Sound:
    """All of a file, or `most_s` from `start_s` on; `mixed`: the mean of its channels. Failure: see `SoundSource`; NaN
    or infinity is in it, or it is too long for the memory."""
    with SoundSource(path) as source:
        blocks, n_read = [np.empty((0, 1 if mixed else source.n_channels), np.float32)], 0
        n_wanted = None if most_s is None else int(most_s * source.rate_hz)
        n_before = int(start_s * source.rate_hz)
        try:
            for block in source.blocks():
                block, n_before = block[n_before:], max(n_before - len(block), 0)
                block = block if n_wanted is None else block[: n_wanted - n_read]
                if not np.isfinite(block).all():
                    raise Failure("holds NaN or infinite samples", where=path, remedy="remove or repair the file")
                blocks.append(block.mean(axis=1, dtype=np.float32, keepdims=True) if mixed else block)
                n_read += len(block)
                if n_wanted is not None and n_read >= n_wanted:
                    break
            return Sound(np.concatenate(blocks), source.rate_hz)
        except MemoryError:
            blocks.clear()
            cut = f"ffmpeg -i {shlex.quote(path.name)} -f segment -segment_time 600 part%03d.wav"
            raise Failure("is too long for the memory here", where=path, remedy=f"cut it: {cut}") from None


def count(path: Path) -> tuple[int, int]:
    """(samples a channel, rate in Hz): by the header where it says, else by reading. Failure: see `SoundSource`."""
    with SoundSource(path) as source:
        n_samples = source.n_stated
        return sum(map(len, source.blocks())) if n_samples is None else n_samples, source.rate_hz


def conversion(path: Path) -> str:
    """The command that makes a sound file of nearly anything."""
    made = path.with_suffix(".wav" if path.suffix.lower() != ".wav" else ".new.wav")
    return f"ffmpeg -i {shlex.quote(path.name)} {shlex.quote(made.name)}"


def _opened(path: Path) -> BinaryIO:
    """Unbuffered: its place is the descriptor's, which libsndfile shares."""
    try:
        file: BinaryIO = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0)  # noqa: SIM115
    except OSError as error:
        remedy = "check who may read it" if error.errno in (errno.EACCES, errno.EPERM) else "name a sound file"
        raise Failure(f"cannot be opened ({error.strerror})", where=path, remedy=remedy) from error
    found = os.fstat(file.fileno())
    if not stat.S_ISREG(found.st_mode) or found.st_size == 0:
        file.close()
        what = "is empty: 0 bytes" if stat.S_ISREG(found.st_mode) else "is not a regular file"
        raise Failure(what, where=path, remedy="record or copy it again")
    return file


def _not_sound(file: BinaryIO, path: Path, reason: str) -> Failure:
    file.seek(0)
    known = foreign(file.read(32))
    if known is None:
        return Failure(
            f"cannot be read as sound ({reason})", where=path, remedy=f"get it again, or convert it: {conversion(path)}"
        )
    what, remedy = known
    return Failure(what, where=path, remedy=remedy or f"convert it: {conversion(path)}")


def reason(error: Any) -> str:
    """What libsndfile says, as part of a line."""
    return str(error.error_string).removeprefix("Error : ").rstrip(".")
