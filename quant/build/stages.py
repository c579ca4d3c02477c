"""`quant build`: checkpoint, board and recipe in, one artifact folder out."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
import torch
from msgspec import UNSET, UnsetType

import boards
from boards import Board
from calibration.corpus import Corpus
from calibration.mixing import Mix
from calibration.ranges import Ranges
from edge_runtime.errors import Failure
from edge_runtime.manifest import Checkpoint, Manifest, ModelEntry
from edge_runtime.stft import HOP_SAMPLES, SAMPLE_RATE_HZ, WINDOW_SAMPLES
from quant.artifact import folder as artifact
from quant.artifact import sbom
from quant.audit import accuracy, budget, coverage
from quant.audit.findings import AccuracyRow, CoverageNode
from quant.audit.memory import plan_memory
from quant.build import other_software
from quant.emit.emitted import Emitted
from quant.emit.native import c_project
from quant.emit.native import emitter as emit_native
from quant.emit.native import limits as native_limits
from quant.emit.onnx import emitter as emit_onnx
from quant.emit.tflite import emitter as emit_tflite
from quant.inputs import assets
from quant.inputs.source import DEFAULT_RECIPE, Source, open_sounds, open_source
from quant.int8 import recipe
from quant.int8.plan import PlanRow, plan_table
from quant.int8.reference import Reference
from quant.network.float_model import FloatModel
from quant.network.graph import Array, Graph
from quant.network.spectra import analyse
from quant.ptq import quantize
from quant.ptq.quantize import CalibrationSet, Quantized
from quant.report import card, remake, schema
from quant.report.clips import golden_clip
from quant.report.provenance import Provenance, provenance
from quant.report.schema import FileSize, Report, TensorrtPart, Weights
from quant.search import climb, validation
from quant.search.climb import Found
from quant.search.path import SearchPart

FP32_FLOOR_DB = 90.0  # float32 sums in another order; 120 to 137 dB were measured
INT8_FLOOR_DB = 15.0  # a rounding that falls the other way feeds back through the states; 24 dB and more were measured
GOLDEN_SAMPLES = 2 * SAMPLE_RATE_HZ
ACCURACY_CLIPS, ACCURACY_SAMPLES = 8, int(1.5 * SAMPLE_RATE_HZ)
BUILT_WITH = (
    "edge-denoise", "torch", "numpy", "onnx", "onnxruntime", "ai-edge-litert", "flatbuffers", "jinja2", "matplotlib",
    "soundfile",
)  # fmt: skip

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """What the user asked for; None takes the default."""

    target: str
    checkpoint: Path | None = None
    speech: Path | None = None
    noise: Path | None = None
    recipe: str | None = None
    ranges: Path | None = None
    out: Path | None = None
    force: bool = False
    max_pesq_drop: float | None = None  # search for the recipe that keeps it
    search_state: Path | None = None
    official_io: bool = False  # the ONNX models once more, with the official signature
    html: bool = True  # report.html, which takes seconds
    tensorrt: bool = False  # the 8-bit ONNX model once more, by TensorRT's rules

    def __post_init__(self) -> None:
        if self.max_pesq_drop is not None and self.ranges is not None:
            raise Failure("--max-pesq-drop measures ranges of its own", remedy="leave --ranges out")
        if self.max_pesq_drop is None and self.search_state is not None:
            raise Failure("--search-state without a search", remedy="give --max-pesq-drop too")

    @property
    def folder(self) -> Path:
        """Where the artifact goes."""
        return self.out if self.out is not None else Path("build") / Path(self.target).stem


@dataclass(frozen=True)
class Built:
    """What a build leaves, for the one who asked."""

    folder: Path
    report: Report


def build(settings: Settings, progress: Progress) -> Built:
    """Everything, in order; raises Failure for anything the user can mend, and then leaves nothing behind."""
    artifact.refuse_to_clobber(settings.folder, settings.force)
    board = boards.load(settings.target)
    if settings.max_pesq_drop is not None:
        validation.require_metrics()
    ranges = Ranges.load(settings.ranges) if settings.ranges is not None else None
    with artifact.folder(settings.folder) as part:
        source = read(settings, progress)
        native_limits.require(source.graph)
        sounds = corpora(settings, progress) if _needs_sounds(settings, source) else None
        calibration = CalibrationSet.make(*sounds, Mix()) if sounds else None
        excerpt = calibration.excerpt if calibration else source.noisy
        assert excerpt is not None
        path = _searched(settings, source, calibration, sounds, progress) if sounds and calibration else None
        source = replace(source, recipe=path.recipe) if path else source
        quantized = _quantized(settings, source, ranges, lambda: calibration, progress)
        if ranges is not None and calibration:
            quantized = quantize.refine(quantized, source.recipe, calibration)
        progress("emitting native weights" if board.bare else "emitting ONNX, TFLite and native weights")
        models = (emit_engine if board.bare else emit_all)(source.graph, quantized)
        progress("writing golden vectors")
        golden = golden_vectors(source.graph, quantized, excerpt)
        quantized.ranges.save(part / "ranges.json")
        ranges_json = (part / "ranges.json").read_bytes()
        asked = {"official": settings.official_io, "tensorrt": settings.tensorrt}
        more = other_software.emit(source.graph, quantized, **asked)
        progress("measuring the error of every tap")
        report = make_report(
            board,
            source,
            quantized,
            excerpt[:ACCURACY_CLIPS, :ACCURACY_SAMPLES],
            models | more,
            provenance(board.name, source, quantized.ranges, ranges_json, given(settings), built_with()),
            search=SearchPart(path=path.steps) if path else None,
            tensorrt=other_software.tensorrt_report(more, golden),
        )
        progress("drawing the report" if settings.html else "writing the folder")
        clips = [golden_clip(golden, remake.GOLDEN_SOURCE)]
        whole = remake.complete(report, clips)
        files = {name: emitted.data for name, emitted in (models | more).items()} | {
            "golden.npz": artifact.npz_bytes(golden),
            "plan.json": artifact.json_bytes(msgspec.to_builtins(whole.plan)),
            "ranges.json": ranges_json,
            "recipe.toml": recipe.to_toml(source.recipe).encode(),
            **remake.pages(whole, clips, html=settings.html),
        }
        checkpoint = Checkpoint(name=source.name, sha256=source.sha256)
        entries = {name: artifact.file_entry(data) for name, data in files.items()}
        files |= {sbom.FILE: sbom.make(board.name, checkpoint, entries)}
        if board.bare:
            progress("writing C sources and their vectors")
            names = {"checkpoint": source.name, "recipe": source.recipe.name, "version": version("edge-denoise")}
            files |= c_project.files(models, golden, excerpt[0, :GOLDEN_SAMPLES], names)
        else:
            files |= {card.FILE: card.render(make_manifest(board, source, models, files), whole).encode()}
        for name, data in files.items():
            (part / name).write_bytes(data)
        artifact.write_manifest(part, make_manifest(board, source, models, files))
    return Built(settings.folder, whole)


def plan(settings: Settings, progress: Progress) -> tuple[PlanRow, ...]:
    """The plan a build would follow, as rows; writes nothing."""
    boards.load(settings.target)
    ranges = Ranges.load(settings.ranges) if settings.ranges is not None else None
    source = read(settings, progress)
    quantized = _quantized(settings, source, ranges, partial(calibration_set, settings, progress), progress)
    return plan_table(quantized.graph, quantized.plan)


def read(settings: Settings, progress: Progress) -> Source:
    """What to build from; whatever does not fit fails here, before the slow work."""
    torch.set_num_threads(1)  # sums in the same order on every machine; for tensors this small it is faster, too
    progress("reading the weights")
    searches = settings.max_pesq_drop is not None
    name = DEFAULT_RECIPE if searches and settings.recipe is None else settings.recipe
    return open_source(settings.checkpoint, name, progress)


def _needs_sounds(settings: Settings, source: Source) -> bool:
    """A trained file brings all that it needs; sounds that the user names are measured on all the same."""
    return source.noisy is None or settings.speech is not None or settings.noise is not None


def _quantized(
    settings: Settings,
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
        raise Failure(str(failure), where=settings.ranges) from None


def _searched(
    settings: Settings,
    source: Source,
    calibration: CalibrationSet,
    sounds: tuple[Corpus, Corpus],
    progress: Progress,
) -> Found | None:
    """The recipe within the user's budget, if one was given; it keeps the settings of the chosen one, not its rules."""
    if settings.max_pesq_drop is None:
        return None
    title = f"Searched: at most {settings.max_pesq_drop} PESQ below float"
    base = msgspec.structs.replace(source.recipe, name="searched", title=title)
    key = climb.journal_key(base, calibration, source.sha256)
    state = settings.search_state or assets.cache_dir() / "search" / f"{key[:16]}.jsonl"
    return climb.search(source.graph, base, calibration, sounds, source.sha256, settings.max_pesq_drop, state, progress)


