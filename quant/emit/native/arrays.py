"""Weights and biases as the arrays that the engine's operations read."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import Failure
from edge_runtime.stft import Float32Array
from quant.emit.native.file import HALF, MOST_BIAS, Array
from quant.int8 import block_floats
from quant.int8.qparams import QParams, multiplier, quantize_bias, quantize_weight
from quant.int8.sixteen_bits import AffineIntegers

MOST_SHORT = (1 << 15) - 1  # of 16 bits


def halves(values: Float32Array, half: bool) -> Array:
    """As stored: two bytes a number, or four."""
    return values.astype("<f2" if half else "<f4")


def floats(weight: Float32Array, bias: Float32Array, *, half: bool = False) -> dict[str, Array | int]:
    """(out, in, tap) -> arrays of `conv`: [tap][in][out], outputs padded to fours."""
    n_out, n_in, taps = weight.shape
    pad = -n_out % 4
    laid = np.pad(weight, ((0, pad), (0, 0), (0, 0))).transpose(2, 1, 0)
    return {
        "weight": np.ascontiguousarray(halves(laid, half)),
        "bias": np.pad(bias, (0, pad)),
        "n_in": n_in,
        "n_out": n_out,
        "taps": taps,
        **({"flags": HALF} if half else {}),
    }


def integers(
    name: str, weight: Float32Array, bias: Float32Array, scales: Float32Array, source: QParams, target: QParams | None
) -> dict[str, Array | int]:
    """(out, in, tap) -> arrays of `conv_i8`: [tap][in / 4][out][in % 4], inputs and outputs padded to fours. Without a
    target the results are real numbers."""
    n_out, n_in, taps = weight.shape
    pad, pad_in = -n_out % 4, -n_in % 4
    w = quantize_weight(weight, scales)
    laid = np.pad(w, ((0, pad), (0, pad_in), (0, 0))).reshape(n_out + pad, -1, 4, taps).transpose(3, 1, 0, 2)
    return {
        "weight": np.ascontiguousarray(laid),
        "bias": np.pad(folded_bias(name, bias, w, scales, source), (0, pad)),
        "scale": np.pad(scale_of(scales, source, target), (0, pad)),
        "n_in": n_in,
        "n_out": n_out,
        "taps": taps,
    }


def shorts(weight: Float32Array, bias: Float32Array, *, one_tap: bool = False) -> dict[str, Array | int]:
    """(out, in, tap) -> arrays of `conv_i16`: [tap][in / 2][out][in % 2], outputs padded to fours.

    `one_tap`: inputs of all taps as those of one, padded to fours.
    """
    w, scales = block_floats.integers(weight)
    if one_tap:
        w = w.transpose(0, 2, 1).reshape(len(w), -1, 1)
        w = np.pad(w, ((0, 0), (0, -w.shape[1] % 4), (0, 0)))
    (n_out, n_in, taps), pad = w.shape, -len(w) % 4
    laid = np.pad(w, ((0, pad), (0, 0), (0, 0))).reshape(n_out + pad, n_in // 2, 2, taps).transpose(3, 1, 0, 2)
    arrays = {"weight": laid.astype("<i2"), "bias": np.pad(bias, (0, pad)), "scale": np.pad(scales, (0, pad))}
    return {**arrays, "n_in": n_in, "n_out": n_out, "taps": taps}


def depth_floats(weight: Float32Array, bias: Float32Array, n_phases: int = 1) -> dict[str, Array]:
    """(phase and channel, 1, time, band) -> arrays of `depth` and `resample`: [phase][time][band][channel]."""
    return {"weight": by_phase(weight, n_phases), "bias": np.ascontiguousarray(bias)}


def depth_integers(
    name: str,
    weight: Float32Array,
    bias: Float32Array,
    scales: Float32Array,
    source: QParams,
    target: QParams | None,
    n_phases: int = 1,
) -> dict[str, Array]:
    """The same for `depth_i8` and `resample_i8`."""
    w = quantize_weight(weight, scales)
    return {
        "weight": by_phase(w, n_phases),
        "bias": folded_bias(name, bias, w, scales, source),
        "scale": scale_of(scales, source, target),
    }


def scale_of(scales: Float32Array, source: QParams, target: QParams | None) -> Float32Array:
    """What takes a channel's sums to steps of the target, or to real numbers."""
    units = np.float64(source.scale) * scales
    made: Float32Array = multiplier(units, target) if target else units.astype(np.float32)
    return made


def by_phase(weight: Array, n_phases: int) -> Array:
    """(phase and channel, 1, time, band) -> (phase, time, band, channel)."""
    split = weight[:, 0].reshape(n_phases, -1, *weight.shape[2:])
    return np.ascontiguousarray(split.transpose(0, 2, 3, 1))


def affine_integers(
    name: str,
    weight: Float32Array,
    bias: Float32Array,
    rise: Float32Array,
    scales: Float32Array,
    source: QParams,
    target: QParams,
) -> dict[str, Array]:
    """(channel, band) twice and (channel,) -> arrays of `affine_relu_i8`. Failure: a bias beyond 16 bits."""
    steps = quantize_bias(bias, source.scale, scales[:, None])
    if np.abs(steps).max() > MOST_SHORT:
        what = f"a bias is {np.abs(steps).max():,} steps of its weights, the engine adds up to {MOST_SHORT:,}"
        raise Failure(what, where=name, remedy="its weights are next to nothing: train it again, or leave it in float")
    return {
        "weight": np.ascontiguousarray(quantize_weight(weight, scales).T),
        "bias": np.ascontiguousarray(steps.T.astype("<i2")),
        "table": quantize_weight(rise[:, None], scales)[:, 0],
        "scale": multiplier(np.float64(source.scale) * scales, target),
    }


def affine_shorts(w: AffineIntegers) -> tuple[dict[str, Array], float]:
    """Arrays and the unit of `affine_relu_i16`."""
    arrays = {"weight": w.weight.T, "bias": w.bias.T, "table": w.rise, "scale": w.multiplier.astype("<i2")}
    return {role: np.ascontiguousarray(array) for role, array in arrays.items()}, float(w.unit)


def folded_bias(
    name: str, bias: Float32Array, w: NDArray[np.int8], scales: Float32Array, source: QParams
) -> NDArray[np.int32]:
    """The bias in steps of the accumulator, and what the zero point of the input adds. Failure: beyond 32 bits."""
    sums = w.reshape(len(w), -1).sum(1, dtype=np.int64)
    folded = quantize_bias(bias, source.scale, scales).astype(np.int64) - source.zero_point * sums
    if np.abs(folded).max() > MOST_BIAS:
        what = f"a bias is {np.abs(folded).max():,} steps of its weights, the engine adds up to {MOST_BIAS:,}"
        raise Failure(what, where=name, remedy="its weights are next to nothing: train it again, or leave it in float")
    return folded.astype(np.int32)
