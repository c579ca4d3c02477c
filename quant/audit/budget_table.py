"""The table of `quant budget`: a row a layer, both conventions, each line of the budget and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quant.audit.counts import MMAC
from quant.audit.findings import BudgetPart, Layer, Published, Totals

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table


HEADINGS = (
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
LEFT_OUT_FIRST = (7, 1, 2, 10, 9)  # columns, in the order in which a narrow terminal loses them
NO_LIMIT_CHARACTERS = 1000


@dataclass(frozen=True)
class Sheet:
    """What rich prints of a report: the table, both conventions, the verdict; output shapes are channels x bands."""

    report: BudgetPart

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The widest table that fits, then a line for each convention, for each budget, and the verdict."""
        from rich.text import Text

        table, left_out = self._fitting(console, options)
        yield table
        if left_out:
            yield Text(f"no room for {', '.join(left_out)}: widen the terminal or ask for JSON", style="dim")
        yield Text(f"{executed(self.report.totals)}\n{published(self.report.published)}")
        for line in self.report.budget:
            yield Text(line.sentence, style="bold red" if line.exceeded else "")
        if self.report.budget:
            verdict = "fits" if self.report.fits else "exceeds the budget of"
            yield Text(f"{verdict} {self.report.board or 'the limits'}")

    def _fitting(self, console: Console, options: ConsoleOptions) -> tuple[Table, list[str]]:
        """A table and the headings that it lacks."""
        wide = options.update(max_width=NO_LIMIT_CHARACTERS)
        for n in range(len(LEFT_OUT_FIRST) + 1):
            table = _table(self.report, LEFT_OUT_FIRST[:n])
            if console.measure(table, options=wide).maximum <= options.max_width:
                break
        return table, [HEADINGS[i].replace("\n", " ") for i in LEFT_OUT_FIRST[:n]]


def published(found: Published) -> str:
    """The published figures, recomputed, with the name of their convention."""
    learned, every = f"{found.n_learned / 1e3:.2f} K learned", f"{found.n_parameters / 1e3:.1f} K with ERB"
    macs = f"{found.mmacs_per_s:.1f} MMAC/s, {found.convention} over {found.n_frames} frames"
    return f"as published: {learned} ({every}), {macs}"


def executed(totals: Totals) -> str:
    """What the streaming graph computes."""
    frame = f"{totals.macs_frame:,} MACs a frame ({totals.nonzero_macs_frame:,} without zero weights)"
    return (
        f"executed: {frame}, {totals.mmacs_per_s:.1f} MMAC/s at {totals.frames_per_s:g} frames a second, "
        f"{totals.int8_share:.0%} planned in int8"
    )


def _table(report: BudgetPart, left_out: tuple[int, ...]) -> Table:
    """Layers that only move or bend values share one row."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    kept = [i for i in range(len(HEADINGS)) if i not in left_out]
    for i in kept:
        table.add_column(HEADINGS[i], justify="left" if i < 2 else "right", no_wrap=True, vertical="bottom")

    def add(cells: list[str], style: str = "") -> None:
        table.add_row(*(cells[i] for i in kept), style=style)

    for row in report.layers:
        if not row.quiet:
            add(_cells(row))
    add(_quiet_cells([row for row in report.layers if row.quiet]), "dim")
    add(_total_cells(report), "bold")
    return table


def _cells(layer: Layer) -> list[str]:
    kind = f"{layer.kind} int8" if layer.precision == "int8" else layer.kind
    return [
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
    ]


def _quiet_cells(rows: Sequence[Layer]) -> list[str]:
    peak = max((row.activation_bytes for row in rows), default=0)
    return [f"{len(rows)} that multiply nothing", *[""] * (len(HEADINGS) - 2), f"{peak:,}"]


def _total_cells(report: BudgetPart) -> list[str]:
    t = report.totals
    return [
        "total; of activations the peak",
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
    ]
