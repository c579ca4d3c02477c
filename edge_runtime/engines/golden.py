"""Golden streaming vectors: spectra in, and what each precision must make of them, frame after frame.

golden.npz    spectrum, enhanced_fp32, enhanced_int8: each (n_frames, 257, 2) float32, from the start
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from edge_runtime.engines import open_engine
from edge_runtime.engines.choice import ENGINES, available
from edge_runtime.engines.interface import Engine
from edge_runtime.errors import Failure
from edge_runtime.manifest import Artifact
from edge_runtime.stft import N_BINS, Float32Array


class GoldenRow(NamedTuple):
    """One model against its golden vectors. `ok` and `snr_db` are None where nothing could run it.

    `exact`: it must match bit for bit; its SNR is then infinite.
    """

    engine: str
    precision: str
    snr_db: float | None
    floor_db: float
    ok: bool | None
    exact: bool = False


def load_golden(artifact: Artifact) -> dict[str, Float32Array]:
    """The golden arrays by name. Failure: the file is not what a build writes."""
    name = artifact.manifest.golden
    try:
        with np.load(io.BytesIO(artifact.read(name)), allow_pickle=False) as arrays:
            golden = {key: arrays[key] for key in ("spectrum", "enhanced_fp32", "enhanced_int8")}
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise _invalid(artifact, str(error)) from error
    shape = (len(golden["spectrum"]), N_BINS, 2)
    for key, array in golden.items():
        if array.shape != shape or array.dtype != np.float32 or len(array) == 0:
            raise _invalid(artifact, f"{key} is {array.dtype} {array.shape}")
    return golden


def check_golden(artifact: Artifact, engines: Iterable[str] | None = None) -> list[GoldenRow]:
    """Stream the golden spectra through every model of the artifact, or of `engines`, and compare.

    A model whose engine is not installed gets a row that says so: it is never silently passed.
    """
    models = artifact.manifest.models
    chosen = models if engines is None else list(engines)
    for engine in chosen:
        if engine not in models:
            held = ", ".join(sorted(models))
            raise Failure(f"no {engine} model", where=artifact.directory, remedy=f"it holds: {held}")
    golden = load_golden(artifact)
    return [row for engine in sorted(chosen) for row in _rows(artifact, engine, golden)]


def judge(artifact: Artifact, rows: Sequence[GoldenRow]) -> None:
    """Failure when a model breached its golden vectors, or none could run."""
    broken = ", ".join(f"{row.engine} {row.precision}" for row in rows if row.ok is False)
    if broken:
        remedy = "build it again with `quant build`, or report the engine's version"
        raise Failure(f"golden vectors breached by {broken}", where=artifact.directory, remedy=remedy)
    if all(row.ok is None for row in rows):
        remedy = "`pip install 'edge-denoise[onnx]'`"
        raise Failure("no engine is installed to run the golden vectors", where=artifact.directory, remedy=remedy)


def to_dict(row: GoldenRow) -> dict[str, Any]:
    """JSON has no infinity, which is the SNR of equal vectors: null there, with "ok" true."""
    finite = row.snr_db is not None and math.isfinite(row.snr_db)
    return {**row._asdict(), "snr_db": row.snr_db if finite else None}


def cells(row: GoldenRow) -> tuple[str, str, str, str, str]:
    """Engine, precision, SNR, floor and verdict, for people."""
    reached = "" if row.snr_db is None else f"{row.snr_db:.1f}"
    verdict = {True: "ok", False: "BREACH", None: "not run: engine not installed"}[row.ok]
    return row.engine, row.precision, reached, "exact" if row.exact else f"{row.floor_db:.0f}", verdict


def snr_db(reference: Float32Array, found: Float32Array) -> float:
    """Energy of `reference` over that of the difference; inf when equal, nan when one is not finite."""
    signal = np.sum(np.square(reference, dtype=np.float64))
    noise = np.sum(np.square(np.subtract(found, reference, dtype=np.float64)))
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(10 * np.log10(signal / noise)) if noise != 0 else float("inf")


def _rows(artifact: Artifact, engine: str, golden: dict[str, Float32Array]) -> Iterator[GoldenRow]:
    runnable = engine in ENGINES and engine in available()
    for precision, entry in sorted(artifact.manifest.models[engine].items()):
        floor_db = entry.golden_snr_floor_db
        if not runnable:
            yield GoldenRow(engine, precision, None, floor_db, None, entry.golden_exact)
            continue
        enhanced = stream(open_engine(artifact, engine, precision), golden["spectrum"])
        wanted = golden[f"enhanced_{precision}"]
        reached_db = snr_db(wanted, enhanced)
        ok = bool((enhanced == wanted).all()) if entry.golden_exact else reached_db >= floor_db
        yield GoldenRow(engine, precision, reached_db, floor_db, ok, entry.golden_exact)


def stream(engine: Engine, spectra: Float32Array) -> Float32Array:
    """Every frame of (n_frames, 257, 2) through the engine, in order, from the start of its states."""
    enhanced = np.empty_like(spectra)
    engine.reset()
    for spectrum, out in zip(spectra, enhanced, strict=True):
        engine.step(spectrum, out)
    return enhanced


def _invalid(artifact: Artifact, reason: str) -> Failure:
    return Failure(
        f"not golden vectors ({reason})",
        where=artifact.path(artifact.manifest.golden),
        remedy="build it again with `quant build`",
    )
