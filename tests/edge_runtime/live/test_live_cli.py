"""`edge-denoise live` and `ctl`: the socket, the recording, the view, and PCMs of the real libasound."""

from __future__ import annotations

import json
import os
import pwd
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_sound import FakeDenoiser, FakeDevice, World
from hypothesis import given
from hypothesis import strategies as st
from places import ROOT
from program_said import Program
from real_alsa import needs_libasound
from toy_artifact import toy

from edge_runtime.alsa import device
from edge_runtime.cli import main
from edge_runtime.errors import Failure
from edge_runtime.live.control import control_socket
from edge_runtime.live.control.control_socket import MAX_BYTES, ControlServer, answer, ask
from edge_runtime.live.control.controls import Settings
from edge_runtime.live.control.kept_settings import Keeper
from edge_runtime.live.control.systemd import is_journal, notify, watchdog_s
from edge_runtime.live.float_wav import FloatWav
from edge_runtime.live.loop import LivePlan
from edge_runtime.live.session import Heartbeat, run_live
from edge_runtime.live.sound import library
from edge_runtime.live.status import Status
from edge_runtime.live.tee import RING_HOPS, Recording, Tee
from edge_runtime.live.view import View, keyboard, plain_line, press, pressed, terminal_lines

# --- the control socket -------------------------------------------------------------------------------------

GOOD = [
    ({"command": "set", "strength": 0.5}, Settings(strength=0.5)),
    ({"command": "set", "limit_db": 12, "gate_dbfs": -50}, Settings(limit_db=12.0, gate_dbfs=-50.0)),
    ({"command": "set", "limit_db": None, "gate_dbfs": None}, Settings()),
    ({"command": "bypass"}, Settings(bypass=True)),
    ({"command": "bypass", "on": True}, Settings(bypass=True)),
    ({"command": "bypass", "on": False}, Settings()),
    ({"command": "status"}, Settings()),
]


@pytest.mark.parametrize(("message", "wanted"), GOOD, ids=[json.dumps(row[0]) for row in GOOD])
def test_a_message_is_done(message, wanted):
    status = Status()
    reply = json.loads(answer(json.dumps(message).encode(), status))
    assert reply["ok"]
    assert status.settings == wanted
    assert reply["status"]["settings"]["bypass"] == wanted.bypass


def test_reset_is_asked_of_the_audio_thread():
    status = Status()
    assert json.loads(answer(b'{"command": "reset"}', status))["ok"]
    assert status.wants_reset


BAD = [
    (b"", "Input data was truncated"),
    (b"hello", "malformed"),
    (b"{}", "missing required field `command`"),
    (b"[]", "Expected `object`, got `array`"),
    (b'{"command": "explode"}', "Invalid value 'explode'"),
    (b'{"command": "set", "strength": 7}', "strength is 7.0, it goes from 0 to 1"),
    (b'{"command": "set", "strength": "1"}', "Expected `float`, got `str`"),
    (b'{"command": "set", "strength": null}', "Expected `float`, got `null`"),
    (b'{"command": "set", "limit_db": -3}', "limit_db is -3.0"),
    (b'{"command": "set", "volume": 3}', "unknown field `volume`"),
    (b'{"command": "bypass", "on": "maybe"}', "Invalid enum value 'maybe'"),
    (b'{"command": "status", "x": 1}', "unknown field `x`"),
    (b"[" * 4000, "Expected `object`, got `array`"),
    (b'{"command": "st\xff"}', "utf-8"),
]


@pytest.mark.parametrize(("line", "message"), BAD, ids=[repr(row[0][:40]) for row in BAD])
def test_a_bad_message_is_refused_in_one_line_and_changes_nothing(line, message):
    status = Status()
    reply = answer(line, status)
    assert reply.count(b"\n") == 1
    refused = json.loads(reply)
    assert not refused["ok"]
    assert message.lower() in refused["error"].lower()
    assert status.settings == Settings()
    assert not status.wants_reset


@given(st.binary(max_size=300))
def test_no_bytes_make_the_server_fail(line):
    assert json.loads(answer(line, Status()))["ok"] in (True, False)


