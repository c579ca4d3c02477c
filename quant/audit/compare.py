"""Two networks side by side: `quant budget --compare A B` says what changed, by layer and in total.

A side is an artifact folder, a checkpoint or trained file, or sizes: `default`, `channels=12,dpgrnn=1`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_runtime.errors import Failure
from edge_runtime.manifest import open_artifact
from quant.audit import budget
from quant.network import sizes as variant

REPORT_FILE: Final = "report.json"
FILES: Final = (".tar", ".pt", ".pth", ".onnx", ".trained")
LAYER_FIELDS: Final = ("n_learned", "n_fixed", "macs_frame", "published_macs", "weight_bytes", "state_bytes")
TOTALS: Final = {
    "learned parameters": ("published", "n_learned"),
    "fixed numbers (ERB)": ("published", "n_fixed"),
    "published MACs a second": ("published", "macs"),
    "executed MACs a frame": ("totals", "macs_frame"),
    "of them in 8 bits": ("totals", "int8_macs_frame"),
    "weight bytes": ("totals", "weight_bytes"),
    "state bytes": ("totals", "state_bytes"),
    "peak activation bytes": ("totals", "peak_activation_bytes"),
    "RAM bytes": ("totals", "ram_bytes"),
}


@dataclass(frozen=True)
class Side:
    """One of the two: what it was called, its `budget.to_dict`, and bytes by model file of an artifact."""

    name: str
    report: Mapping[str, Any]
    file_bytes: Mapping[str, int]


@dataclass(frozen=True)
class Change:
    """A figure on both sides; None where a side has no such layer or file."""

    name: str
    before: int | None
    after: int | None

    @property
    def difference(self) -> int:
        """After less before."""
        return (self.after or 0) - (self.before or 0)


@dataclass(frozen=True)
class LayerChange:
    """A layer that differs: precision on both sides, and the figures of `LAYER_FIELDS`."""

    name: str
    before: str | None
    after: str | None
    figures: tuple[Change, ...]


@dataclass(frozen=True)
class Comparison:
    """The totals and files of both sides, and the layers that differ."""

    a: Side
    b: Side
    totals: tuple[Change, ...]
    files: tuple[Change, ...]
    layers: tuple[LayerChange, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "a": self.a.name,
            "b": self.b.name,
            "totals": {c.name: _pair(c) for c in self.totals},
            "files": {c.name: _pair(c) for c in self.files},
            "layers": [
                {"name": layer.name, "precision": [layer.before, layer.after]}
                | {c.name: [c.before, c.after] for c in layer.figures}
                for layer in self.layers
            ],
        }


def open_side(text: str, target: str | None = None, recipe: str | None = None) -> Side:
    """Count what `text` names. A recipe plans sizes and checkpoints; an artifact and a trained file have their own.

    Raises Failure for what is neither.
    """
    path = Path(text)
    if path.is_dir():
        return _built(path)
    if path.suffix in FILES or path.is_file():
        planned = None if path.suffix == ".trained" else recipe
        return Side(text, budget.to_dict(budget.for_target(target, path, planned)), {})
    if text != variant.DEFAULT and "=" not in text:
        remedy = "name an artifact folder, a checkpoint, `default`, or sizes such as channels=12,dpgrnn=1"
        raise Failure(f"no network {text!r}", remedy=remedy)
    config = variant.parse_line(text)
    return Side(variant.describe(config), budget.to_dict(budget.for_target(target, None, recipe, config)), {})


def _built(folder: Path) -> Side:
    artifact = open_artifact(folder)
    if REPORT_FILE not in artifact.manifest.files:
        raise Failure(f"has no {REPORT_FILE}", where=folder, remedy="build it again with `quant build`")
    report = json.loads(artifact.read(REPORT_FILE))
    sizes = {name: artifact.manifest.files[name].bytes for name in artifact.manifest.model_files()}
    return Side(str(folder), report["budget"], sizes)


def compare(a: Side, b: Side) -> Comparison:
    """What differs between two sides."""
    totals = tuple(Change(t, a.report[part][key], b.report[part][key]) for t, (part, key) in TOTALS.items())
    files = tuple(Change(n, a.file_bytes.get(n), b.file_bytes.get(n)) for n in _union(a.file_bytes, b.file_bytes))
    before, after = ({row["name"]: row for row in side.report["layers"]} for side in (a, b))
    layers = (_layer(name, before.get(name), after.get(name)) for name in _union(before, after))
    return Comparison(a, b, totals, files, tuple(layer for layer in layers if _differs(layer)))


def _layer(name: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> LayerChange:
    b, a = before or {}, after or {}
    figures = tuple(Change(f, b.get(f), a.get(f)) for f in LAYER_FIELDS)
    return LayerChange(name, b.get("precision"), a.get("precision"), figures)


def _differs(layer: LayerChange) -> bool:
    """Moves that multiply and keep nothing are no difference, nor is their precision."""
    works = any(c.before or c.after for c in layer.figures)
    return works and (layer.before != layer.after or any(c.difference for c in layer.figures))


def _union(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """The names of both, those of `b` that `a` lacks behind."""
    return list(dict.fromkeys((*a, *b)))


def _pair(change: Change) -> list[int | None]:
    return [change.before, change.after]


# --- for people -------------------------------------------------------------------------------------------------

TOTAL_COLUMNS: Final = ("", "A", "B", "B - A", "")
SHOWN: Final = {
    "n_learned": "learned",
    "macs_frame": "MACs a frame",
    "published_macs": "published MACs",
    "weight_bytes": "weight bytes",
    "state_bytes": "state bytes",
}
LAYER_COLUMNS: Final = ("layer", "precision", *SHOWN.values())


def total_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """Totals, then files."""
    return [
        (c.name, _number(c.before), _number(c.after), f"{c.difference:+,}" if c.difference else "=", _percent(c))
        for c in (*comparison.totals, *comparison.files)
    ]


def layer_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """`before > after` where they differ."""

    def figures(layer: LayerChange) -> list[str]:
        return [_arrow(_number(c.before), _number(c.after)) for c in layer.figures if c.name in SHOWN]

    return [(c.name, _arrow(c.before or "-", c.after or "-"), *figures(c)) for c in comparison.layers]


def _arrow(before: str, after: str) -> str:
    return before if before == after else f"{before} > {after}"


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _percent(change: Change) -> str:
    return f"{change.difference / change.before:+.1%}" if change.before and change.difference else ""
