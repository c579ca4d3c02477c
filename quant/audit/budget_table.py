"""The rows of `quant budget`: blocks or layers, the total last, and a line for each convention."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Final

from quant.audit.counts import MMAC
from quant.audit.findings import BudgetPart, Layer, Published, Totals

HEADINGS: Final = (
    "layer",
    "kind",
    "output",
    "params",
    "MACs a\nframe",
    "MMAC/s",
    "share",
    "published\nMMAC/s",
    "weight\nbytes",
    "state\nbytes",
    "activation\nbytes",
)
BLOCK_HEADINGS: Final = (
    "block",
    "params",
    "MACs a\nframe",
    "share",
    "in int8",
    "published\nMMAC/s",
    "weight\nbytes",
    "state\nbytes",
)
LESS_NEEDED: Final = tuple(HEADINGS[i] for i in (7, 1, 2, 10, 9))  # what a narrow terminal loses, first to last


def published(found: Published) -> str:
    """The published figures, recomputed, with the name of their convention."""
    learned, every = f"{found.n_learned / 1e3:.2f} K learned", f"{found.n_parameters / 1e3:.1f} K with ERB"
    macs = f"{found.mmacs_per_s:.1f} MMAC/s, {found.convention} over {found.n_frames} frames"
    return f"as published: {learned} ({every}), {macs}"


def executed(totals: Totals) -> str:
    """What the streaming graph computes."""
    pruned = totals.nonzero_macs_frame != totals.macs_frame
    nonzero = f" ({totals.nonzero_macs_frame:,} without zero weights)" if pruned else ""
    pace = f"{totals.mmacs_per_s:.1f} MMAC/s at {totals.frames_per_s:g} frames a second"
    return f"executed: {totals.macs_frame:,} MACs a frame{nonzero}, {pace}, {totals.int8_share:.0%} in int8"


def held(totals: Totals) -> str:
    """Flash and RAM, as every output has them."""
    if not totals.flash_bytes:
        return f"weights, states and activations: {totals.ram_bytes:,} bytes; the C engine does not take this network"
    return f"flash: {totals.flash_bytes / 1024:.1f} KB, the file of the C engine; RAM: {totals.ram_bytes / 1024:.1f} KB"


def block_of(name: str) -> str:
    """`encoder.en_convs.0.bn` -> `encoder.en_convs.0`: up to what is numbered, or else the first word."""
    words = name.split(".")
    n = next((i for i, word in enumerate(words, 1) if word[-1:].isdigit()), 1)
    return ".".join(words[:n])


def block_rows(report: BudgetPart) -> list[tuple[str, ...]]:
    """A row a block, in the order in which they run, and the total; blocks without a layer that counts have none."""
    rows, totals = [row for row in report.layers if not row.quiet], report.totals
    blocks = [_block_cells(name, list(layers)) for name, layers in groupby(rows, lambda row: block_of(row.name))]
    total = (
        "total",
        f"{report.published.n_parameters:,}",
        f"{totals.macs_frame:,}",
        "100.0%",
        f"{totals.int8_share:.0%}",
        f"{report.published.mmacs_per_s:.3f}",
        f"{totals.weight_bytes:,}",
        f"{totals.state_bytes:,}",
    )
    return [*blocks, total]


def _block_cells(name: str, layers: Sequence[Layer]) -> tuple[str, ...]:
    macs = sum(row.macs_frame for row in layers)
    int8 = sum(row.macs_frame for row in layers if row.precision != "float")
    return (
        name if name[-1].isdigit() else layers[0].name,
        f"{sum(row.n_parameters for row in layers):,}",
        f"{macs:,}",
        f"{sum(row.share for row in layers):.1%}",
        f"{int8 / macs:.0%}" if macs else "",
        f"{sum(row.published_macs for row in layers) / MMAC:.3f}",
        f"{sum(row.weight_bytes for row in layers):,}",
        f"{sum(row.state_bytes for row in layers):,}",
    )


def layer_rows(report: BudgetPart) -> list[tuple[str, ...]]:
    """A row a layer; those that only move or bend values share one; the total, of activations the peak.

    Output shapes are channels x bands.
    """
    quiet = [row for row in report.layers if row.quiet]
    peak = max((row.activation_bytes for row in quiet), default=0)
    moving = (f"{len(quiet)} that multiply nothing", *[""] * (len(HEADINGS) - 2), f"{peak:,}")
    return [*(_cells(row) for row in report.layers if not row.quiet), moving, _total_cells(report)]


def _cells(layer: Layer) -> tuple[str, ...]:
    kind = f"{layer.kind} int8" if layer.precision == "int8" else layer.kind
    return (
        layer.name,
        kind,
        f"{layer.shape.channels}x{layer.shape.bands}",
        f"{layer.n_parameters:,}",
        f"{layer.macs_frame:,}",
        f"{layer.mmacs_per_s:.3f}",
        f"{layer.share:.1%}",
        f"{layer.published_macs / MMAC:.3f}",
        f"{layer.weight_bytes:,}",
        f"{layer.state_bytes:,}",
        f"{layer.activation_bytes:,}",
    )


def _total_cells(report: BudgetPart) -> tuple[str, ...]:
    t = report.totals
    return (
        "total",
        "",
        "",
        f"{report.published.n_parameters:,}",
        f"{t.macs_frame:,}",
        f"{t.mmacs_per_s:.3f}",
        "100.0%",
        f"{report.published.mmacs_per_s:.3f}",
        f"{t.weight_bytes:,}",
        f"{t.state_bytes:,}",
        f"{t.peak_activation_bytes:,}",
    )
