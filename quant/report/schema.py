"""The shape of report.json, version 1; `quant report --schema` prints it.

Fields may be added in a version; a reader ignores what it does not know. Units are in the names: `_bytes`, `_db`,
`_us`, `_ms`; shares are 0 to 1. Parts that nobody measured are null or empty, never estimated in silence.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from edge_runtime.bench import BenchPart
from edge_runtime.errors import Failure
from quant.audit.findings import AccuracyRow, BudgetPart, CoveragePart, EstimatePart, HistogramPart, MemoryPart

FORMAT = "edge-denoise report"
VERSION = 1

Status = Literal["good", "caution", "bad", "unknown"]


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    sha256: str


class FileSize(msgspec.Struct, frozen=True, kw_only=True):
    bytes: int
    constant_bytes: int


class SearchPart(msgspec.Struct, frozen=True, kw_only=True):
    path: list[dict[str, Any]]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Paired, with a bootstrap 95 % interval."""

    mean: float
    low: float
    high: float


class SystemPart(msgspec.Struct, frozen=True, kw_only=True):
    system: str
    n_clips: int
    means: dict[str, float]
    against: str | None
    differences: dict[str, Difference]


class QualityPart(msgspec.Struct, frozen=True, kw_only=True):
    """What `quant eval --pairs --json` prints, without its clips: grouping -> group -> systems."""

    systems: list[SystemPart]
    groups: dict[str, dict[str, list[SystemPart]]] = {}


class RobustnessRow(msgspec.Struct, frozen=True, kw_only=True):
    system: str
    stimulus: str
    quantity: str
    unit: str
    value: float | None
    bound: float
    is_upper: bool
    ok: bool
    why: str = ""


class SignalPart(msgspec.Struct, frozen=True, kw_only=True):
    """Level as it was, and the gain it is played with; `role`: noisy, fp32, int8, difference, clean."""

    role: str
    rms_dbfs: float
    gain_db: float


class ClipPart(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    seconds: float
    source: str
    snr_db: float | None
    signals: list[SignalPart]


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """A question of the verdict, its answer, and what to do next ("" for nothing)."""

    question: str
    status: Status
    answer: str
    todo: str


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A figure in the older artifact and in this one; `limit` is the change that is still allowed."""

    figure: str
    old: float
    new: float
    change: str
    limit: str
    regressed: bool


class HistoryPart(msgspec.Struct, frozen=True, kw_only=True):
    against: str
    changes: list[Change]
    missing: list[str]


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    built_with: dict[str, str]
    command: str
    inputs: dict[str, str]
    licences: list[str]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file. `target`: the board's TOML as it was."""

    format: Literal["edge-denoise report"]
    version: Literal[1]
    board: str
    target: dict[str, Any]
    recipe: str
    checkpoint: Weights
    files: dict[str, FileSize]
    budget: BudgetPart
    memory: MemoryPart
    coverage: dict[str, CoveragePart]
    plan: list[dict[str, Any]]
    accuracy: list[AccuracyRow]
    histograms: list[HistogramPart]
    provenance: Provenance
    verdict: list[Judgement]
    benches: list[BenchPart] = []
    estimates: list[EstimatePart] = []
    quality: QualityPart | None = None
    robustness: list[RobustnessRow] | None = None
    clips: list[ClipPart] = []
    search: SearchPart | None = None
    history: HistoryPart | None = None


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of `Report`."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(Report)}


def read(path: Path) -> dict[str, Any]:
    """A report.json, checked, as the plain dicts that it is. Failure: none, or of another version."""
    remedy = "build it again with `quant build`"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Failure(f"no report ({error.strerror})", where=path, remedy=remedy) from None
    try:
        found = msgspec.json.decode(data)
        msgspec.convert(found, Report)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Failure(f"not a report of this version ({error})", where=path, remedy=remedy) from None
    return dict(found)
