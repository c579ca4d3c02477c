"""Prepared == converted: what trains under fake quantization is the plan it converts to, weights and ranges moved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from edge_runtime.stft import Float32Array
from quant.inputs.trained import slopes_of
from quant.int8.fake_quantize import fake_quantize, plan_tap
from quant.int8.qparams import QParams, choose_qparams
from quant.int8.recipe import RECURRENT, load
from quant.int8.reference import Reference
from quant.network.float_model import FloatModel, States
from quant.network.gtcrn import blank
from quant.network.passes import streaming_graph
from quant.ptq.quantize import Quantized, requantize
from quant.training.prepared import Prepared, _LearnedRange

SEEDS = range(6)


@pytest.fixture(scope="module")
def clip(spectra_3_s: Float32Array) -> torch.Tensor:
    """(1, 2, 40, 257)."""
    return torch.from_numpy(np.ascontiguousarray(spectra_3_s[60:100].transpose(2, 0, 1)))[None]


def moved(quantized: Quantized, seed: int) -> Prepared:
    """A prepared model whose weights and ranges have gone somewhere else, as training leaves them."""
    prepared, draw = Prepared(quantized), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        prepared.log_factors += 0.3 * torch.randn(prepared.log_factors.shape, generator=draw)
        for weight in (p for p in prepared.model.parameters() if p.requires_grad):
            weight *= 1 + 0.1 * torch.randn(weight.shape, generator=draw)
    return prepared


def planned(prepared: Prepared, clip: torch.Tensor) -> tuple[torch.Tensor, States]:
    """What the plan that `prepared` converts to computes, its roundings as a tap."""
    converted = prepared.converted()
    fused = frozenset(n.name for n in converted.graph.nodes if n.kind in RECURRENT) & prepared._fused
    return FloatModel(converted.graph)(clip, tap=plan_tap(converted.graph, converted.plan), fused=fused)


@pytest.mark.parametrize("seed", SEEDS)
def test_prepared_is_what_it_converts_to(quantized: Quantized, clip: torch.Tensor, seed: int) -> None:
    """Bit for bit: training's forward pass, and the plan of the converted weights as a tap."""
    prepared = moved(quantized, seed)
    with torch.no_grad():
        trained, states = prepared(clip)
        enhanced, after = planned(prepared, clip)
    assert torch.equal(trained, enhanced)
    assert all(torch.equal(states[name], after[name]) for name in after)


def test_gates_of_float_states_are_not_rounded_where_they_run_whole(quantized: Quantized, clip: torch.Tensor) -> None:
    """All else is, bit for bit as in the plan; and rounding them makes another output."""
    whole, stepwise = Prepared(quantized, rounds_gates=False), Prepared(quantized)
    assert {n.name for n in quantized.graph.nodes if n.kind == "gru" and quantized.plan.reads_int8(n)} <= whole._fused
    with torch.no_grad():
        (heard, _), (wanted, _), (rounded, _) = whole(clip), planned(whole, clip), stepwise(clip)
    assert torch.equal(heard, wanted)
    assert not torch.equal(heard, rounded)


