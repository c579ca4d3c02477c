"""A GRU cell in TFLite operators: TFLite has no GRU of its own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge_runtime.stft import Float32Array
from quant.emit.tflite.file import Tensor
from quant.emit.tflite.ops import CHANNELS, TfliteOps, as_grid
from quant.int8.qparams import UNIT, QParams, dequantize, quantize
from quant.network.gru_weights import GruWeights


class GruCell:
    """A GRU cell: r and z together, n apart, because r gates the recurrent part of n."""

    def __init__(
        self, ops: TfliteOps, w: GruWeights, scales: Mapping[str, Float32Array] | None, grids: Mapping[str, QParams]
    ) -> None:
        self.ops, self.w, self.scales, self.grids = ops, w, scales, grids

    def q(self, role: str) -> QParams | None:
        return self.grids.get(role)

    @property
    def mixed(self) -> bool:
        """The products are int8, gates and state float."""
        return "gates_x" in self.grids and "" not in self.grids

    def gates(self, x: Tensor, role: str) -> tuple[Tensor, Tensor]:
        """weight @ x + bias as (reset and update, new)."""
        ih = role == "gates_x"
        weight, bias = (self.w.w_ih, self.w.b_ih) if ih else (self.w.w_hh, self.w.b_hh)
        scales = self.scales["weight_ih" if ih else "weight_hh"] if self.scales else None
        first, second = (
            self.gate(x, weight[part], bias[part], self.q(role), None if scales is None else scales[part])
            for part in self.parts()
        )
        return first, second

    def gate(
        self, x: Tensor, weight: Float32Array, bias: Float32Array, q: QParams | None, scales: Float32Array | None
    ) -> Tensor:
        y = self.ops.filter(x, weight[:, None, None], bias, q, scales=scales)
        return self.ops.convert(y, None) if self.mixed else y

    def parts(self) -> tuple[slice, slice]:
        """The rows of (reset and update, new)."""
        cut = 2 * self.w.hidden
        return slice(0, cut), slice(cut, None)

    def gates_x(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.gates(x, "gates_x")

    def gates_h(self, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """Without a state the recurrent part is its bias alone."""
        if h is not None:
            return self.gates(self.ops.convert(h, self.q("state")) if self.mixed else h, "gates_h")
        first, second = (self.bias(self.w.b_hh[None, None, None, part]) for part in self.parts())
        return first, second

    def bias(self, values: Float32Array) -> Tensor:
        q = self.q("gates_h")
        if q is None:
            return self.ops.constant(values)
        integers = quantize(values, q)
        return self.ops.constant(dequantize(integers, q)) if self.mixed else self.ops.constant(integers, as_grid(q))

    def step(self, reset_update_x: Tensor, new_x: Tensor, h: Tensor | None, out: Tensor | None = None) -> Tensor:
        """h' = n + z * (h - n), n = tanh(x_n + r * h_n)."""
        o, q = self.ops, self.q
        reset_update_h, new_h = self.gates_h(h)
        total = o.binary("ADD", reset_update_x, reset_update_h, q("reset_update_sum"))
        r, z = o.split(o.unary("LOGISTIC", total, q("reset_update")), CHANNELS, 2)
        reset_h = o.binary("MUL", r, new_h, q("reset_h"))
        n = o.unary("TANH", o.binary("ADD", new_x, reset_h, q("new_sum")), q("new"))
        old = h or self.zero()
        update = o.binary("MUL", z, o.binary("SUB", old, n, q("difference")), q("update"))
        if out is None:
            return o.binary("ADD", n, update, q(""))
        o.op("ADD", [n, update], [out], schema.AddOptionsT())
        return out

    def zero(self) -> Tensor:
        shape = (1, 1, 1, self.w.hidden)
        if self.q(""):
            return self.ops.constant(np.zeros(shape, np.int8), as_grid(UNIT))
        return self.ops.constant(np.zeros(shape, np.float32))