def corpora(settings: Settings, progress: Progress) -> tuple[Corpus, Corpus]:
    """Speech and noise that clips are mixed from."""
    progress("mixing calibration speech")
    return open_sounds(settings.speech, settings.noise, progress)


def calibration_set(settings: Settings, progress: Progress) -> CalibrationSet:
    """The clips that ranges are measured on."""
    return CalibrationSet.make(*corpora(settings, progress), Mix())


def emit_all(graph: Graph, quantized: Quantized) -> dict[str, Emitted]:
    """Every model file, int8 and float."""
    return {
        "model.onnx": emit_onnx.emit(quantized.graph, quantized.plan),
        "model.fp32.onnx": emit_onnx.emit(graph),
        "model.tflite": emit_tflite.emit(quantized.graph, quantized.plan),
        "model.fp32.tflite": emit_tflite.emit(graph),
        **emit_engine(graph, quantized),
    }


def emit_engine(graph: Graph, quantized: Quantized) -> dict[str, Emitted]:
    """The weights of the native engine alone."""
    return {
        "model.native": emit_native.emit(quantized.graph, quantized.plan),
        "model.fp32.native": emit_native.emit(graph),
    }


def sizes(models: dict[str, Emitted]) -> dict[str, FileSize]:
    """By file: all bytes, and those of its constants."""
    return {name: FileSize(bytes=len(e.data), constant_bytes=e.constant_bytes) for name, e in models.items()}


