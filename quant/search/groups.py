"""What the search may raise: groups of nodes that share a precision, what that costs, and the recipe they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from msgspec.structs import replace

from quant.audit.counts import count
from quant.int8.recipe import QUANTIZABLE, RECURRENT, Precision, Recipe, Rule
from quant.network import registry
from quant.network.graph import Graph, Node

EVERYTHING = Rule("*", "int8", "the most aggressive start")


@dataclass(frozen=True)
class Group:
    """`levels`: its precisions from the cheapest; `macs` of a frame; `n_values` made a frame."""

    name: str
    nodes: tuple[str, ...]
    kinds: tuple[str, ...]
    levels: tuple[Precision, ...]
    macs: int
    n_values: int

    def cost(self, level: int) -> int:
        """Of raising it to `level` by one: the MACs that leave int8, and one for each value made, so that none is free.

        A GRU that becomes mixed keeps its products in int8.
        """
        return self.n_values + (self.macs if self.levels[level] == "float" else 0)


def groups(graph: Graph) -> tuple[Group, ...]:
    """Every node that can be int8, in execution order of the groups' first nodes."""
    found: dict[str, list[Node]] = {}
    attentions = registry.NETWORKS[graph.network].attentions if graph.network in registry.NETWORKS else ()
    for node in graph.nodes:
        if node.kind in QUANTIZABLE:
            found.setdefault(_group_name(node, attentions), []).append(node)
    macs = {layer.name: layer.macs_frame for layer in count(graph)}
    return tuple(_group(graph, name, nodes, macs) for name, nodes in found.items())


def _group_name(node: Node, attentions: tuple[str, ...]) -> str:
    """Sums, shuffles and GRUs alone; an attention whole; the convolutions of one module together."""
    parent = node.name.rpartition(".")[0]
    if parent.endswith(attentions):
        return parent
    if node.kind != "conv":
        return node.name
    while parent.rpartition(".")[2] == "bn":
        parent = parent.rpartition(".")[0]
    return f"{parent}.*"


def _group(graph: Graph, name: str, nodes: Sequence[Node], macs: Mapping[str, int]) -> Group:
    kinds = tuple(sorted({n.kind for n in nodes}))
    levels: tuple[Precision, ...] = ("int8", "mixed", "float") if RECURRENT.issuperset(kinds) else ("int8", "float")
    sizes = [graph.shapes[n.name] for n in nodes]
    n_values = sum(s.channels * s.bands for s in sizes)
    return Group(name, tuple(n.name for n in nodes), kinds, levels, sum(macs[n.name] for n in nodes), n_values)


def recipe_of(base: Recipe, graph: Graph, chosen: Mapping[Group, int], why: Mapping[str, str]) -> Recipe:
    """`base` with its rules replaced: everything int8 but the groups above level 0, each with its reason."""
    raised = [(group, group.levels[level]) for group, level in chosen.items() if level]
    rules = [rule for group, precision in raised for rule in _rules(graph, group, precision, why.get(group.name, ""))]
    return replace(base, rules=(EVERYTHING, *rules))


def _rules(graph: Graph, group: Group, precision: Precision, why: str) -> list[Rule]:
    """One rule where a glob over the group's name names its nodes and no others, else one a node."""
    for glob in (group.name, f"{group.name}.*"):
        if {n.name for n in graph.nodes if n.kind in group.kinds and fnmatchcase(n.name, glob)} == set(group.nodes):
            return [Rule(glob, precision, why, group.kinds)]
    return [Rule(name, precision, why, group.kinds) for name in group.nodes]
