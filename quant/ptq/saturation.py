"""Ranges that end where nothing behind them would tell the difference, as a recipe asks.

Where only a sigmoid or tanh reads a value, what lies beyond its knee is one number: an 8-bit grid that ends there has
finer steps where they count. The gates of a recurrent layer are sums of two values before their curve; either may be
cut where the other, at its largest, cannot bring the sum back within the knee. And a recipe names floors, of values
whose lowest are rare and mean nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from calibration.ranges import Ranges, TapRange
from quant.int8.plan import SAME_GRID
from quant.int8.recipe import RECURRENT, Precision, Recipe
from quant.network.graph import Graph

KNEES: Final = {"sigmoid": 8.0, "tanh": 4.0}  # 1 - sigmoid(8) and 1 - tanh(4) are under a tenth of an 8-bit step


def limited(graph: Graph, precision: Mapping[str, Precision], ranges: Ranges, recipe: Recipe) -> Ranges:
    """The ranges of a prepared graph within the recipe's floors and, if it says so, the knees of curves."""
    values = dict(ranges.values)
    limits = dict(_limits(graph, precision, values)) if recipe.clip_saturated else {}
    for tap, limit in limits.items():
        values[tap] = _within(values[tap], -limit, limit)
    for floor in recipe.floors:
        if floor.tap in values:
            values[floor.tap] = _within(values[floor.tap], floor.low, values[floor.tap].high)
    return msgspec.structs.replace(ranges, values=values)


def _within(r: TapRange, low: float, high: float) -> TapRange:
    return msgspec.structs.replace(r, low=max(r.low, low), high=min(r.high, high))


def _limits(
    graph: Graph, precision: Mapping[str, Precision], values: Mapping[str, TapRange]
) -> Iterator[tuple[str, float]]:
    for node in graph.nodes:
        if node.kind in RECURRENT and precision[node.name] != "float":
            yield from _gate_limits(node.name, values)
        elif node.name in values and (knees := list(_knees(graph, node.name))) and None not in knees:
            yield node.name, max(knee for knee in knees if knee is not None)


def _gate_limits(name: str, values: Mapping[str, TapRange]) -> Iterator[tuple[str, float]]:
    """The larger knee for all gates: they share a grid."""
    knee = max(KNEES.values())
    from_input, from_state = (values[f"{name}.{role}"] for role in ("gates_x", "gates_h"))
    limit = knee + _peak(from_state)
    yield f"{name}.gates_x", limit
    yield f"{name}.gates_h", knee + min(_peak(from_input), limit)
    for role, kind in (("reset_update_sum", "sigmoid"), ("new_sum", "tanh")):
        if f"{name}.{role}" in values:
            yield f"{name}.{role}", KNEES[kind]


def _peak(r: TapRange) -> float:
    return max(-r.low, r.high)


def _knees(graph: Graph, name: str) -> Iterator[float | None]:
    """The knee of each reader, seen through what moves values; None of a reader without one."""
    for reader in graph.consumers(name):
        if reader.kind in SAME_GRID:
            yield from _knees(graph, reader.name)
        else:
            yield KNEES.get(reader.kind)
