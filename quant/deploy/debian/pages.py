"""What a Debian user finds without asking: `man edge-denoise`, and the Tab key in bash and zsh; made of the command
line's own parser, so that they say what it says."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edge_runtime import __version__
from edge_runtime.cli import PROGRAM
from edge_runtime.cli.options import PROG
from edge_runtime.command import parser_of

MAN: Final = f"usr/share/man/man1/{PROG}.1"
COMPLETIONS: Final = {
    "bash": f"usr/share/bash-completion/completions/{PROG}",
    "zsh": f"usr/share/zsh/vendor-completions/_{PROG}",
}
DATE: Final = "February 2020"  # of no release: that of every file in it


def pages() -> dict[str, bytes]:
    """Place -> bytes."""
    import shtab

    texts = {MAN: man_page()}
    for shell, place in COMPLETIONS.items():
        texts[place] = shtab.complete(_parser(), shell)
    return {place: text.rstrip("\n").encode() + b"\n" for place, text in texts.items()}


def man_page() -> str:
    """All commands and their options, in section 1."""
    from argparse_manpage.manpage import Manpage

    page = Manpage(_parser(), format="single-commands-section")
    page.date, page.version, page.source = DATE, f"{PROG} {__version__}", f"{PROG} {__version__}"
    page.manual, page.description = "User Commands", "remove noise from speech, in files and live"
    return str(page)


def _parser() -> argparse.ArgumentParser:
    """As it is typed, with files and folders marked for completion."""
    import shtab

    parser = parser_of(PROGRAM)
    commands = next(each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    parser._positionals._group_actions.append(commands)  # where argparse-manpage looks for it
    for each in (parser, *commands.choices.values()):
        each.epilog = None  # the examples: it would fill their lines
    for action in _actions(parser):
        if action.type is Path:
            action.complete = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE  # type: ignore[attr-defined]
    return parser


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from _actions(each)
        else:
            yield action
