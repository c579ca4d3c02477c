"""What was measured of the networks that come with the project, for a report until its user measures his own.

shipped.json says of each trained default when, on what, and in which dated pages it all stands; a part is of its
weights on its ranges alone.
"""

from __future__ import annotations

from importlib import resources
from typing import Final

import msgspec

from quant.quality.results import RobustnessRow, SystemPart

FILE: Final = "shipped.json"


class ShippedPart(msgspec.Struct, frozen=True, kw_only=True):
    """Measured by the project on `date` (2026-11-25), through `recordings`; `pages` tell how. `robustness`: of each
    kind of input the worst of all engines; empty where it was not measured."""

    weights_sha256: str
    ranges_sha256: str
    date: str
    recordings: str
    pages: tuple[str, ...]
    systems: tuple[SystemPart, ...]
    robustness: tuple[RobustnessRow, ...]


def read() -> tuple[ShippedPart, ...]:
    """The file."""
    return msgspec.json.decode((resources.files(__package__) / FILE).read_bytes(), type=tuple[ShippedPart, ...])


def measured_of(weights_sha256: str, ranges_sha256: str) -> ShippedPart | None:
    """What was measured of this very network; None of any other."""
    measured = (weights_sha256, ranges_sha256)
    return next((part for part in read() if (part.weights_sha256, part.ranges_sha256) == measured), None)
