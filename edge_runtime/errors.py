"""The one error a user may see: what failed, where, and the remedy, on one line.

Failure                 exit status 1; printed without a traceback unless --debug
  (usage errors come from argparse and exit with status 2)
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own would be an import at every start
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

MOST_CHARACTERS: Final = 1000  # of a line on a terminal: a dozen rows
_TAIL_CHARACTERS: Final = 400  # of a line that is cut: the last reason and the remedy


def counted(n: int, noun: str) -> str:
    """
    >>> counted(1, "channel"), counted(2, "channel")
    ('1 channel', '2 channels')
    """
    return f"{n} {noun}{'s' * (n != 1)}"


def printable(text: str) -> str:
    """For a terminal, which would obey control characters: what is not printed is shown by its number.

    >>> print(printable("a\x1b[2Jb"))
    a\\x1b[2Jb
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def shortened(line: str, n_most: int = MOST_CHARACTERS, n_tail: int = _TAIL_CHARACTERS) -> str:
    """A line without its middle where it is longer than anybody reads.

    >>> shortened("a" * 20 + "b" * 80, n_most=70, n_tail=5)
    'aaaaaaaaaaaaaaaaaaaabbbbb ... (70 characters more: --debug) ... bbbbb'
    """
    if len(line) <= n_most:
        return line
    n_said = len(f" ... ({len(line)} characters more: --debug) ... ")
    n_head = n_most - n_tail - n_said
    n_cut = len(line) - n_head - n_tail
    return f"{line[:n_head]} ... ({n_cut} characters more: --debug) ... {line[-n_tail:]}"


class Failure(Exception):
    """A failure the user can act on. Its parts, for lines that name several: `reason`, `what` with the place, `remedy`.

    >>> str(Failure("unknown board 'rpi9'", remedy="choose one of: rpi3, rpi4"))
    "unknown board 'rpi9'; choose one of: rpi3, rpi4"
    """

    def __init__(self, what: str, *, where: object = None, remedy: str | None = None) -> None:
        self.reason = _one_line(what)
        place = f"{where}: " if where is not None else ""
        advice = f"; {remedy}" if remedy else ""
        super().__init__(_one_line(f"{place}{what}{advice}"))
        self.what = _one_line(f"{place}{what}")
        self.remedy = _one_line(remedy or "")


def _one_line(text: str) -> str:
    return printable(" ".join(text.split()))


def did_you_mean(word: str, known: Iterable[str], *, likeness: float = 0.6) -> str:
    """A question that names the nearest of `known`; "" where none is as like, 0 to 1, as `difflib` counts.

    >>> did_you_mean("biuld", ["build", "bundle"])
    'did you mean build?'
    """
    import difflib

    near = difflib.get_close_matches(word.lower(), list(known), n=1, cutoff=likeness)
    return f"did you mean {near[0]}?" if near else ""
