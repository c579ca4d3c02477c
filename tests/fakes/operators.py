"""8-bit operators of ONNX and TFLite files against the rule of the integer reference, each on the inputs that the
runtime itself gave it: nothing cascades. As a program it does so on another processor (`processors.py`)."""

from __future__ import annotations

import json
import pickle
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import flatbuffers
import numpy as np
import onnx
import onnxruntime
import torch
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edge_runtime.engines import open_model
from edge_runtime.engines.golden import stream
from edge_runtime.engines.interface import Engine
from edge_runtime.engines.tflite import TfliteEngine
from edge_runtime.manifest import ModelEntry
from edge_runtime.native import isas
from edge_runtime.quiet import quiet_stderr
from edge_runtime.stft import Float32Array
from quant.emit.emitted import UINT8_SHIFT, Emitted
from quant.int8.qparams import QParams, quantize, requantize

RUNTIMES = ("onnx", "tflite", "tflite_builtin")
Array = NDArray[Any]


def interpreter(data: bytes, *, builtin: bool) -> Any:
    """TFLite with XNNPACK, as boards run it, or with its plain C++ kernels."""
    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if builtin else OpResolverType.AUTO
    with quiet_stderr():
        made = Interpreter(model_content=data, num_threads=1, experimental_op_resolver_type=resolver)
        made.allocate_tensors()
    return made


def engine(runtime: str, model: Emitted) -> Engine:
    entry = ModelEntry(file=runtime, states=model.states, golden_snr_floor_db=0)
    if runtime == "tflite_builtin":
        return TfliteEngine(interpreter(model.data, builtin=True), entry, "int8", runtime)
    return open_model(model.data, entry, runtime, "int8")


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
    """One 8-bit operator in one frame: what the runtime made of its inputs, and what the reference rule makes."""

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


def convolved(x: Stored, weight: Stored, bias: Stored, out: Stored, pad: tuple[int, int], **options: Any) -> Array:
    """(1, C, T, B) by (O, C/groups, T, B) -> (1, O, 1, B): float64 holds the integer sums exactly."""
    padded = np.pad(x.centred, ((0, 0), (0, 0), (0, 0), pad))
    arrays = (padded, weight.centred, bias.centred)
    total = torch.conv2d(*(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays), **options).numpy()
    unit = np.float64(x.scales[0]) * weight.scales.astype(np.float64)
    return out.holds_sum(total, unit[:, None, None])


def leaky(x: Stored, slope: float, out: Stored) -> Array:
    return out.holds(np.where(x.real < 0, np.float32(slope) * x.real, x.real))


def tflite_ops(model: Emitted, frames: Float32Array, *, builtin: bool) -> Iterator[Executed]:
    """Every tensor becomes an output, so that any kernels, XNNPACK's too, show what they made."""
    parsed = schema.ModelT.InitFromPackedBuf(model.data, 0)
    graph = parsed.subgraphs[0]
    states = list(zip(graph.inputs[1:], graph.outputs[1:], strict=True))
    graph.outputs = np.array([t for op in graph.operators for t in op.outputs], np.int32)
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(parsed.Pack(builder), b"TFL3")
    run = interpreter(bytes(builder.Output()), builtin=builtin)
    kinds = {number: name for name, number in vars(schema.BuiltinOperator).items()}

    def stored(index: int) -> Stored:
        grid = graph.tensors[index].quantization
        quantized = grid is not None and grid.scale is not None
        return Stored(run.get_tensor(index), *((grid.scale, int(grid.zeroPoint[0])) if quantized else ([1.0], 0)))

    for (index, _), entry in zip(states, model.states, strict=True):
        run.set_tensor(index, np.full(entry.shape, entry.zero_point, entry.dtype))
    for frame in frames:
        run.set_tensor(graph.inputs[0], frame[None, :, None])
        run.invoke()
        for op in graph.operators:
            kind, out = kinds[parsed.operatorCodes[op.opcodeIndex].builtinCode], stored(op.outputs[0])
            if out.values.dtype == np.int8 and kind not in TFLITE_MOVES:
                wanted = tflite_rule(kind, op.builtinOptions, [stored(i) for i in op.inputs], out)
                yield Executed(kind, out.values, wanted)
        for index, made in states:
            run.set_tensor(index, run.get_tensor(made))


