"""Recurrent layers as operations of the native engine.

Over time, every band for itself: both matrix products as convolutions over all bands, then one operation for gates and
state. Over bands: the product with the input as a convolution, then one operation that runs through the bands in both
directions at once. Gates of a row lie as (reset, update, new), for a bidirectional layer forward before backward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.stft import Float32Array
from quant.emit.native import emitter as emit_native
from quant.emit.native.file import FLOAT_OUT, HALF, View
from quant.int8.plan import GRU_ROLES
from quant.int8.qparams import QParams, multiplier, quantize_weight
from quant.int8.reference import sigmoid_table, tanh_table
from quant.network.graph import Node

if TYPE_CHECKING:
    from quant.emit.native.emitter import Lowering

# The fields of ed_gru_grids, in order.
GRIDS = (
    "gates_x_zp", "gates_h_zp", "h_zp", "sum_x", "sum_h", "sum_zp", "gate_zp", "reset", "reset_zp", "new_x", "new_h",
    "new_zp", "n_zp", "diff_h", "diff_n", "diff_zp", "update", "update_zp", "h_n", "h_update",
)  # fmt: skip


def over_time(low: Lowering, node: Node) -> None:
    """A `gru` node; its value is its state."""
    assert node.state is not None
    x, precision, n_groups = low.read(node), _precision(low, node), node.attrs.get("groups", 1)
    shape = low.graph.shapes[node.name]
    h = low.file.state(shape.bands, shape.channels, "int8" if precision == "int8" else "float32")
    past = h
    if precision == "mixed":
        q = _grid(low, node, "state")
        past = low.file.value(h.n_rows, h.n_columns, "int8")
        numbers = emit_native.rectangle(h, past)
        low.file.op("quantize", node.name, x=h, y=past, f0=q.inverse, y_zp=q.zero_point, **numbers)
    gates = [
        low.file.value(shape.bands, 3 * shape.channels, "int8" if precision == "int8" else "float32") for _ in range(2)
    ]
    for g in range(n_groups):
        for source, made, role in ((x, gates[0], "x"), (past, gates[1], "h")):
            n_in, n_out = source.n_columns // n_groups, shape.channels // n_groups
            out = made.columns(g * n_out, made.n_columns)
            numbers = {"seg": n_out, "seg_row": shape.channels}
            _product(low, node, source.columns(g * n_in, (g + 1) * n_in), out, role, [g], **numbers)
    kind = "gru_cell_i8" if precision == "int8" else "gru_cell"
    arrays = {"scale": _cell_grids(low, node), "table": _tables(low, node)} if precision == "int8" else {}
    low.op(kind, node, shape.bands, x=gates[0], x2=gates[1], state=h, n_out=shape.channels, **arrays)
    low.values[node.name] = h


def over_bands(low: Lowering, node: Node) -> None:
    """A `bigru` node, its units sorted: all forward ones, then all backward ones."""
    if not node.attrs.get("sorted"):
        raise ValueError(f"{node.name}: the native engine wants the units of both directions apart")
    x, precision, n_groups = low.read(node), _precision(low, node), node.attrs["groups"]
    shape = low.graph.shapes[node.name]
    int8, n_units = precision == "int8", shape.channels // 2 // n_groups
    gates = low.file.value(shape.bands, 3 * shape.channels, "int8" if int8 else "float32")
    n_in = x.n_columns // n_groups
    for g in range(n_groups):
        out = gates.columns(g * n_units, gates.n_columns)
        numbers = {"seg": n_units, "seg_row": shape.channels // 2}
        _product(low, node, x.columns(g * n_in, (g + 1) * n_in), out, "x", [2 * g, 2 * g + 1], **numbers)
    arrays, numbers = _recurrence(low, node, precision)
    y = low.new(node, int8=int8)
    kind = {"int8": "bigru_i8", "mixed": "bigru_mixed", "float": "bigru"}[precision]
    low.op(kind, node, shape.bands, x=gates, y=y, n_in=n_units, n_out=shape.channels, **arrays, **numbers)


def _precision(low: Lowering, node: Node) -> str:
    return low.plan.precision.get(node.name, "float")


def _grid(low: Lowering, node: Node, role: str) -> QParams:
    return low.grid(f"{node.name}.{role}" if role else node.name)


def _params(low: Lowering, node: Node, role: str, groups: list[int]) -> Float32Array:
    return np.concatenate([low.graph.params[node.params[role][g]] for g in groups])


def _scales(low: Lowering, node: Node, role: str, groups: list[int]) -> Float32Array:
    return np.concatenate([low.plan.weight_scales[node.params[role][g]] for g in groups])


def _product(low: Lowering, node: Node, x: View, y: View, role: str, groups: list[int], **numbers: Any) -> None:
    """W x + b of some groups that read the same columns: `role` x (of the input) or h (of the state)."""
    suffix = "ih" if role == "x" else "hh"
    weight, bias = (_params(low, node, f"{kind}_{suffix}", groups) for kind in ("weight", "bias"))
    if not low.plan.reads_int8(node):
        arrays = emit_native.floats(weight[:, :, None], bias, half=low.half)
    else:
        mixed = _precision(low, node) == "mixed"
        source = low.grid(node.inputs[0]) if role == "x" else _grid(low, node, "state" if mixed else "")
        target, scales = _grid(low, node, f"gates_{role}"), _scales(low, node, f"weight_{suffix}", groups)
        arrays = emit_native.integers(node.name, weight[:, :, None], bias, scales, source, target)
        numbers |= {"y_zp": target.zero_point} | ({"flags": FLOAT_OUT, "f2": target.scale} if mixed else {})
    low.product(node, x, y, arrays, **numbers)


def _recurrence(low: Lowering, node: Node, precision: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Arrays and numbers of the operation that runs over the bands."""
    order = [2 * g + d for d in (0, 1) for g in range(node.attrs["groups"])]
    weights = [low.graph.params[node.params["weight_hh"][g]] for g in order]
    biases = _by_gate([low.graph.params[node.params["bias_hh"][g]] for g in order])
    if precision == "float":
        laid = _by_gate(weights)  # (gate, unit, k)
        arrays = {"weight": emit_native.halves(np.ascontiguousarray(laid.transpose(0, 2, 1)), low.half), "bias": biases}
        return arrays, {"flags": HALF} if low.half else {}
    mixed = precision == "mixed"
    state, target = _grid(low, node, "state" if mixed else ""), _grid(low, node, "gates_h")
    scales = [low.plan.weight_scales[node.params["weight_hh"][g]] for g in order]
    w = _by_gate([quantize_weight(weight, s) for weight, s in zip(weights, scales, strict=True)])
    rows, s = w.reshape(-1, w.shape[2]), _by_gate(scales).ravel()
    arrays = {
        "weight": w,
        "bias": emit_native.folded_bias(node.name, biases.ravel(), rows, s, state),
        "scale": multiplier(np.float64(state.scale) * s, target),
    }
    if mixed:
        return arrays, {"f0": state.inverse, "x2_zp": state.zero_point, "f1": target.scale, "y_zp": target.zero_point}
    arrays |= {"scale": np.concatenate([arrays["scale"], _cell_grids(low, node)]), "table": _tables(low, node)}
    return arrays, {"y_zp": _grid(low, node, "").zero_point}


