"""`quant pull | boards`: parses, calls once, prints."""

from __future__ import annotations

import argparse
from typing import Final

from edge_runtime import command
from edge_runtime.command import Command
from quant.cli.options import nothing
from quant.cli.output import print_json, print_table, say


def _pull(args: argparse.Namespace) -> int:
    from quant.inputs import assets

    pulled = assets.pull(progress=say)
    if args.json:
        rows = [
            {
                "id": p.asset.id,
                "kind": p.asset.kind,
                "licence": p.asset.licence,
                "attribution": p.asset.attribution,
                "source": p.asset.source,
                "fetched": p.fetched,
                "files": [str(f) for f in p.files],
            }
            for p in pulled
        ]
        return print_json({"cache": str(assets.cache_dir()), "assets": rows})
    print_table(
        ("asset", "kind", "from", "licence", "by", ""),
        [
            (
                p.asset.id,
                p.asset.kind,
                str(p.asset),
                p.asset.licence,
                p.asset.attribution,
                "fetched" if p.fetched else "in the cache",
            )
            for p in pulled
        ],
    )
    print(f"in {assets.cache_dir()}")
    return command.DONE


def _boards(args: argparse.Namespace) -> int:
    import boards

    loaded = [boards.load(name) for name in boards.names()]
    if args.json:
        return print_json({board.name: board for board in loaded})
    for board in loaded:
        heading, *rows = boards.describe(board)
        print_table(heading, rows)
    return command.DONE


PULL: Final = Command(
    "pull", "fetch the official weights, some speech and some noise into the cache, once", nothing, _pull
)
BOARDS: Final = Command("boards", "list the boards and their budgets", nothing, _boards)
