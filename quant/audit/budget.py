"""A network against a board's budget: the table of `quant budget`, its verdict, and the same as JSON.

    report = budget.for_target("rpi4", recipe="static")    without a checkpoint every weight is one
    console.print(budget.render(report))
    budget.check(report)                                   Failure when a line is exceeded

Neither the board's `rtf` nor file sizes: `edge-denoise bench` measures the one, an artifact has the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boards
from boards import Board
from edge_runtime.errors import Failure
from quant.audit import counts
from quant.audit.counts import PUBLISHED_FRAMES, LayerCount, PublishedCount, Totals
from quant.network.graph import Graph
from quant.network.gtcrn import Config
from quant.network.passes import streaming_graph

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table

MMAC = 1e6


@dataclass(frozen=True)
class Row:
    """A node of the streaming graph, with the published counts of the layers that it does the work of."""

    layer: LayerCount
    share: float  # of the executed MACs, 0 to 1
    n_learned: int
    n_fixed: int
    published_macs: int  # of `PUBLISHED_FRAMES` frames

    @property
    def n_parameters(self) -> int:
        """Learned and fixed numbers of the network's layers, before BatchNorm is folded."""
        return self.n_learned + self.n_fixed

    @property
    def quiet(self) -> bool:
        """Whether the node multiplies nothing, keeps nothing and came from no layer with parameters."""
        return not (self.layer.macs_frame or self.layer.state_bytes or self.n_parameters)


@dataclass(frozen=True)
class Line:
    """One figure of the budget, in the unit that its name ends with, and the layer that needs most of it."""

    name: str  # the field of boards.Budget
    title: str
    value: float
    limit: float
    largest_layer: str
    largest_value: float

    @property
    def exceeded(self) -> bool:
        """Whether the value is above the limit."""
        return self.value > self.limit

    @property
    def sentence(self) -> str:
        """What was found and what is allowed, on one line."""
        verdict = "exceeds" if self.exceeded else "of at most"
        return (
            f"{self.title} {_number(self.value)} {verdict} {_number(self.limit)}, "
            f"{self.value / self.limit:.0%}; most in {self.largest_layer}, {_number(self.largest_value)}"
        )


@dataclass(frozen=True)
class BudgetReport:
    """Every layer, the totals, and each line of the board's budget and of limits given beside it."""

    board: str | None
    rows: tuple[Row, ...]
    totals: Totals
    published: tuple[PublishedCount, ...]
    lines: tuple[Line, ...]

    @property
    def broken(self) -> tuple[Line, ...]:
        """The lines above their limit."""
        return tuple(line for line in self.lines if line.exceeded)

    @property
    def exceeded(self) -> tuple[str, ...]:
        """A sentence for each broken line, with the largest layer in it; empty when the network fits."""
        return tuple(line.sentence for line in self.broken)

    @property
    def n_learned(self) -> int:
        """Learned parameters of the network."""
        return sum(layer.n_learned for layer in self.published)

    @property
    def n_fixed(self) -> int:
        """Fixed parameters of the network: the ERB matrices."""
        return sum(layer.n_fixed for layer in self.published)

    @property
    def n_parameters(self) -> int:
        """Learned and fixed."""
        return self.n_learned + self.n_fixed

    @property
    def published_macs(self) -> int:
        """MACs of `PUBLISHED_FRAMES` frames, one second, under the published convention."""
        return sum(layer.macs for layer in self.published)

    @property
    def as_published(self) -> str:
        """The published figures, recomputed, with the name of their convention."""
        learned, every = f"{self.n_learned / 1e3:.2f} K learned", f"{self.n_parameters / 1e3:.1f} K with ERB"
        return (
            f"as published: {learned} ({every}), {self.published_macs / MMAC:.1f} MMAC/s, "
            f"ptflops 0.7 over {PUBLISHED_FRAMES} frames"
        )

    @property
    def as_executed(self) -> str:
        """What the streaming graph computes."""
        t = self.totals
        frame = f"{t.macs_frame:,} MACs a frame ({t.nonzero_macs_frame:,} without zero weights)"
        return (
            f"executed: {frame}, {t.mmacs_per_s:.1f} MMAC/s at {counts.FRAMES_PER_S:g} frames a second, "
            f"{t.int8_share:.0%} planned in int8"
        )


