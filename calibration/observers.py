"""The values a tap takes -> the range worth quantizing.

Every observer keeps one `Histogram`, so its memory is constant and its answer is the same for any chunking
and any order of the same values. Ranges always hold 0, since padding and a reset state are 0, and are at
least SMALLEST_PEAK wide: a tap that only ever was 0 still gets a scale to divide by.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import Failure

SMALLEST_PEAK = 2.0**-20
MSE_SHRINKS = 2.0 ** -np.linspace(0, 6, 97)  # candidates, 0.38 dB apart, down to 1/64 of the extreme

_HALF_BITS = 13
_HALF = 1 << _HALF_BITS  # bins on each side of 0
_BLOCK = 2**16  # values binned at a time, so that they stay in cache
_NO_SIGN = 0.0  # added, it makes -0.0 into 0.0, which would depend on the order of arrival and show in files

Values = npt.NDArray[np.floating[Any]]
Counts = npt.NDArray[np.int64]
Reals = npt.NDArray[np.float64]


class Histogram:
    """Counts in 2 x 8192 bins around 0 whose width is a power of two, with the exact minimum and maximum.

    Bin i holds i * width <= value < (i + 1) * width. When a value falls outside, the width doubles and bins
    2i and 2i + 1 become bin i, which is where their values would have gone had the width been so all along:
    nothing is lost to the order of arrival. At least 4096 bins lie between 0 and the largest magnitude.
    """

    def __init__(self) -> None:
        self.counts: Counts = np.zeros(2 * _HALF, np.int64)
        self.exponent = _exponent(0.0)
        self.n_values = 0
        self.min = math.inf
        self.max = -math.inf

    @property
    def width(self) -> float:
        return math.ldexp(1.0, self.exponent)

    @property
    def peak(self) -> float:
        return max(-self.min, self.max, 0.0)

    @property
    def centres(self) -> Reals:
        """(16384,) middle of each bin, within the values seen: a constant is where it is, not beside it."""
        middles = (np.arange(-_HALF, _HALF) + 0.5) * self.width
        within: Reals = np.clip(middles, self.min, self.max)
        return within

    def observe(self, values: Values) -> None:
        """Count values of any shape; none at all is fine, NaN or infinity fails."""
        flat = values.reshape(-1)
        if not flat.size:
            return
        low, high = float(flat.min()), float(flat.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise Failure("observed NaN or infinity", remedy="check the checkpoint and the recordings")
        self.min, self.max = min(self.min, low) + _NO_SIGN, max(self.max, high) + _NO_SIGN
        self._reach(max(-low, high))
        for start in range(0, flat.size, _BLOCK):
            self._count(flat[start : start + _BLOCK])
        self.n_values += flat.size

    def below(self, p: float) -> float:
        """The upper edge of the first bin that leaves p % of the values below it, at most the maximum."""
        return min((_place(self.counts, p) - _HALF + 1) * self.width, self.max)

    def above(self, p: float) -> float:
        """The lower edge of the last bin that leaves p % of the values above it, at least the minimum."""
        return max((_HALF - 1 - _place(self.counts[::-1], p)) * self.width, self.min)

    def within(self, p: float) -> float:
        """The magnitude that p % of the values do not exceed, up to one bin, at most the peak."""
        magnitudes = self.counts[_HALF:] + self.counts[_HALF - 1 :: -1]
        return min((_place(magnitudes, p) + 1) * self.width, self.peak)

    def _reach(self, peak: float) -> None:
        """Widen the bins until they hold `peak`."""
        exponent = max(self.exponent, _exponent(peak))
        # Beyond _HALF_BITS doublings every count already lies in one of the two bins around 0.
        n_doublings = min(exponent - self.exponent, _HALF_BITS + 1) if self.n_values else 0
        for _ in range(n_doublings):
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts[:] = 0
            self.counts[_HALF // 2 : _HALF // 2 + _HALF] = pairs
        self.exponent = exponent

    def _count(self, values: Values) -> None:
        # float64: a power-of-two multiple of a float32 is then exact, and so is the bin.
        places = np.floor(np.multiply(values, 1 / self.width, dtype=np.float64)).astype(np.intp)
        self.counts += np.bincount(places + _HALF, minlength=2 * _HALF)


@dataclass(eq=False)
class Observer(ABC):
    """What all observers are: a histogram, which several may share, and a way to read a range from it."""

    histogram: Histogram = field(default_factory=Histogram)

    def observe(self, values: Values) -> None:
        """Take in values of any shape."""
        self.histogram.observe(values)

    def range(self, n_bits: int, symmetric: bool) -> tuple[float, float]:
        """(low, high) for `n_bits`, with low <= 0 <= high and, if symmetric, low == -high.

        Fails when nothing was observed.
        """
        if not self.histogram.n_values:
            raise Failure("nothing was observed", remedy="calibrate on more clips or a shorter warm-up")
        low, high = self._bounds(n_bits, symmetric)
        low, high = min(low, 0.0) + _NO_SIGN, max(high, 0.0) + _NO_SIGN
        if symmetric:
            high = max(-low, high, SMALLEST_PEAK)
            return -high, high
        return (low, high) if high - low >= SMALLEST_PEAK else (low, SMALLEST_PEAK)

    @abstractmethod
    def _bounds(self, n_bits: int, symmetric: bool) -> tuple[float, float]:
        """The range before 0 and the smallest width are seen to."""


@dataclass(eq=False)
class MinMax(Observer):
    """Everything seen: no clipping, and one outlier sets the step for all."""

    def _bounds(self, n_bits: int, symmetric: bool) -> tuple[float, float]:
        return self.histogram.min, self.histogram.max


@dataclass(eq=False)
class Percentile(Observer):
    """All but the (100 - p) % at either end; of the magnitudes if symmetric."""

    p: float = 99.99

    def _bounds(self, n_bits: int, symmetric: bool) -> tuple[float, float]:
        if symmetric:
            magnitude = self.histogram.within(self.p)
            return -magnitude, magnitude
        return self.histogram.above(self.p), self.histogram.below(self.p)


@dataclass(eq=False)
class MinMse(Observer):
    """The range with the least expected squared error: rounding inside it, clipping outside it."""

    def _bounds(self, n_bits: int, symmetric: bool) -> tuple[float, float]:
        n_steps = 2**n_bits - (2 if symmetric else 1)
        lows, highs = _candidates(self.histogram, n_steps, symmetric)
        best = int(np.argmin(_squared_error(self.histogram, lows, highs, n_steps)))
        return float(lows[best]), float(highs[best])


OBSERVERS: dict[str, type[Observer]] = {"min_max": MinMax, "percentile": Percentile, "min_mse": MinMse}


class ChannelMax:
    """The magnitude each channel of a tap reaches, for moving scale between layers."""

    def __init__(self) -> None:
        self.histograms: list[Histogram] = []

    def observe(self, values: Values) -> None:
        """Take in values (channels, n)."""
        self.histograms = self.histograms or [Histogram() for _ in values]
        for histogram, channel in zip(self.histograms, values, strict=True):
            histogram.observe(channel)

    def maxima(self, p: float = 100.0) -> Reals:
        """(channels,) magnitudes that p % of a channel's values do not exceed; a silent channel's is 0."""
        return np.array([histogram.within(p) for histogram in self.histograms])


def _exponent(peak: float) -> int:
    """The width's exponent at which 8192 bins just hold `peak`."""
    return math.frexp(max(peak, SMALLEST_PEAK / 2))[1] - _HALF_BITS


