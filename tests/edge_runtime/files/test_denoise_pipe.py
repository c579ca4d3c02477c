"""`edge-denoise pipe`: the file path on raw samples, a hop at a time; the examples in docs/examples run on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from places import ROOT
from toy_artifact import toy

from edge_runtime import Denoiser

EXAMPLES = ROOT / "docs" / "examples"
PIPE = [sys.executable, "-m", "edge_runtime.cli", "pipe", "--engine", "tflite"]


def pcm(n_samples: int) -> bytes:
    noise = np.random.default_rng(3).normal(0, 3000, n_samples)
    return noise.astype("<i2").tobytes()


def denoised(data: bytes) -> bytes:
    denoiser = Denoiser.open(toy(), "tflite")
    samples = np.frombuffer(data, "<i2").astype(np.float32) / 32768
    clean = np.concatenate([denoiser.feed(samples), denoiser.flush()])
    return np.clip(np.rint(clean * 32768), -32768, 32767).astype("<i2").tobytes()


def run(command: list[str], data: bytes, cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, input=data, capture_output=True, timeout=60, cwd=cwd)


@pytest.mark.parametrize("n_samples", [0, 1, 255, 256, 257, 16000, 40001])
def test_as_many_samples_out_as_in_and_the_same_as_the_library(n_samples: int) -> None:
    data = pcm(n_samples)
    done = run([*PIPE, "--model", str(toy().directory), "--json"], data)
    assert done.returncode == 0
    assert done.stdout == denoised(data)
    assert json.loads(done.stderr) == {"n_samples": n_samples, "n_clipped": 0}


def test_every_hop_comes_out_when_it_is_whole() -> None:
    """A hop late, without waiting for more: what a voice assistant hears is never in a buffer here."""
    data = pcm(256 * 8)
    with subprocess.Popen([*PIPE, "--model", str(toy().directory)], stdin=-1, stdout=-1, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        got = b""
        for hop in range(8):
            process.stdin.write(data[512 * hop : 512 * (hop + 1)])
            while len(got) < 512 * hop:
                got += os.read(process.stdout.fileno(), 512 * hop - len(got))
        process.stdin.close()
        assert got + process.stdout.read() == denoised(data)


def test_odd_bytes_and_no_reader() -> None:
    done = run([*PIPE, "--model", str(toy().directory)], pcm(300) + b"x")
    assert (done.returncode, len(done.stdout)) == (1, 600)
    assert done.stderr == b"edge-denoise: error: standard input: ends within a sample; send signed 16-bit samples\n"
    shell = f"{' '.join(PIPE)} --model {toy().directory} < /dev/zero | head -c 2000 | wc -c; echo ${{PIPESTATUS[0]}}"
    done = run(["bash", "-c", shell], b"")
    assert (done.stdout.split(), done.stderr) == ([b"2000", b"141"], b"")


def test_a_terminal_is_no_place_for_samples() -> None:
    ours, theirs = os.openpty()
    done = subprocess.run(
        [*PIPE, "--model", str(toy().directory)], stdin=subprocess.DEVNULL, stdout=theirs, stderr=-1, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.startswith(b"edge-denoise: error: standard output is a terminal")
    os.close(ours)
    os.close(theirs)


def test_example_recorder(tmp_path: Path) -> None:
    data = pcm(20000)
    done = run([sys.executable, str(EXAMPLES / "recorder.py"), str(toy().directory), "clean.wav"], data, tmp_path)
    assert done.returncode == 0, done.stderr
    clean, rate_hz = soundfile.read(tmp_path / "clean.wav", dtype="int16")
    wanted = np.frombuffer(denoised(data), "<i2")
    assert rate_hz == 16000
    assert clean.size == wanted.size
    assert np.abs(clean.astype(int) - wanted).max() <= 1  # libsndfile rounds to 16 bits in its own way


def test_example_python_api(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "noisy.wav", np.frombuffer(pcm(5000), "<i2"), 16000)
    command = [sys.executable, str(EXAMPLES / "python_api.py"), str(toy().directory), "noisy.wav", "clean.wav"]
    done = run(command, b"", tmp_path)
    assert done.returncode == 0, done.stderr
    assert soundfile.info(str(tmp_path / "clean.wav")).frames == 5000


def test_example_assistant(tmp_path: Path) -> None:
    """The command line for wyoming-satellite, with a file where the microphone would be."""
    data = pcm(16000)
    (tmp_path / "arecord").write_text("#!/bin/sh\nexec cat noisy.raw\n")
    (tmp_path / "noisy.raw").write_bytes(data)
    (tmp_path / "edge-denoise").write_text(f'#!/bin/sh\nexec {sys.executable} -m edge_runtime.cli "$@"\n')
    for name in ("arecord", "edge-denoise"):
        (tmp_path / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["sh", str(EXAMPLES / "assistant_microphone.sh"), str(toy().directory), "plughw:1,0"]
    done = subprocess.run(command, capture_output=True, timeout=60, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout) == len(data)
