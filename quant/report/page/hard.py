"""Hard input as distance to the bound: a row an input, a mark an engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from quant.quality.results import RobustnessRow

MOST_DB: Final = 40.0  # farther inside than that is drawn there
LEAST_DB: Final = -10.0


class Mark(NamedTuple):
    """The nearest that one system comes to a bound on this input; `at` is percent from the left."""

    system: str
    kind: int
    distance_db: float | None
    quantity: str
    at: float


class Row(NamedTuple):
    """An input with all its systems."""

    stimulus: str
    marks: tuple[Mark, ...]
    ok: bool

    @property
    def nearest_db(self) -> float:
        """Of all systems; one that could not be measured is nearest of all."""
        return min(-1e9 if mark.distance_db is None else mark.distance_db for mark in self.marks)


def distance_db(row: RobustnessRow) -> float | None:
    """How far inside the bound; below zero it is broken."""
    if row.value is None:
        return None
    return row.bound - row.value if row.is_upper else row.value - row.bound


def at(distance: float) -> float:
    """Percent from the left."""
    inside = min(MOST_DB, max(LEAST_DB, distance))
    return round(100 * (inside - LEAST_DB) / (MOST_DB - LEAST_DB), 2)


def rows(found: Sequence[RobustnessRow]) -> list[Row]:
    """The inputs, nearest to a bound first."""
    systems = list(dict.fromkeys(row.system for row in found))
    inputs = list(dict.fromkeys(row.stimulus for row in found))
    drawn = [_row(stimulus, systems, [row for row in found if row.stimulus == stimulus]) for stimulus in inputs]
    return sorted(drawn, key=lambda row: row.nearest_db)


def _row(stimulus: str, systems: Sequence[str], found: Sequence[RobustnessRow]) -> Row:
    marks = []
    for kind, system in enumerate(systems):
        own = [row for row in found if row.system == system]
        if own:
            worst = min(own, key=lambda row: -1e9 if (d := distance_db(row)) is None else d)
            distance = distance_db(worst)
            marks.append(Mark(system, kind, distance, worst.quantity, at(LEAST_DB if distance is None else distance)))
    return Row(stimulus, tuple(marks), all(row.ok for row in found))
