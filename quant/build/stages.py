"""`quant build`: checkpoint, board and recipe in, one artifact folder out."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

import boards
from boards import Board
from calibration.corpus import Corpus
from calibration.ranges import Ranges
from edge_runtime.errors import Failure
from edge_runtime.manifest import Checkpoint, Manifest, ModelEntry
from edge_runtime.quiet import Progress
from edge_runtime.stft import HOP_SAMPLES, SAMPLE_RATE_HZ, WINDOW_SAMPLES, Float32Array
from quant.artifact import folder as artifact
from quant.artifact import sbom
from quant.artifact.stable_bytes import file_entry, json_bytes, npz_bytes
from quant.audit import accuracy, budget, coverage
from quant.audit.memory import plan_memory
from quant.build import other_software
from quant.build.settings import Settings
from quant.emit.emitted import Emitted
from quant.emit.native import c_project
from quant.emit.native import limits as native_limits
from quant.emit.native.emitter import emit_native
from quant.emit.onnx.emitter import emit_onnx
from quant.emit.tflite.emitter import emit_tflite
from quant.inputs.source import Inputs, Source, read, sounds
from quant.int8 import recipe
from quant.int8.plan import plan_table
from quant.int8.reference import Reference
from quant.network.float_model import FloatModel
from quant.network.graph import Graph
from quant.network.spectra import analyse
from quant.ptq import quantize
from quant.ptq.quantize import CalibrationSet, Quantized
from quant.report import card, remake
from quant.report.clips import golden_clip
from quant.report.provenance import provenance
from quant.search import climb, validation
from quant.search.climb import Found

FP32_FLOOR_DB = 90.0  # float32 sums in another order; 120 to 137 dB were measured
INT8_FLOOR_DB = 15.0  # a rounding that falls the other way feeds back through the states; 24 dB and more were measured
BUILT_WITH = (
    "edge-denoise", "torch", "numpy", "onnx", "onnxruntime", "ai-edge-litert", "flatbuffers", "jinja2", "matplotlib",
    "soundfile",
)  # fmt: skip


@dataclass(frozen=True)
class Built:
    """What a build leaves, for the one who asked."""

    folder: Path
    report: dict[str, Any]


def build(settings: Settings, progress: Progress) -> Built:
    """Everything, in order; raises Failure for anything the user can mend, and then leaves nothing behind."""
    board = boards.load(settings.target)
    if settings.search is not None:
        validation.require_metrics()
    inputs, effort, outputs = settings.inputs, settings.effort, settings.outputs
    ranges = Ranges.load(inputs.ranges) if inputs.ranges is not None else None
    with artifact.folder(settings.folder, outputs.force) as part:
        source = read(inputs.by_recipe() if settings.search else inputs, progress)
        native_limits.require(source.graph)
        corpora = sounds(inputs, progress) if _needs_sounds(inputs, source) else None
        calibration = CalibrationSet.make(*corpora, effort.mix) if corpora else None
        excerpt = calibration.excerpt if calibration else source.noisy
        assert excerpt is not None
        path = _searched(settings, source, calibration, corpora, progress) if corpora and calibration else None
        source = replace(source, recipe=path.recipe) if path else source
        quantized = _quantized(inputs, source, ranges, lambda: calibration, progress)
        if ranges is not None and calibration:
            quantized = quantize.refine(quantized, source.recipe, calibration)
        progress("emitting native weights" if board.bare else "emitting ONNX, TFLite and native weights")
        models = (emit_engine if board.bare else emit_all)(source.graph, quantized)
        progress("writing golden vectors")
        golden = golden_vectors(source.graph, quantized, excerpt[0, : effort.golden_samples])
        progress("measuring the error of every tap")
        measured_on = excerpt[: effort.n_accuracy_clips, : effort.accuracy_samples]
        figures = make_report(board, source, quantized, measured_on, models)
        if path:
            figures["search"] = path.to_dict()
        quantized.ranges.save(part / "ranges.json")
        ranges_json = (part / "ranges.json").read_bytes()
        asked = {"official": outputs.official_io, "tensorrt": outputs.tensorrt}
        more = other_software.emit(source.graph, quantized, **asked)
        if more:
            figures["files"] |= sizes(more)
        figures |= other_software.tensorrt_report(more, golden)
        figures["provenance"] = provenance(
            board.name, source, quantized.ranges, ranges_json, given(inputs), built_with()
        )
        progress("drawing the report" if outputs.html else "writing the folder")
        clips = [golden_clip(golden, remake.GOLDEN_SOURCE)]
        whole = remake.complete(figures, board, clips)
        files = {name: emitted.data for name, emitted in (models | more).items()} | {
            "golden.npz": npz_bytes(golden),
            "plan.json": json_bytes(whole["plan"]),
            "ranges.json": ranges_json,
            "recipe.toml": recipe.to_toml(source.recipe).encode(),
            **remake.pages(whole, board, clips, html=outputs.html),
        }
        checkpoint = Checkpoint(name=source.name, sha256=source.sha256)
        entries = {name: file_entry(data) for name, data in files.items()}
        files |= {sbom.FILE: sbom.make(board.name, checkpoint, entries)}
        if board.bare:
            progress("writing C sources and their vectors")
            names = {"checkpoint": source.name, "recipe": source.recipe.name, "version": version("edge-denoise")}
            files |= c_project.files(models, golden, excerpt[0, : effort.golden_samples], names)
        else:
            files |= {card.FILE: card.render(make_manifest(board, source, models, files), whole).encode()}
        for name, data in files.items():
            (part / name).write_bytes(data)
        artifact.write_manifest(part, make_manifest(board, source, models, files))
    return Built(settings.folder, whole)


def plan(settings: Settings, progress: Progress) -> list[dict[str, Any]]:
    """The plan a build would follow, as rows; writes nothing."""
    boards.load(settings.target)
    inputs = settings.inputs
    ranges = Ranges.load(inputs.ranges) if inputs.ranges is not None else None
    source = read(inputs, progress)
    quantized = _quantized(inputs, source, ranges, partial(calibration_set, settings, progress), progress)
    return plan_table(quantized.graph, quantized.plan)


def _needs_sounds(inputs: Inputs, source: Source) -> bool:
    """A trained file brings all that it needs; sounds that the user names are measured on all the same."""
    return source.noisy is None or inputs.speech is not None or inputs.noise is not None


def _quantized(
    inputs: Inputs,
    source: Source,
    ranges: Ranges | None,
    sounds: Callable[[], CalibrationSet | None],
    progress: Progress,
) -> Quantized:
    """With ranges given or learned no sound is needed."""
    if ranges is None and source.ranges is not None:
        return quantize.requantize(source.graph, source.recipe, source.ranges)
    if ranges is None:
        calibration = sounds()
        assert calibration is not None
        progress("calibrating")
        return quantize.quantize(source.graph, source.recipe, calibration, source.sha256)
    try:
        measured_on = source.ranges.provenance.checkpoint_sha256 if source.ranges else source.sha256
        return quantize.requantize(source.graph, source.recipe, ranges, measured_on)
    except Failure as failure:
        raise Failure(str(failure), where=inputs.ranges) from None


def _searched(
    settings: Settings,
    source: Source,
    calibration: CalibrationSet,
    corpora: tuple[Corpus, Corpus],
    progress: Progress,
) -> Found | None:
    """The recipe within the user's budget, if one was given."""
    wanted, effort = settings.search, settings.effort
    if wanted is None:
        return None
    return climb.search(
        source,
        calibration,
        corpora,
        progress,
        max_pesq_drop=wanted.max_pesq_drop,
        state=wanted.state,
        split=effort.validation,
        n_again=effort.n_again,
    )


