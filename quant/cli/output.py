"""How `quant` lays out tables for people."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Final

from edge_runtime import command

PROG: Final = "quant"
WIDTH_CHARACTERS: Final = 160  # of a table that goes to no terminal

say = partial(command.say, PROG)


def laid_out(renderable: Any) -> Iterator[str]:
    """The lines of what rich lays out; it does not print them, for it would make status 1 of a reader that leaves."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else WIDTH_CHARACTERS
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(renderable)
    yield from (line.rstrip() for line in captured.get().splitlines())


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """One line a row."""
    from rich import box
    from rich.table import Table

    laid = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        laid.add_row(*row)
    yield from laid_out(laid)
