"""The five verbs of quantization and the one rounding rule.

real = scale * (q - zero_point). Rounding is to nearest, ties to even, everywhere: in NumPy (`rint`), in PyTorch
(`round`), in ONNX QuantizeLinear and in the emitted models. Scales are float32 values, so that every format carries
them exactly. What is rounded is a float32 product with a float32 multiplier, computed once: as XNNPACK and the native
engine do it, where nothing wider is at hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.stft import Float32Array

WEIGHT_LIMIT = 127  # weights use -127..127, symmetric, as TFLite asks for


@dataclass(frozen=True)
class QParams:
    """The 8-bit grid of one value."""

    scale: float
    zero_point: int

    def __post_init__(self) -> None:
        """A grid that no value can be written on is a mistake made earlier."""
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"scale must be positive and finite, not {self.scale}")
        if not -128 <= self.zero_point <= 127:
            raise ValueError(f"zero_point must fit int8, not {self.zero_point}")

    @property
    def inverse(self) -> np.float32:
        """Steps of the grid per real unit."""
        return np.float32(1 / np.float64(self.scale))

    @property
    def low(self) -> float:
        """The smallest real value on the grid."""
        return self.scale * (-128 - self.zero_point)

    @property
    def high(self) -> float:
        """The largest real value on the grid."""
        return self.scale * (127 - self.zero_point)


UNIT = QParams(1 / 128, 0)  # tanh and GRU states: [-1, 127/128]; the scale TFLite fixes for TANH
SIGMOID = QParams(1 / 256, -128)  # [0, 255/256]; the scale TFLite fixes for LOGISTIC


def choose_qparams(low: float, high: float) -> QParams:
    """The grid that covers [low, high] and holds zero exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32(max((high - low) / 255, 1e-8)))
    zero_point = int(np.clip(np.rint(-128 - low / scale), -128, 127))
    return QParams(scale, zero_point)


def quantize(values: Float32Array, q: QParams) -> NDArray[np.int8]:
    """Real values onto the grid, saturating."""
    return _on_grid(np.asarray(values, np.float32) * q.inverse, q)


def dequantize(values: NDArray[np.int8], q: QParams) -> Float32Array:
    """Grid points as real values."""
    return (values.astype(np.float32) - np.float32(q.zero_point)) * np.float32(q.scale)


def fake_quantize(values: Float32Array, q: QParams) -> Float32Array:
    """Real values rounded to the grid: dequantize(quantize(values))."""
    return dequantize(quantize(values, q), q)


def multiplier(unit: Any, q: QParams) -> Any:
    """What takes integers of `unit` real each to steps of the grid, as float32; `unit` may differ by channel."""
    if isinstance(unit, float):
        return _multiplier(unit, q.scale)
    return np.divide(unit, q.scale, dtype=np.float64).astype(np.float32)


@lru_cache(maxsize=4096)
def _multiplier(unit: float, scale: float) -> np.float32:
    return np.float32(unit / scale)


def requantize(values: NDArray[Any], unit: Any, q: QParams, *, slope: float | None = None) -> NDArray[np.int8]:
    """Integer sums, `unit` real each, onto a grid: the sum and its product with the multiplier in float32; then, with
    a `slope` of at most 1, through a LeakyReLU."""
    return _on_grid(leaky(values.astype(np.float32) * multiplier(unit, q), slope), q)


def leaky(values: Float32Array, slope: float | None) -> Float32Array:
    """The greater one of x and slope x in float32: a LeakyReLU up to a slope of 1; none without a slope."""
    return values if slope is None else np.maximum(values, values * np.float32(slope))


def requantize_sum(a: NDArray[Any], a_unit: float, b: NDArray[Any], b_unit: float, q: QParams) -> NDArray[np.int8]:
    """a + b on a grid: each product with its multiplier in float32, then their sum."""
    scaled = a.astype(np.float32) * multiplier(a_unit, q) + b.astype(np.float32) * multiplier(b_unit, q)
    return _on_grid(scaled, q)


def _on_grid(steps: Float32Array, q: QParams) -> NDArray[np.int8]:
    return np.minimum(np.maximum(np.rint(steps) + q.zero_point, -128), 127).astype(np.int8)


def choose_weight_scales(weight: Float32Array) -> Float32Array:
    """One symmetric scale for each output channel (axis 0) of a weight."""
    peaks = np.abs(weight.reshape(weight.shape[0], -1)).max(1)
    return np.maximum(peaks / WEIGHT_LIMIT, 1e-12).astype(np.float32)


def quantize_weight(weight: Float32Array, scales: Float32Array) -> NDArray[np.int8]:
    """Weights onto -127..127, one scale for each output channel (axis 0)."""
    shaped = scales.reshape(-1, *([1] * (weight.ndim - 1)))
    return np.clip(np.rint(weight / shaped), -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int8)


def dequantize_weight(weight: NDArray[np.int8], scales: Float32Array) -> Float32Array:
    """Integer weights as real values."""
    return weight.astype(np.float32) * scales.reshape(-1, *([1] * (weight.ndim - 1)))


def quantize_bias(bias: Float32Array, input_scale: float, weight_scales: Float32Array) -> NDArray[np.int32]:
    """Biases in units of the accumulator, input scale x weight scale."""
    unit = np.float64(input_scale) * weight_scales.astype(np.float64)
    return np.clip(np.rint(bias / unit), -(2**31), 2**31 - 1).astype(np.int32)
