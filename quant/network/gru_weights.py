"""GRU weights as the emitters want them: groups and directions merged into one block-diagonal layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edge_runtime.stft import Float32Array
from quant.network.graph import Graph, Node


class GruWeights(NamedTuple):
    """One GRU of `hidden` units, gates stacked in the order r, z, n: (3 * hidden, inputs), (3 * hidden, hidden)."""

    w_ih: Float32Array
    w_hh: Float32Array
    b_ih: Float32Array
    b_hh: Float32Array

    @property
    def hidden(self) -> int:
        """Units, all groups together."""
        return int(self.w_hh.shape[1])


def merged(graph: Graph, node: Node) -> GruWeights:
    """The groups of a `gru` node as one layer."""
    return _merge(graph, node, range(node.attrs.get("groups", 1)))


def directions(graph: Graph, node: Node) -> tuple[GruWeights, GruWeights]:
    """The forward and the backward layer of a `bigru` node, groups merged in each."""
    n = 2 * node.attrs["groups"]
    return _merge(graph, node, range(0, n, 2)), _merge(graph, node, range(1, n, 2))


def channel_order(node: Node, hidden: int) -> list[int]:
    """Where each output channel of a `bigru` stands in the concatenation (forward units, backward units).

    The official order is group 0 forward, group 0 backward, group 1 forward, ...; `hidden` is that of one direction.
    """
    groups = node.attrs["groups"]
    size = hidden // groups
    return [d * hidden + g * size + i for g in range(groups) for d in (0, 1) for i in range(size)]


def block_diagonal(*blocks: Float32Array) -> Float32Array:
    """Matrices along the diagonal, zeros elsewhere."""
    rows, columns = sum(b.shape[0] for b in blocks), sum(b.shape[1] for b in blocks)
    out = np.zeros((rows, columns), blocks[0].dtype)
    r = c = 0
    for b in blocks:
        out[r : r + b.shape[0], c : c + b.shape[1]] = b
        r, c = r + b.shape[0], c + b.shape[1]
    return out


def side_by_side(layers: tuple[GruWeights, ...]) -> GruWeights:
    """Independent GRUs as one: inputs, units and gates stand beside each other."""

    def matrices(role: str) -> Float32Array:
        gates = [np.split(getattr(layer, role), 3) for layer in layers]
        return np.concatenate([block_diagonal(*(g[k] for g in gates)) for k in range(3)])

    def vectors(role: str) -> Float32Array:
        gates = [np.split(getattr(layer, role), 3) for layer in layers]
        return np.concatenate([g[k] for k in range(3) for g in gates])

    return GruWeights(matrices("w_ih"), matrices("w_hh"), vectors("b_ih"), vectors("b_hh"))


def merged_scales(groups: Sequence[Float32Array]) -> Float32Array:
    """One scale a row, as the rows of merged matrices lie: r of every group, then z, then n."""
    gates = [np.split(scales, 3) for scales in groups]
    return np.concatenate([g[k] for k in range(3) for g in gates])


def scale_order(node: Node) -> Sequence[int]:
    """The groups of a node's parameters in the order in which `merged` or `side_by_side(directions)` lays them."""
    groups = node.attrs.get("groups", 1)
    if node.kind == "gru":
        return range(groups)
    return [2 * g + d for d in (0, 1) for g in range(groups)]


def _merge(graph: Graph, node: Node, groups: range) -> GruWeights:
    layers = tuple(
        GruWeights(*(graph.params[node.params[role][g]] for role in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")))
        for g in groups
    )
    return side_by_side(layers)
