"""Model files for other software: the official signature (`official_io`), TensorRT (`emit_tensorrt`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import UNSET, UnsetType

from edge_runtime.engines import onnx as onnx_engine
from edge_runtime.engines.golden import snr_db, stream
from edge_runtime.manifest import ModelEntry
from quant.emit.emitted import Emitted
from quant.emit.onnx import official as official_io
from quant.emit.onnx import tensorrt as emit_tensorrt
from quant.emit.onnx import tensorrt_rules
from quant.network.graph import Array, Graph
from quant.ptq.quantize import Quantized
from quant.report.schema import TensorrtPart

TENSORRT_FILE: Final = "model.tensorrt.onnx"


def emit(graph: Graph, quantized: Quantized, *, official: bool, tensorrt: bool) -> dict[str, Emitted]:
    """Files by name. Raises ValueError where TensorRT's rules would be broken."""
    models: dict[str, Emitted] = {}
    if official:
        models["model.official.onnx"] = official_io.emit(quantized.graph, quantized.plan)
        models["model.official.fp32.onnx"] = official_io.emit(graph)
    if tensorrt:
        models[TENSORRT_FILE] = emit_tensorrt.emit(quantized.graph, quantized.plan)
        if breaches := tensorrt_rules.violations(models[TENSORRT_FILE].data):
            raise ValueError(f"{TENSORRT_FILE} breaks {len(breaches)} rules: {breaches[0]}")
    return models


def tensorrt_report(models: Mapping[str, Emitted], golden: Mapping[str, Array]) -> TensorrtPart | UnsetType:
    """The report's part; nothing without such a file."""
    if TENSORRT_FILE not in models:
        return UNSET
    model = models[TENSORRT_FILE]
    entry = ModelEntry(file=TENSORRT_FILE, states=model.states, golden_snr_floor_db=0)
    enhanced = stream(onnx_engine.open_model(model.data, entry, "int8", 1), golden["spectrum"])
    return TensorrtPart(golden_snr_db=snr_db(golden["enhanced_fp32"], enhanced))