def _by_gate(groups: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """(3 * units, ...) of each group -> (3, units of all groups, ...)."""
    split = [g.reshape(3, -1, *g.shape[1:]) for g in groups]
    return np.ascontiguousarray(np.concatenate(split, 1))


def _tables(low: Lowering, node: Node) -> NDArray[np.int8]:
    sums = (_grid(low, node, role) for role in ("reset_update_sum", "reset_update", "new_sum", "new"))
    a, b, c, d = sums
    return np.concatenate([sigmoid_table(a, b), tanh_table(c, d)])


def _cell_grids(low: Lowering, node: Node) -> Float32Array:
    """ed_gru_grids: what `reference._GruInt8` rounds with."""
    q = {role: _grid(low, node, role) for role in GRU_ROLES}
    h = _grid(low, node, "")
    gate = np.float64(q["reset_update"].scale)
    numbers = {
        "gates_x_zp": q["gates_x"].zero_point,
        "gates_h_zp": q["gates_h"].zero_point,
        "h_zp": h.zero_point,
        "sum_x": multiplier(q["gates_x"].scale, q["reset_update_sum"]),
        "sum_h": multiplier(q["gates_h"].scale, q["reset_update_sum"]),
        "sum_zp": q["reset_update_sum"].zero_point,
        "gate_zp": q["reset_update"].zero_point,
        "reset": multiplier(gate * q["gates_h"].scale, q["reset_h"]),
        "reset_zp": q["reset_h"].zero_point,
        "new_x": multiplier(q["gates_x"].scale, q["new_sum"]),
        "new_h": multiplier(q["reset_h"].scale, q["new_sum"]),
        "new_zp": q["new_sum"].zero_point,
        "n_zp": q["new"].zero_point,
        "diff_h": multiplier(h.scale, q["difference"]),
        "diff_n": multiplier(q["new"].scale, q["difference"]),
        "diff_zp": q["difference"].zero_point,
        "update": multiplier(gate * q["difference"].scale, q["update"]),
        "update_zp": q["update"].zero_point,
        "h_n": multiplier(q["new"].scale, h),
        "h_update": multiplier(q["update"].scale, h),
    }
    return np.array([numbers[name] for name in GRIDS], np.float32)
