"""A live stream for the eye: lines that redraw themselves on a terminal, plain lines elsewhere, or lines of JSON.

News are told at once, but not faster than they can be read: a hub that breaks the stream twenty times a second fills no
journal. What was not told at once is in the next regular line.
"""

from __future__ import annotations

import json
import os
import select
import sys
import termios
import textwrap
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TextIO

from edge_runtime.errors import counted, printable
from edge_runtime.live.control.controls import Settings
from edge_runtime.live.status import STARTING, STOPPED, Status

KEYS: Final = "b bypass   up/down strength   l/L limit   g gate   r reset   q quit"
_METER_DB: Final = 60
_METER_WIDTH: Final = 30
_PLAIN_S, _JSON_S, _TERMINAL_S, _JOURNAL_S = 10.0, 1.0, 0.25, 600.0
_MOST_NEWS: Final = 4  # at once; then one an interval, in the journal one a minute
_NEWS_S: Final = 60.0
_NEWS: Final = (
    *("state", "waiting_for", "settings", "notes", "tee"),
    *("xruns", "suspends", "disconnects", "stalls", "overloads"),
)
_LOCAL_FLAGS: Final = 3  # of tcgetattr(3)
_LIMITS_DB: Final = (float("inf"), 24.0, 18.0, 12.0, 6.0)
_GATES_DBFS: Final = (float("-inf"), -60.0, -50.0, -40.0)


class View:
    """Draws a Status when asked; says what changed between plain lines at once."""

    def __init__(self, out: TextIO, *, as_json: bool, is_terminal: bool, is_journal: bool = False) -> None:
        self._out, self._as_json, self._is_terminal = out, as_json, is_terminal and not as_json
        intervals_s = ((as_json, _JSON_S), (is_terminal, _TERMINAL_S), (is_journal, _JOURNAL_S), (True, _PLAIN_S))
        self.interval_s = next(seconds for is_so, seconds in intervals_s if is_so)
        self._news_s = min(self.interval_s, _NEWS_S)
        self._n_news, self._earned_s = float(_MOST_NEWS), 0.0  # that may be told, as of when
        self._n_drawn = 0
        self._next_s = 0.0
        self._last_event: list[Any] = []

    def draw(self, status: Status, now_s: float) -> None:
        """If it is time, or if something happened: first once the stream has started, last before it has stopped, for
        the last line is whoever's who called."""
        is_event = _event(status.news()) != self._last_event
        if now_s < self._next_s and not (is_event and self._may_tell(now_s)):
            return
        shown = status.snapshot()  # what is told is what was looked at: the audio thread goes on meanwhile
        if shown["state"] in (STARTING, STOPPED):
            return
        self._next_s, self._last_event = now_s + self.interval_s, _event(shown)
        try:
            self._tell(shown)
        except BrokenPipeError:  # who read it has left
            raise
        except OSError:  # a full disk: the sound goes on
            pass

    def _tell(self, shown: dict[str, Any]) -> None:
        if self._as_json:
            print(json.dumps(shown), file=self._out, flush=True)
        elif self._is_terminal:
            self._redraw(terminal_lines(shown))
        else:
            print(plain_line(shown), file=self._out, flush=True)

    def _may_tell(self, now_s: float) -> bool:
        """Whether one more of the news may be told now; it then was."""
        self._n_news = min(_MOST_NEWS, self._n_news + (now_s - self._earned_s) / self._news_s)
        self._earned_s = now_s
        if self._n_news < 1:
            return False
        self._n_news -= 1
        return True

    def _redraw(self, lines: list[str]) -> None:
        width = os.get_terminal_size(self._out.fileno()).columns or 80  # a serial line knows of none
        shown = [
            part
            for line in lines
            for part in textwrap.wrap(printable(line), max(20, width - 1), subsequent_indent="     ")
        ]
        up = f"\033[{self._n_drawn}A" if self._n_drawn else ""
        self._out.write(up + "".join(f"\033[2K{part}\n" for part in shown) + "\033[J")
        self._out.flush()
        self._n_drawn = len(shown)


def plain_line(shown: dict[str, Any]) -> str:
    """Everything on one line."""
    if shown["waiting_for"]:
        state = "stopped while it waited" if shown["state"] == STOPPED else shown["state"]
        return printable(f"{state}: {shown['waiting_for']}")
    frame, xruns, levels = shown["frame_ms"], shown["xruns"], _levels(shown)
    parts = [
        f"{shown['state']} {shown['seconds']:.0f} s",
        f"in {levels['in']} dBFS, out {levels['out']}",
        f"reduction {shown['reduction_db']:.1f} dB",
        f"frame {frame['p50']:.2f}/{frame['p99']:.2f} of {frame['budget']:.0f} ms",
        f"xruns {xruns['capture']}+{xruns['playback']}",
        f"latency {shown['latency_ms']:.1f} ms" if shown["latency_ms"] is not None else "",
        _controls(shown["settings"]),
        f"input gain {shown['input_gain_db']:+.1f} dB" if shown["input_gain_db"] else "",
        f"clocks {shown['drift_ppm']:+.0f} ppm" if shown["drift_is_corrected"] else "",
        _troubles(shown),
        shown["tee"],
        *shown["notes"],
    ]
    return printable("; ".join(part for part in parts if part))