@pytest.fixture
def server(tmp_path):
    status = Status()
    with ControlServer(tmp_path / "s", status) as made:
        yield made.path, status
    assert not made.path.exists()


def test_the_socket_is_its_owners_alone_and_answers(server):
    path, status = server
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ask(path, {"command": "set", "strength": 0.25})["status"]["settings"]["strength"] == 0.25
    assert status.settings.strength == 0.25
    with pytest.raises(Failure, match="refused: strength is 2"):
        ask(path, {"command": "set", "strength": 2})


def test_several_messages_in_pieces_on_one_connection(server):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(server[0]))
        for piece in (b'{"command": "by', b'pass"}\n{"command": "sta', b'tus"}\n'):
            client.sendall(piece)
            time.sleep(0.02)
        lines = client.makefile("rb")
        assert [json.loads(lines.readline())["status"]["settings"]["bypass"] for _ in range(2)] == [True, True]


def trickle(clients):
    """A byte now and then, for ten seconds."""
    for _ in range(1000):
        for client in clients:
            client.sendall(b"{")
        time.sleep(0.01)


def test_clients_that_send_a_byte_now_and_then_do_not_keep_others_out(server, monkeypatch):
    monkeypatch.setattr(control_socket, "_IDLE_S", 0.2)
    path, _ = server
    slow = [socket.socket(socket.AF_UNIX) for _ in range(control_socket._MAX_CLIENTS)]
    for client in slow:
        client.connect(str(path))
    with pytest.raises(BrokenPipeError):
        trickle(slow)
    monkeypatch.setattr(control_socket, "_IDLE_S", 60.0)
    assert ask(path, {"command": "status"})["ok"]
    for client in slow:
        client.close()


def test_an_endless_message_is_cut_off(server):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(server[0]))
        client.sendall(b"x" * (MAX_BYTES + 1))
        assert json.loads(client.makefile("rb").readline())["error"] == f"a message has at most {MAX_BYTES} bytes"
    assert ask(server[0], {"command": "status"})["ok"]


def test_a_second_stream_gets_its_own_socket_and_a_dead_one_is_replaced(server, tmp_path):
    with pytest.raises(Failure, match=r"another `edge-denoise live` listens here; give this one its own --socket PATH"):
        ControlServer(server[0], Status())
    dead = tmp_path / "dead"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(dead))
    with ControlServer(dead, Status()):
        assert ask(dead, {"command": "status"})["ok"]
    (tmp_path / "file").write_text("precious")
    with pytest.raises(Failure, match="exists and is no socket"):
        ControlServer(tmp_path / "file", Status())


def test_of_streams_that_begin_at_once_one_listens_and_is_heard(tmp_path):
    """On what a killed one has left: each found it dead, removed it, and with it who had just come."""
    for n in range(20):
        path, heard, gate = tmp_path / str(n), [], threading.Barrier(4)
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))

        def begin(path=path, heard=heard, gate=gate):
            gate.wait()
            with suppress(Failure):
                heard.append(control_socket._listen(path))

        streams = [threading.Thread(target=begin) for _ in range(4)]
        for each in streams:
            each.start()
        for each in streams:
            each.join()
        (one,) = heard
        assert one.getsockname() == str(path)
        one.close()


def test_a_socket_of_another_stream_is_left_to_it(tmp_path):
    """Somebody removed the first one's."""
    with ControlServer(tmp_path / "s", Status()):
        (tmp_path / "s").unlink()
        second = ControlServer(tmp_path / "s", Status())
    assert ask(tmp_path / "s", {"command": "status"})["ok"]
    second.close()


@pytest.mark.parametrize("why", [PermissionError(13, "Permission denied"), BlockingIOError(11, "Try again")])
def test_a_stream_of_another_user_or_a_busy_one_is_not_taken_for_dead(server, monkeypatch, why):
    def refused(self, path):
        raise why

    with monkeypatch.context() as patched:
        patched.setattr(socket.socket, "connect", refused)
        with pytest.raises(Failure, match="another `edge-denoise live` listens here"):
            ControlServer(server[0], Status())
    assert ask(server[0], {"command": "status"})["ok"]


