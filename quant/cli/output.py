"""How `quant` prints: tables for people, JSON for machines, progress on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any, Final

from edge_runtime import command

PROG: Final = "quant"
WIDTH_CHARACTERS: Final = 160  # of a table that goes to no terminal


def say(message: str) -> None:
    """Progress goes to standard error."""
    print(f"{PROG}: {message}", file=sys.stderr, flush=True)


def print_json(value: Any) -> int:
    """The status of a command that has done its work; structs are printed as they are stored.

    JSON has no infinity and no NaN.
    """
    import msgspec  # no `--help` waits for it

    print(json.dumps(msgspec.to_builtins(value), indent=2, allow_nan=False))
    return command.DONE


def show(renderable: Any) -> None:
    """Print what rich lays out; rich only lays out, for it would make status 1 of a reader that leaves."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else WIDTH_CHARACTERS
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as laid_out:
        console.print(renderable)
    print("\n".join(line.rstrip() for line in laid_out.get().splitlines()))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """One line a row."""
    from rich import box
    from rich.table import Table

    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    show(table)
