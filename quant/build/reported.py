"""What the report says of what was made: its cost, its errors, where it comes from."""

from __future__ import annotations

from msgspec import UNSET, UnsetType

from edge_runtime.stft import Float32Array
from quant.audit import accuracy, budget, coverage, losses
from quant.audit.findings import CoveragePart
from quant.audit.footprint import Footprint
from quant.audit.memory import plan_memory
from quant.build.contents import Made, built_with
from quant.build.models import TENSORRT_FILE, tensorrt_snr_db
from quant.emit.native import c_project
from quant.inputs.source import Inputs
from quant.int8.plan import plan_table
from quant.report import remake, schema
from quant.report.provenance import provenance
from quant.report.schema import Report, TensorrtPart, Weights
from quant.search.climb import Found
from quant.search.path import SearchPart


def make_report(made: Made, noisy: Float32Array, inputs: Inputs, found: Found | None) -> Report:
    """The whole report; accuracy on `noisy` (clips, samples). `found`: the search that led to the recipe."""
    graph, plan, ranges = made.quantized.graph, made.quantized.plan, made.quantized.ranges
    rows, histograms = accuracy.study(graph, plan, noisy)
    report = Report(
        format=schema.FORMAT,
        version=schema.VERSION,
        board=made.board.name,
        target=made.board,
        network=made.source.family.name,
        recipe=made.source.recipe.name,
        checkpoint=Weights(name=made.source.name, sha256=made.source.sha256),
        files=made.models.sizes(),
        budget=budget.report(made.board, made.source.network, plan.precision, streaming=graph, held=held(made)),
        memory=plan_memory(graph, plan.precision),
        coverage=executed(made),
        plan=plan_table(graph, plan),
        accuracy=tuple(rows),
        histograms=tuple(histograms),
        losses=losses.losses(graph, plan, noisy),
        provenance=provenance(made.board.name, made.source, ranges, ranges.to_json(), given(inputs), built_with()),
        verdict=(),
        search=None if found is None else SearchPart(path=found.steps),
        tensorrt=tensorrt(made),
    )
    return remake.complete(report, made.clips)


def held(made: Made) -> Footprint:
    """Flash and RAM of the C engine's 8-bit model. Failure: the engine is not compiled here."""
    try:
        return Footprint.of(made.models.ours["model.native"].data)
    except ImportError as error:
        raise c_project.not_compiled() from error


def executed(made: Made) -> dict[str, CoveragePart]:
    """Engine -> the precision of each node as it runs it; the native engine computes the plan itself."""
    graph, plan, models = made.quantized.graph, made.quantized.plan, made.models.ours
    auditors = {"onnx": coverage.audit_onnx, "tflite": coverage.audit_tflite}
    return {e: audit(graph, plan, models[f"model.{e}"]) for e, audit in auditors.items() if f"model.{e}" in models}


def tensorrt(made: Made) -> TensorrtPart | UnsetType:
    """Of the model by TensorRT's rules, if one was asked for."""
    model = made.models.others.get(TENSORRT_FILE)
    return UNSET if model is None else TensorrtPart(golden_snr_db=tensorrt_snr_db(model, made.golden))


def given(inputs: Inputs) -> dict[str, bool]:
    """What the user named; the rest was pulled, or came in a trained file."""
    return {
        "weights": inputs.checkpoint is not None,
        "speech": inputs.speech is not None,
        "noise": inputs.noise is not None,
    }