@pytest.mark.parametrize("folder", ["", "relative", "/proc/none"])
def test_a_run_time_folder_that_is_none_is_not_listened_in(tmp_path, monkeypatch, folder):
    (tmp_path / "relative").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    with pytest.raises(Failure, match="no XDG_RUNTIME_DIR for the control socket; name one with --socket PATH"):
        control_socket.default_path()


def test_who_change_settings_at_a_time_both_have_their_way():
    """Each of three threads turns it the other way, an odd number of times."""
    status, before_s = Status(), sys.getswitchinterval()
    ways = (lambda: answer(b'{"command": "bypass"}', status), lambda: press("b", status), lambda: press("b", status))
    turn = [threading.Thread(target=lambda way=way: [way() for _ in range(501)]) for way in ways]
    sys.setswitchinterval(1e-6)
    try:
        for thread in turn:
            thread.start()
        for thread in turn:
            thread.join()
    finally:
        sys.setswitchinterval(before_s)
    assert status.settings.bypass


def test_ctl_says_when_nobody_answers(tmp_path, capfd):
    assert main(["ctl", "status", "--socket", str(tmp_path / "gone")]) == 1
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "nobody answers (No such file or directory); start `edge-denoise live`, or name its --socket" in err


@pytest.mark.parametrize("left", [False, True], ids=["", "beside what a crash left"])
@pytest.mark.parametrize("where", [".", "edge-denoise"], ids=["a stream of the user", "a service of the user"])
def test_ctl_finds_a_stream_and_a_service(tmp_path, monkeypatch, capfd, where, left):
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = tmp_path / where
    folder.mkdir(exist_ok=True)
    if left:
        left_by_a_crash(tmp_path / "edge-denoise.sock")
    with ControlServer(folder / "edge-denoise.sock", Status()):
        assert main(["ctl", "status", "--json"]) == 0
        assert json.loads(capfd.readouterr().out)["settings"]["strength"] == 1.0


def left_by_a_crash(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))


CTL = [
    (["set", "--strength", "0.3", "--limit-db", "off"], Settings(strength=0.3)),
    (["set", "--limit-db", "6", "--gate-dbfs", "-40"], Settings(limit_db=6.0, gate_dbfs=-40.0)),
    (["bypass"], Settings(bypass=True)),
    (["bypass", "on"], Settings(bypass=True)),
    (["bypass", "off"], Settings()),
]


@pytest.mark.parametrize(("argv", "wanted"), CTL, ids=[" ".join(row[0]) for row in CTL])
def test_ctl_steers(server, capfd, argv, wanted):
    assert main(["ctl", *argv, "--socket", str(server[0])]) == 0
    assert server[1].settings == wanted
    assert capfd.readouterr().out.startswith("starting 0 s; in -120.0 dBFS")


NOTHING_DONE = [
    (["set"], "`ctl set` sets nothing; give --strength, --limit-db or --gate-dbfs"),
    (["set", "on", "--strength", "0.2"], "`ctl set` takes no 'on'; `ctl bypass on`"),
    (["status", "--strength", "0.2"], "--strength: `ctl status` sets nothing; `ctl set --strength ...`"),
    (["bypass", "--limit-db", "off"], "--limit-db: `ctl bypass` sets nothing; `ctl set --limit-db ...`"),
    (["reset", "on"], "`ctl reset` takes no 'on'; `ctl bypass on`"),
]


@pytest.mark.parametrize(("argv", "message"), NOTHING_DONE, ids=[" ".join(row[0]) for row in NOTHING_DONE])
def test_what_ctl_would_not_look_at_is_refused(server, capfd, argv, message):
    assert main(["ctl", *argv, "--socket", str(server[0])]) == 1
    out, err = capfd.readouterr()
    assert (out, err.removeprefix("edge-denoise: error: ")) == ("", f"{message}\n")
    assert server[1].settings == Settings()


