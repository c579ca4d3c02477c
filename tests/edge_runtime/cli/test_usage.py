"""What is mistyped: one line that says what is wrong and what is near, exit status 2, nothing done."""

from __future__ import annotations

import re

import pytest
from mistyped import one_by_one
from runtime_desk import bench, file, refuses

from edge_runtime.cli import COMMANDS, main

WORDS = [
    ("unknown command", ["clean"], "unknown command 'clean'; choose from file, live, ctl"),
    ("nearly a command", ["fiel"], "unknown command 'fiel'; did you mean file?; see `edge-denoise --help`"),
    ("no output", ["file", "in.wav", "--model", "MODEL"], "required: OUT"),
    ("unknown option", [*file(), "--zzz"], "unrecognized arguments: --zzz; see `edge-denoise file --help`"),
    ("abbreviated option", [*file(), "--prec", "fp32"], "arguments: --prec fp32; did you mean --precision?"),
    ("unknown engine", [*file(), "--engine", "torch"], "invalid choice: 'torch'; choose from auto, native, onnx"),
    (
        "nearly an engine",
        [*file(), "--engine", "onxn"],
        "invalid choice: 'onxn'; did you mean onnx?",
    ),
    ("a variable not set", [*file(), "--model", ""], "argument --model: is empty; give it a value, or leave it out"),
    ("blanks", ["live", "--capture", " \n"], "argument --capture: is empty; give it a value"),
    ("no name of a file", ["file", "", "out.wav"], "argument IN: is empty; give it a value"),
    ("no command", [""], "unknown command ''; choose from file, live"),
    ("unknown precision", bench("MODEL", "--precision", "int4"), "invalid choice: 'int4'; did you mean int8?"),
]


@pytest.mark.parametrize(("argv", "message"), [row[1:] for row in WORDS], ids=[row[0] for row in WORDS])
def test_a_wrong_word_is_one_line(desk, capfd, argv, message):
    refuses(argv, 2, message, capfd)


LIVE = ["live", "--model", "MODEL"]
SERVICE = ["install", "--service"]
LATENCY = ["latency", "--capture=a", "--playback=b"]
NUMBERS = [  # every option that takes one, and what it must not be
    (bench(), "--threads", ["0", "-1", "two", "1000", "1.5", "nan"], "is not a whole number from 1 to 64"),
    (LIVE, "--rate", ["0", "96001.5", "1e6", "fast"], "is not a whole number from 4000 to 192000 Hz"),
    (LIVE, "--capture-channels", ["0", "65", "mono"], "is not a whole number from 1 to 64"),
    (LIVE, "--input-gain-db", ["-41", "61", "loud"], "is not a number from -40 to 60 dB"),
    (LIVE, "--highpass", ["9", "301", "on"], "is not a number from 10 to 300 Hz"),
    (SERVICE, "--input-gain-db", ["-41", "61", "loud"], "is not a number from -40 to 60 dB"),
    (SERVICE, "--highpass", ["9", "301", "on"], "is not a number from 10 to 300 Hz"),
    (LIVE, "--period-ms", ["0", "201", "nan", "inf"], "is not a number from 1 to 200 ms"),
    (LIVE, "--periods", ["1", "33", "2.5"], "is not a whole number from 2 to 32"),
    (LIVE, "--margin-ms", ["-1", "501", "nan"], "is not a number from 0 to 500 ms"),
    (LIVE, "--settle-ms", ["-1", "10001", "nan"], "is not a number from 0 to 10000 ms"),
    (LIVE, "--seconds", ["-1", "nan", "inf"], "is not a number from 0 to 1e+09"),
    (LIVE, "--strength", ["-0.1", "1.1", "nan"], "is not a number from 0 to 1"),
    (LIVE, "--limit-db", ["-1", "201", "nan", "loud"], "is not a number from 0 to 200"),
    (LIVE, "--gate-dbfs", ["1", "-121", "inf"], "is not a number from -120 to 0"),
    (["pipe", "--model", "MODEL"], "--rate", ["0", "7999", "1e6"], "is not a whole number from 8000 to 192000 Hz"),
    (["panel"], "--port", ["0", "65536", "http"], "is not a whole number from 1 to 65535"),
    (LATENCY, "--rate", ["0", "1e6"], "is not a whole number from 8000 to 192000 Hz"),
    (LATENCY, "--period-ms", ["0", "nan", "-16"], "is not a number from 1 to 200 ms"),
    (LATENCY, "--periods", ["1", "65"], "is not a whole number from 2 to 64"),
    (LATENCY, "--margin-ms", ["nan", "-1", "inf"], "is not a number from 0 to 500 ms"),
    (LATENCY, "--repeats", ["0", "101"], "is not a whole number from 1 to 100"),
]


@pytest.mark.parametrize(("argv", "option", "text", "message"), one_by_one(NUMBERS))
def test_a_number_out_of_range_is_a_usage_line(desk, capfd, argv, option, text, message):
    refuses([*argv, f"{option}={text}"], 2, f"argument {option}: {text!r} {message}", capfd)


def test_the_table_of_numbers_is_complete(capfd):
    """A new option that takes one must come into it; those of a model and of the controls are shared."""
    listed = {(argv[0], option) for argv, option, *_ in NUMBERS}
    shared = {"--threads", "--strength", "--limit-db", "--gate-dbfs"}
    for command in COMMANDS:
        assert main([command.name, "--help"]) == 0
        shown = re.findall(r"^  (--[\w-]+) (?:N|X|S|MS|HZ|DB)\b", capfd.readouterr().out, re.MULTILINE)
        assert {(command.name, option) for option in shown if option not in shared} <= listed
