"""What the report says of what was made: its cost, its errors, where it comes from."""

from __future__ import annotations

from msgspec import UNSET

from edge_runtime.stft import Float32Array
from quant.audit import accuracy, budget, coverage
from quant.audit.memory import plan_memory
from quant.build.contents import Made, built_with
from quant.build.models import TENSORRT_FILE, tensorrt_snr_db
from quant.inputs.source import Inputs
from quant.int8.plan import plan_table
from quant.report import remake, schema
from quant.report.provenance import provenance
from quant.report.schema import Report, TensorrtPart, Weights
from quant.search.climb import Found
from quant.search.path import SearchPart


def make_report(made: Made, noisy: Float32Array, inputs: Inputs, found: Found | None) -> Report:
    """The whole report; accuracy on `noisy` (clips, samples). `found`: the search that led to the recipe."""
    graph, plan, models = made.quantized.graph, made.quantized.plan, made.models.ours
    auditors = {"model.onnx": coverage.audit_onnx, "model.tflite": coverage.audit_tflite}
    audits = [audit(graph, plan, models[name]) for name, audit in auditors.items() if name in models]
    rows, histograms = accuracy.study(graph, plan, noisy)
    ranges, tensorrt = made.quantized.ranges, made.models.others.get(TENSORRT_FILE)
    report = Report(
        format=schema.FORMAT,
        version=schema.VERSION,
        board=made.board.name,
        target=made.board,
        recipe=made.source.recipe.name,
        checkpoint=Weights(name=made.source.name, sha256=made.source.sha256),
        files=made.models.sizes(),
        budget=budget.report(made.board, made.source.network, plan.precision, streaming=graph),
        memory=plan_memory(graph, plan.precision),
        coverage={audit.engine: audit for audit in audits},
        plan=plan_table(graph, plan),
        accuracy=tuple(rows),
        histograms=tuple(histograms),
        provenance=provenance(made.board.name, made.source, ranges, ranges.to_json(), given(inputs), built_with()),
        verdict=(),
        search=SearchPart(path=found.steps) if found else None,
        tensorrt=TensorrtPart(golden_snr_db=tensorrt_snr_db(tensorrt, made.golden)) if tensorrt else UNSET,
    )
    return remake.complete(report, [made.clip])


def given(inputs: Inputs) -> dict[str, bool]:
    """What the user named; the rest was pulled, or came in a trained file."""
    return {
        "weights": inputs.checkpoint is not None,
        "speech": inputs.speech is not None,
        "noise": inputs.noise is not None,
    }
