"""`edge-denoise` as a process: signals, closed streams, full disks, locales; nothing half-written."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from places import ROOT
from program_said import Program
from runtime_desk import file, main


def process(*argv: str, **options) -> Program:
    command = [sys.executable, "-m", "edge_runtime.cli", *argv]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **options.pop("env", {})}
    usual = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return Program(command, env=environment, **(usual | options))


def test_help_is_quick_because_it_imports_nothing_heavy():
    code = "import sys, edge_runtime.cli as c; c.main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"numpy", "msgspec", "soundfile", "soxr", "tqdm", "importlib.metadata"} & set(done.stderr.split())
    assert "file" in done.stdout
    assert "bench" in done.stdout


# --- signals -----------------------------------------------------------------------------------------------


def started(seconds: int = 3600, **options) -> Program:
    """A run in the midst of its work."""
    soundfile.write("long.wav", np.zeros(seconds * 16000, np.int16), 16000)
    running = process(*file("long.wav"), **options)
    deadline_s = time.monotonic() + 120
    while not list(Path("out").iterdir()) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert [path.suffix for path in Path("out").iterdir()] == [".part"]
    return running


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_leaves_nothing_half_written(desk, number, status):
    running = started()
    running.send_signal(number)
    assert running.communicate(timeout=120) == ("", "")
    assert running.returncode == status
    assert not list(Path("out").iterdir())


def test_a_hang_up_that_nohup_ignores_stays_ignored(desk):
    running = started(200, preexec_fn=partial(signal.signal, signal.SIGHUP, signal.SIG_IGN))
    running.send_signal(signal.SIGHUP)
    assert running.communicate(timeout=120)[1] == ""
    assert running.returncode == 0
    assert soundfile.info("out/a.wav").frames == 200 * 16000


def test_ctrl_c_while_an_engine_loads_is_no_error(desk, capfd, monkeypatch):
    """pybind11 wraps it: ImportError("initialization failed") from KeyboardInterrupt."""

    def interrupted(*_arguments, **_options):
        raise ImportError("initialization failed") from KeyboardInterrupt()

    monkeypatch.setattr("edge_runtime.engines.onnx.open_model", interrupted)
    assert main(file("in.wav", "out/a.wav", "MODEL", "--engine", "onnx")) == 130
    assert capfd.readouterr() == ("", "")
    assert not list(Path("out").iterdir())


# --- streams -----------------------------------------------------------------------------------------------


def closing(*numbers: int):
    def close() -> None:
        for number in numbers:
            os.close(number)

    return close


def test_a_reader_that_leaves_is_no_error(desk):
    read_end, write_end = os.pipe()
    os.close(read_end)
    running = process(*file(), stdout=write_end)
    os.close(write_end)
    assert running.communicate(timeout=120)[1] == ""
    assert running.returncode == 141


@pytest.mark.parametrize("json_too", [[], ["--json"]], ids=["text", "json"])
@pytest.mark.parametrize("numbers", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)], ids=str)
def test_with_closed_streams_the_work_is_done_all_the_same(desk, numbers, json_too):
    """Nor does the sound file get the number of a closed stream, and what libraries print there."""
    assert main(file("in.wav", "out/b.wav", "MODEL", "--engine", "tflite")) == 0
    argv = file("in.wav", "out/a.wav", "MODEL", "--engine", "tflite", *json_too)
    running = process(*argv, stdin=subprocess.DEVNULL, preexec_fn=closing(*numbers))
    out, err = running.communicate(timeout=120)
    assert (running.returncode, err) == (0, "")
    assert bool(out) == (1 not in numbers)
    assert Path("out/a.wav").read_bytes() == Path("out/b.wav").read_bytes()


@pytest.mark.parametrize("number", [0, 1])
def test_sound_has_to_come_from_somewhere_and_go_somewhere(desk, number):
    running = process("pipe", "--model", "MODEL", stdin=subprocess.PIPE, preexec_fn=closing(number))
    out, err = running.communicate("\0" * 32_000, timeout=120)
    message = "edge-denoise: error: standard input or output is closed; give it a file or a program\n"
    assert (running.returncode, out, err) == (1, "", message)


def test_an_answer_that_finds_no_room_is_one_line(desk):
    with open("/dev/full", "w") as full:
        running = process(*file(), stdout=full)
        assert running.communicate(timeout=120)[1] == (
            "edge-denoise: error: input or output: No space left on device\n"
        )
    assert running.returncode == 1


@pytest.mark.parametrize("target", ["out/a.wav", "out/a.flac"])
def test_a_full_disk_leaves_nothing(desk, target):
    def no_more_than_10_kilobytes():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    running = process(*file("in.wav", target), preexec_fn=no_more_than_10_kilobytes)
    message = f"edge-denoise: error: {target}: cannot be written (File too large); write to a file system,"
    message += " or under a limit, that takes larger files\n"
    assert running.communicate(timeout=120) == ("", message)
    assert running.returncode == 1
    assert not list(Path("out").iterdir())


# --- locales -----------------------------------------------------------------------------------------------


def test_names_with_umlauts_need_no_locale(desk):
    """ASCII, as of a locale that is not there or is old; Python would have it so but for PEP 538 and 540."""
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    Path("Bücher").mkdir()
    Path("in.wav").rename("Bücher/ä.wav")
    running = process(*file("Bücher/ä.wav", "Bücher/ö.flac", "MODEL", "--json"), env=plain)
    out, err = running.communicate(timeout=120)
    assert (running.returncode, err) == (0, "")
    assert json.loads(out)["output"] == "Bücher/ö.flac"
    assert soundfile.info("Bücher/ö.flac").frames == 16_000
    running = process(*file("Bücher/fehlt.wav"), env=plain)
    assert running.communicate(timeout=120)[1].startswith("edge-denoise: error: Bücher/fehlt.wav: no such file")