TFLITE_MOVES = frozenset({"CONCATENATION", "PAD", "RESHAPE", "SLICE", "SPLIT", "TRANSPOSE"})


def tflite_rule(kind: str, options: Any, ins: list[Stored], out: Stored) -> Array:
    """TFLite lies as (1, time, bands, channels), its weights as (out, time, band, in) or (1, time, band, out)."""
    if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        depthwise = kind != "CONV_2D"
        x, weight, bias = ins
        x = x._replace(values=x.values.transpose(0, 3, 1, 2))
        weight = weight._replace(values=weight.values.transpose((3, 0, 1, 2) if depthwise else (0, 3, 1, 2)))
        n_bands, width, n_out = x.values.shape[3], weight.values.shape[3], out.values.shape[2]
        short = max((n_out - 1) * options.strideW + width - n_bands, 0)
        return convolved(
            x,
            weight,
            bias,
            out,
            (short // 2, short - short // 2),
            stride=(1, options.strideW),
            dilation=(options.dilationHFactor, 1),
            groups=len(weight.values) if depthwise else 1,
        ).transpose(0, 2, 3, 1)
    if kind == "LEAKY_RELU":
        return leaky(ins[0], options.alpha, out)
    if kind == "QUANTIZE" and ins[0].values.dtype == np.float32:
        return quantize(ins[0].values, QParams(float(out.scales[0]), out.zero_point)).astype(int)
    return out.holds(ELEMENTWISE[kind](*(x.real for x in ins)))


def onnx_ops(model: Emitted, frames: Float32Array) -> Iterator[Executed]:
    """8-bit tensors become outputs: they stay the ends of the fused operators, so fusion goes on as before."""
    proto = onnx.load_from_string(model.data)
    made_by = {name: node for node in proto.graph.node for name in node.output}
    constants = {i.name: numpy_helper.to_array(i) for i in proto.graph.initializer}
    rounded = [node for node in proto.graph.node if node.op_type == "QuantizeLinear"]

    def before(node: onnx.NodeProto) -> onnx.NodeProto | None:
        """The operator that makes what `node` rounds, when that operator itself reads 8 bits."""
        source = made_by[node.input[0]]
        source = made_by[source.input[0]] if source.op_type == "Reshape" else source
        read = [made_by[name].op_type if name in made_by else "" for name in source.input]
        return source if set(read) == {"DequantizeLinear"} else None

    shown = {n.input[0] for n in proto.graph.node if n.op_type == "DequantizeLinear"} - set(constants)
    shown |= {n.output[0] for n in rounded} | {n.input[0] for n in rounded if before(n) is None}
    states = {s.name: np.full(s.shape, s.zero_point, s.dtype) for s in model.states}
    proto.graph.output.extend(helper.make_empty_tensor_value_info(n) for n in sorted(shown - set(states)))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_outputs()]
    for frame in frames:
        values = {
            **constants,
            **states,
            **dict(zip(names, session.run(None, {"spectrum": frame[None, :, None], **states}), strict=True)),
        }

        def stored(node: onnx.NodeProto, integers: str, values: dict[str, Array] = values) -> Stored:
            return Stored(
                values[integers], np.atleast_1d(values[node.input[1]]), int(np.ravel(values[node.input[2]])[0])
            )

        for node in rounded:
            out, source = stored(node, node.output[0]), before(node)
            if source is None:
                grid = QParams(float(out.scales[0]), out.zero_point - UINT8_SHIFT)
                wanted = quantize(values[node.input[0]], grid).astype(int) + UINT8_SHIFT
                yield Executed("QuantizeLinear", out.values, wanted)
            else:
                ins = [stored(made_by[name], made_by[name].input[0]) for name in source.input]
                attrs = {a.name: helper.get_attribute_value(a) for a in source.attribute}
                yield Executed(source.op_type, out.values, onnx_rule(source.op_type, attrs, ins, out))
        states = {name: values[f"{name}_out"] for name in states}