def _place(counts: Counts, p: float) -> int:
    """Index of the bin in which p % of the counts are reached."""
    running = np.cumsum(counts)
    rank = max(math.ceil(int(running[-1]) * p / 100), 1)
    return int(np.searchsorted(running, rank))


def _candidates(histogram: Histogram, n_steps: int, symmetric: bool) -> tuple[Reals, Reals]:
    """Lows and highs (m,), widest first, each pair moved so that 0 is a whole step, as a zero point is."""
    if symmetric:
        highs = histogram.peak * MSE_SHRINKS
        return -highs, highs
    low, high = min(histogram.min, 0.0), max(histogram.max, SMALLEST_PEAK)
    lows, highs = (ends.ravel() for ends in np.meshgrid(low * MSE_SHRINKS, high * MSE_SHRINKS))
    steps = (highs - lows) / n_steps
    n_below = np.round(-lows / steps)
    return -n_below * steps, (n_steps - n_below) * steps


def _squared_error(histogram: Histogram, lows: Reals, highs: Reals, n_steps: int) -> Reals:
    """Expected squared error, summed over all values, of `n_steps` steps between each low and high (m,).

    A value x beyond the range costs its distance to it squared; one inside costs step**2 / 12, the variance
    of a uniform error, except that within half a step of 0 it becomes 0 and costs x**2: much of a sparse tap.
    """
    centres = histogram.centres
    moments = np.stack([_running(histogram.counts * centres**power) for power in range(3)])
    steps = (highs - lows) / n_steps

    def up_to(bounds: Reals, side: Literal["left", "right"]) -> Reals:
        sums: Reals = moments[:, np.searchsorted(centres, bounds, side)]
        return sums

    # What lies on an end counts as clipped by nothing: an end is a whole step, so nothing is rounded there.
    below, inside = up_to(lows, "right"), up_to(highs, "left")
    above = moments[:, -1:] - inside
    near = up_to(np.minimum(steps / 2, highs), "left") - up_to(np.maximum(-steps / 2, lows), "right")
    n_rounded = inside[0] - below[0] - near[0]
    rounding: Reals = near[2] + n_rounded * steps**2 / 12
    return _clipping(below, lows) + _clipping(above, highs) + rounding


def _clipping(moments: Reals, bounds: Reals) -> Reals:
    """Sum of (x - bound)**2 from the sums of 1, x and x**2."""
    total: Reals = moments[2] - 2 * bounds * moments[1] + bounds**2 * moments[0]
    return total


def _running(values: Reals) -> Reals:
    """Sums of the first 0, 1, ... n values: (n + 1,)."""
    return np.concatenate([[0.0], np.cumsum(values)])
