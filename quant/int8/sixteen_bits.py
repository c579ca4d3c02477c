"""Affine ReLUs, gates and sums of the native engine's plan in 16 bits, which processors do eight or more at a time.

Steps of 8-bit grids, taken 128fold, or sums of their products are numbers of 16 bits. Each is multiplied with a number
of 16 bits, and the upper half of the product, rounded (halves upwards), is the result in 32nds of a step, which are
rounded once more to the byte: at most a 20th of a step beside that rounding, where float32 has none. A multiplier that
16 bits cannot hold leaves the node to float arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quant.int8.plan import Plan
from quant.int8.qparams import QParams, quantize_weight
from quant.network.graph import Graph, Node

STEP: Final = 32  # of these make a step of the result
STEPS: Final = 128  # a step is taken as so many
ONE: Final = 1 << 15
MOST: Final = ONE - 1
MOST_BYTE: Final = 127

Integers = NDArray[Any]


class AffineIntegers(NamedTuple):
    """What an affine ReLU multiplies and adds: `weight` and `bias` (channels, bands), `rise` and `multiplier` a
    channel; `unit`: 32nds of a step that one of the bias is."""

    weight: NDArray[np.int8]
    bias: NDArray[np.int8]
    rise: NDArray[np.int8]
    multiplier: NDArray[np.int16]
    unit: int


def with_sixteen_bits(graph: Graph, plan: Plan) -> tuple[Graph, Plan]:
    """The plan with nodes that say `sixteen_bits`, with whose grids `affine`, `gates` and `add` can compute.

    A gate of the channels joins one of the bands behind it, which then has three inputs. The value that an affine ReLU
    reads gets a grid around zero, if nothing else reads it.
    """
    graph, plan = _with_both_gates(graph, plan)
    grids = dict(plan.grids)
    for node in graph.nodes:
        path = _convolved(graph, plan, node) if node.kind == "affine_relu" and plan.is_int8(node) else []
        grids |= {name: centred(grids[name]) for name in path}
    plan = Plan(plan.precision, grids, plan.weight_scales)
    chosen = {n.name for n in graph.nodes if plan.is_int8(n) and _fits(graph, plan, n)}
    nodes = [replace(n, attrs={**n.attrs, "sixteen_bits": True}) if n.name in chosen else n for n in graph.nodes]
    return graph.rewritten(nodes), plan


def centred(q: QParams) -> QParams:
    """The grid around zero that reaches as far."""
    return q if q.zero_point == 0 else QParams(float(np.float32(max(-q.low / 128, q.high / MOST_BYTE))), 0)


def _convolved(graph: Graph, plan: Plan, node: Node) -> list[str]:
    """What an affine ReLU alone reads: a convolution in 8 bits, behind which the phases of a transposed one may lie."""
    path: list[str] = []
    while node.inputs[0] not in graph.inputs:
        node = graph.node(node.inputs[0])
        if len(graph.consumers(node.name)) != 1 or node.name == graph.output or not plan.is_int8(node):
            return []
        path.append(node.name)
        if node.kind == "conv":
            return path
        if node.kind != "interleave":
            return []
    return []


def _with_both_gates(graph: Graph, plan: Plan) -> tuple[Graph, Plan]:
    joined = {n.inputs[0]: n for n in graph.nodes if n.kind == "band_gate" and _joins(graph, plan, n)}
    nodes = []
    for node in graph.nodes:
        if node.name in joined:
            continue
        first = next((graph.node(name) for name, n in joined.items() if n is node), None)
        nodes.append(node if first is None else replace(node, inputs=(*first.inputs, node.inputs[1])))
    precision = {name: p for name, p in plan.precision.items() if name not in joined}
    grids = {name: q for name, q in plan.grids.items() if name not in joined}
    return graph.rewritten(nodes), Plan(precision, grids, plan.weight_scales)


def _joins(graph: Graph, plan: Plan, node: Node) -> bool:
    """Whether a gate of the bands alone reads a gate of the channels, both gates on grids with one zero point."""
    first = next((n for n in graph.nodes if n.name == node.inputs[0]), None)
    if first is None or first.kind != "gate" or not (plan.is_int8(first) and plan.is_int8(node)):
        return False
    alone = len(graph.consumers(first.name)) == 1 and first.name != graph.output
    channels, bands = plan.grids[first.inputs[1]], plan.grids[node.inputs[1]]
    grids = (plan.grids[first.inputs[0]], channels, bands)
    fits = 1 <= gate_factor(grids, plan.grids[node.name]) <= MOST
    return alone and channels.zero_point == bands.zero_point and fits


def _fits(graph: Graph, plan: Plan, node: Node) -> bool:
    """Whether 16 bits hold the multipliers of a node."""
    if node.kind == "band_gate":
        return len(node.inputs) == len(("value", "channels", "bands"))
    if node.kind == "add":
        return all(1 <= factor <= MOST for factor in add_factors(plan, node))
    if node.kind != "affine_relu" or plan.grids[node.inputs[0]].zero_point != 0:
        return False
    multipliers, steps = _affine_scales(graph, plan, node)
    return bool(multipliers.max() <= MOST) and bool(np.abs(steps).max() * STEP <= MOST_BYTE**2)


def _affine_scales(graph: Graph, plan: Plan, node: Node) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What takes sums to 32nds of a step, times 2^15, a channel; the biases in steps."""
    scales = plan.weight_scales[node.param("weight")].astype(np.float64)
    source, target = plan.grids[node.inputs[0]].scale, plan.grids[node.name].scale
    return np.rint(source * scales / target * STEP * ONE), graph.params[node.param("bias")] / np.float64(target)


