"""Scale migration: give every channel of an 8-bit tensor the same range, at no cost and with no error in float.

A positive factor on a channel passes through LeakyReLU, slices, shuffles, gates and sums unchanged. A convolution can
make it (its rows and bias times the factor) and a convolution or GRU can take it away (its columns divided by it); an
affine ReLU does both, the energy of the bands takes it away. So
channels fall into classes that must share one factor; each class gets the factor that brings its largest 8-bit peak
to one. The idea is cross-layer equalization (Nagel et al., "Data-Free Quantization Through Weight Equalization and
Bias Correction", 2019, section 4.1), extended over the sums and shuffles of this network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from edge_runtime.stft import Float32Array
from quant.network.graph import Graph, Node

FREE_OUTPUT = frozenset({"conv", "affine_relu", "layer_norm"})
ABSORBS_INPUT = frozenset({"conv", "affine_relu", "band_energy", "gru", "bigru"})
LARGEST = 2.0**12  # a silent channel is not blown up without end

Channel = tuple[str, int]


class _Classes:
    """Union-find over channels; None is the class whose factor is fixed at one."""

    def __init__(self) -> None:
        self.parent: dict[Channel | None, Channel | None] = {None: None}

    def find(self, x: Channel | None) -> Channel | None:
        self.parent.setdefault(x, x)
        while self.parent[x] != x:
            self.parent[x] = self.parent[self.parent[x]]
            x = self.parent[x]
        return x

    def tie(self, a: Channel | None, b: Channel | None) -> None:
        a, b = self.find(a), self.find(b)
        if a is None:
            self.parent[b] = a
        else:
            self.parent[a] = b


def migrate_scales(graph: Graph, peaks: Mapping[str, Float32Array]) -> Graph:
    """The same network with its channels rescaled.

    `peaks`: value name -> (channels,) peak magnitudes of the values that will be stored in 8 bits.
    """
    factors = choose_factors(graph, peaks)
    params = dict(graph.params)
    for node in graph.nodes:
        _absorb(node, params, factors)
    return replace(graph, params=params)


def choose_factors(graph: Graph, peaks: Mapping[str, Float32Array]) -> dict[str, Float32Array]:
    """The factor of every channel of every value."""
    classes = _Classes()
    for name in graph.inputs:
        _tie_all(classes, (((name, c), None) for c in range(graph.shapes[name].channels)))
    for node in graph.nodes:
        _tie_all(classes, _constraints(graph, node))
    largest: dict[Channel | None, float] = {}
    for name, values in peaks.items():
        for c, peak in enumerate(values):
            root = classes.find((name, c))
            largest[root] = max(largest.get(root, 0.0), float(peak))
    largest.pop(None, None)
    factors = {root: float(np.clip(1 / max(peak, 1e-9), 1 / LARGEST, LARGEST)) for root, peak in largest.items()}
    out = {
        name: np.array([factors.get(classes.find((name, c)), 1.0) for c in range(shape.channels)], np.float32)
        for name, shape in graph.shapes.items()
    }
    for node in graph.nodes:
        if node.kind == "mean_square":
            out[node.name] = out[node.inputs[0]] ** 2
    return out


def _tie_all(classes: _Classes, pairs: Iterable[tuple[Channel, Channel | None]]) -> None:
    for a, b in pairs:
        classes.tie(a, b)


def _constraints(graph: Graph, node: Node) -> list[tuple[Channel, Channel | None]]:
    """Channels that must share a factor because of this node."""
    n = graph.shapes[node.name].channels
    out: list[Channel] = [(node.name, c) for c in range(n)]
    ins: list[list[Channel]] = [[(i, c) for c in range(graph.shapes[i].channels)] for i in node.inputs]
    if node.kind in ("leaky_relu", "quantize"):
        return list(zip(out, ins[0], strict=True))
    if node.kind in ("gate", "band_gate"):
        return [*zip(out, ins[0], strict=True), *((c, None) for c in ins[1])]
    if node.kind == "add":
        return [*zip(out, ins[0], strict=True), *zip(out, ins[1], strict=True)]
    if node.kind == "edge_bands":
        return list(zip(out, ins[0], strict=True))
    if node.kind == "slice":
        return list(zip(out, ins[0][node.attrs["start"] : node.attrs["stop"]], strict=True))
    if node.kind == "shuffle":
        return [*zip(out[0::2], ins[0], strict=True), *zip(out[1::2], ins[1], strict=True)]
    if node.kind == "interleave":
        size = n // node.attrs["groups"]
        return [
            (out[g * size + c], ins[0][(2 * g + phase) * size + c])
            for g in range(node.attrs["groups"])
            for phase in (0, 1)
            for c in range(size)
        ]
    fixed_out = [] if node.kind in FREE_OUTPUT else out
    fixed_in = [] if node.kind in ABSORBS_INPUT or node.kind == "mean_square" else [c for i in ins for c in i]
    if node.kind == "mean_square":
        return []
    return [(c, None) for c in (*fixed_out, *fixed_in)]


def _absorb(node: Node, params: dict[str, Float32Array], factors: Mapping[str, Float32Array]) -> None:
    """Divide the columns by the factors of the input, multiply the rows by those of the output."""
    made = factors[node.name]
    if node.kind == "conv":
        name, groups = node.param("weight"), node.attrs["groups"]
        taken = factors[node.inputs[0]].reshape(groups, -1)
        weight = params[name]
        rows = weight.reshape(groups, -1, *weight.shape[1:]) / taken[:, None, :, None, None]
        params[name] = (rows.reshape(weight.shape) * made[:, None, None, None]).astype(np.float32)
        params[node.param("bias")] = params[node.param("bias")] * made
    elif node.kind == "affine_relu":
        gain = made / factors[node.inputs[0]]
        for role, factor in (("weight", gain[:, None]), ("rise", gain), ("bias", made[:, None])):
            params[node.param(role)] = (params[node.param(role)] * factor).astype(np.float32)
    elif node.kind == "band_energy":
        params[node.param("weight")] = (params[node.param("weight")] / factors[node.inputs[0]] ** 2).astype(np.float32)
    elif node.kind == "edge_bands":
        name = node.param("weight")
        params[name] = (params[name] * made[:, None] / factors[node.inputs[1]]).astype(np.float32)
    elif node.kind == "layer_norm":
        for role in ("weight", "bias"):
            params[node.param(role)] = params[node.param(role)] * made
    elif node.kind in ("gru", "bigru"):
        groups = node.attrs.get("groups", 1)
        taken = factors[node.inputs[0]].reshape(groups, -1)
        names = node.params["weight_ih"]
        for i, name in enumerate(names):
            params[name] = params[name] / taken[i * groups // len(names)]
