"""The native engine's plan: what it rounds less often, and how far that takes a value."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.stft import Float32Array
from quant.int8.plan import ENTRANCE, Plan
from quant.int8.qparams import QParams, dequantize
from quant.int8.reference import Reference
from quant.int8.roundings import with_fewer_roundings
from quant.network.graph import Graph, Node, Shape
from quant.ptq.quantize import Quantized

Values = NDArray[Any]


def last_of(graph: Graph, name: str) -> str:
    """What the plan as it is stores last of a convolution: behind its phases and its LeakyReLU."""
    for kind in ("interleave", "leaky_relu"):
        readers = graph.consumers(name)
        if len(readers) == 1 and readers[0].kind == kind:
            name = readers[0].name
    return name


def sources(quantized: Quantized) -> dict[str, str]:
    """Value of the native engine's plan -> the one that stands for it in the plan as it is."""
    fewer, plan = with_fewer_roundings(quantized.graph, quantized.plan)
    joined = (n for n in fewer.nodes if "slope" in n.attrs)
    return over_time(fewer, plan) | {
        name: last_of(quantized.graph, n.name)
        for n in joined
        for name in (n.name, *(r.name for r in fewer.consumers(n.name) if r.kind == "interleave"))
    }


def over_time(graph: Graph, plan: Plan) -> dict[str, str]:
    """Layers whose value is bytes -> what quantizes it in the plan as it is."""
    return {n.name: n.name + ENTRANCE for n in graph.nodes if n.kind == "gru" and plan.is_int8(n)}


def beside(quantized: Quantized, frames: Float32Array) -> dict[str, tuple[Values, Values, Values]]:
    """Convolution -> of all frames, from the same inputs: its own value in the plan as it is, what is stored last of it
    there, and what the native engine's plan makes."""
    plain, stands = Reference(quantized.graph, quantized.plan), sources(quantized)
    graph, plan = with_fewer_roundings(quantized.graph, quantized.plan)
    same = {name: quantized.plan.grids[entrance] for name, entrance in over_time(graph, plan).items()}
    fewer = Reference(graph, replace(plan, grids={**plan.grids, **same}))
    found = dict[str, list[tuple[Values, Values, Values]]]()
    for frame in frames:
        seen = dict[str, Values]()
        plain.step(frame, seen.__setitem__)
        for node in fewer.graph.nodes:
            if node.kind != "conv" or not fewer.plan.reads_int8(node):
                continue
            made = fewer._run(node, [seen[stands.get(node.inputs[0], node.inputs[0])]])
            own = seen[node.name]
            for phases in (n for n in fewer.graph.consumers(node.name) if n.kind == "interleave"):
                made, own = fewer._run(phases, [made]), seen[phases.name]
            found.setdefault(node.name, []).append((own, seen[last_of(quantized.graph, node.name)], made))
    return {name: tuple(np.stack(v) for v in zip(*frames, strict=True)) for name, frames in found.items()}  # type: ignore[misc]


def test_one_rounding_is_at_most_a_step_from_two(quantized: Quantized, spectra_3_s: Float32Array) -> None:
    """Where the convolution's own grid, which the native engine has not, did not saturate: 27 values in 100 differ."""
    fewer, n_values, n_differ = with_fewer_roundings(quantized.graph, quantized.plan)[1], 0, 0
    for name, (own, last, made) in beside(quantized, spectra_3_s[60:75]).items():
        if fewer.precision[name] == "int8":
            off = np.abs(made.astype(np.int32) - last)[(own > -128) & (own < 127)]
            assert off.max() <= 1, name
            n_values, n_differ = n_values + off.size, n_differ + int(off.sum())
    assert 0 < n_differ < 0.35 * n_values


def test_what_float_reads_is_within_half_a_step_of_its_grid(quantized: Quantized, spectra_3_s: Float32Array) -> None:
    """And behind a LeakyReLU within the half step of the grid before it, too, whose steps are up to twice as large."""
    graph, plan = with_fewer_roundings(quantized.graph, quantized.plan)
    n_mixed = 0
    for name, (own, last, made) in beside(quantized, spectra_3_s[60:75]).items():
        if plan.precision[name] == "mixed":
            n_mixed += 1
            assert made.dtype == np.float32
            q = quantized.plan.grids[last_of(quantized.graph, name)]
            off = np.abs(made - dequantize(last, q))[(own > -128) & (own < 127)] / q.scale
            assert off.max() <= (1.5 if "slope" in graph.node(name).attrs else 0.501), name
    assert n_mixed >= 11


SOURCE, BEFORE, AFTER = QParams(0.02, 3), QParams(0.05, -5), QParams(0.03, -90)


def leaky_behind(slope: float, *, read_twice: bool = False) -> tuple[Graph, Plan]:
    """conv -> LeakyReLU in 8 bits; `read_twice`: the output reads the convolution, too."""
    attrs = {"stride": 1, "pad": 0, "groups": 1, "dilation": 1}
    nodes = (
        Node("quantize", "x.q8", ("x",)),
        Node("conv", "conv", ("x.q8",), {"weight": ("w",), "bias": ("b",)}, attrs),
        Node("leaky_relu", "act", ("conv",), attrs={"slope": slope}),
        Node("shuffle", "out", ("act", "conv" if read_twice else "act")),
    )
    params = {"w": np.ones((4, 2, 1, 1), np.float32), "b": np.zeros(4, np.float32)}
    shapes = {"x": Shape(2, 5), "x.q8": Shape(2, 5), "conv": Shape(4, 5), "act": Shape(4, 5), "out": Shape(8, 5)}
    grids = {"x.q8": SOURCE, "conv": BEFORE, "act": AFTER, "out": AFTER}
    plan = Plan(dict.fromkeys(grids, "int8"), grids, {"w": np.full(4, 0.01, np.float32)})
    return Graph({"x": shapes["x"]}, nodes, shapes, params, "out"), plan


@pytest.mark.parametrize(
    ("slope", "read_twice", "joins"),
    [(0.25, False, True), (1.0, False, True), (-0.5, False, True), (1.01, False, False), (0.25, True, False)],
)
def test_a_leaky_relu_joins_where_a_maximum_computes_it_and_nothing_reads_between(
    slope: float, read_twice: bool, joins: bool
) -> None:
    graph, plan = with_fewer_roundings(*leaky_behind(slope, read_twice=read_twice))
    assert ("act" not in plan.precision) == joins
    assert graph.node("conv").attrs.get("slope") == (slope if joins else None)
    assert plan.grids["conv"] == (AFTER if joins else BEFORE)


def test_it_is_made_once(quantized: Quantized) -> None:
    once = with_fewer_roundings(quantized.graph, quantized.plan)
    again = with_fewer_roundings(*once)
    assert (again[0].nodes, again[1].precision, again[1].grids) == (once[0].nodes, once[1].precision, once[1].grids)