def for_target(
    target: str | None,
    checkpoint: str | Path | None = None,
    recipe: str | None = None,
    config: Config | None = None,
) -> BudgetReport:
    """Count a checkpoint, or a network of the sizes `config`, the published ones by default, for a board by id or
    for none, as a recipe plans it, else in float.

    Raises Failure for an unknown board or recipe and for a file that is no checkpoint of this network.
    """
    from quant.inputs.source import open_source, require_names
    from quant.int8.plan import prepare
    from quant.int8.recipe import load as load_recipe

    board = None if target is None else boards.load(target)
    if checkpoint is not None and config is not None:
        raise Failure("a checkpoint has its own sizes", where=checkpoint, remedy="give --set or --checkpoint, not both")
    if checkpoint is None:
        network = counts.blank(config)
        streaming = streaming_graph(network)
        chosen = None if recipe is None else load_recipe(recipe)
        if chosen is not None:
            require_names(chosen, config or Config())
    else:
        source = open_source(Path(checkpoint), recipe)
        network, streaming = source.network, source.graph
        chosen = source.recipe if recipe is not None or source.ranges is not None else None
    if chosen is None:
        return report(board, network)
    prepared, precision = prepare(streaming, chosen)
    return report(board, network, precision, streaming=prepared)


def report(
    board: Board | None, graph: Graph, precision: Mapping[str, str] | None = None, *, streaming: Graph | None = None
) -> BudgetReport:
    """Count a network for a board.

    `graph` is the network before any pass: `gtcrn(params)` or `counts.blank()`. `streaming` is what runs, by
    default the float streaming graph; `precision` belongs to it, so pass both as `quant.int8.plan.prepare` does.
    """
    streaming = streaming_graph(graph) if streaming is None else streaming
    layers = counts.count(streaming, precision)
    totals, sources = counts.totals(layers), counts.published_by_layer(graph, streaming)
    rows = tuple(_row(layer, sources[layer.name], totals) for layer in layers)
    lines = () if board is None else _lines(board, rows, totals)
    return BudgetReport(None if board is None else board.name, rows, totals, counts.published(graph), lines)


def with_lines(report: BudgetReport, lines: tuple[Line, ...]) -> BudgetReport:
    """The report with these lines to judge it by: a board's, and limits given beside it."""
    return replace(report, lines=lines)


def check(report: BudgetReport) -> None:
    """Raise Failure that names every exceeded line and the largest layer in it."""
    if report.exceeded:
        raise Failure(
            f"over budget: {'; '.join(report.exceeded)}",
            where=report.board and f"board {report.board}",
            remedy=f"choose a smaller network or {'a larger board' if report.board else 'wider limits'}",
        )


def _row(layer: LayerCount, sources: tuple[PublishedCount, ...], totals: Totals) -> Row:
    return Row(
        layer,
        layer.macs_frame / totals.macs_frame,
        sum(p.n_learned for p in sources),
        sum(p.n_fixed for p in sources),
        sum(p.macs for p in sources),
    )


def _lines(board: Board, rows: tuple[Row, ...], totals: Totals) -> tuple[Line, ...]:
    def line(name: str, title: str, value: float, of: Callable[[Row], float]) -> Line:
        largest = max(rows, key=of)
        return Line(name, title, value, getattr(board.budget, name), largest.layer.name, of(largest))

    n_parameters = sum(row.n_parameters for row in rows)
    return (
        line("n_parameters", "parameters:", n_parameters, lambda row: row.n_parameters),
        line("mmacs_per_s", "MMAC/s:", totals.mmacs_per_s, lambda row: row.layer.mmacs_per_s),
        line(
            "model_bytes",
            "model bytes (weights alone):",
            totals.weight_bytes,
            lambda row: row.layer.weight_bytes,
        ),
        line("ram_bytes", "RAM bytes (weights, states, activations):", totals.ram_bytes, _ram_bytes),
    )


def _ram_bytes(row: Row) -> int:
    """What the layer keeps, and what is alive while it runs."""
    return row.layer.weight_bytes + row.layer.state_bytes + row.layer.activation_bytes


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"


def to_dict(report: BudgetReport) -> dict[str, Any]:
    """The report as JSON-ready dicts, lists, strings and numbers."""
    totals = report.totals
    return {
        "board": report.board,
        "fits": not report.exceeded,
        "exceeded": [line.name for line in report.broken],
        "budget": [asdict(line) | {"exceeded": line.exceeded} for line in report.lines],
        "totals": asdict(totals)
        | {
            "mmacs_per_s": totals.mmacs_per_s,
            "int8_share": totals.int8_share,
            "ram_bytes": totals.ram_bytes,
            "frames_per_s": counts.FRAMES_PER_S,
        },
        "layers": [_row_dict(row) for row in report.rows],
        "published": _published_dict(report),
    }


