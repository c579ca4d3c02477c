"""ONNX and TFLite files hold what the plan says, alone, small and in an order that nothing moves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from typing import Any

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from emitted_once import anew, emitted
from numpy.typing import NDArray
from onnx import numpy_helper
from recorded import interpreter

from quant.emit.emitted import UINT8_SHIFT
from quant.emit.tflite.ops import LEAST_SLOPE
from quant.int8.plan import GRU_ROLES, Plan
from quant.int8.qparams import quantize_bias, quantize_weight
from quant.network.graph import Graph, Node
from quant.ptq.quantize import Quantized

Array = NDArray[Any]


def test_tflite_writes_the_grids_of_the_plan(quantized: Quantized) -> None:
    model = emitted("tflite", quantized.graph, quantized.plan)
    graph = schema.ModelT.InitFromPackedBuf(model.data, 0).subgraphs[0]
    held = defaultdict[str, set[tuple[float, int]]](set)
    for op, node in zip(graph.operators, model.op_nodes, strict=True):
        grids = [graph.tensors[t].quantization for t in op.outputs if graph.tensors[t].type == schema.TensorType.INT8]
        held[node] |= {(float(grid.scale[0]), int(grid.zeroPoint[0])) for grid in grids}
    for node in quantized.graph.nodes:
        taps = [node.name, *(f"{node.name}.{role}" for role in GRU_ROLES if node.kind in ("gru", "bigru"))]
        wanted = {(q.scale, q.zero_point) for tap in taps if (q := quantized.plan.grids.get(tap))}
        read = {(q.scale, q.zero_point) for i in node.inputs if (q := quantized.plan.grids.get(i))}
        assert wanted <= held[node.name] <= wanted | read, node.name


def test_onnx_writes_the_grids_of_the_plan(quantized: Quantized) -> None:
    proto = onnx.load_from_string(emitted("onnx", quantized.graph, quantized.plan).data)
    constants = {i.name: numpy_helper.to_array(i) for i in proto.graph.initializer}
    rounded = {n.input[0]: n for n in proto.graph.node if n.op_type == "QuantizeLinear"}
    for node in quantized.graph.nodes:
        if node.kind in ("conv", "leaky_relu") and quantized.plan.is_int8(node):
            scale, zero_point = (constants[name] for name in rounded[node.name].input[1:])
            q = quantized.plan.grids[node.name]
            assert scale.shape == zero_point.shape == (), "ONNX Runtime fuses Add and Mul only with scalars"
            assert (float(scale), int(zero_point) - UINT8_SHIFT) == (q.scale, q.zero_point), node.name


def numbers(values: Array) -> list[float]:
    """The numbers other than zero, in order: what stays when a file lays weights out its own way."""
    return sorted(np.asarray(values)[np.asarray(values) != 0].tolist())


def planned_numbers(quantized: Quantized, node: Node) -> tuple[list[float], list[float]]:
    """Weights and biases of an 8-bit convolution, as integers."""
    weight, bias = (quantized.graph.params[node.param(role)] for role in ("weight", "bias"))
    scales, source = quantized.plan.weight_scales[node.param("weight")], quantized.plan.grids[node.inputs[0]]
    return numbers(quantize_weight(weight, scales)), numbers(quantize_bias(bias, source.scale, scales))


def test_tflite_holds_the_integers_and_slopes_of_the_plan(everything: Quantized) -> None:
    model = emitted("tflite", everything.graph, everything.plan)
    parsed = schema.ModelT.InitFromPackedBuf(model.data, 0)
    tensors, checked = parsed.subgraphs[0].tensors, set()

    def held(index: int, dtype: str) -> list[float]:
        return numbers(np.frombuffer(bytes(parsed.buffers[tensors[index].buffer].data), dtype))

    def scale(index: int) -> float:
        grid = tensors[index].quantization
        return 1.0 if grid is None else float(grid.scale[0])

    for op, name in zip(parsed.subgraphs[0].operators, model.op_nodes, strict=True):
        node = everything.graph.node(name)
        if node.kind == "conv" and isinstance(
            op.builtinOptions, schema.Conv2DOptionsT | schema.DepthwiseConv2DOptionsT
        ):
            assert (held(op.inputs[1], "int8"), held(op.inputs[2], "int32")) == planned_numbers(everything, node), name
            checked.add(name)
        elif node.kind == "leaky_relu" and isinstance(op.builtinOptions, schema.LeakyReluOptionsT):
            per_step = scale(op.inputs[0]) / scale(op.outputs[0])
            slope = node.attrs["slope"] if abs(node.attrs["slope"]) * per_step > LEAST_SLOPE else LEAST_SLOPE / per_step
            assert op.builtinOptions.alpha == pytest.approx(slope, rel=1e-6), name
            checked.add(name)
    assert checked == {node.name for node in everything.graph.nodes if node.kind in ("conv", "leaky_relu")}


def test_onnx_holds_the_integers_and_slopes_of_the_plan(everything: Quantized) -> None:
    proto = onnx.load_from_string(emitted("onnx", everything.graph, everything.plan).data)
    constants = {i.name: numpy_helper.to_array(i) for i in proto.graph.initializer}
    by_name = {n.name: n for n in proto.graph.node}
    source = {n.output[0]: n.input[0] for n in proto.graph.node if n.op_type == "DequantizeLinear"}
    for node in everything.graph.nodes:
        if node.kind == "conv":
            weight, bias = (constants[source[name]] for name in by_name[node.name].input[1:])
            assert weight.dtype == np.uint8, "uint8 by int8 saturates on x86 without VNNI"
            found = numbers(weight.astype(int) - UINT8_SHIFT), numbers(bias)
            assert found == planned_numbers(everything, node), node.name
        elif node.kind == "leaky_relu":
            assert by_name[node.name].attribute[0].f == np.float32(node.attrs["slope"]), node.name


def test_a_tflite_state_has_one_grid_in_and_out(quantized: Quantized) -> None:
    run = interpreter(emitted("tflite", quantized.graph, quantized.plan).data, builtin=True)
    ins, outs = ({d["name"]: d for d in side} for side in (run.get_input_details(), run.get_output_details()))
    for name in ins.keys() - {"spectrum"}:
        for key in ("dtype", "quantization"):
            assert ins[name][key] == outs[f"{name}_out"][key], name
        np.testing.assert_array_equal(ins[name]["shape"], outs[f"{name}_out"]["shape"])


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_onnx_is_what_old_boards_take(precision: str, graph: Graph, quantized: Quantized) -> None:
    model = emitted("onnx", graph) if precision == "fp32" else emitted("onnx", quantized.graph, quantized.plan)
    proto = onnx.load_from_string(model.data)
    onnx.checker.check_model(proto, full_check=True)
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", 17)]
    assert proto.ir_version == 8
    assert {node.domain for node in proto.graph.node} == {""}


# What was measured, and 4 % above it: a second copy of the weights or unshared metadata costs more.
LARGEST_BYTES = {
    ("onnx", "int8"): 226_000,
    ("onnx", "fp32"): 232_000,
    ("tflite", "int8"): 302_000,
    ("tflite", "fp32"): 316_000,
}


@pytest.mark.parametrize(("runtime", "precision"), LARGEST_BYTES)
def test_files_stay_small_and_come_out_alike(runtime: str, precision: str, graph: Graph, quantized: Quantized) -> None:
    source = (graph, None) if precision == "fp32" else (quantized.graph, quantized.plan)
    first, again = (anew(runtime, *source).data for _ in range(2))
    assert first == again
    assert len(first) <= LARGEST_BYTES[runtime, precision]


def test_a_plan_without_8_bits_is_the_float_file(graph: Graph) -> None:
    nothing = Plan({node.name: "float" for node in graph.nodes}, {}, {})
    for runtime in ("onnx", "tflite"):
        assert anew(runtime, graph, nothing) == emitted(runtime, graph)


EMIT = """
import hashlib, sys
from calibration.mixing import Mix
from calibration.ranges import Provenance, Ranges, TapRange
from quant.emit.native.emitter import emit_native
from quant.emit.onnx.emitter import emit_onnx
from quant.emit.tflite.emitter import emit_tflite
from quant.int8 import plan, recipe
from quant.network import gtcrn, passes
graph, precision = plan.prepare(passes.streaming_graph(gtcrn.blank()), recipe.load("static"))
taps = dict.fromkeys(plan.int8_taps(graph, precision), TapRange(-1, 1, 1, -1, 1))
made = plan.make_plan(graph, precision, Ranges(taps, Provenance("min_max", Mix(), "", "", "")))
for emit in (emit_onnx, emit_tflite, emit_native):
    print(hashlib.sha256(emit(graph, made).data).hexdigest())
"""


def test_another_process_writes_the_same_bytes() -> None:
    """Nothing follows the order of a set or a hash."""
    hashes = []
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        run = subprocess.run([sys.executable, "-c", EMIT], env=environment, capture_output=True, text=True, check=True)
        hashes.append(run.stdout)
    assert hashes[0] == hashes[1]
