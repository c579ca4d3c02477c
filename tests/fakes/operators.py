"""8-bit operators of ONNX and TFLite files against the rule of the integer reference, each on the inputs that the
runtime itself gave it (`recorded.py`): nothing cascades."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import flatbuffers
import numpy as np
import onnx
import torch
from ai_edge_litert import schema_py_generated as schema
from onnx import helper, numpy_helper
from recorded import Array, Shown, Tensors

from edge_runtime.manifest import ModelEntry
from quant.emit.emitted import UINT8_SHIFT, Emitted
from quant.int8.qparams import QParams, quantize, requantize

RUNTIMES = ("onnx", "tflite", "tflite_builtin")


class Stored(NamedTuple):
    """A tensor as the runtime holds it, with its grid: one scale, or one for each output channel of a weight."""

    values: Array
    scales: Array
    zero_point: int

    @property
    def centred(self) -> Array:
        return self.values.astype(np.float64) - self.zero_point

    @property
    def real(self) -> Array:
        return self.centred * np.float64(self.scales[0])

    def holds(self, real: Array) -> Array:
        """One rounding from float64, saturated as this type is."""
        limits = np.iinfo(self.values.dtype)
        steps = np.rint(real / np.float64(self.scales[0])) + self.zero_point
        return np.clip(steps, limits.min, limits.max).astype(int)

    def holds_sum(self, total: Array, unit: Array) -> Array:
        """What the reference stores of an integer sum, `unit` real each by channel."""
        low = np.iinfo(self.values.dtype).min
        centre = QParams(float(self.scales[0]), self.zero_point - low - UINT8_SHIFT)
        return requantize(total, unit, centre).astype(int) + low + UINT8_SHIFT


class Executed(NamedTuple):
    """One 8-bit operator in every frame: what the runtime made of its inputs, and what the reference rule makes."""

    kind: str
    found: Array
    wanted: Array


ELEMENTWISE: dict[str, Callable[..., Array]] = {
    "ADD": np.add,
    "SUB": np.subtract,
    "MUL": np.multiply,
    "LOGISTIC": lambda x: 1 / (1 + np.exp(-x)),
    "TANH": np.tanh,
    "QUANTIZE": lambda x: x,
}
RELU = schema.ActivationFunctionType.RELU


def convolved(x: Stored, weight: Stored, bias: Stored, out: Stored, pad: tuple[int, int], **options: Any) -> Array:
    """(N, C, T, B) by (O, C/groups, T, B) -> (N, O, 1, B): float64 holds the integer sums exactly."""
    padded = np.pad(x.centred, ((0, 0), (0, 0), (0, 0), pad))
    arrays = (padded, weight.centred, bias.centred)
    total = torch.conv2d(*(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays), **options).numpy()
    unit = np.float64(x.scales[0]) * weight.scales.astype(np.float64)
    return out.holds_sum(total, unit[:, None, None])


def leaky(x: Stored, slope: float, out: Stored) -> Array:
    return out.holds(np.where(x.real < 0, np.float32(slope) * x.real, x.real))


def stacked(recorded: list[Tensors]) -> Tensors:
    """Every frame's, (frames, *shape); what only the first has, as it is."""
    every = recorded[-1].keys()
    return {name: np.stack([frame[name] for frame in recorded]) if name in every else recorded[0][name]
            for name in recorded[0]}  # fmt: skip


@lru_cache(maxsize=4)
def parsed_tflite(data: bytes) -> Any:
    """Half a second each. Whoever changes it puts it back."""
    return schema.ModelT.InitFromPackedBuf(data, 0)


@lru_cache(maxsize=4)
def show_tflite(model: Emitted) -> Shown:
    """Every tensor becomes an output, so that any kernels, XNNPACK's too, show what they made."""
    parsed = parsed_tflite(model.data)
    graph = parsed.subgraphs[0]
    outputs = graph.outputs
    states = tuple(zip(model.states, graph.inputs[1:].tolist(), graph.outputs[1:].tolist(), strict=True))
    made = [int(t) for op in graph.operators for t in op.outputs]
    constants = {int(t) for op in graph.operators for t in op.inputs if t >= 0} - {*made, *graph.inputs.tolist()}
    graph.outputs = np.array(made, np.int32)
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(parsed.Pack(builder), b"TFL3")
    graph.outputs = outputs
    return Shown(bytes(builder.Output()), int(graph.inputs[0]), states, tuple(made), tuple(sorted(constants)))


def tflite_ops(model: Emitted, recorded: list[Tensors]) -> Iterator[Executed]:
    parsed, values = parsed_tflite(model.data), stacked(recorded)
    graph = parsed.subgraphs[0]
    kinds = {number: name for name, number in vars(schema.BuiltinOperator).items()}

    def stored(index: int) -> Stored:
        grid = graph.tensors[index].quantization
        quantized = grid is not None and grid.scale is not None
        return Stored(values[int(index)], *((grid.scale, int(grid.zeroPoint[0])) if quantized else ([1.0], 0)))

    for op in graph.operators:
        kind, out = kinds[parsed.operatorCodes[op.opcodeIndex].builtinCode], stored(op.outputs[0])
        if out.values.dtype == np.int8 and kind not in TFLITE_MOVES:
            wanted = tflite_rule(kind, op.builtinOptions, [stored(i) for i in op.inputs], out)
            yield Executed(kind, out.values, wanted)


