"""Boards: what ships is complete and sourced; what is wrong fails in one line with the file and the field."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import boards
from edge_runtime.alsa.cards import stable_name
from edge_runtime.errors import Failure

FOLDER = Path(boards.__file__).parent
RPI4 = (FOLDER / "rpi4.toml").read_text(encoding="utf-8")
PIS = ("rpi3", "rpi4", "rpi5", "rpizero2w")

OTHERS = ("generic-c", "host", "pico2", "rpizero")

every_board = pytest.mark.parametrize("name", [*OTHERS, *PIS])


def failure(action, *arguments):
    """The one line that `action` fails with."""
    with pytest.raises(Failure) as caught:
        action(*arguments)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.fixture
def load_text(tmp_path):
    """load_text(toml) -> the board of a file mine.toml with that text."""

    def load(text: str) -> boards.Board:
        path = tmp_path / "mine.toml"
        path.write_text(text, encoding="utf-8")
        return boards.load_file(path)

    return load


def edited(old: str, new: str) -> str:
    assert RPI4.count(old) == 1, f"{old!r} must occur once in rpi4.toml"
    return RPI4.replace(old, new)


# --- what ships ---


def test_names_are_the_file_names():
    assert boards.names() == sorted(path.stem for path in FOLDER.glob("*.toml"))
    assert boards.names() == sorted([*OTHERS, *PIS])


@every_board
def test_no_board_names_a_card_by_its_number(name):
    """It is another one when something else is plugged in."""
    alsa = boards.load(name).alsa
    assert [stable_name(device) for device in (alsa.capture, alsa.playback)] == [None, None]


@every_board
def test_every_board_loads_under_its_own_id(name):
    board = boards.load(name)
    assert board.name == name
    assert board == boards.load_file(FOLDER / f"{name}.toml")


@every_board
def test_every_figure_has_a_source(name):
    board = boards.load(name)
    assert boards.unsourced(board) == []
    assert all(text.strip() for text in board.sources.values())


@every_board
def test_official_gtcrn_fits_every_budget(name):
    """48,245 numbers with ERB matrices, 39.6 MMAC/s with dense ERB, fp32 streaming ONNX of 535,190 bytes; where no
    system runs it, our own of 103,824 bytes."""
    board = boards.load(name)
    budget = board.budget
    assert budget.n_parameters > 48_245
    assert budget.mmacs_per_s > 39.6
    assert budget.model_bytes > (103_824 if board.bare else 535_190)


@every_board
def test_a_period_is_one_hop(name):
    alsa = boards.load(name).alsa
    assert (alsa.rate_hz, alsa.period_samples, alsa.period_ms, alsa.buffer_ms) == (16_000, 256, 16.0, 64.0)


@every_board
@pytest.mark.parametrize("engine", ["onnx", "tflite"])  # the native one needs a compiler and no package
def test_both_engines_install_on_every_release(name, engine):
    board = boards.load(name)
    for system in board.os:
        if board.cpu.isa == "armv6":  # for which neither has wheels
            assert system.extras == ()
        else:
            assert engine in boards.EXTRAS[system.extra_for(engine)]


def test_loads_without_a_folder(tmp_path):
    """From a zip, as importlib.resources allows: no path on disk is assumed."""
    archive = tmp_path / "app.zip"
    with zipfile.ZipFile(archive, "w") as z:
        for path in (FOLDER / "__init__.py", *FOLDER.glob("*.toml")):
            z.write(path, f"boards/{path.name}")
        z.writestr("edge_runtime/__init__.py", "")
        for name in ("errors.py", "bounded.py"):
            z.write(FOLDER.parent / "edge_runtime" / name, f"edge_runtime/{name}")
    program = (
        f"import sys; sys.path.insert(0, {str(archive)!r}); import boards; "
        "print(boards.__file__, *(boards.load(name).name for name in boards.names()))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    file, *loaded = done.stdout.split()
    assert file.startswith(str(archive))
    assert loaded == boards.names()


# --- boards as values ---


@every_board
def test_describe_gives_labels_and_values(name):
    rows = boards.describe(boards.load(name))
    labels = [label for label, _ in rows]
    assert len(set(labels)) == len(labels)
    assert all(label and value for label, value in rows)


@pytest.mark.parametrize(
    ("path", "removed"),
    [
        ("cpu.clock_mhz", '"cpu.clock_mhz" = "Raspberry Pi documentation'),
        ("os.word_bits", '"os.word_bits" = "policy'),
        ("budget.rtf", '"budget.rtf" = "policy'),
    ],
)
def test_unsourced_finds_a_figure_without_source(load_text, path, removed):
    assert boards.unsourced(load_text(edited(removed, "#"))) == [path]


def test_sources_may_be_left_out(load_text):
    board = load_text(RPI4.split("[sources]")[0])
    assert {"ram_bytes", "cpu.n_cores", "os.word_bits", "alsa.rate_hz"} <= set(boards.unsourced(board))


# --- what is wrong ---


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("rpi9", "rpi"),
        ("RPi4", "rpi4"),
        ("pi5", "rpi5"),
        ("raspberrypi3", "rpi3"),
        ("zero2w", "rpizero2w"),
        ("../rpi4", "rpi4"),
        ("__init__", None),
        ("xyz", None),
        ("", None),
    ],
)
def test_unknown_name(name, nearest):
    line = failure(boards.load, name)
    assert line.startswith(f"unknown board {name!r}; ")
    assert f"choose one of: {', '.join(boards.names())}" in line
    assert ("did you mean" in line) == (nearest is not None)
    if nearest:
        assert f"did you mean {nearest}" in line


def test_load_takes_a_path_that_ends_in_toml(tmp_path):
    path = tmp_path / "my-board_2.toml"
    path.write_text(RPI4, encoding="utf-8")
    board = boards.load(str(path))
    assert board.name == "my-board_2"
    assert board.cpu == boards.load("rpi4").cpu


def test_missing_file(tmp_path):
    line = failure(boards.load, str(tmp_path / "none.toml"))
    assert "none.toml: cannot read this board: No such file" in line
    assert "rpi4" in line  # the remedy lists the boards of the package


def test_folder_instead_of_file(tmp_path):
    assert "cannot read this board" in failure(boards.load_file, tmp_path)


def test_not_text(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(b"title = '\xff\xfe'")
    assert "mine.toml: not a board: the file is not UTF-8 text" in failure(boards.load_file, path)


def test_file_name_that_cannot_be_an_id(tmp_path):
    path = tmp_path / "my board.toml"
    path.write_text(RPI4, encoding="utf-8")
    assert "file name must be letters, digits, - and _, got 'my board'" in failure(boards.load_file, path)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        # syntax
        ("n_threads = 1", "n_threads =", "not valid TOML: Invalid value (at line 3"),
        ("n_threads = 1", "n_threads = " + "9" * 5000, "not valid TOML"),
        # fields
        ("n_threads = 1", "n_threads = 1\nn_thread = 2", "unknown field `n_thread`"),
        ("clock_mhz = 1500", "clock_mhz = 1500\nclock = 2", "cpu: Object contains unknown field `clock`"),
        ("n_threads = 1", 'n_threads = 1\nname = "rpi4"', "name: a board is named by its file"),
        ("n_threads = 1", "", "missing required field `n_threads`"),
        ("rtf = 0.25", "", "budget: Object missing required field `rtf`"),
        # types
        ("clock_mhz = 1500", 'clock_mhz = "1500"', "cpu.clock_mhz: Expected `int`, got `str`"),
        ("clock_mhz = 1500", "clock_mhz = 1500.5", "cpu.clock_mhz: Expected `int`, got `float`"),
        ("n_threads = 1", "n_threads = true", "n_threads: Expected `int`, got `bool`"),
        ("rtf = 0.25", 'rtf = "fast"', "budget.rtf: Expected `float`, got `str`"),
        ('features = ["asimd", "crc32"]', 'features = "asimd"', "cpu.features: Expected `array`, got `str`"),
        ('"budget.rtf" = "policy', '"budget.rtf" = 1 # "policy', "sources[...]: Expected `str`, got `int`"),
        # values
        ("clock_mhz = 1500", "clock_mhz = -1500", "cpu: clock_mhz must be positive and finite, got -1500"),
        ("n_cores = 4", "n_cores = 0", "cpu: n_cores must be positive and finite, got 0"),
        ("l2_bytes = 1_048_576", "l2_bytes = 0", "cpu: l2_bytes must be positive and finite, got 0"),
        ('features = ["asimd", "crc32"]', 'features = ["as imd"]', "cpu: features must be words"),
        ('core = "Cortex-A72"', 'core = " "', "cpu: core must not be empty"),
        ('playback = "default"', 'playback = "a\\nb"', "alsa.playback must be one line of signs that are printed"),
        ('core = "Cortex-A72"', 'core = "\\u001b[2J"', "cpu.core must be one line of signs that are printed"),
        ("n_threads = 1", "n_threads = -1", "n_threads must be positive and finite, got -1"),
        ("n_threads = 1", "n_threads = 5", "n_threads must not exceed cpu.n_cores, 5 > 4"),
        ("period_samples = 256", "period_samples = 0", "alsa: period_samples must be positive and finite"),
        ("n_periods = 4", "n_periods = 1", "alsa: n_periods must be at least 2, got 1"),
        ("rtf = 0.25", "rtf = nan", "budget: rtf must be positive and finite, got nan"),
        ("rtf = 0.25", "rtf = inf", "budget: rtf must be positive and finite, got inf"),
        ("rtf = 0.25", "rtf = 1.5", "budget: rtf must be at most 1, or the board falls behind, got 1.5"),
        ("model_bytes = 2_097_152", "model_bytes = 9_000_000", "budget: model_bytes must not exceed"),
        ("ram_bytes = 1_073_741_824", "ram_bytes = 1_000_000", "budget.ram_bytes must not exceed ram_bytes"),
        ('preferred_engine = "native"', 'preferred_engine = "tensorrt"', "the engines are: native, onnx, tflite"),
        ('python = "3.11"', 'python = "3"', "os[1]: python must look like 3.11, got '3'"),
        ('python = "3.11"', 'python = "3.12"', "os[1]: extra tflite does not install on Python 3.12"),
        ('["litert", "onnx"]', '["gpu"]', "os[0]: unknown extra 'gpu', the extras are: onnx, litert, tflite"),
        ('preferred_engine = "native"', 'preferred_engine = "mine"', "unknown preferred_engine 'mine'"),
        ('"cpu.clock_mhz" =', '"cpu.clock" =', "sources names cpu.clock, which is no field"),
    ],
)
def test_wrong_board_fails_in_one_line(load_text, old, new, says):
    line = failure(load_text, edited(old, new))
    assert "mine.toml: " in line
    assert says in line


@pytest.mark.parametrize("bits", [16, -64, 0])
def test_word_size(load_text, bits):
    line = failure(load_text, RPI4.replace("word_bits = 64", f"word_bits = {bits}"))
    assert f"os[0]: word_bits must be 32 or 64, got {bits}" in line


def test_a_release_installs_the_preferred_engine(load_text):
    tflite = RPI4.replace('preferred_engine = "native"', 'preferred_engine = "tflite"')
    assert load_text(tflite).preferred_engine == "tflite"
    without = tflite.replace('["litert", "onnx"]', '["onnx"]')
    assert "os trixie has no extra for preferred_engine 'tflite'" in failure(load_text, without)


def test_no_system_release(load_text):
    without = RPI4.replace("[[os]]", "[[skipped]]")
    assert "unknown field `skipped`" in failure(load_text, without)
    head, rest = RPI4.split("[cpu]")
    cpu, rest = rest.split("# litert before")
    head = head.replace('"native"', '"onnx"')
    bare = head + "os = []\n[cpu]" + cpu + "[alsa]" + rest.split("[alsa]")[1].split("[sources]")[0]
    assert "without an os, preferred_engine must be 'native'" in failure(load_text, bare)
