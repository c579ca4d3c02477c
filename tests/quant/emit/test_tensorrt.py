"""Explicit symmetric QDQ: TensorRT's rules are kept, each breach is found, and the numbers stay near float."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.engines.golden import snr_db, stream
from edge_runtime.engines.onnx import open_model
from edge_runtime.manifest import ModelEntry
from edge_runtime.stft import Float32Array
from quant.emit.onnx.emitter import emit_onnx
from quant.emit.onnx.tensorrt import emit_tensorrt, symmetric
from quant.emit.onnx.tensorrt_rules import LAYERS, violations
from quant.int8.qparams import choose_qparams
from quant.network.float_model import FloatModel
from quant.network.graph import Graph
from quant.ptq.quantize import Quantized

# On 3 s at 5 dB SNR; the floor of 8-bit models against float in test_emitters.py. 32.0 dB were measured on the
# golden vectors of the default build, where the ordinary 8-bit ONNX model reaches 32.4.
FLOAT_FLOOR_DB = 26


@pytest.fixture(scope="module")
def model(quantized: Quantized) -> bytes:
    return emit_tensorrt(quantized.graph, quantized.plan).data


def test_every_rule_is_kept(model: bytes, everything: Quantized) -> None:
    assert violations(model) == []
    assert violations(emit_tensorrt(everything.graph, everything.plan).data) == []


def test_our_ordinary_8_bit_model_breaks_them(quantized: Quantized) -> None:
    """So the rules find what there is to find: unsigned values, integer biases, 8-bit states, moves in 8 bits."""
    found = {breach.split(":")[0] for breach in violations(emit_onnx(quantized.graph, quantized.plan).data)}
    assert {"zero point", "pair", "layer", "port"} <= found


def test_a_float_model_has_nothing_to_break(graph: Graph) -> None:
    assert violations(emit_onnx(graph).data) == []


def test_as_many_convolutions_are_8_bit_as_planned(quantized: Quantized, model: bytes) -> None:
    planned = [n.name for n in quantized.graph.nodes if n.kind == "conv" and quantized.plan.is_int8(n)]
    made = onnx.load_from_string(model).graph
    dequantized = {out for n in made.node if n.op_type == "DequantizeLinear" for out in n.output}
    found = [n.name for n in made.node if n.op_type in LAYERS and n.input[1] in dequantized]
    assert found == planned
    assert len(found) > 20


def test_numbers_stay_near_float(quantized: Quantized, graph: Graph, spectra_3_s: Float32Array) -> None:
    emitted = emit_tensorrt(quantized.graph, quantized.plan)
    engine = open_model(emitted.data, ModelEntry(file="x", states=emitted.states, golden_snr_floor_db=0), "int8", 1)
    with torch.no_grad():
        y, _ = FloatModel(graph)(torch.from_numpy(spectra_3_s).permute(2, 0, 1)[None].contiguous())
    assert snr_db(y[0].permute(1, 2, 0).numpy(), stream(engine, spectra_3_s)) >= FLOAT_FLOOR_DB


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
def test_a_symmetric_grid_holds_what_the_other_held(a: float, b: float) -> None:
    q = choose_qparams(min(a, b), max(a, b))
    wide = symmetric(q)
    assert wide.zero_point == 0
    assert wide.high >= max(-q.low, q.high) * (1 - 1e-6)


# --- each rule, broken on purpose -------------------------------------------------------------------------------


def first(graph: Any, kind: str) -> Any:
    return next(node for node in graph.node if node.op_type == kind)


def constant(graph: Any, values: Any) -> str:
    name = f"broken{len(graph.initializer)}"
    graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    return name


def quantized_conv(graph: Any) -> Any:
    made = {out: node.op_type for node in graph.node for out in node.output}
    return next(n for n in graph.node if n.op_type == "Conv" and made.get(n.input[1]) == "DequantizeLinear")


def maker(graph: Any, name: str) -> Any:
    return next(node for node in graph.node if name in node.output)


def unknown_operator(graph: Any) -> None:
    first(graph, "Sqrt").op_type = "Reciprocal"


def odd_zero_point(graph: Any) -> None:
    first(graph, "QuantizeLinear").input[2] = constant(graph, np.int8(3))


def unsigned(graph: Any) -> None:
    first(graph, "QuantizeLinear").input[2] = constant(graph, np.uint8(0))


def no_zero_point(graph: Any) -> None:
    del first(graph, "QuantizeLinear").input[2]


def negative_scale(graph: Any) -> None:
    first(graph, "QuantizeLinear").input[1] = constant(graph, np.float32(-1))


def computed_scale(graph: Any) -> None:
    first(graph, "QuantizeLinear").input[1] = "spectrum"


def activation_by_channel(graph: Any) -> None:
    first(graph, "QuantizeLinear").input[1] = constant(graph, np.ones(16, np.float32))


def other_grid(graph: Any) -> None:
    maker(graph, quantized_conv(graph).input[0]).input[1] = constant(graph, np.float32(1))


def moved_in_8_bits(graph: Any) -> None:
    q = first(graph, "QuantizeLinear")
    graph.node.append(helper.make_node("Reshape", [q.output[0], constant(graph, np.array([-1]))], ["moved"]))


def float_input(graph: Any) -> None:
    conv = quantized_conv(graph)
    conv.input[0] = maker(graph, maker(graph, conv.input[0]).input[0]).input[0]


def integer_bias(graph: Any) -> None:
    conv = quantized_conv(graph)
    bias = constant(graph, np.zeros(16, np.int32))
    inputs = [bias, constant(graph, np.float32(1)), constant(graph, np.int32(0))]
    graph.node.append(helper.make_node("DequantizeLinear", inputs, ["bias"]))
    conv.input[2] = "bias"


def weight_by_tensor(graph: Any) -> None:
    weight = maker(graph, quantized_conv(graph).input[1])
    weight.input[1] = constant(graph, np.float32(1))


def wrong_axis(graph: Any) -> None:
    weight = maker(graph, quantized_conv(graph).input[1])
    next(a for a in weight.attribute if a.name == "axis").i = 1


def before_the_activation(graph: Any) -> None:
    act = next(n for n in graph.node if n.op_type == "LeakyRelu" and maker(graph, n.input[0]).op_type == "Conv")
    grid = [constant(graph, np.float32(1)), constant(graph, np.int8(0))]
    graph.node.append(helper.make_node("QuantizeLinear", [act.input[0], *grid], ["early"]))
    graph.node.append(helper.make_node("DequantizeLinear", ["early", *grid], ["early.float"]))
    act.input[0] = "early.float"


def integer_state(graph: Any) -> None:
    graph.input[1].type.tensor_type.elem_type = TensorProto.INT8


@pytest.mark.parametrize(
    ("rule", "breaking"),
    [
        ("operator", unknown_operator),
        ("zero point", odd_zero_point),
        ("zero point", unsigned),
        ("zero point", no_zero_point),
        ("scale", negative_scale),
        ("scale", computed_scale),
        ("scale", activation_by_channel),
        ("pair", other_grid),
        ("pair", moved_in_8_bits),
        ("pair", integer_bias),
        ("layer", integer_bias),
        ("layer", float_input),
        ("scale", weight_by_tensor),
        ("scale", wrong_axis),
        ("placement", before_the_activation),
        ("port", integer_state),
    ],
)
def test_a_breach_is_found(rule: str, breaking: Callable[[Any], None], model: bytes) -> None:
    broken = onnx.load_from_string(model)
    breaking(broken.graph)
    found = violations(broken.SerializeToString())
    assert any(sentence.startswith(f"{rule}: ") for sentence in found), found


def test_a_newer_opset_is_found(model: bytes) -> None:
    broken = onnx.load_from_string(model)
    broken.opset_import[0].version = 21
    assert violations(broken.SerializeToString()) == ["operator: model: opset 21 is above 17"]
