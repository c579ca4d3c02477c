"""What every lowering of a node needs: the graph and its plan, the file so far, and where each value lies in memory."""

from __future__ import annotations

from edge_runtime.stft import Float32Array
from quant.emit.native.file import FLOAT_OUT, Array, NativeFile, Number, Op, Part, View
from quant.int8.plan import Plan
from quant.int8.qparams import QParams, multiplier
from quant.int8.roundings import with_fewer_roundings
from quant.network.graph import Graph, Node

FLOAT_PLAN = Plan({}, {}, {})


class Parts:
    """A program so far. `values`: the view of each value, as it is stored; `floats`: 8-bit ones read in float;
    `blocks`: in 16 bits, and what a step is."""

    def __init__(self, graph: Graph, plan: Plan | None) -> None:
        self.graph, self.plan = with_fewer_roundings(graph, plan) if plan else (graph, FLOAT_PLAN)
        self.half = plan is not None  # exactly what `ptq.halved` rounded
        self.file = NativeFile("fp32" if plan is None else "int8")
        self.values: dict[str, View] = {}
        self.floats: dict[str, View] = {}
        self.blocks: dict[str, tuple[View, View]] = {}

    def op(self, kind: str, node: Node, n_rows: int, **parts: Part) -> Op:
        return self.file.op(kind, node.name, n_rows, **parts)

    def new(self, node: Node, *, int8: bool = False) -> View:
        """Memory for the value of a node."""
        shape = self.graph.shapes[node.name]
        view = self.file.value(shape.bands, shape.channels, "int8" if int8 else "float32")
        self.values[node.name] = view
        return view

    def grid(self, name: str) -> QParams:
        return self.plan.grids[name]

    def target_of(self, name: str) -> tuple[QParams | None, dict[str, Number]]:
        """The grid of an 8-bit product's result, and what says so; none and a flag where it is float."""
        q = self.plan.grids.get(name)
        return (q, {"y_zp": q.zero_point}) if q else (None, {"flags": FLOAT_OUT})

    def is_int8(self, name: str) -> bool:
        return self.plan.precision.get(name) == "int8"

    def read(self, node: Node, i: int = 0) -> View:
        """An input as the node computes with it: as stored, or in float."""
        name = node.inputs[i]
        if not self.is_int8(name) or self.plan.reads_int8(node):
            return self.values[name]
        if name not in self.floats:
            x, q = self.values[name], self.grid(name)
            y = self.floats[name] = self.file.value(x.n_rows, x.n_columns, "float32")
            self.file.op("dequantize", name, x=x, y=y, x_zp=q.zero_point, f0=q.scale, **rectangle(x, y))
        return self.floats[name]

    def quantized(self, name: str, x: View, q: QParams) -> View:
        """A float value on a grid."""
        y = self.file.value(x.n_rows, x.n_columns, "int8")
        self.file.op("quantize", name, x=x, y=y, f0=q.inverse, y_zp=q.zero_point, **rectangle(x, y))
        return y

    def block(self, node: Node) -> View:
        """The input of a node in steps of 16 bits of one exponent."""
        x, name = self.read(node), node.inputs[0]
        if name not in self.blocks:
            y, unit = self.file.value(x.n_rows, x.n_columns, "int16"), self.file.value(1, 1, "float32")
            self.file.op("quantize_i16", name, x=x, y=y, state=unit, **rectangle(x, y))
            self.blocks[name] = y, unit
        return self.blocks[name][0]

    def array(self, node: Node, role: str) -> Float32Array:
        return self.graph.params[node.param(role)]

    def only_reader(self, name: str, *kinds: str) -> Node | None:
        """The node that alone reads the value, if it is of one of the kinds and of the same precision."""
        readers = self.graph.consumers(name)
        if len(readers) != 1 or readers[0].kind not in kinds or name == self.graph.output:
            return None
        return readers[0] if self.is_int8(readers[0].name) == self.is_int8(name) else None

    def elementwise(self, node: Node, kind: str, **numbers: Number) -> None:
        """An operation on one or two values of the same shape."""
        int8 = self.plan.is_int8(node)
        xs = [self.read(node, i) for i in range(len(node.inputs))]
        y = self.new(node, int8=int8)
        parts = {"x": xs[0], "y": y} | ({"x2": xs[1]} if len(xs) == 2 else {})
        shape = rectangle(*parts.values())
        self.file.op(kind, node.name, shape.pop("n_rows"), **shape, **parts, **numbers)

    def product(self, node: Node, x: View, y: View, arrays: dict[str, Array | int], **numbers: Number) -> None:
        """A convolution operation from arrays of `integers`, `shorts` or `floats`."""
        kind = {"int8": "conv_i8", "int16": "conv_i16", "float32": "conv"}[x.buffer.dtype]
        x2 = self.blocks[node.inputs[0]][1] if x.buffer.dtype == "int16" else None
        flags = int(numbers.pop("flags", 0)) | int(arrays.pop("flags", 0))
        self.op(kind, node, y.n_rows, x=x, x2=x2, y=y, flags=flags, **arrays, **numbers)

    def zero_points(self, node: Node) -> dict[str, int]:
        """Of both inputs and the result."""
        a, b = (self.grid(name).zero_point for name in node.inputs)
        return {"x_zp": a, "x2_zp": b, "y_zp": self.grid(node.name).zero_point}

    def rescaled(self, node: Node) -> dict[str, Number]:
        """Multipliers that take each input to the grid of the result."""
        target = self.grid(node.name)
        return {f"f{i}": multiplier(self.grid(name).scale, target) for i, name in enumerate(node.inputs)}


def rectangle(*views: View) -> dict[str, int]:
    """Rows and columns of an element-wise operation: one long row if everything lies together."""
    x = views[0]
    if all(v.row == v.n_columns for v in views):
        n = x.n_rows * x.n_columns
        return {"n_rows": 1, "n_out": n, "x_row": n, "x2_row": n, "y_row": n}
    return {"n_rows": x.n_rows, "n_out": x.n_columns}