def terminal_lines(shown: dict[str, Any]) -> list[str]:
    """The same as a small panel."""
    frame, xruns = shown["frame_ms"], shown["xruns"]
    drift = f", clocks {shown['drift_ppm']:+.0f} ppm" if shown["drift_is_corrected"] else ""
    latency = f"; latency {shown['latency_ms']:.1f} ms" if shown["latency_ms"] is not None else ""
    return [
        f"in   {_meter(shown['level_in_dbfs'])}   {shown['state']}",
        f"out  {_meter(shown['level_out_dbfs'])}   reduction {shown['reduction_db']:.1f} dB",
        *([f"waiting: {shown['waiting_for']}"] if shown["waiting_for"] else []),
        f"{shown['engine']}: frame p50 {frame['p50']:.2f}, p99 {frame['p99']:.2f} of {frame['budget']:.0f} ms"
        f"{latency}{drift}",
        f"xruns {xruns['capture']} capture, {xruns['playback']} playback; {_troubles(shown) or 'no other trouble'}",
        f"{_controls(shown['settings'])}{'; ' + shown['tee'] if shown['tee'] else ''}",
        *([f"input gain {shown['input_gain_db']:+.1f} dB"] if shown["input_gain_db"] else []),
        *(f"note: {note}" for note in shown["notes"]),
        KEYS,
    ]


def _levels(shown: dict[str, Any]) -> dict[str, str]:
    """Of every stream."""
    return {side: " ".join(f"{one[f'level_{side}_dbfs']:.1f}" for one in shown["streams"]) for side in ("in", "out")}


def _controls(settings: dict[str, Any]) -> str:
    limit = "off" if settings["limit_db"] is None else f"{settings['limit_db']:g} dB"
    gate = "off" if settings["gate_dbfs"] is None else f"{settings['gate_dbfs']:g} dBFS"
    bypass = "BYPASS, " if settings["bypass"] else ""
    return f"{bypass}strength {settings['strength']:.2f}, limit {limit}, gate {gate}"


def _troubles(shown: dict[str, Any]) -> str:
    names: tuple[str, ...] = ("suspends", "disconnects", "stalls", "resyncs")
    names = (*names, "failed_starts", "missed_deadlines", "overloads", "repaired_samples")
    return ", ".join(counted(shown[name], name.removesuffix("s").replace("_", " ")) for name in names if shown[name])


def _event(news: dict[str, Any]) -> list[Any]:
    """Changes when something happened that should not wait for the next line, and will be in it."""
    return [news[name] for name in (_NEWS[:2] if news["waiting_for"] else _NEWS)]


def _meter(level_dbfs: float) -> str:
    n = round(max(0.0, min(1.0, 1 + level_dbfs / _METER_DB)) * _METER_WIDTH)
    return f"[{'#' * n}{' ' * (_METER_WIDTH - n)}] {level_dbfs:6.1f} dBFS"


def press(key: str, status: Status) -> bool:
    """Do what a key says; False: the user wants to leave."""
    if key == "r":
        status.wants_reset = True
    elif how := _KEYS.get(key):
        status.change(how)
    return key != "q"


def _stronger(by: float, now: Settings) -> Settings:
    return now._replace(strength=min(1.0, max(0.0, round(now.strength + by, 2))))


def _limited(step: int, now: Settings) -> Settings:
    return now._replace(limit_db=_next(_LIMITS_DB, now.limit_db, step))


_KEYS: Final[dict[str, Callable[[Settings], Settings]]] = {
    "b": lambda now: now._replace(bypass=not now.bypass),
    **dict.fromkeys(("+", "up"), partial(_stronger, 0.1)),
    **dict.fromkeys(("-", "down"), partial(_stronger, -0.1)),
    "l": partial(_limited, 1),
    "L": partial(_limited, -1),
    "g": lambda now: now._replace(gate_dbfs=_next(_GATES_DBFS, now.gate_dbfs, 1)),
}


def _next(choices: tuple[float, ...], now: float, step: int) -> float:
    """The neighbour of `now`; from a value that is none of the choices, the first."""
    return choices[(choices.index(now) + step) % len(choices)] if now in choices else choices[0]


@contextmanager
def keyboard() -> Iterator[Callable[[], list[str]]]:
    """Standard input key by key, while it is a terminal that this program has in its foreground; as it was, afterwards.
    Who stops a program (Ctrl-Z) and lets it go on behind a shell (bg) types for the shell: to read then, or to set the
    terminal, would stop it again."""
    fd = sys.stdin.fileno() if sys.stdin and sys.stdin.isatty() else None
    if fd is None:
        yield list
        return
    before = termios.tcgetattr(fd)

    def keys() -> list[str]:
        if not _is_in_front(fd):
            return []
        if termios.tcgetattr(fd)[_LOCAL_FLAGS] & termios.ICANON:  # at first, and after a shell has had it
            tty.setcbreak(fd)
        return pressed(fd)

    try:
        yield keys
    finally:
        if _is_in_front(fd):
            termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _is_in_front(fd: int) -> bool:
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:  # it hung up, or is no terminal of this session
        return False


_ARROWS: Final = {"\033[A": "up", "\033[B": "down"}


def pressed(fd: int) -> list[str]:
    """Keys that wait to be read."""
    if not select.select([fd], [], [], 0)[0]:
        return []
    text = os.read(fd, 64).decode(errors="ignore")
    for code, name in _ARROWS.items():
        text = text.replace(code, f" {name} ")
    return [key for word in text.split() for key in ([word] if word in _ARROWS.values() else word)]
