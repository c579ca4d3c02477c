"""`edge-denoise live --tee`: both sides of the sound, aligned, whatever happens to program or disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_sound import FakeDenoiser, FakeDevice, World
from places import ROOT

from edge_runtime.alsa import device
from edge_runtime.errors import Failure
from edge_runtime.live.control.controls import Settings
from edge_runtime.live.control.kept_settings import Keeper
from edge_runtime.live.float_wav import FloatWav
from edge_runtime.live.loop import LivePlan
from edge_runtime.live.session import run_live
from edge_runtime.live.status import Status
from edge_runtime.live.tee import RING_HOPS, Recording, Tee


def test_both_sides_are_recorded_aligned(tmp_path):
    tee = Tee(tmp_path / "a", 2)
    noisy = np.random.default_rng(0).normal(0, 0.1, (20, 2, 256)).astype(np.float32)
    for k in range(20):
        tee.push(noisy[k], noisy[k - 1] if k else np.zeros((2, 256), np.float32))  # a denoiser that only delays
    tee.close()
    raw, rate_hz = soundfile.read(tmp_path / "a-raw.wav", dtype="float32")
    clean, _ = soundfile.read(tmp_path / "a-clean.wav", dtype="float32")
    assert (rate_hz, raw.shape, clean.shape) == (16_000, (5120, 2), (4864, 2))
    assert np.array_equal(raw, noisy.transpose(0, 2, 1).reshape(-1, 2))
    assert np.array_equal(clean, raw[:4864])
    assert tee.n_lost == 0


def test_a_slow_disk_loses_whole_hops_and_says_so(tmp_path, monkeypatch):
    written = threading.Event()
    monkeypatch.setattr(FloatWav, "write", lambda *_: written.wait())
    tee = Tee(tmp_path / "a", 1)
    hop = np.zeros((1, 256), np.float32)
    for _ in range(700):
        tee.push(hop, hop)
    assert tee.n_lost == 700 - RING_HOPS
    assert f"{tee.n_lost} hops lost: the disk is too slow" in tee.line
    written.set()
    tee.close()


@pytest.fixture
def full_disk():
    """A file system of 256 KiB."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount one")
    with tempfile.TemporaryDirectory() as folder:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", folder], check=False).returncode:
            pytest.skip("mounts are not allowed here")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)


def test_a_full_disk_stops_the_recording_in_one_line_and_leaves_what_was_recorded(full_disk):
    tee = Tee(full_disk / "a", 1)
    hop = np.ones((1, 256), np.float32)
    for _ in range(200):
        tee.push(hop, hop)
    tee.close()
    assert tee.line.startswith("recording stopped: ")
    assert tee.line.endswith(
        ".wav: cannot be written (No space left on device); free some space on its disk, or write elsewhere"
    )
    tee.push(hop, hop)  # the sound goes on
    raw, rate_hz = soundfile.read(full_disk / "a-raw.wav", dtype="float32")
    assert rate_hz == 16_000
    assert 100 < len(raw) // 256 < 128
    assert (raw == 1).all()


def test_a_disk_that_is_full_at_once_is_called_so_and_nothing_is_left(full_disk):
    with pytest.raises(OSError, match="No space left"):
        (full_disk / "filler").write_bytes(bytes(2**20))
    with pytest.raises(Failure, match=r"a-raw.wav: cannot be written \(No space left on device\); free some space"):
        Tee(full_disk / "a", 1)
    assert [path.name for path in full_disk.iterdir()] == ["filler"]


def test_a_recording_that_is_killed_can_be_read_to_its_last_second(tmp_path):
    script = """if True:
        import numpy as np, os, sys, time
        from pathlib import Path
        from edge_runtime.live.tee import Tee
        tee = Tee(Path(sys.argv[1]), 1)
        hop = np.ones((1, 256), np.float32)
        for _ in range(300):
            tee.push(hop, hop)
        while tee._n_out < 300:
            time.sleep(0.01)
        os.kill(os.getpid(), 9)
    """
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a")], env=environment, timeout=120, check=False
    )
    assert done.returncode == -9
    raw, _ = soundfile.read(tmp_path / "a-raw.wav")
    assert 300 - 62 <= len(raw) // 256 <= 300


@pytest.mark.parametrize("n_channels", [1, 2])
@pytest.mark.parametrize("n_before", [0, 2**32 // 4 - 1000, 2**32 // 4 + 1000, 3 * 2**32 // 4])
def test_a_recording_has_no_longest_length(tmp_path, n_channels, n_before):
    """Beyond 4 GiB the file is RF64. What came before is a hole in the file."""
    wav = FloatWav(tmp_path / "a.wav", 16_000, n_channels)
    n_before //= n_channels
    wav.n_samples = n_before
    os.lseek(wav._file, 4 * n_before * n_channels, os.SEEK_CUR)
    block = np.random.default_rng(0).normal(0, 1, (500, n_channels)).astype(np.float32)
    wav.write(block)
    wav.update()
    for closed in (False, True):
        if closed:
            wav.close()
        with soundfile.SoundFile(tmp_path / "a.wav") as read:
            assert (read.samplerate, read.channels, read.subtype) == (16_000, n_channels, "FLOAT")
            assert read.frames == n_before + 500
            assert read.format == ("RF64" if 4 * n_channels * read.frames > 2**32 - 100 else "WAV")
            read.seek(n_before)
            assert np.array_equal(read.read(dtype="float32", always_2d=True), block)


def test_who_presses_ctrl_c_twice_has_the_whole_recording(tmp_path, monkeypatch):
    """The second time while the last hops are written."""
    world, close = World(), Recording.close

    def interrupted(self):
        signal.raise_signal(signal.SIGINT)
        close(self)

    monkeypatch.setattr(Recording, "close", interrupted)
    monkeypatch.setattr(device, "open_pcm", lambda _, direction, wish: FakeDevice(world).open(direction, wish))
    plan, keeper = LivePlan(capture="microphone", playback="speaker", seconds=0.8), Keeper(None, Settings())
    how = {"socket_path": None, "as_json": True, "in_real_time": False}
    run_live(plan, lambda _: [FakeDenoiser(world)], Status(), keeper, tee_prefix=tmp_path / "t", **how)
    assert soundfile.info(tmp_path / "t-raw.wav").frames == 50 * 256


@pytest.mark.parametrize(("n_hops", "left"), [(0, []), (1, ["a-raw.wav"]), (2, ["a-clean.wav", "a-raw.wav"])])
def test_files_without_a_sample_are_not_left(tmp_path, n_hops, left):
    """The clean side comes a hop late."""
    tee = Tee(tmp_path / "a", 1)
    for _ in range(n_hops):
        tee.push(np.zeros((1, 256), np.float32), np.zeros((1, 256), np.float32))
    tee.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def test_nothing_is_recorded_through_a_link(tmp_path):
    (tmp_path / "a-clean.wav").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Failure, match=r"a-clean.wav: exists already; choose another --tee"):
        Tee(tmp_path / "a", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["a-clean.wav"]


def test_a_recording_replaces_nothing(tmp_path):
    (tmp_path / "a-clean.wav").write_bytes(b"precious")
    with pytest.raises(Failure, match=r"a-clean.wav: exists already; choose another --tee"):
        Tee(tmp_path / "a", 1)
    assert (tmp_path / "a-clean.wav").read_bytes() == b"precious"
    assert not (tmp_path / "a-raw.wav").exists()
