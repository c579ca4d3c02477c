"""Recurrent layers in ONNX: ONNX Runtime's own in float, or two 8-bit products and the gates between them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import helper

from edge_runtime.stft import Float32Array
from quant.emit.onnx.values import Values
from quant.int8.plan import Plan
from quant.network.graph import Node
from quant.network.gru_weights import GruWeights, directions, merged, merged_scales


class Recurrent(Values):
    """GRUs over time and over bands."""

    def gru(self, node: Node) -> None:
        """One step over time, a batch of bands."""
        assert node.state is not None
        if self.plan is not None and self.plan.reads_int8(node):
            return self.products(node, self.plan)
        (x,) = self.operands(node, "rows")
        s, w = node.state, merged(self.graph, node)
        source = self.by_name[node.inputs[0]]
        if source.kind == "mean_square" and not self.is_int8(source):
            w = w._replace(w_ih=w.w_ih / np.float32(self.graph.shapes[source.inputs[0]].bands))
        shape = (1, s.bands, s.channels)
        h, out = self.file.state_in(s.name, shape, None), self.file.state_out(s.name, shape, None)
        self.file.nodes.append(
            helper.make_node(
                "GRU",
                [self.file.op("Unsqueeze", [x, self.file.ints(0)]), *self.gru_weights([w]), "", h],
                ["", out],
                name=node.name,
                hidden_size=w.hidden,
                linear_before_reset=1,
            )
        )
        self.write(node, self.file.op("Squeeze", [out, self.file.ints(0)]), "rows")
        return None

    def bigru(self, node: Node) -> None:
        """A sequence of bands in both directions; the output lies as (forward units, backward units)."""
        (x,) = self.operands(node, "rows")
        layers = directions(self.graph, node)
        y = self.file.op(
            "GRU",
            [self.file.op("Unsqueeze", [x, self.file.ints(1)]), *self.gru_weights(layers)],
            hidden_size=layers[0].hidden,
            linear_before_reset=1,
            direction="bidirectional",
            bears=node.name,
        )
        shape = self.graph.shapes[node.name]
        self.write(node, self.file.op("Reshape", [y, self.file.ints(shape.bands, shape.channels)]), "rows")

    def gru_weights(self, layers: Sequence[GruWeights]) -> list[str]:
        """W, R and B of an ONNX GRU: a direction a row, gates in the order z, r, n."""

        def zrn(values: Float32Array) -> Float32Array:
            r, z, n = np.split(values, 3)
            return np.concatenate([z, r, n])

        return [
            self.file.const(np.stack([zrn(layer.w_ih) for layer in layers])),
            self.file.const(np.stack([zrn(layer.w_hh) for layer in layers])),
            self.file.const(np.stack([np.concatenate([zrn(layer.b_ih), zrn(layer.b_hh)]) for layer in layers])),
        ]

    def products(self, node: Node, plan: Plan) -> None:
        """A mixed GRU: both products in 8 bits, their sums on the grids of the plan; the gates and the state float."""
        assert node.state is not None
        s, layer = node.state, merged(self.graph, node)
        shape, rows = (1, s.bands, s.channels), (s.bands, s.channels)
        old = self.file.op("Reshape", [self.file.state_in(s.name, shape, None), self.file.ints(*rows)])
        h = self.file.quantized(old, plan.grids[f"{node.name}.state"])
        x = self.read(node.inputs[0], True, "rows")
        rz_x, n_x = self.gates(node, plan, "gates_x", (x, node.inputs[0]), (layer.w_ih, layer.b_ih))
        rz_h, n_h = self.gates(node, plan, "gates_h", (h, f"{node.name}.state"), (layer.w_hh, layer.b_hh))
        both = self.file.op("Sigmoid", [self.file.op("Add", [rz_x, rz_h])])
        r, z = self.file.op("Split", [both, self.file.ints(s.channels, s.channels)], n_out=2, axis=1)
        n = self.file.op("Tanh", [self.file.op("Add", [n_x, self.file.op("Mul", [r, n_h])])])
        update = self.file.op("Mul", [z, self.file.op("Sub", [old, n])])
        new = self.file.op("Add", [n, update])
        self.file.op("Reshape", [new, self.file.ints(*shape)], out=self.file.state_out(s.name, shape, None))
        self.write(node, new, "rows")

    def gates(
        self, node: Node, plan: Plan, role: str, source: tuple[str, str], weights: tuple[Float32Array, Float32Array]
    ) -> tuple[str, str]:
        """The sums of reset and update together, and of the new state; `source`: an 8-bit value and its tap."""
        (value, tap), (weight, bias) = source, weights
        scales = merged_scales(node, plan.weight_scales)["weight_ih" if role == "gates_x" else "weight_hh"]
        held, biases = self.integer_weights(np.ascontiguousarray(weight.T), bias, scales, plan.grids[tap], 1)
        operands = [self.file.dequantized(value, plan.grids[tap]), held, biases]
        y = self.file.op("Gemm", operands, bears=f"{node.name}.{role}")
        grid = plan.grids[f"{node.name}.{role}"]
        y = self.file.dequantized(self.file.quantized(y, grid), grid)
        hidden = weight.shape[0] // 3
        rz, n = self.file.op("Split", [y, self.file.ints(2 * hidden, hidden)], n_out=2, axis=1)
        return rz, n
