"""Recurrent layers over bands in 16 bits: how far from the real numbers, and which layers are computed so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from defaults import native_default
from numpy.typing import NDArray

from quant.int8 import cells
from quant.int8.plan import Plan
from quant.int8.qparams import QParams
from quant.int8.recurrent import gru_layer
from quant.int8.roundings import with_fewer_roundings
from quant.network.graph import Graph, Node
from quant.network.gru_weights import merged, merged_scales
from quant.ptq.quantize import Quantized

Values = NDArray[Any]
HALF_A_STEP_AND_A_16TH = 0.5 + 1 / 16  # three numbers are rounded to 32nds before
LAYERS = ("dpgrnn1.intra_rnn", "dpgrnn2.intra_rnn")


@pytest.fixture(scope="module")
def fewer(quantized: Quantized) -> tuple[Graph, Plan]:
    return with_fewer_roundings(quantized.graph, quantized.plan)


def drawn(n_units: int, n_rows: int = 400) -> tuple[Values, Values]:
    """Bytes of W_ih x + b_ih, (rows, 3 units), and of the state."""
    rng = np.random.default_rng(5)
    shapes = ((n_rows, 3 * n_units), (n_rows, n_units))
    x, h = (rng.integers(-128, 128, shape).astype(np.int8) for shape in shapes)
    return x, h


def sums(graph: Graph, plan: Plan, node: Node, h: Values) -> Values:
    """W_hh h + b_hh as real numbers, of weights as 8 bits hold them."""
    scales = merged_scales(node, plan.weight_scales)["weight_hh"].astype(np.float64)
    w = merged(graph, node)
    integers = np.rint(w.w_hh / scales[:, None]).clip(-127, 127)
    made: Values = h / 128 @ (integers * scales[:, None]).T + w.b_hh
    return made


@pytest.mark.parametrize("name", LAYERS)
def test_what_a_table_is_read_at_is_the_nearest_step_but_for_a_16th(fewer: tuple[Graph, Plan], name: str) -> None:
    graph, plan = fewer
    node, c = graph.node(name), cells.cell_integers(graph, plan, graph.node(name))
    x, h = drawn(graph.shapes[name].channels)
    n_rz, reset = 2 * h.shape[1], np.random.default_rng(6).integers(0, 256, h.shape)
    recurrent = cells.recurrent_sums(h.astype(np.int32) @ gru_layer(graph, plan, node).integers["weight_hh"], c)
    real, wide = sums(graph, plan, node, h), x.astype(np.int32)
    real_x = (wide - plan.grids[f"{name}.gates_x"].zero_point) * plan.grids[f"{name}.gates_x"].scale
    for role, made, wanted in (
        ("reset_update_sum", cells.gate_index(wide[:, :n_rz], recurrent[:, :n_rz], c), (real_x + real)[:, :n_rz]),
        ("new_sum", cells.new_index(wide[:, n_rz:], reset, recurrent[:, n_rz:], c),
         real_x[:, n_rz:] + reset / 256 * real[:, n_rz:]),
    ):  # fmt: skip
        q = plan.grids[f"{name}.{role}"]
        off = made - np.clip(wanted / q.scale + q.zero_point, -128, 127)
        assert np.abs(off).max() <= HALF_A_STEP_AND_A_16TH
        assert abs(off.mean()) < 0.01, "as many up as down"


def test_the_next_state_is_the_nearest_one() -> None:
    """Half a step, and half a 128th that a product is rounded by."""
    new, update, h = np.meshgrid(np.arange(-128, 128, 3), np.arange(0, 256, 5), np.arange(-128, 128, 3))
    made = cells.next_state(new, update, h)
    assert np.abs(made - (new + update / 256 * (h - new))).max() <= 0.5 + 0.5 / 128


def test_a_step_is_nearer_to_float_than_one_with_a_grid_for_everything(
    quantized: Quantized, fewer: tuple[Graph, Plan]
) -> None:
    for name in LAYERS:
        x, h = drawn(quantized.graph.shapes[name].channels)
        x = (x // 3).astype(np.int8)
        many = gru_layer(quantized.graph, quantized.plan, quantized.graph.node(name)).step(x, h)
        few = gru_layer(*fewer, fewer[0].node(name)).step(x, h)
        q = quantized.plan.grids[f"{name}.gates_x"]
        n, real_x = h.shape[1], (x.astype(np.int32) - q.zero_point) * q.scale
        reset, update, new = np.split(real_x, 3, 1)
        r, z, m = np.split(sums(*fewer, fewer[0].node(name), h), 3, 1)
        assert m.shape[1] == n
        made = np.tanh(new + m / (1 + np.exp(-reset - r)))
        wanted = 128 * (made + (h / 128 - made) / (1 + np.exp(-update - z)))
        off = [float(np.sqrt(((step - wanted) ** 2).mean())) for step in (few, many)]
        assert off[0] < 0.9 * off[1], name


@pytest.mark.parametrize("network", ["gtcrn", "ul-unas"])
def test_every_layer_over_bands_of_the_defaults_is_computed_so(network: str) -> None:
    graph, plan = native_default(network)
    layers = [n for n in graph.nodes if n.kind == "bigru" and plan.is_int8(n)]
    assert len(layers) == 2
    assert all(n.attrs["sixteen_bits"] for n in layers)
    assert not [name for n in layers for name in plan.grids if name.removeprefix(f"{n.name}.") in cells.UNROUNDED]


def with_grid(plan: Plan, name: str, q: QParams) -> Plan:
    return replace(plan, grids={**plan.grids, name: q})


@pytest.mark.parametrize(
    ("role", "q"),
    [("reset_update_sum", QParams(1e-4, 0)), ("new_sum", QParams(1e-4, 0)), ("reset_update", QParams(1 / 255, -128))],
)
def test_a_layer_that_16_bits_do_not_hold_keeps_its_grids(quantized: Quantized, role: str, q: QParams) -> None:
    """Sums on grids much finer than what they are of, and gates on another grid than the cells know by heart."""
    first, second = LAYERS
    plan = with_grid(quantized.plan, f"{first}.{role}", q)
    graph, after = cells.with_cells(quantized.graph, plan)
    assert "sixteen_bits" not in graph.node(first).attrs
    assert {f"{first}.{role}" for role in cells.UNROUNDED} <= set(after.grids)
    assert graph.node(second).attrs["sixteen_bits"]


def test_a_saturated_sum_stays_at_its_end(fewer: tuple[Graph, Plan]) -> None:
    """Of numbers as large as they may be: the reference says what kernels saturate."""
    most = np.full((3, 1), 32767, np.int16)
    c = cells.CellIntegers(most, most, 32767, 32767, 32767)
    total = np.full((1, 3), 4 * 127 * 127)
    recurrent = cells.recurrent_sums(total, c)
    assert recurrent.tolist() == [[32767] * 3]
    assert cells.gate_index(np.array([[127]]), recurrent[:, :1], c).tolist() == [[127]]
    lowest = cells.CellIntegers(most, -most, 32767, 32767, -32767)
    assert cells.new_index(np.array([[-128]]), np.array([[255]]), -recurrent[:, :1], lowest).tolist() == [[-128]]
