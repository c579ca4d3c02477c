"""The integer reference: NumPy runs one frame of the plan, obvious and slow, and judges every emitter.

8-bit values are held as int8; products are summed exactly in integers; every result is rounded once, to nearest with
ties to even, from a float32 (`qparams.requantize`). Float nodes compute in float32 in the stated order of
`exact_float`, so that C code can be held to every bit. What it will not do: be fast, batch, or differentiate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from quant.int8 import block_floats, cells_over_time, exact_float, sixteen_bits
from quant.int8.plan import Plan
from quant.int8.qparams import (
    QParams,
    dequantize,
    leaky,
    quantize,
    quantize_bias,
    quantize_weight,
    requantize,
    requantize_sum,
)
from quant.int8.recurrent import Values, gru_layer, product, steps
from quant.network.graph import Graph, Node

Tap = Callable[[str, Values], None]
WEIGHTED = frozenset({"conv", "affine_relu", "band_energy"})  # kinds with one weight in integers


class Reference:
    """One stream of the quantized model; every value is (channels, bands)."""

    def __init__(self, graph: Graph, plan: Plan) -> None:
        self.graph, self.plan = graph, plan
        self._weights = {
            n.name: quantize_weight(graph.params[n.param("weight")], plan.weight_scales[n.param("weight")])
            for n in graph.nodes
            if n.kind in WEIGHTED and plan.reads_int8(n)
        }
        self._biases = {n.name: self._conv_bias(n) for n in graph.nodes if n.kind == "conv" and plan.reads_int8(n)}
        self._blocks = {
            n.name: [block_floats.integers(weight) for weight in block_floats.kernels(graph, n)]
            for n in graph.nodes
            if n.attrs.get(block_floats.BLOCK)
        }
        self._affine_integers = {
            n.name: sixteen_bits.affine_integers(graph, plan, n)
            for n in graph.nodes
            if n.kind == "affine_relu" and n.attrs.get("sixteen_bits")
        }
        self._layers = {n.name: gru_layer(graph, plan, n) for n in graph.nodes if n.kind in ("gru", "bigru")}
        self.states: dict[str, Values] = {}
        self.reset()

    def reset(self) -> None:
        """Every state back to real zero."""
        for node in self.graph.nodes:
            if node.state is not None:
                s = node.state
                zero, dtype = self._state_start(node)
                self.states[s.name] = np.full((s.frames, s.channels, s.bands), zero, dtype)

    def _state_start(self, node: Node) -> tuple[int, type]:
        is_conv = node.kind == "conv"
        if not (self.plan.reads_int8(node) if is_conv else self.plan.is_int8(node)):
            return 0, np.float32
        if node.attrs.get("sixteen_bits"):
            return 0, np.int16
        source = node.inputs[0] if is_conv else node.name
        return self.plan.grids[source].zero_point, np.int8

    def step(self, spectrum: Values, tap: Tap = lambda name, value: None) -> Values:
        """One frame: (257, 2) -> (257, 2). `tap` sees every value as it is stored, int8 or float32."""
        values: dict[str, Values] = {name: spectrum.T.astype(np.float32) for name in self.graph.inputs}
        for node in self.graph.nodes:
            ins = [
                values[i]
                if self.plan.reads_int8(node) or values[i].dtype != np.int8
                else dequantize(values[i], self.plan.grids[i])
                for i in node.inputs
            ]
            values[node.name] = self._run(node, ins)
            tap(node.name, values[node.name])
        return np.ascontiguousarray(values[self.graph.output].T)

    def _run(self, node: Node, ins: Sequence[Values]) -> Values:
        is_int8 = self.plan.is_int8(node)
        if node.kind in FLOAT and not is_int8:
            return FLOAT[node.kind](*ins)
        mixed = node.kind == "conv" and self.plan.precision.get(node.name) == "mixed"
        method = getattr(self, f"_{node.kind}" + ("_int8" if is_int8 else "_mixed" if mixed else ""))
        made: Values = method(node, *ins)
        return made

    # --- float nodes --------------------------------------------------------------------------------------------

    def _param(self, node: Node, role: str) -> Values:
        return self.graph.params[node.param(role)]

    def _log_magnitude(self, node: Node, x: Values) -> Values:
        return exact_float.log_magnitude(x, exact_float.least_power(node))

    def _merge_bands(self, node: Node, x: Values) -> Values:
        n = node.attrs["n_low"]
        return np.concatenate([x[:, :n], exact_float.sparse_bands(x[:, n:], self._param(node, "weight"))], 1)

    _split_bands = _merge_bands

    def _conv(self, node: Node, x: Values) -> Values:
        if node.attrs.get(block_floats.BLOCK):
            return self._conv_block(node, x)
        a, weight, bias = node.attrs, self._param(node, "weight"), self._param(node, "bias")
        taps = self._history(node, x)[:: a["dilation"]]
        return exact_float.convolve(taps, weight, bias, stride=a["stride"], pad=a["pad"], groups=a["groups"])

    def _conv_block(self, node: Node, x: Values) -> Values:
        """In integers of one exponent; the first and the last result of their own weights, if they have some."""
        (steps_of_x, unit), bias = block_floats.steps(x), self._param(node, "bias")
        y, *ends = (
            block_floats.scaled(_convolve(steps_of_x[None], weight, node), scales, unit, bias)
            for weight, scales in self._blocks[node.name]
        )
        for at, end in zip((0, -1), ends, strict=False):
            y[:, at] = end[:, at]
        return y

    def _edge_bands(self, node: Node, x: Values, source: Values) -> Values:
        return exact_float.edge_bands(x, source, self._param(node, "weight"))

    def _history(self, node: Node, x: Values) -> Values:
        """(frames, channels, bands): the state, then this frame; the state moves on."""
        if node.state is None:
            return x[None]
        both = np.concatenate([self.states[node.state.name], x[None]])
        self.states[node.state.name] = both[1:]
        return both

    def _leaky_relu(self, node: Node, x: Values) -> Values:
        return np.where(x < 0, np.float32(node.attrs["slope"]) * x, x)

    def _affine_relu(self, node: Node, x: Values) -> Values:
        return exact_float.affine_relu(x, *(self._param(node, role) for role in ("weight", "bias", "rise")))

    def _band_energy(self, node: Node, x: Values) -> Values:
        return exact_float.band_energy(x, self._param(node, "weight"))

    def _stack_bands(self, node: Node, x: Values, zero: int = 0) -> Values:
        """Each n neighbouring bands of the one channel are n channels of one band; behind the last, real zeros."""
        n, n_steps = self.graph.shapes[node.name]
        padded = np.pad(x[0], (0, n * n_steps - x.shape[1]), constant_values=zero)
        return padded.reshape(n_steps, n).T

    def _stack_bands_int8(self, node: Node, x: Values) -> Values:
        return self._stack_bands(node, x, self._grid(node.name).zero_point)

    def _unstack_bands(self, node: Node, x: Values) -> Values:
        return x.T.reshape(1, -1)[:, : self.graph.shapes[node.name].bands]

    _unstack_bands_int8 = _unstack_bands

    def _slice(self, node: Node, x: Values) -> Values:
        return x[node.attrs["start"] : node.attrs["stop"]]

    _slice_int8 = _slice

    def _layer_norm(self, node: Node, x: Values) -> Values:
        return exact_float.layer_norm(x, self._param(node, "weight"), self._param(node, "bias"), node.attrs["eps"])

    def _interleave(self, node: Node, x: Values) -> Values:
        groups = node.attrs["groups"]
        y = x.reshape(groups, 2, -1, x.shape[1]).transpose(0, 2, 3, 1)
        return y.reshape(-1, 2 * x.shape[1])[:, : node.attrs["n_bands"]]

    _interleave_int8 = _interleave

    def _gru(self, node: Node, x: Values) -> Values:
        assert node.state is not None
        h = self._layers[node.name].step(self._layers[node.name].gates_x(x.T), self.states[node.state.name][0].T)
        self.states[node.state.name] = h.T[None]
        return h.T

    def _gru_int8(self, node: Node, x: Values) -> Values:
        h = self._gru(node, x)
        return cells_over_time.as_bytes(h) if node.attrs.get("sixteen_bits") else h

    def _bigru(self, node: Node, x: Values) -> Values:
        layer = self._layers[node.name]
        gates = layer.gates_x(np.concatenate([x.T, x.T[::-1]], 1))
        h, ys = layer.start(), []
        for step in gates:
            h = layer.step(step[None], h)
            ys.append(h[0])
        forward, backward = np.split(np.stack(ys), 2, axis=1)
        return np.concatenate([forward, backward[::-1]], 1).T

    _bigru_int8 = _bigru

    # --- 8-bit nodes --------------------------------------------------------------------------------------------

    def _quantize_int8(self, node: Node, x: Values) -> Values:
        return quantize(x, self.plan.grids[node.name])

    def _conv_sums(self, node: Node, x: Values) -> tuple[Values, Values]:
        """A convolution's exact sums, and what one is in each channel."""
        source, scales = self.plan.grids[node.inputs[0]], self.plan.weight_scales[node.param("weight")]
        total = _convolve(self._history(node, x).astype(np.int32) - source.zero_point, self._weights[node.name], node)
        return total + self._biases[node.name], (np.float64(source.scale) * scales)[:, None]

    def _conv_bias(self, node: Node) -> Values:
        source, scales = self.plan.grids[node.inputs[0]], self.plan.weight_scales[node.param("weight")]
        return quantize_bias(self._param(node, "bias"), source.scale, scales)[:, None]

    def _conv_int8(self, node: Node, x: Values) -> Values:
        """With the LeakyReLU that joined it (`roundings`), if one did."""
        total, unit = self._conv_sums(node, x)
        return requantize(total, unit, self.plan.grids[node.name], slope=node.attrs.get("slope"))

    def _conv_mixed(self, node: Node, x: Values) -> Values:
        total, unit = self._conv_sums(node, x)
        return leaky(total.astype(np.float32) * unit.astype(np.float32), node.attrs.get("slope"))

    def _leaky_relu_int8(self, node: Node, x: Values) -> Values:
        source, target = self._grid(node.inputs[0]), self._grid(node.name)
        unit = np.float64(source.scale)
        down = requantize(steps(x, source), np.float64(np.float32(node.attrs["slope"])) * unit, target)
        return np.where(x < source.zero_point, down, requantize(steps(x, source), unit, target))

    def _affine_relu_int8(self, node: Node, x: Values) -> Values:
        """w x + r max(x, 0) + b in integers, x in steps from real zero: w a channel and band, r a channel, on one
        scale a channel; b in units of input scale times that. Then requantized, one multiplier a channel."""
        if node.attrs.get("sixteen_bits"):
            return sixteen_bits.affine(x, self._affine_integers[node.name], self._grid(node.name))
        source, scales = self._grid(node.inputs[0]), self.plan.weight_scales[node.param("weight")][:, None]
        x = steps(x, source)
        rise = quantize_weight(self._param(node, "rise")[:, None], scales).astype(np.int32)
        total = self._weights[node.name].astype(np.int32) * x + rise * np.maximum(x, 0)
        total = total + quantize_bias(self._param(node, "bias"), source.scale, scales)
        return requantize(total, np.float64(source.scale) * scales, self._grid(node.name))

    def _mean_square_int8(self, node: Node, x: Values) -> Values:
        """The exact sum of squares over bands, in steps; requantized from input scale squared / bands."""
        source = self._grid(node.inputs[0])
        total = (steps(x, source) ** 2).sum(1, keepdims=True)
        return requantize(total, np.float64(source.scale) ** 2 / x.shape[1], self._grid(node.name))

    def _band_energy_int8(self, node: Node, x: Values) -> Values:
        """The exact sum of w x x over channels, w in 8 bits on one scale; requantized from input scale squared times
        that."""
        source, (scale,) = self._grid(node.inputs[0]), self.plan.weight_scales[node.param("weight")]
        squares = steps(x, source).astype(np.int64) ** 2
        total = (self._weights[node.name].astype(np.int64)[:, None] * squares).sum(0, keepdims=True)
        return requantize(total, np.float64(source.scale) ** 2 * np.float64(scale), self._grid(node.name))

    def _add_int8(self, node: Node, x: Values, y: Values) -> Values:
        a, b = (self._grid(name) for name in node.inputs)
        if node.attrs.get("sixteen_bits"):
            factors = sixteen_bits.add_factors(self.plan, node)
            return sixteen_bits.add(steps(x, a), steps(y, b), factors, self._grid(node.name))
        return requantize_sum(steps(x, a), a.scale, steps(y, b), b.scale, self._grid(node.name))

    def _gate_int8(self, node: Node, x: Values, gate: Values) -> Values:
        a, b = (self._grid(name) for name in node.inputs)
        return product(steps(x, a), a, steps(gate, b), b, self._grid(node.name))

    def _band_gate_int8(self, node: Node, x: Values, *gates: Values) -> Values:
        """With the gate of the channels that joined it (`sixteen_bits`), if one did."""
        if not node.attrs.get("sixteen_bits"):
            return self._gate_int8(node, x, *gates)
        grids, q = [self._grid(name) for name in node.inputs], self._grid(node.name)
        parts = [steps(value, grid) for value, grid in zip((x, *gates), grids, strict=True)]
        return sixteen_bits.gates(parts, sixteen_bits.gate_factor(grids, q), q)

    def _shuffle_int8(self, node: Node, x: Values, y: Values) -> Values:
        grids = (self._grid(name) for name in node.inputs)
        moved = [requantize(steps(v, q), q.scale, self._grid(node.name)) for v, q in zip((x, y), grids, strict=True)]
        return _shuffled(*moved)

    def _grid(self, name: str) -> QParams:
        return self.plan.grids[name]