TFLITE_MOVES = frozenset({"CONCATENATION", "PAD", "RESHAPE", "SLICE", "SPLIT", "TRANSPOSE"})


def tflite_rule(kind: str, options: Any, ins: list[Stored], out: Stored) -> Array:
    """TFLite lies as (frames, 1, time, bands, channels), weights as (out, time, band, in) or (1, time, band, out)."""
    if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        depthwise = kind != "CONV_2D"
        x, weight, bias = ins
        x = x._replace(values=x.values[:, 0].transpose(0, 3, 1, 2))
        weight = weight._replace(values=weight.values.transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2)))
        n_bands, width, n_out = x.values.shape[3], weight.values.shape[3], out.values.shape[3]
        short = max((n_out - 1) * options.strideW + width - n_bands, 0)
        return convolved(
            x,
            weight,
            bias,
            out,
            (short // 2, short - short // 2),
            stride=(1, options.strideW),
            dilation=(options.dilationHFactor, 1),
            groups=x.values.shape[1] if depthwise else 1,
        ).transpose(0, 2, 3, 1)[:, None]
    if kind == "LEAKY_RELU":
        return leaky(ins[0], options.alpha, out)
    if kind == "QUANTIZE" and ins[0].values.dtype == np.float32:
        return quantize(ins[0].values, QParams(float(out.scales[0]), out.zero_point)).astype(int)
    real = ELEMENTWISE[kind](*(x.real for x in ins))
    return out.holds(np.maximum(real, 0) if getattr(options, "fusedActivationFunction", 0) == RELU else real)


def show_onnx(model: Emitted) -> Shown:
    """8-bit tensors become outputs: they stay the ends of the fused operators, so fusion goes on as before."""
    graph = OnnxGraph(onnx.load_from_string(model.data))
    shown = {n.input[0] for n in graph.nodes if n.op_type == "DequantizeLinear"} - set(graph.constants)
    shown |= {n.output[0] for n in graph.rounded} | {n.input[0] for n in graph.rounded if graph.before(n) is None}
    names = sorted(shown - {state.name for state in model.states})
    graph.proto.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    states = tuple((state, state.name, f"{state.name}_out") for state in model.states)
    return Shown(graph.proto.SerializeToString(), "spectrum", states, tuple(names))


def with_signed_weights(model: Emitted) -> Emitted:
    """An ONNX model with its weights as int8, as they once were: they saturate on x86 without VNNI."""
    graph = OnnxGraph(onnx.load_from_string(model.data))
    held = {i.name: i for i in graph.proto.graph.initializer}
    for node in graph.nodes:
        name = node.input[0]
        if node.op_type != "DequantizeLinear" or name not in held or graph.constants[name].dtype != np.uint8:
            continue
        signed = (graph.constants[name].astype(np.int16) - UINT8_SHIFT).astype(np.int8)
        held[name].CopyFrom(numpy_helper.from_array(signed, name))
        zeros = np.zeros_like(graph.constants[node.input[2]], np.int8)
        node.input[2] = f"{name}.zero"
        graph.proto.graph.initializer.append(numpy_helper.from_array(zeros, node.input[2]))
    return replace(model, data=graph.proto.SerializeToString())


class OnnxGraph:
    """A model's nodes, and what each 8-bit tensor is rounded from."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.proto, self.nodes = proto, proto.graph.node
        self.made_by = {name: node for node in self.nodes for name in node.output}
        self.constants = {i.name: numpy_helper.to_array(i) for i in proto.graph.initializer}
        self.rounded = [node for node in self.nodes if node.op_type == "QuantizeLinear"]

    def before(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """The operator that makes what `node` rounds, when that operator itself reads 8 bits."""
        source = self.made_by[node.input[0]]
        source = self.made_by.get(source.input[0], source) if source.op_type == "Reshape" else source
        read = [self.made_by[name].op_type if name in self.made_by else "" for name in source.input]
        return source if set(read) == {"DequantizeLinear"} else None


def onnx_ops(model: Emitted, recorded: list[Tensors]) -> Iterator[Executed]:
    graph = OnnxGraph(onnx.load_from_string(model.data))
    values = graph.constants | stacked(recorded)

    def stored(node: onnx.NodeProto, integers: str) -> Stored:
        scales, zero_points = (values[name] for name in node.input[1:])
        return Stored(values[integers], np.atleast_1d(scales), int(np.ravel(zero_points)[0]))

    for node in graph.rounded:
        out, source = stored(node, node.output[0]), graph.before(node)
        if source is None:
            grid = QParams(float(out.scales[0]), out.zero_point - UINT8_SHIFT)
            wanted = quantize(values[node.input[0]], grid).astype(int) + UINT8_SHIFT
            yield Executed("QuantizeLinear", out.values, wanted)
        else:
            ins = [stored(graph.made_by[name], graph.made_by[name].input[0]) for name in source.input]
            attrs = {a.name: helper.get_attribute_value(a) for a in source.attribute}
            yield Executed(source.op_type, out.values, onnx_rule(source.op_type, attrs, ins, out))


def onnx_rule(kind: str, attrs: dict[str, Any], ins: list[Stored], out: Stored) -> Array:
    """ONNX lies as (frames, 1, channels, time, bands), or (frames, bands, channels) around Gemm."""
    if kind == "Conv":
        attrs = {"strides": [1, 1], "dilations": [1, 1], "pads": [0, 0, 0, 0]} | attrs
        strides, dilations, pads = attrs["strides"], attrs["dilations"], attrs["pads"]
        x = ins[0]._replace(values=ins[0].values[:, 0])
        options = {"stride": strides, "dilation": dilations, "groups": attrs["group"]}
        return convolved(x, *ins[1:], out, (pads[1], pads[3]), **options)[:, None]
    if kind == "Gemm":
        x, weight, bias = ins
        x = x._replace(values=x.values.transpose(0, 2, 1)[:, :, None])
        weight = weight._replace(values=weight.values.T[:, :, None, None])
        return convolved(x, weight, bias, out, (0, 0))[:, :, 0].transpose(0, 2, 1)
    if kind == "LeakyRelu":
        return leaky(ins[0], attrs["alpha"], out)
    if kind == "Concat":
        axis = attrs["axis"] + (attrs["axis"] >= 0)  # frames come first
        return out.holds(np.concatenate([x.real for x in ins], axis)).reshape(out.values.shape)
    return out.holds(ELEMENTWISE[{"Add": "ADD", "Mul": "MUL", "Sigmoid": "LOGISTIC"}[kind]](*(x.real for x in ins)))


# runtime -> operator -> the share of its values that may be one LSB off; none may be more. Measured on x86-64 over
# 30 frames and both recipes, and allowed about twice that:
# - the rule divides in float64, kernels in float32, and now and then a value falls on a tie: 1e-4, in sums 5e-4;
# - ONNX Runtime divides by a scale where the rule multiplies by its inverse. Which floats are rounded depends on the
#   processor: none lay between the two ties on AVX-512, one of 241,000 on AVX2, and with float32's steps of 8e-6 at 100
#   as many are to be expected; ten of them are allowed;
# - XNNPACK has 8-bit fixed-point slopes for LeakyReLU and for QUANTIZE from one grid to another: 1.9 %, 1.2 %;
# - TFLite's own kernels round twice in fixed point: convolutions 0.3 %, depthwise 0.9 %, MUL 0.5 %, LEAKY_RELU 2.7 %.
TIE = 2e-4
CLASSES: dict[str, dict[str, float]] = {
    "onnx": {
        "Conv": TIE, "Gemm": TIE, "Add": 0.002, "Mul": TIE, "Concat": TIE,
        "LeakyRelu": 0, "Sigmoid": 0, "QuantizeLinear": 4e-5,
    },
    "tflite": {
        "CONV_2D": TIE, "DEPTHWISE_CONV_2D": TIE, "ADD": TIE, "SUB": TIE, "MUL": TIE,
        "LOGISTIC": 0, "TANH": 0, "LEAKY_RELU": 0.04, "QUANTIZE": 0.025,
    },
    "tflite_builtin": {
        "CONV_2D": 0.006, "DEPTHWISE_CONV_2D": 0.02, "ADD": TIE, "SUB": TIE, "MUL": 0.01,
        "LOGISTIC": 0, "TANH": 0, "LEAKY_RELU": 0.06, "QUANTIZE": 0,
    },
}  # fmt: skip


class Judged(NamedTuple):
    """Of one kind of operator: the worst value in steps of its grid, and the share of values that are off."""

    worst: int
    share: float


def entry(model: Emitted) -> ModelEntry:
    return ModelEntry(file="model", states=model.states, golden_snr_floor_db=0)


def show(runtime: str, model: Emitted) -> Shown:
    return show_onnx(model) if runtime == "onnx" else show_tflite(model)


def judged(runtime: str, model: Emitted, recorded: list[Tensors]) -> dict[str, Judged]:
    """Every 8-bit operator of a model by kind."""
    found = onnx_ops(model, recorded) if runtime == "onnx" else tflite_ops(model, recorded)
    worst, off, total = defaultdict[str, int](int), defaultdict[str, int](int), defaultdict[str, int](int)
    for op in found:
        assert op.found.shape == op.wanted.shape, op.kind
        lsb = np.abs(op.found.astype(int) - op.wanted)
        worst[op.kind] = max(worst[op.kind], int(lsb.max()))
        off[op.kind] += int(np.count_nonzero(lsb))
        total[op.kind] += lsb.size
    return {kind: Judged(worst[kind], off[kind] / total[kind]) for kind in total}


def breaches(runtime: str, found: dict[str, Judged]) -> dict[str, Judged]:
    """The kinds that leave their class: more than one step off, or too many values one step off."""
    return {kind: j for kind, j in found.items() if j.worst > 1 or j.share > CLASSES[runtime][kind]}