def calibration_set(settings: Settings, progress: Progress) -> CalibrationSet:
    """The clips that ranges are measured on."""
    return CalibrationSet.make(*sounds(settings.inputs, progress), settings.effort.mix)


def emit_all(graph: Graph, quantized: Quantized) -> dict[str, Emitted]:
    """Every model file, int8 and float."""
    return {
        "model.onnx": emit_onnx(quantized.graph, quantized.plan),
        "model.fp32.onnx": emit_onnx(graph),
        "model.tflite": emit_tflite(quantized.graph, quantized.plan),
        "model.fp32.tflite": emit_tflite(graph),
        **emit_engine(graph, quantized),
    }


def emit_engine(graph: Graph, quantized: Quantized) -> dict[str, Emitted]:
    """The weights of the native engine alone."""
    return {
        "model.native": emit_native(quantized.graph, quantized.plan),
        "model.fp32.native": emit_native(graph),
    }


def sizes(models: dict[str, Emitted]) -> dict[str, dict[str, int]]:
    """By file: all bytes, and those of its constants."""
    return {name: {"bytes": len(e.data), "constant_bytes": e.constant_bytes} for name, e in models.items()}


def golden_vectors(graph: Graph, quantized: Quantized, noisy: Float32Array) -> dict[str, Float32Array]:
    """`noisy` (samples,) through the float model and the integer reference."""
    spectrum = analyse(noisy)
    with torch.no_grad():
        enhanced, _ = FloatModel(graph)(torch.from_numpy(spectrum)[None])
    frames = np.ascontiguousarray(spectrum.transpose(1, 2, 0))
    reference = Reference(quantized.graph, quantized.plan)
    return {
        "spectrum": frames,
        "enhanced_fp32": np.ascontiguousarray(enhanced[0].permute(1, 2, 0).numpy()),
        "enhanced_int8": np.stack([reference.step(frame) for frame in frames]).astype(np.float32),
    }


