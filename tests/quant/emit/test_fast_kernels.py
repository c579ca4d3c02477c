"""TFLite files as XNNPACK takes them: whole, for one operator that it refuses costs as much as a hundred others."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from random_networks import random_network
from recorded import interpreter

from quant.emit.tflite.emitter import emit_tflite
from quant.emit.tflite.file import Tensor
from quant.emit.tflite.ops import TfliteOps
from quant.int8.qparams import QParams, dequantize, quantize
from quant.network.passes import streaming_graph

EVERY = np.arange(-128, 128, dtype=np.int8)


@pytest.mark.parametrize("network", ["quantized", "everything", "ulunas_quantized"])
def test_fast_kernels_take_every_operator(network: str, request: pytest.FixtureRequest) -> None:
    q = request.getfixturevalue(network)
    assert n_delegates(emit_tflite(q.graph, q.plan).data) == 1


@pytest.mark.parametrize("network", ["gtcrn", "ul-unas"])
def test_fast_kernels_take_every_operator_in_float(network: str) -> None:
    assert n_delegates(emit_tflite(streaming_graph(random_network(network))).data) == 1


def n_delegates(data: bytes) -> int:
    """Parts of a graph between operators that XNNPACK refuses."""
    return [op["op_name"] for op in interpreter(data, builtin=False)._get_ops_details()].count("DELEGATE")


@pytest.mark.parametrize("builtin", [False, True])
@pytest.mark.parametrize("slope", [0.0, 1e-4, -1e-4])
def test_an_8_bit_leaky_relu_with_almost_no_slope_is_a_relu(slope: float, builtin: bool) -> None:
    """Where zero is the lowest step of what it makes."""
    source, q = QParams(0.05, 5), QParams(0.025, -128)
    ops = TfliteOps()
    x = every(ops, source)
    wanted = quantize(np.maximum(dequantize(EVERY, source), 0), q)
    np.testing.assert_array_equal(computed(ops, x, ops.leaky_relu(x, slope, q), builtin=builtin), wanted)


@pytest.mark.parametrize("builtin", [False, True])
@pytest.mark.parametrize("zero_point", [-128, -3, 127])
def test_an_8_bit_relu_keeps_what_is_above_zero(zero_point: int, builtin: bool) -> None:
    ops = TfliteOps()
    x = every(ops, QParams(0.05, zero_point))
    np.testing.assert_array_equal(computed(ops, x, ops.relu(x), builtin=builtin), np.maximum(EVERY, zero_point))


def every(ops: TfliteOps, q: QParams) -> Tensor:
    """The input of a file of one operator."""
    return ops.new((1, 1, 1, len(EVERY)), q, "x")


def computed(ops: TfliteOps, x: Tensor, y: Tensor, *, builtin: bool) -> NDArray[np.int8]:
    ops.inputs, ops.outputs = [x], [y]
    run = interpreter(ops.to_bytes("one operator"), builtin=builtin)
    run.set_tensor(x.index, EVERY.reshape(x.shape))
    run.invoke()
    return np.asarray(run.get_tensor(y.index)).ravel()
