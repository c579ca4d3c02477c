"""The coverage audit: the precision of each node as the runtime executes it, read back from the runtime.

The plan is what was asked for. ONNX Runtime may have no 8-bit kernel, or refuse a fusion; so the model is loaded with
the runtime's own optimizations and the result is examined. MACs are the network's own (`counts`), so that zeros which
an engine multiplies along (block-diagonal GRUs, dense kernels for grouped ones) do not flatter its share. What an
engine multiplies, zeros and all, is told beside it where the file says it.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edge_runtime.quiet import quiet_stderr
from quant.audit.counts import count
from quant.audit.findings import CoverageNode, CoveragePart
from quant.emit.emitted import Emitted
from quant.int8.plan import MIXED_RANGED, Plan
from quant.int8.recipe import RECURRENT
from quant.network.graph import Graph

TFLITE_PRODUCTS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})  # they decide for their node
ONNX_INT8_OPS = re.compile(r"^(QLinear|QGemm|QAttention|MatMulInteger|ConvInteger)")
ONNX_RENAMED = re.compile(r"^(?:fused )?(.*?)(?:_token_\d+|_nchwc|_quant)*$")  # what fusions add to a name


def audit_tflite(graph: Graph, plan: Plan, emitted: Emitted) -> CoveragePart:
    """Types and shapes as the interpreter sees them, operator by operator."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    with quiet_stderr():
        interpreter = Interpreter(
            model_content=emitted.data,
            num_threads=1,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
    tensors = {d["index"]: d for d in interpreter.get_tensor_details()}
    types: dict[str, set[str]] = {}
    products: dict[str, set[str]] = {}
    multiplied = {"int8": 0, "float32": 0}
    for op, node in zip(interpreter._get_ops_details(), emitted.op_nodes, strict=True):
        outputs = [np.dtype(tensors[i]["dtype"]).name for i in op["outputs"]]
        if op["op_name"] not in ("QUANTIZE", "DEQUANTIZE"):
            types.setdefault(node, set()).update(outputs)
        if op["op_name"] in TFLITE_PRODUCTS:
            products.setdefault(node, set()).update(outputs)
            multiplied[outputs[0]] += _products(tensors[op["outputs"][0]]["shape"], tensors[op["inputs"][1]]["shape"])
    executed = {name: _executed(kinds, products.get(name, set())) for name, kinds in types.items()}
    return _coverage("tflite", graph, plan, executed, multiplied)


def _products(out: Sequence[int], weight: Sequence[int]) -> int:
    """MACs of a product: each number of the filter (out, t, b, in), (1, t, b, out) or (out, in) once a place."""
    return int(np.prod(out[:-1]) * np.prod(weight))


def _executed(types: set[str], products: set[str]) -> str:
    """`mixed`: int8 products among float operators, as in a GRU with a float state."""
    if types == {"int8"}:
        return "int8"
    return "mixed" if products == {"int8"} else "float"


def audit_onnx(graph: Graph, plan: Plan, emitted: Emitted) -> CoveragePart:
    """Operators after the runtime's own fusions; a node whose integer kernel is not there counts as float."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder, quiet_stderr():
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        options.log_severity_level = 3
        onnxruntime.InferenceSession(emitted.data, options, providers=["CPUExecutionProvider"])
        optimized = onnx.load(options.optimized_model_filepath)
    executed: dict[str, str] = {}
    names = {n.name for n in graph.nodes}
    products = {f"{n.name}.{role}": n.name for n in graph.nodes if n.kind in RECURRENT for role in MIXED_RANGED}
    for op in optimized.graph.node:
        for candidate in (op.name, *op.output):
            name = ONNX_RENAMED.sub(r"\1", candidate)
            if op.op_type in ("QuantizeLinear", "DequantizeLinear"):
                continue
            int8 = bool(ONNX_INT8_OPS.match(op.op_type))
            if name in names:
                executed[name] = "int8" if int8 else "float"
            elif name in products:  # of both, the worse
                found = executed.get(products[name], "mixed")
                executed[products[name]] = found if int8 else "float"
    return _coverage("onnx", graph, plan, executed, {})


def _coverage(
    engine: str, graph: Graph, plan: Plan, executed: Mapping[str, str], multiplied: dict[str, int]
) -> CoveragePart:
    """A node that multiplies and was not found as an integer operator counts as float."""
    nodes = []
    for node, layer in zip(graph.nodes, count(graph), strict=True):
        found = executed.get(node.name, "float" if layer.macs_frame else "moved")
        elementwise = 2 * layer.shape.channels * layer.shape.bands  # r * h and z * (h - n): float in a mixed GRU
        int8_macs = {"int8": layer.macs_frame, "mixed": layer.macs_frame - elementwise}.get(found, 0)
        planned = plan.precision[node.name]
        facts = {"node": node.name, "kind": node.kind, "planned": planned, "executed": found}
        nodes.append(CoverageNode(**facts, macs=layer.macs_frame, int8_macs=int8_macs))
    macs = sum(n.macs for n in nodes)
    share = round(sum(n.int8_macs for n in nodes) / max(macs, 1), 4)
    return CoveragePart(engine=engine, macs_frame=macs, int8_share=share, multiplied=multiplied, nodes=tuple(nodes))