def _row_dict(row: Row) -> dict[str, Any]:
    """As in the table: "n_parameters" is the network's number, "n_stored" what folding leaves of it."""
    layer = asdict(row.layer) | {"shape": list(row.layer.shape), "n_stored": row.layer.n_parameters}
    return layer | {
        "mmacs_per_s": row.layer.mmacs_per_s,
        "share": row.share,
        "n_learned": row.n_learned,
        "n_fixed": row.n_fixed,
        "n_parameters": row.n_parameters,
        "published_macs": row.published_macs,
    }


def _published_dict(report: BudgetReport) -> dict[str, Any]:
    return {
        "convention": "ptflops 0.7",
        "n_frames": PUBLISHED_FRAMES,
        "macs": report.published_macs,
        "mmacs_per_s": report.published_macs / MMAC,
        "n_learned": report.n_learned,
        "n_fixed": report.n_fixed,
        "layers": [asdict(layer) for layer in report.published],
    }


# --- the table ----------------------------------------------------------------------------------------------

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


def render(report: BudgetReport) -> Sheet:
    """The table, both conventions and the verdict, to print on a rich console."""
    return Sheet(report)


@dataclass(frozen=True)
class Sheet:
    """What rich prints of a report; output shapes are channels x bands."""

    report: BudgetReport

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The widest table that fits, then a line for each convention, for each budget, and the verdict."""
        from rich.text import Text

        table, left_out = self._fitting(console, options)
        yield table
        if left_out:
            yield Text(f"no room for {', '.join(left_out)}: widen the terminal or ask for JSON", style="dim")
        yield Text(f"{self.report.as_executed}\n{self.report.as_published}")
        for line in self.report.lines:
            yield Text(line.sentence, style="bold red" if line.exceeded else "")
        if self.report.lines:
            verdict = "exceeds the budget of" if self.report.broken else "fits"
            yield Text(f"{verdict} {self.report.board or 'the limits'}")

    def _fitting(self, console: Console, options: ConsoleOptions) -> tuple[Table, list[str]]:
        """A table and the headings that it lacks."""
        wide = options.update(max_width=NO_LIMIT_CHARACTERS)
        for n in range(len(LEFT_OUT_FIRST) + 1):
            table = _table(self.report, LEFT_OUT_FIRST[:n])
            if console.measure(table, options=wide).maximum <= options.max_width:
                break
        return table, [HEADINGS[i].replace("\n", " ") for i in LEFT_OUT_FIRST[:n]]


def _table(report: BudgetReport, left_out: tuple[int, ...]) -> Table:
    """Layers that only move or bend values share one row."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    kept = [i for i in range(len(HEADINGS)) if i not in left_out]
    for i in kept:
        table.add_column(HEADINGS[i], justify="left" if i < 2 else "right", no_wrap=True, vertical="bottom")

    def add(cells: list[str], style: str = "") -> None:
        table.add_row(*(cells[i] for i in kept), style=style)

    for row in report.rows:
        if not row.quiet:
            add(_cells(row))
    add(_quiet_cells([row for row in report.rows if row.quiet]), "dim")
    add(_total_cells(report), "bold")
    return table


def _cells(row: Row) -> list[str]:
    layer = row.layer
    kind = f"{layer.kind} int8" if layer.precision == "int8" else layer.kind
    return [
        layer.name,
        kind,
        f"{layer.shape.channels}x{layer.shape.bands}",
        f"{row.n_parameters:,}",
        f"{layer.macs_frame:,}",
        f"{layer.mmacs_per_s:.3f}",
        f"{row.share:.1%}",
        f"{row.published_macs / MMAC:.3f}",
        f"{layer.weight_bytes:,}",
        f"{layer.state_bytes:,}",
        f"{layer.activation_bytes:,}",
    ]


def _quiet_cells(rows: list[Row]) -> list[str]:
    peak = max((row.layer.activation_bytes for row in rows), default=0)
    return [f"{len(rows)} that multiply nothing", *[""] * (len(HEADINGS) - 2), f"{peak:,}"]


def _total_cells(report: BudgetReport) -> list[str]:
    t = report.totals
    return [
        "total; of activations the peak",
        "",
        "",
        f"{report.n_parameters:,}",
        f"{t.macs_frame:,}",
        f"{t.mmacs_per_s:.3f}",
        "100.0%",
        f"{report.published_macs / MMAC:.3f}",
        f"{t.weight_bytes:,}",
        f"{t.state_bytes:,}",
        f"{t.peak_activation_bytes:,}",
    ]
