"""The unit of `quant deploy --service` under a user's real systemd: waits, denoises, outlives kill and login."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import far_side
import numpy as np
import pytest
from far_side import Board
from places import NATIVE
from real_alsa import needs_libasound
from toy_artifact import toy
from user_manager import missing, properties, systemctl, user_manager

from edge_runtime.live.control.control_socket import ask
from quant.artifact.folder import write_manifest
from quant.cli import main

UNIT = "edge-denoise.service"
LIMIT_S = 120.0  # for what takes two seconds, on a busy machine
NO_MICROPHONE = 'pcm.microphone { type hw card "Late" }'
MICROPHONE = 'pcm.microphone { type file slave.pcm "null" file "/dev/null" infile "%s/noisy.raw" format "raw" }'

pytestmark = [
    pytest.mark.slow,
    needs_libasound,
    pytest.mark.skipif(
        not Path(far_side.SSHD).exists() or not shutil.which("ssh"),
        reason="needs sshd and ssh (Debian: openssh-server)",
    ),
]


@pytest.fixture
def board(tmp_path: Path) -> Iterator[tuple[Board, dict[str, str]]]:
    """One with systemd, where nobody has logged in yet; the environment of its user."""
    if why := missing():
        pytest.skip(why)
    packages = far_side.dependencies(tmp_path / "packages", (*far_side.RUNTIME, "pip", "onnxruntime"))
    (tmp_path / "run").mkdir(mode=0o700)
    plug(tmp_path, NO_MICROPHONE)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(packages),
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
        "ALSA_CONFIG_PATH": f"/usr/share/alsa/alsa.conf:{tmp_path / 'asound.conf'}",
    }
    of_ssh = {name: value for name, value in environment.items() if name != "HOME"}
    with far_side.sshd(tmp_path, of_ssh) as served:
        yield served, environment


def plug(folder: Path, microphone: str) -> None:
    """libasound reads a file again whose time is another."""
    (folder / "asound.conf").write_text(f"{microphone}\npcm.speaker {{ type null }}\n")


def until(words: str, shown: Callable[..., dict[str, str]], n_restarts: int = 0) -> None:
    """The unit says so."""
    deadline_s = time.monotonic() + LIMIT_S
    while True:
        now = shown("ActiveState", "StatusText", "NRestarts")
        if now["StatusText"].startswith(words) and now["NRestarts"] == str(n_restarts):
            assert now["ActiveState"] == "active"
            return
        assert time.monotonic() < deadline_s, now
        time.sleep(0.1)


def test_a_users_service_waits_denoises_and_comes_back(board, tmp_path, capfd):
    served, environment = board
    shown = partial(properties, environment, UNIT)
    (tmp_path / "dist").mkdir()
    far_side.wheel(tmp_path / "dist", f"linux_{platform.machine()}", NATIVE / "libedge_denoise.so")
    noisy = np.random.default_rng(0).normal(0, 0.1, 16_000).astype("<f4")
    (tmp_path / "noisy.raw").write_bytes(noisy.tobytes())
    write_manifest(Path(shutil.copytree(toy().directory, tmp_path / "model")), toy().manifest)
    options = [f"--model={tmp_path / 'model'}", f"--wheels={tmp_path / 'dist'}", "--target=host", "--service", "--json"]
    devices = ["--capture=microphone", "--playback=speaker"]
    with user_manager(environment, tmp_path / "journal"):
        assert main(["deploy", *served.arguments, *options, *devices]) == 0, capfd.readouterr().err
        told = json.loads(capfd.readouterr().out)
        assert told["steps"]["service"]["detail"]["units"] == [UNIT]
        until("waiting: microphone: ", shown)
        first = shown("MainPID")
        plug(tmp_path, MICROPHONE % tmp_path)
        until("running", shown)
        status = ask(tmp_path / "run/edge-denoise/edge-denoise.sock", {"command": "status"})["status"]
        assert status["state"] == "running"
        assert shown("MainPID")["MainPID"] == first["MainPID"]
        os.kill(int(first["MainPID"]), signal.SIGKILL)
        until("running", shown, n_restarts=1)
        killed = shown("MainPID")
        systemctl(environment, "restart", UNIT)
        until("running", shown)
        assert len({first["MainPID"], killed["MainPID"], shown("MainPID")["MainPID"]}) == 3
    with user_manager(environment, tmp_path / "journal"):  # the next login, or boot
        until("running", shown)
        systemctl(environment, "stop", UNIT)
        ended = shown("ActiveState", "Result", "ExecMainStatus")
        assert ended == {"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0"}
        assert not list((tmp_path / "run").glob("edge-denoise/*"))
