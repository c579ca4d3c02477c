"""Post-training techniques: what each changes, that it changes nothing else, and that it does what it says."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as replaced

from calibration.observers import Histogram
from edge_runtime.stft import Float32Array
from quant.emit.onnx.emitter import emit_onnx
from quant.emit.tflite.emitter import emit_tflite
from quant.int8 import recipe
from quant.int8.fake_quantize import plan_tap
from quant.int8.plan import make_plan
from quant.int8.qparams import choose_qparams, choose_weight_scales, quantize_weight
from quant.network import sizes
from quant.network.float_model import FloatModel
from quant.network.graph import Graph, Node
from quant.network.gtcrn import gtcrn
from quant.network.passes import streaming_graph
from quant.network.spectra import analyse
from quant.ptq import loss_aware, quantize
from quant.ptq.adaptive_rounding import choose_rounding, input_grams, round_weights
from quant.ptq.bias_correction import correct_biases, correctable
from quant.ptq.loss_aware import candidates, choose, compressed_distance
from quant.ptq.quantize import CalibrationSet, Quantized
from quant.training.runs import initial_params

RECURRENT = ("gru", "bigru")
N_CLIPS, N_SAMPLES = 2, 16_000


@pytest.fixture(scope="module")
def clips(calibration: CalibrationSet) -> Float32Array:
    """(2, 16000): enough for laws, which hold on any clips."""
    return calibration.noisy[:N_CLIPS, :N_SAMPLES]


@pytest.fixture(scope="module", params=["quantized", "everything"])
def case(request: pytest.FixtureRequest) -> Quantized:
    """The default recipe, and all that can be int8 in int8."""
    found: Quantized = request.getfixturevalue(request.param)
    return found


def layers(q: Quantized) -> list[Node]:
    """The nodes that multiply in 8 bits."""
    return [n for n in q.graph.nodes if n.kind in ("conv", *RECURRENT) and q.plan.reads_int8(n)]


class Seen(Exception):
    """The rest of the network is not asked for."""


def sums(
    graph: Graph, q: Quantized, clips: Float32Array, *, rounded: bool, last: Node | None = None
) -> dict[str, torch.Tensor]:
    """The sum of products and bias of each 8-bit layer, up to the `last`, before it is rounded, channels last."""
    taps = {f"{n.name}.gates_x" if n.kind in RECURRENT else n.name: n for n in layers(q)}
    plan, seen = plan_tap(graph, q.plan), dict[str, torch.Tensor]()

    def tap(name: str, value: torch.Tensor) -> torch.Tensor:
        if name in taps:
            seen[taps[name].name] = value if taps[name].kind in RECURRENT else value.movedim(1, -1)
            if taps[name] is last:
                raise Seen
        return plan(name, value) if rounded else value

    with torch.no_grad(), suppress(Seen):
        FloatModel(graph)(torch.from_numpy(analyse(clips, graph.window)), tap=tap)
    return seen


def changed(before: Graph, after: Graph) -> set[str]:
    """Parameters that are not what they were."""
    return {name for name in before.params if not np.array_equal(before.params[name], after.params[name])}


# --- adaptive rounding ----------------------------------------------------------------------------------------------


def output_error(weight: Float32Array, integers: np.ndarray, scales: Float32Array, grams: np.ndarray) -> np.ndarray:
    """(outputs,) squared error on the inputs behind the Gram matrices."""
    off = (integers * scales.reshape(-1, *[1] * (weight.ndim - 1)).astype(np.float64) - weight).reshape(len(weight), -1)
    return np.array([d @ grams[i * len(grams) // len(off)] @ d for i, d in enumerate(off)])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 10))
def test_rounding_is_never_worse_than_nearest_and_often_the_best_there_is(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(64, n)) @ rng.normal(size=(n, n)) + rng.normal(size=n)
    gram = (inputs.T @ inputs)[None]
    weight = rng.normal(size=(4, n)).astype(np.float32)
    scales = choose_weight_scales(weight) * 8  # coarse, so that up or down matters
    chosen = choose_rounding(weight, scales, gram)
    found = output_error(weight, chosen, scales, gram)
    assert (found <= output_error(weight, quantize_weight(weight, scales), scales, gram) * (1 + 1e-6)).all()
    steps = weight / scales[:, None]
    assert (np.abs(chosen - steps) < 1 + 1e-4).all(), "up or down, no further"
    if n <= 2:  # single flips and pairs reach every choice
        every = [np.floor(steps) + np.array(bits) for bits in np.ndindex(*[2] * n)]
        best = np.min([output_error(weight, q, scales, gram) for q in every], 0)
        assert found == pytest.approx(best, rel=1e-5, abs=1e-9)


def test_inputs_without_correlation_are_rounded_to_nearest() -> None:
    weight = np.random.default_rng(0).normal(size=(8, 5, 1, 3)).astype(np.float32)
    scales = choose_weight_scales(weight)
    chosen = choose_rounding(weight, scales, np.eye(15)[None])
    assert np.array_equal(chosen, quantize_weight(weight, scales))


def test_gram_matrices_tell_what_a_change_of_weights_does_to_the_output(case: Quantized, clips: Float32Array) -> None:
    """Strides, dilations, groups, states, both directions of a GRU: all of it is in the matrices, or this fails."""
    clips = clips[:, :6_400]  # it runs once a layer
    grams, rng = input_grams(case.graph, case.plan, clips), np.random.default_rng(0)
    reference = sums(case.graph, case, clips, rounded=True)
    for node in layers(case):
        names = node.params["weight_ih" if node.kind in RECURRENT else "weight"]
        params, expected = dict(case.graph.params), 0.0
        for name in names:
            scales = case.plan.weight_scales[name]
            integers = np.clip(quantize_weight(params[name], scales), -126, 126)
            shaped = scales.reshape(-1, *[1] * (params[name].ndim - 1))
            moved = (integers + rng.integers(-1, 2, integers.shape)).astype(np.float32) * shaped
            before = quantize_weight(params[name], scales) * shaped.astype(np.float64)
            expected += output_error(before, quantize_weight(moved, scales), scales, grams[name]).sum()
            params[name] = moved
        other = sums(replace(case.graph, params=params), case, clips, rounded=True, last=node)
        found = float(((other[node.name] - reference[node.name]).double() ** 2).sum())
        assert found == pytest.approx(expected, rel=1e-3), node.name


def test_rounded_weights_lie_on_the_grids_that_a_plan_gives_them(case: Quantized, clips: Float32Array) -> None:
    rounded = round_weights(case.graph, case.plan, clips)
    assert changed(case.graph, rounded) <= set(case.plan.weight_scales), "weights alone"
    assert set(input_grams(case.graph, case.plan, clips)) == set(case.plan.weight_scales), "every one of them"
    again = make_plan(rounded, case.plan.precision, case.ranges)
    grams = input_grams(case.graph, case.plan, clips)
    for name, scales in case.plan.weight_scales.items():
        integers, weight = quantize_weight(rounded.params[name], scales), case.graph.params[name]
        chosen = choose_rounding(weight, scales, grams[name])
        assert np.array_equal(integers, chosen), name
        assert np.array_equal(quantize_weight(rounded.params[name], again.weight_scales[name]), chosen), name
        nearest = output_error(weight, quantize_weight(weight, scales), scales, grams[name])
        assert (output_error(weight, chosen, scales, grams[name]) <= nearest * (1 + 1e-6)).all(), name
    assert again.grids == case.plan.grids


# --- bias correction ------------------------------------------------------------------------------------------------


def test_corrected_layers_have_the_means_of_float(case: Quantized, clips: Float32Array) -> None:
    """Exactly so in the first layer. Later ones read values that the rounding of biases has moved a little, and an int8
    GRU makes much of little: there the errors shrink, tenfold where no GRU state is int8."""
    corrected = correct_biases(case.graph, case.plan, clips)
    exact, after = sums(case.graph, case, clips, rounded=False), sums(corrected, case, clips, rounded=True)
    before = sums(case.graph, case, clips, rounded=True)

    def error(found: dict[str, torch.Tensor], name: str) -> float:
        axes = tuple(range(found[name].dim() - 1))
        off = found[name].double().mean(axes) - exact[name].double().mean(axes)
        return float((off.abs() / exact[name].std()).max())

    names = [node.name for node in correctable(case.graph, case.plan)]
    # A bias lies on its accumulator's grid, so half a step there stays: 1.5e-4 of a standard deviation was measured.
    assert error(after, names[0]) < 5e-4 < error(before, names[0])
    float_states = all(case.plan.precision[n.name] != "int8" for n in case.graph.nodes if n.kind == "gru")
    left = np.mean([error(after, name) for name in names]) / np.mean([error(before, name) for name in names])
    assert left < (0.1 if float_states else 0.5)


def test_only_biases_of_8_bit_layers_move(case: Quantized, clips: Float32Array) -> None:
    moved = changed(case.graph, correct_biases(case.graph, case.plan, clips))
    layers_but_mask = [n for n in layers(case) if not n.name.startswith("decoder.de_convs.4.")]
    assert len(layers_but_mask) == len(layers(case)) - 1
    biases = {name for n in layers_but_mask for name in n.params["bias_ih" if n.kind in RECURRENT else "bias"]}
    assert moved == biases


# --- loss-aware ranges ----------------------------------------------------------------------------------------------


def test_the_distance_of_spectra_is_a_distance() -> None:
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.randn(3, 2, 5, 257, generator=draw) for _ in range(2))
    assert float(compressed_distance(a, a).max()) == 0
    assert torch.allclose(compressed_distance(a, b), compressed_distance(b, a))
    assert compressed_distance(a, b).shape == (3,)
    assert (compressed_distance(a, a + 0.01 * b) < compressed_distance(a, a + 0.1 * b)).all()
    quiet, loud = compressed_distance(a / 100, b / 100), compressed_distance(a, b)
    assert (loud / quiet).mean() == pytest.approx(100**0.6, rel=0.01), "compressed: 40 dB are 12 dB"


def test_candidates_hold_the_recipe_s_own_range_and_the_extremes() -> None:
    histogram = Histogram()
    histogram.observe(np.random.default_rng(0).standard_t(3, 100_000).astype(np.float32))
    ranges = candidates(histogram, 99.99)
    assert [r.high for r in ranges] == sorted({r.high for r in ranges}), "each once, widest last"
    assert (ranges[-1].low, ranges[-1].high) == (histogram.min, histogram.max)
    assert histogram.below(99.99) in [r.high for r in ranges]


def test_a_constant_has_one_candidate() -> None:
    histogram = Histogram()
    histogram.observe(np.ones(100, np.float32))
    assert len(candidates(histogram, 99.99)) == 1


def test_the_range_that_hurts_least_is_chosen(quantized: Quantized, clips: Float32Array) -> None:
    taps = ["encoder.en_convs.2.point_bn1", "decoder.de_convs.3.bn.phases", "dpgrnn1.intra_rnn.gates_x"]
    own = {tap: quantized.ranges.values[tap] for tap in taps}
    absurd = {tap: [replaced(r, low=r.low * f, high=r.high * f) for f in (0.01, 1.0, 100.0)] for tap, r in own.items()}
    assert choose(quantized.graph, absurd, clips) == own


# --- in a recipe ----------------------------------------------------------------------------------------------------

SETTINGS: dict[str, Callable[[recipe.Recipe], recipe.Recipe]] = {
    "rounding": lambda r: replaced(r, adaptive_rounding=True),
    "bias": lambda r: replaced(r, bias_correction=True),
    "both": lambda r: replaced(r, adaptive_rounding=True, bias_correction=True),
    "loss-aware": lambda r: replaced(r, observer="loss_aware"),
}


@pytest.fixture(scope="module")
def few(calibration: CalibrationSet) -> CalibrationSet:
    return replace(calibration, clips=calibration.clips[:1])


@pytest.fixture(scope="module")
def small() -> Graph:
    """What reaches this network's models reaches any's."""
    config = sizes.parse_line("channels=8,dpgrnn=1,dilations=1,2")
    return streaming_graph(gtcrn(initial_params(1, config), config))


@pytest.fixture(scope="module")
def without(small: Graph, few: CalibrationSet) -> Quantized:
    """No technique."""
    return quantize.quantize(small, recipe.load("static"), few, "0" * 64)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_recipe_s_technique_reaches_the_models_and_the_same_inputs_give_the_same_bytes(
    name: str, small: Graph, few: CalibrationSet, without: Quantized, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_aware, "LOSS_SAMPLES", 4_000)
    plain = recipe.load("static")
    made = [quantize.quantize(small, SETTINGS[name](plain), few, "0" * 64) for _ in range(2)]
    for emit in (emit_onnx, emit_tflite):
        first, second, other = (emit(q.graph, q.plan).data for q in (*made, without))
        assert first == second
        assert first != other
    chosen = SETTINGS[name](plain)
    again = quantize.refine(quantize.requantize(small, chosen, made[0].ranges, "0" * 64), chosen, few)
    assert emit_tflite(again.graph, again.plan).data == emit_tflite(made[0].graph, made[0].plan).data
    for tap, r in made[0].ranges.values.items():
        assert made[0].plan.grids[tap] == choose_qparams(r.low, r.high), "the ranges kept are those planned with"
