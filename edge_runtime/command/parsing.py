"""The parser of a command line: usage errors are one line that names what is near; help is grouped by what one wants.

Help of a program: its commands by group, examples, a page. Of a command: options by group, examples, its page.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, NoReturn

from edge_runtime.errors import did_you_mean, printable, shortened

USAGE: Final = 2  # exit status


class Layout(argparse.HelpFormatter):
    """Paragraphs are filled; what is laid out in lines already stays as it is."""

    def __init__(self, prog: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(prog, *args, **{"width": _width(), **kwargs})

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)


def _width() -> int:
    """As argparse has it: of the terminal, two columns free. Its own way there imports every compressor."""
    n_columns = 0
    with suppress(KeyError, ValueError):
        n_columns = int(os.environ["COLUMNS"])
    if n_columns <= 0:
        with suppress(AttributeError, ValueError, OSError):  # closed, replaced, no terminal
            n_columns = os.get_terminal_size(sys.__stdout__.fileno()).columns  # type: ignore[union-attr]
    return (n_columns if n_columns > 0 else 80) - 2


class Parser(argparse.ArgumentParser):
    """An argument parser whose usage errors are one line and name what is near; options are never abbreviated.

    A command that needs something, typed alone, prints its help before that line.
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        given = {"allow_abbrev": False, "formatter_class": Layout, **kwargs}
        super().__init__(*args, **given)  # type: ignore[arg-type]  # handed on unread

    _is_bare = False  # nothing was typed behind the command

    def error(self, message: str) -> NoReturn:
        if self._is_bare:
            self.print_help()
        program = self.prog.split()[0]
        self.exit(
            USAGE, f"{program}: error: {shortened(printable(' '.join(message.split())))}; see `{self.prog} --help`\n"
        )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Nothing is left over, so that each subcommand speaks of its own options."""
        self._is_bare = args is not None and not args
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            options = [option for action in self._actions for option in action.option_strings]
            near = did_you_mean(unknown[0], options) if unknown[0].startswith("-") else ""
            self.error(f"unrecognized arguments: {' '.join(unknown)}{near and f'; {near}'}")
        return parsed, unknown

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        """A variable of a script that is not set names no file, no device and no number: it would be the folder that
        one is in, or a name that no line shows."""
        is_command = isinstance(action, argparse._SubParsersAction)  # all that is behind it, for its own parser
        if not is_command and any(not text.strip() for text in arg_strings):
            raise argparse.ArgumentError(action, "is empty; give it a value, or leave it out")
        return super()._get_values(action, arg_strings)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        known = [str(choice) for choice in action.choices or ()]
        if not known or value in known:
            return
        remedy = did_you_mean(value, known) or f"choose from {', '.join(known)}"
        if isinstance(action, argparse._SubParsersAction):
            self.error(f"unknown command {value!r}; {remedy}")
        raise argparse.ArgumentError(action, f"invalid choice: {value!r}; {remedy}")

    def add_commands(self, groups: Mapping[str, Sequence[tuple[str, str, Callable[[Parser], None]]]]) -> None:
        """A parser for each (name, summary, what adds its options), listed under its group before all options."""
        made = self.add_subparsers(metavar="COMMAND")
        self._positionals._group_actions.remove(made)  # listed by groups instead
        every = [command for commands in groups.values() for command in commands]
        makes = {name: partial(_command, f"{made._prog_prefix} {name}", summary, add) for name, summary, add in every}
        made.choices = made._name_parser_map = _Commands(makes)  # type: ignore[assignment]  # a mapping is all it needs
        for title, commands in groups.items():
            listed = self.add_argument_group(title)
            for name, summary, _ in commands:
                made._choices_actions.append(made._ChoicesPseudoAction(name, (), summary))
                listed._group_actions.append(made._choices_actions[-1])
        self._action_groups.append(self._action_groups.pop(self._action_groups.index(self._optionals)))


def _command(prog: str, summary: str, add: Callable[[Parser], None]) -> Parser:
    parser = Parser(prog=prog, description=summary)
    add(parser)
    return parser


class _Commands(Mapping[str, Parser]):
    """Name -> parser, made when it is asked for: a program of many commands starts with the options of one."""

    def __init__(self, makes: Mapping[str, Callable[[], Parser]]) -> None:
        self._makes, self._made = makes, dict[str, Parser]()

    def __getitem__(self, name: str) -> Parser:
        if name not in self._made:
            self._made[name] = self._makes[name]()
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._makes

    def __iter__(self) -> Iterator[str]:
        return iter(self._makes)

    def __len__(self) -> int:
        return len(self._makes)


def below(examples: Sequence[str], page: str) -> str:
    """What stands below the options: what one may type, and where to read on."""
    lines = ["examples:", *(f"  {example}" for example in examples)] if examples else []
    return "\n".join([*lines, *(["", f"read on: docs/{page}"] if page else [])]).strip()