ODD_REPLIES = [
    (b"", "it ended before it answered; start `edge-denoise live` again"),
    (b"HTTP/1.1 400\r\n", "the reply is no stream's; is it another program's socket?"),
    (b"[1]\n", "the reply is no stream's; is it another program's socket?"),
    (b'{"ok": true, "status": 3}\n', "the reply is no stream's; is it another program's socket?"),
    (
        b'{"ok": true, "status": {"state": "running"}}\n',
        "a stream of another version, without 'waiting_for'; restart it",
    ),
    (b'{"ok": false, "error": "no"}\n', "refused: no"),
]


@pytest.mark.parametrize(("reply", "line"), ODD_REPLIES)
def test_ctl_takes_no_other_programs_answer_for_a_streams(tmp_path, capfd, reply, line):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def answer_once():
            client, _ = listening.accept()
            with client:
                client.recv(MAX_BYTES)
                client.sendall(reply)

        thread = threading.Thread(target=answer_once)
        thread.start()
        assert main(["ctl", "status", "--socket", str(path)]) == 1
        thread.join()
    assert capfd.readouterr() == ("", f"edge-denoise: error: {path}: {line}\n")


def test_ctl_names_whose_socket_it_is(server, monkeypatch, capfd):
    def denied(self, path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", denied)
    assert main(["ctl", "status", "--socket", str(server[0])]) == 1
    user = pwd.getpwuid(os.geteuid()).pw_name
    assert f"{server[0]}: is another user's; ask as {user}, or as root: sudo" in capfd.readouterr().err


def test_ctl_prints_json(server, capfd):
    assert main(["ctl", "status", "--json", "--socket", str(server[0])]) == 0
    assert json.loads(capfd.readouterr().out)["xruns"] == {"capture": 0, "playback": 0}


# --- the recording ------------------------------------------------------------------------------------------


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


# --- the view -----------------------------------------------------------------------------------------------


def test_keys_do_what_they_say():
    status = Status()
    for keys, wanted in (
        (["down", "down"], Settings(strength=0.8)),
        (["+"], Settings(strength=0.9)),
        (["b"], Settings(strength=0.9, bypass=True)),
        (["b", "up", "up"], Settings()),
        (["l", "l"], Settings(limit_db=18.0)),
        (["L", "g"], Settings(limit_db=24.0, gate_dbfs=-60.0)),
    ):
        assert all(press(key, status) for key in keys)
        assert status.settings == wanted
    assert press("r", status)
    assert status.wants_reset
    assert not press("q", status)


def test_keys_are_the_programs_only_while_it_has_the_terminal(monkeypatch):
    """Ctrl-Z and bg: to read what is typed for the shell, or to set its terminal, would stop the program."""
    import termios

    def is_cooked() -> bool:
        return bool(termios.tcgetattr(theirs)[3] & termios.ICANON)

    ours, theirs = os.openpty()
    in_front = [os.getpgrp()]
    monkeypatch.setattr(os, "tcgetpgrp", lambda fd: in_front[0])
    with os.fdopen(theirs, closefd=True) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        before = termios.tcgetattr(theirs)
        with keyboard() as keys:
            assert keys() == []
            os.write(ours, b"b")
            assert keys() == ["b"]
            in_front[0] += 1
            termios.tcsetattr(theirs, termios.TCSANOW, before)  # as a shell does
            os.write(ours, b"ls\n")
            assert keys() == []
            assert is_cooked()
            assert os.read(theirs, 9) == b"ls\n"
            in_front[0] -= 1
            assert keys() == []
            os.write(ours, b"q")
            assert keys() == ["q"]
            in_front[0] += 1
        assert not is_cooked()  # behind a shell it is the shell's


def test_keys_are_read_from_a_terminal_without_waiting():
    ours, theirs = os.openpty()
    assert pressed(theirs) == []
    import tty

    tty.setcbreak(theirs)
    os.write(ours, b"b\x1b[A-q")
    assert pressed(theirs) == ["b", "up", "-", "q"]


def test_a_view_shows_the_same_in_three_ways(capsys):
    status = running(Status(Settings(bypass=True, limit_db=12.0)))
    status.n_overruns, status.n_hops, status.latency_ms = 2, 1, 45.0
    shown = status.snapshot()
    assert "xruns 2+0; latency 45.0 ms; BYPASS, strength 1.00, limit 12 dB, gate off" in plain_line(shown)
    assert any("xruns 2 capture, 0 playback; no other trouble" in line for line in terminal_lines(shown))
    view = View(sys.stdout, as_json=True, is_terminal=False)
    view.draw(status, 0.0)
    view.draw(status, 0.5)  # too early for the next line
    status.n_underruns += 1
    view.draw(status, 0.6)  # but not for news
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["xruns"]["playback"] for row in rows] == [0, 1]


