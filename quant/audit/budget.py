"""A network against a board's budget: what it needs layer by layer, in total, and line by line of the budget.

    counted = budget.for_target("rpi4", recipe="static")    without a checkpoint every weight is one
    gates.check(counted, "board rpi4")                      Failure when a line is exceeded

Not the board's `rtf`: `edge-denoise bench` measures it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

import boards
from boards import Board
from calibration.ranges import Ranges
from edge_runtime.errors import Failure
from quant.audit import counts, footprint
from quant.audit.counts import MMAC, PUBLISHED_FRAMES
from quant.audit.findings import BudgetLine, BudgetPart, Layer, LayerCount, Published, PublishedCount, Totals
from quant.audit.footprint import Footprint
from quant.int8.recipe import Recipe
from quant.network import registry
from quant.network.graph import Graph
from quant.network.passes import streaming_graph

CONVENTION = "ptflops 0.7"
OWN = "own"  # in place of a recipe: the network's own


def for_target(
    target: str | None,
    checkpoint: str | Path | None = None,
    recipe: str | None = None,
    config: Any = None,
    network: str | None = None,
) -> BudgetPart:
    """Count a checkpoint, or a network of the sizes `config`, by default those that were published of `network`, for a
    board by id or for none, as a recipe plans it (`OWN`: its network's), else in float.

    Raises Failure for an unknown board or recipe and for a file that is no checkpoint of this network.
    """
    from quant.inputs.source import open_source, require_names
    from quant.int8.recipe import load as load_recipe

    board = None if target is None else boards.load(target)
    if checkpoint is not None and config is not None:
        raise Failure("a checkpoint has its own sizes", where=checkpoint, remedy="give --set or --checkpoint, not both")
    if checkpoint is not None:
        source = open_source(Path(checkpoint), None if recipe == OWN else recipe, network=network)
        chosen = source.recipe if recipe is not None or source.ranges is not None else None
        return _planned(board, source.network, source.graph, chosen, source.graph, source.ranges)
    config = config or registry.load(network).published
    recipe = registry.of_config(config).recipe if recipe == OWN else recipe
    chosen = None if recipe is None else load_recipe(recipe)
    if chosen is not None:
        require_names(chosen, config)
    counted, weighted = registry.of_config(config).blank(config), streaming_graph(footprint.stand_in(config))
    return _planned(board, counted, streaming_graph(counted), chosen, weighted)


def _planned(
    board: Board | None,
    counted: Graph,
    streaming: Graph,
    chosen: Recipe | None,
    weighted: Graph,
    ranges: Ranges | None = None,
) -> BudgetPart:
    """`weighted`: the streaming graph with weights to make a model file of."""
    from quant.int8.plan import prepare

    if chosen is None:
        return report(board, counted, streaming=streaming, held=footprint.footprint(weighted, None))
    prepared, precision = prepare(streaming, chosen)
    held = footprint.footprint(*prepare(weighted, chosen), ranges)
    return report(board, counted, precision, streaming=prepared, held=held)


def report(
    board: Board | None,
    graph: Graph,
    precision: Mapping[str, str] | None = None,
    *,
    streaming: Graph | None = None,
    held: Footprint | None = None,
) -> BudgetPart:
    """Count a network for a board.

    `graph` is the network before any pass. `streaming` is what runs, by default the
    float streaming graph; `precision` belongs to it, so pass both as `quant.int8.plan.prepare` does. `held`: of its
    model file, which decides flash and RAM; without one both are sums of what is counted.
    """
    streaming = streaming_graph(graph) if streaming is None else streaming
    executed = counts.count(streaming, precision)
    totals, published = counts.totals(executed), counts.published_by_layer(graph, streaming)
    counted = BudgetPart(
        board=None if board is None else board.name,
        fits=True,
        exceeded=(),
        budget=(),
        totals=totals if held is None else held.needed(totals, board),
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

    stored = _stored_bytes if totals.flash_bytes else _weight_bytes
    flash_bytes = totals.flash_bytes or totals.weight_bytes
    return (
        line("n_parameters", "parameters:", n_parameters, lambda row: row.n_parameters),
        line("mmacs_per_s", "MMAC/s:", totals.mmacs_per_s, lambda row: row.mmacs_per_s),
        line("model_bytes", "flash bytes:", flash_bytes, stored),
        line(
            "ram_bytes",
            "RAM bytes:",
            totals.ram_bytes,
            lambda row: stored(row) + row.state_bytes + row.activation_bytes,
        ),
    )


def _weight_bytes(row: Layer) -> int:
    return row.weight_bytes


def _stored_bytes(row: Layer) -> int:
    """In a model file, which holds of the ERB matrices what is not zero."""
    return 0 if row.kind in counts.FIXED_KINDS else row.weight_bytes
