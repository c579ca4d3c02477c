"""The plan as ONNX QDQ: one method a node kind, exact scales, the operators ONNX Runtime runs fastest.

Values lie as (1, channels, 1, bands) ("maps") or, around recurrent layers, as (bands, channels) ("rows"). An 8-bit
node is written DequantizeLinear -> operator -> QuantizeLinear, which ONNX Runtime fuses into its integer kernels.
Activations are uint8 (the plan's int8 grid moved by 128): ONNX Runtime fuses those on every CPU. It has no 8-bit GRU
kernel, so GRUs stay float here whatever the plan says; the coverage audit counts what was really fused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.manifest import StateEntry
from quant import gru
from quant.emitted import UINT8_SHIFT, Emitted, state_entry
from quant.graph import Array, Graph, Node
from quant.gru import GruWeights
from quant.plan import Plan
from quant.qparams import QParams, quantize_bias, quantize_weight

OPSET = 17
IR_VERSION = 8
INT8_KINDS = frozenset({"conv", "leaky_relu", "slice", "interleave", "shuffle", "add", "gate", "quantize"})
Layout = Literal["maps", "rows"]


def emit(graph: Graph, plan: Plan | None = None, description: str = "GTCRN, one frame") -> Emitted:
    """The streaming model; float without a plan. Inputs: `spectrum` (1, 257, 1, 2) and the states by name;
    outputs: `enhanced` and `<state>_out`."""
    emitter = _Emitter(graph, plan)
    model = helper.make_model(
        emitter.run(),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="edge-denoise",
        doc_string=description,
    )
    onnx.checker.check_model(model, full_check=True)
    constant_bytes = sum(len(constant.raw_data) for constant in emitter.constants.values())
    return Emitted(model.SerializeToString(deterministic=True), tuple(emitter.states), constant_bytes)


class _Emitter:
    def __init__(self, graph: Graph, plan: Plan | None) -> None:
        self.graph, self.plan = graph, plan
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.made: dict[tuple[str, bool, Layout], str] = {}
        self.by_name = {n.name: n for n in graph.nodes}
        self.states: list[StateEntry] = []

    def run(self) -> Any:
        shape = [1, 257, 1, 2]
        self.inputs.append(helper.make_tensor_value_info("spectrum", TensorProto.FLOAT, shape))
        self.outputs.append(helper.make_tensor_value_info("enhanced", TensorProto.FLOAT, shape))
        self.made["spectrum", False, "maps"] = self.op("Transpose", ["spectrum"], perm=[0, 3, 2, 1])
        for node in self.graph.nodes:
            getattr(self, node.kind)(node)
        self.op("Transpose", [self.read(self.graph.output)], perm=[0, 3, 2, 1], out="enhanced")
        return helper.make_graph(self.nodes, "gtcrn", self.inputs, self.outputs, list(self.constants.values()))

    # --- operators and constants --------------------------------------------------------------------------------

    def op(
        self,
        kind: str,
        inputs: Sequence[str],
        out: str | None = None,
        n_out: int = 1,
        node: Node | None = None,
        **attrs: Any,
    ) -> Any:
        """One ONNX operator; returns the name of its output, or the list of names when there are several.

        The operator that does the work of a graph `node` bears its name, by which the coverage audit finds it again
        after ONNX Runtime's fusions.
        """
        number = len(self.nodes)
        name = node.name if node is not None else f"n{number}"
        outs = (
            [out or (node.name if node is not None else f"v{number}")]
            if n_out == 1
            else [f"v{number}_{i}" for i in range(n_out)]
        )
        self.nodes.append(helper.make_node(kind, list(inputs), outs, name=name, **attrs))
        return outs[0] if n_out == 1 else outs

    def const(self, values: Any, dtype: str = "float32") -> str:
        """A named constant; equal ones are one initializer."""
        array = np.asarray(values, dtype)
        key = f"{array.dtype}{array.shape}{array.tobytes().hex()}"
        if key not in self.constants:
            self.constants[key] = numpy_helper.from_array(np.ascontiguousarray(array), f"c{len(self.constants)}")
        return str(self.constants[key].name)

    def ints(self, *values: int) -> str:
        return self.const(values, "int64")

    # --- values -------------------------------------------------------------------------------------------------

    def is_int8(self, node: Node) -> bool:
        return self.plan is not None and self.plan.is_int8(node) and node.kind in INT8_KINDS

    def q(self, node: Node) -> QParams | None:
        return self.plan.grids[node.name] if self.plan and self.is_int8(node) else None

    def write(self, node: Node, value: str, layout: Layout = "maps") -> None:
        """Keep a node's value; an 8-bit node's float result is quantized here."""
        q = self.q(node)
        if q is not None:
            value = self.quantized(value, q)
        self.made[node.name, q is not None, layout] = value

    def quantized(self, value: str, q: QParams) -> str:
        return str(self.op("QuantizeLinear", [value, *self.grid(q)]))

    def dequantized(self, value: str, q: QParams) -> str:
        return str(self.op("DequantizeLinear", [value, *self.grid(q)]))

    def grid(self, q: QParams) -> tuple[str, str]:
        return self.const(q.scale), self.const(q.zero_point + UINT8_SHIFT, "uint8")

    def read(self, name: str, int8: bool = False, layout: Layout = "maps") -> str:
        """A value in the asked type and layout. A float reader of a `quantize` node reads the value before it."""
        node = self.by_name.get(name)
        if not int8 and node is not None and node.kind == "quantize":
            return self.read(node.inputs[0], False, layout)
        if (name, int8, layout) not in self.made:
            other: Layout = "rows" if layout == "maps" else "maps"
            if (name, int8, other) in self.made:
                self.made[name, int8, layout] = self.laid_out(name, self.made[name, int8, other], layout)
            elif int8:
                assert self.plan is not None
                self.made[name, True, layout] = self.quantized(self.read(name, False, layout), self.plan.grids[name])
            else:  # a DequantizeLinear for each reader, as the fusion expects
                assert self.plan is not None
                return self.dequantized(self.read(name, True, layout), self.plan.grids[name])
        return self.made[name, int8, layout]

    def laid_out(self, name: str, value: str, layout: Layout) -> str:
        shape = self.graph.shapes[name]
        if shape.bands == 1:
            sizes = (1, shape.channels, 1, 1) if layout == "maps" else (1, shape.channels)
            return str(self.op("Reshape", [value, self.ints(*sizes)]))
        if layout == "rows":
            turned = self.op("Transpose", [value], perm=[0, 2, 3, 1])
            return str(self.op("Reshape", [turned, self.ints(shape.bands, shape.channels)]))
        turned = self.op("Transpose", [value], perm=[1, 0])
        return str(self.op("Reshape", [turned, self.ints(1, shape.channels, 1, shape.bands)]))

    def layout(self, name: str) -> Layout:
        """The layout a value exists in already."""
        node = self.by_name.get(name)
        if (
            node is not None
            and node.kind == "quantize"
            and (name, True, "maps") not in self.made
            and (name, True, "rows") not in self.made
        ):
            return self.layout(node.inputs[0])
        return "maps" if any((name, i, "maps") in self.made for i in (True, False)) else "rows"

    def operands(self, node: Node, layout: Layout) -> list[str]:
        """The inputs as float operands; those of an 8-bit node pass through its grid."""
        if not self.is_int8(node):
            return [self.read(name, False, layout) for name in node.inputs]
        assert self.plan is not None
        return [self.dequantized(self.read(name, True, layout), self.plan.grids[name]) for name in node.inputs]

    def moved(self, node: Node) -> str:
        """The input of a node that only moves values, in the node's own type."""
        return self.read(node.inputs[0], self.is_int8(node))

    def place(self, node: Node, value: str) -> None:
        """Keep the result of a node that only moved values."""
        self.made[node.name, self.is_int8(node), "maps"] = value

    # --- node kinds ---------------------------------------------------------------------------------------------

    def features(self, node: Node) -> None:
        (x,) = self.operands(node, "maps")
        square = self.op("ReduceSumSquare", [x], axes=[1], keepdims=1)
        magnitude = self.op("Sqrt", [self.op("Add", [square, self.const(1e-12)])])
        self.write(node, self.op("Concat", [magnitude, x], axis=1))

    def merge_bands(self, node: Node) -> None:
        (x,) = self.operands(node, "maps")
        n_low, weight = node.attrs["n_low"], self.graph.params[node.param("weight")]
        low, high = self.op("Split", [x, self.ints(n_low, weight.shape[1])], n_out=2, axis=3)
        merged = self.op("MatMul", [high, self.const(weight.T)], node=node)
        self.write(node, self.op("Concat", [low, merged], axis=3))

    split_bands = merge_bands

    def neighbours(self, node: Node) -> None:
        """A convolution that copies: faster than padding, three slices and a concatenation."""
        (x,) = self.operands(node, "maps")
        channels = self.graph.shapes[node.inputs[0]].channels
        copies = np.tile(np.eye(3, dtype=np.float32)[:, None, None], (channels, 1, 1, 1))
        self.write(
            node,
            self.op(
                "Conv",
                [x, self.const(copies)],
                kernel_shape=[1, 3],
                pads=[0, 1, 0, 1],
                group=channels,
                node=node,
            ),
        )

    def conv(self, node: Node) -> None:
        if node.attrs["kernel"] == (1, 1) and self.layout(node.inputs[0]) == "rows":
            return self.gemm(node)
        x = self.with_state(node) if node.state is not None else self.operands(node, "maps")[0]
        a = node.attrs
        weight, bias = self.weights(node, self.graph.params[node.param("weight")], 0)
        self.write(
            node,
            self.op(
                "Conv",
                [x, weight, bias],
                kernel_shape=list(a["kernel"]),
                group=a["groups"],
                strides=[1, a["stride"]],
                pads=[0, a["pad"], 0, a["pad"]],
                dilations=[a["dilation"], 1],
                node=node,
            ),
        )
        return None

    def gemm(self, node: Node) -> None:
        (x,) = self.operands(node, "rows")
        weight, bias = self.weights(node, self.graph.params[node.param("weight")][:, :, 0, 0].T, 1)
        self.write(node, self.op("Gemm", [x, weight, bias], node=node), "rows")

    def weights(self, node: Node, weight: Array, axis: int) -> tuple[str, str]:
        """Weight (outputs along `axis`) and bias: constants, or integers behind DequantizeLinear."""
        bias = self.graph.params[node.param("bias")]
        if self.plan is None or not self.is_int8(node):
            return self.const(weight), self.const(bias)
        scales = self.plan.weight_scales[node.param("weight")]
        integers = np.moveaxis(quantize_weight(np.moveaxis(weight, axis, 0), scales), 0, axis)
        source = self.plan.grids[node.inputs[0]]
        biases = quantize_bias(bias, source.scale, scales)
        units = np.float32(source.scale) * scales
        w = self.op(
            "DequantizeLinear",
            [self.const(integers, "int8"), self.const(scales), self.const(np.zeros(len(scales)), "int8")],
            axis=axis,
        )
        b = self.op(
            "DequantizeLinear",
            [self.const(biases, "int32"), self.const(units), self.const(np.zeros(len(scales)), "int32")],
            axis=0,
        )
        return w, b

    def with_state(self, node: Node) -> str:
        """The frames before this one, then this one; writes the state back. Integers are not converted on the way."""
        assert node.state is not None
        s, int8 = node.state, self.is_int8(node)
        shape = (1, s.channels, s.frames, s.bands)
        q = self.plan.grids[node.inputs[0]] if self.plan and int8 else None
        both = self.op("Concat", [self.state_in(s.name, shape, q), self.read(node.inputs[0], int8)], axis=2)
        self.op(
            "Slice",
            [both, self.ints(1), self.ints(s.frames + 1), self.ints(2)],
            out=self.state_out(s.name, shape, q),
        )
        return self.dequantized(both, q) if q else str(both)

    def state_in(self, name: str, shape: Sequence[int], q: QParams | None) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.UINT8 if q else TensorProto.FLOAT, shape))
        self.states.append(state_entry(name, shape, q, unsigned=True))
        return name

    def state_out(self, name: str, shape: Sequence[int], q: QParams | None) -> str:
        out = f"{name}_out"
        self.outputs.append(helper.make_tensor_value_info(out, TensorProto.UINT8 if q else TensorProto.FLOAT, shape))
        return out

    def leaky_relu(self, node: Node) -> None:
        (x,) = self.operands(node, "maps")
        self.write(node, self.op("LeakyRelu", [x], alpha=node.attrs["slope"], node=node))

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
        parts = self.op("Split", [self.moved(node), self.ints(*sizes)], n_out=len(sizes), axis=1)
        for sibling, part in zip(siblings, parts, strict=True):
            self.place(sibling, part)

    def shuffle(self, node: Node) -> None:
        """Beside each other along the empty time axis, then read as channels: no data moves twice."""
        shape = self.graph.shapes[node.name]
        both = self.op("Concat", self.operands(node, "maps"), axis=2)
        self.write(node, self.op("Reshape", [both, self.ints(1, shape.channels, 1, shape.bands)]))

    def interleave(self, node: Node) -> None:
        groups, bands = node.attrs["groups"], self.graph.shapes[node.inputs[0]].bands
        channels = self.graph.shapes[node.name].channels
        x = self.op("Reshape", [self.moved(node), self.ints(groups, 2, channels // groups, bands)])
        x = self.op("Transpose", [x], perm=[0, 2, 3, 1])
        x = self.op("Reshape", [x, self.ints(1, channels, 1, 2 * bands)])
        self.place(node, self.op("Slice", [x, self.ints(0), self.ints(node.attrs["n_bands"]), self.ints(3)]))

    def mean_square(self, node: Node) -> None:
        """The sum of squares: the GRU that reads it has its weights divided by the number of bands."""
        (x,) = self.operands(node, "maps")
        self.write(node, self.op("ReduceSumSquare", [x], axes=[2, 3], keepdims=0, node=node), "rows")

    def sigmoid(self, node: Node) -> None:
        layout = self.layout(node.inputs[0])
        self.write(node, self.op("Sigmoid", self.operands(node, layout), node=node), layout)

    def tanh(self, node: Node) -> None:
        self.write(node, self.op("Tanh", self.operands(node, "maps"), node=node))

    def gate(self, node: Node) -> None:
        self.write(node, self.op("Mul", self.operands(node, "maps"), node=node))

    def add(self, node: Node) -> None:
        layout: Layout = (
            "rows"
            if all(self.layout(i) == "rows" for i in node.inputs) or self.layout(node.inputs[1]) == "rows"
            else "maps"
        )
        self.write(node, self.op("Add", self.operands(node, layout), node=node), layout)

    def quantize(self, node: Node) -> None:
        """Written when an 8-bit node reads it (see `read`)."""
        if any(self.is_int8(n) for n in self.graph.consumers(node.name)):
            layout = self.layout(node.inputs[0])
            assert self.plan is not None
            self.made[node.name, True, layout] = self.quantized(
                self.read(node.inputs[0], False, layout), self.plan.grids[node.name]
            )

    def layer_norm(self, node: Node) -> None:
        (x,) = self.operands(node, "rows")
        weight, bias = (self.const(self.graph.arrays(node)[role]) for role in ("weight", "bias"))
        self.write(
            node,
            self.op("LayerNormalization", [x, weight, bias], axis=0, epsilon=node.attrs["eps"], node=node),
            "rows",
        )

    def mask(self, node: Node) -> None:
        """(re + i im)(m_re + i m_im) = m_re (re, im) + m_im (-im, re)."""
        x, m = self.operands(node, "maps")
        turn = self.const(np.array([[0, -1], [1, 0]]).reshape(2, 2, 1, 1))
        turned = self.op("Conv", [x, turn], kernel_shape=[1, 1])
        m_re, m_im = self.op("Split", [m, self.ints(1, 1)], n_out=2, axis=1)
        self.write(node, self.op("Add", [self.op("Mul", [x, m_re]), self.op("Mul", [turned, m_im])], out="masked"))

    # --- recurrent layers ---------------------------------------------------------------------------------------

    def gru(self, node: Node) -> None:
        """One step over time, a batch of bands."""
        assert node.state is not None
        (x,) = self.operands(node, "rows")
        s, w = node.state, gru.merged(self.graph, node)
        source = self.by_name[node.inputs[0]]
        if source.kind == "mean_square":
            w = w._replace(w_ih=w.w_ih / np.float32(self.graph.shapes[source.inputs[0]].bands))
        shape = (1, s.bands, s.channels)
        h, out = self.state_in(s.name, shape, None), self.state_out(s.name, shape, None)
        self.nodes.append(
            helper.make_node(
                "GRU",
                [self.op("Unsqueeze", [x, self.ints(0)]), *self.gru_weights([w]), "", h],
                ["", out],
                name=node.name,
                hidden_size=w.hidden,
                linear_before_reset=1,
            )
        )
        self.write(node, self.op("Squeeze", [out, self.ints(0)]), "rows")

    def bigru(self, node: Node) -> None:
        """A sequence of bands in both directions; the output lies as (forward units, backward units)."""
        (x,) = self.operands(node, "rows")
        layers = gru.directions(self.graph, node)
        y = self.op(
            "GRU",
            [self.op("Unsqueeze", [x, self.ints(1)]), *self.gru_weights(layers)],
            hidden_size=layers[0].hidden,
            linear_before_reset=1,
            direction="bidirectional",
            node=node,
        )
        shape = self.graph.shapes[node.name]
        self.write(node, self.op("Reshape", [y, self.ints(shape.bands, shape.channels)]), "rows")

    def gru_weights(self, layers: Sequence[GruWeights]) -> list[str]:
        """W, R and B of an ONNX GRU: a direction a row, gates in the order z, r, n."""

        def zrn(values: Array) -> Array:
            r, z, n = np.split(values, 3)
            return np.concatenate([z, r, n])

        return [
            self.const(np.stack([zrn(layer.w_ih) for layer in layers])),
            self.const(np.stack([zrn(layer.w_hh) for layer in layers])),
            self.const(np.stack([np.concatenate([zrn(layer.b_ih), zrn(layer.b_hh)]) for layer in layers])),
        ]
