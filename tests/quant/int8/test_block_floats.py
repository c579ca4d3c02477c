"""Float convolutions by integers of one exponent: how far from real numbers, that sums fit, and which nodes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edge_runtime.stft import Float32Array
from quant.int8.block_floats import BLOCK, ENDS, integers, kernels, steps, with_blocks
from quant.int8.plan import Plan
from quant.int8.recipe import Precision
from quant.int8.reference import Reference
from quant.int8.roundings import with_fewer_roundings
from quant.network.graph import Graph, Node, Shape, State
from quant.ptq.quantize import Quantized

N_OUT, BANDS = 8, 17
HALF_A_STEP = 0.5 + 2**-9  # float32 rounds what is rounded once more


def planned(
    *,
    n_in: int = 4,
    taps: int = 5,
    groups: int = 1,
    stride: int = 2,
    n_out: int = N_OUT,
    precision: Precision = "float",
) -> tuple[Graph, Plan]:
    """One convolution of random weights."""
    rng, attrs = np.random.default_rng(1), {"stride": stride, "pad": taps // 2, "groups": groups, "dilation": 1}
    weight = rng.standard_normal((n_out, n_in // groups, 1, taps)).astype(np.float32)
    node = Node("conv", "y", ("x",), {"weight": ("w",), "bias": ("b",)}, attrs)
    shapes = {"x": Shape(n_in, BANDS), "y": Shape(n_out, (BANDS - 1) // stride + 1)}
    params = {"w": weight, "b": rng.standard_normal(n_out).astype(np.float32)}
    return Graph({"x": shapes["x"]}, (node,), shapes, params, "y"), Plan({"y": precision}, {}, {})


def convolved(graph: Graph, plan: Plan, x: Float32Array) -> Float32Array:
    made: Float32Array = Reference(graph, plan)._conv(graph.node("y"), x)
    return made


def inputs(n_in: int = 4, size: float = 1.0) -> Float32Array:
    return (np.random.default_rng(2).standard_normal((n_in, BANDS)) * size).astype(np.float32)


@pytest.mark.parametrize("size", [1e-9, 1e-3, 1.0, 1e4])
@pytest.mark.parametrize(("n_in", "groups"), [(3, 1), (4, 1), (16, 2)])
def test_a_result_is_within_half_a_step_of_each_input_and_weight(n_in: int, groups: int, size: float) -> None:
    """However loud: the largest input has 15 bits, the weights as many as their sum leaves."""
    graph, plan = planned(n_in=n_in, groups=groups)
    graph.params["b"][:] = 0
    x, weight = inputs(n_in, size), graph.params["w"]
    made, real = convolved(*with_blocks(graph, plan), x), convolved(graph, plan, x)
    (_, unit), (_, scales) = steps(x), integers(weight)
    largest, n = np.abs(x).max(), weight[0].size
    bound = HALF_A_STEP * (unit * np.abs(weight).sum((1, 2, 3)) + scales * largest * n + unit * scales * n)
    assert (np.abs(made - real).max(1) <= bound).all()
    assert np.abs(made - real).max() < 1e-3 * np.abs(real).max()


@pytest.mark.parametrize("shift", [-20, -3, 7, 30])
def test_a_quieter_frame_keeps_every_bit(shift: int) -> None:
    graph, plan = with_blocks(*planned())
    graph.params["b"][:] = 0
    x = inputs()
    np.testing.assert_array_equal(
        convolved(graph, plan, np.ldexp(x, shift)), np.ldexp(convolved(graph, plan, x), shift)
    )


SILENT, DENORMAL = np.zeros((4, BANDS), np.float32), np.full((4, BANDS), 1e-40, np.float32)


@pytest.mark.parametrize("x", [SILENT, DENORMAL], ids=["silent", "denormal"])
def test_silence_gives_the_bias(x: Float32Array) -> None:
    graph, plan = with_blocks(*planned())
    np.testing.assert_array_equal(convolved(graph, plan, x), np.repeat(graph.params["b"][:, None], 9, 1))


@pytest.mark.parametrize("largest", [3.4028235e38, 1.0, 0.99999994, 32767.5, 1e-30])
def test_steps_reach_16_bits_and_no_further(largest: float) -> None:
    values, unit = steps(np.array([[largest, -largest, 0]], np.float32))
    assert values.dtype == np.int16
    assert values[0, 2] == 0
    assert (1 << 14) - 1 <= values[0, 0] <= (1 << 15) - 1 or largest < 2.0**-40
    assert abs(float(values[0, 0]) * float(unit) - largest) <= float(unit)


ROWS: dict[str, Any] = {
    "alike": np.ones((4, 256)),
    "one alone": np.eye(4, 256),
    "one large": np.eye(4, 256) * 1e6 + 1,
    "none": np.zeros((4, 256)),
    "halves of a step": np.full((4, 255), 65535 / 255 + 0.5),
    "tiny": np.full((4, 8), 1e-38),
    "huge": np.full((4, 8), 1e37),
}


@pytest.mark.parametrize("weight", ROWS.values(), ids=ROWS)
def test_no_sum_leaves_32_bits(weight: Any) -> None:
    found, scales = integers(weight.astype(np.float32))
    assert np.isfinite(scales).all()
    assert (scales > 0).all()
    assert np.abs(found.astype(np.int64)).sum(1).max() * (1 << 15) < 1 << 31


REFUSED: dict[str, dict[str, Any]] = {
    "in 8 bits": {"precision": "int8"},
    "each channel by itself": {"n_in": 8, "groups": 8},
    "groups of inputs that are no fours": {"n_in": 12, "groups": 2},
    "results that are no fours": {"n_out": 6},
    "more inputs than weights have bits for": {"n_in": 64, "taps": 5},
}


@pytest.mark.parametrize("changes", REFUSED.values(), ids=REFUSED)
def test_others_stay_float(changes: dict[str, Any]) -> None:
    graph, plan = planned(**changes)
    assert with_blocks(graph, plan)[0].nodes == graph.nodes


def test_one_over_time_or_of_one_band_stays_float() -> None:
    graph, plan = planned()
    over_time = replace(graph.nodes[0], state=State("y.state", 1, BANDS, 4))
    for other in (graph.rewritten([over_time]), graph.rewritten(graph.nodes, {**graph.shapes, "y": Shape(N_OUT, 1)})):
        assert with_blocks(other, plan)[0].nodes == other.nodes


def test_what_edges_add_joins(quantized: Quantized, spectra_3_s: Float32Array) -> None:
    """And stays what it was, but for the rounding."""
    fewer, plan = with_fewer_roundings(quantized.graph, quantized.plan)
    (edges,) = (n for n in quantized.graph.nodes if n.kind == "edge_bands")
    joined = fewer.node(edges.name)
    assert joined.attrs[BLOCK]
    assert ENDS in joined.params
    assert edges.inputs[0] not in plan.precision
    assert len(kernels(fewer, joined)) == len(("all", "first", "last"))
    plain, blocks = Reference(quantized.graph, quantized.plan), Reference(fewer, plan)
    for frame in spectra_3_s[60:64]:
        wanted, found = dict[str, Any](), dict[str, Any]()
        plain.step(frame, wanted.__setitem__)
        blocks.step(frame, found.__setitem__)
        real, made = wanted[edges.name], found[edges.name]
        assert np.abs(made - real).max() < 1e-3 * np.abs(real).max()
        assert np.abs(made - real)[:, (0, -1)].max() < 1e-3 * np.abs(real).max()
