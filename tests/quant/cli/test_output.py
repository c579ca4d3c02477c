"""How `quant` lays out what it says: tables on terminals of any width, stages with what is left."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress

import pytest
from places import ROOT

from quant.cli import output, train
from quant.cli.output import Stages, table

COLUMNS = ("layer", "kind", "MACs", "share")
ROWS = [
    ("encoder.en_convs.2.point_bn1.depth_conv", "conv", "3,144,960", "12.3 %"),
    ("total", "", "22", "100.0 %"),
]


@pytest.mark.parametrize("width", [100, 80, 56, 40, 30])
def test_figures_stand_to_the_right_and_are_never_cut_names_are_cut_on_the_left(width, monkeypatch):
    monkeypatch.setattr(output, "WIDTH_CHARACTERS", width)
    _, _, first, total, *note = table(COLUMNS, ROWS, less_needed=("kind",))
    assert max(map(len, (first, total, *note))) <= width
    assert first.endswith("  3,144,960   12.3 %")
    assert total.endswith("         22  100.0 %")
    name = first.split()[0]
    assert ROWS[0][0].endswith(name.removeprefix("…"))
    assert len(name) >= min(output.SHORTEST_NAME, len(ROWS[0][0])) or width < 40
    assert " ".join(note) == ("no room for kind: widen the terminal or ask for --json" if width <= 40 else "")


@pytest.mark.parametrize("n_columns", [80, 100])
def test_on_a_terminal_a_table_fits_and_is_plain_text(n_columns):
    """Control characters are shown by their numbers there, those of bold headings too."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, n_columns, 0, 0))
    argv = [sys.executable, "-m", "quant.cli", "budget", "--target", "rpi4"]
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    subprocess.run(argv, stdin=theirs, stdout=theirs, check=True, cwd=ROOT, env=env | {"TERM": "xterm-256color"})
    os.close(theirs)
    seen = b""
    with suppress(OSError):  # how a pseudo-terminal says that the other end is closed
        while part := os.read(ours, 65_536):
            seen += part
    os.close(ours)
    lines = seen.decode().splitlines()
    assert "x1b" not in seen.decode()
    assert lines[-1] == "--layers prints every layer and engine"
    (head,) = (i for i, line in enumerate(lines) if line.startswith("block"))
    assert max(map(len, lines[head:])) <= n_columns


def test_text_goes_on_in_the_next_line(monkeypatch):
    monkeypatch.setattr(output, "WIDTH_CHARACTERS", 30)
    lines = list(table(("question", "answer"), [("Does it fit?", "yes, every line is within its budget")]))
    assert " ".join(" ".join(lines[2:]).split()) == "Does it fit? yes, every line is within its budget"
    assert max(map(len, lines)) <= 30


def test_a_stage_says_what_is_left_by_the_pace_so_far(monkeypatch):
    said, now = list[str](), iter([0.0, 0.0, 2.0, 22.0])
    monkeypatch.setattr(output, "say", said.append)
    stages = Stages({"reading": 1.0, "calibrating": 9.0, "drawing": 4.0}, lambda: next(now))
    for line in ("reading the weights", "calibrating on 64 clips", "drawing the report"):
        stages(line)
    assert said == [
        "  0 s  reading the weights",
        "  2 s  calibrating on 64 clips, about 17 s left",  # (2 + 2) / (1 + 2) of 13 s
        " 22 s  drawing the report, about 8 s left",  # (22 + 2) / (10 + 2) of 4 s
    ]


def test_a_long_stage_is_never_silent_for_five_seconds(monkeypatch):
    said, now = list[str](), iter((0.0, 0.0, 0.0, 1.0, 3.0, 6.0, 8.0, 11.0, 40.0))
    monkeypatch.setattr(output, "say", said.append)
    stages = Stages({"reading": 1.0, "calibrating": 9.0, "drawing": 4.0}, lambda: next(now))
    stages.again()  # nothing has begun
    stages("reading the weights")
    stages("calibrating")
    for _ in range(5):
        stages.again()
    assert said == [
        "  0 s  reading the weights",
        "  1 s  calibrating, about 13 s left",
        "  6 s  calibrating still, about 8 s left",
        " 11 s  calibrating still, about 6 s left",  # late by now: a fifth of 10 s, and 4 s at this pace
        " 40 s  calibrating still, about 25 s left",
    ]


def test_what_lasts_is_said_while_it_lasts_and_no_longer(monkeypatch):
    said = list[str]()
    monkeypatch.setattr(output, "say", said.append)
    monkeypatch.setattr(output, "SILENT_S", 0.05)
    monkeypatch.setattr(output, "_LOOK_S", 0.01)
    with Stages({"reading": 1.0}) as stages:
        stages("reading the weights")
        while len(said) < 3:
            time.sleep(0.01)
    n = len(said)
    time.sleep(0.1)
    assert len(said) == n
    assert said[1].strip().endswith("reading the weights still")


def test_what_is_no_stage_is_said_as_it_is(monkeypatch):
    said = list[str]()
    monkeypatch.setattr(output, "say", said.append)
    Stages({"reading": 1.0})("left out: a.wav")
    assert said == ["left out: a.wav"]


def test_what_takes_what_it_takes_says_nothing_and_does_not_make_the_rest_slower(monkeypatch):
    """A search of minutes between two stages."""
    said, now = list[str](), iter((0.0, 0.0, 2.0, 3.0, 200.0, 302.0))
    monkeypatch.setattr(output, "say", said.append)
    stages = Stages({"reading": 1.0, "search": None, "calibrating": 9.0}, lambda: next(now))
    stages("reading the weights")
    stages("search: listening")
    stages("search: 30 trials")
    stages.again()
    stages("calibrating")
    assert said == [
        "  0 s  reading the weights",
        "search: listening",
        "search: 30 trials",
        "302 s  calibrating, about 12 s left",  # (2 + 2) / (1 + 2) of 9 s
    ]


def test_a_stage_is_silent_while_others_speak(monkeypatch):
    """A bar that ticks."""
    said, now = list[str](), iter((0.0, 0.0, 9.0, 18.0))
    monkeypatch.setattr(output, "say", said.append)
    stages = Stages({"reading": 1.0}, lambda: next(now))
    stages("reading the weights")
    stages.again(0.5)
    assert len(said) == 1
    stages.again(9.0)
    assert said[1] == " 18 s  reading the weights still"


def test_a_run_of_training_ends_the_stage_before_it(monkeypatch):
    """Or calibration would be said to go on while steps are told."""
    said, now = list[str](), iter((0.0, 1.0, 2.0, 9.0))
    monkeypatch.setattr(output, "say", said.append)
    stages = Stages(train.USUAL_S, lambda: next(now))
    for line in ("calibrating the start", "step 0 of 300, still at work"):
        stages(line)
    stages.again()
    assert said == ["  1 s  calibrating the start", "step 0 of 300, still at work"]
