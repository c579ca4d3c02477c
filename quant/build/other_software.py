"""Model files for other software: the official signature, TensorRT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from edge_runtime.engines import onnx as onnx_engine
from edge_runtime.engines.golden import snr_db, stream
from edge_runtime.manifest import ModelEntry
from edge_runtime.stft import Float32Array
from quant.emit.emitted import Emitted
from quant.emit.onnx import tensorrt_rules
from quant.emit.onnx.official import emit_official
from quant.emit.onnx.tensorrt import emit_tensorrt
from quant.network.graph import Graph
from quant.ptq.quantize import Quantized

TENSORRT_FILE: Final = "model.tensorrt.onnx"


def emit(graph: Graph, quantized: Quantized, *, official: bool, tensorrt: bool) -> dict[str, Emitted]:
    """Files by name. Raises ValueError where TensorRT's rules would be broken."""
    models: dict[str, Emitted] = {}
    if official:
        models["model.official.onnx"] = emit_official(quantized.graph, quantized.plan)
        models["model.official.fp32.onnx"] = emit_official(graph)
    if tensorrt:
        models[TENSORRT_FILE] = emit_tensorrt(quantized.graph, quantized.plan)
        if breaches := tensorrt_rules.violations(models[TENSORRT_FILE].data):
            raise ValueError(f"{TENSORRT_FILE} breaks {len(breaches)} rules: {breaches[0]}")
    return models


def tensorrt_report(models: Mapping[str, Emitted], golden: Mapping[str, Float32Array]) -> dict[str, dict[str, float]]:
    """How near its numbers are to float on the golden vectors, in ONNX Runtime; nothing without such a file."""
    if TENSORRT_FILE not in models:
        return {}
    model = models[TENSORRT_FILE]
    entry = ModelEntry(file=TENSORRT_FILE, states=model.states, golden_snr_floor_db=0)
    enhanced = stream(onnx_engine.open_model(model.data, entry, "int8", 1), golden["spectrum"])
    return {"tensorrt": {"golden_snr_db": snr_db(golden["enhanced_fp32"], enhanced)}}
