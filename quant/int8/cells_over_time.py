"""Recurrent layers over time of the native engine's plan in 16 bits: a float cell's accuracy without its arithmetic.

A state of 8 bits cannot follow slow changes, and no more can an update gate of 256ths: those alone need more. The state
has 16 bits, the sums of products are float32 until they are rounded to what indexes a table, and both curves are odd,
so that half of each is tabled: a gate at or above a half is 1 less the other half, and is known to a 512th everywhere.
What others read, and the products of the next frame, are the state in 8 bits, on the grid that its products have in
every engine.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from quant.int8.plan import Plan
from quant.int8.qparams import UNIT
from quant.int8.sixteen_bits import MOST, ONE, STEP, high, saturated
from quant.network.graph import Graph, Node

# As fine as they can be where the last entry of either half is the last code but for a rounding.
GATE_STEPS: Final = 20  # of what indexes the table of both gates are 1
NEW_STEPS: Final = 40 * STEP  # and of the new state's sum, before it is rounded to 32nds
N_ENTRIES: Final = 128  # of half a curve
PART: Final = 64  # an entry's step in Q15 (a gate) or Q14 (the new state)
STATE_STEPS: Final = 128  # of a state in Q14 are one of the byte's
LEAST_BANDS: Final = 8  # a layer of fewer costs too little to be worth a second form of it

Values = NDArray[Any]


def with_cells_over_time(graph: Graph, plan: Plan) -> tuple[Graph, Plan]:
    """The plan with layers over time that say `sixteen_bits`; they make bytes, which nothing quantizes again."""
    chosen = {n.name for n in graph.nodes if n.kind == "gru" and _fits(graph, plan, n)}
    gone = {r.name: name for name in chosen for r in graph.consumers(name)}
    nodes = [
        replace(
            n,
            inputs=tuple(gone.get(i, i) for i in n.inputs),
            attrs={**n.attrs, "sixteen_bits": True} if n.name in chosen else n.attrs,
        )
        for n in graph.nodes
        if n.name not in gone
    ]
    precision = {name: "int8" if name in chosen else p for name, p in plan.precision.items() if name not in gone}
    grids = {name: q for name, q in plan.grids.items() if name not in gone} | dict.fromkeys(chosen, UNIT)
    return graph.rewritten(nodes), Plan(precision, grids, plan.weight_scales)


def _fits(graph: Graph, plan: Plan, node: Node) -> bool:
    """Whether a mixed layer over many bands is read in 8 bits alone, by what needs no rows around it."""
    if plan.precision[node.name] != "mixed" or node.name == graph.output:
        return False
    entrances = graph.consumers(node.name)
    readers = [r for e in entrances for r in graph.consumers(e.name)]
    read = bool(readers) and all(e.kind == "quantize" for e in entrances)
    plain = all(r.kind != "conv" or r.attrs["pad"] == 0 for r in readers)
    return (
        read
        and plain
        and graph.shapes[node.name].bands >= LEAST_BANDS
        and plan.grids[f"{node.name}.state"] == UNIT
        and not any(f"{node.name}.{role}" in plan.grids for role in ("gates_x", "gates_h"))
    )


def tables() -> NDArray[np.uint8]:
    """Half a sigmoid, of 0 to -127 20ths in 512ths, and half a tanh, of 0 to 127 40ths in 256ths."""
    at = np.arange(N_ENTRIES)
    curves = 512 / (1 + np.exp(at / GATE_STEPS)), 256 * np.tanh(at * STEP / NEW_STEPS)
    return np.minimum(np.rint(np.concatenate(curves)), 255).astype(np.uint8)


def next_state(x: Values, recurrent: Values, h: Values, table: NDArray[np.uint8]) -> NDArray[np.int16]:
    """(bands, units) of 16 bits from float32 sums (bands, 3 units), gates in the order reset, update, new."""
    n = 2 * h.shape[1]
    reset, update = np.split(_rounded((x + recurrent)[:, :n] * np.float32(GATE_STEPS), -128, 127), 2, axis=1)
    new, reset_part = (_rounded(v[:, n:] * np.float32(NEW_STEPS), -ONE, MOST) for v in (x, recurrent))
    at = np.clip((saturated(new + _passed(reset, reset_part, table)) + STEP // 2) // STEP, -128, 127)
    made = np.sign(at) * PART * _entry(table[N_ENTRIES:], at)
    return saturated(made + _passed(update, saturated(h - made), table)).astype(np.int16)


def as_bytes(h: Values) -> NDArray[np.int8]:
    """A state on its grid of 8 bits."""
    return np.clip((h.astype(np.int32) + STATE_STEPS // 2) // STATE_STEPS, -128, 127).astype(np.int8)


def _passed(gate: Values, whole: Values, table: NDArray[np.uint8]) -> Values:
    """What a gate at so many 20ths passes of a number."""
    part = high(PART * _entry(table, gate), whole)
    return np.where(gate < 0, part, whole - part)


def _entry(table: NDArray[np.uint8], at: Values) -> Values:
    return table[np.minimum(np.abs(at), N_ENTRIES - 1)].astype(np.int32)


def _rounded(v: Values, low: int, high_: int) -> Values:
    return np.rint(np.clip(v, low, high_)).astype(np.int32)
