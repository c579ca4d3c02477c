"""`edge-denoise live` as a process, with PCMs of the real libasound."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from places import ROOT
from program_said import Program
from real_alsa import needs_libasound
from toy_artifact import toy

from edge_runtime.cli import main
from edge_runtime.errors import Failure
from edge_runtime.live.control.control_socket import ask
from edge_runtime.live.sound import library

ASOUND = """
pcm.microphone {{ type file slave.pcm "null" file "/dev/null" infile "{folder}/noisy.raw" format "raw" }}
pcm.speaker {{ type file slave.pcm "null" file "{folder}/heard.raw" format "raw" }}
"""


def live(folder: Path, *options: str, **popen) -> Program:
    (folder / "asound.conf").write_text(ASOUND.format(folder=folder))
    path = f"/usr/share/alsa/alsa.conf:{folder / 'asound.conf'}"
    environment = {**os.environ, "ALSA_CONFIG_PATH": path, "PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": str(folder)}
    devices = ("--capture", "microphone", "--playback", "speaker", "--model", str(toy().directory))
    command = [sys.executable, "-m", "edge_runtime.cli", "live", "--ordinary", *devices, *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return Program(command, env=environment, **(pipes | popen))


@needs_libasound
def test_live_through_files_is_what_file_makes_of_them(tmp_path):
    """The file PCMs have no clock: what is tested is every sample, not time."""
    noisy = np.random.default_rng(0).normal(0, 3000, 48_000).astype(np.int16)
    (tmp_path / "noisy.raw").write_bytes(noisy.tobytes())
    options = ("--format", "S16_LE", "--rate", "16000", "--seconds", "2", "--settle-ms", "0", "--json")
    running = live(tmp_path, *options, "--tee", str(tmp_path / "t"))
    out, err = running.communicate(timeout=120)
    assert running.returncode == 0, err
    last = json.loads(out.splitlines()[-1])
    assert (last["state"], last["seconds"], last["xruns"]) == ("stopped", 2.0, {"capture": 0, "playback": 0})
    heard = np.frombuffer((tmp_path / "heard.raw").read_bytes(), np.int16)
    clean, _ = soundfile.read(tmp_path / "t-clean.wav", dtype="float32")
    raw, _ = soundfile.read(tmp_path / "t-raw.wav", dtype="float32")
    main(["file", str(tmp_path / "t-raw.wav"), str(tmp_path / "f.wav"), "--model", str(toy().directory)])
    filed, _ = soundfile.read(tmp_path / "f.wav", dtype="float32")
    assert np.array_equal(clean, filed[: len(clean)])
    stored = np.clip(np.rint(clean * 32768), -32768, 32767).astype(np.int16)
    assert stored[:4000].tobytes() in heard.tobytes()
    assert stored[4000:24_000].tobytes() in heard.tobytes()  # the file device drops what it holds when it is closed
    first = np.frombuffer((raw[:4000] * 32768).astype(np.int16).tobytes(), np.int16)
    assert first.tobytes() in noisy.tobytes()


def test_without_the_native_library_no_microphone_is_waited_for(monkeypatch, capfd):
    def missing():
        raise ImportError("libedge_denoise.so: cannot open shared object file")

    monkeypatch.setattr(library, "load_library", missing)
    argv = ["live", "--wait", "--capture", "hw:CARD=Late", "--playback", "null", "--model", str(toy().directory)]
    assert main(argv) == 1
    assert capfd.readouterr().err.startswith("edge-denoise: error: live sound needs the native library")


@needs_libasound
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_cleanly(tmp_path, number):
    (tmp_path / "noisy.raw").write_bytes(bytes(320_000))
    running = live(tmp_path, "--playback", "null", "--capture", "null")
    path, deadline_s = tmp_path / "edge-denoise.sock", time.monotonic() + 120
    while time.monotonic() < deadline_s:
        try:
            if ask(path, {"command": "status"})["status"]["seconds"] > 0:
                break
        except Failure:
            time.sleep(0.05)
    assert ask(path, {"command": "bypass", "on": True})["status"]["settings"]["bypass"]
    running.send_signal(number)
    out, err = running.communicate(timeout=120)
    assert running.returncode == 0, err
    assert "Traceback" not in err
    lines = out.splitlines()
    assert lines[-1].startswith("stopped ")
    assert sum(line.startswith("stopped ") for line in lines) == 1
    assert not path.exists()


@needs_libasound
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_stream_that_only_waited_does_not_end_well(tmp_path, number, status):
    """As the signal ends any program; a service that systemd stops has then ended cleanly."""
    running = live(tmp_path, "--capture", "hw:CARD=Absent", "--wait", "--tee", str(tmp_path / "t"))
    assert running.stdout is not None
    first = running.stdout.readline()
    running.send_signal(number)
    out, err = running.communicate(timeout=120)
    missing = "hw:CARD=Absent: capture cannot be opened (No such device); "
    assert first.startswith(f"waiting: {missing}")
    (last,) = out.splitlines()
    assert last.startswith(f"stopped while it waited: {missing}")
    assert running.returncode == status
    assert "Traceback" not in err
    assert not list(tmp_path.glob("t-*"))


NUMBERED = [
    (["--capture", "hw:9"], "--capture hw:9: a card's number changes with what is plugged in; its name stays"),
    (["--playback", "plughw:CARD=9,DEV=0"], "--playback plughw:CARD=9,DEV=0: a card's number changes"),
]


@needs_libasound
@pytest.mark.parametrize(("options", "note"), NUMBERED)
def test_a_card_by_its_number_is_noted(tmp_path, options, note):
    (tmp_path / "noisy.raw").write_bytes(bytes(64_000))
    _, err = live(tmp_path, "--seconds", "1", *options).communicate(timeout=120)
    (line,) = [line for line in err.splitlines() if "a card's number" in line]
    assert line.startswith(f"edge-denoise: note: {note}")


REFUSED = [
    (["--capture", "nonesuch"], "nonesuch: capture cannot be opened (No such file or directory); `edge-denoise dev"),
    (["--rate", "12"], "'12' is not a whole number from 4000 to 192000"),
    (["--strength", "2"], "'2' is not a number from 0 to 1"),
    (["--limit-db", "loud"], "'loud' is not a number from 0 to 200"),
    (["--channels", "left"], "--channels is 'left'; give best, mix, all, or numbers from 1 such as 1,3"),
    (["--tee", "/"], "/: a folder, no name of a recording; give --tee /take1"),
    (["--tee", "gone/x"], "gone: no such folder; make it first"),
    (["--tee", "x", "--capture", "nonesuch"], "nonesuch: capture cannot be opened (No such file or directory)"),
    (["--tee", "x", "--playback", "hw:CARD=Absent"], "hw:CARD=Absent: playback cannot be opened (No such device)"),
    (
        [
            "--wait",
            "--capture",
            "null",
            "--format",
            "S16_LE",
            "--playback",
            "null",
            "--capture-channels",
            "5",
            "--channels",
            "6",
        ],
        "null: has 5 channel(s), not 6; choose from 1 to 5, or `mix`",
    ),
    (["--channels", "all", "--capture", "null"], "--channels all needs a number; give --capture-channels N as well"),
    (["--socket", "/proc/x"], "/proc/x: the control socket cannot be made"),
]


@needs_libasound
@pytest.mark.parametrize(("options", "message"), REFUSED, ids=[" ".join(row[0]) for row in REFUSED])
def test_what_cannot_be_is_refused_in_one_line(tmp_path, options, message):
    (tmp_path / "noisy.raw").write_bytes(bytes(64_000))
    out, err = live(tmp_path, "--seconds", "1", *options, cwd=tmp_path).communicate(timeout=120)
    errors = [line for line in err.splitlines() if not line.startswith("edge-denoise: note: ")]
    assert len(errors) == 1
    assert message in errors[0]
    assert out == ""
    assert not list(tmp_path.glob("*.wav"))
