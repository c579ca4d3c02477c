"""The plan as a TFLite flatbuffer: one method a node kind, exact scales, no converter in between.

Values lie as (1, 1, bands, channels). The head (spectrum to SFE) and the tail (mask) lie as (1, 1, channels, bands),
because their matrix products run over bands. An 8-bit node reads and writes int8 tensors; a float node reads float
ones; QUANTIZE and DEQUANTIZE stand where the two meet. TFLite has no GRU: it is unrolled over the bands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge_runtime.manifest import StateEntry
from quant import gru
from quant.emitted import Emitted, state_entry
from quant.graph import Array, Graph, Node, State
from quant.gru import GruWeights
from quant.plan import Plan
from quant.qparams import (
    UNIT,
    WEIGHT_LIMIT,
    QParams,
    quantize,
    quantize_bias,
    quantize_weight,
)
from quant.tflite_file import Tensor, TensorGrid, TfliteFile

CHANNELS = 3  # the axis of channels in a band-major tensor
BANDS = 2
MOST_CONCATENATED = 5


def emit(graph: Graph, plan: Plan | None = None, description: str = "GTCRN, one frame") -> Emitted:
    """The streaming model; float without a plan. Inputs: `spectrum` (1, 257, 1, 2) and the states by name;
    outputs: `enhanced` and `<state>_out`."""
    emitter = _Emitter(graph, plan)
    data = emitter.run().to_bytes(description)
    return Emitted(data, tuple(emitter.states), tuple(emitter.op_nodes))


def as_grid(q: QParams) -> TensorGrid:
    """A grid in the file's terms."""
    return TensorGrid((q.scale,), (q.zero_point,))