def onnx_rule(kind: str, attrs: dict[str, Any], ins: list[Stored], out: Stored) -> Array:
    """ONNX lies as (1, channels, time, bands), or (bands, channels) around Gemm."""
    if kind == "Conv":
        strides, dilations, pads = attrs["strides"], attrs["dilations"], attrs["pads"]
        return convolved(*ins, out, (pads[1], pads[3]), stride=strides, dilation=dilations, groups=attrs["group"])
    if kind == "Gemm":
        x, weight, bias = ins
        turned = x._replace(values=x.values.T[None, :, None])
        return convolved(turned, weight._replace(values=weight.values.T[:, :, None, None]), bias, out, (0, 0))[
            0, :, 0
        ].T
    if kind == "LeakyRelu":
        return leaky(ins[0], attrs["alpha"], out)
    if kind == "Concat":
        return out.holds(np.concatenate([x.real for x in ins], attrs["axis"])).reshape(out.values.shape)
    return out.holds(ELEMENTWISE[{"Add": "ADD", "Mul": "MUL", "Sigmoid": "LOGISTIC"}[kind]](*(x.real for x in ins)))


# runtime -> operator -> the share of its values that may be one LSB off; none may be more. Measured on x86-64 over
# 30 frames and both recipes, and allowed about twice that:
# - the rule divides in float64, kernels in float32, and now and then a value falls on a tie: 1e-4, in sums 5e-4;
# - XNNPACK has 8-bit fixed-point slopes for LeakyReLU and for QUANTIZE from one grid to another: 1.9 %, 1.2 %;
# - TFLite's own kernels round twice in fixed point: convolutions 0.3 %, depthwise 0.9 %, MUL 0.5 %, LEAKY_RELU 2.7 %.
TIE = 2e-4
CLASSES: dict[str, dict[str, float]] = {
    "onnx": {
        "Conv": TIE, "Gemm": TIE, "Add": 0.002, "Mul": TIE, "Concat": TIE,
        "LeakyRelu": 0, "Sigmoid": 0, "QuantizeLinear": 0,
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


def judged(runtime: str, model: Emitted, frames: Float32Array) -> dict[str, Judged]:
    """Every 8-bit operator of a model by kind."""
    found = onnx_ops(model, frames) if runtime == "onnx" else tflite_ops(model, frames, builtin=runtime != "tflite")
    worst, off, total = defaultdict[str, int](int), defaultdict[str, int](int), defaultdict[str, int](int)
    for op in found:
        lsb = np.abs(op.found.astype(int) - op.wanted)
        worst[op.kind] = max(worst[op.kind], int(lsb.max()))
        off[op.kind] += int(np.count_nonzero(lsb))
        total[op.kind] += lsb.size
    return {kind: Judged(worst[kind], off[kind] / total[kind]) for kind in total}


def breaches(runtime: str, found: dict[str, Judged]) -> dict[str, Judged]:
    """The kinds that leave their class: more than one step off, or too many values one step off."""
    return {kind: j for kind, j in found.items() if j.worst > 1 or j.share > CLASSES[runtime][kind]}


def main(folder: str) -> None:
    """`asked.pkl`: runtime -> (model, frames for its operators, frames of sound) -> `judged.json`, `isas.json` with the
    native kernels that this processor runs, fastest first, and RUNTIME.npy, the sound."""
    asked = pickle.loads((Path(folder) / "asked.pkl").read_bytes())
    told = {}
    for runtime, (model, few, sound) in asked.items():
        if runtime != "native":
            told[runtime] = judged(runtime, model, few)
        np.save(Path(folder) / f"{runtime}.npy", stream(engine(runtime, model), sound))
    (Path(folder) / "judged.json").write_text(json.dumps(told))
    (Path(folder) / "isas.json").write_text(json.dumps(list(isas())))


if __name__ == "__main__":
    main(sys.argv[1])
