"""Command lines: an answer is printed once, as it is asked for; what follows it, and what ends it, has its status."""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import pytest

from edge_runtime import command, quiet
from edge_runtime.command import Answer, Command, Failure, parsing


def asked(answer: Callable[[], Answer], *argv: str) -> int:
    program = Command("try", "Answers.", lambda parser: None, lambda args: answer())
    return command.run(command.parser_for(program), argv)


def no_lines() -> Iterator[str]:
    pytest.fail("lines were computed that nobody asked for")
    yield ""


def test_an_answer_is_printed_as_json_or_as_lines(capsys) -> None:
    assert asked(lambda: Answer({"a": [1]}, ["one", "two"])) == 0
    assert capsys.readouterr().out == "one\ntwo\n"
    assert asked(lambda: Answer({"a": [1]}, no_lines()), "--json") == 0
    assert capsys.readouterr().out == '{\n  "a": [\n    1\n  ]\n}\n'
    assert asked(lambda: Answer({"a": [1]}, [], one_line=True), "--json") == 0
    assert capsys.readouterr().out == '{"a": [1]}\n'
    assert asked(lambda: Answer({}, [])) == 0
    assert capsys.readouterr().out == ""


def test_json_aside_leaves_standard_output_to_the_sound(capsys) -> None:
    assert asked(lambda: Answer({"a": 1}, [], one_line=True, aside=True), "--json") == 0
    assert capsys.readouterr() == ("", '{"a": 1}\n')


ODD = "a\x1b]0;x\x07\x9b2J\u202eb"
SHOWN = "a\\x1b]0;x\\x07\\x9b2J\\u202eb"


def test_a_terminal_obeys_no_name(capsys) -> None:
    assert asked(lambda: Answer({"a": ODD}, [f"{ODD}\tc\nd"])) == 0
    assert capsys.readouterr().out == f"{SHOWN}\tc\nd\n"

    def fail() -> Answer:
        command.say("try", ODD)
        raise Failure(ODD, where=ODD, remedy=ODD)

    assert asked(fail) == 1
    assert capsys.readouterr().err == f"try: {SHOWN}\ntry: error: {SHOWN}: {SHOWN}; {SHOWN}\n"

    def break_off() -> Answer:
        raise ValueError(ODD)

    assert asked(break_off) == 1
    assert ODD not in capsys.readouterr().err
    assert asked(break_off, ODD) == 2
    assert capsys.readouterr().err == f"try: error: unrecognized arguments: {SHOWN}; see `try --help`\n"


@pytest.mark.parametrize("n", [1, 940, 1000, 5000, 70_000])
def test_a_failure_can_be_read_and_is_told_whole_where_it_is_asked_for(capsys, n: int) -> None:
    """The beginning says what, the end what helps."""

    def fail() -> Answer:
        raise Failure("x" * n, where="here", remedy="do this")

    def said(*argv: str) -> str:
        assert asked(fail, *argv) == 1
        return capsys.readouterr().err.splitlines()[-1]

    whole = f"try: error: here: {'x' * n}; do this"
    assert said("--debug") == said("--json") == whole
    line = said()
    assert len(line) <= 1000 + len("try: error: ")
    assert line.startswith("try: error: here: x")
    assert line.endswith("x; do this")
    assert (line == whole) == (n < 1000)
    assert asked(fail, "x" * 5000) == 2
    assert len(capsys.readouterr().err) < 1100


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_has_no_infinity_and_no_nan(capsys, value: float) -> None:
    assert asked(lambda: Answer(value, []), "--json") == 1
    assert capsys.readouterr().out == ""


def test_the_verdict_comes_after_the_answer(capsys) -> None:
    def judge() -> None:
        raise Failure("too much")

    assert asked(lambda: Answer(1, ["all of it"], then=judge)) == 1
    assert capsys.readouterr() == ("all of it\n", "try: error: too much\n")
    assert asked(lambda: Answer(1, ["all of it"], status=1)) == 1
    assert capsys.readouterr() == ("all of it\n", "")


