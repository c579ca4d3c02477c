"""The five verbs and their one rounding rule, as laws over any grid and any values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_runtime.stft import Float32Array
from quant.int8.fake_quantize import fake_quantize as in_torch
from quant.int8.fake_quantize import fake_quantize_weight
from quant.int8.qparams import (
    SIGMOID,
    UNIT,
    WEIGHT_LIMIT,
    QParams,
    choose_qparams,
    choose_weight_scales,
    dequantize,
    dequantize_weight,
    fake_quantize,
    quantize,
    quantize_bias,
    quantize_weight,
)

LAWS = settings(max_examples=200, deadline=None)
ALL_INT8 = np.arange(-128, 128).astype(np.int8)
ULP = np.float32(2.0**-23)

scales = st.floats(2.0**-20, 2.0**10, width=32)
grids = st.builds(QParams, scales, st.integers(-128, 127))
ends = st.floats(-1e4, 1e4, width=32)


def values_of(magnitude: float) -> st.SearchStrategy[Float32Array]:
    """Arrays with ties, zeros and values far beyond any grid."""
    return hnp.arrays(
        np.float32, hnp.array_shapes(max_dims=2, max_side=40), elements=st.floats(-magnitude, magnitude, width=32)
    )


# --- quantize, dequantize, fake_quantize --------------------------------------------------------------------------


@given(values_of(2.0**18), grids)
@LAWS
def test_fake_quantize_is_dequantize_of_quantize(values: Float32Array, q: QParams) -> None:
    np.testing.assert_array_equal(fake_quantize(values, q), dequantize(quantize(values, q), q))


@given(values_of(2.0**18), grids)
@LAWS
def test_torch_rounds_as_numpy_does(values: Float32Array, q: QParams) -> None:
    found = in_torch(torch.from_numpy(values), q).numpy()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, fake_quantize(values, q))


@given(grids)
@LAWS
def test_torch_rounds_every_tie_as_numpy_does(q: QParams) -> None:
    """Halfway between any two neighbours, and one ULP beside it."""
    halves = np.arange(-300.5, 300, dtype=np.float32) * np.float32(q.scale)
    values = np.concatenate(
        [halves, np.nextafter(halves, np.float32(np.inf)), np.nextafter(halves, np.float32(-np.inf))]
    )
    np.testing.assert_array_equal(in_torch(torch.from_numpy(values), q).numpy(), fake_quantize(values, q))


@given(grids)
@LAWS
def test_every_grid_point_is_kept(q: QParams) -> None:
    np.testing.assert_array_equal(quantize(dequantize(ALL_INT8, q), q), ALL_INT8)


@given(values_of(2.0**18), grids)
@LAWS
def test_rounding_twice_is_rounding_once(values: Float32Array, q: QParams) -> None:
    once = fake_quantize(values, q)
    np.testing.assert_array_equal(fake_quantize(once, q), once)


@given(grids)
@LAWS
def test_zero_is_exact(q: QParams) -> None:
    assert fake_quantize(np.zeros(1, np.float32), q)[0] == 0
    assert quantize(np.zeros(1, np.float32), q)[0] == q.zero_point


@given(st.floats(-128, 127, width=32), grids)
@LAWS
def test_inside_the_range_the_error_is_at_most_half_a_step(steps: float, q: QParams) -> None:
    value = np.float32((steps - q.zero_point) * q.scale)
    assume(q.low <= value <= q.high)
    error = abs(float(fake_quantize(np.array([value]), q)[0]) - float(value))
    assert error <= q.scale / 2 + 4 * ULP * max(abs(value), q.scale), "half a step, and float32's own rounding"


@given(st.floats(0, 2.0**20, width=32), grids)
@LAWS
def test_beyond_the_range_it_saturates(distance: float, q: QParams) -> None:
    outside = np.array([q.low - distance, q.high + distance], np.float32)
    np.testing.assert_array_equal(quantize(outside, q), np.array([-128, 127], np.int8))


@given(values_of(2.0**18), grids)
@LAWS
def test_order_is_kept(values: Float32Array, q: QParams) -> None:
    ordered = quantize(np.sort(values.ravel()), q)
    assert (np.diff(ordered.astype(int)) >= 0).all()


def test_ties_go_to_even() -> None:
    halves = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], np.float32)
    np.testing.assert_array_equal(quantize(halves, QParams(1.0, 0)), np.array([-2, -2, 0, 0, 2, 2], np.int8))


@pytest.mark.parametrize("values", [[np.inf, 127], [-np.inf, -128]], ids=str)
def test_infinity_saturates(values: list[float]) -> None:
    assert quantize(np.array(values[:1], np.float32), QParams(0.1, 0))[0] == values[1]


# --- grids ------------------------------------------------------------------------------------------------------


@given(ends, ends)
@LAWS
def test_a_chosen_grid_covers_its_range_within_half_a_step(one: float, other: float) -> None:
    low, high = sorted((one, other))
    q = choose_qparams(low, high)
    slack = q.scale * (0.5 + 256 * ULP)
    assert q.low <= min(low, 0) + slack
    assert q.high >= max(high, 0) - slack
    assert q.low <= 0 <= q.high
    assert q.scale == np.float32(q.scale), "every format carries the scale exactly"


@given(ends, ends)
@LAWS
def test_a_chosen_grid_wastes_no_step(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assume(max(high, 0) - min(low, 0) > 1e-5)
    q = choose_qparams(low, high)
    assert 255 * q.scale == pytest.approx(max(high, 0) - min(low, 0), rel=1e-6)


BAD_GRIDS = [(0.0, 0), (-1.0, 0), (float("nan"), 0), (float("inf"), 0), (1.0, 128), (1.0, -129)]


@pytest.mark.parametrize(("scale", "zero_point"), BAD_GRIDS)
def test_an_impossible_grid_is_refused(scale: float, zero_point: int) -> None:
    with pytest.raises(ValueError, match="must"):
        QParams(scale, zero_point)


def test_the_fixed_grids_hold_what_their_functions_give() -> None:
    assert (UNIT.low, UNIT.high) == (-1, 127 / 128)
    assert (SIGMOID.low, SIGMOID.high) == (0, 255 / 256)


# --- weights and biases -----------------------------------------------------------------------------------------

weights = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 3)),
    elements=st.floats(-100, 100, width=32),
)


@given(weights)
@LAWS
def test_weights_use_the_whole_symmetric_grid(weight: Float32Array) -> None:
    scale = choose_weight_scales(weight)
    integers = quantize_weight(weight, scale)
    peaks = np.abs(integers.astype(int)).reshape(len(weight), -1).max(1)
    heard = np.abs(weight).reshape(len(weight), -1).max(1) > 1e-9
    np.testing.assert_array_equal(peaks[heard], WEIGHT_LIMIT)
    assert np.isfinite(scale).all()
    assert (scale > 0).all()


@given(weights)
@LAWS
def test_weights_lose_at_most_half_a_step(weight: Float32Array) -> None:
    scale = choose_weight_scales(weight)
    error = np.abs(dequantize_weight(quantize_weight(weight, scale), scale) - weight)
    assert (error <= scale[:, None, None] * (0.5 + 128 * ULP)).all()


@given(weights)
@LAWS
def test_torch_rounds_weights_as_numpy_does(weight: Float32Array) -> None:
    scale = choose_weight_scales(weight)
    found = fake_quantize_weight(torch.from_numpy(weight), torch.from_numpy(scale)).numpy()
    np.testing.assert_array_equal(found, dequantize_weight(quantize_weight(weight, scale), scale))


def test_a_dead_channel_has_a_scale_and_no_weights() -> None:
    weight = np.zeros((2, 3), np.float32)
    np.testing.assert_array_equal(quantize_weight(weight, choose_weight_scales(weight)), 0)


@given(hnp.arrays(np.float32, 4, elements=st.floats(-10, 10, width=32)), st.floats(2.0**-10, 1, width=32))
@LAWS
def test_a_bias_loses_at_most_half_an_accumulator_unit(bias: Float32Array, input_scale: float) -> None:
    scale = np.array([1e-4, 1e-3, 1e-2, 1e-1], np.float32)
    unit = np.float64(input_scale) * scale.astype(np.float64)
    assert (np.abs(quantize_bias(bias, input_scale, scale) * unit - bias) <= unit / 2 * (1 + 1e-9)).all()


def test_a_bias_beyond_int32_saturates() -> None:
    bias = np.array([1e9, -1e9, 1.0], np.float32)
    found = quantize_bias(bias, 1e-3, np.array([1e-6, 1e-6, 1e-3], np.float32))
    np.testing.assert_array_equal(found, [2**31 - 1, -(2**31), 1_000_000])
