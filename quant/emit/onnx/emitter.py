"""The plan as ONNX QDQ: one method a node kind, exact scales, the operators ONNX Runtime runs fastest.

Values lie as (1, channels, 1, bands) ("maps") or, around recurrent layers, as (bands, channels) ("rows"). An 8-bit
node is written DequantizeLinear -> operator -> QuantizeLinear, which ONNX Runtime fuses into its integer kernels.
Activations and weights are uint8 (the plan's int8 moved by 128): ONNX Runtime fuses those on every CPU, and its kernels
for uint8 by int8 add two products in saturating 16 bits on x86 without VNNI. It has no 8-bit GRU, so GRUs are float
whatever the plan says; the coverage audit counts what was really fused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from onnx import helper

from edge_runtime.stft import Float32Array
from quant.emit.emitted import UINT8_SHIFT, Emitted
from quant.emit.onnx.file import OnnxFile
from quant.int8.plan import Plan, with_float_grus
from quant.int8.qparams import QParams, quantize_bias, quantize_weight
from quant.network import registry
from quant.network.graph import Graph, Node
from quant.network.gru_weights import GruWeights, directions, merged

Layout = Literal["maps", "rows"]


def emit_onnx(graph: Graph, plan: Plan | None = None) -> Emitted:
    """The streaming model; float without a plan. Inputs: `spectrum` (1, 257, 1, 2) and the states by name;
    outputs: `enhanced` and `<state>_out`."""
    file = OnnxFile()
    write(graph, plan, file)
    data = file.to_bytes(registry.title(graph), "one frame")
    return Emitted(data, tuple(file.states), file.constant_bytes, window=graph.window)


def write(graph: Graph, plan: Plan | None, file: OnnxFile) -> None:
    """Every node of the model, into a file."""
    if plan is not None:
        graph, plan = with_float_grus(graph, plan)
    OnnxEmitter(graph, plan, file).run()


class OnnxEmitter:
    """Writes the nodes of a graph into a file."""

    def __init__(self, graph: Graph, plan: Plan | None, file: OnnxFile) -> None:
        self.graph, self.plan, self.file = graph, plan, file
        self.made: dict[tuple[str, bool, Layout], str] = {}  # (value, as int8?, layout) -> name
        self.by_name = {n.name: n for n in graph.nodes}

    def run(self) -> None:
        """Every node in order."""
        spectrum = self.file.input("spectrum", (1, 257, 1, 2))
        enhanced = self.file.output("enhanced", (1, 257, 1, 2))
        self.made["spectrum", False, "maps"] = self.file.op("Transpose", [spectrum], perm=[0, 3, 2, 1])
        for node in self.graph.nodes:
            getattr(self, node.kind)(node)
        self.file.op("Transpose", [self.read(self.graph.output)], perm=[0, 3, 2, 1], out=enhanced)

    # --- values -------------------------------------------------------------------------------------------------

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

    # --- node kinds ---------------------------------------------------------------------------------------------

    def features(self, node: Node) -> None:
        (x,) = self.operands(node, "maps")
        square = self.file.op("ReduceSumSquare", [x], axes=[1], keepdims=1)
        magnitude = self.file.op("Sqrt", [self.file.op("Add", [square, self.file.const(1e-12)])])
        self.write(node, self.file.op("Concat", [magnitude, x], axis=1))

    def merge_bands(self, node: Node) -> None:
        (x,) = self.operands(node, "maps")
        n_low, weight = node.attrs["n_low"], self.graph.params[node.param("weight")]
        low, high = self.file.op("Split", [x, self.file.ints(n_low, weight.shape[1])], n_out=2, axis=3)
        merged = self.file.op("MatMul", [high, self.file.const(weight.T)], bears=node.name)
        self.write(node, self.file.op("Concat", [low, merged], axis=3))

    split_bands = merge_bands

    def edge_bands(self, node: Node) -> None:
        x, source = self.operands(node, "maps")
        n_bands, n_source = (self.graph.shapes[name].bands for name in node.inputs)
        first, _, last = self.file.op("Split", [source, self.file.ints(1, n_source - 2, 1)], n_out=3, axis=3)
        weights = self.graph.params[node.param("weight")]
        low, high = (
            self.file.op("Conv", [end, self.file.const(w[:, :, None, None])], kernel_shape=[1, 1])
            for end, w in zip((first, last), weights, strict=True)
        )
        between = self.file.const(np.zeros((1, weights.shape[1], 1, n_bands - 2), np.float32))
        ends = self.file.op("Concat", [low, between, high], axis=3)
        self.write(node, self.file.op("Add", [x, ends], bears=node.name))

    def conv(self, node: Node) -> None:
        if node.attrs["kernel"] == (1, 1) and self.layout(node.inputs[0]) == "rows":
            return self.gemm(node)
        x = self.with_state(node) if node.state is not None else self.operands(node, "maps")[0]
        a = node.attrs
        weight, bias = self.weights(node, self.graph.params[node.param("weight")], 0)
        self.write(
            node,
            self.file.op(
                "Conv",
                [x, weight, bias],
                kernel_shape=list(a["kernel"]),
                group=a["groups"],
                strides=[1, a["stride"]],
                pads=[0, a["pad"], 0, a["pad"]],
                dilations=[a["dilation"], 1],
                bears=node.name,
            ),
        )
        return None

    def gemm(self, node: Node) -> None:
        (x,) = self.operands(node, "rows")
        weight, bias = self.weights(node, self.graph.params[node.param("weight")][:, :, 0, 0].T, 1)
        self.write(node, self.file.op("Gemm", [x, weight, bias], bears=node.name), "rows")

    def weights(self, node: Node, weight: Float32Array, axis: int) -> tuple[str, str]:
        """Weight (outputs along `axis`) and bias: constants, or integers behind DequantizeLinear."""
        bias = self.graph.params[node.param("bias")]
        if self.plan is None or not self.is_int8(node):
            return self.file.const(weight), self.file.const(bias)
        scales = self.plan.weight_scales[node.param("weight")]
        integers = np.moveaxis(quantize_weight(np.moveaxis(weight, axis, 0), scales), 0, axis)
        source = self.plan.grids[node.inputs[0]]
        biases, units = quantize_bias(bias, source.scale, scales), np.float32(source.scale) * scales
        moved = (integers.astype(np.int16) + UINT8_SHIFT).astype(np.uint8)
        return self.file.integers(moved, scales, axis, UINT8_SHIFT), self.file.integers(biases, units, 0)

    def with_state(self, node: Node) -> str:
        """The frames before this one, then this one; writes the state back. Integers are not converted on the way."""
        assert node.state is not None
        s, int8 = node.state, self.is_int8(node)
        shape = (1, s.channels, s.frames, s.bands)
        q = self.plan.grids[node.inputs[0]] if self.plan and int8 else None
        both = self.file.op("Concat", [self.file.state_in(s.name, shape, q), self.read(node.inputs[0], int8)], axis=2)
        self.file.op(
            "Slice",
            [both, self.file.ints(1), self.file.ints(s.frames + 1), self.file.ints(2)],
            out=self.file.state_out(s.name, shape, q),
        )
        return self.file.dequantized(both, q) if q else str(both)

    def leaky_relu(self, node: Node) -> None:
        (x,) = self.operands(node, "maps")
        self.write(node, self.file.op("LeakyRelu", [x], alpha=node.attrs["slope"], bears=node.name))

    def slice(self, node: Node) -> None:
        """Slices of one value that lie side by side become one Split."""
        if (node.name, self.is_int8(node), "maps") in self.made:
            return
        siblings = sorted(
            (n for n in self.graph.consumers(node.inputs[0]) if n.kind == "slice"),
            key=lambda n: n.attrs["start"],
        )
        sizes = [n.attrs["stop"] - n.attrs["start"] for n in siblings]
        if sum(sizes) != self.graph.shapes[node.inputs[0]].channels or len(sizes) < 2:
            raise ValueError(f"{node.name}: the slices of {node.inputs[0]} do not cover it")
        parts = self.file.op("Split", [self.moved(node), self.file.ints(*sizes)], n_out=len(sizes), axis=1)
        for sibling, part in zip(siblings, parts, strict=True):
            self.place(sibling, part)

    def shuffle(self, node: Node) -> None:
        """Beside each other along the empty time axis, then read as channels: no data moves twice."""
        shape = self.graph.shapes[node.name]
        both = self.file.op("Concat", self.operands(node, "maps"), axis=2)
        self.write(node, self.file.op("Reshape", [both, self.file.ints(1, shape.channels, 1, shape.bands)]))

    def interleave(self, node: Node) -> None:
        groups, bands = node.attrs["groups"], self.graph.shapes[node.inputs[0]].bands
        channels = self.graph.shapes[node.name].channels
        x = self.file.op("Reshape", [self.moved(node), self.file.ints(groups, 2, channels // groups, bands)])
        x = self.file.op("Transpose", [x], perm=[0, 2, 3, 1])
        x = self.file.op("Reshape", [x, self.file.ints(1, channels, 1, 2 * bands)])
        self.place(
            node,
            self.file.op("Slice", [x, self.file.ints(0), self.file.ints(node.attrs["n_bands"]), self.file.ints(3)]),
        )

    def mean_square(self, node: Node) -> None:
        """In float the sum of squares: the GRU that reads it has its weights divided by the number of bands."""
        (x,) = self.operands(node, "maps")
        y = self.file.op("ReduceSumSquare", [x], axes=[2, 3], keepdims=0, bears=node.name)
        if self.is_int8(node):
            y = self.file.op("Mul", [y, self.file.const(1 / self.graph.shapes[node.inputs[0]].bands)])
        self.write(node, y, "rows")

    def sigmoid(self, node: Node) -> None:
        layout = self.layout(node.inputs[0])
        self.write(node, self.file.op("Sigmoid", self.operands(node, layout), bears=node.name), layout)

    def tanh(self, node: Node) -> None:
        self.write(node, self.file.op("Tanh", self.operands(node, "maps"), bears=node.name))

    def gate(self, node: Node) -> None:
        self.write(node, self.file.op("Mul", self.operands(node, "maps"), bears=node.name))

    def add(self, node: Node) -> None:
        layout: Layout = (
            "rows"
            if all(self.layout(i) == "rows" for i in node.inputs) or self.layout(node.inputs[1]) == "rows"
            else "maps"
        )
        self.write(node, self.file.op("Add", self.operands(node, layout), bears=node.name), layout)

    def quantize(self, node: Node) -> None:
        """The entrance of 8-bit nodes; in a float model it changes nothing."""
        layout = self.layout(node.inputs[0])
        value = self.read(node.inputs[0], False, layout)
        q = self.q(node)
        self.made[node.name, q is not None, layout] = self.file.quantized(value, q) if q else value

    def layer_norm(self, node: Node) -> None:
        (x,) = self.operands(node, "rows")
        weight, bias = (self.file.const(self.graph.arrays(node)[role]) for role in ("weight", "bias"))
        self.write(
            node,
            self.file.op("LayerNormalization", [x, weight, bias], axis=0, epsilon=node.attrs["eps"], bears=node.name),
            "rows",
        )

    def mask(self, node: Node) -> None:
        """(re + i im)(m_re + i m_im) = m_re (re, im) + m_im (-im, re)."""
        x, m = self.operands(node, "maps")
        turn = self.file.const(np.array([[0, -1], [1, 0]]).reshape(2, 2, 1, 1))
        turned = self.file.op("Conv", [x, turn], kernel_shape=[1, 1])
        m_re, m_im = self.file.op("Split", [m, self.file.ints(1, 1)], n_out=2, axis=1)
        products = [self.file.op("Mul", [x, m_re]), self.file.op("Mul", [turned, m_im])]
        self.write(node, self.file.op("Add", products, out="masked"))

    # --- recurrent layers ---------------------------------------------------------------------------------------

    def gru(self, node: Node) -> None:
        """One step over time, a batch of bands."""
        assert node.state is not None
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