NUMBERS = [
    (command.whole(1, 64), ["1", "64", "007"], ["0", "65", "", "1.0", "1e1", "-1", "nan", "x", "9" * 5000]),
    (command.whole(-1, 1), ["-1", "0", "+1"], ["-2", "2"]),
    (command.number(0, 1), ["0", "1", "1e-3", ".5"], ["-0.1", "1.0001", "", "nan", "inf", "-inf", "x"]),
    (command.number(0), ["0", "1e300"], ["-1e-300", "inf", "nan", "1e999"]),
    (command.or_word("off", 9.0, command.number(0, 1)), ["off", "0.5"], ["on", "9", "nan"]),
]


@pytest.mark.parametrize(("parse", "good", "bad"), NUMBERS)
def test_a_number_is_in_range_or_refused(parse: Callable[[str], float], good: list[str], bad: list[str]) -> None:
    assert [parse(text) for text in good] == [9.0 if text == "off" else float(text) for text in good]
    for text in bad:
        with pytest.raises(argparse.ArgumentTypeError, match=" from "):
            parse(text)


@pytest.fixture
def by_default() -> Iterator[None]:
    """Signals end this program, whatever it was started by."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_second_signal_does_not_disturb_the_cleaning_up(capsys, by_default, number: int, status: int) -> None:
    cleaned = []

    def work() -> Answer:
        try:
            os.kill(os.getpid(), number)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGHUP)
            cleaned.append(True)
        return Answer(None, [])  # as if nothing had been

    assert asked(work) == status
    assert cleaned == [True]
    assert capsys.readouterr() == ("", "")
    assert signal.getsignal(number) is signal.SIG_DFL


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_that_python_drops_comes_once_more(capsys, by_default, number: int, status: int) -> None:
    """What is raised in a callback is reported, and the program would go on."""

    def work() -> Answer:
        given = Lock()
        watched = weakref.ref(given, lambda _: os.kill(os.getpid(), number))
        del given
        time.sleep(60)
        return Answer(watched, [])

    assert asked(work) == status
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_waits_for_a_module_to_have_loaded(
    capsys, by_default, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, status: int
) -> None:
    """NumPy told one as a broken installation, or crashed."""
    name = f"interrupted_{int(number)}"
    lines = "import os, time", "try:", f"    os.kill(os.getpid(), {int(number)})", "    time.sleep(0.03)"
    hides = "except BaseException:", "    raise ImportError from None"
    (tmp_path / f"{name}.py").write_text("\n".join((*lines, *hides)))
    monkeypatch.syspath_prepend(tmp_path)

    def work() -> Answer:
        import_module(name)
        time.sleep(60)
        return Answer(None, [])

    assert asked(work) == status
    assert capsys.readouterr() == ("", "")


class Lock:
    """Something that can be watched."""


def test_a_forked_worker_dies_of_the_signal_alone() -> None:
    def work() -> Answer:
        if (worker := os.fork()) == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        return Answer(None, [], status=os.WTERMSIG(os.waitpid(worker, 0)[1]))

    assert asked(work) == signal.SIGTERM


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("odd\nthing"), "ValueError: odd thing; please report it, with what --debug shows"),
        (MemoryError(), "not enough memory; end other programs, or give it less at once"),
        (
            MemoryError("Unable to allocate 2 GiB"),
            "not enough memory (Unable to allocate 2 GiB); end other programs, or",
        ),
    ],
)
def test_what_is_no_failure_asks_for_a_report_unless_memory_is_short(capsys, error: Exception, line: str) -> None:
    def work() -> Answer:
        raise error

    assert asked(work) == 1
    assert capsys.readouterr().err.startswith(f"try: error: {line}")


def test_a_failure_that_is_its_own_cause_is_one_line(capsys) -> None:
    def work() -> Answer:
        failure = Failure("is no sound", where="a.wav")
        raise failure from failure

    assert asked(work) == 1
    assert capsys.readouterr().err == "try: error: a.wav: is no sound\n"


def test_an_interruption_that_came_wrapped_is_one(capsys) -> None:
    def work() -> Answer:
        raise ImportError("while loading") from KeyboardInterrupt()

    assert asked(work) == 130
    assert capsys.readouterr().err == ""


def test_a_program_of_commands_hands_each_its_own(capsys) -> None:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--n", type=command.whole(1, 3), default=1)

    commands = [Command(name, "x", add, lambda args: Answer(args.n, [f"n = {args.n}"])) for name in ("one", "two")]
    parser = command.parser_of(command.Program("many", "Two.", {"all": commands}))
    assert command.run(parser, ["two", "--n", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == 3
    assert command.run(parser, ["tow"]) == 2
    assert capsys.readouterr().err == "many: error: unknown command 'tow'; did you mean two?; see `many --help`\n"


def test_what_takes_long_says_so_where_nobody_else_speaks(capsys, monkeypatch) -> None:
    monkeypatch.setattr(quiet, "MOST_SILENT_S", 1.0)

    def work() -> Answer:
        for _ in range(6):  # speaks for itself
            command.say("try", "busy")
        before, after = capsys.readouterr().err, ""
        while not after:  # however busy the machine is
            time.sleep(0.05)
            after = capsys.readouterr().err
        return Answer({}, [f"{len(before.splitlines())} lines before, then {after.splitlines()[0]}"])

    program = Command("try", "Answers.", lambda parser: None, lambda args: work(), takes_long=True)
    stream = sys.stderr
    assert command.run(command.parser_for(program), []) == 0
    out, err = capsys.readouterr()
    assert out == "6 lines before, then try: still at work\n"
    assert set(err.splitlines()) <= {"try: still at work"}
    assert sys.stderr is stream
    time.sleep(1.2)
    assert capsys.readouterr().err == "", "the work is done"


def test_lines_of_the_answer_are_signs_too(capsys, monkeypatch) -> None:
    noted = list[str]()

    @contextmanager
    def never_silent(look: object) -> Iterator[Callable[[], None]]:
        yield lambda: noted.append(capsys.readouterr().out)

    monkeypatch.setattr(quiet, "never_silent", never_silent)
    program = Command("try", "Answers.", lambda parser: None, lambda args: Answer({}, ["a", "b"]), takes_long=True)
    assert command.run(command.parser_for(program), []) == 0
    assert noted == ["a\n", "b\n"]


def test_a_stream_knows_for_how_long_nothing_was_said() -> None:
    now, behind = [0.0], io.StringIO()
    heard = quiet.Heard(behind, lambda: now[0])
    for say in (lambda: print("busy", file=heard), heard.note):
        now[0] += 3.0
        assert heard.silent_s == 3.0
        say()
        assert heard.silent_s == 0.0
    assert (behind.getvalue(), heard.getvalue()) == ("busy\n", "busy\n")


def test_a_failure_of_what_takes_long_is_its_line_alone(capsys) -> None:
    def fail() -> Answer:
        raise Failure("broken")

    program = Command("try", "Answers.", lambda parser: None, lambda args: fail(), takes_long=True)
    assert command.run(command.parser_for(program), []) == 1
    assert capsys.readouterr().err == "try: error: broken\n"


def test_a_program_adds_the_options_of_the_command_that_is_typed_alone(capsys) -> None:
    added = list[str]()

    def add(name: str) -> Callable[[argparse.ArgumentParser], None]:
        return lambda parser: added.append(name)

    commands = [Command(name, f"does {name}", add(name), lambda args: Answer({}, [])) for name in ("one", "two")]
    program = command.Program("many", "Two.", {"all": commands})
    for argv, expected in (["--help"], []), ([], []), (["two"], ["two"]), (["one", "--help"], ["one"]):
        command.main(program, argv)
        assert added == expected, argv
        added.clear()
    assert "usage: many one [-h] [--json] [--debug]" in capsys.readouterr().out


@pytest.mark.parametrize("columns", ["", "0", "100", "wide"])
def test_help_is_as_wide_as_argparse_would_have_it(monkeypatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert parsing.Layout("try")._width == argparse.HelpFormatter("try")._width
