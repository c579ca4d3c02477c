"""`quant pull | boards`: parses, calls once, answers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from edge_runtime.command import Answer, Command
from quant.cli.options import nothing
from quant.cli.output import say, table

BOARD_COLUMNS: Final = ("board", "processor", "MMAC/s", "model KB", "RAM KB", "core")

if TYPE_CHECKING:
    from boards import Board
    from quant.inputs.assets import PulledAsset


def _pull(args: argparse.Namespace) -> Answer:
    from quant.inputs import assets

    pulled, cache = assets.pull(progress=say), str(assets.cache_dir())
    return Answer({"cache": cache, "assets": [_asset(each) for each in pulled]}, _pull_lines(pulled, cache))


def _asset(pulled: PulledAsset) -> dict[str, str | bool | list[str]]:
    named = {name: getattr(pulled.asset, name) for name in ("id", "kind", "licence", "attribution", "source")}
    return {**named, "fetched": pulled.fetched, "files": [str(file) for file in pulled.files]}


def _pull_lines(pulled: Sequence[PulledAsset], cache: str) -> Iterator[str]:
    rows = [
        (a.id, a.kind, str(a), a.licence, a.attribution, "fetched" if fetched else "in the cache")
        for a, fetched in ((each.asset, each.fetched) for each in pulled)
    ]
    yield from table(("asset", "kind", "from", "licence", "by", ""), rows)
    yield f"in {cache}"


def _boards_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("boards", nargs="*", metavar="BOARD", help="every figure of these; default: a row a board")


def _boards(args: argparse.Namespace) -> Answer:
    import boards

    loaded = [boards.load(name) for name in args.boards or boards.names()]
    lines = _board_lines(loaded) if args.boards else table(BOARD_COLUMNS, [_board_cells(board) for board in loaded])
    return Answer({board.name: board for board in loaded}, lines)


def _board_lines(loaded: Sequence[Board]) -> Iterator[str]:
    import boards

    for board in loaded:
        heading, *rows = boards.describe(board)
        yield from table(heading, rows)


def _board_cells(board: Board) -> tuple[str, ...]:
    """What a network is built for, and the most that it may need there."""
    budget = board.budget
    processor = f"{board.cpu.n_cores} x {board.cpu.core}, {board.cpu.clock_mhz:,} MHz"
    figures = (f"{budget.mmacs_per_s:g}", f"{budget.model_bytes / 1024:,.0f}", f"{budget.ram_bytes / 1024:,.0f}")
    return board.name, processor, *figures, f"{budget.rtf:.0%}"


PULL: Final = Command(
    "pull",
    "fetch the official weights, some speech and some noise into the cache, once",
    nothing,
    _pull,
    examples=(
        "quant pull",
        "quant pull --json",
    ),
    page="guide/checkpoint.md",
)
BOARDS: Final = Command(
    "boards",
    "list the boards and their budgets",
    _boards_arguments,
    _boards,
    examples=(
        "quant boards",
        "quant boards rpi4",
    ),
    page="guide/budget.md",
)