class _Emitter:
    def __init__(self, graph: Graph, plan: Plan | None) -> None:
        self.graph, self.plan, self.file = graph, plan, TfliteFile()
        self.made: dict[tuple[str, bool], Tensor] = {}  # (value, as int8?) -> tensor
        self.states_out: list[Tensor] = []
        self.op_nodes: list[str] = []
        self.states: list[StateEntry] = []

    def run(self) -> TfliteFile:
        f = self.file
        spectrum = f.tensor((1, 257, 1, 2), name="spectrum")
        f.inputs.append(spectrum)
        self.made["spectrum", False] = self.transpose(self.reshape(spectrum, (1, 1, 257, 2)), (0, 1, 3, 2))
        for node in self.graph.nodes:
            getattr(self, node.kind)(node)
            self.op_nodes += [node.name] * (len(f.operators) - len(self.op_nodes))
        enhanced = f.tensor((1, 257, 1, 2), name="enhanced")
        self.reshape(self.transpose(self.made[self.graph.output, False], (0, 1, 3, 2)), enhanced.shape, enhanced)
        f.outputs = [enhanced, *self.states_out]
        self.op_nodes += [self.graph.output] * (len(f.operators) - len(self.op_nodes))
        return f

    # --- values -------------------------------------------------------------------------------------------------

    def is_int8(self, node: Node) -> bool:
        return self.plan is not None and self.plan.is_int8(node)

    def read(self, name: str, int8: bool) -> Tensor:
        """The tensor of a value in the asked type, converted once if it was made in the other."""
        if (name, int8) not in self.made:
            self.made[name, int8] = self.convert(self.made[name, not int8], None if not int8 else self.grid(name))
        return self.made[name, int8]

    def convert(self, x: Tensor, q: QParams | None) -> Tensor:
        """QUANTIZE onto a grid (also from another grid), or DEQUANTIZE when there is none."""
        out = self.like(x, q)
        self.file.op(
            "QUANTIZE" if q else "DEQUANTIZE",
            [x],
            [out],
            schema.QuantizeOptionsT() if q else schema.DequantizeOptionsT(),
        )
        return out

    def grid(self, tap: str) -> QParams:
        assert self.plan is not None
        return self.plan.grids[tap]

    def tap_grid(self, node: Node, role: str = "") -> QParams | None:
        """The grid of a node's value, or of one inside it; None for a float node."""
        return self.grid(f"{node.name}.{role}" if role else node.name) if self.is_int8(node) else None

    def inputs(self, node: Node) -> list[Tensor]:
        return [self.read(name, self.is_int8(node)) for name in node.inputs]

    def output(self, node: Node, tensor: Tensor) -> None:
        self.made[node.name, self.is_int8(node)] = tensor

    def new(self, shape: Sequence[int], q: QParams | None, name: str = "") -> Tensor:
        return self.file.tensor(shape, "int8" if q else "float32", as_grid(q) if q else None, name)

    def like(self, x: Tensor, q: QParams | None, shape: Sequence[int] | None = None) -> Tensor:
        return self.new(x.shape if shape is None else shape, q)

    # --- operators ----------------------------------------------------------------------------------------------

    def moved(
        self,
        code: str,
        inputs: list[Tensor],
        shape: Sequence[int],
        options: object = None,
        out: Tensor | None = None,
    ) -> Tensor:
        """An operator that moves values and so keeps their grid."""
        out = out or self.file.tensor(shape, inputs[0].dtype, inputs[0].grid)
        self.file.op(code, inputs, [out], options)
        return out

    def ints(self, values: Sequence[int]) -> Tensor:
        return self.file.constant(np.asarray(values, np.int32))

    def reshape(self, x: Tensor, shape: Sequence[int], out: Tensor | None = None) -> Tensor:
        options = schema.ReshapeOptionsT()
        options.newShape = list(shape)
        return self.moved("RESHAPE", [x, self.ints(shape)], shape, options, out)

    def transpose(self, x: Tensor, order: Sequence[int]) -> Tensor:
        shape = [x.shape[i] for i in order]
        return self.moved("TRANSPOSE", [x, self.ints(order)], shape, schema.TransposeOptionsT())

    def slice_axis(self, x: Tensor, axis: int, start: int, stop: int, out: Tensor | None = None) -> Tensor:
        begin, size = [0] * len(x.shape), list(x.shape)
        begin[axis], size[axis] = start, stop - start
        return self.moved("SLICE", [x, self.ints(begin), self.ints(size)], size, schema.SliceOptionsT(), out)

    def rows(self, x: Tensor, axis: int = BANDS) -> list[Tensor]:
        """Every row of an axis; slices, because SPLIT into more than 4 parts would leave the fast kernels."""
        return [self.slice_axis(x, axis, i, i + 1) for i in range(x.shape[axis])]

    def split(self, x: Tensor, axis: int, n: int) -> list[Tensor]:
        options = schema.SplitOptionsT()
        options.numSplits = n
        shape = list(x.shape)
        shape[axis] //= n
        outs = [self.file.tensor(shape, x.dtype, x.grid) for _ in range(n)]
        self.file.op("SPLIT", [self.file.constant(np.array(axis, np.int32)), x], outs, options)
        return outs

    def concat(self, xs: Sequence[Tensor], axis: int, out: Tensor | None = None) -> Tensor:
        """In a tree of at most 5 at a time: more at once would leave the fast kernels."""
        while len(xs) > MOST_CONCATENATED:
            starts = range(0, len(xs), MOST_CONCATENATED)
            xs = [self.concat(xs[i : i + MOST_CONCATENATED], axis) for i in starts]
        if len(xs) == 1 and out is None:
            return xs[0]
        options = schema.ConcatenationOptionsT()
        options.axis = axis
        shape = list(xs[0].shape)
        shape[axis] = sum(x.shape[axis] for x in xs)
        return self.moved("CONCATENATION", list(xs), shape, options, out)

    def pad(self, x: Tensor, axis: int) -> Tensor:
        """One zero on both sides."""
        widths = np.zeros((4, 2), np.int32)
        widths[axis] = 1
        shape = list(x.shape)
        shape[axis] += 2
        return self.moved("PAD", [x, self.file.constant(widths)], shape, schema.PadOptionsT())

    def binary(self, code: str, a: Tensor, b: Tensor, q: QParams | None) -> Tensor:
        options = {"ADD": schema.AddOptionsT, "SUB": schema.SubOptionsT, "MUL": schema.MulOptionsT}[code]()
        out = self.like(a, q, np.broadcast_shapes(a.shape, b.shape))
        self.file.op(code, [a, b], [out], options)
        return out

    def unary(self, code: str, x: Tensor, q: QParams | None = None, options: object = None) -> Tensor:
        out = self.like(x, q)
        self.file.op(code, [x], [out], options)
        return out

    def mean(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        options = schema.ReducerOptionsT()
        options.keepDims = True
        shape = [1 if i in axes else d for i, d in enumerate(x.shape)]
        out = self.file.tensor(shape)
        self.file.op("MEAN", [x, self.ints(axes)], [out], options)
        return out

    def scalar(self, value: float) -> Tensor:
        return self.file.constant(np.full((1, 1, 1, 1), value, np.float32))

    def filter(
        self,
        x: Tensor,
        weight: Array,
        bias: Array,
        q: QParams | None,
        *,
        stride: int = 1,
        dilation: int = 1,
        depthwise: bool = False,
        scales: Array | None = None,
    ) -> Tensor:
        """A convolution: weight (out, time, band, in), or (1, time, band, out) when depthwise.

        Over bands it pads to keep ceil(bands / stride); a depthwise one is `valid` on an input padded before.
        `scales`: one a channel; the node is 8-bit when `q` is given.
        """
        w, b = self.weights(x, weight, bias, scales, 3 if depthwise else 0, q)
        options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
        options.padding = schema.Padding.VALID if depthwise else schema.Padding.SAME
        options.strideW, options.strideH = stride, 1
        options.dilationHFactor, options.dilationWFactor = dilation, 1
        if depthwise:
            options.depthMultiplier = 1
        n_out = len(bias)
        bands = x.shape[BANDS] - 2 if depthwise else -(-x.shape[BANDS] // stride)
        out = self.new((1, 1, bands, n_out), q)
        self.file.op("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", [x, w, b], [out], options)
        return out

    def weights(
        self, x: Tensor, weight: Array, bias: Array, scales: Array | None, axis: int, q: QParams | None
    ) -> tuple[Tensor, Tensor]:
        """Weight and bias tensors; a float node in a quantized model still uses the rounded weights it was given."""
        if q is None or scales is None:
            return self.file.constant(weight), self.file.constant(bias)
        first = np.moveaxis(weight, axis, 0)
        integers = np.moveaxis(quantize_weight(first, scales), 0, axis)
        assert x.grid is not None
        grid = TensorGrid(tuple(scales.tolist()), (0,) * len(scales), axis)
        biases = quantize_bias(bias, x.grid.scales[0], scales)
        units = (np.float32(x.grid.scales[0]) * scales).astype(np.float32)
        bias_grid = TensorGrid(tuple(units.tolist()), (0,) * len(scales))
        return self.file.constant(integers, grid), self.file.constant(biases, bias_grid)

    # --- node kinds ---------------------------------------------------------------------------------------------

    def features(self, node: Node) -> None:
        (x,) = self.inputs(node)
        re, im = self.split(x, BANDS, 2)
        square = self.binary("ADD", self.binary("MUL", re, re, None), self.binary("MUL", im, im, None), None)
        magnitude = self.unary("SQRT", self.binary("ADD", square, self.scalar(1e-12), None))
        self.output(node, self.concat([magnitude, x], BANDS))

    def merge_bands(self, node: Node) -> None:
        (x,) = self.inputs(node)
        self.output(node, self.over_bands(x, node))

    def over_bands(self, x: Tensor, node: Node) -> Tensor:
        """Copy the low bands, multiply the high ones; channels lie along axis 2, bands along axis 3."""
        n_low, weight = node.attrs["n_low"], self.graph.params[node.param("weight")]
        low = self.slice_axis(x, 3, 0, n_low)
        high = self.slice_axis(x, 3, n_low, x.shape[3])
        options = schema.FullyConnectedOptionsT()
        options.keepNumDims = True
        out = self.file.tensor((*x.shape[:3], weight.shape[0]))
        self.file.op(
            "FULLY_CONNECTED",
            [high, self.file.constant(weight), self.file.constant(np.zeros(weight.shape[0], np.float32))],
            [out],
            options,
        )
        return self.concat([low, out], 3)

    def neighbours(self, node: Node) -> None:
        """Channels come as (neighbour, channel) here, not (channel, neighbour): the next convolution knows."""
        (x,) = self.inputs(node)
        padded = self.pad(x, 3)
        shifted = self.concat([self.slice_axis(padded, 3, k, k + x.shape[3]) for k in range(3)], BANDS)
        self.output(node, self.transpose(shifted, (0, 1, 3, 2)))

    def conv(self, node: Node) -> None:
        (x,) = self.inputs(node)
        a, q = node.attrs, self.tap_grid(node)
        weight, bias = (self.graph.params[node.param(r)] for r in ("weight", "bias"))
        scales = self.plan.weight_scales.get(node.param("weight")) if self.plan else None
        depthwise = a["groups"] > 1 and a["groups"] == weight.shape[0]
        if node.state is not None:
            x = self.with_state(node, x)
        if depthwise:
            weight = weight.transpose(1, 2, 3, 0)
        else:
            weight = _dense(weight, a["groups"])
            if self.graph.node(node.inputs[0]).kind == "neighbours":
                o, i, kt, kf = weight.shape
                weight = weight.reshape(o, i // 3, 3, kt, kf).transpose(0, 2, 1, 3, 4).reshape(o, i, kt, kf)
            weight = weight.transpose(0, 2, 3, 1)
        self.output(
            node,
            self.filter(
                x,
                weight,
                bias,
                q,
                stride=a["stride"],
                dilation=a["dilation"],
                depthwise=depthwise,
                scales=scales,
            ),
        )

    def with_state(self, node: Node, x: Tensor) -> Tensor:
        """The frames before this one, then this one, padded by a band on both sides; writes the state back."""
        assert node.state is not None
        s = node.state
        past = self.state_in(s, x.grid)
        both = self.concat([past, x], 1)
        out = self.state_out(past, s)
        self.slice_axis(both, 1, 1, s.frames + 1, out)
        return self.pad(both, BANDS)

    def state_in(self, s: State, grid: TensorGrid | None) -> Tensor:
        """The input of a state; it and the output lie on one grid."""
        x = self.file.tensor((1, s.frames, s.bands, s.channels), "int8" if grid else "float32", grid, s.name)
        self.file.inputs.append(x)
        self.states.append(state_entry(s.name, x.shape, QParams(grid.scales[0], grid.zero_points[0]) if grid else None))
        return x

    def state_out(self, x: Tensor, s: State) -> Tensor:
        out = self.file.tensor(x.shape, x.dtype, x.grid, f"{s.name}_out")
        self.states_out.append(out)
        return out

    def leaky_relu(self, node: Node) -> None:
        (x,) = self.inputs(node)
        options = schema.LeakyReluOptionsT()
        options.alpha = node.attrs["slope"]
        self.output(node, self.unary("LEAKY_RELU", x, self.tap_grid(node), options))

    def slice(self, node: Node) -> None:
        (x,) = self.inputs(node)
        self.output(node, self.slice_axis(x, CHANNELS, node.attrs["start"], node.attrs["stop"]))

    def shuffle(self, node: Node) -> None:
        """Behind each other, then transposed: an order of magnitude cheaper than concatenating single channels."""
        q = self.tap_grid(node)
        xs = [self.convert(x, q) if q and x.grid != as_grid(q) else x for x in self.inputs(node)]
        bands, channels = self.graph.shapes[node.name].bands, self.graph.shapes[node.name].channels
        turned = self.transpose(self.concat(xs, 1), (0, 2, 3, 1))
        self.output(node, self.reshape(turned, (1, 1, bands, channels)))

    def interleave(self, node: Node) -> None:
        (x,) = self.inputs(node)
        groups, bands = node.attrs["groups"], x.shape[BANDS]
        channels = x.shape[CHANNELS] // 2
        if groups > 1:
            x = self.transpose(self.reshape(x, (bands, groups, 2, channels // groups)), (0, 2, 1, 3))
        x = self.reshape(x, (1, 1, 2 * bands, channels))
        self.output(node, self.slice_axis(x, BANDS, 0, node.attrs["n_bands"]))

    def mean_square(self, node: Node) -> None:
        (x,) = self.inputs(node)
        self.output(node, self.mean(self.binary("MUL", x, x, None), (BANDS,)))

    def sigmoid(self, node: Node) -> None:
        self.output(node, self.unary("LOGISTIC", self.inputs(node)[0]))

    def tanh(self, node: Node) -> None:
        self.output(node, self.unary("TANH", self.inputs(node)[0]))

    def gate(self, node: Node) -> None:
        x, g = self.inputs(node)
        self.output(node, self.binary("MUL", x, g, self.tap_grid(node)))

    def add(self, node: Node) -> None:
        x, y = self.inputs(node)
        self.output(node, self.binary("ADD", x, y, self.tap_grid(node)))

    def quantize(self, node: Node) -> None:
        self.made[node.name, True] = self.convert(self.read(node.inputs[0], False), self.grid(node.name))

    def layer_norm(self, node: Node) -> None:
        (x,) = self.inputs(node)
        p = self.graph.arrays(node)
        centred = self.binary("SUB", x, self.mean(x, (2, 3)), None)
        variance = self.mean(self.binary("MUL", centred, centred, None), (2, 3))
        gain = self.unary("RSQRT", self.binary("ADD", variance, self.scalar(node.attrs["eps"]), None))
        weight, bias = (self.file.constant(p[r][None, None]) for r in ("weight", "bias"))
        scaled = self.binary("MUL", self.binary("MUL", centred, gain, None), weight, None)
        self.output(node, self.binary("ADD", scaled, bias, None))

    def split_bands(self, node: Node) -> None:
        (x,) = self.inputs(node)
        self.output(node, self.over_bands(self.transpose(x, (0, 1, 3, 2)), node))

    def mask(self, node: Node) -> None:
        x, m = self.inputs(node)
        (re, im), (m_re, m_im) = self.split(x, BANDS, 2), self.split(m, BANDS, 2)
        real = self.binary("SUB", self.binary("MUL", re, m_re, None), self.binary("MUL", im, m_im, None), None)
        imag = self.binary("ADD", self.binary("MUL", im, m_re, None), self.binary("MUL", re, m_im, None), None)
        self.output(node, self.concat([real, imag], BANDS))

    # --- recurrent layers ---------------------------------------------------------------------------------------

    def gru(self, node: Node) -> None:
        """One step over time, every band at once."""
        assert node.state is not None
        (x,) = self.inputs(node)
        s, layer = node.state, _Cell(self, node, gru.merged(self.graph, node), self.gru_scales(node))
        q = layer.q("")
        h = self.state_in(s, as_grid(q) if q else None)
        self.output(node, layer.step(*layer.gates_x(x), h, self.state_out(h, s)))

    def bigru(self, node: Node) -> None:
        """A chain over the bands: step i computes band i forward and band n-1-i backward."""
        (x,) = self.inputs(node)
        forward, backward = gru.directions(self.graph, node)
        cell = _Cell(self, node, gru.side_by_side((forward, backward)), self.gru_scales(node))
        both = self.concat([x, self.reverse(x)], CHANNELS)
        steps = zip(*(self.rows(gates) for gates in cell.gates_x(both)), strict=True)
        h: Tensor | None = None
        ys = []
        for reset_update, new in steps:
            h = cell.step(reset_update, new, h)
            ys.append(h)
        hidden = forward.hidden
        ahead = self.slice_axis(self.concat(ys, BANDS), CHANNELS, 0, hidden)
        back = self.slice_axis(self.concat(ys[::-1], BANDS), CHANNELS, hidden, 2 * hidden)
        self.output(node, self.concat([ahead, back], CHANNELS))

    def reverse(self, x: Tensor) -> Tensor:
        """The bands from the other end, as an exact product with the exchange matrix.

        REVERSE_V2 would do, but no fast kernel takes it: the graph would fall into one more partition.
        """
        n = x.shape[BANDS]
        exchange = np.eye(n, dtype=np.float32)[::-1, None, None]
        q = QParams(x.grid.scales[0], x.grid.zero_points[0]) if x.grid else None
        rows = self.transpose(x, (0, 1, 3, 2))
        y = self.filter(rows, exchange, np.zeros(n, np.float32), q, scales=np.full(n, 1 / WEIGHT_LIMIT, np.float32))
        return self.transpose(y, (0, 1, 3, 2))

    def gru_scales(self, node: Node) -> Mapping[str, Array] | None:
        """Weight scales of the merged layer by role; None for a float node."""
        if self.plan is None or not self.is_int8(node):
            return None
        return {
            role: gru.merged_scales([self.plan.weight_scales[node.params[role][g]] for g in gru.scale_order(node)])
            for role in ("weight_ih", "weight_hh")
        }


class _Cell:
    """A GRU cell: r and z together, n apart, because r gates the recurrent part of n."""

    def __init__(self, emitter: _Emitter, node: Node, w: GruWeights, scales: Mapping[str, Array] | None) -> None:
        self.e, self.node, self.w, self.scales = emitter, node, w, scales

    def q(self, role: str) -> QParams | None:
        return self.e.tap_grid(self.node, role)

    def gates(self, x: Tensor, role: str) -> tuple[Tensor, Tensor]:
        """weight @ x + bias as (reset and update, new)."""
        ih = role == "gates_x"
        weight, bias = (self.w.w_ih, self.w.b_ih) if ih else (self.w.w_hh, self.w.b_hh)
        scales = self.scales["weight_ih" if ih else "weight_hh"] if self.scales else None
        cut = 2 * self.w.hidden
        parts = (slice(0, cut), slice(cut, None))
        first, second = (
            self.e.filter(
                x,
                weight[part, None, None],
                bias[part],
                self.q(role),
                scales=scales[part] if scales is not None else None,
            )
            for part in parts
        )
        return first, second

    def gates_x(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.gates(x, "gates_x")

    def gates_h(self, h: Tensor | None) -> tuple[Tensor, Tensor]:
        """Without a state the recurrent part is its bias alone."""
        if h is not None:
            return self.gates(h, "gates_h")
        q, cut = self.q("gates_h"), 2 * self.w.hidden
        parts = [self.w.b_hh[None, None, None, part] for part in (slice(0, cut), slice(cut, None))]
        first, second = (
            self.e.file.constant(quantize(p, q), as_grid(q)) if q else self.e.file.constant(p) for p in parts
        )
        return first, second

    def step(self, reset_update_x: Tensor, new_x: Tensor, h: Tensor | None, out: Tensor | None = None) -> Tensor:
        """h' = n + z * (h - n), n = tanh(x_n + r * h_n)."""
        e, q = self.e, self.q
        reset_update_h, new_h = self.gates_h(h)
        total = e.binary("ADD", reset_update_x, reset_update_h, q("reset_update_sum"))
        r, z = e.split(e.unary("LOGISTIC", total, q("reset_update")), CHANNELS, 2)
        reset_h = e.binary("MUL", r, new_h, q("reset_h"))
        n = e.unary("TANH", e.binary("ADD", new_x, reset_h, q("new_sum")), q("new"))
        old = h or self.zero()
        update = e.binary("MUL", z, e.binary("SUB", old, n, q("difference")), q("update"))
        if out is None:
            return e.binary("ADD", n, update, q(""))
        e.file.op("ADD", [n, update], [out], schema.AddOptionsT())
        return out

    def zero(self) -> Tensor:
        shape = (1, 1, 1, self.w.hidden)
        if self.q(""):
            return self.e.file.constant(np.zeros(shape, np.int8), as_grid(UNIT))
        return self.e.file.constant(np.zeros(shape, np.float32))


def _dense(weight: Array, groups: int) -> Array:
    """A grouped kernel (out, in/groups, t, b) as a dense one with zeros: TFLite's fast kernels know no groups."""
    if groups == 1:
        return weight
    n_out, per_group, kt, kf = weight.shape
    out = np.zeros((n_out, per_group * groups, kt, kf), weight.dtype)
    for g in range(groups):
        rows = slice(g * n_out // groups, (g + 1) * n_out // groups)
        out[rows, g * per_group : (g + 1) * per_group] = weight[rows]
    return out
