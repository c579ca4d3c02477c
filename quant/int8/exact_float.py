"""Float arithmetic that C and SIMD code can follow bit for bit: every rounding in a stated order.

Only IEEE single-precision +, -, *, / and sqrt, each rounded on its own: no fused multiply-add, no BLAS, no libm. Sums
of products start from the bias and go over (band tap, time tap, input channel), of a depthwise convolution over (time
tap, band tap); lanes run over outputs. Reductions over a whole value go in 16 lanes, then by halves.
`edge_runtime/native` computes the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.stft import Float32Array
from quant.network.graph import FLOOR, Node

N_LANES = 16

# tanh(x) = x P(x^2) / Q(x^2) on |x| <= TANH_LIMIT, where it reaches one; highest power first. The rational minimax fit
# of Eigen (MathFunctionsImpl.h); at most 4e-7 off here, without fused multiply-add.
TANH_LIMIT = np.float32(7.90531110763549805)
TANH_P = np.array(
    [
        -2.76076847742355e-16,
        2.00018790482477e-13,
        -8.60467152213735e-11,
        5.12229709037114e-08,
        1.48572235717979e-05,
        6.37261928875436e-04,
        4.89352455891786e-03,
    ],
    np.float32,
)
TANH_Q = np.array([1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03], np.float32)
HALF = np.float32(0.5)

# The same with fewer terms: least error up to QUICK_LIMIT, made smaller by that error; Q leads with 1.
QUICK_LIMIT = np.float32(5.25)
QUICK_P = np.array([0.05091181397438049, 8.140962600708008, 80.68488311767578], np.float32)
QUICK_Q = np.array([34.988651275634766, 80.70943450927734], np.float32)

# log(1 + x) = x - x^2 / 2 + x^3 P(x) on [sqrt(1/2) - 1, sqrt(2) - 1]; highest power first. Source: Cephes, logf.c.
LOG_P = np.array(
    [
        7.0376836292e-2,
        -1.1514610310e-1,
        1.1676998740e-1,
        -1.2420140846e-1,
        1.4249322787e-1,
        -1.6668057665e-1,
        2.0000714765e-1,
        -2.4999993993e-1,
        3.3333331174e-1,
    ],
    np.float32,
)
LOG10_E, LOG10_2 = np.float32(np.log10(np.e)), np.float32(np.log10(2))
SQRT_HALF_BITS = np.int32(0x3F3504F3)  # of the float32 next to sqrt(1/2)
MOST_POWER = np.finfo(np.float32).max


def tanh(x: Float32Array) -> Float32Array:
    """Hyperbolic tangent; Horner's rule, then one division."""
    x = np.minimum(np.maximum(x, -TANH_LIMIT), TANH_LIMIT)
    s = x * x
    return x * _horner(TANH_P, s) / _horner(TANH_Q, s)


def quick_tanh(x: Float32Array) -> Float32Array:
    """tanh for gates whose products are of 8 bits: half the operations, at most 1.2e-4 off and nowhere beyond 1."""
    x = np.minimum(np.maximum(x, -QUICK_LIMIT), QUICK_LIMIT)
    s = x * x
    return x * _horner(QUICK_P, s) / ((s + QUICK_Q[0]) * s + QUICK_Q[1])


def quick_sigmoid(x: Float32Array) -> Float32Array:
    """quick_tanh(x / 2) / 2 + 1 / 2."""
    return quick_tanh(x * HALF) * HALF + HALF


def least_power(node: Node) -> np.float32:
    """The power at which a logarithm of magnitudes ends."""
    return np.float32(10.0 ** (2 * node.attrs.get("floor", FLOOR)))


def log_magnitude(x: Float32Array, least: np.float32) -> Float32Array:
    """(2, bins) real and imaginary parts -> (1, bins): log10 of |x|, from the power re re + im im, `least` at least.

    The power is 2^e (1 + x) with 1 + x in [sqrt(1/2), sqrt(2)), taken from its bits; log10 of the power is
    log10(e) log(1 + x) + log10(2) e, and half of it is the result.
    """
    with np.errstate(over="ignore", under="ignore"):
        power = x[:1] * x[:1] + x[1:] * x[1:]
    bits = np.minimum(np.maximum(power, least), MOST_POWER).view(np.int32)
    exponent = (bits - SQRT_HALF_BITS) >> 23
    f = (bits - (exponent << 23)).view(np.float32) - np.float32(1)
    s = f * f
    log = f - HALF * s + f * s * _horner(LOG_P, f)
    return HALF * (log * LOG10_E + exponent.astype(np.float32) * LOG10_2)


def sigmoid(x: Float32Array) -> Float32Array:
    """tanh(x / 2) / 2 + 1 / 2."""
    return tanh(x * HALF) * HALF + HALF


def _horner(coefficients: Float32Array, s: Float32Array) -> Float32Array:
    y = coefficients[0]
    for c in coefficients[1:]:
        y = y * s + c
    return y


