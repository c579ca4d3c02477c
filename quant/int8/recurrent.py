"""Recurrent cells of the integer reference: in float, with 8-bit products, with every value in 8 bits; and the two
operations on steps of grids that other 8-bit nodes share with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.int8 import cells, cells_over_time, exact_float
from quant.int8.plan import Plan
from quant.int8.qparams import (
    QParams,
    dequantize,
    quantize,
    quantize_bias,
    quantize_weight,
    requantize,
    requantize_sum,
)
from quant.network.graph import Graph, Node
from quant.network.gru_weights import GruWeights, merged, merged_scales

Values = NDArray[Any]  # float32 or, on a grid, int8


def steps(values: Values, q: QParams) -> Values:
    """Distance from real zero, in steps of the grid."""
    return values.astype(np.int32) - q.zero_point


def product(a: Values, a_grid: QParams, b: Values, b_grid: QParams, q: QParams) -> Values:
    """a * b on a grid, from steps."""
    return requantize(a * b, np.float64(a_grid.scale) * b_grid.scale, q)


def _curve(function: Callable[[Values], Values], source: QParams, target: QParams) -> Values:
    """An 8-bit function as a table of 256 entries, from -128 on."""
    grid = np.arange(-128, 128)
    return quantize(function((grid - source.zero_point) * np.float64(source.scale)), target)


def sigmoid_table(source: QParams, target: QParams) -> Values:
    """sigmoid from grid to grid."""
    return _curve(lambda x: 1 / (1 + np.exp(-x)), source, target)


def tanh_table(source: QParams, target: QParams) -> Values:
    """tanh from grid to grid."""
    return _curve(np.tanh, source, target)


def _look_up(table: Values, values: Values) -> Values:
    return table[values.astype(np.int32) + 128]


def gru_layer(graph: Graph, plan: Plan, node: Node) -> _GruFloat | _GruInt8:
    """The cell of a recurrent node, groups and directions merged."""
    weights = merged(graph, node)
    if not plan.reads_int8(node):
        return _GruFloat(weights, quick=node.attrs.get("quick", False))
    if node.attrs.get("sixteen_bits"):
        if node.kind == "gru":
            return _GruOverTime(weights, plan, node)
        return _GruSixteen(weights, plan, node, cells.cell_integers(graph, plan, node))
    return (_GruInt8 if plan.is_int8(node) else _GruMixed)(weights, plan, node)


class _GruFloat:
    """A GRU cell in float32; `h` is (bands, hidden)."""

    def __init__(self, w: GruWeights, *, quick: bool) -> None:
        self.w, self.quick = w, quick

    def start(self) -> Values:
        return np.zeros((1, self.w.hidden), np.float32)

    def gates_x(self, x: Values) -> Values:
        return exact_float.linear(x, self.w.w_ih, self.w.b_ih)

    def step(self, gates_x: Values, h: Values) -> Values:
        return _float_step(gates_x, exact_float.linear(h, self.w.w_hh, self.w.b_hh), h, quick=self.quick)


def _float_step(gates_x: Values, gates_h: Values, h: Values, *, quick: bool) -> Values:
    """`quick`: by the curve of the native engine's plan (`roundings`)."""
    sigmoid, tanh = (
        (exact_float.quick_sigmoid, exact_float.quick_tanh) if quick else (exact_float.sigmoid, exact_float.tanh)
    )
    n, n_rz = h.shape[1], 2 * h.shape[1]
    gates = sigmoid(gates_x[:, :n_rz] + gates_h[:, :n_rz])
    r, z = gates[:, :n], gates[:, n:]
    new = tanh(gates_x[:, n_rz:] + r * gates_h[:, n_rz:])
    return new + z * (h - new)


