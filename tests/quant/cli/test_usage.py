"""What is mistyped: one line that says what is wrong and what is near, exit status 2, nothing done."""

from __future__ import annotations

import re

import pytest
from mistyped import one_by_one
from quant_desk import build, refuses

from edge_runtime.errors import MOST_CHARACTERS
from quant.cli import COMMANDS, main

BUDGET = ["budget", "--target", "host"]
TRAIN = ["train", "--out", "out/run"]

WORDS = [
    ("unknown command", ["fly"], "unknown command 'fly'; choose from build, boards, networks, pull"),
    ("nearly a command", ["biuld"], "unknown command 'biuld'; did you mean build?; see `quant --help`"),
    ("target without value", ["build", "--target"], "--target: expected one argument"),
    ("unknown option", build("--zzz"), "unrecognized arguments: --zzz; see `quant build --help`"),
    ("nearly an option", build("--no-reprot"), "arguments: --no-reprot; did you mean --no-report?; see `quant build"),
    ("abbreviated option", ["budget", "--targ", "rpi4"], "unrecognized arguments: --targ rpi4; did you mean --target?"),
    ("nearly a value", build("--io", "offical"), "argument --io: invalid choice: 'offical'; did you mean official?"),
    ("extra argument", ["pull", "rpi4"], "unrecognized arguments: rpi4; see `quant pull --help`"),
    ("no such command, nearly", ["bild"], "unknown command 'bild'; did you mean build?; see `quant --help`"),
    ("verify two folders", ["verify", "good", "good"], "unrecognized arguments: good"),
    ("target in ablate", build(command="ablate"), "unrecognized arguments: --target"),
    ("two starts", [*TRAIN, "--from-scratch", "--checkpoint=good.pt"], "--checkpoint: not allowed with"),
    ("another kind of device", [*TRAIN, "--device=mps"], "argument --device: 'mps' is not a device: cpu or cuda"),
    ("no board", ["build", "--target", ""], "argument --target: is empty; give it a value, or leave it out"),
    ("no device", [*TRAIN, "--device="], "argument --device: is empty; give it a value, or leave it out"),
]


@pytest.mark.parametrize(("argv", "message"), [row[1:] for row in WORDS], ids=[row[0] for row in WORDS])
def test_a_wrong_word_is_one_line(desk, capfd, argv, message):
    refuses(argv, 2, message, capfd)


NUMBERS = [  # every option that takes one, and what it must not be
    (build(), "--max-pesq-drop", ["-0.1", "little", "inf", "nan"], "is not a number from 0"),
    (BUDGET, "--max-macs", ["few", "nan", "inf", "-1", "0"], "is not a number such as 48000, 48k"),
    (["eval", "art", "--pairs=p"], "--jobs", ["0", "-2", "nan", "1.5", "9" * 5000], "is not a whole number from 1 to"),
    (["view", "art"], "--port", ["0", "65536", "-1", "http"], "is not a whole number from 1 to 65535"),
    (["deploy", "me@there"], "--port", ["0", "65536", "-1", "ssh"], "is not a whole number from 1 to 65535"),
    (["deploy", "me@there"], "--number", ["0", "-1", "9" * 10, "new"], "is not a whole number from 1 to 2147483648"),
    (["bundle", "art", "-o", "b"], "--number", ["0", "-1", "nan"], "is not a whole number from 1 to 2147483648"),
    (TRAIN, "--learning-rate", ["nan", "inf", "-1", "0", "1e9"], "is not a number from 1e-09 to 1"),
    (TRAIN, "--workers", ["-1", "nan", "1e3", "100000"], "is not a whole number from 0 to 256"),
    (TRAIN, "--seed", ["-1", str(2**32), "9" * 40, "inf"], "is not a whole number from 0 to 4294967295"),
    (TRAIN, "--steps", ["0", "-5", "inf", "many"], "is not a whole number from 1 to"),
    (TRAIN, "--batch", ["0", "-1", "nan"], "is not a whole number from 1 to"),
    (TRAIN, "--clip-ms", ["0", "-1", "nan", "9" * 20], "is not a whole number from 100 to 600000 ms"),
    (TRAIN, "--validate-every", ["0", "-1", "nan"], "is not a whole number from 1 to"),
    (TRAIN, "--patience", ["0", "-1", "nan"], "is not a whole number from 1 to"),
    (TRAIN, "--most-snr-db", ["-6", "nan", "loud"], "is not a number from -5 to 120"),
    (TRAIN, "--share-clean", ["-0.1", "1", "nan"], "is not a number from 0 to 0.9"),
    (["qat", "--out=out/run"], "--log-floor", ["-13", "0.1", "nan"], "is not a number from -12 to 0"),
    (["qat", "--out=out/run"], "--blend", ["nan", "-0.1", "1.1", "all"], "is not a number from 0 to 1"),
    (["qat", "--out=out/run"], "--share-teacher", ["nan", "-0.1", "1.1", "inf"], "is not a number from 0 to 1"),
]


@pytest.mark.parametrize(("argv", "option", "text", "message"), one_by_one(NUMBERS))
def test_a_number_out_of_range_is_a_usage_line(desk, capfd, argv, option, text, message):
    # A line is cut in its middle: of a number longer than that the reason stays.
    said = f"argument {option}: {text!r} {message}" if len(text) < MOST_CHARACTERS // 2 else message
    refuses([*argv, f"{option}={text}"], 2, said, capfd)


def test_the_table_of_numbers_is_complete(capfd):
    """A new option that takes one must come into it; those of a limit and of a training are all alike."""
    alike = {"qat": "train"}
    listed = {(argv[0], option) for argv, option, *_ in NUMBERS}
    for command in COMMANDS:
        assert main([command.name, "--help"]) == 0
        for option in re.findall(r"^  (--[\w-]+) (?:N|X|MS)\b", capfd.readouterr().out, re.MULTILINE):
            same = re.sub("^--max-(?!pesq).*", "--max-macs", option)
            assert {(command.name, same), (alike.get(command.name), same)} & listed, f"{command.name} {option}"
