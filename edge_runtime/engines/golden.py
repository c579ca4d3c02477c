"""Golden streaming vectors: spectra in, and what each precision must make of them, frame after frame.

golden.npz    spectrum, enhanced_fp32, enhanced_int8: each (n_frames, 257, 2) float32, from the start
              enhanced_int8_onnx, enhanced_int8_tflite: the same for an engine that computes something else on
              purpose; where there is one
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from edge_runtime import bounded
from edge_runtime.engines import open_engine
from edge_runtime.engines.apart import Died, another, engine_apart
from edge_runtime.engines.choice import ENGINES, available, choose
from edge_runtime.engines.deviation import reason
from edge_runtime.engines.interface import Engine
from edge_runtime.errors import Failure
from edge_runtime.extras import how_to_install
from edge_runtime.manifest import Artifact, ModelEntry, open_artifact
from edge_runtime.stft import N_BINS, Float32Array

ARRAYS: Final = ("spectrum", "enhanced_fp32", "enhanced_int8")
MOST_BYTES: Final = 256 * bounded.MIB  # of the archive and what it unpacks to; a build writes 3 MB
# ONNX has no 8-bit GRU; both round where the native engine does not.
OF_AN_ENGINE: Final = ("enhanced_int8_onnx", "enhanced_int8_tflite")


class GoldenRow(NamedTuple):
    """One model against its golden vectors. `ok` and `snr_db` are None where nothing is installed to run it.

    `exact`: it must match bit for bit; its SNR is then infinite. `error`: what its engine died of; not ok then.
    `why`, `remedy`: of a breach, from this processor's features.
    """

    engine: str
    precision: str
    snr_db: float | None
    floor_db: float
    ok: bool | None
    exact: bool = False
    error: str = ""
    why: str = ""
    remedy: str = ""


def load_golden(artifact: Artifact) -> dict[str, Float32Array]:
    """The golden arrays by name. Failure: the file is not what a build writes."""
    name = artifact.manifest.golden
    try:
        arrays = bounded.arrays(artifact.read(name), MOST_BYTES)
        golden = {key: arrays[key] for key in (*ARRAYS, *(key for key in OF_AN_ENGINE if key in arrays))}
    except Failure:
        raise
    except Exception as error:  # a damaged archive can raise nearly anything
        raise _invalid(artifact, str(error)) from error
    shape = (len(golden["spectrum"]), N_BINS, 2)
    for key, array in golden.items():
        if array.shape != shape or array.dtype != np.float32 or len(array) == 0:
            raise _invalid(artifact, f"{key} is {array.dtype} {array.shape}")
    return golden


def check_golden(artifact: Artifact, engines: Iterable[str] | None = None) -> list[GoldenRow]:
    """All of `golden_rows`."""
    return list(golden_rows(artifact, engines))


def golden_rows(artifact: Artifact, engines: Iterable[str] | None = None) -> Iterator[GoldenRow]:
    """Stream the golden spectra through every model of the artifact, or of `engines`, and compare: each in a process
    of its own, so that one that dies is a row like any other.

    A model whose engine is not installed gets a row that says so: it is never silently passed. Failure: a model
    that its engine cannot load.
    """
    models = artifact.manifest.models
    chosen = models if engines is None else list(engines)
    for engine in chosen:
        if engine not in models:
            held = ", ".join(sorted(models))
            raise Failure(f"no {engine} model", where=artifact.directory, remedy=f"it holds: {held}")
    golden = load_golden(artifact)
    for engine in sorted(chosen):
        for precision, entry in sorted(models[engine].items()):
            yield _row(artifact, engine, precision, entry, golden)


def judge(artifact: Artifact, rows: Sequence[GoldenRow]) -> None:
    """Failure when a model breached its golden vectors, when none could run, or the engine of `auto` did not.

    An engine that dies beside it takes nothing with it: its row says so.
    """
    broken = [row for row in rows if row.ok is False and not row.error]
    if broken:
        names = ", ".join(f"{row.engine} {row.precision}" for row in broken)
        what = f"golden vectors breached by {names}: {broken[0].why}"
        raise Failure(what, where=artifact.directory, remedy=broken[0].remedy)
    if all(row.ok is None for row in rows):
        remedy = how_to_install("onnx")
        raise Failure("no engine is installed to run the golden vectors", where=artifact.directory, remedy=remedy)
    for row in rows:
        if row.error and row.engine == choose(artifact, precision=row.precision).engine:
            others = any(each.ok for each in rows if each.precision == row.precision)
            remedy = "run `edge-denoise bench`: `auto` then takes one that runs" if others else another(row.engine)
            what = f"{row.engine} {row.precision}, which `auto` takes, does not run here ({row.error})"
            raise Failure(what, where=artifact.directory, remedy=remedy)


def to_dict(row: GoldenRow) -> dict[str, Any]:
    """JSON has no infinity, which is the SNR of equal vectors: null there, with "ok" true."""
    finite = row.snr_db is not None and math.isfinite(row.snr_db)
    return {**row._asdict(), "snr_db": row.snr_db if finite else None}


def cells(row: GoldenRow) -> tuple[str, str, str, str, str]:
    """Engine, precision, SNR, floor and verdict, for people."""
    reached = "" if row.snr_db is None else f"{row.snr_db:.1f}"
    verdict = row.error or {True: "ok", False: f"BREACH: {row.why}", None: "not run: engine not installed"}[row.ok]
    return row.engine, row.precision, reached, "exact" if row.exact else f"{row.floor_db:.0f}", verdict


def snr_db(reference: Float32Array, found: Float32Array) -> float:
    """Energy of `reference` over that of the difference; inf when equal, nan when one is not finite."""
    signal = np.sum(np.square(reference, dtype=np.float64))
    noise = np.sum(np.square(np.subtract(found, reference, dtype=np.float64)))
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(10 * np.log10(signal / noise)) if noise != 0 else float("inf")


def _row(
    artifact: Artifact, engine: str, precision: str, entry: ModelEntry, golden: dict[str, Float32Array]
) -> GoldenRow:
    floor_db, exact = entry.golden_snr_floor_db, entry.golden_exact
    if engine not in ENGINES or engine not in available():
        return GoldenRow(engine, precision, None, floor_db, None, exact)
    try:
        made = engine_apart(engine, f"{__name__}:{streamed.__name__}", str(artifact.directory), engine, precision)
    except Died as death:  # the wheel is at fault; what is wrong with the model itself fails
        return GoldenRow(engine, precision, None, floor_db, False, exact, death.what)
    wanted = golden.get(f"enhanced_{precision}_{engine}", golden[f"enhanced_{precision}"])
    enhanced = np.frombuffer(made, np.float32).reshape(wanted.shape)
    reached_db = snr_db(wanted, enhanced)
    ok = bool((enhanced == wanted).all()) if exact else reached_db >= floor_db
    row = GoldenRow(engine, precision, reached_db, floor_db, ok, exact)
    if ok:
        return row
    told = reason(engine, artifact.read(entry.file), has_native="native" in artifact.manifest.models)
    return row._replace(why=told.why, remedy=told.remedy)


def streamed(directory: str, engine: str, precision: str) -> bytes:
    """What a model makes of its artifact's golden spectra, (n_frames, 257, 2) float32. For a process of its own."""
    artifact = open_artifact(directory)
    return stream(open_engine(artifact, engine, precision), load_golden(artifact)["spectrum"]).tobytes()


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
