"""Recurrent layers over time in 16 bits: how near to float they stay, and which layers are computed so."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from defaults import native_default
from numpy.typing import NDArray

from quant.int8 import cells_over_time
from quant.int8.plan import ENTRANCE, Plan
from quant.int8.qparams import UNIT, QParams
from quant.int8.roundings import with_fewer_roundings
from quant.network.graph import Graph
from quant.ptq.quantize import Quantized

Values = NDArray[Any]
LAYER = "dpgrnn1.inter_rnn"
TABLE = cells_over_time.tables()
Q14 = 1 << 14


def float_step(x: Values, recurrent: Values, h: Values) -> Values:
    reset, update, new = np.split(x.astype(np.float64), 3, 1)
    r, z, m = np.split(recurrent.astype(np.float64), 3, 1)
    made = np.tanh(new + m / (1 + np.exp(-reset - r)))
    return made + (h - made) / (1 + np.exp(-update - z))


def drawn(n_rows: int, scale: float) -> tuple[Values, Values, Values]:
    rng = np.random.default_rng(7)
    x, recurrent = (rng.normal(0, scale, (n_rows, 48)).astype(np.float32) for _ in range(2))
    return x, recurrent, rng.integers(-Q14 + 64, Q14 - 64, (n_rows, 16))


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_a_step_is_the_float_cells_but_for_its_tables(scale: float) -> None:
    """Half a 20th of a sum is a 160th of a gate at most, half a 40th an 80th of a tanh; entries are a 512th off."""
    x, recurrent, h = drawn(4000, scale)
    made = cells_over_time.next_state(x, recurrent, h, TABLE) / Q14
    off = made - float_step(x, recurrent, h / Q14)
    gate = 1 / 160 + 1 / 512
    assert (np.abs(off) / (gate * (np.abs(recurrent[:, 32:]) + 2) + 1 / 80 + 1 / 512 + 1e-4)).max() < 1
    assert np.sqrt((off**2).mean()) < 0.006
    assert abs(off.mean()) < 5e-4


def test_both_halves_of_a_curve_are_one() -> None:
    """An entry is what is nearest, and at the middle, which its byte does not hold, a 512th below a half."""
    at = np.arange(128)
    off = TABLE[:128] / 512 - 1 / (1 + np.exp(at / 20))
    assert off[0] == -1 / 512
    assert np.abs(off[1:]).max() <= 1 / 1024
    assert np.abs(TABLE[128:] / 256 - np.tanh(at / 40)).max() <= 1 / 256
    assert (TABLE[127], TABLE[255]) == (1, 255), "no code is left beyond"


@pytest.mark.parametrize("update", [2.0, 4.0, 5.5])
def test_a_state_follows_what_changes_slowly(update: float) -> None:
    """An update gate next to 1 lets through little of a step: in 8 bits nothing, here all of it in the end."""
    x, recurrent = np.zeros((1, 48), np.float32), np.zeros((1, 48), np.float32)
    x[:, 16:32], x[:, 32:] = update, 0.5
    h, wanted = np.zeros((1, 16), np.int64), np.zeros((1, 16))
    for _ in range(4000):
        h = cells_over_time.next_state(x, recurrent, h, TABLE).astype(np.int64)
        wanted = float_step(x, recurrent, wanted)
    assert np.abs(h / Q14 - wanted).max() <= 1 / 64


def test_states_stay_within_their_bits_whatever_comes() -> None:
    rng = np.random.default_rng(8)
    h = np.zeros((33, 16), np.int64)
    for scale in [1.0, 1e3, 1e6, 1e30] * 20:
        x, recurrent = (rng.normal(0, scale, (33, 48)).astype(np.float32) for _ in range(2))
        h = cells_over_time.next_state(x, recurrent, h, TABLE).astype(np.int64)
        assert np.abs(h).max() <= Q14
        assert np.array_equal(cells_over_time.as_bytes(h), np.clip(np.floor(h / 128 + 0.5), -128, 127))


@pytest.mark.parametrize("network", ["gtcrn", "ul-unas"])
def test_every_layer_over_many_bands_of_the_defaults_is_computed_so(network: str) -> None:
    graph, plan = native_default(network)
    layers = [n.name for n in graph.nodes if n.kind == "gru" and n.attrs.get("sixteen_bits")]
    assert layers == [n.name for n in graph.nodes if n.kind == "gru" and graph.shapes[n.name].bands > 1]
    assert len(layers) == 2
    for name in layers:
        assert plan.precision[name] == "int8"
        assert plan.grids[name] == UNIT
        assert name + ENTRANCE not in plan.grids
        assert all(r.kind == "conv" for r in graph.consumers(name))


def other_grid(graph: Graph, plan: Plan) -> tuple[Graph, Plan]:
    return graph, replace(plan, grids={**plan.grids, f"{LAYER}.state": QParams(1 / 64, 0)})


def read_in_float(graph: Graph, plan: Plan) -> tuple[Graph, Plan]:
    nodes = [replace(n, inputs=(LAYER, LAYER)) if n.name == "dpgrnn1.inter_out" else n for n in graph.nodes]
    return graph.rewritten(nodes), plan


def padded(graph: Graph, plan: Plan) -> tuple[Graph, Plan]:
    nodes = [
        replace(n, attrs={**n.attrs, "pad": 1}) if n.inputs[0] == LAYER + ENTRANCE and n.kind == "conv" else n
        for n in graph.nodes
    ]
    return graph.rewritten(nodes), plan


@pytest.mark.parametrize("changed", [other_grid, read_in_float, padded])
def test_a_layer_that_others_read_otherwise_keeps_its_float_state(quantized: Quantized, changed: Any) -> None:
    graph, plan = with_fewer_roundings(*changed(quantized.graph, quantized.plan))
    assert "sixteen_bits" not in graph.node(LAYER).attrs
    assert plan.precision[LAYER] == "mixed"
    assert graph.node("dpgrnn2.inter_rnn").attrs["sixteen_bits"]
