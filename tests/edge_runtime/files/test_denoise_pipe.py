"""`edge-denoise pipe`: the file path on raw samples, a hop at a time; the examples in docs/examples run on it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import program_said
import pytest
import soundfile
from places import ROOT
from program_said import Program
from toy_artifact import toy

from edge_runtime import Denoiser
from edge_runtime.files.any_rate import AnyRateDenoiser
from edge_runtime.files.denoise_pipe import file_kind

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
    return program_said.run(command, data, cwd=cwd)


@pytest.mark.parametrize("n_samples", [0, 1, 255, 256, 257, 16000, 40001])
def test_as_many_samples_out_as_in_and_the_same_as_the_library(n_samples: int) -> None:
    data = pcm(n_samples)
    done = run([*PIPE, "--model", str(toy().directory), "--json"], data)
    assert done.returncode == 0
    assert done.stdout == denoised(data)
    said = json.loads(done.stderr)
    assert said == {"n_samples": n_samples, "n_clipped": 0, "model": str(toy().directory)}


@pytest.mark.parametrize(("rate_hz", "band"), [(48_000, "full"), (48_000, "speech"), (8_000, "speech")])
def test_another_rate_is_what_a_file_of_it_becomes(rate_hz: int, band: str) -> None:
    data = pcm(30_001)
    options = ["--rate", str(rate_hz), *(["--band", band] if rate_hz > 16_000 else [])]
    done = run([*PIPE, "--model", str(toy().directory), *options], data)
    samples = np.frombuffer(data, "<i2").astype(np.float32)[:, None] / 32768
    stream = AnyRateDenoiser([Denoiser.open(toy(), "tflite")], rate_hz, band)
    clean = np.concatenate([stream.feed(samples), stream.flush()])[:, 0]
    got = np.frombuffer(done.stdout, "<i2") - np.clip(np.rint(clean * 32768), -32768, 32767)
    assert (done.returncode, done.stderr, got.size) == (0, b"", 30_001)
    assert np.abs(got).max() <= 1  # soxr's blocks are others


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


def sound_file(form: str, subtype: str, rate_hz: int = 44_100, n_channels: int = 2) -> bytes:
    noise = np.random.default_rng(3).normal(0, 0.1, (rate_hz, n_channels))
    buffer = io.BytesIO()
    soundfile.write(buffer, noise, rate_hz, format=form, subtype=subtype)
    return buffer.getvalue()


FILES = [
    ("WAV", "PCM_16", "WAV"), ("WAV", "PCM_24", "WAV"), ("RF64", "FLOAT", "WAV"), ("FLAC", "PCM_24", "FLAC"),
    ("OGG", "VORBIS", "Ogg"), ("OGG", "OPUS", "Ogg"), ("MP3", "MPEG_LAYER_III", "MP3"), ("AIFF", "PCM_16", "AIFF"),
    ("AU", "PCM_16", "AU"), ("CAF", "PCM_16", "CAF"), ("W64", "PCM_16", "Wave64"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "subtype", "kind"), FILES)
def test_a_sound_file_is_told_in_one_line(form: str, subtype: str, kind: str) -> None:
    rate_hz = 48_000 if subtype == "OPUS" else 44_100
    done = run([*PIPE, "--model", str(toy().directory)], sound_file(form, subtype, rate_hz))
    assert (done.returncode, done.stdout) == (1, b"")
    said = done.stderr.decode().removeprefix("edge-denoise: error: standard input: ")
    assert said.startswith(f"a {kind} file, not raw signed 16-bit samples at 16 kHz; ")
    assert said.endswith("`edge-denoise file IN OUT`\n")
    assert ("`arecord -t raw` sends samples without" in said) == (kind == "WAV")


@pytest.mark.parametrize(("rate_hz", "n_channels"), [(8_000, 1), (16_000, 1), (22_050, 2), (32_000, 1), (48_000, 2)])
def test_an_mp3_is_known_by_its_frames_at_every_rate(rate_hz: int, n_channels: int) -> None:
    data = sound_file("MP3", "MPEG_LAYER_III", rate_hz, n_channels)
    assert file_kind(data) == "MP3"
    assert file_kind(b"ID3\x04" + data) == "MP3"


@pytest.mark.parametrize("scale", [0, 1, 30, 1000, 30_000])
def test_samples_are_not_taken_for_a_file(scale: int) -> None:
    """Sound may begin as an MP3's frame does, 0xFF 0xFB is -1025; a second frame in the right place it has not."""
    starts = np.random.default_rng(0).normal(0, scale, (2000, 700)).clip(-32768, 32767).astype("<i2")
    assert {file_kind(start.tobytes()) for start in starts} == {None}
    starts[:, 0], starts[:, 1] = -1025, 0x6490
    assert {file_kind(start.tobytes()) for start in starts} == {None}
    assert {file_kind(starts.tobytes()[:n]) for n in range(12)} == {None}


def test_a_source_that_gives_a_few_bytes_at_a_time_is_understood() -> None:
    ours, theirs = os.pipe()
    with Program([*PIPE, "--model", str(toy().directory)], stdin=ours, stdout=-1, stderr=-1) as process:
        os.close(ours)
        for byte in b"RIFF....WAVE":
            os.write(theirs, bytes([byte]))
            time.sleep(0.01)
        os.close(theirs)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, b"")
    assert b"a WAV file" in err


def test_example_recorder(tmp_path: Path) -> None:
    data = pcm(20000)
    done = run([sys.executable, str(EXAMPLES / "recorder.py"), str(toy().directory), "clean.wav"], data, tmp_path)
    assert done.returncode == 0, done.stderr
    clean, rate_hz = soundfile.read(tmp_path / "clean.wav", dtype="int16")
    wanted = np.frombuffer(denoised(data), "<i2")
    assert rate_hz == 16000
    assert clean.size == wanted.size
    assert np.abs(clean.astype(int) - wanted).max() <= 1  # libsndfile rounds to 16 bits in its own way


def test_example_recorder_ends_with_ctrl_c_and_keeps_the_last_hop(tmp_path: Path) -> None:
    """The terminal sends SIGINT to arecord and to the recorder; arecord ends, and with it the sound."""
    data = pcm(20000)
    command = [sys.executable, str(EXAMPLES / "recorder.py"), str(toy().directory), "clean.wav"]
    with Program(command, stdin=-1, stderr=-1, cwd=tmp_path, bufsize=0) as process:
        assert process.stdin is not None
        process.stdin.write(data[:30_000])
        while not (tmp_path / "clean.wav").exists():  # it listens
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        process.stdin.write(data[30_000:])
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert soundfile.info(str(tmp_path / "clean.wav")).frames == 20000


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
    command = [str(EXAMPLES / "assistant_microphone.sh"), str(toy().directory), "plughw:CARD=Mic"]
    done = program_said.run(command, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout) == len(data)
    (tmp_path / "arecord").write_text("#!/bin/sh\necho 'arecord: no such device' >&2\nexit 1\n")
    done = program_said.run(["sh", *command], cwd=tmp_path, env=environment)
    assert (done.returncode, done.stderr) == (1, b"arecord: no such device\n")
    (tmp_path / "arecord").write_text("#!/bin/sh\nexec cat noisy.raw\n")
    command[1] = "no-model"
    done = program_said.run(command, cwd=tmp_path, env=environment)
    assert done.returncode == 1
    assert done.stderr.startswith(b"edge-denoise: error: no-model")
