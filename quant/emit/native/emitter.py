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
from quant.emit.native.arrays import depth_floats, depth_integers, floats, halves, integers
from quant.emit.native.file import ADD_AFTER, FLOAT_OUT, HALF, LEAKY_AFTER, PLANE, Array, DType, Number, View
from quant.emit.native.parts import Parts
from quant.int8 import exact_float
from quant.int8.plan import Plan, uses_once
from quant.int8.qparams import QParams, multiplier
from quant.network.graph import Graph, Node


def emit_native(graph: Graph, plan: Plan | None = None) -> Emitted:
    """The weights of the native engine; without a plan the float ones.

    Raises ValueError for a graph that the engine has no operation for, Failure for one beyond its limits.
    """
    limits.require(graph)
    return Lowering(graph, plan).run()


class Lowering(Parts):
    """One method a node kind."""

    def __init__(self, graph: Graph, plan: Plan | None) -> None:
        super().__init__(graph, plan)
        self.periods = [1]

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

    def split_bands(self, node: Node) -> None:
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

    def edge_bands(self, node: Node) -> None:
        """In place where nothing else reads the convolution."""
        x, source = self.read(node), self.read(node, 1)
        alone = len(self.graph.consumers(node.inputs[0])) == 1
        y = self.values[node.name] = x if alone else self.new(node)
        weight = np.ascontiguousarray(self.array(node, "weight").transpose(0, 2, 1))
        numbers = {"n_in": source.n_columns, "n_out": y.n_columns, "seg": source.n_rows}
        self.op("edges", node, y.n_rows, x=x, x2=source, y=y, weight=weight, **numbers)

    # --- convolutions -------------------------------------------------------------------------------------------

    def conv(self, node: Node) -> None:
        a = node.attrs
        weight, x = self.array(node, "weight"), self.read(node)
        x.ask_halo(a["pad"])
        depthwise = a["groups"] == x.n_columns == len(weight) > 1
        if weight.shape[2] > 1 and not depthwise:
            raise ValueError(f"{node.name}: the native engine has no convolution over time that is not depthwise")
        phases = self.only_reader(node.name, "interleave")
        if phases and phases.attrs["groups"] == 1:
            phases = None  # rows of two phases lie as two rows already
        last = phases or node
        leaky = self.only_reader(last.name, "leaky_relu")
        last = leaky or last
        flags, numbers = LEAKY_AFTER if leaky else 0, self.after(node, leaky)
        as_float = self.plan.is_int8(node) and self.all_read_float(last)
        if as_float:
            flags, numbers = flags | FLOAT_OUT, numbers | {"f2": self.grid(last.name).scale}
        y = self.target(node, last, phases, int8=self.plan.is_int8(node) and not as_float)
        for done in (node, phases, leaky):
            if done is not None:
                self.values[done.name] = y
        if as_float:
            self.floats[last.name] = y
        lower = self.depthwise if depthwise else self.groups
        lower(node, x, y, phases, numbers | {"flags": flags})

    def target(self, node: Node, last: Node, phases: Node | None, *, int8: bool) -> View:
        """Where the result lies: rows of two phases as two rows, one more than is read."""
        shape = self.graph.shapes[node.name]
        dtype: DType = "int8" if int8 else "float32"
        if not phases:
            return self.file.value(shape.bands, shape.channels, dtype)
        return View(
            self.file.value(2 * shape.bands, shape.channels // 2, dtype).buffer,
            self.graph.shapes[last.name].bands,
            shape.channels // 2,
            shape.channels // 2,
        )

    def all_read_float(self, node: Node) -> bool:
        """Whether every reader of an 8-bit value computes in float; views follow what they read."""
        readers = self.graph.consumers(node.name)
        views = {"slice", "interleave"}
        return bool(readers) and not any(self.plan.reads_int8(r) or r.kind in views for r in readers)

    def after(self, node: Node, leaky: Node | None) -> dict[str, Number]:
        """Grids and slope of a convolution and the LeakyReLU in it."""
        if not self.plan.is_int8(node):
            return {"f0": leaky.attrs["slope"]} if leaky else {}
        q = self.grid(node.name)
        if leaky is None:
            return {"y_zp": q.zero_point}
        return self.slopes(leaky, q) | {"mid_zp": q.zero_point}

    def slopes(self, leaky: Node, source: QParams) -> dict[str, Number]:
        """Multipliers above and below zero, and the grid they lead to."""
        target, slope = self.grid(leaky.name), np.float64(np.float32(leaky.attrs["slope"]))
        up, down = multiplier(source.scale, target), multiplier(slope * source.scale, target)
        return {"f0": up, "f1": down, "y_zp": target.zero_point}

    def groups(self, node: Node, x: View, y: View, phases: Node | None, numbers: dict[str, Number]) -> None:
        """One operation a group."""
        a = node.attrs
        weight = self.array(node, "weight")
        n_groups, n_in, n_out = a["groups"], weight.shape[1], len(weight) // a["groups"]
        pieces = {"seg": n_out // 2, "seg_row": y.n_columns} if phases else {}
        width = n_out // 2 if phases else n_out
        for g in range(n_groups):
            rows = slice(g * n_out, (g + 1) * n_out)
            out = y.columns(g * width, (g + 1) * width)
            if phases:
                out = View(out.buffer, self.graph.shapes[node.name].bands, width, 2 * y.row, out.start)
            self.product(
                node,
                x.columns(g * n_in, (g + 1) * n_in),
                out,
                self.weights(node, rows),
                **{**numbers, **pieces, "stride": a["stride"], "pad": a["pad"]},
            )

    def weights(self, node: Node, rows: slice) -> dict[str, Array | int]:
        """Arrays of some output channels."""
        weight, bias = self.array(node, "weight")[rows], self.array(node, "bias")[rows]
        if not self.plan.is_int8(node):
            return floats(weight[:, :, 0], bias, half=self.half and uses_once(self.graph, node))
        scales = self.plan.weight_scales[node.param("weight")][rows]
        return integers(node.name, weight[:, :, 0], bias, scales, self.grid(node.inputs[0]), self.grid(node.name))

    def depthwise(self, node: Node, x: View, y: View, phases: Node | None, numbers: dict[str, Number]) -> None:
        """Over time and bands; the history is a ring of frames with their halo."""
        if phases or node.attrs["stride"] != 1 or x.row != x.n_columns:
            raise ValueError(f"{node.name}: the native engine has no such depthwise convolution")
        a = node.attrs
        weight, bias = self.array(node, "weight"), self.array(node, "bias")
        int8, taps = self.plan.is_int8(node), weight.shape[2:]
        state = None
        if taps[0] > 1:
            n_frames = (taps[0] - 1) * a["dilation"]
            state = self.file.state(n_frames, (x.n_rows + 2 * a["pad"]) * x.n_columns, "int8" if int8 else "float32")
            self.periods.append(n_frames)
        if int8:
            scales, q = self.plan.weight_scales[node.param("weight")], self.grid(node.inputs[0])
            arrays = depth_integers(node.name, weight, bias, scales, q, self.grid(node.name))
            numbers |= {"x_zp": q.zero_point}
        else:
            arrays = depth_floats(weight, bias)
        numbers |= {"time_taps": taps[0], "taps": taps[1], "dilation": a["dilation"], "pad": a["pad"]}
        columns = {"n_in": x.n_columns, "n_out": x.n_columns}
        kind = "depth_i8" if int8 else "depth"
        self.op(kind, node, y.n_rows, x=x, y=y, state=state, **arrays, **columns, **numbers)

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
        q = self.grid(node.inputs[0])
        self.elementwise(node, "leaky_i8", x_zp=q.zero_point, **self.slopes(node, q))

    def quantize(self, node: Node) -> None:
        self.values[node.name] = self.quantized(node.name, self.values[node.inputs[0]], self.grid(node.name))

    def sigmoid(self, node: Node) -> None:
        self.elementwise(node, "sigmoid")

    def tanh(self, node: Node) -> None:
        self.elementwise(node, "tanh")

    def add(self, node: Node) -> None:
        if not self.plan.is_int8(node):
            self.elementwise(node, "add")
            return
        self.elementwise(node, "add_i8", **self.zero_points(node), **self.rescaled(node))

    def gate(self, node: Node) -> None:
        x, gates = self.read(node), self.read(node, 1)
        int8 = self.plan.is_int8(node)
        shuffle = None if int8 else self.only_reader(node.name, "shuffle")
        if shuffle and shuffle.inputs[0] == node.name and shuffle.inputs[1] in self.values:
            y = self.new(shuffle)
            x2 = self.read(shuffle, 1)
            self.op("gate_shuffle", node, x.n_rows, x=x, x2=x2, gates=gates, y=y, n_out=x.n_columns)
            return
        numbers: dict[str, Number] = {}
        if int8:
            unit = np.float64(self.grid(node.inputs[0]).scale) * self.grid(node.inputs[1]).scale
            numbers = self.zero_points(node) | {"f0": multiplier(unit, self.grid(node.name))}
        y = self.new(node, int8=int8)
        self.op("gate_i8" if int8 else "gate", node, x.n_rows, x=x, x2=gates, y=y, n_out=x.n_columns, **numbers)

    def shuffle(self, node: Node) -> None:
        x, x2 = self.read(node), self.read(node, 1)
        int8 = self.plan.is_int8(node)
        y = self.new(node, int8=int8)
        numbers: dict[str, Number] = self.zero_points(node) | self.rescaled(node) if int8 else {}
        self.op("shuffle_i8" if int8 else "shuffle", node, x.n_rows, x=x, x2=x2, y=y, n_out=x.n_columns, **numbers)

    # --- reductions and recurrent layers ------------------------------------------------------------------------

    def mean_square(self, node: Node) -> None:
        x, y = self.read(node), self.new(node)
        self.op("mean_square", node, x.n_rows, x=x, y=y, n_out=x.n_columns)

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
