"""What `quant deploy` knows of a board's Python, writes into its unit and prints, without a board."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

import boards
from edge_runtime.errors import Failure
from quant.cli import deploy
from quant.deploy import board_python, release
from quant.deploy.board_python import BoardPython
from quant.deploy.ssh import Address, short_folder

PI = BoardPython(machine="aarch64", word_bits=64, python=(3, 11), glibc=(2, 36), free_bytes=1 << 30)
FITS = [
    ("manylinux_2_17_aarch64", True), ("manylinux2014_aarch64", True), ("manylinux_2_36_aarch64", True),
    ("manylinux_2_39_aarch64", False), ("manylinux_2_17_x86_64", False), ("manylinux_2_17_armv7l", False),
    ("linux_aarch64", True), ("any", True), ("musllinux_1_2_aarch64", False), ("win_arm64", False),
]  # fmt: skip


@pytest.mark.parametrize(("tag", "fits"), FITS)
def test_which_wheels_install_on_a_pi(tag, fits):
    assert PI.runs(tag) == fits


def test_a_32_bit_system_on_a_64_bit_kernel_wants_armv7l():
    small = msgspec.structs.replace(PI, word_bits=32)
    assert small.architecture == "armv7l"
    assert small.runs("manylinux2014_armv7l")
    assert not small.runs("linux_aarch64")


ANSWER = '{{"machine": "aarch64", "word_bits": 64, "python": [3, {}], "glibc": [2, 31], "free_bytes": 1}}'
ANSWERS = [
    ("nothing", "", "did not answer"),
    ("a greeting", "Welcome!\n", "did not answer"),
    ("other JSON", "{}", "did not answer"),
    ("too old", ANSWER.format(9), "its Python is 3.9; name a Python from 3.10 to 3.13 with --python"),
    ("too new", ANSWER.format(14), "its Python is 3.14; name a Python from 3.10 to 3.13 with --python"),
]


@pytest.mark.parametrize(("text", "message"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS])
def test_a_board_whose_python_will_not_do(text, message):
    with pytest.raises(Failure, match=message):
        board_python.parse(text, "pi@board")


@pytest.mark.parametrize("name", [name for name in boards.names() if boards.load(name).os])
def test_what_a_dry_run_assumes_of_every_board(name):
    assumed = board_python.assumed(boards.load(name))
    assert assumed.runs(
        {"host": "manylinux_2_17_x86_64", "rpizero": "linux_armv6l"}.get(name, "manylinux_2_17_aarch64")
    )


def of_unit(folder: Path, **more: str) -> release.Settings:
    return release.Settings(address=Address("pi@board"), target="host", artifact=folder, service=True, **more)


def test_the_unit_quotes_what_systemd_would_read(tmp_path):
    text = release.unit_text(of_unit(tmp_path, capture='a "b" %h $X'), boards.load("host"))
    assert 'live --wait --capture "a \\"b\\" %%h $$X" --playback default' in text
    assert "ExecStart=%h/.local/share/edge-denoise/current/" in text
    assert "ExecStart=/opt/x/current/" in release.unit_text(of_unit(tmp_path, root="/opt/x"), boards.load("host"))
    assert '--model "%h/a b%%/current/artifact"' in release.unit_text(
        of_unit(tmp_path, root="a b%"), boards.load("host")
    )


@pytest.mark.parametrize("field", ["capture", "playback", "root"])
def test_no_line_of_a_stranger_gets_into_the_unit(tmp_path, field):
    odd = of_unit(tmp_path, **{field: "default\nExecStartPre=/bin/sh -c id"})
    with pytest.raises(Failure, match="signs that a systemd unit does not take"):
        release.unit_text(odd, boards.load("host"))


@pytest.mark.parametrize("name", boards.names())
def test_no_board_names_a_card_by_its_number(tmp_path, name):
    told = []
    release._note_numbers(of_unit(tmp_path), boards.load(name), told.append)
    assert told == []


def test_a_card_by_its_number_is_noted(tmp_path):
    told = []
    release._note_numbers(of_unit(tmp_path, capture="plughw:1,0"), boards.load("rpi4"), told.append)
    (note,) = told
    assert note.startswith("note: --capture plughw:1,0: a card's number changes")
    assert note.endswith("--capture plughw:CARD=<NAME>,DEV=0")


def test_where_every_folder_has_a_long_name_the_remedy_can_be_followed(tmp_path):
    with pytest.raises(Failure, match="at most; set TMPDIR to a folder with a shorter name"):
        short_folder(["/" + "x" * 99])


DETAILS = {
    "verify": {
        "golden": [
            {"engine": "native", "precision": "int8", "ok": True, "error": ""},
            {"engine": "onnx", "precision": "int8", "ok": False, "error": "onnxruntime ended by SIGILL"},
            {"engine": "tflite", "precision": "int8", "ok": None},
        ]
    },
    "doctor": {
        "status": "warn",
        "rows": [
            {"check": "memory", "status": "ok", "found": "500 MB", "remedy": ""},
            {"check": "governor", "status": "warn", "found": "powersave", "remedy": "use performance"},
        ],
    },
    "tidy": {"removed": ["a", "b"]},
    "service": {"units": ["edge-denoise.service"], "starts_at_boot": True},
    "install": None,
}


def test_what_a_board_tells_is_printed_as_tables():
    steps = {name: {"s": 1.0, "detail": detail} for name, detail in DETAILS.items()}
    lines = list(deploy._lines("pi@board", {"steps": steps, "current": "b", "previous": "a"}))
    text = "\n".join(" ".join(line.split()) for line in lines)
    for said in (
        "verify 1.0 1 of 3 models ok",
        "doctor 1.0 1 ok, 1 warn, 0 fail",
        "tidy 1.0 removed: a b",
        "service 1.0 units: edge-denoise.service, starts_at_boot: True",
        "native int8 ok",
        "onnx int8 onnxruntime ended by SIGILL",
        "tflite int8 not run: engine not installed",
        "warn governor powersave use performance",
        "pi@board: b is current; a is kept for --rollback",
    ):
        assert said in text, text
    assert "{" not in text
    assert "[" not in text
    assert "memory" not in text
