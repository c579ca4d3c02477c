"""A running stream for the eye, for its keys, for the journal and for systemd."""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
from pathlib import Path

import pytest

from edge_runtime.live.control.controls import Settings
from edge_runtime.live.control.systemd import is_journal, notify, watchdog_s
from edge_runtime.live.session import Heartbeat
from edge_runtime.live.status import Status
from edge_runtime.live.view import View, keyboard, plain_line, press, pressed, terminal_lines


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
