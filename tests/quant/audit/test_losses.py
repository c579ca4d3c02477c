"""The waterfall of the error: the parts add up to what the plan costs at the output, block by block."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge_runtime.stft import Float32Array
from quant.audit import accuracy, blocks
from quant.audit.losses import WEIGHTS, losses
from quant.inputs.source import Inputs, read
from quant.int8.plan import Plan
from quant.network.graph import Graph
from quant.ptq import quantize


@pytest.fixture(scope="module")
def made() -> tuple[Graph, Plan, Float32Array]:
    """The trained default, and half a second of each of its sounds."""
    source = read(Inputs())
    assert source.noisy is not None
    assert source.ranges is not None
    quantized = quantize.requantize(source.graph, source.recipe, source.ranges)
    return quantized.graph, quantized.plan, source.noisy[:, :8000]


def test_the_parts_add_up_to_the_error_of_the_output(made: tuple[Graph, Plan, Float32Array]) -> None:
    graph, plan, clips = made
    found = losses(graph, plan, clips)
    rows, _ = accuracy.study(graph, plan, clips)
    whole_db = next(row.cumulative_sqnr_db for row in rows if row.tap == "enhanced")
    # A batch sums in another order: a rounding that falls the other way moves the total by hundredths of a dB.
    assert -10 * math.log10(sum(part.noise for part in found)) == pytest.approx(whole_db, abs=0.05)


def test_steps_are_the_weights_and_then_the_rounded_blocks_in_order(made: tuple[Graph, Plan, Float32Array]) -> None:
    graph, plan, clips = made
    steps = [part.block for part in losses(graph, plan, clips[:1])]
    order = list(dict.fromkeys(blocks.block_of(node.name) for node in graph.nodes))
    rounded = {blocks.block_of(tap) for tap in plan.grids}
    assert steps == [WEIGHTS, *(block for block in order if block in rounded)]


def test_a_plan_that_rounds_nothing_loses_nothing(made: tuple[Graph, Plan, Float32Array]) -> None:
    graph, _, clips = made
    nothing = Plan(dict.fromkeys((n.name for n in graph.nodes), "float"), {}, {})
    (part,) = losses(graph, nothing, clips[:1])
    assert part.block == WEIGHTS
    assert abs(part.noise) < 1e-12, "float32 sums in another order, no more"


NAMES = [
    (["encoder.en_convs.2.tra.att_gru"], {"encoder.en_convs.2": "encoder 2"}),
    (["dpgrnn1.intra_rnn", "dpgrnn1.inter_fc"], {"dpgrnn1": "DPGRNN 1"}),
    (["dpgrnn.0.intra", "dpgrnn.1.intra"], {"dpgrnn.0": "DPGRNN 0", "dpgrnn.1": "DPGRNN 1"}),
    (["erb.bands", "erb.mask", "enhanced"], {"erb.bands": "ERB bands", "erb.mask": "ERB mask", "enhanced": "enhanced"}),
    (
        ["decoder.skips.0", "decoder.de_convs.0.a", "decoder.de_convs.0.b", "decoder.mask"],
        {"decoder.skips.0": "decoder skips 0", "decoder.de_convs.0": "decoder 0", "decoder.mask": "decoder mask"},
    ),
]


@pytest.mark.parametrize(("names", "titles"), NAMES)
def test_blocks_are_read_off_the_names_of_layers(names: list[str], titles: dict[str, str]) -> None:
    assert blocks.titles(names) == titles


def test_noise_is_counted_as_energy(made: tuple[Graph, Plan, Float32Array]) -> None:
    graph, plan, clips = made
    one, both = losses(graph, plan, clips[:1]), losses(graph, plan, np.concatenate([clips[:1], clips[:1]]))
    assert [part.noise for part in both] == pytest.approx([part.noise for part in one], rel=1e-6)
