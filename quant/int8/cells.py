"""8-bit recurrent layers over bands of the native engine's plan in 16 bits: no grids within a cell.

Gates and state have fixed grids (`plan.GRU_FIXED`): a gate is a byte of 256ths, new and state are bytes of 128ths. Only
they, and what indexes a curve's table, are rounded to bytes. Sums go in 32nds of a step of the table's grid, as in
`sixteen_bits`, and the exact sum of four 8-bit products, 17 bits, as half of it. A layer whose multipliers or biases 16
bits do not hold keeps its grids.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quant.int8.plan import GRU_FIXED, Plan
from quant.int8.qparams import QParams
from quant.int8.sixteen_bits import MOST, ONE, STEP, STEPS, high, saturated
from quant.network.graph import Graph, Node
from quant.network.gru_weights import merged, merged_scales

UNROUNDED: Final = ("gates_h", "reset_h", "difference", "update")  # roles whose grids go
HALF: Final = 2  # of an exact sum's steps are one of what is multiplied
MOST_PRODUCTS: Final = 4  # under a sum

Integers = NDArray[Any]


class CellIntegers(NamedTuple):
    """`multiplier` and `bias` (3, units) of W_hh h + b_hh, gates in the order reset, update, new; what multiplies a
    byte of W_ih x + b_ih in the sums of both gates, `x_gates`, and of the new state, `x_new`, and what that starts
    from. The biases of both gates have their table's zero point and that of x in them, and half a step.
    """

    multiplier: NDArray[np.int16]
    bias: NDArray[np.int16]
    x_gates: int
    x_new: int
    start_new: int


def with_cells(graph: Graph, plan: Plan) -> tuple[Graph, Plan]:
    """The plan with layers over bands that say `sixteen_bits` and have no grids that their cells do not need."""
    chosen = {n.name for n in graph.nodes if n.kind == "bigru" and plan.is_int8(n) and _fits(graph, plan, n)}
    gone = {f"{name}.{role}" for name in chosen for role in UNROUNDED}
    nodes = [replace(n, attrs={**n.attrs, "sixteen_bits": True}) if n.name in chosen else n for n in graph.nodes]
    grids = {name: q for name, q in plan.grids.items() if name not in gone}
    return graph.rewritten(nodes), Plan(plan.precision, grids, plan.weight_scales)


def _fits(graph: Graph, plan: Plan, node: Node) -> bool:
    """Whether 16 bits hold a layer's numbers, on the grids that its cells know by heart."""
    fixed = all(plan.grids[f"{node.name}.{role}"] == q for role, q in GRU_FIXED.items())
    n_products = max(graph.params[name].shape[1] for name in node.params["weight_hh"])
    if not fixed or plan.grids[node.name] != GRU_FIXED["state"] or n_products > MOST_PRODUCTS:
        return False
    multiplier, bias, *single = _numbers(graph, plan, node)
    held = all(np.abs(v).max() <= MOST for v in (multiplier, bias, *single))
    return bool(held and min(single[:2]) >= 1)


def _numbers(graph: Graph, plan: Plan, node: Node) -> tuple[NDArray[np.float64], ...]:
    """CellIntegers as whole numbers of any size."""
    x, gates, new = (plan.grids[f"{node.name}.{role}"] for role in ("gates_x", "reset_update_sum", "new_sum"))
    target = np.array([gates.scale, gates.scale, new.scale], np.float64)[:, None]
    scales = merged_scales(node, plan.weight_scales)["weight_hh"].reshape(3, -1)
    units = np.float64(plan.grids[node.name].scale) * scales
    bias = merged(graph, node).b_hh.reshape(3, -1) / target * STEP
    bias[:2] += _start(x, gates)
    factors = (np.rint(np.float64(x.scale) / q.scale * (STEP * ONE // STEPS)) for q in (gates, new))
    return (np.rint(units / target * (HALF * STEP * ONE)), np.rint(bias), *factors, np.rint(_start(x, new)))


def _start(x: QParams, q: QParams) -> np.float64:
    """32nds of a step of `q` that a sum starts from: the zero points of both, and half a step, but for half a 32nd, for
    of whole 32nds as many are rounded up as down only then."""
    return np.float64((q.zero_point - x.zero_point * np.float64(x.scale) / q.scale) * STEP + STEP / 2 - 1 / 2)


def cell_integers(graph: Graph, plan: Plan, node: Node) -> CellIntegers:
    """Of a layer that says `sixteen_bits`."""
    multiplier, bias, *single = _numbers(graph, plan, node)
    return CellIntegers(multiplier.astype(np.int16), bias.astype(np.int16), *map(int, single))


def recurrent_sums(total: Integers, c: CellIntegers) -> Integers:
    """(units of three gates) of exact sums of products: in 32nds of a step."""
    return saturated(high(total // HALF, c.multiplier.astype(np.int32).ravel()) + c.bias.ravel())


def gate_index(x: Integers, recurrent: Integers, c: CellIntegers) -> Integers:
    """Bytes of x and sums -> the bytes at which both gates' table is read."""
    return _byte(saturated(recurrent + high(STEPS * x, c.x_gates)))


def new_index(x: Integers, reset: Integers, recurrent: Integers, c: CellIntegers) -> Integers:
    """The same of the new state; `reset` in 256ths."""
    start = saturated(high(STEPS * x, c.x_new) + c.start_new)
    return _byte(saturated(start + high(STEPS * reset, recurrent)))


def next_state(new: Integers, update: Integers, h: Integers) -> NDArray[np.int8]:
    """new + update * (h - new), in 128ths; `update` in 256ths."""
    made = STEPS * new + high(STEPS * update, STEPS * (h - new))
    return ((made + STEPS // 2) // STEPS).astype(np.int8)


def _byte(v: Integers) -> NDArray[np.int8]:
    return np.clip(v // STEP, -128, 127).astype(np.int8)
