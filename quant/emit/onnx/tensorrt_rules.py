"""TensorRT's rules for explicitly quantized ONNX, as far as a file shows whether they are kept.

TensorRT is not run here, so this cannot promise that an engine is built or fast: it finds what its parser refuses and
what would leave a layer half in 8 bits. Rules and source (TensorRT developer guide, "explicit quantization"; operator
matrix of onnx-tensorrt):

    operator     every operator is one that the parser takes, opset 17 at most (TensorRT 8.6 and later)
    zero point   of every QuantizeLinear and DequantizeLinear: a constant, signed 8 bits, zero
    scale        a constant, positive and finite; one for an activation, one each output channel for a weight
    pair         a QuantizeLinear is read by DequantizeLinear alone, on its own grid; that reads it or constant integers
    layer        a convolution or product with an 8-bit weight has an 8-bit input, and the reverse; its bias is float
    placement    no pair between a layer and the activation behind it
    port         inputs and outputs of the model are float
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

# Of those that the parser takes, the ones that we write.
OPERATORS: Final = frozenset((
    "Add", "Concat", "Conv", "DequantizeLinear", "GRU", "Gemm", "LayerNormalization", "LeakyRelu", "Log", "MatMul",
    "Max", "Mul", "Pad", "QuantizeLinear", "ReduceSumSquare", "Relu", "Reshape", "Sigmoid", "Slice", "Split", "Sqrt",
    "Squeeze", "Tanh", "Transpose", "Unsqueeze",
))  # fmt: skip
MOST_OPSET: Final = 17
LAYERS: Final = ("Conv", "Gemm")
ACTIVATIONS: Final = frozenset({"LeakyRelu", "Sigmoid", "Tanh"})
QDQ: Final = ("QuantizeLinear", "DequantizeLinear")


def violations(model: bytes) -> list[str]:
    """A sentence for each breach, `rule: node: what`; empty when every rule is kept."""
    return list(_Rules(onnx.load_from_string(model)).check())


class _Rules:
    def __init__(self, model: Any) -> None:
        self.model, self.graph = model, model.graph
        self.constants = {i.name: numpy_helper.to_array(i) for i in self.graph.initializer}
        self.maker = {out: node for node in self.graph.node for out in node.output}
        self.readers: dict[str, list[Any]] = defaultdict(list)
        for node in self.graph.node:
            for name in node.input:
                self.readers[name].append(node)

    def check(self) -> Iterator[str]:
        for rule in (self.operators, self.grids, self.pairs, self.layers, self.placement, self.ports):
            yield from rule()

    def operators(self) -> Iterator[str]:
        for opset in self.model.opset_import:
            if opset.domain in ("", "ai.onnx") and opset.version > MOST_OPSET:
                yield f"operator: model: opset {opset.version} is above {MOST_OPSET}"
        for node in self.graph.node:
            if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx"):
                yield f"operator: {node.name}: {node.op_type} is not among those known to be taken"

    def grids(self) -> Iterator[str]:
        for node in self.of(*QDQ):
            scale, zero = (self.constants.get(name) for name in [*node.input[1:], "", ""][:2])
            if zero is None or zero.dtype != np.int8 or zero.any():
                yield f"zero point: {node.name}: is no constant zero of signed 8 bits"
            if scale is None or not (np.isfinite(scale).all() and (scale > 0).all()):
                yield f"scale: {node.name}: is no constant above zero"
            elif scale.size > 1 and node.input[0] not in self.constants:
                yield f"scale: {node.name}: an activation has {scale.size} scales"

    def pairs(self) -> Iterator[str]:
        outputs = {port.name for port in self.graph.output}
        for node in self.of("QuantizeLinear"):
            readers = self.readers[node.output[0]]
            if not readers or node.output[0] in outputs or any(r.op_type != "DequantizeLinear" for r in readers):
                yield f"pair: {node.name}: is read by something else than DequantizeLinear"
            elif any(list(r.input[1:]) != list(node.input[1:]) for r in readers):
                yield f"pair: {node.name}: is dequantized on another grid"
        for node in self.of("DequantizeLinear"):
            source, constant = self.maker.get(node.input[0]), self.constants.get(node.input[0])
            if constant is not None and constant.dtype != np.int8:
                yield f"pair: {node.name}: dequantizes {constant.dtype}; a bias must be float"
            if constant is None and (source is None or source.op_type != "QuantizeLinear"):
                yield f"pair: {node.name}: reads no QuantizeLinear"

    def layers(self) -> Iterator[str]:
        for node in self.of(*LAYERS):
            x, weight = (self.dequantizer(name) for name in node.input[:2])
            if (x is None) != (weight is None):
                yield f"layer: {node.name}: has an 8-bit {'weight' if x is None else 'input'} alone"
            if weight is not None:
                yield from self.weight(node, weight)
            if len(node.input) > 2 and node.input[2] not in self.constants:
                yield f"layer: {node.name}: its bias is no float constant"

    def weight(self, node: Any, dequantizer: Any) -> Iterator[str]:
        """One scale each output channel, along the axis of the outputs."""
        integers, scale = self.constants.get(dequantizer.input[0]), self.constants.get(dequantizer.input[1])
        if integers is None or scale is None:
            yield f"layer: {node.name}: its weight is no constant"
            return
        transposed = next((a.i for a in node.attribute if a.name == "transB"), 0)
        outputs = 0 if node.op_type == "Conv" or transposed else 1
        axis = next((a.i for a in dequantizer.attribute if a.name == "axis"), 1)
        if scale.shape != (integers.shape[outputs],) or axis != outputs:
            yield f"scale: {node.name}: its weight has no scale each output channel"

    def placement(self) -> Iterator[str]:
        for node in self.of(*LAYERS):
            for q in (r for r in self.readers[node.output[0]] if r.op_type == "QuantizeLinear"):
                behind = [r for dq in self.readers[q.output[0]] for r in self.readers[dq.output[0]]]
                if any(r.op_type in ACTIVATIONS for r in behind):
                    yield f"placement: {q.name}: lies between {node.name} and its activation"

    def ports(self) -> Iterator[str]:
        for port in (*self.graph.input, *self.graph.output):
            if port.type.tensor_type.elem_type != TensorProto.FLOAT:
                yield f"port: {port.name}: is not float"

    def of(self, *kinds: str) -> Iterator[Any]:
        return (node for node in self.graph.node if node.op_type in kinds)

    def dequantizer(self, name: str) -> Any:
        """The DequantizeLinear that makes a value, if one does."""
        node = self.maker.get(name)
        return node if node is not None and node.op_type == "DequantizeLinear" else None