def affine_integers(graph: Graph, plan: Plan, node: Node) -> AffineIntegers:
    """Of an affine ReLU in 16 bits."""
    scales = plan.weight_scales[node.param("weight")]
    weight, rise = (graph.params[node.param(role)] for role in ("weight", "rise"))
    multipliers, steps = _affine_scales(graph, plan, node)
    unit = max(1, int(np.ceil(np.abs(steps).max() * STEP / MOST_BYTE)))
    return AffineIntegers(
        quantize_weight(weight, scales),
        np.rint(steps * STEP / unit).astype(np.int8),
        quantize_weight(rise[:, None], scales)[:, 0],
        multipliers.astype(np.int16),
        unit,
    )


def gate_factor(grids: Sequence[QParams], target: QParams) -> int:
    """What takes a product of steps of a value and its two gates to steps of the result, times 2^29."""
    return round(float(np.prod([np.float64(q.scale) for q in grids]) / target.scale * (1 << 29)))


def add_factors(plan: Plan, node: Node) -> Iterator[int]:
    """What takes steps of each input to steps of the result, times 2^13."""
    target = plan.grids[node.name].scale
    return (round(np.float64(plan.grids[name].scale) / target * (STEP * ONE // STEPS)) for name in node.inputs)


def affine(x: Integers, w: AffineIntegers, q: QParams) -> NDArray[np.int8]:
    """(channels, bands) of int8 on a grid around zero: w x + r max(x, 0) + b."""
    x = x.astype(np.int32)
    total = w.weight.astype(np.int32) * x + w.rise.astype(np.int32)[:, None] * np.maximum(x, 0)
    return _bytes(high(total, w.multiplier.astype(np.int32)[:, None]) + w.bias.astype(np.int32) * w.unit, q)


def gates(values: Sequence[Integers], factor: int, q: QParams) -> NDArray[np.int8]:
    """Steps of (channels, bands), of a gate a channel and of one a band."""
    x, channels, bands = values
    return _bytes(high(STEPS * x, high(STEPS * channels, high(STEPS * bands, factor))), q)


def add(a: Integers, b: Integers, factors: Iterator[int], q: QParams) -> NDArray[np.int8]:
    """Steps of two values."""
    return _bytes(sum(high(STEPS * x, factor) for x, factor in zip((a, b), factors, strict=True)), q)


def high(a: Integers, b: Any) -> Integers:
    """The upper half of a product of 16-bit numbers, rounded, halves upwards."""
    return (a * b + ONE // 2) >> 15


def saturated(v: Integers) -> Integers:
    """Within 16 bits."""
    return np.clip(v, -ONE, MOST)


def _bytes(steps_32: Any, q: QParams) -> NDArray[np.int8]:
    return np.clip(((steps_32 + STEP // 2) >> 5) + q.zero_point, -128, 127).astype(np.int8)
