"""The socket of a running `edge-denoise live`, and `ctl`, which asks and steers it."""

from __future__ import annotations

import json
import os
import pwd
import socket
import stat
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.cli import main
from edge_runtime.errors import Failure
from edge_runtime.live.control import control_socket
from edge_runtime.live.control.control_socket import MAX_BYTES, ControlServer, answer, ask
from edge_runtime.live.control.controls import Settings
from edge_runtime.live.status import Status
from edge_runtime.live.view import press

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
