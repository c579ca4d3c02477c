"""What every command line of this project does alike: one-line errors, exit status, quiet interruption.

0 done    1 failed    2 usage    129 hung up    130 interrupted    141 nobody reads the output any more    143 ended
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple, NoReturn

from edge_runtime.errors import Failure

DONE, FAILED, USAGE, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 130, 141


class Ended(KeyboardInterrupt):
    """SIGTERM, or SIGHUP of a terminal that was closed: what is half-written goes, as after Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


class Parser(argparse.ArgumentParser):
    """An argument parser whose usage errors are one line; options are never abbreviated."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})  # type: ignore[arg-type]  # handed on unread

    def error(self, message: str) -> NoReturn:
        program = self.prog.split()[0]
        self.exit(USAGE, f"{program}: error: {' '.join(message.split())}; see `{self.prog} --help`\n")


class Command(NamedTuple):
    """One subcommand: its options, and what it does with them."""

    name: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def parser_of(prog: str, description: str, version: str, commands: Sequence[Command]) -> argparse.ArgumentParser:
    """A parser with these subcommands; each has --json and --debug."""
    parser = Parser(prog=prog, description=description)
    parser.add_argument("--version", action="version", version=f"{prog} {version}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for each in commands:
        subparser = subparsers.add_parser(each.name, help=each.summary, description=each.summary)
        each.add_arguments(subparser)
        subparser.add_argument("--json", action="store_true", help="print the result as JSON")
        add_debug(subparser)
        subparser.set_defaults(run=each.run)
    return parser


def add_debug(parser: argparse.ArgumentParser) -> None:
    """The option every program has."""
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def run(parser: argparse.ArgumentParser, argv: Sequence[str] | None, prog: str) -> int:
    """Parse `argv`, call the chosen command's `run(args) -> int`, and return the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    _print_any_file_name()
    try:
        with _ends_are_raised():
            status = _parse_and_call(parser, argv)
            sys.stdout.flush()
        return status
    except KeyboardInterrupt as stop:
        return _status_of(stop)
    except BrokenPipeError:
        _forget_stdout()
        return BROKEN_PIPE
    except Exception as error:
        if stopped := _interruption(error):
            return _status_of(stopped)
        if "--debug" in argv:
            traceback.print_exc()
        print(f"{prog}: error: {_one_line(error)}", file=sys.stderr)
        return FAILED


@contextmanager
def _ends_are_raised() -> Iterator[None]:
    """SIGTERM and SIGHUP become `Ended`, unless they are ignored, as under nohup, or handled already."""
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) == signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    for number in numbers:
        signal.signal(number, _raise_ended)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _raise_ended(number: int, _: FrameType | None) -> None:
    raise Ended(number)


def _status_of(stop: KeyboardInterrupt) -> int:
    return stop.status if isinstance(stop, Ended) else INTERRUPTED


def _parse_and_call(parser: argparse.ArgumentParser, argv: Sequence[str]) -> int:
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:  # --help, --version or a usage error, already printed
        return int(stop.code or DONE)
    return int(args.run(args))


def _interruption(error: BaseException | None) -> KeyboardInterrupt | None:
    """Ctrl-C while a native module loads comes wrapped in that module's ImportError."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__
    return error


def _one_line(error: Exception) -> str:
    if isinstance(error, Failure):
        return str(error)
    if isinstance(error, ModuleNotFoundError):  # engines say so themselves, with their own extra
        return f"this needs {error.name}, not installed; `pip install 'edge-denoise[build]'`"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'input or output'}: {error.strerror}"
    return " ".join(f"{type(error).__name__}: {error}; please report it, with what --debug shows".split())


def _print_any_file_name() -> None:
    """File names need not be valid text: show the odd byte rather than fail on it."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


def _forget_stdout() -> None:
    """Keep the interpreter from complaining, at exit, about output that nobody reads."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
