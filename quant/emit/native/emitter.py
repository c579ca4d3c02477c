"""The plan as a program for the native engine: what `edge_runtime/native` executes, node for node.

A node becomes one operation, or none where a view of memory will do (slices; phases of a single group), or joins the
one before it (LeakyReLU behind a convolution, a sum behind LayerNorm, a gate before a shuffle). Groups of a convolution
are operations of their own. 8-bit nodes compute in integers, all others in float32, exactly as `reference` does.
"""

from __future__ import annotations

import math

import numpy as np

from quant.emit.emitted import Emitted
from quant.emit.native import gru, limits
from quant.emit.native.arrays import affine_integers, affine_shorts, halves
from quant.emit.native.convolutions import Convolutions
from quant.emit.native.file import ADD_AFTER, HALF, PLANE, Array, Number, View
from quant.int8 import exact_float, sixteen_bits
from quant.int8.plan import Plan, uses_once
from quant.int8.qparams import multiplier, quantize_weight
from quant.network.graph import Graph, Node


def emit_native(graph: Graph, plan: Plan | None = None) -> Emitted:
    """The weights of the native engine; without a plan the float ones.

    Raises ValueError for a graph that the engine has no operation for, Failure for one beyond its limits.
    """
    limits.require(graph)
    return Lowering(graph, plan).run()


