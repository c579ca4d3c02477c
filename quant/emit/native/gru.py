"""Recurrent layers as operations of the native engine.

Over time, every band for itself: both matrix products as convolutions over all bands, then one operation for gates and
state. Over bands: the product with the input as a convolution, then one operation that runs through the bands in both
directions at once. Gates of a row lie as (reset, update, new), for a bidirectional layer forward before backward.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_runtime.stft import Float32Array
from quant.emit.native.arrays import floats, folded_bias, halves, integers, scale_of
from quant.emit.native.file import HALF, QUICK, Array, DType, Number, View
from quant.emit.native.parts import Parts
from quant.int8.cells import cell_integers
from quant.int8.cells_over_time import GATE_STEPS, NEW_STEPS, tables
from quant.int8.plan import GRU_ROLES
from quant.int8.qparams import QParams, multiplier, quantize_weight
from quant.int8.recurrent import sigmoid_table, tanh_table
from quant.network.graph import Node
from quant.network.gru_weights import group_order, merged_scales

# The fields of ed_gru_grids, in order.
GRIDS = (
    "gates_x_zp", "gates_h_zp", "h_zp", "sum_x", "sum_h", "sum_zp", "gate_zp", "reset", "reset_zp", "new_x", "new_h",
    "new_zp", "n_zp", "diff_h", "diff_n", "diff_zp", "update", "update_zp", "h_n", "h_update",
)  # fmt: skip

N_ENTRIES, SIGN = 256, 0x80  # of a table of bytes


def over_time(parts: Parts, node: Node) -> None:
    """A `gru` node; its value is its state, or the bytes of one of 16 bits."""
    assert node.state is not None
    if node.attrs.get("sixteen_bits"):
        _sixteen_over_time(parts, node)
        return
    x, precision, shape = parts.read(node), _precision(parts, node), parts.graph.shapes[node.name]
    h = parts.file.state(shape.bands, shape.channels, "int8" if precision == "int8" else "float32")
    past = parts.quantized(node.name, h, _grid(parts, node, "state")) if precision == "mixed" else h
    gates = _gates(parts, node, x, past, "int8" if precision == "int8" else "float32")
    kind = "gru_cell_i8" if precision == "int8" else "gru_cell"
    arrays: dict[str, Array] = {}
    if precision == "int8":
        arrays = {"scale": _cell_grids(parts, node), "table": _tables(parts, node)}
    numbers = {"n_out": shape.channels, "flags": _curve(parts, node)}
    parts.op(kind, node, shape.bands, x=gates[0], x2=gates[1], state=h, **arrays, **numbers)
    parts.values[node.name] = h


def _gates(parts: Parts, node: Node, x: View, past: View, dtype: DType) -> list[View]:
    """Both products of a layer over time, group by group."""
    n_groups, shape = node.attrs.get("groups", 1), parts.graph.shapes[node.name]
    gates = [parts.file.value(shape.bands, 3 * shape.channels, dtype) for _ in range(2)]
    for g in range(n_groups):
        for source, made, role in ((x, gates[0], "x"), (past, gates[1], "h")):
            n_in, n_out = source.n_columns // n_groups, shape.channels // n_groups
            out = made.columns(g * n_out, made.n_columns)
            numbers = {"seg": n_out, "seg_row": shape.channels}
            _product(parts, node, source.columns(g * n_in, (g + 1) * n_in), out, role, [g], **numbers)
    return gates


def _sixteen_over_time(parts: Parts, node: Node) -> None:
    """A `gru` node with a state of 16 bits; its value is the bytes before it."""
    shape = parts.graph.shapes[node.name]
    y = parts.file.state(shape.bands, shape.channels, "int8")
    h = parts.file.state(shape.bands, shape.channels, "int16")
    x, x2 = _gates(parts, node, parts.read(node), y, "float32")
    numbers = {"n_out": shape.channels}
    parts.op("gru_cell_i16", node, shape.bands, x=x, x2=x2, y=y, state=h, table=tables(), **numbers)
    parts.values[node.name] = y


def over_bands(parts: Parts, node: Node) -> None:
    """A `bigru` node, its units sorted: all forward ones, then all backward ones."""
    if not node.attrs.get("sorted"):
        raise ValueError(f"{node.name}: the native engine wants the units of both directions apart")
    x, precision, n_groups = parts.read(node), _precision(parts, node), node.attrs["groups"]
    shape = parts.graph.shapes[node.name]
    int8, n_units = precision == "int8", shape.channels // 2 // n_groups
    gates = parts.file.value(shape.bands, 3 * shape.channels, "int8" if int8 else "float32")
    n_in = x.n_columns // n_groups
    for g in range(n_groups):
        out = gates.columns(g * n_units, gates.n_columns)
        numbers = {"seg": n_units, "seg_row": shape.channels // 2}
        _product(parts, node, x.columns(g * n_in, (g + 1) * n_in), out, "x", [2 * g, 2 * g + 1], **numbers)
    arrays, numbers = _recurrence(parts, node, precision)
    y = parts.new(node, int8=int8)
    numbers["flags"] = int(numbers.get("flags", 0)) | _curve(parts, node)
    kind = {"int8": "bigru_i8", "mixed": "bigru_mixed", "float": "bigru"}[precision]
    kind = "bigru_i16" if node.attrs.get("sixteen_bits") else kind
    parts.op(kind, node, shape.bands, x=gates, y=y, n_in=n_units, n_out=shape.channels, **arrays, **numbers)


def _curve(parts: Parts, node: Node) -> int:
    """The flag of the quicker one; 8-bit gates have tables."""
    return QUICK if node.attrs.get("quick") and _precision(parts, node) != "int8" else 0


def _precision(parts: Parts, node: Node) -> str:
    return parts.plan.precision.get(node.name, "float")


def _grid(parts: Parts, node: Node, role: str) -> QParams:
    return parts.grid(f"{node.name}.{role}" if role else node.name)


def _params(parts: Parts, node: Node, role: str, groups: list[int]) -> Float32Array:
    return np.concatenate([parts.graph.params[node.params[role][g]] for g in groups])


def _scales(parts: Parts, node: Node, role: str, groups: list[int]) -> Float32Array:
    return np.concatenate([parts.plan.weight_scales[node.params[role][g]] for g in groups])


def _product(parts: Parts, node: Node, x: View, y: View, role: str, groups: list[int], **numbers: Number) -> None:
    """W x + b of some groups that read the same columns: `role` x (of the input) or h (of the state)."""
    suffix = "ih" if role == "x" else "hh"
    weight, bias = (_params(parts, node, f"{kind}_{suffix}", groups) for kind in ("weight", "bias"))
    if not parts.plan.reads_int8(node):
        arrays = floats(weight[:, :, None], bias, half=parts.half)
    else:
        mixed = _precision(parts, node) == "mixed"
        source = parts.grid(node.inputs[0]) if role == "x" else _grid(parts, node, "state" if mixed else "")
        target, grid = parts.target_of(f"{node.name}.gates_{role}")
        scales = _scales(parts, node, f"weight_{suffix}", groups)
        arrays = integers(node.name, weight[:, :, None], bias, scales, source, target)
        if node.kind == "gru" and node.attrs.get("sixteen_bits"):
            arrays["scale"] *= _index_steps(len(weight))
        numbers |= grid
    parts.product(node, x, y, arrays, **numbers)


def _index_steps(n: int) -> Float32Array:
    """What takes n sums of gates, padded to fours, to steps of `gru_cell_i16`: powers of two, which round nothing."""
    factors = np.array([GATE_STEPS, GATE_STEPS, NEW_STEPS], np.float32)
    return np.pad(np.repeat(factors, n // 3), (0, -n % 4))


def _recurrence(parts: Parts, node: Node, precision: str) -> tuple[dict[str, Array], dict[str, Number]]:
    """Arrays and numbers of the operation that runs over the bands."""
    order = group_order(node)
    laid = _by_gate([parts.graph.params[node.params["weight_hh"][g]] for g in order])  # (gate, unit, k)
    biases = _by_gate([parts.graph.params[node.params["bias_hh"][g]] for g in order])
    if precision == "float":
        arrays = {"weight": halves(np.ascontiguousarray(laid.transpose(0, 2, 1)), parts.half), "bias": biases}
        return arrays, {"flags": HALF} if parts.half else {}
    scales = merged_scales(node, parts.plan.weight_scales)["weight_hh"]
    w = quantize_weight(laid.reshape(len(scales), -1), scales)
    if node.attrs.get("sixteen_bits"):
        return _cells(parts, node, w)
    mixed = precision == "mixed"
    state, target = _grid(parts, node, "state" if mixed else ""), None if mixed else _grid(parts, node, "gates_h")
    arrays = {
        "weight": w,
        "bias": folded_bias(node.name, biases.ravel(), w, scales, state),
        "scale": scale_of(scales, state, target),
    }
    if mixed:
        return arrays, {"f0": state.inverse, "x2_zp": state.zero_point}
    arrays |= {"scale": np.concatenate([arrays["scale"], _cell_grids(parts, node)]), "table": _tables(parts, node)}
    return arrays, {"y_zp": _grid(parts, node, "").zero_point}


def _cells(parts: Parts, node: Node, w: NDArray[np.int8]) -> tuple[dict[str, Array], dict[str, Number]]:
    """Arrays and numbers of `bigru_i16`."""
    c = cell_integers(parts.graph, parts.plan, node)
    shorts = {"scale": c.multiplier.astype("<i2"), "bias": c.bias.astype("<i2")}
    numbers: dict[str, Number] = {"f0": float(c.x_gates), "f1": float(c.x_new), "f2": float(c.start_new)}
    table = _tables(parts, node).view(np.uint8)
    table[:N_ENTRIES] ^= SIGN  # gates in 256ths
    return {"weight": w, "table": table, **shorts}, numbers


def _by_gate(groups: Sequence[Array]) -> Array:
    """(3 * units, ...) of each group -> (3, units of all groups, ...)."""
    split = [g.reshape(3, -1, *g.shape[1:]) for g in groups]
    return np.ascontiguousarray(np.concatenate(split, 1))


def _tables(parts: Parts, node: Node) -> NDArray[np.int8]:
    gate_sum, gate, new_sum, new = (
        _grid(parts, node, role) for role in ("reset_update_sum", "reset_update", "new_sum", "new")
    )
    return np.concatenate([sigmoid_table(gate_sum, gate), tanh_table(new_sum, new)])


def _cell_grids(parts: Parts, node: Node) -> Float32Array:
    """ed_gru_grids: what `reference._GruInt8` rounds with."""
    q = {role: _grid(parts, node, role) for role in GRU_ROLES}
    h = _grid(parts, node, "")
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
