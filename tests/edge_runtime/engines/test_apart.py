"""What dies in a process of its own takes nothing with it: wheels that are made to die, through every command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import program_said
import pytest
from places import ROOT
from toy_artifact import toy

from edge_runtime.engines import apart as processes
from edge_runtime.engines.apart import Died, apart
from edge_runtime.errors import Failure
from edge_runtime.extras import pip_install

DEATHS = [
    ("os.kill(os.getpid(), signal.SIGILL)", "illegal instruction on this processor (signal 4)"),
    ("os.kill(os.getpid(), signal.SIGSEGV)", "segmentation fault (signal 11)"),
    ("os.kill(os.getpid(), signal.SIGKILL)", "killed, perhaps for want of memory (signal 9)"),
    ("os.kill(os.getpid(), signal.SIGRTMIN + 1)", f"signal {signal.SIGRTMIN + 1}"),
    ("os.write(2, b'bad_alloc\\n'); os.abort()", "it gave up (signal 6): bad_alloc"),
    ("os._exit(3)", "exit status 3 without a word"),
    ("raise ImportError('wrong ELF class')", "ImportError: wrong ELF class"),
]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A module of this text."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(text: str, name: str = "made_wheel") -> Path:
        (tmp_path / f"{name}.py").write_text(f"import os, signal\n{text}\n")
        return tmp_path

    return make


def test_bytes_come_back_whatever_is_printed_and_however_it_ends(made):
    made("print('noise')\ndef say(*words):\n    print(words)\n    return bytes(range(256)) + repr(words).encode()")
    assert apart("made_wheel:say", "a", "ü b") == bytes(range(256)) + b"('a', '\xc3\xbc b')"
    made("import atexit\natexit.register(os.abort)\ndef say(): return b'done'")
    assert apart("made_wheel:say") == b"done"


@pytest.mark.parametrize(("text", "words"), DEATHS, ids=[row[1] for row in DEATHS])
def test_a_death_is_told_in_words(made, text, words):
    made(text)
    with pytest.raises(Died) as death:
        apart("made_wheel:say")
    assert str(death.value) == words


def test_a_failure_stays_one(made):
    made("from edge_runtime.errors import Failure\ndef say(): raise Failure('no', remedy='yes')")
    with pytest.raises(Failure, match=r"^no; yes$") as failure:
        apart("made_wheel:say")
    assert not isinstance(failure.value, Died)


def test_what_hangs_ends(made, monkeypatch):
    monkeypatch.setattr(processes, "LIMIT_S", 1.0)
    made("import time; time.sleep(60)")
    with pytest.raises(Died, match="no answer within 1 s"):
        apart("made_wheel:say")


def command(folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}", "XDG_CACHE_HOME": str(folder / "cache")}
    line = [sys.executable, "-m", "edge_runtime.cli", *argv]
    return program_said.run(line, env=environment, text=True, cwd=folder)


KILLED = "died: illegal instruction on this processor (signal 4)"
MODEL = ["--model", str(toy().directory)]


@pytest.fixture
def killing(made):
    """An onnxruntime that dies when it is imported."""
    return made("os.kill(os.getpid(), signal.SIGILL)", "onnxruntime")


def test_doctor_goes_on_and_names_the_wheel_that_dies(killing):
    done = command(killing, "doctor", *MODEL)
    assert done.returncode == 1, done.stderr
    lines = {" ".join(line.split()): line for line in done.stdout.splitlines()}
    (engine,) = [line for line in lines if line.startswith("fail engine onnx")]
    assert "onnxruntime is installed but cannot be loaded: illegal instruction on this processor (signal 4)" in engine
    assert engine.endswith("or another version: " + pip_install("--force-reinstall", "onnxruntime"))
    (golden,) = [line for line in lines if line.startswith("fail golden vectors onnx int8 onnxruntime")]
    assert golden.endswith(f"{KILLED}; take another engine (native, tflite), or install another version of it")
    assert any(line.startswith("ok golden vectors tflite int8") for line in lines)
    assert json.loads(command(killing, "doctor", *MODEL, "--json").stdout)["status"] == "fail"


def test_verify_passes_what_auto_takes_and_tells_of_the_engine_that_dies(killing):
    done = command(killing, "verify", *MODEL)  # the toy's board prefers tflite
    assert done.returncode == 0, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()[2:]] == [
        ["onnx", "fp32"], ["onnx", "int8"], ["tflite", "fp32"], ["tflite", "int8"],
    ]  # fmt: skip
    assert done.stdout.count(KILLED) == 2
    rows = json.loads(command(killing, "verify", *MODEL, "--json").stdout)["golden"]
    assert [(row["ok"], bool(row["error"])) for row in rows] == [(False, True)] * 2 + [(True, False)] * 2


def test_verify_fails_when_what_auto_takes_dies(made):
    folder = made("os.kill(os.getpid(), signal.SIGILL)", "ai_edge_litert")
    done = command(folder, "verify", *MODEL)
    assert done.returncode == 1
    assert done.stdout.count(KILLED) == 2
    assert done.stderr.count("\n") == 1
    assert "tflite fp32, which `auto` takes, does not run here (ai_edge_litert" in done.stderr
    assert done.stderr.endswith(f"{KILLED}); run `edge-denoise bench`: `auto` then takes one that runs\n")


def test_bench_names_the_engine_that_dies_and_measures_the_others(killing):
    done = command(killing, "bench", *MODEL, "--precision", "int8", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert [row["engine"] for row in figures["rows"]] == ["tflite"]
    (failed,) = figures["failed"]
    assert failed["engine"] == "onnx"
    assert KILLED in failed["error"]
