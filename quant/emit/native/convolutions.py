"""Convolutions as operations of the native engine.

One over time and bands of every channel by itself keeps its frames (`depth`, `resample` where bands become fewer or
more). Any other one over time reads what `history` lays beside each other: a convolution over bands, of more channels.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.stft import Float32Array
from quant.emit.native.arrays import depth_floats, depth_integers, floats, integers, shorts
from quant.emit.native.file import LEAKY_AFTER, Array, DType, Number, View
from quant.emit.native.parts import Parts
from quant.int8.block_floats import BLOCK, kernels
from quant.int8.plan import Plan, uses_once
from quant.int8.roundings import MOST_SLOPE
from quant.network.graph import Graph, Node
from quant.network.gru_weights import block_diagonal

LANES: Final = 4  # results that go side by side in every vector
SUFFIX: Final = {"int8": "_i8", "float32": ""}  # of a kind
Rows = slice | NDArray[np.intp]  # of a weight
ALL: Final = slice(None)


class Convolutions(Parts):
    """`conv` and what it consists of. `periods`: frames after which each ring is at its first slot again."""

    def __init__(self, graph: Graph, plan: Plan | None) -> None:
        super().__init__(graph, plan)
        self.periods = [1]

    def conv(self, node: Node) -> None:
        """With what joins it: phases, LeakyReLU, the way to float."""
        x, form = self.block(node) if node.attrs.get(BLOCK) else self.read(node), self.form(node)
        phases = self.only_reader(node.name, "interleave")
        if phases and phases.attrs["groups"] == 1:
            phases = None  # rows of two phases lie as two rows already
        last = phases or node
        leaky = self.leaky_behind(node, last)
        last = leaky or last
        y = self.target(node, last, phases)
        for done in (node, phases, leaky):
            if done is not None:
                self.values[done.name] = y
        lower = {"depth": self.depthwise, "history": self.over_time, "bands": self.groups}[form]
        lower(node, x, y, phases, self.after(node, leaky))

    def leaky_behind(self, node: Node, last: Node) -> Node | None:
        """The LeakyReLU that joins a float convolution; one in blocks computes it as a maximum."""
        leaky = None if self.plan.reads_int8(node) else self.only_reader(last.name, "leaky_relu")
        return None if leaky and node.attrs.get(BLOCK) and leaky.attrs["slope"] > MOST_SLOPE else leaky

    def form(self, node: Node) -> Literal["depth", "history", "bands"]:
        """How the engine computes it."""
        weight, groups = self.array(node, "weight"), node.attrs["groups"]
        n_in = self.graph.shapes[node.inputs[0]].channels
        if groups == n_in > 1 and len(weight) in (n_in, 2 * n_in):
            return "depth"
        return "history" if weight.shape[2] > 1 else "bands"

    def target(self, node: Node, last: Node, phases: Node | None) -> View:
        """Where the result lies: rows of two phases as two rows, one more than is read."""
        shape = self.graph.shapes[node.name]
        dtype: DType = "int8" if self.plan.is_int8(node) else "float32"
        if not phases:
            return self.file.value(shape.bands, shape.channels, dtype)
        return View(
            self.file.value(2 * shape.bands, shape.channels // 2, dtype).buffer,
            self.graph.shapes[last.name].bands,
            shape.channels // 2,
            shape.channels // 2,
        )

    def after(self, node: Node, leaky: Node | None) -> dict[str, Number]:
        """Grid of a convolution, and slope of the LeakyReLU in it."""
        numbers = self.target_of(node.name)[1] if self.plan.reads_int8(node) else {}
        flags, slope = int(numbers.pop("flags", 0)), leaky.attrs["slope"] if leaky else node.attrs.get("slope")
        if slope is None:
            return numbers | {"flags": flags}
        return numbers | {"flags": flags | LEAKY_AFTER, "f0": slope}

    def groups(self, node: Node, x: View, y: View, phases: Node | None, numbers: dict[str, Number]) -> None:
        """One operation a group, or for all where vectors do not fit into one: zeros then stand for what it lacks."""
        a, weight = node.attrs, self.array(node, "weight")
        n_groups, n_in, n_out = a["groups"], weight.shape[1], len(weight) // a["groups"]
        x.ask_halo(a["pad"])
        if node.attrs.get(BLOCK) and n_groups == 1:
            self.whole(node, x, y, numbers)
            return
        fit = n_groups == 1 or node.attrs.get(BLOCK) or (n_in % LANES == 0 and n_out % (2 * LANES) == 0)
        if weight.shape[2:] == (1, 1) and not fit:
            blocks = block_diagonal(*weight[:, :, 0, 0].reshape(n_groups, n_out, n_in))
            self.product(node, x, y, self.weights(node, blocks[:, :, None]), **numbers, stride=a["stride"])
            return
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
                self.weights(node, weight[rows, :, 0], rows),
                **{**numbers, **pieces, "stride": a["stride"], "pad": a["pad"]},
            )

    def whole(self, node: Node, x: View, y: View, numbers: dict[str, Number]) -> None:
        """All taps of a block as one, which lie together, so that rows may be of any width; the ends behind the others.

        Inputs are padded to fours by those of the next row, whose weights are zero.
        """
        bias, pad, step = self.array(node, "bias"), node.attrs["pad"], node.attrs["stride"] * x.row
        for i, weight in enumerate(kernels(self.graph, node)):
            arrays = shorts(weight[:, :, 0], bias, one_tap=True)
            first = y.n_rows - 1 if i > 1 else 0
            rows = View(y.buffer, y.n_rows if i == 0 else 1, y.n_columns, y.row, y.start + first * y.row)
            run = View(x.buffer, x.n_rows, int(arrays["n_in"]), x.row, x.start - pad * x.row + first * step)
            again = {} if i == 0 else {"halo": 0}
            self.product(node, run, rows, arrays, **numbers, **again, stride=node.attrs["stride"])

    def over_time(self, node: Node, x: View, y: View, phases: Node | None, numbers: dict[str, Number]) -> None:
        """A convolution over bands of this frame and those before it, channel beside channel."""
        a, weight = node.attrs, self.array(node, "weight")
        if phases or a["groups"] != 1 or a["dilation"] != 1:
            raise ValueError(f"{node.name}: the native engine has no such convolution over time")
        n_out, n_in, n_frames, taps = weight.shape
        x = self.history(node, x, n_frames)
        laid = np.zeros((n_out, x.n_columns, taps), np.float32)
        laid[:, : n_frames * n_in] = weight.transpose(0, 2, 1, 3).reshape(n_out, n_frames * n_in, taps)
        if n_out == LANES // 2 and a["stride"] == 1:
            self.two_bands(node, x, y, laid, numbers)
            return
        x.ask_halo(a["pad"])
        self.product(node, x, y, self.weights(node, laid), **numbers, stride=a["stride"], pad=a["pad"])

    def history(self, node: Node, x: View, n_frames: int) -> View:
        """This frame behind those before it; 8-bit rows of whole words, as products want them."""
        dtype = x.buffer.dtype
        n_columns = n_frames * x.n_columns
        y = self.file.value(x.n_rows, n_columns + (-n_columns % LANES if dtype == "int8" else 0), dtype)
        state = self.file.state(x.n_rows, (n_frames - 1) * x.n_columns, dtype)
        zero = {"y_zp": self.grid(node.inputs[0]).zero_point} if dtype == "int8" else {}
        columns = {"n_in": x.n_columns, "n_out": y.n_columns, "time_taps": n_frames}
        self.op(f"history{SUFFIX[dtype]}", node, x.n_rows, x=x, y=y, state=state, **columns, **zero)
        return y

    def two_bands(self, node: Node, x: View, y: View, weight: Float32Array, numbers: dict[str, Number]) -> None:
        """Two results a band are four of every other one, which fill a vector; the last may be one band too many."""
        n_out, n_in, taps = weight.shape
        wide = np.zeros((2, n_out, n_in, taps + 1), np.float32)
        wide[0, :, :, :-1] = wide[1, :, :, 1:] = weight
        x.ask_halo(node.attrs["pad"] + 1)
        n_rows = -(-y.n_rows // 2)
        y.buffer.n_rows = 2 * n_rows
        pairs = View(y.buffer, n_rows, 2 * n_out, 2 * y.row)
        arrays = self.weights(node, wide.reshape(2 * n_out, n_in, taps + 1), np.tile(np.arange(n_out), 2))
        self.product(node, x, pairs, arrays, **numbers, stride=2, pad=node.attrs["pad"])

    def weights(self, node: Node, weight: Float32Array, rows: Rows = ALL) -> dict[str, Array | int]:
        """Arrays of some output channels: (out, in, tap)."""
        bias = self.array(node, "bias")[rows]
        if node.attrs.get(BLOCK):
            return shorts(weight, bias)
        if not self.plan.reads_int8(node):
            return floats(weight, bias, half=self.half and uses_once(self.graph, node))
        scales = self.plan.weight_scales[node.param("weight")][rows]
        return integers(node.name, weight, bias, scales, self.grid(node.inputs[0]), self.plan.grids.get(node.name))

    def depthwise(self, node: Node, x: View, y: View, phases: Node | None, numbers: dict[str, Number]) -> None:
        """Over time and bands; the history is a ring of frames with their halo."""
        a, weight, bias = node.attrs, self.array(node, "weight"), self.array(node, "bias")
        n_phases = len(weight) // x.n_columns
        if (phases is None) != (n_phases == 1) or x.row != x.n_columns:
            raise ValueError(f"{node.name}: the native engine has no such depthwise convolution")
        x.ask_halo(a["pad"])
        int8, taps = self.plan.reads_int8(node), weight.shape[2:]
        state = None
        if taps[0] > 1:
            n_frames = (taps[0] - 1) * a["dilation"]
            state = self.file.state(n_frames, (x.n_rows + 2 * a["pad"]) * x.n_columns, x.buffer.dtype)
            self.periods.append(n_frames)
        order = np.arange(len(weight)).reshape(-1, n_phases).T.ravel()  # (channel, phase) -> (phase, channel)
        if int8:
            scales, q = self.plan.weight_scales[node.param("weight")][order], self.grid(node.inputs[0])
            target = self.plan.grids.get(node.name)
            arrays = depth_integers(node.name, weight[order], bias[order], scales, q, target, n_phases)
            numbers |= {"x_zp": q.zero_point}
        else:
            arrays = depth_floats(weight[order], bias[order], n_phases)
        numbers |= {"time_taps": taps[0], "taps": taps[1], "dilation": a["dilation"], "pad": a["pad"]}
        columns: dict[str, Number] = {"n_in": x.n_columns, "n_out": x.n_columns}
        resampled = n_phases > 1 or a["stride"] > 1
        if resampled:
            columns |= {"seg": x.n_rows, "seg_row": n_phases, "stride": a["stride"]}
        kind = ("resample" if resampled else "depth") + SUFFIX[x.buffer.dtype]
        self.op(kind, node, y.n_rows, x=x, y=y, state=state, **arrays, **columns, **numbers)
