"""A WAV file of 32-bit floats whose header states what it holds at every second: its writer may be killed.

    RIFF  WAVE  JUNK  fmt  fact  data          up to 4 GiB
    RF64  WAVE  ds64  fmt  fact  data          beyond (EBU Tech 3306): JUNK kept the room for its sizes of 64 bits

libsndfile states the length when a file is closed, cannot become RF64 on the way, and does not tell a full disk from
another error.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Final

from edge_runtime.stft import Float32Array
from edge_runtime.whole_file import unwritten

MOST_BYTES: Final = 2**32 - 1  # that 32 bits state
_HEADER: Final = struct.Struct("<4sI4s 4sIQQQI 4sIHHIIHHH 4sII 4sI")
_FLOAT: Final = 3  # WAVE_FORMAT_IEEE_FLOAT
_ELSEWHERE: Final = 0xFFFF_FFFF  # in ds64


class FloatWav:
    """A new file at `path`. Failure of each method: the disk is full, or another reason of the system."""

    def __init__(self, path: Path, rate_hz: int, n_channels: int) -> None:
        """Failure: something is there, or it cannot be made; nothing is left then."""
        self.path = path
        self._rate_hz, self._n_channels = rate_hz, n_channels
        self.n_samples = 0  # of each channel
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise unwritten(error, path) from error
        try:
            self.update()
        except BaseException:
            self.remove()
            raise
        os.lseek(self._file, _HEADER.size, os.SEEK_SET)

    def write(self, block: Float32Array) -> None:
        """Append (n, n_channels)."""
        data = memoryview(block.astype("<f4").tobytes())
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError as error:
            raise unwritten(error, self.path) from error
        self.n_samples += len(block)

    def update(self) -> None:
        """State in the header what was written so far."""
        n_bytes = self.n_samples * self._n_channels * 4
        n_riff = _HEADER.size - 8 + n_bytes
        is_long = n_riff > MOST_BYTES
        frame = 4 * self._n_channels
        header = _HEADER.pack(
            *(b"RF64" if is_long else b"RIFF", _ELSEWHERE if is_long else n_riff, b"WAVE"),
            *(b"ds64" if is_long else b"JUNK", 28, *((n_riff, n_bytes, self.n_samples) if is_long else (0, 0, 0)), 0),
            *(b"fmt ", 18, _FLOAT, self._n_channels, self._rate_hz, self._rate_hz * frame, frame, 32, 0),
            *(b"fact", 4, _ELSEWHERE if is_long else self.n_samples),
            *(b"data", _ELSEWHERE if is_long else n_bytes),
        )
        try:
            os.pwrite(self._file, header, 0)
        except OSError as error:
            raise unwritten(error, self.path) from error

    def close(self) -> None:
        """Update, and give the file back."""
        try:
            self.update()
            os.ftruncate(self._file, _HEADER.size + self.n_samples * self._n_channels * 4)  # less half a sample
        finally:
            os.close(self._file)

    def remove(self) -> None:
        """As if it had never been."""
        os.close(self._file)
        self.path.unlink(missing_ok=True)
