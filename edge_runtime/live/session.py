"""A live session: the loop in its thread; around it rights, signals, view, keyboard, control socket and recording."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_runtime.alsa import device
from edge_runtime.denoiser import Denoiser
from edge_runtime.live.control.control_socket import ControlServer
from edge_runtime.live.control.kept_settings import Keeper
from edge_runtime.live.control.systemd import is_journal, notify, watchdog_s
from edge_runtime.live.loop import LiveLoop, LivePlan, OpenDenoisers
from edge_runtime.live.realtime import (
    AUDIO_PRIORITY,
    Granted,
    no_garbage_collection,
    no_runaway,
    set_priority,
    take_rights,
)
from edge_runtime.live.status import STARTING, Status
from edge_runtime.live.tee import Recording
from edge_runtime.live.view import View, keyboard, press
from edge_runtime.manifest import Artifact

_TICK_S: Final = 0.05
_SWITCH_S: Final = 0.0005  # how long another thread may keep the interpreter's lock from the audio thread


def run_live(
    plan: LivePlan,
    open_denoisers: OpenDenoisers,
    status: Status,
    keeper: Keeper,
    *,
    socket_path: Path | None,
    tee_prefix: Path | None,
    as_json: bool,
    in_real_time: bool = True,
) -> dict[str, Any]:
    """Until the plan's end, a signal or `q`; returns the last status. Failure: it could not begin, or cannot go on."""
    recording = Recording(tee_prefix, plan.channels.n_streams)
    loop = LiveLoop(plan, device.open_pcm, open_denoisers, status, recording.open, cpu_ns=time.process_time_ns)
    with ExitStack() as stack:
        # First in, last out, when all is recorded: who presses Ctrl-C twice loses nothing.
        stack.enter_context(_signals_stop(loop, status))
        stack.callback(recording.close)
        if socket_path is not None:
            stack.enter_context(ControlServer(socket_path, status))
        keys = stack.enter_context(keyboard())
        if in_real_time:
            stack.enter_context(no_runaway())
            _say_what_is_missing(take_rights())
        stack.enter_context(_quick_switches())
        stack.enter_context(no_garbage_collection())
        view = View(sys.stdout, as_json=as_json, is_terminal=sys.stdout.isatty(), is_journal=is_journal(sys.stdout))
        _Watch(loop, status, keeper, recording, view, keys).run(in_real_time=in_real_time)
    keeper.forget()
    status.tee = recording.line
    return status.snapshot()


@dataclass(frozen=True)
class _Watch:
    """The loop in its thread, and everything that goes on beside it in this one."""

    loop: LiveLoop
    status: Status
    keeper: Keeper
    recording: Recording
    view: View
    keys: Callable[[], list[str]]

    def run(self, *, in_real_time: bool) -> None:
        """Until the loop ends, and an error of it goes on."""
        failed: list[Exception] = []
        audio = threading.Thread(target=_run, args=(self.loop, failed, in_real_time), name="audio", daemon=True)
        audio.start()
        heart = Heartbeat(watchdog_s())
        try:
            while audio.is_alive():
                audio.join(_TICK_S)
                self._tick(heart)
        finally:
            self.loop.stop()
            audio.join()
            notify("STOPPING=1")
        if failed:
            raise failed[0]

    def _tick(self, heart: Heartbeat) -> None:
        self.status.tee = self.recording.line
        if not all(press(key, self.status) for key in self.keys()):
            self.loop.stop()
        self.keeper.keep(self.status.settings)
        now_s = time.monotonic()
        heart.beat(self.status, now_s)
        self.view.draw(self.status, now_s)


class Heartbeat:
    """READY once sound flows; WATCHDOG only while hops are made, or a device is awaited: never for a stuck loop."""

    def __init__(self, interval_s: float | None, send: Callable[[str], object] = notify) -> None:
        self._interval_s, self._send = interval_s, send
        self._is_ready = False
        self._next_s = 0.0
        self._n_hops = -1
        self._said = ""

    def beat(self, status: Status, now_s: float) -> None:
        """Call often."""
        state, waiting_for = status.doing
        said = f"{state}: {waiting_for}" if waiting_for else state
        if said != self._said:  # what `systemctl status` says
            self._said = said
            self._send(f"STATUS={' '.join(said.split())}")
        if not self._is_ready and state != STARTING:
            self._is_ready = True
            self._send("READY=1")
        if self._interval_s is None or now_s < self._next_s:
            return
        n_hops = status.n_hops
        if n_hops != self._n_hops or waiting_for:
            self._next_s, self._n_hops = now_s + self._interval_s, n_hops
            self._send("WATCHDOG=1")


def _run(loop: LiveLoop, failed: list[Exception], in_real_time: bool) -> None:
    if in_real_time:
        set_priority(AUDIO_PRIORITY)
    try:
        loop.run()
    except Exception as error:
        failed.append(error)


def _say_what_is_missing(granted: Granted) -> None:
    for line in granted.lines:
        print(f"edge-denoise: note: {line}", file=sys.stderr)


@contextmanager
def _quick_switches() -> Iterator[None]:
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before_s)


@contextmanager
def _signals_stop(loop: LiveLoop, status: Status) -> Iterator[None]:
    """SIGINT, SIGTERM and, where nobody decided otherwise (nohup), SIGHUP end the stream after its hop."""

    def stop(number: int, _frame: object) -> None:
        status.stopped_by = number
        loop.stop()

    numbers = [signal.SIGINT, signal.SIGTERM]
    numbers += [signal.SIGHUP] if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN else []
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def denoisers_of(artifact: Artifact, engine: str, precision: str, n_threads: int) -> OpenDenoisers:
    """So many denoisers of one model."""

    def open_them(n_streams: int) -> Sequence[Denoiser]:
        return [Denoiser.open(artifact, engine, precision, n_threads) for _ in range(n_streams)]

    return open_them