def _features(x: Values) -> Values:
    squares = x * x
    return np.concatenate([np.sqrt(squares[:1] + squares[1:] + np.float32(1e-12)), x])


def _shuffled(x: Values, y: Values) -> Values:
    return np.stack([x, y], 1).reshape(-1, x.shape[1])


def _masked(x: Values, m: Values) -> Values:
    return np.stack([x[0] * m[0] - x[1] * m[1], x[1] * m[0] + x[0] * m[1]])


# kind -> what a float node computes that has neither parameters nor attributes
FLOAT: Final[Mapping[str, Callable[..., Values]]] = {
    "features": _features,
    "shuffle": _shuffled,
    "mean_square": exact_float.mean_square,
    "sigmoid": exact_float.sigmoid,
    "tanh": exact_float.tanh,
    "gate": np.multiply,
    "band_gate": np.multiply,
    "add": np.add,
    "mask": _masked,
    "real_mask": np.multiply,
}


def _convolve(x: Values, weight: Values, node: Node) -> Values:
    """Integers (frames, channels, bands) -> (out, bands), the last frame of a convolution, exactly."""
    a, (n_out, per_group, kt, kf) = node.attrs, weight.shape
    padded = exact_float.padded(x, a["pad"])
    windows = np.lib.stride_tricks.sliding_window_view(padded, kf, 2)[:: a["dilation"], :, :: a["stride"]]
    if len(windows) != kt:
        raise ValueError(f"{node.name}: {len(windows)} frames for a kernel of {kt}")
    groups = a["groups"]
    grouped = windows.reshape(kt, groups, per_group, *windows.shape[2:])
    filters = weight.reshape(groups, n_out // groups, per_group, kt, kf)
    return np.einsum("tgcbk,goctk->gob", grouped, filters, dtype=np.int64).reshape(n_out, -1)
