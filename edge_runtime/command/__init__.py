"""What every command line of this project does alike: one answer, one-line errors, exit status, quiet interruption.

0 done   1 failed   2 usage   129 hung up   130 interrupted   141 nobody reads the output any more   143 terminated

parsing  usage errors in one line, help in groups
signals  what a signal ends, and with which status
"""

from __future__ import annotations

import argparse
import errno
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from math import inf, isfinite
from typing import Any, NamedTuple, TypeVar

from edge_runtime import __version__
from edge_runtime.command.parsing import USAGE, Parser, below
from edge_runtime.command.signals import interruption_in, signals_clean_up, status_of
from edge_runtime.errors import Failure, printable, shortened

DONE, FAILED, BROKEN_PIPE = 0, 1, 141

Value = TypeVar("Value")


class Answer(NamedTuple):
    """What a command found: `value` for --json, structs and all, `lines` for people, printed as they come.

    Of the two only what is printed is computed: `value` may be a function of nothing.
    status      the exit status, or a function that tells it once all is printed
    then        what follows once it is printed: a verdict that raises, a question, a server
    one_line    the JSON ends a stream of such lines
    aside       to standard error, for standard output is sound
    """

    value: Any
    lines: Iterable[str]
    status: int | Callable[[], int] = DONE
    then: Callable[[], None] | None = None
    one_line: bool = False
    aside: bool = False


class Command(NamedTuple):
    """One subcommand, or a program of its own: its options, and what it finds with them.

    `examples`: whole command lines; `page`: of docs/, to read on. `takes_long`: it says at least every 5 s that it is
    at work, where nobody else has written anything to standard error.
    """

    name: str
    summary: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], Answer]
    examples: tuple[str, ...] = ()
    page: str = ""
    takes_long: bool = False


def after(step: Callable[[], None], command: Command) -> Command:
    """The command, with `step` before it: where that fails, so does the command."""

    def run(args: argparse.Namespace) -> Answer:
        step()
        return command.run(args)

    return command._replace(run=run)


class Program(NamedTuple):
    """A program of subcommands, grouped by what one wants."""

    name: str
    description: str
    groups: Mapping[str, Sequence[Command]]
    examples: tuple[str, ...] = ()
    page: str = ""

    @property
    def commands(self) -> tuple[Command, ...]:
        """All of them, group by group."""
        return tuple(each for group in self.groups.values() for each in group)


def whole(low: int, high: int, unit: str = "") -> Callable[[str], int]:
    """The parser of a whole number; `unit` is for the message."""

    def parse(text: str) -> int:
        with suppress(ValueError):
            if low <= int(text) <= high:
                return int(text)
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high} {unit}".rstrip())

    return parse


def number(low: float, high: float = inf, unit: str = "") -> Callable[[str], float]:
    """The parser of a finite number; `unit` is for the message."""

    def parse(text: str) -> float:
        with suppress(ValueError):
            if low <= float(text) <= high and isfinite(float(text)):
                return float(text)
        limits = f"from {low:g}" if high == inf else f"from {low:g} to {high:g}"
        raise argparse.ArgumentTypeError(f"{text!r} is not a number {limits} {unit}".rstrip())

    return parse


def or_word(word: str, meaning: Value, parse: Callable[[str], Value]) -> Callable[[str], Value]:
    """The parser of what may also be a word: "off"."""
    return lambda text: meaning if text == word else parse(text)


def parser_of(program: Program) -> argparse.ArgumentParser:
    """A parser with its subcommands."""
    own = f"`{program.name} COMMAND --help` shows a command's options; without one that it needs, a command names it."
    more = "\n\n".join([own, below(program.examples, program.page)])
    parser = Parser(prog=program.name, description=program.description, epilog=more)
    parser.add_argument("--version", action="version", version=f"{program.name} {__version__}")
    parser.add_commands(
        {
            title: [(each.name, each.summary, partial(_complete, command=each)) for each in group]
            for title, group in program.groups.items()
        }
    )
    return parser


def parser_for(program: Command) -> argparse.ArgumentParser:
    """The parser of a program that is one command."""
    parser = Parser(prog=program.name, description=program.summary)
    _complete(parser, program)
    return parser


def _complete(parser: argparse.ArgumentParser, command: Command) -> None:
    command.arguments(parser)
    parser.epilog = below(command.examples, command.page)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(run=command.run, takes_long=command.takes_long)


def say(prog: str, message: str) -> None:
    """Progress goes to standard error."""
    print(f"{prog}: {printable(message)}", file=sys.stderr, flush=True)


