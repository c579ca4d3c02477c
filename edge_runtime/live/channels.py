"""Which channels of the capture device become streams, and which of them carry no sound.

A channel is silent where it does not move by more than a 16-bit step: the slot of an I2S bus in which no microphone is,
a cable that is broken. Counted into a mean it would cost 6 dB of two; so a mean is that of the channels with sound. It
moves to another along a straight line, and what is silent is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_runtime.alsa.cards import mixes_channels
from edge_runtime.alsa.device import capabilities
from edge_runtime.alsa.pcm import CAPTURE, Unfit
from edge_runtime.errors import Failure
from edge_runtime.stft import Float32Array

_MOST_CHANNELS: Final = 64
STEP: Final = 1.5 * 2.0**-15  # of 16 bits, and half of one for rounding
SILENT_S: Final = 5.0  # without sound, until a channel counts as silent: longer than a pause of a gated microphone
FIRST_S: Final = 2.0  # of a stream, until it is said that nothing was heard
ALL_SILENT_S: Final = 30.0  # of every channel, until it is said of those that had sound
MANY: Final = 3  # channels: an array, which may bring processed sound or the loudspeaker's along


@dataclass(frozen=True)
class Channels:
    """Which channels become streams: these numbers from 1, or the mean; of `first_of_many` channels only the first;
    `best`: the one that is loudest of those that have sound all the time."""

    numbers: tuple[int, ...] = ()  # none: the mean
    first_of_many: bool = False
    best: bool = False

    @classmethod
    def parse(cls, text: str, n_opened: int | None) -> Channels:
        """From "auto", "best", "mix", "all" or "1,3"; `n_opened` says how many "all" are. Failure: none of these."""
        if text in ("auto", "mix"):
            return cls(first_of_many=text == "auto")
        if text == "best":
            return cls(best=True)
        if text == "all":
            if n_opened is None:
                raise Failure("--channels all needs a number", remedy="give --capture-channels N as well")
            return cls(tuple(range(1, n_opened + 1)))
        words = text.split(",")
        if not all(word.isdecimal() and 1 <= int(word) <= _MOST_CHANNELS for word in words):
            what = f"--channels is {text!r}"
            raise Failure(what, remedy="give best, mix, all, or numbers from 1 such as 1,3")
        return cls(tuple(int(word) for word in words))

    @property
    def n_streams(self) -> int:
        """Each has a denoiser."""
        return max(1, len(self.numbers))

    @property
    def n_least(self) -> int:
        """Channels that the device must have."""
        return max(self.numbers, default=1)

    def n_near(self, device: str) -> int:
        """Channels to ask for where a number is not prescribed: a device that would mix two into one gives both."""
        return max(self.n_least, 2) if not self.numbers and mixes_channels(device) else self.n_least

    def indices(self, n_channels: int, device: str) -> list[int]:
        """Channel numbers from 0, empty for the mean. Failure: the device has fewer."""
        if self.n_least > n_channels:
            what = f"has {n_channels} channel(s), not {self.n_least}"
            raise Unfit(what, where=device, remedy=f"choose from 1 to {n_channels}, or `mix`")
        return [number - 1 for number in self.numbers]


def count_of(device: str) -> int | None:
    """How many channels a capture device has; None: it has several counts, or is not here."""
    card = device.removeprefix("plug") if device.startswith("plughw") else device  # a converter has any
    try:
        fewest, most = capabilities(card, CAPTURE).n_channels_range
    except Failure:
        return None
    return fewest if fewest == most else None


class Silence:
    """Which channels have sound, from blocks of (n_channels, n). Nothing is allocated after it was made."""

    def __init__(self, n_channels: int, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._n_forget = round(SILENT_S * rate_hz)
        self._n_silent = np.full(n_channels, self._n_forget)  # pcm_frames since each last moved
        self._high, self._low = np.zeros(n_channels, np.float32), np.zeros(n_channels, np.float32)
        self._n_heard = 0
        self._n_moving = np.zeros(n_channels, np.int64)  # pcm_frames of blocks in which each moved
        self.range = np.zeros(n_channels, np.float32)  # from peak to peak, slowly
        self.has_sound = np.zeros(n_channels, bool)
        self.had_sound = np.zeros(n_channels, bool)  # ever

    def watch(self, captured: Float32Array) -> None:
        """Take the next block."""
        captured.max(axis=1, out=self._high)
        captured.min(axis=1, out=self._low)
        np.subtract(self._high, self._low, out=self._high)
        self._n_silent += captured.shape[1]
        np.greater(self._high, STEP, out=self.has_sound)
        np.copyto(self._n_silent, 0, where=self.has_sound)
        self._n_moving += self.has_sound * captured.shape[1]
        self._high -= self.range
        self._high *= np.float32(min(1.0, captured.shape[1] / self._rate_hz))
        self.range += self._high
        np.less(self._n_silent, self._n_forget, out=self.has_sound)
        np.logical_or(self.had_sound, self.has_sound, out=self.had_sound)
        self._n_heard += captured.shape[1]

    @property
    def heard_s(self) -> float:
        """Length of all blocks."""
        return self._n_heard / self._rate_hz

    @property
    def best(self) -> int:
        """The channel that is loudest of those with sound most of the time: what plays in a room has its pauses, a
        microphone has noise in them."""
        is_there = self.has_sound & (self._n_moving >= 0.9 * self._n_moving.max())
        return int(np.where(is_there, self.range, -1.0).argmax())

    @property
    def is_total(self) -> bool:
        """No channel has had sound for so long that it is worth a word."""
        if not self.had_sound.any():
            return self.heard_s >= FIRST_S
        return bool(self._n_silent.min() >= ALL_SILENT_S * self._rate_hz)


class Chooser:
    """Makes streams of what was captured, a block at a time. `silent` and `note` are for people; see `look`."""

    def __init__(self, channels: Channels, indices: Sequence[int], n_channels: int, rate_hz: int, n_most: int) -> None:
        self._indices = indices
        self._takes_first = channels.first_of_many and n_channels >= MANY
        self._takes_best, self._best, self._n_best = channels.best, 0, 0
        self._silence = Silence(n_channels, rate_hz)
        self._weights = np.full(n_channels, 1 / n_channels, np.float32)
        self._before = self._weights.copy()
        self._steps = np.arange(1, n_most + 1, dtype=np.float32)
        self._ramp, self._other = np.zeros(n_most, np.float32), np.zeros(n_most, np.float32)
        self._began_s: dict[int, int] = {}  # number -> when its first sound came, where that was late
        self.silent: tuple[int, ...] = ()  # numbers of the channels taken that have no sound
        self.note = ""

    def push(self, captured: Float32Array, streams: Float32Array) -> None:
        """(n_channels, n) into (n_streams, n)."""
        self._silence.watch(captured)
        if self._indices:
            for stream, index in zip(streams, self._indices, strict=True):
                stream[:] = captured[index]
        else:
            self._mix(captured, streams[0])

    def _mix(self, captured: Float32Array, stream: Float32Array) -> None:
        """The mean of the channels with sound, the first or the best of them; while none has any, as it was."""
        has_sound, weights, before = self._silence.has_sound, self._weights, self._before
        n_with = int(np.count_nonzero(has_sound))
        if n_with and self._takes_best:
            weights.fill(0)
            weights[self._choose_best()] = 1
        elif n_with and self._takes_first:
            weights.fill(0)
            weights[int(has_sound.argmax())] = 1
        elif n_with:
            np.multiply(has_sound, np.float32(1 / n_with), out=weights)
        np.dot(weights, captured, out=stream)
        if not np.array_equal(weights, before):
            n = len(stream)
            other, ramp = self._other[:n], self._ramp[:n]
            np.dot(before, captured, out=other)
            np.multiply(self._steps[:n], np.float32(1 / n), out=ramp)
            stream -= other
            stream *= ramp
            stream += other
            before[:] = weights

    def _choose_best(self) -> int:
        """Anew each FIRST_S: a voice moves, and a choice should not follow every word."""
        n = int(self._silence.heard_s / FIRST_S)
        if n != self._n_best or n == 0 or not self._silence.has_sound[self._best]:
            now = self._silence.best
            much_louder = self._silence.range[now] > 2 * self._silence.range[self._best]
            self._n_best = n
            if n <= 1 or much_louder or not self._silence.has_sound[self._best]:
                self._best = now
        return self._best

    def look(self) -> None:
        """What people should know by now; a second or so apart is often enough."""
        silence = self._silence
        if silence.heard_s < FIRST_S:
            return
        taken = self._indices or range(len(silence.has_sound))
        was_silent, self.silent = self.silent, tuple(k + 1 for k in taken if not silence.has_sound[k])
        for number in was_silent:
            if number not in self.silent:
                self._began_s.setdefault(number, round(silence.heard_s))
        self.note = self._note()

    def _note(self) -> str:
        silence, n_channels, silent = self._silence, len(self._weights), _numbers(self.silent)
        if silence.is_total:
            every = "the microphone is" if n_channels == 1 else "every channel is"
            return f"no sound: {every} silent; is it muted? (`alsamixer`, F4)"
        if self._takes_best:
            best = int(self._weights.argmax()) + 1
            return f"channel {best} of {n_channels} is taken; --channels {best} says so for good"
        if self._takes_first:
            first = int(self._weights.argmax()) + 1
            return f"{n_channels} channels: {first} is taken, others may hold the loudspeaker; --channels mix takes all"
        if not silence.has_sound.any():
            return self.note
        if self.silent and self._indices:
            return f"channel {silent} is silent"
        others = _numbers(tuple(k + 1 for k in range(n_channels) if k + 1 not in (self.silent or self._began_s)))
        if self.silent:
            return f"channel {silent} is silent and left out of the mean; --channels {others} says so for good"
        if self._began_s and others:
            late = ", ".join(f"{number} began after {at_s} s" for number, at_s in self._began_s.items())
            return f"channel {late}: if it is the loudspeaker's, --channels {others} leaves it out"
        return ""


def _numbers(numbers: tuple[int, ...]) -> str:
    return ",".join(map(str, numbers))
