"""How `quant` lays out tables for people: figures to the right and never cut, names cut on the left, text wrapped."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final

from edge_runtime import command
from edge_runtime.quiet import never_silent

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table

PROG: Final = "quant"
WIDTH_CHARACTERS: Final = 160  # of a table that goes to no terminal
SHORTEST_NAME: Final = 16  # characters that tell one value of the network from another
GAP: Final = 2  # characters between columns

_FIGURE: Final = re.compile(r"[-+=<>≤≥ ]*(\d[\d.,:]*([eE][-+]?\d+)?)?( ?(%|[a-zA-Zµ/]{1,6}))?|-|=|inf")
_NAME: Final = re.compile(r"\S*[._/]\S*")  # encoder.en_convs.0.conv, build/rpi4

SILENT_S: Final = 4.0  # at most, and a look more: sooner than the command line says that it is still at work
_LOOK_S: Final = 0.25
PRIOR_S: Final = 2.0  # how much of what a stage usually takes counts before this machine has shown its pace

LATE: Final = 0.2  # of what a stage has taken is taken to be left where it takes longer than it should

say = partial(command.say, PROG)


class Stages:
    """Progress in stages of which is known how long they usually take, in order: each says how much is left, again and
    again while it lasts. Enter it for the time of the work.

    `usual_s`: what a stage's line begins with -> seconds; only their ratios matter once some are done. The first says
    nothing of the rest: what it finds decides which stages there are. None: what speaks for itself, and takes what it
    takes.
    """

    def __init__(
        self,
        usual_s: Mapping[str, float | None],
        clock: Callable[[], float] = time.monotonic,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._usual_s, self._clock, self._start = usual_s, clock, clock()
        self._tell = tell or say
        self._message = ""
        self._now: str | None = None
        self._done_s = 0.0
        self._began_s = self._said_s = 0.0  # of this stage, and of the line before; since the start
        self._elsewhere_s = 0.0  # in stages that say nothing of the pace
        self._silence = never_silent(self.again, _LOOK_S)

    def __enter__(self) -> Stages:
        self._silence.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._silence.__exit__(*error)

    def __call__(self, message: str) -> None:
        """What begins now; a line that is no stage is only handed on."""
        elapsed_s = self._clock() - self._start
        stage = next((name for name in self._usual_s if message.startswith(name)), None)
        if stage is None:
            self._tell(message)
            return
        if self._now is not None and self._usual_s[self._now] is None:
            self._elsewhere_s += elapsed_s - self._began_s
        self._done_s += self._usual_s.get(self._now or "") or 0.0
        self._now, self._message, self._began_s = stage, message, elapsed_s
        if self._usual_s[stage] is None:
            self._tell(message)
        else:
            self._say(elapsed_s, message)

    def again(self, silent_s: float = inf) -> None:
        """The same stage still, once that is SILENT_S ago, and whatever was written besides."""
        elapsed_s = self._clock() - self._start
        if self._now and self._usual_s[self._now] and min(silent_s, elapsed_s - self._said_s) >= SILENT_S:
            self._say(elapsed_s, f"{self._message} still")

    def _say(self, elapsed_s: float, what: str) -> None:
        names = list(self._usual_s)
        usual_s, *after_s = (self._usual_s[name] or 0.0 for name in names[names.index(self._now or "") :])
        spent_s = elapsed_s - self._began_s
        pace = (self._began_s - self._elsewhere_s + PRIOR_S) / (self._done_s + PRIOR_S)
        pace = max(pace, spent_s / usual_s)
        left_s = max(1.0, pace * usual_s - spent_s, LATE * spent_s) + pace * sum(after_s)
        self._said_s = elapsed_s
        self._tell(f"{elapsed_s:3.0f} s  {what}" + (f", about {left_s:.0f} s left" if self._done_s else ""))


def laid_out(renderable: Any) -> Iterator[str]:
    """The lines of what rich lays out; it does not print them, for it would make status 1 of a reader that leaves."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else WIDTH_CHARACTERS
    # No colour, no bold: what is printed for people shows control characters, that of a terminal too.
    console = Console(width=width, force_terminal=False, color_system=None, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(renderable)
    yield from (line.rstrip() for line in captured.get().splitlines())


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, less_needed: Sequence[str] = ()) -> Iterator[str]:
    """One line a row. Where there is no room, `less_needed` columns are left out, first to last, and told."""
    yield from laid_out(Sheet(columns, rows, less_needed))


class Sheet:
    """What rich prints of a table, as wide as the terminal lets it be."""

    def __init__(self, columns: Sequence[str], rows: Sequence[Sequence[str]], less_needed: Sequence[str] = ()) -> None:
        self.columns, self.rows, self.less_needed = list(columns), [list(row) for row in rows], less_needed

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The table, and a line for the columns that it lacks."""
        from rich.text import Text

        kept, left_out = list(range(len(self.columns))), list[str]()
        for name in self.less_needed:
            if self._least(kept) <= options.max_width:
                break
            kept.remove(self.columns.index(name))
            left_out.append(name.replace("\n", " "))
        yield self._table(kept, options.max_width)
        if left_out:
            yield Text(f"no room for {', '.join(left_out)}: widen the terminal or ask for --json", style="dim")

    def _table(self, kept: Sequence[int], width: int) -> Table:
        from rich import box
        from rich.table import Table

        laid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
        cut_to = self._cut_to(kept, width)
        for i in kept:
            figures = self._are_figures(i)
            laid.add_column(
                self.columns[i],
                justify="right" if figures else "left",
                no_wrap=figures or i in cut_to,
                min_width=self._width(i) if figures else None,
            )
        for row in self.rows:
            laid.add_row(*(_cut(row[i], cut_to.get(i)) for i in kept))
        return laid

    def _cut_to(self, kept: Sequence[int], width: int) -> dict[int, int]:
        """Column of names -> how wide it may be: the widest gives first."""
        widths = {i: self._width(i) for i in kept}
        names = {i for i in kept if self._are_names(i)}
        excess = sum(widths.values()) + GAP * (len(kept) - 1) - width
        while excess > 0 and (widest := max(names, key=widths.__getitem__, default=None)) is not None:
            if widths[widest] <= 1:
                break
            widths[widest] -= 1
            excess -= 1
        return {i: widths[i] for i in names}

    def _least(self, kept: Sequence[int]) -> int:
        """Characters that these columns cannot do without."""
        least = [min(self._width(i), SHORTEST_NAME) if not self._are_figures(i) else self._width(i) for i in kept]
        return sum(least) + GAP * (len(kept) - 1)

    def _width(self, i: int) -> int:
        return max(len(line) for cell in (self.columns[i], *self._cells(i)) for line in cell.split("\n"))

    def _cells(self, i: int) -> list[str]:
        return [row[i] for row in self.rows]

    def _are_figures(self, i: int) -> bool:
        cells = [cell for cell in self._cells(i) if cell]
        parts = [part for cell in cells for part in cell.split(" > ")]  # before > after
        return bool(cells) and all(_FIGURE.fullmatch(part) and not part.isalpha() for part in parts)

    def _are_names(self, i: int) -> bool:
        cells = [cell for cell in self._cells(i) if cell]
        return any(_NAME.fullmatch(cell) for cell in cells) and not self._are_figures(i)


def _cut(cell: str, width: int | None) -> str:
    """A name that is too long loses its beginning: what it ends with tells it from its neighbours."""
    return cell if width is None or len(cell) <= width else f"…{cell[len(cell) - width + 1 :]}"
