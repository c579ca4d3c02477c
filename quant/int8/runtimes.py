"""The plan as ONNX and TFLite compute it: what these runtimes have no 8-bit operator for, or round too often, is float.

Between two of their 8-bit operators every value lies on a grid. What the native engine keeps in a register, or in 16
bits, they would round once more; where a float operator costs no more than the 8-bit one, it stands instead.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from typing import Final

from quant.int8.plan import ENTRANCE, Plan, with_entrances
from quant.int8.qparams import QParams, choose_qparams
from quant.int8.recipe import FOLLOWERS, RECURRENT, Precision
from quant.network.graph import Graph, Node

AS_PRODUCTS: Final = "as_products"  # attribute of a GRU
WIDE_INPUT: Final = "wide_input"  # attribute of a convolution


def for_onnx(graph: Graph, plan: Plan) -> tuple[Graph, Plan]:
    """As `for_tflite`, and every GRU in float, but for mixed ones that their network wants written as two products and
    their gates."""
    kept = {n.name for n in graph.nodes if n.attrs.get(AS_PRODUCTS) and plan.precision[n.name] == "mixed"}
    return for_tflite(*_with_float(graph, plan, _recurrent(graph) - kept))


def for_tflite(graph: Graph, plan: Plan) -> tuple[Graph, Plan]:
    """A prepared graph and its plan with a float convolution where the network says that what it reads spans too much
    for 8 bits, and with one product for two gates."""
    wide = {n.name for n in graph.nodes if n.attrs.get(WIDE_INPUT)}
    return _with_joint_gates(*(_with_float(graph, plan, wide) if wide else (graph, plan)))


def with_float_grus(graph: Graph, plan: Plan) -> tuple[Graph, Plan]:
    """A prepared graph and its plan with every GRU in float, for runtimes that have no 8-bit one."""
    return _with_float(graph, plan, _recurrent(graph))


def _recurrent(graph: Graph) -> set[str]:
    return {n.name for n in graph.nodes if n.kind in RECURRENT}


def _with_float(graph: Graph, plan: Plan, names: Container[str]) -> tuple[Graph, Plan]:
    """The nodes of these names in float.

    They then read what was not quantized for them; their result is quantized where 8-bit nodes read it, on the same
    grid.
    """
    entrances = {node.name: node.inputs[0] for node in graph.nodes if node.kind == "quantize"}
    nodes = [
        replace(node, inputs=tuple(entrances.get(name, name) for name in node.inputs))
        for node in graph.nodes
        if node.kind != "quantize"
    ]
    precision: dict[str, Precision] = {}
    for node in nodes:
        follows = node.kind in FOLLOWERS and precision.get(node.inputs[0]) == "float"
        precision[node.name] = "float" if follows or node.name in names else plan.precision[node.name]
    lowered = with_entrances(graph.rewritten(nodes), precision)
    grids = {
        n.name: plan.grids[n.inputs[0]] for n in lowered.nodes if n.kind == "quantize" and n.name not in plan.grids
    }
    return lowered, Plan(precision, {**plan.grids, **grids}, plan.weight_scales)


def _with_joint_gates(graph: Graph, plan: Plan) -> tuple[Graph, Plan]:
    """A gate of the channels whose result a gate of the bands alone reads: the product of both gates in float, rounded
    once, then one 8-bit product with the value.

    The float product bears the first gate's name, the 8-bit one the second's.
    """
    entrances = {node.name: node.inputs[0] for node in graph.nodes if node.kind == "quantize"}
    firsts = {n.inputs[0]: graph.node(n.inputs[0]) for n in graph.nodes if _gates_twice(graph, plan, n)}
    if not firsts:
        return graph, plan
    nodes, precision, grids = list[Node](), dict(plan.precision), dict(plan.grids)
    for node in graph.nodes:
        first = firsts.get(node.inputs[0]) if node.kind == "band_gate" else None
        if node.name in firsts:
            continue
        if first is None:
            nodes.append(node)
            continue
        gates = [n.inputs[1] for n in (first, node)]
        nodes.append(Node("band_gate", first.name, tuple(entrances.get(name, name) for name in gates)))
        nodes.append(Node("gate", node.name, (first.inputs[0], first.name)))
        precision[first.name], grids[first.name] = "float", _product_grid(*(plan.grids[name] for name in gates))
    kept = {name for node in nodes for name in node.inputs}
    nodes = [node for node in nodes if node.kind != "quantize" or node.name in kept]
    lowered = with_entrances(graph.rewritten(nodes), precision)
    grids |= {name + ENTRANCE: grids.pop(name) for name in firsts}
    return lowered, Plan({n.name: precision[n.name] for n in lowered.nodes}, grids, plan.weight_scales)


def _gates_twice(graph: Graph, plan: Plan, node: Node) -> bool:
    """Whether a gate of the bands alone reads a gate of the channels, both in 8 bits."""
    if node.kind != "band_gate" or not plan.is_int8(node) or len(graph.consumers(node.inputs[0])) != 1:
        return False
    first = next((n for n in graph.nodes if n.name == node.inputs[0]), None)
    return first is not None and first.kind == "gate" and plan.is_int8(first) and first.name != graph.output


def _product_grid(a: QParams, b: QParams) -> QParams:
    """Of what two gates, which are never below zero, give together."""
    return choose_qparams(0.0, a.high * b.high)
