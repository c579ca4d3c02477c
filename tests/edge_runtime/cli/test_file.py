"""`edge-denoise file`: a sound in, a sound out, every error one line; each row brings the sound that is wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from runtime_desk import file, main, noise, refuses


def cut_in_half(name: str) -> None:
    soundfile.write(name, noise(), 16_000)
    Path(name).write_bytes(Path(name).read_bytes()[: Path(name).stat().st_size // 2])


IN = [
    ("missing", "gone.wav", None, "gone.wav: no such file"),
    ("a folder", "a.wav", lambda: Path("a.wav").mkdir(), "a.wav: a folder, not a sound file"),
    ("a pipe", "a.wav", lambda: os.mkfifo("a.wav"), "a.wav: not a regular file; save the sound to a file first"),
    ("text", "a.txt", lambda: Path("a.txt").write_text("not sound"), "a.txt: cannot be read as sound (Format not rec"),
    ("zero bytes", "a.wav", lambda: Path("a.wav").touch(), "a.wav: is empty: 0 bytes"),
    ("headerless", "a.raw", lambda: Path("a.raw").write_bytes(noise().tobytes()), "a.raw: cannot be read as sound"),
    ("a cut WAV", "a.wav", lambda: cut_in_half("a.wav"), "a.wav: cut short: its header promises 32000 bytes"),
    ("a cut FLAC", "a.flac", lambda: cut_in_half("a.flac"), "a.flac: damaged after"),
    ("a cut MP3", "a.mp3", lambda: cut_in_half("a.mp3"), "a.mp3: damaged after"),
    ("a long name", "x" * 300, None, "File name too long"),
]


@pytest.mark.parametrize(("name", "make", "message"), [row[1:] for row in IN], ids=[row[0] for row in IN])
def test_a_bad_input_is_one_line_and_leaves_nothing(
    desk, capfd, name: str, make: Callable[[], object] | None, message: str
):
    if make is not None:
        make()
    refuses(file(name), 1, message, capfd)


OUT = [
    ("no suffix", "out/a", None, "unknown output format ''; use one of: .wav, .flac"),
    ("unknown suffix", "out/a.m4a", None, "unknown output format '.m4a'"),
    ("there already", "a.wav", lambda: Path("a.wav").write_bytes(b"precious"), "exists already; pass --force"),
    ("a pipe", "a.wav", lambda: os.mkfifo("a.wav"), "a.wav: exists and is not a regular file"),
    ("a folder", "a.wav", lambda: Path("a.wav").mkdir(), "a.wav: exists and is not a regular file"),
    ("no such folder", "gone/a.wav", None, "gone: no such folder; make it first"),
    ("a file as folder", "in.wav/a.wav", None, "in.wav: no such folder"),
    ("unwritable folder", "/proc/a.wav", None, "/proc/a.wav: cannot be written (No such file"),
]


@pytest.mark.parametrize(("name", "make", "message"), [row[1:] for row in OUT], ids=[row[0] for row in OUT])
def test_a_bad_output_is_one_line_and_leaves_nothing(
    desk, capfd, name: str, make: Callable[[], object] | None, message: str
):
    if make is not None:
        make()
    refuses(file("in.wav", name), 1, message, capfd)


@pytest.mark.parametrize("name", ["in.wav", "same.wav"])
def test_a_file_is_not_written_over_itself(desk, capfd, name):
    Path("same.wav").hardlink_to("in.wav")
    refuses(file("in.wav", name, "MODEL", "--force"), 1, "input and output are the same file", capfd)


@pytest.mark.parametrize(
    ("n_channels", "rate_hz", "target", "message"),
    [
        (12, 16_000, "out/a.flac", "cannot hold 12 channels at 16000 Hz"),
        (1, 12_345, "out/a.opus", "Opus only supports sample rates of 8000"),
    ],
)
def test_what_a_format_cannot_hold_is_one_line(desk, capfd, n_channels, rate_hz, target, message):
    soundfile.write("odd.wav", np.zeros((100, n_channels), np.float32), rate_hz)
    refuses(file("odd.wav", target), 1, message, capfd)


def test_an_engine_that_refuses_midway_is_one_line(desk, capfd, monkeypatch):
    from edge_runtime.engines.onnx import OnnxEngine

    def fail(*_arguments):
        raise RuntimeError("ran out\nof luck")

    monkeypatch.setattr(OnnxEngine, "step", fail)
    assert main(file("in.wav", "out/a.wav", "MODEL", "--engine", "onnx")) == 1
    assert capfd.readouterr().err == (
        "edge-denoise: error: RuntimeError: ran out of luck; please report it, with what --debug shows\n"
    )
    assert not list(Path("out").iterdir())


@pytest.mark.parametrize("engine", ["auto", "onnx", "tflite"])
@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_file_denoises_a_file(desk, capfd, engine, precision):
    argv = file("in.wav", "out/a.flac", "MODEL", "--engine", engine, "--precision", precision)
    assert main(argv) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert out.startswith("out/a.flac: 1.00 s, 1 x 16000 Hz, FLAC PCM_16\n")
    assert soundfile.info("out/a.flac").frames == 16000


def test_file_says_what_it_did_as_json(desk, capfd):
    Path("out/a.wav").write_bytes(b"old")
    assert main(file("in.wav", "out/a.wav", "MODEL", "--force", "--json")) == 0
    summary = json.loads(capfd.readouterr().out)
    assert summary["n_samples"] == 16000
    assert summary["engine"] == "tflite"
    assert summary["n_clipped"] == summary["n_limited"] == summary["n_nonfinite"] == 0


def test_file_names_what_it_repaired(desk, capfd):
    soundfile.write("bad.wav", np.full(16000, np.nan, np.float32), 16000, "FLOAT")
    assert main(file("bad.wav")) == 0
    assert "16000 input samples were not finite and became 0" in capfd.readouterr().out


def test_file_names_need_not_be_text(desk, capfd):
    name = os.fsdecode(b"out/\xff.wav")
    assert main(file("in.wav", name)) == 0
    assert Path(name).is_file()
    assert main(file("in.wav", name)) == 1
    assert capfd.readouterr().err.count("\n") == 1
