"""What every node of an ONNX file reads and writes: values in the asked type and layout, weights, states."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from edge_runtime.stft import Float32Array
from quant.emit.emitted import UINT8_SHIFT
from quant.emit.onnx.file import CHANNELS_FIRST, CHANNELS_LAST, OnnxFile
from quant.int8.plan import Plan
from quant.int8.qparams import QParams, quantize_bias, quantize_weight
from quant.network.graph import Graph, Node, State

Layout = Literal["maps", "rows"]


class Values:
    """The values made so far, and how nodes read, keep and weigh them."""

    def __init__(self, graph: Graph, plan: Plan | None, file: OnnxFile) -> None:
        self.graph, self.plan, self.file = graph, plan, file
        self.made: dict[tuple[str, bool, Layout], str] = {}  # (value, as int8?, layout) -> name
        self.by_name = {n.name: n for n in graph.nodes}

    def is_int8(self, node: Node) -> bool:
        return self.plan is not None and self.plan.is_int8(node)

    def q(self, node: Node) -> QParams | None:
        return self.plan.grids[node.name] if self.plan and self.is_int8(node) else None

    def grid(self, name: str) -> QParams:
        assert self.plan is not None
        return self.plan.grids[name]

    def write(self, node: Node, value: str, layout: Layout = "maps") -> None:
        """Keep a node's value; an 8-bit node's float result is quantized here."""
        q = self.q(node)
        if q is not None:
            value = self.file.quantized(value, q)
        self.made[node.name, q is not None, layout] = value

    def read(self, name: str, int8: bool = False, layout: Layout = "maps") -> str:
        """A value in the asked type and layout."""
        if (name, int8, layout) not in self.made:
            other: Layout = "rows" if layout == "maps" else "maps"
            if (name, int8, other) in self.made:
                self.made[name, int8, layout] = self.laid_out(name, self.made[name, int8, other], layout)
            elif not int8:  # a DequantizeLinear for each reader, as the fusion expects
                return self.file.dequantized(self.read(name, True, layout), self.grid(name))
        return self.made[name, int8, layout]

    def laid_out(self, name: str, value: str, layout: Layout) -> str:
        shape = self.graph.shapes[name]
        if shape.bands == 1:
            sizes = (1, shape.channels, 1, 1) if layout == "maps" else (1, shape.channels)
            return str(self.file.op("Reshape", [value, self.file.ints(*sizes)]))
        if layout == "rows":
            turned = self.file.op("Transpose", [value], perm=[0, 2, 3, 1])
            return str(self.file.op("Reshape", [turned, self.file.ints(shape.bands, shape.channels)]))
        turned = self.file.op("Transpose", [value], perm=[1, 0])
        return str(self.file.op("Reshape", [turned, self.file.ints(1, shape.channels, 1, shape.bands)]))

    def layout(self, name: str) -> Layout:
        """The layout a value exists in already."""
        for layout in ("maps", "rows"):
            if (name, True, layout) in self.made or (name, False, layout) in self.made:
                return layout
        raise ValueError(f"{name} is read before it is made")

    def operands(self, node: Node, layout: Layout) -> list[str]:
        """The inputs as float operands; those of an 8-bit node pass through its grid."""
        if not self.is_int8(node):
            return [self.read(name, False, layout) for name in node.inputs]
        return [self.file.dequantized(self.read(name, True, layout), self.grid(name)) for name in node.inputs]

    def moved(self, node: Node) -> str:
        """The input of a node that only moves values, in the node's own type."""
        return self.read(node.inputs[0], self.is_int8(node))

    def place(self, node: Node, value: str) -> None:
        """Keep the result of a node that only moved values."""
        self.made[node.name, self.is_int8(node), "maps"] = value

    # --- weights and states ------------------------------------------------------------------------------------

    def weights(self, node: Node, weight: Float32Array, axis: int) -> tuple[str, str]:
        """Weight (outputs along `axis`) and bias: constants, or integers behind DequantizeLinear."""
        bias = self.graph.params[node.param("bias")]
        if self.plan is None or not self.is_int8(node):
            return self.file.const(weight), self.file.const(bias)
        scales = self.plan.weight_scales[node.param("weight")]
        return self.integer_weights(weight, bias, scales, self.plan.grids[node.inputs[0]], axis)

    def integer_weights(
        self, weight: Float32Array, bias: Float32Array, scales: Float32Array, source: QParams, axis: int
    ) -> tuple[str, str]:
        """Both behind DequantizeLinear, one scale an output."""
        integers = np.moveaxis(quantize_weight(np.moveaxis(weight, axis, 0), scales), 0, axis)
        biases, units = quantize_bias(bias, source.scale, scales), np.float32(source.scale) * scales
        moved = (integers.astype(np.int16) + UINT8_SHIFT).astype(np.uint8)
        return self.file.integers(moved, scales, axis, UINT8_SHIFT), self.file.integers(biases, units, 0)

    def with_state(self, node: Node) -> str:
        """The frames before this one, then this one; writes the state back.

        Integers are not converted on the way, and lie channels last, as ONNX Runtime's 8-bit convolutions have them:
        its own transpositions on both sides cancel out with these.
        """
        assert node.state is not None
        s, x = node.state, self.read(node.inputs[0], self.is_int8(node))
        if self.plan is None or not self.is_int8(node):
            return self.joined(s, x, (1, s.channels, s.frames, s.bands), 2, None)
        q = self.plan.grids[node.inputs[0]]
        last = str(self.file.op("Transpose", [x], perm=CHANNELS_LAST))
        both = self.joined(s, last, (1, s.frames, s.bands, s.channels), 1, q)
        return self.file.dequantized(str(self.file.op("Transpose", [both], perm=CHANNELS_FIRST)), q)

    def joined(self, s: State, x: str, shape: Sequence[int], time: int, q: QParams | None) -> str:
        """The state of this shape, then the frame, along the axis of time."""
        both = str(self.file.op("Concat", [self.file.state_in(s.name, shape, q), x], axis=time))
        cut = [self.file.ints(n) for n in (1, s.frames + 1, time)]
        self.file.op("Slice", [both, *cut], out=self.file.state_out(s.name, shape, q))
        return both
