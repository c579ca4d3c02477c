"""Boards, recipes and ranges that are refused: each row brings the text that is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from places import ROOT
from quant_desk import build, refuses, write_ranges

HOST = (ROOT / "boards" / "host.toml").read_text()
RULE = "title = 'mine'\n{}\n[[rules]]\nnodes = '{}'\nprecision = '{}'\nwhy = 'a test'\n{}\n"


def host(pattern: str, by: str) -> str:
    """The board file of this machine with one line changed."""
    changed = re.sub(pattern, by, HOST, flags=re.DOTALL | re.MULTILINE)
    assert changed != HOST
    return changed


BOARDS = [
    ("unknown", "arduino", None, "unknown board 'arduino'; choose one of: generic-c, host"),
    ("nearly one", "rpi44", None, "did you mean rpi4?"),
    ("missing file", "gone.toml", None, "gone.toml: cannot read this board: No such file"),
    ("broken", "b.toml", "title = ", "b.toml: not valid TOML"),
    ("impossible", "b.toml", host(r"^clock_mhz = [^\n]*$", "clock_mhz = 0"), "cpu: clock_mhz must be positive"),
    ("more fields", "b.toml", "colour = 'red'\n" + HOST, "b.toml: Object contains unknown field `colour`"),
]


def test_a_folder_is_no_board(desk, capfd):
    Path("b.toml").mkdir()
    refuses(build(target="b.toml"), 1, "b.toml: cannot read this board: Is a directory", capfd)


@pytest.mark.parametrize("argv", [["plan", "--target", "RPI4"], ["budget", "--target", "RPI4"]], ids=" ".join)
def test_every_command_knows_boards_alike(desk, capfd, argv):
    refuses(argv, 1, "unknown board 'RPI4'; did you mean rpi4?", capfd)


RECIPES = [
    ("unknown", "dynamic", None, "unknown recipe 'dynamic'; choose one of: float-mask, static"),
    ("missing file", "gone.toml", None, "gone.toml: no such file; name another, or choose one of: float-mask"),
    ("broken", "r.toml", "title = ", "r.toml: not a recipe"),
    ("a board", "r.toml", HOST, "r.toml: not a recipe"),
    ("precision", "r.toml", RULE.format("", "*", "int4", ""), "r.toml: not a recipe: Invalid enum value 'int4'"),
    ("kind", "r.toml", RULE.format("", "*", "int8", "kinds = ['softmax']"), "kind 'softmax' cannot be int8; use"),
    ("observer", "r.toml", RULE.format("observer = 'guess'", "*", "int8", ""), "Invalid enum value 'guess'"),
    ("percentile", "r.toml", RULE.format("percentile = 120", "*", "int8", ""), "<= 100"),
    ("no nodes", "r.toml", RULE.format("", "encoder.en_convs.9.*", "int8", ""), "'encoder.en_convs.9.*' matches no"),
]


@pytest.mark.parametrize(
    ("option", "name", "text", "message"),
    [(option, *row[1:]) for option, rows in (("target", BOARDS), ("recipe", RECIPES)) for row in rows],
    ids=[f"{option}: {row[0]}" for option, rows in (("target", BOARDS), ("recipe", RECIPES)) for row in rows],
)
def test_a_bad_board_or_recipe_is_one_line(desk, capfd, option, name, text, message):
    if text is not None:
        Path(name).write_text(text)
    refuses(build(**{option: name}), 1, message, capfd)


def test_an_unknown_recipe_is_refused_before_weights_are_pulled(desk, capfd):
    refuses(["ablate", "--recipe=gone.toml"], 1, "gone.toml: no such file", capfd)


RANGES = [  # what is replaced in good ranges, by what
    ("text", ".*", "not ranges", "r.json: is not JSON"),
    ("cut", "(.{100}).*", r"\1", "r.json: is not JSON"),
    ("newer version", '"version": 1', '"version": 2', "has format version 2, this program reads 1"),
    ("other JSON", "edge-denoise ranges", "other", "is 'other', not 'edge-denoise ranges'"),
    ("NaN", '"low": -1.0', '"low": NaN', "r.json: is not JSON"),
    ("infinite", '"high": 1.0', '"high": 1e999', "r.json: "),
    ("upside down", '"low": -1.0', '"low": 2.0', "tap 'sfe': low 2.0 is above high 1.0"),
    ("too wide", '"high": 1.0', '"high": 1e300', "tap 'sfe': no network computes -1.0 to 1e+300"),
    ("without a tap", "sfe", "sfe", "no range for tap"),
]


@pytest.mark.parametrize(("pattern", "by", "message"), [row[1:] for row in RANGES], ids=[row[0] for row in RANGES])
def test_bad_ranges_are_one_line(desk, capfd, pattern, by, message):
    write_ranges("r.json")
    text = Path("r.json").read_text()
    Path("r.json").write_text(re.sub(pattern, by, text, count=1, flags=re.DOTALL))
    refuses(build(ranges="r.json"), 1, message, capfd)


def test_ranges_of_another_checkpoint_are_refused(desk, capfd):
    write_ranges("r.json", "0" * 64)
    refuses(build(ranges="r.json"), 1, "measured on another checkpoint", capfd)


def test_ranges_that_cannot_be_read_say_why(desk, capfd):
    refuses(build(ranges="gone.json"), 1, "gone.json: cannot be read (No such file or directory)", capfd)
    refuses(build(ranges="speech"), 1, "speech: cannot be read (Is a directory)", capfd)
