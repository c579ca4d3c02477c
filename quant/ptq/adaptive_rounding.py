"""Adaptive rounding: each weight goes up or down, whichever serves its layer's output best, not to the nearest step.

The error of a row w of a layer, rounded to v, on inputs x is E[((v - w) x)^2] = (v - w)' G (v - w) with the Gram matrix
G = E[x x'] of the layer's 8-bit inputs. Up or down is chosen by coordinate descent: from the nearest steps, flip the
weight or the pair of weights that lowers the error most, until none does. The objective is that of Nagel et al., "Up or
Down? Adaptive Rounding for Post-Training Quantization" (2020), equation 9; rows here have at most 48 weights, so no
relaxation is needed and the same inputs give the same bytes.

What it changes: the weights of 8-bit convolutions and of 8-bit and mixed GRUs, each replaced by a point of its own grid
at most one step away, which `quantize_weight` then gives back exactly. No bias, no grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from edge_runtime.stft import Float32Array
from quant.int8.fake_quantize import plan_tap
from quant.int8.plan import Plan
from quant.int8.qparams import WEIGHT_LIMIT, dequantize_weight
from quant.int8.recipe import RECURRENT
from quant.network import gru_weights
from quant.network.float_model import FloatModel
from quant.network.graph import Graph, Node
from quant.network.spectra import analyse

Reals = NDArray[np.float64]
ON_A_STEP = 1e-3  # what lies so close to a step stays: above all the largest weight of a row, which sets its scale


def round_weights(graph: Graph, plan: Plan, clips: Float32Array) -> Graph:
    """The graph with weights on their grids; `clips` is (n_clips, samples)."""
    params = dict(graph.params)
    for name, grams in input_grams(graph, plan, clips).items():
        integers = choose_rounding(params[name], plan.weight_scales[name], grams)
        params[name] = dequantize_weight(integers, plan.weight_scales[name])
    return replace(graph, params=params)


def choose_rounding(weight: Float32Array, scales: Float32Array, grams: Reals) -> NDArray[np.int8]:
    """Integers on -127..127 for a weight (outputs, ...), one scale an output, grams (groups, inputs, inputs)."""
    rows = weight.reshape(len(weight), -1).astype(np.float64) / scales[:, None]
    per_group = len(rows) // len(grams)
    chosen = [_descend(row, grams[i // per_group]) for i, row in enumerate(rows)]
    return np.clip(np.stack(chosen), -WEIGHT_LIMIT, WEIGHT_LIMIT).reshape(weight.shape).astype(np.int8)


def _descend(row: Reals, gram: Reals) -> Reals:
    """Up or down for each number of a row, in steps."""
    free = np.abs(row - np.rint(row)) > ON_A_STEP
    low = np.where(free, np.floor(row), np.rint(row))
    up = np.rint(row) > low
    energy = np.diag(gram)
    while True:
        pull = gram @ (low + up - row)
        flip = np.where(up, -1.0, 1.0)
        single = 2 * flip * pull + energy  # what the error grows by when one flips
        gain = single[:, None] + single[None] + 2 * gram * np.outer(flip, flip)
        np.fill_diagonal(gain, single)
        gain[~free] = gain[:, ~free] = np.inf
        i, j = np.unravel_index(int(np.argmin(gain)), gain.shape)
        if not gain[i, j] < -1e-9 * max(float(energy.max()), 1e-30):
            return low + up
        up[[i, j]] = ~up[[i, j]]


def input_grams(graph: Graph, plan: Plan, clips: Float32Array) -> dict[str, Reals]:
    """Weight -> (groups, inputs, inputs) Gram matrices of what it multiplies, everything before it rounded."""
    spectra, model = torch.from_numpy(analyse(clips, graph.window)), FloatModel(graph).eval()
    rounded, wanted = plan_tap(graph, plan), _wanted(graph, plan)
    recurrent = {n.name: (n, list[Tensor]()) for n in graph.nodes if n.kind in RECURRENT}
    sums: dict[str, Reals] = {}

    def tap(name: str, value: Tensor) -> Tensor:
        value = whole = rounded(name, value)
        if name not in wanted:
            return value
        if name in recurrent:  # comes step by step
            node, steps = recurrent[name]
            steps.append(value)
            if len(steps) < (spectra.shape[2] if node.kind == "gru" else graph.shapes[name].bands):
                return value
            whole = _joined(node, steps)
        for weight, columns in wanted[name]:
            sums[weight] = sums.get(weight, 0.0) + columns(whole)
        return value

    with torch.no_grad():
        model(spectra, tap=tap)
    return sums


def _joined(node: Node, steps: list[Tensor]) -> Tensor:
    """The steps of a recurrence as the value (batch, channels, frames, bands) that the next layer reads."""
    if node.kind == "gru":
        return torch.stack(steps, 2).permute(0, 3, 2, 1)
    forward, backward = torch.stack(steps, -1).chunk(2, 2)  # (batch, frames, units, bands)
    return torch.cat([forward, backward.flip(-1)], 2).transpose(1, 2)


Columns = Callable[[Tensor], Reals]  # a value -> (groups, inputs, inputs)


def _wanted(graph: Graph, plan: Plan) -> dict[str, list[tuple[str, Columns]]]:
    """Tap -> the 8-bit weights that multiply it, and how its value lies in front of each."""
    wanted: dict[str, list[tuple[str, Columns]]] = {}
    for node in graph.nodes:
        if plan.reads_int8(node) and node.kind in ("conv", *RECURRENT):
            for tap, weight, columns in _multiplied(graph, node):
                wanted.setdefault(tap, []).append((weight, columns))
    return wanted


def _multiplied(graph: Graph, node: Node) -> Iterator[tuple[str, str, Columns]]:
    if node.kind == "conv":
        yield node.inputs[0], node.param("weight"), lambda x: _conv_gram(graph, node, x)
        return
    groups, order = node.attrs.get("groups", 1), gru_weights.group_order(node)
    for place, index in enumerate(order):
        w_ih, w_hh = node.params["weight_ih"][index], node.params["weight_hh"][index]
        yield node.inputs[0], w_ih, _part(index * groups // len(order), graph.params[w_ih].shape[1], 1)
        yield f"{node.name}.state", w_hh, _part(place, graph.params[w_hh].shape[1], -1)


def _part(place: int, size: int, axis: int) -> Columns:
    """The Gram matrix of channels place * size ..., which lie along `axis`."""
    return lambda x: _gram(x.narrow(axis, place * size, size).movedim(axis, -1).reshape(1, -1, size))


def _conv_gram(graph: Graph, node: Node, x: Tensor) -> Reals:
    """Patches of (batch, channels, frames, bands) as the convolution multiplies them, by group."""
    a: Any = node.attrs
    past = 0 if node.state is None else node.state.frames
    kernel = graph.params[node.param("weight")].shape[2:]
    patches = F.unfold(F.pad(x, (0, 0, past, 0)), kernel, (a["dilation"], 1), (0, a["pad"]), (1, a["stride"]))
    by_group = patches.reshape(len(x), a["groups"], -1, patches.shape[-1])
    return _gram(by_group.permute(1, 0, 3, 2).flatten(1, 2))


def _gram(rows: Tensor) -> Reals:
    """(groups, n, inputs) -> (groups, inputs, inputs), in float64."""
    gram: Reals = torch.einsum("gni,gnj->gij", rows.double(), rows.double()).numpy()
    return gram
