"""The plan as the native engine computes it: nothing is rounded to a grid that its kernels do not need there.

ONNX and TFLite round between a convolution and its LeakyReLU, and on the way from 8 bits to float: their operators
begin and end on a grid. The native engine has the sum in a register and rounds it once, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from quant.int8.block_floats import with_blocks
from quant.int8.cells import with_cells
from quant.int8.cells_over_time import with_cells_over_time
from quant.int8.plan import SAME_GRID, Plan
from quant.int8.recipe import RECURRENT, Precision
from quant.int8.sixteen_bits import with_sixteen_bits
from quant.network.graph import Graph, Node

MOST_SLOPE = 1.0  # a LeakyReLU up to it is the greater one of x and slope x
VIEWS = SAME_GRID
UNROUNDED_GATES = ("gates_x", "gates_h")  # of mixed cells


def with_fewer_roundings(graph: Graph, plan: Plan) -> tuple[Graph, Plan]:
    """A prepared graph and its plan, with what the native engine does not round.

    - An 8-bit convolution and the LeakyReLU that alone reads it are one node: attribute `slope`, the LeakyReLU's grid.
    - A convolution that float nodes alone read is "mixed": its sums become float32 without a grid, through its slope.
    - Gates of a mixed GRU that float arithmetic reads have no grid either.
    - Gates of a GRU that float arithmetic makes come from a curve of fewer terms (attribute `quick`).
    - Affine ReLUs, gates and sums go in 16 bits where those hold their multipliers (`sixteen_bits`), and so do the
      cells of an 8-bit GRU over bands (`cells`), which round to no grid between their sums and their state.
    - Cells of a mixed GRU over time take gates from tables and keep a state of 16 bits (`cells_over_time`).
    - Float convolutions multiply integers, of one exponent a value (`block_floats`).
    """
    graph, plan = _with_slopes(graph, plan)
    precision, grids = dict[str, Precision](plan.precision), dict(plan.grids)
    for node in graph.nodes:
        if node.kind == "conv" and precision[node.name] == "int8" and _float_alone_reads(graph, plan, node):
            precision[node.name] = "mixed"
            precision |= dict.fromkeys(_views(graph, node), "float")
            for name in (node.name, *_views(graph, node)):
                del grids[name]
        if precision[node.name] == "mixed":
            for role in UNROUNDED_GATES:
                grids.pop(f"{node.name}.{role}", None)
    quick = [replace(n, attrs={**n.attrs, "quick": True}) if n.kind in RECURRENT else n for n in graph.nodes]
    plan = Plan(precision, grids, plan.weight_scales)
    graph, plan = with_cells(*with_sixteen_bits(graph.rewritten(quick), plan))
    return with_blocks(*with_cells_over_time(graph, plan))


def _with_slopes(graph: Graph, plan: Plan) -> tuple[Graph, Plan]:
    """LeakyReLUs that join their convolution, across the phases of a transposed one."""
    slopes, gone, grids = dict[str, float](), dict[str, str](), dict(plan.grids)
    for node in graph.nodes:
        if not _may_join(graph, plan, node):
            continue
        path = [graph.node(node.inputs[0])]
        if path[0].kind == "interleave":
            path.append(graph.node(path[0].inputs[0]))
        if path[-1].kind == "conv" and all(len(graph.consumers(n.name)) == 1 for n in path):
            slopes[path[-1].name], gone[node.name] = node.attrs["slope"], path[0].name
            q = grids.pop(node.name)
            grids |= {n.name: q for n in path}
    nodes = [
        replace(
            n,
            inputs=tuple(gone.get(name, name) for name in n.inputs),
            attrs={**n.attrs, "slope": slopes[n.name]} if n.name in slopes else n.attrs,
        )
        for n in graph.nodes
        if n.name not in gone
    ]
    precision = {name: p for name, p in plan.precision.items() if name not in gone}
    return graph.rewritten(nodes), Plan(precision, grids, plan.weight_scales)


def _may_join(graph: Graph, plan: Plan, node: Node) -> bool:
    """Whether a node is a LeakyReLU of 8 bits that a maximum computes."""
    leaky = node.kind == "leaky_relu" and plan.is_int8(node)
    return leaky and node.attrs["slope"] <= MOST_SLOPE and node.name != graph.output


def _views(graph: Graph, node: Node) -> Iterator[str]:
    """What moves the values of a node and computes nothing."""
    for reader in graph.consumers(node.name):
        if reader.kind in VIEWS:
            yield reader.name
            yield from _views(graph, reader)


def _float_alone_reads(graph: Graph, plan: Plan, node: Node) -> bool:
    """Whether every node that computes with the value computes in float; the output of the graph does not."""
    names = (node.name, *_views(graph, node))
    readers = [r for name in names for r in graph.consumers(name) if r.kind not in VIEWS]
    return bool(readers) and graph.output not in names and not any(plan.reads_int8(r) for r in readers)
