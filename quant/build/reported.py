"""What the report says of what was made: its cost, its errors, where it comes from."""

from __future__ import annotations

from typing import Any

import msgspec

from edge_runtime.stft import Float32Array
from quant.audit import accuracy, budget, coverage
from quant.audit.memory import plan_memory
from quant.build.contents import Made, built_with
from quant.build.models import TENSORRT_FILE, tensorrt_snr_db
from quant.inputs.source import Inputs
from quant.int8.plan import plan_table
from quant.report import remake
from quant.report.clips import golden_clip
from quant.report.provenance import provenance
from quant.search.climb import Found


def make_report(made: Made, noisy: Float32Array, inputs: Inputs, found: Found | None) -> dict[str, Any]:
    """The whole report; accuracy on `noisy` (clips, samples). `found`: the search that led to the recipe."""
    figures = figures_of(made, noisy)
    if found is not None:
        figures["search"] = found.to_dict()
    if model := made.models.others.get(TENSORRT_FILE):
        figures["tensorrt"] = {"golden_snr_db": tensorrt_snr_db(model, made.golden)}
    ranges = made.quantized.ranges
    figures["provenance"] = provenance(
        made.board.name, made.source, ranges, ranges.to_json(), given(inputs), built_with()
    )
    return remake.complete(figures, made.board, [golden_clip(made.golden, remake.GOLDEN_SOURCE)])


def figures_of(made: Made, noisy: Float32Array) -> dict[str, Any]:
    """Budget, coverage, plan and accuracy, as JSON types."""
    graph, plan, models = made.quantized.graph, made.quantized.plan, made.models.ours
    auditors = {"model.onnx": coverage.audit_onnx, "model.tflite": coverage.audit_tflite}
    audits = [audit(graph, plan, models[name]) for name, audit in auditors.items() if name in models]
    rows, histograms = accuracy.study(graph, plan, noisy)
    counted = budget.report(made.board, made.source.network, plan.precision, streaming=graph)
    return {
        "board": made.board.name,
        "recipe": made.source.recipe.name,
        "checkpoint": {"name": made.source.name, "sha256": made.source.sha256},
        "files": made.models.sizes(),
        "budget": msgspec.to_builtins(counted),
        "coverage": {audit.engine: msgspec.to_builtins(audit) for audit in audits},
        "plan": plan_table(graph, plan),
        "accuracy": msgspec.to_builtins(rows),
        "histograms": msgspec.to_builtins(histograms),
        "memory": msgspec.to_builtins(plan_memory(graph, plan.precision)),
    }


def given(inputs: Inputs) -> dict[str, bool]:
    """What the user named; the rest was pulled, or came in a trained file."""
    return {
        "weights": inputs.checkpoint is not None,
        "speech": inputs.speech is not None,
        "noise": inputs.noise is not None,
    }