class _GruInt8:
    """The same cell with every intermediate value on its own 8-bit grid; `h` is int8."""

    def __init__(self, w: GruWeights, plan: Plan, node: Node) -> None:
        self.w, self.plan, self.node = w, plan, node
        self.scales = merged_scales(node, plan.weight_scales)
        self.integers = {
            role: quantize_weight(weight, self.scales[role]).astype(np.int32).T
            for role, weight in {"weight_ih": w.w_ih, "weight_hh": w.w_hh}.items()
        }
        self._biases: dict[str, Values] = {}
        self._make_tables()

    def _make_tables(self) -> None:
        self.sigmoid = sigmoid_table(self._grid("reset_update_sum"), self._grid("reset_update"))
        self.tanh = tanh_table(self._grid("new_sum"), self._grid("new"))

    def _grid(self, role: str) -> QParams:
        return self.plan.grids[f"{self.node.name}.{role}" if role else self.node.name]

    def start(self) -> Values:
        return np.full((1, self.w.hidden), self._grid("").zero_point, np.int8)

    def _gates(self, x: Values, source: QParams, role: str, bias: Values, target: str) -> Values:
        scales = self.scales[role]
        total = (x.astype(np.int32) - source.zero_point) @ self.integers[role]
        if role not in self._biases:
            self._biases[role] = quantize_bias(bias, source.scale, scales)
        total = total + self._biases[role]
        return self._put(total, np.float64(source.scale) * scales, target)

    def _put(self, total: Values, unit: Values, target: str) -> Values:
        return requantize(total, unit, self._grid(target))

    def gates_x(self, x: Values) -> Values:
        return self._gates(x, self.plan.grids[self.node.inputs[0]], "weight_ih", self.w.b_ih, "gates_x")

    def step(self, gates_x: Values, h: Values) -> Values:
        n_rz, grid = 2 * self.w.hidden, self._grid
        gates_h = self._gates(h, grid(""), "weight_hh", self.w.b_hh, "gates_h")
        x, hh = steps(gates_x, grid("gates_x")), steps(gates_h, grid("gates_h"))
        total = self._sum(x[:, :n_rz], "gates_x", hh[:, :n_rz], "gates_h", "reset_update_sum")
        gates = steps(_look_up(self.sigmoid, total), grid("reset_update"))
        r, z = gates[:, : self.w.hidden], gates[:, self.w.hidden :]
        reset_h = self._times(r, "reset_update", hh[:, n_rz:], "gates_h", "reset_h")
        new_sum = self._sum(x[:, n_rz:], "gates_x", steps(reset_h, grid("reset_h")), "reset_h", "new_sum")
        n = steps(_look_up(self.tanh, new_sum), grid("new"))
        difference = self._sum(steps(h, grid("")), "", -n, "new", "difference")
        update = self._times(z, "reset_update", steps(difference, grid("difference")), "difference", "update")
        return self._sum(n, "new", steps(update, grid("update")), "update", "")

    def _sum(self, a: Values, a_role: str, b: Values, b_role: str, role: str) -> Values:
        return requantize_sum(a, self._grid(a_role).scale, b, self._grid(b_role).scale, self._grid(role))

    def _times(self, a: Values, a_role: str, b: Values, b_role: str, role: str) -> Values:
        return product(a, self._grid(a_role), b, self._grid(b_role), self._grid(role))


class _GruSixteen(_GruInt8):
    """The same in 16 bits, as the native engine's plan has layers over bands."""

    def __init__(self, w: GruWeights, plan: Plan, node: Node, numbers: cells.CellIntegers) -> None:
        super().__init__(w, plan, node)
        self.numbers = numbers

    def step(self, gates_x: Values, h: Values) -> Values:
        n_rz, c, gate = 2 * self.w.hidden, self.numbers, self._grid("reset_update")
        x, h = gates_x.astype(np.int32), h.astype(np.int32)
        recurrent = cells.recurrent_sums(h @ self.integers["weight_hh"], c)
        index = cells.gate_index(x[:, :n_rz], recurrent[:, :n_rz], c)
        reset, update = np.split(steps(_look_up(self.sigmoid, index), gate), 2, axis=1)
        new = _look_up(self.tanh, cells.new_index(x[:, n_rz:], reset, recurrent[:, n_rz:], c))
        return cells.next_state(new.astype(np.int32), update, h)


class _GruMixed(_GruInt8):
    """Products in integers, gates and state in float32."""

    def _make_tables(self) -> None:
        """Its curves are float."""

    def start(self) -> Values:
        return np.zeros((1, self.w.hidden), np.float32)

    def _put(self, total: Values, unit: Values, target: str) -> Values:
        """In float: on their grid where they have one (`roundings`)."""
        if f"{self.node.name}.{target}" not in self.plan.grids:
            return total.astype(np.float32) * unit.astype(np.float32)
        return dequantize(super()._put(total, unit, target), self._grid(target))

    def step(self, gates_x: Values, h: Values) -> Values:
        state = quantize(h, self._grid("state"))
        gates_h = self._gates(state, self._grid("state"), "weight_hh", self.w.b_hh, "gates_h")
        return _float_step(gates_x, gates_h, h, quick=self.node.attrs.get("quick", False))


class _GruOverTime(_GruMixed):
    """The same with gates by table and a state of 16 bits, as the native engine's plan has layers over time."""

    def _make_tables(self) -> None:
        self.table = cells_over_time.tables()

    def step(self, gates_x: Values, h: Values) -> Values:
        state = cells_over_time.as_bytes(h)
        gates_h = self._gates(state, self._grid("state"), "weight_hh", self.w.b_hh, "gates_h")
        return cells_over_time.next_state(gates_x, gates_h, h.astype(np.int32), self.table)
