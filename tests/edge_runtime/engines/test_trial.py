"""A wheel that dies is named by each command that would have died of it; one that lives is tried once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import program_said
import pytest
import soundfile as sf
from places import ROOT
from toy_artifact import toy

from edge_runtime.engines import apart, choice, trial
from edge_runtime.errors import Failure
from edge_runtime.extras import pip_install

DYING = "import os, signal\nos.kill(os.getpid(), signal.{})\n"
ON_USE = "import os, signal\ndef __getattr__(name):\n    os.kill(os.getpid(), signal.{})\n"
ILLEGAL, CRASH = "illegal instruction on this processor (signal 4)", "segmentation fault (signal 11)"
ANOTHER = f"install another version of it, or again: {pip_install('--force-reinstall', 'NAME')}".replace("NAME", "{}")
ENGINE = "take another engine ({}), or install another version of it"
MODEL = f"--model={toy().directory}"
PAIRS = ["quant.cli", "eval", str(toy().directory), "--pairs=pairs", "--metrics=sisdr"]
# (what dies, of which text, which command, what is said of it)
FILE, PIPE, LIVE = (
    ["edge_runtime.cli", *words] for words in (["file", "in.wav", "out.wav", MODEL], ["pipe", MODEL], ["live", MODEL])
)
ROWS = [
    ("soxr", ON_USE.format("SIGSEGV"), FILE, CRASH, ANOTHER),
    ("soundfile", DYING.format("SIGILL"), FILE, ILLEGAL, ANOTHER),
    ("numpy", DYING.format("SIGILL"), FILE, ILLEGAL, ANOTHER),
    ("msgspec", DYING.format("SIGBUS"), PIPE, "bus error (signal 7)", ANOTHER),
    ("numpy", DYING.format("SIGILL"), LIVE, ILLEGAL, ANOTHER),
    ("numpy", DYING.format("SIGILL"), ["edge_runtime.cli", "doctor"], ILLEGAL, ANOTHER),
    ("onnxruntime", DYING.format("SIGILL"), [*FILE, "--engine=onnx"], ILLEGAL, ENGINE.format("native, tflite")),
    ("onnxruntime", ON_USE.format("SIGSEGV"), [*PIPE, "--engine=onnx"], CRASH, ENGINE.format("native, tflite")),
    ("ai_edge_litert", DYING.format("SIGILL"), PIPE, ILLEGAL, ENGINE.format("native, onnx")),
    ("ai_edge_litert", DYING.format("SIGILL"), LIVE, ILLEGAL, ENGINE.format("native, onnx")),
    ("soxr", DYING.format("SIGILL"), PAIRS, ILLEGAL, ANOTHER),
    ("torch", DYING.format("SIGILL"), ["quant.cli", "build", "--target=rpi4"], ILLEGAL, ANOTHER),
]  # fmt: skip


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with a sound of 48 kHz and a pair, and room for wheels before those that are installed."""
    noise = np.random.default_rng(0).normal(0, 0.1, 9600).astype(np.float32)
    for name in ("in", "pairs/clean/a", "pairs/noisy/a"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        sf.write(tmp_path / f"{name}.wav", noise, 48_000)
    return tmp_path


def run(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}", "XDG_CACHE_HOME": str(folder / "cache")}
    line = [sys.executable, "-m", *argv]
    return program_said.run(line, env=environment, text=True, cwd=folder)


@pytest.mark.parametrize(("module", "text", "argv", "death", "remedy"), ROWS, ids=[f"{r[2][1]} {r[0]}" for r in ROWS])
def test_what_dies_is_named_and_nothing_is_left(desk, module, text, argv, death, remedy):
    (desk / f"{module}.py").write_text(text)
    done = run(desk, *argv)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert f"error: {module} " in line, "with its version"
    assert f" died: {death}; {remedy.format(module)}" in line
    assert not (desk / "out.wav").exists()


def test_what_lives_is_tried_once_and_again_when_it_is_installed_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "a_wheel.py").write_text("open(__file__ + '.log', 'a').write('tried\\n')\n")
    log = tmp_path / "a_wheel.py.log"
    for _ in range(3):
        trial.packages("a_wheel", "nonesuch_of_ours")
    assert log.read_text() == "tried\n"
    (tmp_path / "a_wheel.py").write_text(f"open({str(log)!r}, 'a').write('newer\\n')\n")
    trial.packages("a_wheel")
    assert log.read_text() == "tried\nnewer\n"
    assert "a_wheel" not in sys.modules


def test_another_processor_tries_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "b_wheel.py").write_text("open(__file__ + '.log', 'a').write('tried\\n')\n")
    trial.packages("b_wheel")
    monkeypatch.setattr(trial, "_processor", lambda: "flags: none")
    trial.packages("b_wheel")
    assert (tmp_path / "b_wheel.py.log").read_text() == "tried\n" * 2


def test_where_nothing_can_be_remembered_each_start_tries(tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "c_wheel.py").write_text("open(__file__ + '.log', 'a').write('tried\\n')\n")
    for _ in range(2):
        trial.packages("c_wheel")
    assert (tmp_path / "c_wheel.py.log").read_text() == "tried\n" * 2


def test_an_error_is_left_to_whoever_imports_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "d_wheel.py").write_text("raise ImportError('wrong ELF class')\n")
    trial.packages("d_wheel")


def test_an_engine_is_tried_once_for_each_precision(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(trial, "_is_imported", lambda packages: False)
    tried = []
    monkeypatch.setattr(apart, "engine_apart", lambda *words: tried.append(words[3:5]))
    for precision in ("int8", "fp32", "int8"):
        trial.engine(toy(), "onnx", precision, 1)
    assert tried == [("onnx", "int8"), ("onnx", "fp32")]
    monkeypatch.setattr(choice, "available", lambda: ["native"])
    trial.engine(toy(), "native", "int8", 1)
    assert len(tried) == 2, "ours is not tried"


def test_a_wheel_that_dies_in_company_only_is_told_as_such(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "e_wheel.py").write_text("")
    text = "import os, signal, sys\nif 'e_wheel' in sys.modules:\n    os.kill(os.getpid(), signal.SIGFPE)\n"
    (tmp_path / "f_wheel.py").write_text(text)
    with pytest.raises(Failure, match=r"^e_wheel, f_wheel together died: arithmetic trap \(signal 8\); "):
        trial.packages("e_wheel", "f_wheel")
