"""A network against a board's budget: what it needs layer by layer, in total, and line by line of the budget.

    counted = budget.for_target("rpi4", recipe="static")    without a checkpoint every weight is one
    console.print(budget_table.Sheet(counted))
    gates.check(counted, "board rpi4")                      Failure when a line is exceeded

Neither the board's `rtf` nor file sizes: `edge-denoise bench` measures the one, an artifact has the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

import boards
from boards import Board
from edge_runtime.errors import Failure
from quant.audit import counts
from quant.audit.counts import MMAC, PUBLISHED_FRAMES
from quant.audit.findings import BudgetLine, BudgetPart, Layer, LayerCount, Published, PublishedCount, Totals
from quant.network import registry
from quant.network.graph import Graph
from quant.network.passes import streaming_graph

CONVENTION = "ptflops 0.7"


def for_target(
    target: str | None,
    checkpoint: str | Path | None = None,
    recipe: str | None = None,
    config: Any = None,
    network: str | None = None,
) -> BudgetPart:
    """Count a checkpoint, or a network of the sizes `config`, by default those that were published of `network`, for a
    board by id or for none, as a recipe plans it, else in float.

    Raises Failure for an unknown board or recipe and for a file that is no checkpoint of this network.
    """
    from quant.inputs.source import open_source, require_names
    from quant.int8.plan import prepare
    from quant.int8.recipe import load as load_recipe

    board = None if target is None else boards.load(target)
    if checkpoint is not None and config is not None:
        raise Failure("a checkpoint has its own sizes", where=checkpoint, remedy="give --set or --checkpoint, not both")
    if checkpoint is None:
        config = config or registry.load(network).published
        counted = registry.of_config(config).blank(config)
        streaming = streaming_graph(counted)
        chosen = None if recipe is None else load_recipe(recipe)
        if chosen is not None:
            require_names(chosen, config)
    else:
        source = open_source(Path(checkpoint), recipe, network=network)
        counted, streaming = source.network, source.graph
        chosen = source.recipe if recipe is not None or source.ranges is not None else None
    if chosen is None:
        return report(board, counted)
    prepared, precision = prepare(streaming, chosen)
    return report(board, counted, precision, streaming=prepared)


def report(
    board: Board | None, graph: Graph, precision: Mapping[str, str] | None = None, *, streaming: Graph | None = None
) -> BudgetPart:
    """Count a network for a board.

    `graph` is the network before any pass. `streaming` is what runs, by default the
    float streaming graph; `precision` belongs to it, so pass both as `quant.int8.plan.prepare` does.
    """
    streaming = streaming_graph(graph) if streaming is None else streaming
    executed = counts.count(streaming, precision)
    totals, published = counts.totals(executed), counts.published_by_layer(graph, streaming)
    counted = BudgetPart(
        board=None if board is None else board.name,
        fits=True,
        exceeded=(),
        budget=(),
        totals=totals,
        layers=tuple(_layer(row, published[row.name], totals) for row in executed),
        published=_published(counts.published(graph)),
    )
    return counted if board is None else counted.judged_by(_lines(board, counted))


def _layer(executed: LayerCount, sources: Sequence[PublishedCount], totals: Totals) -> Layer:
    n_learned, n_fixed = sum(p.n_learned for p in sources), sum(p.n_fixed for p in sources)
    return Layer(
        **msgspec.structs.asdict(executed),
        mmacs_per_s=counts.mmacs_per_s(executed.macs_frame),
        share=executed.macs_frame / totals.macs_frame,
        n_learned=n_learned,
        n_fixed=n_fixed,
        n_parameters=n_learned + n_fixed,
        published_macs=sum(p.macs for p in sources),
    )


def _published(layers: tuple[PublishedCount, ...]) -> Published:
    macs = sum(layer.macs for layer in layers)
    return Published(
        convention=CONVENTION,
        n_frames=PUBLISHED_FRAMES,
        macs=macs,
        mmacs_per_s=macs / MMAC,
        n_learned=sum(layer.n_learned for layer in layers),
        n_fixed=sum(layer.n_fixed for layer in layers),
        layers=layers,
    )


def _lines(board: Board, counted: BudgetPart) -> tuple[BudgetLine, ...]:
    totals, n_parameters = counted.totals, counted.published.n_parameters

    def line(name: str, title: str, value: float, of: Callable[[Layer], float]) -> BudgetLine:
        return counted.line(name, title, value, getattr(board.budget, name), of)

    return (
        line("n_parameters", "parameters:", n_parameters, lambda row: row.n_parameters),
        line("mmacs_per_s", "MMAC/s:", totals.mmacs_per_s, lambda row: row.mmacs_per_s),
        line("model_bytes", "model bytes (weights alone):", totals.weight_bytes, lambda row: row.weight_bytes),
        line("ram_bytes", "RAM bytes (weights, states, activations):", totals.ram_bytes, _ram_bytes),
    )


def _ram_bytes(row: Layer) -> int:
    """What the layer keeps, and what is alive while it runs."""
    return row.weight_bytes + row.state_bytes + row.activation_bytes
