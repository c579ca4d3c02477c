"""What lies in the folder: every file's bytes, and the manifest that lists them."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Final

from msgspec.structs import replace

from boards import Board
from edge_runtime.engines.golden import snr_db
from edge_runtime.manifest import Checkpoint, FileEntry, Manifest, ModelEntry, ModelPrecision
from edge_runtime.quiet import Progress
from edge_runtime.stft import HOP_SAMPLES, SAMPLE_RATE_HZ, WINDOW_SAMPLES, Float32Array
from quant.artifact import sbom
from quant.artifact.folder import index
from quant.artifact.stable_bytes import file_entry, json_bytes, npz_bytes
from quant.build.models import Models
from quant.emit.emitted import Emitted
from quant.emit.native import c_project
from quant.inputs.source import Source
from quant.int8 import recipe
from quant.ptq.quantize import Quantized
from quant.quality.systems import Model
from quant.report import card, remake
from quant.report.clips import Clip, golden_clip, own_clip
from quant.report.schema import Report

FP32_FLOOR_DB: Final = 90.0  # float32 sums in another order; 120 to 137 dB were measured
# A rounding that falls the other way feeds back through the states. Measured on 18 clips of three weight sets: TFLite,
# whose slopes have a rounding of their own, 19 to 43 dB; ONNX Runtime 32 to 99 dB, with and without AVX2, AVX-512 and
# VNNI, and 0 to 19 dB where its kernels saturated. Where float is not further away than that, the floor is above what 8
# bits alone lose (`int8_floor_db`).
INT8_FLOORS_DB: Final = {"native": 15.0, "onnx": 27.0, "tflite": 15.0}  # native must be exact besides
GOLDEN_FILE: Final = "golden.npz"
BUILT_WITH: Final = (
    "edge-denoise", "torch", "numpy", "onnx", "onnxruntime", "ai-edge-litert", "flatbuffers", "jinja2", "matplotlib",
    "soundfile",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a build has made, before anything of it is measured or written. `noisy`: (samples,) of the golden clip."""

    board: Board
    source: Source
    quantized: Quantized
    models: Models
    noisy: Float32Array
    golden: Mapping[str, Float32Array]

    @property
    def checkpoint(self) -> Checkpoint:
        """The weights."""
        return Checkpoint(name=self.source.name, sha256=self.source.sha256)

    @cached_property
    def clips(self) -> tuple[Clip, ...]:
        """What the report lets one hear: the project's recording, and the golden vectors as sound."""
        files = {"int8": "model.native", "fp32": "model.fp32.native"}
        native = {p: Model.of(self.models.ours[file], "native", p) for p, file in files.items()}
        return own_clip(native), golden_clip(self.golden, self.source.graph.window, remake.GOLDEN_SOURCE)


def files(made: Made, report: Report, *, html: bool, progress: Progress) -> dict[str, bytes]:
    """Every file of the folder by name: nothing else decides what lies there."""
    progress("drawing the report" if html else "writing the folder")
    listed = {
        **{name: model.data for name, model in made.models.every.items()},
        GOLDEN_FILE: npz_bytes(made.golden),
        "plan.json": json_bytes(report.plan),
        "ranges.json": made.quantized.ranges.to_json(),
        "recipe.toml": recipe.to_toml(made.source.recipe).encode(),
        **remake.pages(report, made.clips, html=html),
    }
    listed[sbom.FILE] = sbom.make(made.board.name, made.checkpoint, entries(listed))
    manifest = make_manifest(made, entries(listed))
    if made.board.bare:
        progress("writing C sources and their vectors")
        more = c_project.files(made.models.ours, made.golden, made.noisy, _names(made.source))
    else:
        more = {card.FILE: card.render(manifest, report).encode()}
    whole = {**manifest.files, **entries(more)}
    return {**listed, **more, **index(replace(manifest, files=dict(sorted(whole.items()))))}


def entries(files: Mapping[str, bytes]) -> dict[str, FileEntry]:
    """Their sizes and hashes, by name."""
    return {name: file_entry(data) for name, data in files.items()}


def make_manifest(made: Made, files: Mapping[str, FileEntry]) -> Manifest:
    """The index of the folder."""
    return Manifest(
        network=made.source.family.name,
        sample_rate_hz=SAMPLE_RATE_HZ,
        hop_samples=HOP_SAMPLES,
        window_samples=WINDOW_SAMPLES,
        window=made.source.graph.window,
        board=made.board.name,
        preferred_engine=made.board.preferred_engine,
        n_threads=made.board.n_threads,
        recipe=made.source.recipe.name,
        golden=GOLDEN_FILE,
        models={
            engine: _models_of(engine, made.models.ours, int8_floor_db(engine, made.golden))
            for engine in ("native", "onnx", "tflite")
            if f"model.{engine}" in made.models.ours
        },
        files=dict(files),
        checkpoint=made.checkpoint,
        built_with=built_with(),
    )


def built_with() -> dict[str, str]:
    """Versions of everything that decides a byte of the artifact."""
    return {name: version(name) for name in BUILT_WITH} | {"python": platform.python_version()}


def int8_floor_db(engine: str, golden: Mapping[str, Float32Array]) -> float:
    """What the 8-bit golden vectors of an engine must reach.

    ONNX Runtime lay 5.4 dB or more nearer to the integer reference than that lies to float where its kernels are right,
    and 2.4 dB or more further away where they saturate (four clips, two weight sets).
    """
    floor_db = INT8_FLOORS_DB[engine]
    if engine != "onnx":
        return floor_db
    return min(floor_db, round(snr_db(golden["enhanced_fp32"], golden["enhanced_int8_onnx"]) + 1.0, 1))


def _models_of(engine: str, models: Mapping[str, Emitted], floor_db: float) -> dict[ModelPrecision, ModelEntry]:
    """Precision -> entry, with the floor that its golden vectors must reach."""

    def entry(name: str, lowest_db: float, *, exact: bool = False) -> ModelEntry:
        return ModelEntry(file=name, states=models[name].states, golden_snr_floor_db=lowest_db, golden_exact=exact)

    return {
        "int8": entry(f"model.{engine}", floor_db, exact=engine == "native"),
        "fp32": entry(f"model.fp32.{engine}", FP32_FLOOR_DB),
    }


def _names(source: Source) -> dict[str, str]:
    """What a folder of C sources says it is made from."""
    return {"checkpoint": source.name, "recipe": source.recipe.name, "version": version("edge-denoise")}
