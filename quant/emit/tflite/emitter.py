"""The plan as a TFLite flatbuffer: one method a node kind, exact scales, no converter in between.

Values lie as (1, 1, bands, channels). The head (spectrum to ERB bands) and the tail (mask) lie as (1, 1, channels,
bands), because their matrix products run over bands. An 8-bit node reads and writes int8 tensors; a float node reads
float ones; QUANTIZE and DEQUANTIZE stand where the two meet. TFLite has no GRU: it is unrolled over the bands.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_runtime.manifest import StateEntry
from quant.emit.emitted import Emitted, state_entry
from quant.emit.tflite.file import Tensor, TensorGrid
from quant.emit.tflite.gru import GruCell
from quant.emit.tflite.ops import BANDS, CHANNELS, TfliteOps, as_grid, as_qparams, dense
from quant.int8.exact_float import least_power
from quant.int8.plan import GRU_ROLES, Plan
from quant.int8.qparams import QParams, dequantize_weight, quantize_weight
from quant.int8.runtimes import for_tflite
from quant.network import registry
from quant.network.erb import band_blocks
from quant.network.graph import Graph, Node, State
from quant.network.gru_weights import merged, merged_scales

ERB_BLOCKS = 4  # with the copied bands as many as one fast CONCATENATION takes


def emit_tflite(graph: Graph, plan: Plan | None = None) -> Emitted:
    """The streaming model; float without a plan. Inputs: `spectrum` (1, 257, 1, 2) and the states by name;
    outputs: `enhanced` and `<state>_out`."""
    emitter = _Emitter(*(for_tflite(graph, plan) if plan is not None else (graph, None)))
    file = emitter.run()
    constant_bytes = sum(len(buffer) for buffer in file.buffers)
    states, op_nodes = tuple(emitter.states), tuple(emitter.op_nodes)
    data = file.to_bytes(f"{registry.title(graph)}, one frame")
    return Emitted(data, states, constant_bytes, op_nodes, graph.window)


class _Emitter:
    def __init__(self, graph: Graph, plan: Plan | None) -> None:
        self.graph, self.plan, self.ops = graph, plan, TfliteOps()
        self.made: dict[tuple[str, bool], Tensor] = {}  # (value, as int8?) -> tensor
        self.states_out: list[Tensor] = []
        self.op_nodes: list[str] = []
        self.states: list[StateEntry] = []

    def run(self) -> TfliteOps:
        f = self.ops
        spectrum = f.tensor((1, 257, 1, 2), name="spectrum")
        f.inputs.append(spectrum)
        self.made["spectrum", False] = self.ops.transpose(self.ops.reshape(spectrum, (1, 1, 257, 2)), (0, 1, 3, 2))
        for node in self.graph.nodes:
            getattr(self, node.kind)(node)
            self.op_nodes += [node.name] * (len(f.operators) - len(self.op_nodes))
        enhanced = f.tensor((1, 257, 1, 2), name="enhanced")
        self.ops.reshape(
            self.ops.transpose(self.made[self.graph.output, False], (0, 1, 3, 2)), enhanced.shape, enhanced
        )
        f.outputs = [enhanced, *self.states_out]
        self.op_nodes += [self.graph.output] * (len(f.operators) - len(self.op_nodes))
        return f

    # --- values -------------------------------------------------------------------------------------------------

    def is_int8(self, node: Node) -> bool:
        return self.plan is not None and self.plan.is_int8(node)

    def read(self, name: str, int8: bool) -> Tensor:
        """The tensor of a value in the asked type, converted once if it was made in the other."""
        if (name, int8) not in self.made:
            self.made[name, int8] = self.ops.convert(self.made[name, not int8], None if not int8 else self.grid(name))
        return self.made[name, int8]

    def grid(self, tap: str) -> QParams:
        assert self.plan is not None
        return self.plan.grids[tap]

    def tap_grid(self, node: Node) -> QParams | None:
        """The grid of a node's value; None for a float node."""
        return self.grid(node.name) if self.is_int8(node) else None

    def inputs(self, node: Node) -> list[Tensor]:
        int8 = self.plan is not None and self.plan.reads_int8(node)
        return [self.read(name, int8) for name in node.inputs]

    def output(self, node: Node, tensor: Tensor) -> None:
        self.made[node.name, self.is_int8(node)] = tensor

    def rounded(self, node: Node, value: Tensor) -> None:
        """Keep a value computed in float, on the node's grid if it has one."""
        q = self.tap_grid(node)
        self.output(node, self.ops.convert(value, q) if q else value)

    # --- node kinds ---------------------------------------------------------------------------------------------

    def features(self, node: Node) -> None:
        (x,) = self.inputs(node)
        re, im = self.ops.split(x, BANDS, 2)
        square = self.ops.binary("ADD", self.ops.binary("MUL", re, re), self.ops.binary("MUL", im, im), None)
        magnitude = self.ops.unary("SQRT", self.ops.binary("ADD", square, self.ops.scalar(1e-12)))
        self.output(node, self.ops.concat([magnitude, x], BANDS))

    def log_magnitude(self, node: Node) -> None:
        """Half the logarithm of the power."""
        (x,) = self.inputs(node)
        re, im = self.ops.split(x, BANDS, 2)
        power = self.ops.binary("ADD", self.ops.binary("MUL", re, re), self.ops.binary("MUL", im, im))
        log = self.ops.unary("LOG", self.ops.binary("MAXIMUM", power, self.ops.scalar(float(least_power(node)))))
        self.output(node, self.ops.binary("MUL", log, self.ops.scalar(0.5 / np.log(10))))

    def merge_bands(self, node: Node) -> None:
        (x,) = self.inputs(node)
        self.output(node, self.ops.transpose(self.over_bands(x, node), (0, 1, 3, 2)))

    def over_bands(self, x: Tensor, node: Node) -> Tensor:
        """Copy the low bands, multiply the high ones; channels lie along axis 2, bands along axis 3.

        The ERB matrices are zero but for a band around their diagonal: a few blocks hold all of it.
        """
        n_low, weight = node.attrs["n_low"], self.graph.params[node.param("weight")]
        parts = [self.ops.slice_axis(x, 3, 0, n_low)]
        for rows, columns in band_blocks(weight, ERB_BLOCKS):
            high = self.ops.slice_axis(x, 3, n_low + columns.start, n_low + columns.stop)
            parts.append(self.ops.product(high, weight[rows, columns]))
        return self.ops.concat(parts, 3)

    def edge_bands(self, node: Node) -> None:
        x, source = self.inputs(node)
        n_source, weights = source.shape[BANDS], self.graph.params[node.param("weight")]
        low, high = (
            self.ops.filter(
                self.ops.slice_axis(source, BANDS, i, i + 1), w[:, None, None], np.zeros(len(w), np.float32), None
            )
            for i, w in zip((0, n_source - 1), weights, strict=True)
        )
        between = self.ops.constant(np.zeros((1, 1, x.shape[BANDS] - 2, x.shape[CHANNELS]), np.float32))
        self.output(node, self.ops.binary("ADD", x, self.ops.concat([low, between, high], BANDS)))

    def conv(self, node: Node) -> None:
        (x,) = self.inputs(node)
        a, q = node.attrs, self.tap_grid(node)
        weight, bias = (self.graph.params[node.param(r)] for r in ("weight", "bias"))
        scales = self.plan.weight_scales.get(node.param("weight")) if self.plan else None
        depthwise = a["groups"] > 1 and weight.shape[1] == 1
        if node.state is not None:
            x = self.with_state(node, x)
        elif depthwise and a["pad"]:
            x = self.ops.pad(x, BANDS, a["pad"], a["pad"])
        weight = weight.transpose(1, 2, 3, 0) if depthwise else dense(weight, a["groups"]).transpose(0, 2, 3, 1)
        parts = [
            self.ops.filter(
                x,
                weight[..., rows] if depthwise else weight[rows],
                bias[rows],
                q,
                stride=a["stride"],
                dilation=a["dilation"],
                depthwise=depthwise,
                padded=depthwise or node.state is not None,
                scales=None if scales is None else scales[rows],
            )
            for rows in self.output_channels(node, depthwise)
        ]
        self.output(node, self.ops.concat(parts, CHANNELS))

    def output_channels(self, node: Node, depthwise: bool) -> list[NDArray[np.intp]]:
        """The output channels of a convolution in the order in which they are written, in one operator or several.

        Where its result is interleaved, those of even bands come first, for weights move for nothing and values do not.
        A depthwise operator has a fixed order, so each half is one.
        """
        channels = np.arange(self.graph.shapes[node.name].channels)
        groups = next((n.attrs["groups"] for n in self.graph.consumers(node.name) if n.kind == "interleave"), 1)
        if groups == 1:
            return [channels]
        halves = channels.reshape(groups, 2, -1).transpose(1, 0, 2).reshape(2, -1)
        return list(halves) if depthwise else [halves.ravel()]

    def with_state(self, node: Node, x: Tensor) -> Tensor:
        """The frames before this one, then this one, padded on both sides; writes the state back."""
        assert node.state is not None
        s = node.state
        past = self.state_in(s, x.grid)
        both = self.ops.concat([past, x], 1)
        out = self.state_out(past, s)
        self.ops.slice_axis(both, 1, 1, s.frames + 1, out)
        return self.ops.pad(both, BANDS, node.attrs["pad"], node.attrs["pad"])

    def state_in(self, s: State, grid: TensorGrid | None) -> Tensor:
        """The input of a state; it and the output lie on one grid."""
        x = self.ops.tensor((1, s.frames, s.bands, s.channels), "int8" if grid else "float32", grid, s.name)
        self.ops.inputs.append(x)
        self.states.append(state_entry(s.name, x.shape, as_qparams(grid) if grid else None))
        return x

    def state_out(self, x: Tensor, s: State) -> Tensor:
        out = self.ops.tensor(x.shape, x.dtype, x.grid, f"{s.name}_out")
        self.states_out.append(out)
        return out

    def leaky_relu(self, node: Node) -> None:
        (x,) = self.inputs(node)
        self.output(node, self.ops.leaky_relu(x, node.attrs["slope"], self.tap_grid(node)))

    def affine_relu(self, node: Node) -> None:
        """In 8 bits a depthwise convolution over the value and what of it is above zero, a channel a number."""
        (x,) = self.inputs(node)
        o, q, p = self.ops, self.tap_grid(node), self.graph.arrays(node)
        weight, bias, rise = p["weight"].T, p["bias"].T, np.broadcast_to(p["rise"], p["weight"].T.shape)
        if self.plan is None or q is None:
            scaled = o.binary("ADD", o.binary("MUL", x, o.constant(weight[None, None])), o.constant(bias[None, None]))
            above = o.binary("MUL", o.relu(x), o.constant(p["rise"][None, None, None]))
            return self.output(node, o.binary("ADD", scaled, above))
        flat = o.reshape(x, (1, 1, 1, weight.size))
        both = o.concat([flat, o.relu(flat)], 1)
        weights = np.stack([weight.ravel(), rise.ravel()])[None, :, None]
        scales = np.tile(self.plan.weight_scales[node.param("weight")], len(weight))
        y = o.filter(both, weights, bias.ravel(), q, depthwise=True, padded=True, scales=scales)
        return self.output(node, o.reshape(y, x.shape))

    def slice(self, node: Node) -> None:
        (x,) = self.inputs(node)
        self.output(node, self.ops.slice_axis(x, CHANNELS, node.attrs["start"], node.attrs["stop"]))

    def shuffle(self, node: Node) -> None:
        """Behind each other, then transposed: an order of magnitude cheaper than concatenating single channels."""
        q = self.tap_grid(node)
        xs = [self.ops.convert(x, q) if q and x.grid != as_grid(q) else x for x in self.inputs(node)]
        bands, channels = self.graph.shapes[node.name].bands, self.graph.shapes[node.name].channels
        turned = self.ops.transpose(self.ops.concat(xs, 1), (0, 2, 3, 1))
        self.output(node, self.ops.reshape(turned, (1, 1, bands, channels)))

    def interleave(self, node: Node) -> None:
        """Its convolution wrote the channels of even bands before those of odd ones (`output_channels`)."""
        (x,) = self.inputs(node)
        x = self.ops.reshape(x, (1, 1, 2 * x.shape[BANDS], x.shape[CHANNELS] // 2))
        self.output(node, self.ops.slice_axis(x, BANDS, 0, node.attrs["n_bands"]))

    def mean_square(self, node: Node) -> None:
        """In float: 8-bit squares would be rounded before they are summed."""
        x = self.read(node.inputs[0], False)
        self.rounded(node, self.ops.mean(self.ops.binary("MUL", x, x), (BANDS,)))

    def band_energy(self, node: Node) -> None:
        """In float, as `mean_square`."""
        x, weight = self.read(node.inputs[0], False), self.graph.params[node.param("weight")][None]
        if self.plan is not None and self.is_int8(node):
            scales = self.plan.weight_scales[node.param("weight")]
            weight = dequantize_weight(quantize_weight(weight, scales), scales)
        self.rounded(node, self.ops.product(self.ops.binary("MUL", x, x), weight))

    def stack_bands(self, node: Node) -> None:
        (x,) = self.inputs(node)
        channels, bands = self.graph.shapes[node.name]
        padded = self.ops.pad(x, BANDS, 0, channels * bands - x.shape[BANDS])
        self.output(node, self.ops.reshape(padded, (1, 1, bands, channels)))

    def unstack_bands(self, node: Node) -> None:
        (x,) = self.inputs(node)
        flat = self.ops.reshape(x, (1, 1, x.shape[BANDS] * x.shape[CHANNELS], 1))
        self.output(node, self.ops.slice_axis(flat, BANDS, 0, self.graph.shapes[node.name].bands))

    def sigmoid(self, node: Node) -> None:
        self.output(node, self.ops.unary("LOGISTIC", self.inputs(node)[0]))

    def tanh(self, node: Node) -> None:
        self.output(node, self.ops.unary("TANH", self.inputs(node)[0]))

    def gate(self, node: Node) -> None:
        x, g = self.inputs(node)
        self.output(node, self.ops.binary("MUL", x, g, self.tap_grid(node)))

    band_gate = gate

    def add(self, node: Node) -> None:
        x, y = self.inputs(node)
        self.output(node, self.ops.binary("ADD", x, y, self.tap_grid(node)))

    def quantize(self, node: Node) -> None:
        self.made[node.name, True] = self.ops.convert(self.read(node.inputs[0], False), self.grid(node.name))

    def layer_norm(self, node: Node) -> None:
        (x,) = self.inputs(node)
        p = self.graph.arrays(node)
        centred = self.ops.binary("SUB", x, self.ops.mean(x, (2, 3)))
        variance = self.ops.mean(self.ops.binary("MUL", centred, centred), (2, 3))
        gain = self.ops.unary("RSQRT", self.ops.binary("ADD", variance, self.ops.scalar(node.attrs["eps"])))
        weight, bias = (self.ops.constant(p[r][None, None]) for r in ("weight", "bias"))
        scaled = self.ops.binary("MUL", self.ops.binary("MUL", centred, gain), weight)
        self.output(node, self.ops.binary("ADD", scaled, bias))

    def split_bands(self, node: Node) -> None:
        (x,) = self.inputs(node)
        self.output(node, self.over_bands(self.ops.transpose(x, (0, 1, 3, 2)), node))

    def mask(self, node: Node) -> None:
        x, m = self.inputs(node)
        o = self.ops
        (re, im), (m_re, m_im) = o.split(x, BANDS, 2), o.split(m, BANDS, 2)
        real = o.binary("SUB", o.binary("MUL", re, m_re), o.binary("MUL", im, m_im))
        imag = o.binary("ADD", o.binary("MUL", im, m_re), o.binary("MUL", re, m_im))
        self.output(node, o.concat([real, imag], BANDS))

    def real_mask(self, node: Node) -> None:
        x, m = self.inputs(node)
        self.output(node, self.ops.binary("MUL", x, m))

    # --- recurrent layers ---------------------------------------------------------------------------------------

    def gru(self, node: Node) -> None:
        """One step over time, every band at once."""
        assert node.state is not None
        (x,) = self.inputs(node)
        cell = self.cell(node)
        q = cell.q("")
        h = self.state_in(node.state, as_grid(q) if q else None)
        self.output(node, cell.step(*cell.gates_x(x), h, self.state_out(h, node.state)))

    def bigru(self, node: Node) -> None:
        """A chain over the bands: step i computes band i forward and band n-1-i backward."""
        (x,) = self.inputs(node)
        cell = self.cell(node)
        both = self.ops.concat([x, self.ops.reverse(x)], CHANNELS)
        steps = zip(*(self.ops.rows(gates) for gates in cell.gates_x(both)), strict=True)
        h: Tensor | None = None
        ys = []
        for reset_update, new in steps:
            h = cell.step(reset_update, new, h)
            ys.append(h)
        hidden = cell.w.hidden // 2
        ahead = self.ops.slice_axis(self.ops.concat(ys, BANDS), CHANNELS, 0, hidden)
        back = self.ops.slice_axis(self.ops.concat(ys[::-1], BANDS), CHANNELS, hidden, 2 * hidden)
        self.output(node, self.ops.concat([ahead, back], CHANNELS))

    def cell(self, node: Node) -> GruCell:
        """The cell of the merged layer, with its grids and weight scales if it is an 8-bit node."""
        weights = merged(self.graph, node)
        if self.plan is None or not self.plan.reads_int8(node):
            return GruCell(self.ops, weights, None, {})
        taps = {"": node.name} | {role: f"{node.name}.{role}" for role in GRU_ROLES}
        grids = {role: self.plan.grids[tap] for role, tap in taps.items() if tap in self.plan.grids}
        return GruCell(self.ops, weights, merged_scales(node, self.plan.weight_scales), grids)
