"""Two networks side by side: `quant budget --compare A B` says what changed, by layer and in total.

A side is an artifact folder, a checkpoint or trained file, or sizes: `default`, `ul-unas`, `channels=12,dpgrnn=1`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from edge_runtime.errors import Failure
from edge_runtime.manifest import open_artifact
from quant.artifact import typed_json
from quant.audit import budget
from quant.audit.findings import BudgetPart, Layer
from quant.network import registry, sizes

REPORT_FILE: Final = "report.json"
REPORT_REMEDY: Final = "build it again with `quant build`"
FILES: Final = (".tar", ".pt", ".pth", ".onnx", ".trained")
TOTALS: Final[Mapping[str, Callable[[BudgetPart], int]]] = {
    "learned parameters": lambda r: r.published.n_learned,
    "fixed numbers (ERB)": lambda r: r.published.n_fixed,
    "published MACs a second": lambda r: r.published.macs,
    "executed MACs a frame": lambda r: r.totals.macs_frame,
    "of them in 8 bits": lambda r: r.totals.int8_macs_frame,
    "weight bytes": lambda r: r.totals.weight_bytes,
    "state bytes": lambda r: r.totals.state_bytes,
    "peak activation bytes": lambda r: r.totals.peak_activation_bytes,
    "flash bytes": lambda r: r.totals.flash_bytes,
    "RAM bytes": lambda r: r.totals.ram_bytes,
}


class Side(NamedTuple):
    """One of the two: what it was called, what it counts, and bytes by model file of an artifact."""

    name: str
    report: BudgetPart
    file_bytes: Mapping[str, int]


class Change(NamedTuple):
    """A figure on both sides; None where a side has no such layer or file."""

    before: int | None
    after: int | None

    @property
    def difference(self) -> int:
        """After less before."""
        return (self.after or 0) - (self.before or 0)


class Precisions(NamedTuple):
    """Of a layer on both sides; None where a side has no such layer."""

    before: str | None
    after: str | None


class LayerChange(msgspec.Struct, frozen=True, kw_only=True):
    """A layer that differs."""

    name: str
    precision: Precisions
    n_learned: Change
    n_fixed: Change
    macs_frame: Change
    published_macs: Change
    weight_bytes: Change
    state_bytes: Change

    @property
    def figures(self) -> tuple[Change, ...]:
        """All but the precision."""
        counts = self.n_learned, self.n_fixed, self.macs_frame, self.published_macs
        return (*counts, self.weight_bytes, self.state_bytes)


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The totals and files of both sides, and the layers that differ."""

    a: str
    b: str
    totals: dict[str, Change]
    files: dict[str, Change]
    layers: tuple[LayerChange, ...]


class _Counted(msgspec.Struct):
    """What a comparison needs of a report."""

    budget: BudgetPart


def open_side(text: str, target: str | None = None, recipe: str | None = None, network: str | None = None) -> Side:
    """Count what `text` names; sizes are of `network` where they name none. A recipe plans sizes and checkpoints; an
    artifact and a trained file have their own.

    Raises Failure for what is neither.
    """
    path = Path(text)
    if path.is_dir():
        return _built(path)
    if path.suffix in FILES or path.is_file():
        planned = None if path.suffix == ".trained" else recipe
        return Side(text, budget.for_target(target, path, planned), {})
    if not sizes.is_line(text):
        remedy = "name an artifact folder, a checkpoint, a network, `default`, or sizes such as channels=12,dpgrnn=1"
        raise Failure(f"no network {text!r}", remedy=remedy)
    config = sizes.parse_line(text, registry.load(network))
    return Side(sizes.describe(config), budget.for_target(target, None, recipe, config), {})


def _built(folder: Path) -> Side:
    artifact = open_artifact(folder)
    if REPORT_FILE not in artifact.manifest.files:
        raise Failure(f"has no {REPORT_FILE}", where=folder, remedy=REPORT_REMEDY)
    data, path = artifact.read(REPORT_FILE), artifact.path(REPORT_FILE)
    found = typed_json.decoded(data, _Counted, path, "a report of this version", REPORT_REMEDY)
    files = {name: artifact.manifest.files[name].bytes for name in artifact.manifest.model_files()}
    return Side(str(folder), found.budget, files)


def compare(a: Side, b: Side) -> Comparison:
    """What differs between two sides."""
    before, after = ({layer.name: layer for layer in side.report.layers} for side in (a, b))
    layers = (_layer(name, before.get(name), after.get(name)) for name in _union(before, after))
    names = _union(a.file_bytes, b.file_bytes)
    return Comparison(
        a=a.name,
        b=b.name,
        totals={title: Change(of(a.report), of(b.report)) for title, of in TOTALS.items()},
        files={name: Change(a.file_bytes.get(name), b.file_bytes.get(name)) for name in names},
        layers=tuple(layer for layer in layers if _differs(layer)),
    )


def _layer(name: str, before: Layer | None, after: Layer | None) -> LayerChange:
    def change(of: Callable[[Layer], int]) -> Change:
        return Change(None if before is None else of(before), None if after is None else of(after))

    return LayerChange(
        name=name,
        precision=Precisions(*(None if layer is None else layer.precision for layer in (before, after))),
        n_learned=change(lambda layer: layer.n_learned),
        n_fixed=change(lambda layer: layer.n_fixed),
        macs_frame=change(lambda layer: layer.macs_frame),
        published_macs=change(lambda layer: layer.published_macs),
        weight_bytes=change(lambda layer: layer.weight_bytes),
        state_bytes=change(lambda layer: layer.state_bytes),
    )


def _differs(layer: LayerChange) -> bool:
    """Moves that multiply and keep nothing are no difference, nor is their precision."""
    works = any(c.before or c.after for c in layer.figures)
    return works and (len(set(layer.precision)) > 1 or any(c.difference for c in layer.figures))


def _union(a: Iterable[str], b: Iterable[str]) -> list[str]:
    """The names of both, those of `b` that `a` lacks behind."""
    return list(dict.fromkeys((*a, *b)))


# --- for people -------------------------------------------------------------------------------------------------

TOTAL_COLUMNS: Final = ("", "A", "B", "B - A", "")
LAYER_COLUMNS: Final = (
    "layer",
    "precision",
    "learned",
    "MACs a frame",
    "published MACs",
    "weight bytes",
    "state bytes",
)
LESS_NEEDED: Final = ("published MACs", "state bytes", "weight bytes", "precision")  # lost first to last


def total_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """Totals, then files."""
    return [
        (name, _number(c.before), _number(c.after), f"{c.difference:+,}" if c.difference else "=", _percent(c))
        for name, c in (comparison.totals | comparison.files).items()
    ]


def layer_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """`before > after` where they differ."""

    def cells(c: LayerChange) -> tuple[str, ...]:
        shown = c.n_learned, c.macs_frame, c.published_macs, c.weight_bytes, c.state_bytes
        precision = _arrow(*(name or "-" for name in c.precision))
        return c.name, precision, *(_arrow(_number(f.before), _number(f.after)) for f in shown)

    return [cells(layer) for layer in comparison.layers]


def _arrow(before: str, after: str) -> str:
    return before if before == after else f"{before} > {after}"


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _percent(change: Change) -> str:
    return f"{change.difference / change.before:+.1%}" if change.before and change.difference else ""
