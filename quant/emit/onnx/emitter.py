"""The plan as ONNX QDQ: one method a node kind, exact scales, the operators ONNX Runtime runs fastest.

Values lie as (1, channels, 1, bands) ("maps") or, around recurrent layers, as (bands, channels) ("rows"). An 8-bit
node is written DequantizeLinear -> operator -> QuantizeLinear, which ONNX Runtime fuses into its integer kernels.
Activations and weights are uint8 (the plan's int8 moved by 128): ONNX Runtime fuses those on every CPU, and its kernels
for uint8 by int8 add two products in saturating 16 bits on x86 without VNNI. It has no 8-bit GRU: GRUs are float
whatever the plan says, but for those that their network wants as products. The coverage audit counts what was fused.
"""

from __future__ import annotations

import numpy as np

from quant.emit.emitted import UINT8_SHIFT, Emitted
from quant.emit.onnx.file import OnnxFile
from quant.emit.onnx.recurrent import Recurrent
from quant.emit.onnx.values import Layout
from quant.int8.exact_float import least_power
from quant.int8.plan import Plan
from quant.int8.qparams import dequantize_weight, quantize_weight
from quant.int8.runtimes import for_onnx
from quant.network import registry
from quant.network.graph import Graph, Node


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
        graph, plan = for_onnx(graph, plan)
    OnnxEmitter(graph, plan, file).run()


class OnnxEmitter(Recurrent):
    """Writes the nodes of a graph into a file."""

    def run(self) -> None:
        """Every node in order."""
        spectrum = self.file.input("spectrum", (1, 257, 1, 2))
        enhanced = self.file.output("enhanced", (1, 257, 1, 2))
        self.made["spectrum", False, "maps"] = self.file.op("Transpose", [spectrum], perm=[0, 3, 2, 1])
        for node in self.graph.nodes:
            getattr(self, node.kind)(node)
        self.file.op("Transpose", [self.read(self.graph.output)], perm=[0, 3, 2, 1], out=enhanced)

    # --- node kinds ---------------------------------------------------------------------------------------------

    def features(self, node: Node) -> None:
        (x,) = self.operands(node, "maps")
        square = self.file.op("ReduceSumSquare", [x], axes=[1], keepdims=1)
        magnitude = self.file.op("Sqrt", [self.file.op("Add", [square, self.file.const(1e-12)])])
        self.write(node, self.file.op("Concat", [magnitude, x], axis=1))

    def log_magnitude(self, node: Node) -> None:
        """Half the logarithm of the power."""
        (x,) = self.operands(node, "maps")
        power = self.file.op("ReduceSumSquare", [x], axes=[1], keepdims=1)
        log = self.file.op("Log", [self.file.op("Max", [power, self.file.const(float(least_power(node)))])])
        self.write(node, self.file.op("Mul", [log, self.file.const(0.5 / np.log(10))]))

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

    def leaky_relu(self, node: Node) -> None:
        (x,) = self.operands(node, "maps")
        self.write(node, self.file.op("LeakyRelu", [x], alpha=node.attrs["slope"], bears=node.name))

    def affine_relu(self, node: Node) -> None:
        """In 8 bits a convolution over the value and what of it is above zero, one group a number."""
        if self.plan is not None and self.is_int8(node):
            return self.affine_conv(node, self.plan)
        (x,) = self.operands(node, "maps")
        p = self.graph.arrays(node)
        weight, bias, rise = (
            self.file.const(v) for v in (p["weight"][:, None], p["bias"][:, None], p["rise"][:, None, None])
        )
        scaled = self.file.op("Add", [self.file.op("Mul", [x, weight]), bias])
        above = self.file.op("Mul", [self.file.op("Relu", [x]), rise])
        self.write(node, self.file.op("Add", [scaled, above], bears=node.name))
        return None

    def affine_conv(self, node: Node, plan: Plan) -> None:
        p, shape, source = self.graph.arrays(node), self.graph.shapes[node.name], plan.grids[node.inputs[0]]
        scales = np.repeat(plan.weight_scales[node.param("weight")], shape.bands)
        weight = np.stack([p["weight"].ravel(), np.repeat(p["rise"], shape.bands)], 1)[:, None, :, None]
        n = len(scales)
        x = self.file.op("Reshape", [self.read(node.inputs[0], True), self.file.ints(1, n, 1, 1)])
        zero = self.file.const(source.zero_point + UINT8_SHIFT, "uint8")
        both = self.file.op("Concat", [x, self.file.op("Max", [x, zero])], axis=2)
        held, biases = self.integer_weights(weight, p["bias"].ravel(), scales, source, 0)
        operands = [self.file.dequantized(both, source), held, biases]
        y = self.file.op("Conv", operands, kernel_shape=[2, 1], group=n, bears=node.name)
        made = self.file.quantized(y, plan.grids[node.name])
        sizes = self.file.ints(1, shape.channels, 1, shape.bands)
        self.made[node.name, True, "maps"] = self.file.op("Reshape", [made, sizes])

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

    def band_energy(self, node: Node) -> None:
        """In float: ONNX Runtime has no 8-bit square that is not rounded before it is summed."""
        (x,) = self.operands(node, "maps")
        weight = self.graph.params[node.param("weight")]
        if self.plan is not None and self.is_int8(node):
            scales = self.plan.weight_scales[node.param("weight")]
            weight = dequantize_weight(quantize_weight(weight[None], scales), scales)[0]
        squares = self.file.op("Mul", [x, x])
        y = self.file.op(
            "Conv", [squares, self.file.const(weight[None, :, None, None])], kernel_shape=[1, 1], bears=node.name
        )
        self.write(node, y)

    def stack_bands(self, node: Node) -> None:
        bands, n_steps = self.graph.shapes[node.inputs[0]].bands, self.graph.shapes[node.name].bands
        n = self.graph.shapes[node.name].channels
        int8 = self.is_int8(node)
        value = (self.grid(node.name).zero_point + UINT8_SHIFT, "uint8") if int8 else (0.0, "float32")
        ends = self.file.ints(0, 0, 0, 0, 0, 0, 0, n * n_steps - bands)
        padded = self.file.op("Pad", [self.read(node.inputs[0], int8), ends, self.file.const(*value)])
        self.made[node.name, int8, "rows"] = self.file.op("Reshape", [padded, self.file.ints(n_steps, n)])

    def unstack_bands(self, node: Node) -> None:
        source, int8 = self.graph.shapes[node.inputs[0]], self.is_int8(node)
        x = self.read(node.inputs[0], int8, "rows")
        x = self.file.op("Reshape", [x, self.file.ints(1, 1, 1, source.channels * source.bands)])
        ends = self.file.ints(0), self.file.ints(self.graph.shapes[node.name].bands), self.file.ints(3)
        self.place(node, self.file.op("Slice", [x, *ends]))

    def sigmoid(self, node: Node) -> None:
        layout = self.layout(node.inputs[0])
        self.write(node, self.file.op("Sigmoid", self.operands(node, layout), bears=node.name), layout)

    def tanh(self, node: Node) -> None:
        self.write(node, self.file.op("Tanh", self.operands(node, "maps"), bears=node.name))

    def gate(self, node: Node) -> None:
        self.write(node, self.file.op("Mul", self.operands(node, "maps"), bears=node.name))

    band_gate = gate

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

    def real_mask(self, node: Node) -> None:
        self.write(node, self.file.op("Mul", self.operands(node, "maps"), out="masked"))
