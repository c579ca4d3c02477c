"""`quant build`: checkpoint, board and recipe in, one artifact folder out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import boards
from calibration.corpus import Corpus
from calibration.ranges import Ranges
from edge_runtime.errors import Failure
from edge_runtime.manifest import open_artifact
from edge_runtime.quiet import Progress, silent
from edge_runtime.stft import Float32Array
from quant.artifact.folder import whole_artifact
from quant.build import again, contents
from quant.build.contents import Made
from quant.build.models import emit_all, golden_vectors
from quant.build.reported import make_report
from quant.build.settings import Settings
from quant.emit.native import limits
from quant.inputs.source import Inputs, Source, read, sounds
from quant.int8.plan import PlanRow, plan_table
from quant.ptq import quantize
from quant.ptq.quantize import CalibrationSet, Quantized
from quant.report.schema import Report
from quant.search import climb, validation
from quant.search.climb import Found


@dataclass(frozen=True)
class Built:
    """What a build leaves, for the one who asked."""

    folder: Path
    report: Report


@dataclass(frozen=True)
class Heard:
    """What is listened to: clips mixed from corpora, or those that came with a trained file.

    `excerpt`: (clips, samples), of which golden vectors and the error of every tap are.
    """

    excerpt: Float32Array
    calibration: CalibrationSet | None = None
    corpora: tuple[Corpus, Corpus] | None = None


def build(settings: Settings, progress: Progress) -> Built:
    """Everything, in order; raises Failure for anything the user can mend, and then leaves nothing behind.

    An artifact that is there is replaced by `force` alone. Where it is of the same inputs all is built once more beside
    it, and it is left as it is, with what was measured of it and its signature: the models are the same.
    """
    if (there := again.artifact_there(settings)) is None:
        return _build(settings, progress)
    again.require_same_inputs(there, settings, read(settings.start, silent))
    with TemporaryDirectory() as scratch:
        elsewhere = replace(settings.outputs, folder=Path(scratch) / settings.folder.name, html=False)
        made = _build(replace(settings, outputs=elsewhere), progress)
        report = again.require_same_models(there, open_artifact(made.folder).manifest)
    progress(f"{settings.folder}: the same models are there already; left as it is")
    return Built(settings.folder, report)


def _build(settings: Settings, progress: Progress) -> Built:
    inputs, effort, outputs = settings.inputs, settings.effort, settings.outputs
    board, ranges = boards.load(settings.target), named_ranges(inputs)
    if settings.search is not None:
        validation.require_metrics()
    with whole_artifact(settings.folder, outputs.force) as part:
        source = read(settings.start, progress)
        limits.require(source.graph)
        heard = hear(settings, source, progress)
        found = search(settings, source, heard, progress)
        source = replace(source, recipe=found.recipe) if found else source
        quantized = quantize_with(ranges, inputs, source, heard.calibration, progress)
        progress("emitting native weights" if board.bare else "emitting ONNX, TFLite and native weights")
        asked = {"official": outputs.official_io, "tensorrt": outputs.tensorrt}
        models = emit_all(source.graph, quantized, bare=board.bare, **asked)
        progress("writing golden vectors")
        noisy = heard.excerpt[0, : effort.golden_samples]
        golden = golden_vectors(source.graph, quantized, noisy, bare=board.bare)
        made = Made(board=board, source=source, quantized=quantized, models=models, noisy=noisy, golden=golden)
        progress("measuring the error of every tap")
        measured_on = heard.excerpt[: effort.n_accuracy_clips, : effort.accuracy_samples]
        report = make_report(made, measured_on, inputs, found)
        for name, data in contents.files(made, report, html=outputs.html, progress=progress).items():
            (part / name).write_bytes(data)
    return Built(settings.folder, report)


def plan(settings: Settings, progress: Progress) -> tuple[PlanRow, ...]:
    """The plan a build would follow, as rows; writes nothing."""
    boards.load(settings.target)
    inputs, ranges = settings.inputs, named_ranges(settings.inputs)
    source = read(settings.start, progress)
    needs_sounds = ranges is None and source.ranges is None
    calibration = hear(settings, source, progress).calibration if needs_sounds else None
    quantized = quantize_with(ranges, inputs, source, calibration, progress)
    return plan_table(quantized.graph, quantized.plan)


def named_ranges(inputs: Inputs) -> Ranges | None:
    """Those of an earlier build, if the user named them."""
    return Ranges.load(inputs.ranges) if inputs.ranges is not None else None


def hear(settings: Settings, source: Source, progress: Progress) -> Heard:
    """A trained file brings all that it needs; sounds that the user names are measured on all the same."""
    inputs = settings.inputs
    if source.noisy is not None and inputs.speech is None and inputs.noise is None:
        return Heard(source.noisy)
    corpora = sounds(inputs, progress)
    calibration = CalibrationSet.make(*corpora, settings.effort.mix)
    return Heard(calibration.excerpt, calibration, corpora)


def search(settings: Settings, source: Source, heard: Heard, progress: Progress) -> Found | None:
    """The recipe within the user's budget, if one was given."""
    wanted, effort = settings.search, settings.effort
    if wanted is None or heard.calibration is None or heard.corpora is None:
        return None
    return climb.search(
        source,
        heard.calibration,
        heard.corpora,
        progress,
        max_pesq_drop=wanted.max_pesq_drop,
        state=wanted.state,
        split=effort.validation,
        n_again=effort.n_again,
    )


def quantize_with(
    ranges: Ranges | None, inputs: Inputs, source: Source, calibration: CalibrationSet | None, progress: Progress
) -> Quantized:
    """With ranges given or learned no sound is needed; with both, weights are refined on it."""
    if ranges is None and source.ranges is not None:
        return quantize.requantize(source.graph, source.recipe, source.ranges)
    if ranges is None:
        assert calibration is not None, "what brings no ranges brings no sounds"
        progress("calibrating")
        return quantize.quantize(source.graph, source.recipe, calibration, source.sha256)
    try:
        measured_on = source.ranges.provenance.checkpoint_sha256 if source.ranges else source.sha256
        quantized = quantize.requantize(source.graph, source.recipe, ranges, measured_on)
    except Failure as failure:
        raise Failure(str(failure), where=inputs.ranges) from None
    return quantize.refine(quantized, source.recipe, calibration) if calibration else quantized
