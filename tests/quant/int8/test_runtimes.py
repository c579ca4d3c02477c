"""The plan as ONNX and TFLite compute it: the same network in float, fewer roundings in 8 bits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from calibration.corpus import Corpus
from calibration.mixing import Mix, mixtures
from edge_runtime.engines.golden import snr_db
from quant.inputs.source import open_source
from quant.int8.fake_quantize import plan_tap
from quant.int8.plan import Plan
from quant.int8.runtimes import for_onnx, for_tflite, with_float_grus
from quant.network.float_model import FloatModel
from quant.network.graph import Graph
from quant.network.spectra import analyse
from quant.ptq.quantize import Quantized, requantize

Lower = Callable[[Graph, Plan], tuple[Graph, Plan]]
LOWERED = {"onnx": for_onnx, "tflite": for_tflite}


def enhanced(graph: Graph, spectra: torch.Tensor, plan: Plan | None = None) -> np.ndarray:
    """Spectra through the float model, rounded where there is a plan."""
    with torch.no_grad():
        y, _ = FloatModel(graph)(spectra, **({} if plan is None else {"tap": plan_tap(graph, plan)}))
    return np.asarray(y)


@pytest.mark.parametrize("runtime", LOWERED)
def test_in_float_it_is_the_same_network(runtime: str, ulunas_quantized: Quantized) -> None:
    q, spectra = ulunas_quantized, torch.randn(1, 2, 6, 257, generator=torch.Generator().manual_seed(0))
    lowered, _ = LOWERED[runtime](q.graph, q.plan)
    np.testing.assert_allclose(enhanced(lowered, spectra), enhanced(q.graph, spectra), atol=1e-5)


@pytest.mark.parametrize("runtime", LOWERED)
def test_two_gates_are_one_8_bit_product(runtime: str, ulunas_quantized: Quantized) -> None:
    """Of a value and the float product of its gates, on a grid that holds the largest of either."""
    q = ulunas_quantized
    lowered, plan = LOWERED[runtime](q.graph, q.plan)
    pairs = [(q.graph.node(n.inputs[0]), n) for n in q.graph.nodes if n.kind == "band_gate"]
    assert len(pairs) == 10, "one a block"
    for first, second in pairs:
        gates, gated = lowered.node(first.name), lowered.node(second.name)
        assert gated.inputs == (first.inputs[0], f"{first.name}.q8")
        assert (plan.precision[gates.name], plan.precision[gated.name]) == ("float", "int8")
        assert plan.grids[gated.name] == q.plan.grids[gated.name]
        largest = q.plan.grids[first.inputs[1]].high * q.plan.grids[second.inputs[1]].high
        assert plan.grids[gated.inputs[1]].high == pytest.approx(largest)


@pytest.mark.parametrize("runtime", LOWERED)
def test_the_convolution_of_logarithms_is_float_and_its_result_on_the_grid_of_the_plan(
    runtime: str, ulunas_quantized: Quantized
) -> None:
    q = ulunas_quantized
    lowered, plan = LOWERED[runtime](q.graph, q.plan)
    (wide,) = (n for n in lowered.nodes if n.inputs == ("erb.bands",))
    assert (wide.kind, plan.precision[wide.name]) == ("conv", "float")
    assert plan.grids[f"{wide.name}.q8"] == q.plan.grids[wide.name]
    assert "erb.bands.q8" not in lowered.shapes


@pytest.mark.parametrize("runtime", LOWERED)
def test_it_lies_nearer_to_float_than_with_every_rounding(runtime: str, pulled: tuple[Corpus, Corpus]) -> None:
    """The embedded default on two mixtures: of 12 in fours, 2.5 to 8 dB on two fours, -0.1 and 0.4 on the third."""
    source = open_source(None, None, network="ul-unas")
    assert source.ranges is not None
    q = requantize(source.graph, source.recipe, source.ranges)
    clips = np.stack([clip.noisy for clip in mixtures(*pulled, Mix(n_clips=2, clip_ms=2000, seed=4))])
    spectra = torch.from_numpy(analyse(clips, source.graph.window))
    exact = enhanced(q.graph, spectra)
    every = (lambda graph, plan: (graph, plan)) if runtime == "tflite" else with_float_grus
    before, after = (enhanced(*_with_spectra(lower(q.graph, q.plan), spectra)) for lower in (every, LOWERED[runtime]))
    assert snr_db(exact, after) > snr_db(exact, before)


def _with_spectra(lowered: tuple[Graph, Plan], spectra: torch.Tensor) -> tuple[Graph, torch.Tensor, Plan]:
    return lowered[0], spectra, lowered[1]


def test_gtcrn_has_nothing_of_it(quantized: Quantized) -> None:
    q = quantized
    assert for_tflite(q.graph, q.plan) == (q.graph, q.plan)
    lowered, plan = for_onnx(q.graph, q.plan)
    wanted, of_grus = with_float_grus(q.graph, q.plan)
    assert (lowered.nodes, plan.precision, plan.grids) == (wanted.nodes, of_grus.precision, of_grus.grids)
