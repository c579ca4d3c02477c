"""GRU weights as the emitters want them: groups and directions merged into one block-diagonal layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """All groups of a node as one layer; of a `bigru`, the forward groups before the backward ones."""
    return _merge(graph, node, group_order(node))


def directions(graph: Graph, node: Node) -> tuple[GruWeights, GruWeights]:
    """The forward and the backward layer of a `bigru` node, groups merged in each."""
    order = group_order(node)
    half = len(order) // 2
    return _merge(graph, node, order[:half]), _merge(graph, node, order[half:])


def merged_scales(node: Node, weight_scales: Mapping[str, Float32Array]) -> dict[str, Float32Array]:
    """By role of a weight: one scale a row, as the rows of `merged` lie; `weight_scales` by parameter."""
    order = group_order(node)
    return {role: _by_gate([weight_scales[node.params[role][g]] for g in order]) for role in ("weight_ih", "weight_hh")}


def group_order(node: Node) -> Sequence[int]:
    """The groups of a node's parameters in the order in which `merged` lays them."""
    groups = node.attrs.get("groups", 1)
    if node.kind == "gru":
        return range(groups)
    return [2 * g + d for d in (0, 1) for g in range(groups)]


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


def _merge(graph: Graph, node: Node, groups: Sequence[int]) -> GruWeights:
    """Independent GRUs as one: inputs, units and gates stand beside each other."""

    def arrays(role: str) -> list[Float32Array]:
        return [graph.params[node.params[role][g]] for g in groups]

    def matrix(role: str) -> Float32Array:
        gates = [np.split(weight, 3) for weight in arrays(role)]
        return np.concatenate([block_diagonal(*(g[k] for g in gates)) for k in range(3)])

    weights, biases = map(matrix, ("weight_ih", "weight_hh")), map(arrays, ("bias_ih", "bias_hh"))
    return GruWeights(*weights, *map(_by_gate, biases))


def _by_gate(groups: Sequence[Float32Array]) -> Float32Array:
    """Rows (r, z, n) of each group -> r of every group, then z, then n."""
    gates = [np.split(rows, 3) for rows in groups]
    return np.concatenate([g[k] for k in range(3) for g in gates])
