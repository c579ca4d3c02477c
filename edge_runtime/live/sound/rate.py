"""Sample rates of live sound: windowed-sinc interpolation in fixed memory, a few ms behind, a block at a time.

A file can wait: `resample.Resampler` (soxr) works in blocks of up to 37 ms there and back. These two lag
CROSSINGS samples of the lower rate (2 ms at 16 kHz) and give out what is ready with every block.

RateConverter    between two fixed rates, exact in time for ever
DriftConverter   a rate to itself by a ratio near 1 that may change; at 1 it hands samples through unchanged

The taps are made here, the sums over them in C (`native/band/ed_between.h`).
"""

from __future__ import annotations

import ctypes
from math import ceil, gcd
from typing import Final

import numpy as np

from edge_runtime.live.sound.fifo import Fifo
from edge_runtime.live.sound.library import sound_library
from edge_runtime.native import Phases
from edge_runtime.stft import Float32Array

CROSSINGS: Final = 32  # of the sinc, on each side
CUTOFF: Final = 0.94  # of half the lower rate: 7.5 kHz of 8
KAISER_BETA: Final = 8.0  # 80 dB

DRIFT_CROSSINGS: Final = 16  # ED_CLOCK_TAPS / 2
_DRIFT_CUTOFF: Final = 1.0  # at ratio 1 the centre tap alone is not 0
_N_PHASES: Final = 512  # ED_CLOCK_PHASES; linear between two: an error of (pi / 512)^2 / 8, -107 dB


def sinc_table(n_phases: int, half: int, bandwidth: float) -> Float32Array:
    """(n_phases, 2 half) taps; row p interpolates p / n_phases after tap half - 1. Each row sums to 1.

    `bandwidth` is the cutoff as a part of half the input's rate.
    """
    offset = np.arange(1 - half, half + 1) - np.arange(n_phases)[:, None] / n_phases
    window = np.kaiser(2 * half * n_phases + 1, KAISER_BETA)  # read at steps of 1 / n_phases
    taps = np.sinc(bandwidth * offset) * window[np.rint((offset + half) * n_phases).astype(int)]
    return (taps / taps.sum(1, keepdims=True)).astype(np.float32)


class RateConverter:
    """Rows at `from_hz` in, rows at `to_hz` out. Output k is at the time of input k from_hz / to_hz."""

    def __init__(self, from_hz: int, to_hz: int, n_rows: int, n_block: int) -> None:
        """`n_block` is the most that one `push` brings. Failure: the native library is not here."""
        self._library = sound_library()
        common = gcd(from_hz, to_hz)
        self._up, self._down = to_hz // common, from_hz // common
        lower = min(1.0, to_hz / from_hz)
        half = ceil(CROSSINGS / lower)
        self.delay_s = half / from_hz
        self.n_most = ceil(n_block * to_hz / from_hz) + 1
        self._n_taps = 2 * half
        self._taps = sinc_table(self._up, half, CUTOFF * lower)
        self._phases = ctypes.byref(Phases(self._taps.ctypes.data, self._n_taps, self._up, self._down))
        self._in = Fifo(n_rows, n_block + 2 * self._n_taps)
        self._half = half
        self.reset()

    def reset(self) -> None:
        """Back to silence."""
        self._in.clear()
        self._in.push_silence(self._half - 1)
        self._next = 0  # place of the next output, in 1 / up of an input sample

    def n_needed(self, n_out: int) -> int:
        """How many samples `push` must bring for `n_out` to be ready."""
        return max(0, (self._next + (n_out - 1) * self._down) // self._up + self._n_taps - self._in.n)

    def push(self, block: Float32Array, out: Fifo) -> None:
        """Take (n_rows, n) and append what is ready to `out`."""
        self._in.push(block)
        n = max(0, ((self._in.n - self._n_taps + 1) * self._up - 1 - self._next) // self._down + 1)
        convert = self._library.ed_convert_rate
        for row, row_out in zip(self._in.view(self._in.n), out.room(n), strict=True):
            convert(self._phases, row.ctypes.data, self._next, row_out.ctypes.data, n)
        consumed, self._next = divmod(self._next + n * self._down, self._up)
        self._in.drop(consumed)


class DriftConverter:
    """Rows in, rows out, 1 / `ratio` as many: a ratio above 1 hurries. Lags DRIFT_CROSSINGS samples.

    While the ratio is 1 from the start, output is input, bit for bit.
    """

    def __init__(self, n_rows: int, n_block: int) -> None:
        """`n_block` is the most that one `push` brings. Failure: the native library is not here."""
        self._library = sound_library()
        self.ratio = 1.0
        self.delay_samples = half = DRIFT_CROSSINGS
        self._half, self._n_taps = half, 2 * half
        self._taps = np.vstack((sinc_table(_N_PHASES, half, _DRIFT_CUTOFF), np.zeros((1, 2 * half), np.float32)))
        self._taps[-1, 1:] = self._taps[0, :-1]  # phase 1 is phase 0 of the next sample
        self._in = Fifo(n_rows, n_block + 2 * self._n_taps)
        self.reset()

    def reset(self) -> None:
        """Back to silence and to ratio 1."""
        self.ratio = 1.0
        self._in.clear()
        self._in.push_silence(self._half - 1)
        self._next = 0.0

    def push(self, block: Float32Array, out: Fifo) -> None:
        """Take (n_rows, n) and append what is ready to `out`."""
        self._in.push(block)
        n_spare = self._in.n - self._n_taps
        n = int((n_spare + 1 - 1e-9 - self._next) / self.ratio) + 1 if n_spare + 1 > self._next else 0
        if self.ratio == 1.0 and self._next == 0.0:
            out.push(self._in.view(self._half - 1 + n)[:, self._half - 1 :])
            self._in.drop(n)
            return
        follow = self._library.ed_follow_clock
        for row, row_out in zip(self._in.view(self._in.n), out.room(n), strict=True):
            follow(self._taps.ctypes.data, row.ctypes.data, self._next, self.ratio, row_out.ctypes.data, n)
        end = self._next + n * self.ratio
        self._in.drop(int(end))
        self._next = end - int(end)
