"""ONNX and TFLite files of the tests' graphs and plans, each emitted once."""

from __future__ import annotations

from quant.emit.emitted import Emitted
from quant.emit.onnx.emitter import emit_onnx
from quant.emit.tflite.emitter import emit_tflite
from quant.int8.plan import Plan
from quant.network.graph import Graph

KEPT: dict[tuple[str, int, int], tuple[Graph, Plan | None, Emitted]] = {}


def emitted(runtime: str, graph: Graph, plan: Plan | None = None) -> Emitted:
    """Emitted once."""
    kind = "onnx" if runtime == "onnx" else "tflite"
    key = (kind, id(graph), id(plan))
    if key not in KEPT:
        KEPT[key] = (graph, plan, anew(kind, graph, plan))
    return KEPT[key][-1]


def anew(runtime: str, graph: Graph, plan: Plan | None = None) -> Emitted:
    return (emit_onnx if runtime == "onnx" else emit_tflite)(graph, plan)
