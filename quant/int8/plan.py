"""The plan: what is stored in 8 bits and on which grid, decided before anything is emitted.

It is data: a precision for each node, a grid for each 8-bit value, scales for each 8-bit weight. A state's input and
output share the grid of the value they carry. `prepare` first makes the entrances of 8-bit nodes explicit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from calibration.ranges import Ranges
from edge_runtime.stft import Float32Array
from quant.int8.qparams import SIGMOID, UNIT, QParams, choose_qparams, choose_weight_scales
from quant.int8.recipe import FOLLOWERS, RECURRENT, Precision, Recipe, assign
from quant.network.graph import Graph, Node

SAME_GRID = frozenset(
    {"slice", "interleave", "stack_bands", "unstack_bands"}
)  # moves values, so cannot change their grid
GRU_FIXED = {"state": UNIT, "reset_update": SIGMOID, "new": UNIT}
MIXED_RANGED = ("gates_x", "gates_h")
GRU_RANGED = ("gates_x", "gates_h", "reset_update_sum", "reset_h", "new_sum", "difference", "update")
AFFINE_BIAS_LIMIT = 2**15 - 2  # in steps of the sum: engines keep it in 16 bits, and a scale may be rounded down
ENTRANCE = ".q8"  # what `prepare` calls the 8-bit form of a float value
GRU_ROLES = (*GRU_RANGED, *GRU_FIXED)  # every value inside a GRU


@dataclass(frozen=True)
class Plan:
    """precision: node -> int8, mixed, float; grids: tap -> QParams; weight_scales: parameter -> one scale a channel."""

    precision: Mapping[str, Precision]
    grids: Mapping[str, QParams]
    weight_scales: Mapping[str, Float32Array]

    def is_int8(self, node: Node) -> bool:
        """Whether the node computes in 8 bits."""
        return self.precision.get(node.name) == "int8"

    def reads_int8(self, node: Node) -> bool:
        """Whether the node multiplies in 8 bits, whatever its result is."""
        return self.precision.get(node.name) in ("int8", "mixed")


def prepare(graph: Graph, recipe: Recipe) -> tuple[Graph, dict[str, Precision]]:
    """Insert a `quantize` node wherever an 8-bit node reads a float value; return the precisions with it."""
    precision = dict(assign(recipe, graph))
    return with_entrances(graph, precision), precision


def with_entrances(graph: Graph, precision: dict[str, Precision]) -> Graph:
    """A `quantize` node wherever an 8-bit node reads a float value; `precision` takes them in."""
    nodes, shapes = list[Node](), dict(graph.shapes)
    for node in graph.nodes:
        inputs = []
        for name in node.inputs:
            if precision[node.name] != "float" and precision.get(name) != "int8" and node.kind not in FOLLOWERS:
                entrance = name + ENTRANCE
                if entrance not in shapes:
                    nodes.append(Node("quantize", entrance, (name,)))
                    shapes[entrance] = graph.shapes[name]
                    precision[entrance] = "int8"
                name = entrance
            inputs.append(name)
        nodes.append(replace(node, inputs=tuple(inputs)))
    return graph.rewritten(nodes, shapes)


def int8_taps(graph: Graph, precision: Mapping[str, Precision]) -> list[str]:
    """The taps whose ranges the plan needs, in execution order."""
    taps: list[str] = []
    for node in graph.nodes:
        if precision[node.name] == "float" or node.kind in SAME_GRID:
            continue
        if node.kind in RECURRENT:
            ranged = MIXED_RANGED if precision[node.name] == "mixed" else GRU_RANGED
            taps += [f"{node.name}.{role}" for role in ranged]
        else:
            taps.append(node.name)
    return taps


def make_plan(graph: Graph, precision: Mapping[str, Precision], ranges: Ranges) -> Plan:
    """Choose a grid for each 8-bit value of a prepared graph, and scales for each 8-bit weight."""
    grids: dict[str, QParams] = {}
    scales: dict[str, Float32Array] = {}
    for node in graph.nodes:
        if precision[node.name] == "float":
            continue
        if node.kind in SAME_GRID or _shuffles_one_grid(node, grids):
            grids[node.name] = grids[node.inputs[0]]
        elif node.kind in RECURRENT:
            grids.update(_gru_grids(node, ranges, mixed=precision[node.name] == "mixed"))
            scales.update(_gru_scales(graph, node))
        else:
            grids[node.name] = _grid(ranges, node.name)
        if node.kind == "conv":
            scales[node.param("weight")] = choose_weight_scales(graph.params[node.param("weight")])
        elif node.kind == "affine_relu":
            weight, rise = (node.param(role) for role in ("weight", "rise"))
            scales[weight] = scales[rise] = _affine_scales(graph.arrays(node), grids[node.inputs[0]].scale)
        elif node.kind == "band_energy":
            weight = node.param("weight")
            scales[weight] = choose_weight_scales(graph.params[weight][None])
    return Plan(dict(precision), grids, scales)


def _grid(ranges: Ranges, tap: str) -> QParams:
    r = ranges.values[tap]
    return choose_qparams(r.low, r.high)


def _shuffles_one_grid(node: Node, grids: Mapping[str, QParams]) -> bool:
    """Two halves of one value are moved as they are, whatever range was trained for what comes of it."""
    return node.kind == "shuffle" and len({grids.get(name) for name in node.inputs}) == 1


def _affine_scales(arrays: Mapping[str, Float32Array], input_scale: float) -> Float32Array:
    """One scale a channel for the weights of all bands and the rise: 8 bits hold them, 16 bits hold the bias."""
    weights = choose_weight_scales(np.concatenate([arrays["weight"], arrays["rise"][:, None]], 1))
    bias = np.abs(arrays["bias"]).max(1) / (np.float64(input_scale) * AFFINE_BIAS_LIMIT)
    return np.maximum(weights, bias).astype(np.float32)


def _gru_grids(node: Node, ranges: Ranges, *, mixed: bool) -> dict[str, QParams]:
    """Sigmoid, tanh and the state have the fixed grids that runtimes ask for; the rest is measured."""
    ranged, fixed = (MIXED_RANGED, {"state": UNIT}) if mixed else (GRU_RANGED, {**GRU_FIXED, "": UNIT})
    grids = {f"{node.name}.{role}": _grid(ranges, f"{node.name}.{role}") for role in ranged}
    return grids | {f"{node.name}.{role}".removesuffix("."): q for role, q in fixed.items()}


def _gru_scales(graph: Graph, node: Node) -> dict[str, Float32Array]:
    """One scale for each row of each gate matrix."""
    return {
        name: choose_weight_scales(graph.params[name])
        for role in ("weight_ih", "weight_hh")
        for name in node.params[role]
    }


def uses_once(graph: Graph, node: Node) -> bool:
    """Whether a frame uses each parameter once, so that reading it costs as much as multiplying by it."""
    over_one_band = node.kind == "conv" and graph.shapes[node.name].bands == 1
    return over_one_band or node.kind in RECURRENT | {"layer_norm", "affine_relu"}


class PlanRow(msgspec.Struct, frozen=True, kw_only=True):
    """A value, with its grid and range where it is stored in 8 bits, or an 8-bit weight (`kind` weight) with a scale an
    output channel."""

    tap: str
    kind: str
    type: Literal["int8", "float"]
    scale: float | UnsetType = UNSET
    zero_point: int | UnsetType = UNSET
    low: float | UnsetType = UNSET
    high: float | UnsetType = UNSET
    scales: tuple[float, ...] | UnsetType = UNSET


def plan_table(graph: Graph, plan: Plan) -> tuple[PlanRow, ...]:
    """The plan as rows, in execution order: every value, every 8-bit weight."""
    rows: list[PlanRow] = []
    for node in graph.nodes:
        inner = GRU_ROLES if node.kind in RECURRENT else ()
        rows += [_value_row(tap, node, plan) for tap in (*(f"{node.name}.{role}" for role in inner), node.name)]
        rows += [
            PlanRow(tap=name, kind="weight", type="int8", scales=tuple(plan.weight_scales[name].tolist()))
            for names in node.params.values()
            for name in names
            if name in plan.weight_scales
        ]
    return tuple(rows)


def _value_row(tap: str, node: Node, plan: Plan) -> PlanRow:
    q = plan.grids.get(tap)
    if q is None:
        return PlanRow(tap=tap, kind=node.kind, type="float")
    return PlanRow(tap=tap, kind=node.kind, type="int8", scale=q.scale, zero_point=q.zero_point, low=q.low, high=q.high)
