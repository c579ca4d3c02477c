"""`quant pull | boards`: parses, calls once, answers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from edge_runtime.command import Answer, Command
from quant.cli.options import nothing
from quant.cli.output import say, table

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


def _boards(args: argparse.Namespace) -> Answer:
    import boards

    loaded = [boards.load(name) for name in boards.names()]
    return Answer({board.name: board for board in loaded}, _board_lines(loaded))


def _board_lines(loaded: Sequence[Board]) -> Iterator[str]:
    import boards

    for board in loaded:
        heading, *rows = boards.describe(board)
        yield from table(heading, rows)


PULL: Final = Command(
    "pull", "fetch the official weights, some speech and some noise into the cache, once", nothing, _pull
)
BOARDS: Final = Command("boards", "list the boards and their budgets", nothing, _boards)