class Lowering(Convolutions):
    """One method a node kind, `conv` but for which see there."""

    def run(self) -> Emitted:
        """Every node in order."""
        (source,) = self.graph.inputs
        self.spectrum = self.file.value(2, PLANE, "float32")
        self.values[source] = self.spectrum
        for node in self.graph.nodes:
            if node.name not in self.values:
                getattr(self, node.kind)(node)
        period, window = math.lcm(*self.periods), self.graph.window
        data = self.file.to_bytes(self.spectrum, self.values[self.graph.output], period, window)
        return Emitted(data, (), self.file.constant_bytes, tuple(op.node for op in self.file.ops), window)

    # --- spectrum and bands -------------------------------------------------------------------------------------

    def features(self, node: Node) -> None:
        n = self.graph.shapes[node.name].bands
        self.values[node.name] = self.file.value(n, 4, "float32")
        self.op("features", node, n, x=self.values[node.inputs[0]], y=self.values[node.name], n_out=4)

    def merge_bands(self, node: Node) -> None:
        y = self.new(node)
        self.op("merge", node, y.n_rows, x=self.read(node), y=y, n_out=y.n_columns, **self.runs(node))

    def log_magnitude(self, node: Node) -> None:
        y = self.new(node)
        least = {"f0": float(exact_float.least_power(node))} if "floor" in node.attrs else {}
        self.op("log_magnitude", node, y.n_rows, x=self.values[node.inputs[0]], y=y, n_out=1, **least)

    def split_bands(self, node: Node) -> None:
        """Into planes; one channel is a plane already."""
        if self.graph.shapes[node.name].channels == 1:
            self.merge_bands(node)
            return
        y = self.values[node.name] = self.file.value(2, PLANE, "float32")
        n = self.graph.shapes[node.name].bands
        self.op("split", node, n, x=self.read(node), y=y, n_out=2, **self.runs(node))

    def runs(self, node: Node) -> dict[str, Array | int]:
        """Which rows of the input each row beyond the copied ones sums, and the weights of them."""
        weight, n_low = self.array(node, "weight"), node.attrs["n_low"]
        starts, lengths = exact_float.runs(weight)
        table = np.stack([starts + n_low, lengths], 1).astype("<u2")
        used = np.concatenate([w[s : s + n] for w, s, n in zip(weight, starts, lengths, strict=True)])
        return {"n_in": n_low, "table": table, "weight": used.astype("<f4")}

    def mask(self, node: Node) -> None:
        x, m = (self.values[name] for name in node.inputs)
        y = self.values[node.name] = self.file.value(2, PLANE, "float32")
        self.op("mask", node, self.graph.shapes[node.name].bands, x=x, x2=m, y=y, n_out=1)

    def real_mask(self, node: Node) -> None:
        x, m = self.values[node.inputs[0]], self.read(node, 1)
        y = self.values[node.name] = self.file.value(2, PLANE, "float32")
        self.op("mask_real", node, self.graph.shapes[node.name].bands, x=x, x2=m, y=y, n_out=1)

    def edge_bands(self, node: Node) -> None:
        """In place where nothing else reads the convolution."""
        x, source = self.read(node), self.read(node, 1)
        alone = len(self.graph.consumers(node.inputs[0])) == 1
        y = self.values[node.name] = x if alone else self.new(node)
        weight = np.ascontiguousarray(self.array(node, "weight").transpose(0, 2, 1))
        numbers = {"n_in": source.n_columns, "n_out": y.n_columns, "seg": source.n_rows}
        self.op("edges", node, y.n_rows, x=x, x2=source, y=y, weight=weight, **numbers)

    # --- element by element -------------------------------------------------------------------------------------

    def slice(self, node: Node) -> None:
        name, part = node.inputs[0], (node.attrs["start"], node.attrs["stop"])
        self.values[node.name] = self.values[name].columns(*part)

    def interleave(self, node: Node) -> None:
        """Rows of two phases are two rows already if there is one group."""
        x, (channels, bands) = self.values[node.inputs[0]], self.graph.shapes[node.name]
        if node.attrs["groups"] == 1 and x.row == x.n_columns:
            self.values[node.name] = View(x.buffer, bands, channels, channels, x.start)
            return
        int8 = x.buffer.dtype == "int8"
        y = self.new(node, int8=int8)
        zp = {"y_zp": self.grid(node.name).zero_point} if int8 else {}
        kind = "interleave_i8" if int8 else "interleave"
        self.op(kind, node, bands, x=x, y=y, n_in=node.attrs["groups"], n_out=channels, **zp)

    def leaky_relu(self, node: Node) -> None:
        if not self.plan.is_int8(node):
            self.elementwise(node, "leaky", f0=node.attrs["slope"])
            return
        source, target = self.grid(node.inputs[0]), self.grid(node.name)
        slope = np.float64(np.float32(node.attrs["slope"]))
        up, down = multiplier(source.scale, target), multiplier(slope * source.scale, target)
        zp = {"x_zp": source.zero_point, "y_zp": target.zero_point}
        self.elementwise(node, "leaky_i8", f0=up, f1=down, **zp)

    def quantize(self, node: Node) -> None:
        self.values[node.name] = self.quantized(node.name, self.values[node.inputs[0]], self.grid(node.name))

    def sigmoid(self, node: Node) -> None:
        self.elementwise(node, "sigmoid")

    def tanh(self, node: Node) -> None:
        self.elementwise(node, "tanh")

    def add(self, node: Node) -> None:
        if node.attrs.get("sixteen_bits"):
            f0, f1 = map(float, sixteen_bits.add_factors(self.plan, node))
            self.elementwise(node, "add_i16", **self.zero_points(node), f0=f0, f1=f1)
            return
        if not self.plan.is_int8(node):
            self.elementwise(node, "add")
            return
        self.elementwise(node, "add_i8", **self.zero_points(node), **self.rescaled(node))

    def affine_relu(self, node: Node) -> None:
        x, int8 = self.read(node), self.plan.is_int8(node)
        y = self.new(node, int8=int8)
        if node.attrs.get("sixteen_bits"):
            arrays, unit = affine_shorts(sixteen_bits.affine_integers(self.graph, self.plan, node))
            numbers = {"f0": unit, "y_zp": self.grid(node.name).zero_point, "n_out": x.n_columns}
            self.op("affine_relu_i16", node, x.n_rows, x=x, y=y, **arrays, **numbers)
            return
        weight, bias, rise = (self.array(node, role) for role in ("weight", "bias", "rise"))
        if int8:
            scales, source = self.plan.weight_scales[node.param("weight")], self.grid(node.inputs[0])
            arrays = affine_integers(node.name, weight, bias, rise, scales, source, self.grid(node.name))
            zp = {"x_zp": source.zero_point, "y_zp": self.grid(node.name).zero_point}
            self.op("affine_relu_i8", node, x.n_rows, x=x, y=y, n_out=x.n_columns, **arrays, **zp)
            return
        half = self.half and uses_once(self.graph, node)
        arrays = {"weight": halves(weight.T, half), "bias": halves(bias.T, half), "scale": rise}
        flags = {"flags": HALF} if half else {}
        self.op("affine_relu", node, x.n_rows, x=x, y=y, n_out=x.n_columns, **arrays, **flags)

    def band_gate(self, node: Node) -> None:
        if node.attrs.get("sixteen_bits"):
            x, channels, bands = (self.read(node, i) for i in range(3))
            grids, q = [self.grid(name) for name in node.inputs], self.grid(node.name)
            factor, zps = float(sixteen_bits.gate_factor(grids, q)), [g.zero_point for g in grids]
            numbers = {"x_zp": zps[0], "x2_zp": zps[1], "y_zp": q.zero_point, "f0": factor, "n_out": x.n_columns}
            y = self.new(node, int8=True)
            self.op("gates_i16", node, x.n_rows, x=x, x2=channels, gates=bands, y=y, **numbers)
            return
        self.gated(node, "band_gate")

    def gate(self, node: Node) -> None:
        """With a gate of the bands, or a shuffle, where that alone reads it."""
        over_bands = self.only_reader(node.name, "band_gate")
        if over_bands and over_bands.inputs[0] == node.name and self.both_gates(node, over_bands):
            return
        shuffle = None if self.plan.is_int8(node) else self.only_reader(node.name, "shuffle")
        if shuffle and shuffle.inputs[0] == node.name and shuffle.inputs[1] in self.values:
            x, gates, x2, y = self.read(node), self.read(node, 1), self.read(shuffle, 1), self.new(shuffle)
            self.op("gate_shuffle", node, x.n_rows, x=x, x2=x2, gates=gates, y=y, n_out=x.n_columns)
            return
        self.gated(node, "gate")

    def gated(self, node: Node, kind: str) -> None:
        """One gate by itself."""
        x, gates, int8 = self.read(node), self.read(node, 1), self.plan.is_int8(node)
        numbers: dict[str, Number] = {**self.zero_points(node), "f0": self.product_unit(node)} if int8 else {}
        y = self.new(node, int8=int8)
        self.op(kind + "_i8" * int8, node, x.n_rows, x=x, x2=gates, y=y, n_out=x.n_columns, **numbers)

    def both_gates(self, node: Node, over_bands: Node) -> bool:
        """As one operation, if the gates of the bands are there and, of 8 bits, have the zero point of the others."""
        name = over_bands.inputs[1]
        int8, entrance = self.plan.is_int8(node), self.graph.node(name)
        if name not in self.values and entrance.kind == "quantize" and entrance.inputs[0] in self.values:
            self.quantize(entrance)
        if name not in self.values or (int8 and self.grid(name).zero_point != self.grid(node.inputs[1]).zero_point):
            return False
        x, gates, bands = self.read(node), self.read(node, 1), self.read(over_bands, 1)
        y = self.new(over_bands, int8=int8)
        numbers: dict[str, Number] = {}
        if int8:
            zp = {"mid_zp": self.grid(node.name).zero_point, "y_zp": self.grid(over_bands.name).zero_point}
            units = {"f0": self.product_unit(node), "f1": self.product_unit(over_bands)}
            numbers = {**self.zero_points(node), **zp, **units}
        kind = "gates" + "_i8" * int8
        self.op(kind, node, x.n_rows, x=x, x2=gates, gates=bands, y=y, n_out=x.n_columns, **numbers)
        return True

    def product_unit(self, node: Node) -> np.float32:
        """What takes a product of both inputs to the grid of the result."""
        a, b = (np.float64(self.grid(name).scale) for name in node.inputs)
        unit: np.float32 = multiplier(a * b, self.grid(node.name))
        return unit

    def shuffle(self, node: Node) -> None:
        x, x2 = self.read(node), self.read(node, 1)
        int8 = self.plan.is_int8(node)
        y = self.new(node, int8=int8)
        numbers: dict[str, Number] = self.zero_points(node) | self.rescaled(node) if int8 else {}
        self.op("shuffle_i8" if int8 else "shuffle", node, x.n_rows, x=x, x2=x2, y=y, n_out=x.n_columns, **numbers)

    # --- reductions and recurrent layers ------------------------------------------------------------------------

    def mean_square(self, node: Node) -> None:
        x, int8 = self.read(node), self.plan.is_int8(node)
        y = self.new(node, int8=int8)
        numbers = self.squares(node, 1 / x.n_rows) if int8 else {}
        self.op("mean_square" + "_i8" * int8, node, x.n_rows, x=x, y=y, n_out=x.n_columns, **numbers)

    def squares(self, node: Node, unit: float) -> dict[str, Number]:
        """Zero points, and what takes a sum of squares, `unit` each, to the grid of the result."""
        source, target = self.grid(node.inputs[0]), self.grid(node.name)
        f0 = multiplier(np.float64(source.scale) ** 2 * unit, target)
        return {"x_zp": source.zero_point, "y_zp": target.zero_point, "f0": f0}

    def band_energy(self, node: Node) -> None:
        """With zeros behind it, where some bands are one step of a network over bands."""
        x, shape, int8 = self.read(node), self.graph.shapes[node.name], self.plan.is_int8(node)
        steps = [self.graph.shapes[n.name] for n in self.graph.consumers(node.name) if n.kind == "stack_bands"]
        n = max([shape.bands, *(s.channels * s.bands for s in steps)])
        buffer = self.file.value(n, 1, "int8" if int8 else "float32").buffer
        y = self.values[node.name] = View(buffer, shape.bands, 1, 1)
        weight, numbers = self.array(node, "weight"), {}
        if int8:
            scales = self.plan.weight_scales[node.param("weight")]
            weight, numbers = quantize_weight(weight[None], scales)[0], self.squares(node, np.float64(scales[0]))
        kind = "band_energy" + "_i8" * int8
        self.op(kind, node, x.n_rows, x=x, y=y, weight=weight, n_in=n, n_out=x.n_columns, **numbers)

    def stack_bands(self, node: Node) -> None:
        """A view."""
        x, (channels, bands) = self.values[node.inputs[0]], self.graph.shapes[node.name]
        if x.row != 1 or x.buffer.n_rows < channels * bands:
            raise ValueError(f"{node.name}: the native engine stacks bands of energies alone")
        self.values[node.name] = View(x.buffer, bands, channels, channels)

    def unstack_bands(self, node: Node) -> None:
        """A view."""
        x, bands = self.values[node.inputs[0]], self.graph.shapes[node.name].bands
        self.values[node.name] = View(x.buffer, bands, 1, 1, x.start)

    def layer_norm(self, node: Node) -> None:
        x = self.read(node)
        add = self.only_reader(node.name, "add")
        residual = next((i for i in add.inputs if i != node.name), None) if add else None
        fused = add is not None and residual in self.values and add.inputs.count(node.name) == 1
        if fused and add and residual:
            x2, y = self.read(add, add.inputs.index(residual)), self.new(add)
        else:
            x2, y = None, self.new(node)
        flags = (ADD_AFTER if fused else 0) | (HALF if self.half else 0)
        arrays = {role: halves(self.array(node, role), self.half) for role in ("weight", "bias")}
        numbers = {"n_out": x.n_columns, "f0": node.attrs["eps"], "flags": flags}
        self.op("layer_norm", node, x.n_rows, x=x, x2=x2, y=y, **arrays, **numbers)

    def gru(self, node: Node) -> None:
        gru.over_time(self, node)

    def bigru(self, node: Node) -> None:
        gru.over_bands(self, node)
