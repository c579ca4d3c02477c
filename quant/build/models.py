"""What is emitted: the models of our engines and those for other software, and the vectors that each must reach."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from edge_runtime.engines import open_model
from edge_runtime.engines.golden import snr_db, stream
from edge_runtime.manifest import ModelEntry
from edge_runtime.stft import Float32Array
from quant.emit.emitted import Emitted
from quant.emit.native.emitter import emit_native
from quant.emit.onnx import tensorrt_rules
from quant.emit.onnx.emitter import emit_onnx
from quant.emit.onnx.official import emit_official
from quant.emit.onnx.tensorrt import emit_tensorrt
from quant.emit.tflite.emitter import emit_tflite
from quant.int8.plan import Plan
from quant.int8.reference import Reference
from quant.int8.roundings import with_fewer_roundings
from quant.int8.runtimes import for_onnx, for_tflite
from quant.network.float_model import FloatModel
from quant.network.graph import Graph
from quant.network.spectra import analyse
from quant.ptq.quantize import Quantized
from quant.report.schema import FileSize

OFFICIAL_FILE, TENSORRT_FILE = "model.official.onnx", "model.tensorrt.onnx"


@dataclass(frozen=True)
class Models:
    """File name -> model: what our engines run, and what other software does."""

    ours: Mapping[str, Emitted]
    others: Mapping[str, Emitted] = field(default_factory=dict)

    @property
    def every(self) -> dict[str, Emitted]:
        """Both."""
        return {**self.ours, **self.others}

    def sizes(self) -> dict[str, FileSize]:
        """By file: all bytes, and those of its constants."""
        return {name: FileSize(bytes=len(e.data), constant_bytes=e.constant_bytes) for name, e in self.every.items()}


def emit_all(graph: Graph, quantized: Quantized, *, bare: bool, official: bool, tensorrt: bool) -> Models:
    """Every model file, int8 and float; those of the native engine alone for a `bare` board."""
    ours = emit_engine(graph, quantized)
    if not bare:
        ours = {
            "model.onnx": emit_onnx(quantized.graph, quantized.plan),
            "model.fp32.onnx": emit_onnx(graph),
            "model.tflite": emit_tflite(quantized.graph, quantized.plan),
            "model.fp32.tflite": emit_tflite(graph),
            **ours,
        }
    return Models(ours, emit_others(graph, quantized, official=official, tensorrt=tensorrt))


def emit_engine(graph: Graph, quantized: Quantized) -> dict[str, Emitted]:
    """The weights of the native engine."""
    return {
        "model.native": emit_native(quantized.graph, quantized.plan),
        "model.fp32.native": emit_native(graph),
    }


def emit_others(graph: Graph, quantized: Quantized, *, official: bool, tensorrt: bool) -> dict[str, Emitted]:
    """With the official signature, by TensorRT's rules. ValueError where those would be broken."""
    models: dict[str, Emitted] = {}
    if official:
        models[OFFICIAL_FILE] = emit_official(quantized.graph, quantized.plan)
        models["model.official.fp32.onnx"] = emit_official(graph)
    if tensorrt:
        models[TENSORRT_FILE] = emit_tensorrt(quantized.graph, quantized.plan)
        if breaches := tensorrt_rules.violations(models[TENSORRT_FILE].data):
            raise ValueError(f"{TENSORRT_FILE} breaks {len(breaches)} rules: {breaches[0]}")
    return models


def golden_vectors(graph: Graph, quantized: Quantized, noisy: Float32Array, *, bare: bool) -> dict[str, Float32Array]:
    """`noisy` (samples,) through the float model and the integer reference, as `engines.golden` reads it.

    Of the plan as each engine computes it (`roundings`, `runtimes`); a `bare` board has the native one alone.
    """
    spectrum = analyse(noisy, graph.window)
    with torch.no_grad():
        enhanced, _ = FloatModel(graph)(torch.from_numpy(spectrum)[None])
    frames = np.ascontiguousarray(spectrum.transpose(1, 2, 0))
    golden = {
        "spectrum": frames,
        "enhanced_fp32": np.ascontiguousarray(enhanced[0].permute(1, 2, 0).numpy()),
        "enhanced_int8": _referred(*with_fewer_roundings(quantized.graph, quantized.plan), frames),
    }
    if not bare:
        golden["enhanced_int8_tflite"] = _referred(*for_tflite(quantized.graph, quantized.plan), frames)
        golden["enhanced_int8_onnx"] = _referred(*for_onnx(quantized.graph, quantized.plan), frames)
    return golden


def _referred(graph: Graph, plan: Plan, frames: Float32Array) -> Float32Array:
    """Frames (n, 257, 2) through the integer reference."""
    reference = Reference(graph, plan)
    return np.stack([reference.step(frame) for frame in frames]).astype(np.float32)


def tensorrt_snr_db(model: Emitted, golden: Mapping[str, Float32Array]) -> float:
    """How near its numbers are to float on the golden vectors, in ONNX Runtime."""
    entry = ModelEntry(file=TENSORRT_FILE, states=model.states, golden_snr_floor_db=0)
    enhanced = stream(open_model(model.data, entry, "onnx", "int8"), golden["spectrum"])
    return snr_db(golden["enhanced_fp32"], enhanced)
