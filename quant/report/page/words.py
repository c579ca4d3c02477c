"""Figures as people read them, and where they lie on an axis."""

from __future__ import annotations

import math
import re
from typing import Final, NamedTuple

EXACT_DB: Final = 200.0  # what the audit reports where nothing differs


def grouped(value: float) -> str:
    """1,234"""
    return f"{value:,.0f}"


def kilobytes(value: float) -> str:
    """55.0 KB, 1.20 MB"""
    return f"{value / 1024:,.1f} KB" if value < 1 << 20 else f"{value / (1 << 20):,.2f} MB"


def decibels(value: float) -> str:
    """32.7, or that nothing differs."""
    return "exact" if value >= EXACT_DB else f"{value:.1f}"


def percent(value: float) -> str:
    """0.8%, 53%"""
    return f"{value:.1%}" if 0 < abs(value) < 0.1 else f"{value:.0%}"


def three_digits(value: float) -> str:
    """0.129, 16, 1.24e+03"""
    return f"{value:.3g}"


def signed(value: float, digits: int) -> str:
    """With a sign that is no hyphen, and no sign at what rounds to nothing."""
    text = f"{value:+.{digits}f}"
    return text[1:] if not float(text) else text.replace("-", "−")


def with_minus(text: str) -> str:
    """Hyphens before figures as the sign that they mean; dates and options keep theirs."""
    return re.sub(r"(?<![\w.-])-(?=\d)", "−", text)


class LogAxis(NamedTuple):
    """Whole decades from `low` to `high`."""

    low: float
    high: float

    @classmethod
    def around(cls, *values: float) -> LogAxis:
        """The decades that hold all."""
        powers = [math.log10(value) for value in values]
        return cls(10.0 ** math.floor(min(powers)), 10.0 ** math.ceil(max(powers)))

    def at(self, value: float) -> float:
        """Percent from the left."""
        return round(100 * math.log10(value / self.low) / math.log10(self.high / self.low), 2)

    def ticks(self) -> list[tuple[str, float]]:
        """0.1, 1, 10: text and place."""
        n = round(math.log10(self.high / self.low))
        return [(f"{self.low * 10**i:g}", self.at(self.low * 10**i)) for i in range(n + 1)]