def make_report(
    board: Board,
    source: Source,
    quantized: Quantized,
    noisy: Float32Array,
    models: dict[str, Emitted],
) -> dict[str, Any]:
    """Budget, coverage, plan and accuracy on `noisy` (clips, samples), as JSON types."""
    plan = quantized.plan
    auditors = {"model.onnx": coverage.audit_onnx, "model.tflite": coverage.audit_tflite}
    audits = [audit(quantized.graph, plan, models[name]) for name, audit in auditors.items() if name in models]
    rows, histograms = accuracy.study(quantized.graph, plan, noisy)
    counted = budget.report(board, source.network, plan.precision, streaming=quantized.graph)
    return {
        "board": board.name,
        "recipe": source.recipe.name,
        "checkpoint": {"name": source.name, "sha256": source.sha256},
        "files": sizes(models),
        "budget": msgspec.to_builtins(counted),
        "coverage": {audit.engine: msgspec.to_builtins(audit) for audit in audits},
        "plan": plan_table(quantized.graph, plan),
        "accuracy": msgspec.to_builtins(rows),
        "histograms": msgspec.to_builtins(histograms),
        "memory": msgspec.to_builtins(plan_memory(quantized.graph, plan.precision)),
    }


def given(inputs: Inputs) -> dict[str, bool]:
    """What the user named; the rest was pulled, or came in a trained file."""
    return {
        "weights": inputs.checkpoint is not None,
        "speech": inputs.speech is not None,
        "noise": inputs.noise is not None,
    }


def built_with() -> dict[str, str]:
    """Versions of everything that decides a byte of the artifact."""
    return {name: version(name) for name in BUILT_WITH} | {"python": platform.python_version()}


def make_manifest(
    board: Board,
    source: Source,
    models: dict[str, Emitted],
    files: dict[str, bytes],
) -> Manifest:
    """The index of the folder."""

    def entry(name: str, floor_db: float, *, exact: bool = False) -> ModelEntry:
        return ModelEntry(file=name, states=models[name].states, golden_snr_floor_db=floor_db, golden_exact=exact)

    return Manifest(
        network="gtcrn",
        sample_rate_hz=SAMPLE_RATE_HZ,
        hop_samples=HOP_SAMPLES,
        window_samples=WINDOW_SAMPLES,
        window="sqrt_hann",
        board=board.name,
        preferred_engine=board.preferred_engine,
        n_threads=board.n_threads,
        recipe=source.recipe.name,
        golden="golden.npz",
        models={
            engine: {
                "int8": entry(f"model.{engine}", INT8_FLOOR_DB, exact=engine == "native"),
                "fp32": entry(f"model.fp32.{engine}", FP32_FLOOR_DB),
            }
            for engine in ("native", "onnx", "tflite")
            if f"model.{engine}" in models
        },
        files={name: file_entry(data) for name, data in sorted(files.items())},
        checkpoint=Checkpoint(name=source.name, sha256=source.sha256),
        built_with=built_with(),
    )
