"""Affine ReLUs, gates and sums in 16 bits: how far from the real numbers, and which nodes are computed so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from quant.inputs.source import open_source
from quant.int8.plan import Plan
from quant.int8.qparams import QParams, dequantize, quantize_weight
from quant.int8.recurrent import steps
from quant.int8.reference import Reference
from quant.int8.roundings import with_fewer_roundings
from quant.int8.sixteen_bits import centred, with_sixteen_bits
from quant.network.graph import Graph, Node, Shape
from quant.ptq.quantize import requantize

Values = NDArray[Any]
SHAPE = Shape(5, 9)
HALF_A_STEP_AND_A_20TH, HALF_A_BIAS = 0.55, 6 / 64  # the biases here reach 24 steps: 8 bits hold 6/32 of a step
GRIDS = {
    "x": QParams(float(np.float32(0.021)), 13),
    "other": QParams(float(np.float32(0.034)), -40),
    "channels": QParams(1 / 256, -128),
    "bands": QParams(1 / 256, -128),
    "both": QParams(float(np.float32(0.018)), 13),
    "y": QParams(float(np.float32(0.017)), -21),
}
INPUTS = {"x": SHAPE, "other": SHAPE, "channels": Shape(SHAPE.channels, 1), "bands": Shape(1, SHAPE.bands)}
PARAMS = {
    "w": np.random.default_rng(1).uniform(-1, 1, SHAPE).astype(np.float32),
    "b": np.random.default_rng(2).uniform(-0.4, 0.4, SHAPE).astype(np.float32),
    "r": np.random.default_rng(3).uniform(-1, 1, SHAPE.channels).astype(np.float32),
    "c": np.eye(SHAPE.channels, dtype=np.float32)[:, :, None, None],
    "d": np.zeros(SHAPE.channels, np.float32),
}
SCALES = {"w": np.full(SHAPE.channels, 1 / 127, np.float32), "c": np.full(SHAPE.channels, 1 / 127, np.float32)}
CONV = {"stride": 1, "pad": 0, "groups": 1, "dilation": 1}


def planned(*nodes: Node, grids: dict[str, QParams] = GRIDS) -> tuple[Graph, Plan]:
    """The nodes behind quantized inputs, everything in 8 bits; the last one is the output."""
    entrances = [Node("quantize", f"{name}.q8", (name,)) for name in INPUTS]
    inner = [replace(n, inputs=tuple(f"{i}.q8" if i in INPUTS else i for i in n.inputs)) for n in nodes]
    shapes = {**INPUTS, **{f"{name}.q8": shape for name, shape in INPUTS.items()}, **{n.name: SHAPE for n in nodes}}
    used = {name for n in nodes for names in n.params.values() for name in names}
    graph = Graph(INPUTS, (*entrances, *inner), shapes, {k: PARAMS[k] for k in used}, nodes[-1].name)
    known = {f"{name}.q8" if name in INPUTS else name: grids[name] for name in (*INPUTS, *(n.name for n in nodes))}
    return graph, Plan(dict.fromkeys(known, "int8"), known, SCALES)


CONVOLVED = Node("conv", "both", ("x",), {"weight": ("c",), "bias": ("d",)}, CONV)
AFFINE = Node("affine_relu", "y", ("both",), {"weight": ("w",), "bias": ("b",), "rise": ("r",)})
GATED = (Node("gate", "both", ("x", "channels")), Node("band_gate", "y", ("both", "bands")))
SUM = Node("add", "y", ("x", "other"))


def affine(x: Values) -> Values:
    """Of real numbers, by the weights as 8 bits hold them."""
    w, r = (quantize_weight(v, SCALES["w"]) / np.float64(127) for v in (PARAMS["w"], PARAMS["r"][:, None]))
    made: Values = w * x + r * np.maximum(x, 0) + PARAMS["b"]
    return made


CASES: dict[str, tuple[tuple[Node, ...], Callable[..., Values], tuple[str, ...]]] = {
    "affine ReLU": ((CONVOLVED, AFFINE), affine, ("both",)),
    "gates": (GATED, lambda x, c, f: x * c * f, ("x.q8", "channels.q8", "bands.q8")),
    "sum": ((SUM,), lambda x, other: x + other, ("x.q8", "other.q8")),
}


@pytest.mark.parametrize(("nodes", "real", "read"), CASES.values(), ids=CASES)
def test_the_byte_is_the_nearest_but_for_a_20th_of_a_step(
    nodes: tuple[Node, ...], real: Callable[..., Values], read: tuple[str, ...]
) -> None:
    graph, plan = with_sixteen_bits(*planned(*nodes))
    node, q = graph.node("y"), plan.grids["y"]
    assert node.attrs["sixteen_bits"]
    reference, rng = Reference(graph, plan), np.random.default_rng(7)
    for _ in range(40):
        values = [rng.integers(-128, 128, graph.shapes[name]).astype(np.int8) for name in read]
        made = reference._run(node, values)
        exact = real(
            *(dequantize(v, plan.grids[name]).astype(np.float64) for v, name in zip(values, read, strict=True))
        )
        wanted = np.clip(exact / q.scale, -128 - q.zero_point, 127 - q.zero_point)
        rounded_bias = HALF_A_BIAS if node.kind == "affine_relu" else 0
        assert np.abs(steps(made, q) - wanted).max() <= HALF_A_STEP_AND_A_20TH + rounded_bias


def test_what_an_affine_relu_reads_of_a_convolution_lies_around_zero() -> None:
    _, plan = with_sixteen_bits(*planned(CONVOLVED, AFFINE))
    before, after = GRIDS["both"], plan.grids["both"]
    assert after.zero_point == 0
    assert after.low <= before.low * (1 - 1e-6) or np.isclose(after.low, before.low)
    assert after.high >= before.high or np.isclose(after.high, before.high)
    assert centred(after) == after


FINE = QParams(0.003, 0)
LEFT: dict[str, tuple[Graph, Plan]] = {
    "a sum onto a grid much finer": planned(SUM, grids=GRIDS | {"y": FINE}),
    "gates onto a grid much finer": planned(*GATED, grids=GRIDS | {"y": FINE}),
    "gates with two zero points": planned(*GATED, grids=GRIDS | {"bands": QParams(1 / 256, -127)}),
    "an affine ReLU onto a grid much finer": planned(CONVOLVED, AFFINE, grids=GRIDS | {"y": FINE}),
    "an affine ReLU of no convolution": planned(replace(AFFINE, inputs=("x",))),
}


@pytest.mark.parametrize(("graph", "plan"), LEFT.values(), ids=LEFT)
def test_what_16_bits_cannot_hold_stays_with_float_multipliers(graph: Graph, plan: Plan) -> None:
    after, _ = with_sixteen_bits(graph, plan)
    assert not any(n.attrs.get("sixteen_bits") for n in after.nodes)
    assert [n.kind for n in after.nodes] == [n.kind for n in graph.nodes]


def test_every_affine_relu_and_gate_of_ul_unas_is_computed_so() -> None:
    """Of the trained default: weights at random have channels whose multipliers 16 bits do not hold."""
    source = open_source(None, None, network="ul-unas")
    assert source.ranges is not None
    quantized = requantize(source.graph, source.recipe, source.ranges)
    graph, _ = with_fewer_roundings(quantized.graph, quantized.plan)
    left = Counter(n.kind for n in graph.nodes if n.kind in ("affine_relu", "band_gate", "gate"))
    found = Counter(n.kind for n in graph.nodes if n.attrs.get("sixteen_bits"))
    assert found["affine_relu"] == left["affine_relu"] == 17
    assert found["band_gate"] == left["band_gate"] == 10
    assert left["gate"] == 0
