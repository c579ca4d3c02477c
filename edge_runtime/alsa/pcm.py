"""An open ALSA device: what it agreed to, and what becomes of a read or a write. `alsa` opens them."""

from __future__ import annotations

import ctypes
import errno
from ctypes import byref, c_long, c_void_p
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import Failure


class Direction(Enum):
    """SND_PCM_STREAM_*."""

    PLAYBACK = 0
    CAPTURE = 1

    def __str__(self) -> str:
        return self.name.lower()


CAPTURE: Final = Direction.CAPTURE
PLAYBACK: Final = Direction.PLAYBACK


class Unfit(Failure):
    """A device that is not as wished, or that nothing defines: waiting for it does not help."""


class Outcome(Enum):
    """What became of a read, a write or a wait."""

    DONE = "done"
    XRUN = "xrun"  # overrun (capture) or underrun (playback): `prepare` and start again
    SUSPENDED = "suspended"  # the machine slept: `prepare` and start again
    DISCONNECTED = "disconnected"  # unplugged, or its sound server went away: close, and open again when it is back
    TIMEOUT = "timeout"  # the device's clock stands still


_OUTCOMES: Final = {-errno.EPIPE: Outcome.XRUN, -errno.ESTRPIPE: Outcome.SUSPENDED}


class SampleFormat(NamedTuple):
    """How one sample lies in memory: SND_PCM_FORMAT_* number, NumPy dtype, and bytes a sample."""

    name: str
    number: int
    dtype: str
    n_bytes: int


# Those of them that a device has are tried in this order: most precise first.
FORMATS: Final = {
    row.name: row
    for row in (
        SampleFormat("FLOAT_LE", 14, "<f4", 4),
        SampleFormat("S32_LE", 10, "<i4", 4),
        SampleFormat("S24_LE", 6, "<i4", 4),  # in the lower three bytes of four
        SampleFormat("S24_3LE", 32, "u1", 3),
        SampleFormat("S16_LE", 2, "<i2", 2),
    )
}

Block = npt.NDArray[Any]


@dataclass(frozen=True)
class Wish:
    """What to ask of a device; None leaves the choice to the device, in the order of RATES_HZ and FORMATS."""

    rate_hz: int | None = None
    sample_format: str | None = None
    n_channels: int | None = None
    n_channels_near: int = 1  # where n_channels leaves the choice
    period_ms: float = 16.0
    n_periods: int = 4
    least_buffer_ms: float = 0.0  # where n_periods come to less


@dataclass(frozen=True)
class PcmConfig:
    """What a device agreed to."""

    device: str
    direction: Direction
    rate_hz: int
    sample_format: SampleFormat
    n_channels: int
    period_pcm_frames: int
    buffer_pcm_frames: int

    def __str__(self) -> str:
        size = f"{self.period_pcm_frames} of {self.buffer_pcm_frames}"
        return f"{self.device}: {self.n_channels} x {self.rate_hz} Hz, {self.sample_format.name}, periods {size}"


class Pcm:
    """An open device. Its owner calls from one thread at a time; see the module's head."""

    def __init__(self, library: ctypes.CDLL, handle: c_void_p, config: PcmConfig) -> None:
        self.config = config
        self.n_transferred = 0  # pcm_frames of the last read or write that were moved before its outcome
        self.last_errno = 0  # what stood behind the last outcome but DONE and TIMEOUT
        self._library = library
        self._handle = handle
        self._delay = c_long()
        self._delay_pointer = byref(self._delay)
        self._n_frame_bytes = config.n_channels * config.sample_format.n_bytes
        self._transfer = library.snd_pcm_readi if config.direction is CAPTURE else library.snd_pcm_writei
        self._wait, self._avail = library.snd_pcm_wait, library.snd_pcm_avail

    def new_block(self, n_pcm_frames: int) -> Block:
        """Zeroed memory for `read` and `write`: (n, n_channels) in the sample's dtype; S24_3LE (n, n_channels, 3)."""
        kind = self.config.sample_format
        shape: tuple[int, ...] = (n_pcm_frames, self.config.n_channels)
        return np.zeros((*shape, 3) if kind.n_bytes == 3 else shape, kind.dtype)

    def read(self, block: Block, n_pcm_frames: int | None = None, timeout_ms: int = 1000) -> Outcome:
        """Fill the block, or its first `n_pcm_frames`; wait no longer than `timeout_ms` for each part of it."""
        return self._move(block, len(block) if n_pcm_frames is None else n_pcm_frames, timeout_ms)

    def write(self, block: Block, n_pcm_frames: int | None = None, timeout_ms: int = 1000) -> Outcome:
        """Queue the block, or its first `n_pcm_frames`; wait no longer than `timeout_ms` for room for each part."""
        return self._move(block, len(block) if n_pcm_frames is None else n_pcm_frames, timeout_ms)

    def _move(self, block: Block, n_pcm_frames: int, timeout_ms: int) -> Outcome:
        address, n_done = block.ctypes.data, 0
        self.n_transferred = 0
        while n_done < n_pcm_frames:
            moved = self._transfer(self._handle, address + n_done * self._n_frame_bytes, n_pcm_frames - n_done)
            if moved > 0:
                n_done += moved
                self.n_transferred = n_done
            elif moved in (0, -errno.EAGAIN):
                if (outcome := self.wait(timeout_ms)) is not Outcome.DONE:
                    return outcome
            else:
                return self._outcome(moved)
        return Outcome.DONE

    def wait(self, timeout_ms: int) -> Outcome:
        """Until a period can be moved."""
        status = self._wait(self._handle, timeout_ms)
        if status > 0:
            return Outcome.DONE
        return Outcome.TIMEOUT if status == 0 else self._outcome(status)

    def available(self) -> int:
        """pcm_frames that can be moved at once; 0 when the device has stopped (the next read or write says why)."""
        return max(0, self._avail(self._handle))

    def queued(self) -> int:
        """pcm_frames written and not yet played; 0 when the device has stopped."""
        available = self._avail(self._handle)
        return max(0, self.config.buffer_pcm_frames - available) if available >= 0 else 0

    def delay(self) -> int:
        """pcm_frames between the application and the analogue side, 0 when not running."""
        status = self._library.snd_pcm_delay(self._handle, self._delay_pointer)
        return max(0, self._delay.value) if status == 0 else 0

    def start(self) -> Outcome:
        """Let the clock run. A playback device must hold sound first."""
        return self._checked(self._library.snd_pcm_start(self._handle))

    def prepare(self) -> Outcome:
        """Stop if it runs, forget what is queued, be ready for `start`."""
        self._library.snd_pcm_drop(self._handle)
        return self._checked(self._library.snd_pcm_prepare(self._handle))

    def close(self) -> None:
        """Give the device back, at once: what is queued is not played. Closing twice is allowed."""
        handle, self._handle = self._handle, c_void_p()
        if handle:
            self._library.snd_pcm_close(handle)

    def __enter__(self) -> Pcm:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _e: BaseException | None, _t: TracebackType | None) -> None:
        self.close()

    def _checked(self, status: int) -> Outcome:
        return Outcome.DONE if status >= 0 else self._outcome(status)

    def _outcome(self, status: int) -> Outcome:
        self.last_errno = -status
        return _OUTCOMES.get(status, Outcome.DISCONNECTED)
