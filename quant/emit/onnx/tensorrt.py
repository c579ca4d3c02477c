"""The plan as explicit QDQ in TensorRT's manner, for Jetson boards: symmetric, zero points 0, pairs in front of layers.

TensorRT wants signed 8-bit values around zero, weights with a scale each output channel, float biases, and a
QuantizeLinear with its DequantizeLinear behind it in front of every input of a quantized layer, after the activation
before that. It has no 8-bit GRU, so GRUs stay float whatever the plan says, and states are float, too.
`tensorrt_rules` checks the result; TensorRT itself is not run here.

Source: NVIDIA's TensorRT developer guide, explicit quantization; the operator matrix of onnx-tensorrt.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from edge_runtime.stft import Float32Array
from quant.emit.emitted import Emitted
from quant.emit.onnx.emitter import OnnxEmitter
from quant.emit.onnx.file import OnnxFile
from quant.emit.onnx.values import Layout
from quant.int8.plan import Plan
from quant.int8.qparams import QParams, quantize_weight
from quant.int8.runtimes import with_float_grus
from quant.network import registry
from quant.network.graph import Graph, Node

LIMIT: Final = 127  # steps to either side
DESCRIPTION: Final = "one frame, explicit symmetric QDQ"


def emit_tensorrt(graph: Graph, plan: Plan) -> Emitted:
    """The streaming model with the signature of `emit_onnx`; every state float32."""
    file = OnnxFile()
    _TensorRtEmitter(*with_float_grus(graph, plan), file).run()
    data = file.to_bytes(registry.title(graph), DESCRIPTION)
    return Emitted(data, tuple(file.states), file.constant_bytes, window=graph.window)


def symmetric(q: QParams) -> QParams:
    """The grid around zero that reaches as far as `q` on its longer side."""
    return QParams(float(np.float32(max(abs(q.low), abs(q.high)) / LIMIT)), 0)


class _TensorRtEmitter(OnnxEmitter):
    """The float emitter, with a pair in front of each convolution that the plan has in 8 bits."""

    def __init__(self, graph: Graph, plan: Plan, file: OnnxFile) -> None:
        super().__init__(graph, None, file)
        self.symmetric = plan
        self.pairs: dict[tuple[str, QParams], str] = {}

    def is_quantized(self, node: Node) -> bool:
        return node.kind == "conv" and self.symmetric.is_int8(node)

    def operands(self, node: Node, layout: Layout) -> list[str]:
        values = super().operands(node, layout)
        return [self.paired(values[0], node)] if self.is_quantized(node) else values

    def with_state(self, node: Node) -> str:
        both = super().with_state(node)
        return self.paired(both, node) if self.is_quantized(node) else both

    def paired(self, value: str, node: Node) -> str:
        """The value rounded to the grid of the node's input; one pair for all that read it so."""
        key = value, symmetric(self.symmetric.grids[node.inputs[0]])
        if key not in self.pairs:
            grid = self.file.const(key[1].scale), self.file.const(0, "int8")
            self.pairs[key] = self.file.op("DequantizeLinear", [self.file.op("QuantizeLinear", [value, *grid]), *grid])
        return self.pairs[key]

    def weights(self, node: Node, weight: Float32Array, axis: int) -> tuple[str, str]:
        if not self.is_quantized(node):
            return super().weights(node, weight, axis)
        scales = self.symmetric.weight_scales[node.param("weight")]
        integers = np.moveaxis(quantize_weight(np.moveaxis(weight, axis, 0), scales), 0, axis)
        return self.file.integers(integers, scales, axis), self.file.const(self.graph.params[node.param("bias")])