class Ending(Status):
    """A stream that stops while somebody looks at it."""

    def snapshot(self):
        self.doing = "stopped", ""
        return super().snapshot()


class Breaking(Status):
    """A stream that breaks while somebody looks at it."""

    def snapshot(self):
        self.n_underruns = 1
        self.doing = "waiting", "a hub"
        return super().snapshot()


def test_what_happens_while_the_view_looks_is_told_once(capsys):
    view, status = View(sys.stdout, as_json=False, is_terminal=False), running(Breaking())
    for now_s in (0.0, 1.0):
        view.draw(status, now_s)
    assert capsys.readouterr().out == "waiting: a hub\n"


def test_a_full_disk_under_the_view_ends_no_stream_and_a_reader_that_left_does():
    full = Path("/dev/full").open("w")  # noqa: SIM115  to close it fails
    View(full, as_json=False, is_terminal=False).draw(running(Status()), 0.0)
    with pytest.raises(OSError, match="No space left"):
        full.close()
    ours, theirs = os.pipe()
    os.close(ours)
    with pytest.raises(BrokenPipeError), os.fdopen(theirs, "w") as out:
        View(out, as_json=False, is_terminal=False).draw(running(Status()), 0.0)


def test_the_view_leaves_the_last_line_to_whoever_called(capsys):
    view = View(sys.stdout, as_json=False, is_terminal=False)
    view.draw(Status(), 0.0)  # starting
    view.draw(running(Ending()), 0.0)
    assert capsys.readouterr().out == ""
    view.draw(running(Status()), 0.0)
    assert capsys.readouterr().out.startswith("running ")


def running(status: Status) -> Status:
    status.doing = "running", ""
    return status


def told(view: View, capsys, until_s: float, each_s: float, change) -> list[str]:
    status = running(Status())
    for k in range(round(until_s / each_s)):
        change(k, status)
        view.draw(status, k * each_s)
    return capsys.readouterr().out.splitlines()


def storm(k: int, status: Status) -> None:
    status.n_underruns += 1


def flapping(k: int, status: Status) -> None:
    status.doing = ("waiting", "a hub") if k % 2 else ("running", "")


def stalling(k: int, status: Status) -> None:
    status.doing = "waiting", "a hub"
    status.n_stalls += 1


def calm(k: int, status: Status) -> None:
    pass


STORMS = [
    # (what happens twenty times a second for an hour, where it is shown, lines at most)
    (storm, {}, 370 + 360),
    (storm, {"is_journal": True}, 4 + 60 + 6),
    (flapping, {"is_journal": True}, 4 + 60 + 6),
    (stalling, {"is_journal": True}, 6),
    (calm, {"is_journal": True}, 6),
    (calm, {}, 360),
]


@pytest.mark.parametrize(("change", "where", "most"), STORMS)
def test_a_storm_of_xruns_is_no_storm_of_lines(capsys, change, where, most):
    view = View(sys.stdout, as_json=False, is_terminal=False, **where)
    lines = told(view, capsys, 3600, 0.05, change)
    assert len(lines) <= most
    assert len(lines) >= most // 3


def test_news_are_told_at_once_after_a_quiet_time(capsys):
    def change(k: int, status: Status) -> None:
        status.n_underruns += k == 2000

    view = View(sys.stdout, as_json=False, is_terminal=False, is_journal=True)
    lines = told(view, capsys, 110, 0.05, change)
    assert [line.count("xruns 0+1") for line in lines] == [0, 1]


LONG = "usb44: capture cannot be opened (No such device); cards that can: plughw:CARD=Device,DEV=0, plughw:CARD=C920"


