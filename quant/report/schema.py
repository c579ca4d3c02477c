"""The shape of report.json, version 1; `quant report --schema` prints it.

Its parts are defined where they are measured: audit/findings.py, quality/results.py, search/path.py, int8/plan.py,
edge_runtime/bench.py, provenance.py, clips.py. What is concluded from a whole report, verdict and history, stands here:
whoever concludes reads `Report`.

Fields may be added in a version; a reader ignores what it does not know. Units are in the names: `_bytes`, `_db`,
`_us`, `_ms`; shares are 0 to 1. Parts that nobody measured are null or empty, never estimated in silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from boards import Board
from edge_runtime.bench import BenchPart
from edge_runtime.errors import Failure
from edge_runtime.manifest import Artifact
from quant.artifact import typed_json
from quant.audit.findings import (
    AccuracyRow,
    BudgetPart,
    Counted,
    CoveragePart,
    EstimatePart,
    HistogramPart,
    LossPart,
    MemoryPart,
)
from quant.int8.plan import PlanRow
from quant.quality.results import QualityPart, RobustnessRow
from quant.quality.shipped import ShippedPart
from quant.report.clips import ClipPart
from quant.report.provenance import Provenance
from quant.search.path import SearchPart

FILE: Final = "report.json"
FORMAT: Final = "edge-denoise report"
VERSION: Final = 1
WHAT: Final = "a report of this version"
REMEDY: Final = "build it again with `quant build`"

Status = Literal["good", "caution", "bad", "unknown"]


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """What was compiled."""

    name: str
    sha256: str


class FileSize(msgspec.Struct, frozen=True, kw_only=True):
    """Of a model file: all of it, and its constants."""

    bytes: int
    constant_bytes: int


class TensorrtPart(msgspec.Struct, frozen=True, kw_only=True):
    """How near the model by TensorRT's rules is to float on the golden vectors, in ONNX Runtime."""

    golden_snr_db: float


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """A question of the verdict, its answer, and what to do next ("" for nothing)."""

    question: str
    status: Status
    answer: str
    todo: str


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A figure in the older artifact and in this one; `limit` is the change that is still allowed."""

    figure: str
    old: Counted
    new: Counted
    change: str
    limit: str
    regressed: bool


class BoardPart(msgspec.Struct, frozen=True, kw_only=True):
    """This artifact on a board: the time of a hop, None where it is not known; RAM and the model's file against the
    board's budget. `in_time`: even the longest within the board's share of a core."""

    board: str
    title: str
    engine: str
    low_ms: float | None
    high_ms: float | None
    measured: bool
    ram_bytes: int
    ram_limit_bytes: int
    model_bytes: int
    model_limit_bytes: int
    in_time: bool | None
    fits: bool


class HistoryPart(msgspec.Struct, frozen=True, kw_only=True):
    """Every figure that an older artifact has, too, and those that only it has."""

    against: str
    changes: tuple[Change, ...]
    missing: tuple[str, ...]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The whole file. `target`: the board's TOML as it was."""

    format: Literal["edge-denoise report"]
    version: Literal[1]
    board: str
    target: Board
    network: str = "gtcrn"  # of every report that names none
    recipe: str
    checkpoint: Weights
    files: dict[str, FileSize]
    budget: BudgetPart
    memory: MemoryPart
    coverage: dict[str, CoveragePart]
    plan: tuple[PlanRow, ...]
    accuracy: tuple[AccuracyRow, ...]
    histograms: tuple[HistogramPart, ...]
    provenance: Provenance
    verdict: tuple[Judgement, ...]
    benches: tuple[BenchPart, ...] = ()
    estimates: tuple[EstimatePart, ...] = ()
    quality: QualityPart | None = None
    robustness: tuple[RobustnessRow, ...] | None = None
    clips: tuple[ClipPart, ...] = ()
    search: SearchPart | None = None
    history: HistoryPart | None = None
    losses: tuple[LossPart, ...] = ()
    boards: tuple[BoardPart, ...] = ()
    shipped: ShippedPart | None = None
    tensorrt: TensorrtPart | UnsetType = UNSET


def schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of `Report`."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(Report)}


def read(path: Path) -> Report:
    """A report.json. Failure: none, or of another version."""
    return typed_json.read(path, Report, WHAT, REMEDY)


@contextmanager
def coherent(path: Path) -> Iterator[None]:
    """Failure: what is made of a report.json here finds parts in it that do not fit together, as no build writes them:
    a layer that another part does not know, a limit of zero."""
    try:
        yield
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        what = f"its parts do not fit together ({type(error).__name__}: {error})"
        raise Failure(what, where=path, remedy=REMEDY) from error


def read_from(artifact: Artifact) -> Report:
    """The report of an artifact, checked against its manifest. Failure: it has none, or of another version."""
    if FILE not in artifact.manifest.files:
        raise Failure(f"has no {FILE}", where=artifact.directory, remedy=REMEDY)
    found = typed_json.decoded(artifact.read(FILE), Report, artifact.path(FILE), WHAT, REMEDY)
    if found.checkpoint.sha256 != artifact.manifest.checkpoint.sha256:
        raise Failure("tells of other weights than the manifest", where=artifact.path(FILE), remedy=REMEDY)
    return found
