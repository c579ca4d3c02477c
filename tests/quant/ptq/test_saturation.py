"""Ranges end where the curve behind them saturates, at a recipe's floors, and by a percentile of their own."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from random_networks import random_network

from calibration.mixing import Mix
from calibration.observers import Histogram
from calibration.ranges import Provenance, Ranges, TapRange
from quant.int8 import recipe
from quant.int8.plan import int8_taps, prepare
from quant.int8.recipe import Floor, Recipe, Rule, Tail
from quant.network.graph import Graph
from quant.network.passes import streaming_graph
from quant.ptq import calibrate, saturation

WIDE = TapRange(-100.0, 50.0, 1, -100.0, 50.0)
PROVENANCE = Provenance("percentile", Mix(), "", "", "")


@pytest.fixture(scope="module")
def graph() -> Graph:
    return streaming_graph(random_network("ul-unas"))


def cut(graph: Graph, chosen: Recipe, **ranges: TapRange) -> dict[str, TapRange]:
    """What is left of `WIDE` ranges, but for those given."""
    prepared, precision = prepare(graph, chosen)
    values = {**dict.fromkeys(int8_taps(prepared, precision), WIDE), **ranges}
    return saturation.limited(prepared, precision, Ranges(values, PROVENANCE), chosen).values


def test_ranges_end_at_the_knee_of_the_only_reader(graph: Graph) -> None:
    found = cut(graph, recipe.load("ul-unas"))
    for tap in ("encoder.en_convs.0.ops.4.ta_fc", "encoder.en_convs.0.ops.4.fa.fc", "decoder.de_convs.4.ops.4"):
        assert (found[tap].low, found[tap].high) == (-8, 8), tap
    assert (found["encoder.en_convs.0.ops.2"].low, found["encoder.en_convs.0.ops.2"].high) == (-100, 50), "no curve"


def test_a_gate_ends_where_the_other_cannot_bring_it_back(graph: Graph) -> None:
    gru = "encoder.en_convs.0.ops.4.ta_gru"
    small = TapRange(-2.0, 1.0, 1, -2.0, 1.0)
    found = cut(graph, recipe.load("ul-unas"), **{f"{gru}.gates_h": small})
    assert (found[f"{gru}.gates_x"].low, found[f"{gru}.gates_x"].high) == (-10, 10)
    assert found[f"{gru}.gates_h"] == small
    intra = "dpgrnn.0.intra_rnn"
    assert (found[f"{intra}.reset_update_sum"].low, found[f"{intra}.new_sum"].high) == (-8, 4)


def test_without_being_asked_nothing_is_cut(graph: Graph) -> None:
    plain = Recipe("plain", (Rule("*", "int8", "all of it"),))
    assert set(cut(graph, plain).values()) == {WIDE}


def test_floors_cut_the_low_end_alone(graph: Graph) -> None:
    floored = Recipe("floored", (Rule("*", "int8", "all"),), floors=(Floor("erb.bands.q8", -16.0, "silence"),))
    found = cut(graph, floored)["erb.bands.q8"]
    assert (found.low, found.high) == (-16, 50)


def test_what_a_floor_cuts_off_is_not_heard_behind_it(graph: Graph) -> None:
    chosen = recipe.load("ul-unas")
    prepared, precision = prepare(graph, chosen)
    taps, silence = int8_taps(prepared, precision), np.zeros((1, 16_000), np.float32)
    floors = {floor.tap: floor.low for floor in chosen.floors}
    heard, cut_off = (calibrate.observe(prepared, taps, silence, 1024, f) for f in ({}, floors))
    assert heard["erb.bands.q8"].min < -60
    first = "encoder.en_convs.0.ops.2"
    assert cut_off[first].peak < heard[first].peak
    peaks = [calibrate.observe_channels(graph, [first], silence, 1024, 99.9, f)[first] for f in ({}, floors)]
    assert peaks[1].mean() < peaks[0].mean(), "nor by the peaks that scales are migrated by"


def test_what_the_last_of_16_bits_leaves_in_every_band_is_heard(graph: Graph) -> None:
    """A recording that was cut off below the highest bands has nothing but that in them."""
    chosen = recipe.load("ul-unas")
    bits = np.random.default_rng(0).integers(-1, 2, (1, 16_000)).astype(np.float32) / 32768
    seen: dict[str, float] = {}

    def tap(name: str, value: torch.Tensor) -> torch.Tensor:
        seen[name] = float(np.quantile(value.numpy(), 0.02))
        return value

    calibrate.run_tapped(graph, bits, 1024, tap)
    lows = {floor.tap.removesuffix(".q8"): floor.low for floor in chosen.floors}
    assert {name: seen[name] > low for name, low in lows.items()} == {"features": True, "erb.bands": True}


def test_a_percentile_of_its_own(graph: Graph) -> None:
    histogram = Histogram()
    histogram.observe(np.linspace(0, 1, 10_001, dtype=np.float32))
    tailed = Recipe("tailed", (Rule("*", "int8", "all"),), percentile=100.0, tails=(Tail("*.energy", 90.0, "rare"),))
    found = calibrate.choose_ranges({"a.energy": histogram, "a": histogram}, tailed, PROVENANCE, {}).values
    assert found["a.energy"].high == pytest.approx(0.9, abs=0.001)
    assert found["a"].high == 1
    assert msgspec.structs.asdict(found["a"])["max"] == 1