@pytest.mark.parametrize(("columns", "width"), [(60, 60), (0, 80)], ids=["narrow", "a serial line"])
def test_the_panel_wraps_what_is_wider_than_the_terminal(columns, width):
    ours, theirs = os.openpty()
    import fcntl
    import termios

    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    status = Status()
    status.doing = "waiting", LONG
    with os.fdopen(theirs, "w") as out:
        view = View(out, as_json=False, is_terminal=True)
        view.draw(status, 0.0)
        view.draw(status, 1.0)
        shown = b""
        while shown.count(b"\033[J") < 2:
            shown += os.read(ours, 1 << 16)
    first, again = shown.decode().replace("\033[2K", "").replace("\033[J", "").split("\033[", 1)
    assert width - 20 < max(map(len, first.split("\r\n"))) < width
    assert " ".join(first.split()).count(f"waiting: {LONG}") == 1
    assert again.split("A", 1) == [str(first.count("\n")), first]


def test_what_was_found_out_is_in_every_view():
    status = Status()
    status.note("margin", "margin 8 ms, not 0: with less, playback ran dry at once")
    status.n_suspends = status.n_overloads = 1
    status.n_missed = 2
    shown = status.snapshot()
    assert shown["notes"] == ["margin 8 ms, not 0: with less, playback ran dry at once"]
    line = plain_line(shown)
    assert line.endswith(
        "1 suspend, 2 missed deadlines, 1 overload; margin 8 ms, not 0: with less, playback ran dry at once"
    )
    assert "latency" not in line  # it is not known yet
    assert "note: margin 8 ms, not 0: with less, playback ran dry at once" in terminal_lines(shown)


def test_levels_are_those_of_every_stream():
    status = Status()
    status.levels_dbfs = (-20.0, -40.0), (-120.0, -120.0)
    shown = status.snapshot()
    assert "in -20.0 -120.0 dBFS, out -40.0 -120.0; reduction 20.0 dB" in plain_line(shown)
    assert shown["level_in_dbfs"] == -23.0  # the mean of their powers


def test_a_service_for_each_sound_card_is_found_unless_there_are_two(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    monkeypatch.setattr(control_socket, "_RUN", Path())
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000)
    own, loopback = (Path("edge-denoise") / card / "edge-denoise.sock" for card in ("Device", "Loopback"))
    own.parent.mkdir(parents=True)
    left_by_a_crash(loopback)
    with ControlServer(own, Status()):
        assert control_socket.listening_path() == own
        with (
            ControlServer(loopback, Status()),
            pytest.raises(Failure, match=f"2 services listen; name one with --socket: {own}, {loopback}"),
        ):
            control_socket.listening_path()


def test_the_journal_is_known_by_its_stream(tmp_path, monkeypatch):
    with (tmp_path / "journal").open("w") as stream:
        status = os.fstat(stream.fileno())
        assert not is_journal(stream)
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert is_journal(stream)
        assert not is_journal(sys.__stderr__)


def test_systemd_hears_ready_once_and_watchdog_only_while_sound_flows(tmp_path, monkeypatch):
    told: list[str] = []
    heart, status = Heartbeat(1.0, told.append), Status()
    heart.beat(status, 0.0)
    status.doing, status.n_hops = ("running", ""), 5
    for now_s in (2.0, 2.5, 4.0):
        heart.beat(status, now_s)
    assert told == ["STATUS=starting", "WATCHDOG=1", "STATUS=running", "READY=1", "WATCHDOG=1"]
    status.doing = "waiting", "a device"
    heart.beat(status, 6.0)
    heart.beat(status, 6.5)
    assert told[-2:] == ["STATUS=waiting: a device", "WATCHDOG=1"]  # `systemctl status` says what it waits for
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "n"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "n"))
        assert notify("READY=1")
        assert systemd.recv(100) == b"READY=1"
    assert not notify("READY=1")
    monkeypatch.setenv("WATCHDOG_USEC", "10000000")
    assert watchdog_s() == 5.0
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_s() is None


# --- as a process, through the real libasound ---------------------------------------------------------------

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