def main(program: Program, argv: Sequence[str] | None = None) -> int:
    """Run a program of subcommands, and return its exit status."""
    return run(parser_of(program), argv)


def run(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None) -> int:
    """Parse `argv`, ask the chosen command, print its answer, and return the exit status."""
    if argv is None:
        _restart_in_utf8_mode()
        argv = sys.argv[1:]
    _stand_in_for_closed_streams()
    _print_any_file_name()
    try:
        with signals_clean_up():
            status = _parse_and_answer(parser, argv)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt as stop:
        return status_of(stop)
    except BrokenPipeError:
        _forget_stdout()
        return BROKEN_PIPE
    except Exception as error:
        if interruption := interruption_in(error):
            return status_of(interruption)
        line = printable(_one_line(error))
        if "--debug" in argv:
            import traceback  # no `--help` waits for it

            traceback.print_exc()
        elif "--json" not in argv:  # which programs read
            line = shortened(line)
        print(f"{parser.prog}: error: {line}", file=sys.stderr)
        _flush_or_forget()
        return FAILED


def _parse_and_answer(parser: argparse.ArgumentParser, argv: Sequence[str]) -> int:
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:  # --help, --version or a usage error, already printed
        return int(stop.code or DONE)
    if not hasattr(args, "run"):  # nothing was asked
        parser.print_help()
        return USAGE
    with _never_silent(parser.prog) if args.takes_long else nullcontext(_nobody) as note:
        answer: Answer = args.run(args)
        _print(answer, note, as_json=args.json)
        if answer.then is not None:
            answer.then()
    return answer.status() if callable(answer.status) else answer.status


def _nobody() -> None:
    """Waits for a sign."""


def _never_silent(prog: str) -> AbstractContextManager[Callable[[], None]]:
    from edge_runtime.quiet import MOST_SILENT_S, never_silent  # no `--help` waits for it

    def look(silent_s: float) -> None:
        if silent_s >= MOST_SILENT_S:
            say(prog, "still at work")

    return never_silent(look)


def _print(answer: Answer, note: Callable[[], None], *, as_json: bool) -> None:
    """JSON has no infinity and no NaN: a command gives null in their place. `note` is called with every line."""
    lines = answer.lines
    if as_json:
        import json  # no `--help` waits for them

        import msgspec

        value = msgspec.to_builtins(answer.value() if callable(answer.value) else answer.value)
        lines = [json.dumps(value, indent=None if answer.one_line else 2, allow_nan=False)]
    for line in lines if as_json else map(_of_terminal, lines):
        print(line, file=sys.stderr if answer.aside else sys.stdout, flush=True)
        note()


def _of_terminal(line: str) -> str:
    """Names of files reach it: only line ends and tabs mean something there."""
    return line if line.isprintable() else re.sub(r"[^\n\t]+", lambda part: printable(part[0]), line)


def _one_line(error: Exception) -> str:
    if isinstance(error, Failure):
        return str(error)
    if isinstance(error, ModuleNotFoundError):  # engines say so themselves, with their own extra
        from edge_runtime.extras import remedy

        return f"this needs {error.name}, not installed; {remedy(str(error.name))}"
    if isinstance(error, MemoryError):
        said = f" ({error})" if str(error) else ""
        return " ".join(f"not enough memory{said}; end other programs, or give it less at once".split())
    if isinstance(error, OSError) and error.strerror:
        if error.errno == errno.EBADF and error.filename is None:
            return "standard input or output is closed; give it a file or a program"
        return f"{error.filename or 'input or output'}: {error.strerror}"
    return " ".join(f"{type(error).__name__}: {error}; please report it, with what --debug shows".split())


def _restart_in_utf8_mode() -> None:
    """Names and files are UTF-8, whatever the locale says; Python 3.15 begins so by itself (PEP 686)."""
    if sys.getfilesystemencoding() != "utf-8":
        with suppress(OSError):  # an interpreter that cannot be found again goes on as it is
            os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _print_any_file_name() -> None:
    """File names need not be valid text: show the odd byte rather than fail on it."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


def _stand_in_for_closed_streams() -> None:
    """Text for a closed stream is dropped; its number is taken, or the next file opened would get what others print.

    Taken for the other direction, so that sound for a closed stream is an error.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if mode == "r" else os.O_RDONLY)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  for as long as the program runs


def _flush_or_forget() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        _forget_stdout()


def _forget_stdout() -> None:
    """Keep the interpreter from complaining, at exit, about output that nobody reads."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