def convolve(
    x: Float32Array, weight: Float32Array, bias: Float32Array, *, stride: int, pad: int, groups: int
) -> Float32Array:
    """(time taps, channels, bands) by (out, in/groups, time, band) -> (out, bands): the last frame of a convolution."""
    n_out, per_group, kt, kf = weight.shape
    x = padded(x, pad)
    n_bands = (x.shape[2] - kf) // stride + 1
    first = np.arange(n_out) // (n_out // groups) * per_group  # the input channel each output starts from
    y = np.broadcast_to(bias[:, None], (n_out, n_bands))
    for t, k in _tap_order(kt, kf, depthwise=groups > 1 and per_group == 1):
        bands = x[t, :, k : k + stride * (n_bands - 1) + 1 : stride]
        for c in range(per_group):
            y = y + weight[:, c, t, k, None] * bands[first + c]
    return y


def padded(x: NDArray[Any], n: int) -> NDArray[Any]:
    """(..., bands) with n zeros on both sides."""
    y = np.zeros((*x.shape[:-1], x.shape[-1] + 2 * n), x.dtype)
    y[..., n : n + x.shape[-1]] = x
    return y


def _tap_order(n_times: int, n_bands: int, *, depthwise: bool) -> list[tuple[int, int]]:
    """(time tap, band tap): frames lie one after the other for a depthwise convolution, else beside each other."""
    taps = [(t, k) for t in range(n_times) for k in range(n_bands)]
    return taps if depthwise else sorted(taps, key=lambda tap: (tap[1], tap[0]))


def linear(x: Float32Array, weight: Float32Array, bias: Float32Array) -> Float32Array:
    """(rows, in) by (out, in) -> (rows, out); over inputs in order. Weights that are zero add nothing."""
    y = np.broadcast_to(bias, (len(x), len(bias)))
    for k in range(weight.shape[1]):
        y = y + x[:, k, None] * weight[:, k]
    return y


def edge_bands(x: Float32Array, source: Float32Array, weight: Float32Array) -> Float32Array:
    """(out, bands) with weight[0] @ source's first band added to the first band, weight[1] to the last; in order."""
    y = x.copy()
    for end, w in zip((0, -1), weight, strict=True):
        for c in range(w.shape[1]):
            y[:, end] = y[:, end] + source[c, end] * w[:, c]
    return y


def sparse_bands(x: Float32Array, weight: Float32Array) -> Float32Array:
    """(channels, bands) by (out, bands) -> (channels, out); over each row's run of nonzero weights, in order."""
    starts, lengths = runs(weight)
    y = np.zeros((len(x), len(weight)), np.float32)
    for j in range(int(lengths.max())):
        rows = np.flatnonzero(j < lengths)
        at = starts[rows] + j
        y[:, rows] = y[:, rows] + x[:, at] * weight[rows, at]
    return y


def runs(weight: Float32Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where the nonzero weights of each row start, and how many numbers there are up to the last of them."""
    used = weight != 0
    starts = used.argmax(1)
    return starts, np.where(used.any(1), weight.shape[1] - used[:, ::-1].argmax(1) - starts, 0)


def lane_sum(x: Float32Array) -> np.float32:
    """Everything in (channels, bands): lane i takes elements i, i + 16, ... of (bands, channels); then by halves."""
    flat = x.T.ravel()
    lanes = np.zeros((-(-flat.size // N_LANES), N_LANES), np.float32)
    lanes.ravel()[: flat.size] = flat
    total = lanes[0]
    for row in lanes[1:]:
        total = total + row
    while len(total) > 1:
        total = total[: len(total) // 2] + total[len(total) // 2 :]
    return total[0]


def layer_norm(x: Float32Array, weight: Float32Array, bias: Float32Array, eps: float) -> Float32Array:
    """Over channels and bands together; one square root and one division for all of them."""
    n = np.float32(x.size)
    centred = x - lane_sum(x) / n
    gain = np.float32(1) / np.sqrt(lane_sum(centred * centred) / n + np.float32(eps))
    return centred * gain * weight.T + bias.T


def mean_square(x: Float32Array) -> Float32Array:
    """(channels, bands) -> (channels, 1); over bands in order."""
    total = x[:, :1] * x[:, :1]
    for band in range(1, x.shape[1]):
        total = total + x[:, band : band + 1] * x[:, band : band + 1]
    return total / np.float32(x.shape[1])


def band_energy(x: Float32Array, weight: Float32Array) -> Float32Array:
    """(channels, bands) by (channels,) -> (1, bands): weight (x x), over channels in order."""
    total = weight[0] * (x[:1] * x[:1])
    for c in range(1, len(x)):
        total = total + weight[c] * (x[c : c + 1] * x[c : c + 1])
    return total


def affine_relu(x: Float32Array, weight: Float32Array, bias: Float32Array, rise: Float32Array) -> Float32Array:
    """(channels, bands): (bias + weight x) + rise max(x, 0)."""
    return (bias + weight * x) + rise[:, None] * np.maximum(x, np.float32(0))


def to_half(values: Float32Array) -> Float32Array:
    """The nearest numbers that half precision holds without denormals: it stores them in two bytes."""
    half = values.astype(np.float16)
    return np.where(np.abs(half) < np.finfo(np.float16).tiny, np.float16(0), half).astype(np.float32)