def golden_vectors(graph: Graph, quantized: Quantized, noisy: Array) -> dict[str, Array]:
    """Two seconds of the first clip of `noisy` (clips, samples) through the float model and the integer reference."""
    spectrum = analyse(noisy[0, :GOLDEN_SAMPLES])
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
    noisy: Array,
    models: dict[str, Emitted],
    made_of: Provenance,
    *,
    search: SearchPart | None,
    tensorrt: TensorrtPart | UnsetType,
) -> Report:
    """All that a build knows, errors measured on `noisy` (clips, samples); `remake.complete` adds what follows."""
    plan = quantized.plan
    auditors = {"model.onnx": coverage.audit_onnx, "model.tflite": coverage.audit_tflite}
    audits = [audit(quantized.graph, plan, models[name]) for name, audit in auditors.items() if name in models]
    rows, histograms = accuracy.study(quantized.graph, plan, noisy)
    return Report(
        format=schema.FORMAT,
        version=schema.VERSION,
        board=board.name,
        target=board,
        recipe=source.recipe.name,
        checkpoint=Weights(name=source.name, sha256=source.sha256),
        files=sizes(models),
        budget=budget.report(board, source.network, plan.precision, streaming=quantized.graph),
        memory=plan_memory(quantized.graph, plan.precision),
        coverage={audit.engine: audit for audit in audits},
        plan=plan_table(quantized.graph, plan),
        accuracy=tuple(rows),
        histograms=tuple(histograms),
        provenance=made_of,
        verdict=(),
        search=search,
        tensorrt=tensorrt,
    )


def given(settings: Settings) -> dict[str, bool]:
    """What the user named; the rest was pulled, or came in a trained file."""
    return {
        "weights": settings.checkpoint is not None,
        "speech": settings.speech is not None,
        "noise": settings.noise is not None,
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
        files={name: artifact.file_entry(data) for name, data in sorted(files.items())},
        checkpoint=Checkpoint(name=source.name, sha256=source.sha256),
        built_with=built_with(),
    )


def summary(built: Built, elapsed_s: float) -> list[str]:
    """What was made, in a few lines."""
    report = built.report
    sizes = ", ".join(f"{name} {f.bytes / 1024:.0f} KB" for name, f in report.files.items())
    shares = ", ".join(f"{c.int8_share:.0%} of the MACs in {engine}" for engine, c in report.coverage.items())
    lines = [
        f"{built.folder}: {report.board}, recipe {report.recipe}, in {elapsed_s:.0f} s",
        f"files:    {sizes}",
        f"int8:     {f'{shares}, as the runtimes execute them' if shares else 'as planned, bit for bit'}",
        *(f"{engine + ':':<9} {_by_kind(c.nodes)}" for engine, c in report.coverage.items()),
    ]
    if report.tensorrt is not UNSET:
        found = f"{report.tensorrt.golden_snr_db:.1f} dB to float in ONNX Runtime"
        lines.append(f"tensorrt: {found}; TensorRT itself was not run")
    return lines


def _by_kind(nodes: Sequence[CoverageNode]) -> str:
    """How many nodes of each kind that multiplies run in int8, and which stay float."""
    counts = Counter((n.executed, n.kind) for n in nodes if n.macs or n.kind == "leaky_relu")
    parts = [
        f"{precision} " + ", ".join(f"{n} {kind}" for (p, kind), n in sorted(counts.items()) if p == precision)
        for precision in ("int8", "mixed", "float")
        if any(p == precision for p, _ in counts)
    ]
    return "; ".join(parts)


def worst(report: Report, n: int = 8) -> list[AccuracyRow]:
    """The values that cost the output most when rounded alone."""
    return sorted(report.accuracy, key=lambda row: row.isolated_output_sqnr_db)[:n]