def test_a_blend_lies_between_the_start_and_what_was_trained(quantized: Quantized, clip: torch.Tensor) -> None:
    """All of the way changes nothing, none is the start, half the mean; and it is what it converts to."""
    far, half, start = (moved(quantized, 0) for _ in range(3))
    trained = far.converted()
    for prepared, share in ((far, 1.0), (half, 0.5), (start, 0.0)):
        prepared.blend(share)
    assert far.converted().plan.grids == trained.plan.grids
    assert start.converted().plan.grids == quantized.plan.grids
    ends, means, starts = (prepared.model.params() for prepared in (far, half, start))
    moved_there = moved(quantized, 0).model.params()
    for name, values in quantized.graph.params.items():
        np.testing.assert_array_equal(ends[name], moved_there[name])
        np.testing.assert_array_equal(starts[name], values)
        np.testing.assert_allclose(means[name], (values + ends[name]) / 2, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        (enhanced, _), (wanted, _) = half(clip), planned(half, clip)
    assert torch.equal(enhanced, wanted)


@pytest.mark.parametrize("seed", SEEDS)
def test_converted_ranges_enter_the_plan_as_measured_ones_do(quantized: Quantized, seed: int) -> None:
    """Weights and ranges through the front door give the plan that was trained."""
    converted = moved(quantized, seed).converted()
    again = requantize(_without_entrances(converted), load("static"), converted.ranges)
    assert again.plan.grids == converted.plan.grids
    assert again.plan.precision == converted.plan.precision
    for name, scales in converted.plan.weight_scales.items():
        np.testing.assert_array_equal(again.plan.weight_scales[name], scales, err_msg=name)
    assert [n.name for n in again.graph.nodes] == [n.name for n in converted.graph.nodes]


def _without_entrances(quantized: Quantized):
    """The graph as a trained file keeps it: weights only, `quantize` nodes are put in again."""
    slopes = slopes_of(quantized.graph)
    graph = streaming_graph(blank())
    nodes = [replace(n, attrs=n.attrs | {"slope": slopes[n.name]}) if n.name in slopes else n for n in graph.nodes]
    return graph.rewritten(nodes, params=quantized.graph.params)


@pytest.mark.parametrize("seed", SEEDS[:2])
def test_the_integer_reference_computes_what_was_trained(quantized: Quantized, clip: torch.Tensor, seed: int) -> None:
    """Free-running: rounding that falls the other way on a float32 sum feeds back, so this is a floor, not equality;
    node by node it is equality (test_reference)."""
    prepared = moved(quantized, seed)
    converted = prepared.converted()
    reference = Reference(converted.graph, converted.plan)
    frames = clip[0].permute(1, 2, 0).numpy()
    integer = np.stack([reference.step(frame) for frame in frames])
    with torch.no_grad():
        trained = prepared(clip)[0][0].permute(1, 2, 0).numpy()
    assert 10 * np.log10((integer**2).sum() / ((integer - trained) ** 2).sum()) > 25


def test_a_fresh_one_changes_nothing(quantized: Quantized) -> None:
    converted = Prepared(quantized).converted()
    assert converted.plan.grids == quantized.plan.grids
    for name, values in quantized.graph.params.items():
        np.testing.assert_array_equal(converted.graph.params[name], values)


def test_the_erb_matrices_are_not_trained_and_all_else_is(quantized: Quantized, clip: torch.Tensor) -> None:
    prepared = Prepared(quantized)
    prepared(clip)[0].square().mean().backward()
    for name in quantized.graph.params:
        weight = prepared.model.weight(name)
        assert weight.requires_grad is not name.startswith("erb."), name
        assert not weight.requires_grad or bool(torch.isfinite(weight.grad).all()), name
    assert (prepared.log_factors.grad != 0).any(1).float().mean() > 0.9, "nearly every range learns"


# --- gradients ----------------------------------------------------------------------------------------------------


@pytest.fixture
def _double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("end", [0, 1], ids=["low", "high"])
@pytest.mark.parametrize("seed", range(4))
def test_the_gradient_of_a_range_is_that_of_what_it_does(seed: int, end: int) -> None:
    """Against a difference quotient in which the rounding is held: the integers stay, scale and clipping move."""
    values = torch.randn(500, generator=torch.Generator().manual_seed(seed)) * 2
    gradient = torch.randn(500, generator=torch.Generator().manual_seed(seed + 100))
    bounds = (-1.5, 2.5)
    q = choose_qparams(*bounds)
    factor = torch.zeros(2, requires_grad=True)
    _LearnedRange.apply(values, factor, q, *bounds).backward(gradient)

    def moved_by(step: float) -> float:
        """Held integers on the stretched grid, values outside on its ends, the residual of the others kept."""
        ends = [b * float(np.exp(step)) if i == end else b for i, b in enumerate(bounds)]
        scale = (ends[1] - ends[0]) / 255
        grid = torch.round(values / q.scale)
        inside = (grid + q.zero_point >= -128) & (grid + q.zero_point <= 127)
        residual = grid - values / q.scale
        y = torch.where(inside, values + residual * scale, torch.where(values > 0, ends[1], ends[0]))
        return float((gradient * y).sum())

    quotient = (moved_by(1e-5) - moved_by(-1e-5)) / 2e-5
    assert float(factor.grad[end]) == pytest.approx(quotient, rel=2e-3, abs=1e-3)


def test_values_outside_get_no_gradient() -> None:
    values = torch.tensor([-5.0, -0.5, 0.0, 0.5, 5.0], requires_grad=True)
    q = QParams(1 / 128, 0)
    y = _LearnedRange.apply(values, torch.zeros(2, requires_grad=True), q, q.low, q.high)
    y.sum().backward()
    assert values.grad.tolist() == [0, 1, 1, 1, 0]
    assert torch.equal(y.detach(), fake_quantize(values.detach(), q))
