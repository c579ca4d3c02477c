"""The live loop: one thread that reads a hop, denoises it, writes it, and mends what breaks on the way.

    open -> start (capture runs; the first hop is queued behind the margin; playback runs) -> a cycle a hop
      xrun, suspend, lost track     count it, start again
      disconnected, stalled         count it, close, wait, open again
      overload                      the chain rests its denoiser

Latency, computed as the sound goes: the hop itself, what capture still holds, the chain, what playback holds before the
write. No allocation of sound, no printing and no lock in a cycle; other threads read the Status.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Final

from edge_runtime.alsa_pcm import CAPTURE, PLAYBACK, Block, Direction, Outcome, Pcm, Wish
from edge_runtime.denoiser import Denoiser
from edge_runtime.drift import DriftControl
from edge_runtime.errors import Failure
from edge_runtime.live_chain import Chain, Channels, Sink
from edge_runtime.live_status import OVERLOADED, RUNNING, STOPPED, WAITING, Status
from edge_runtime.stft import HOP_SAMPLES, SAMPLE_RATE_HZ

HOP_S: Final = HOP_SAMPLES / SAMPLE_RATE_HZ
RETRY_S: Final = 0.5
_DRAIN_S: Final = 0.2
_SMOOTHING: Final = 1 / 32  # of the latency: half a second

OpenPcm = Callable[[str, Direction, Wish], Pcm]
OpenDenoisers = Callable[[int], Sequence[Denoiser]]


@dataclass(frozen=True)
class LivePlan:
    """What to run. `margin_ms` is the sound that playback still holds when the next hop is written."""

    capture: str
    playback: str
    channels: Channels = field(default_factory=Channels)
    capture_wish: Wish = field(default_factory=Wish)
    playback_wish: Wish = field(default_factory=Wish)
    margin_ms: float = 12.0
    waits: bool = False  # for devices that are not there at the start
    seconds: float | None = None
    timeout_ms: int = 1000  # without a sample: the device stands still


class LiveLoop:
    """Owns devices and chain while it runs. `open_pcm` and `sleep` are the seams that tests replace."""

    def __init__(
        self,
        plan: LivePlan,
        open_pcm: OpenPcm,
        open_denoisers: OpenDenoisers,
        status: Status,
        tee: Sink | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._plan, self._open_pcm, self._open_denoisers = plan, open_pcm, open_denoisers
        self._status, self._tee, self._sleep = status, tee, sleep
        self._denoisers: Sequence[Denoiser] = ()
        self._drift = DriftControl(HOP_S)
        self._stops = False
        self._n_last = None if plan.seconds is None else round(plan.seconds / HOP_S)

    def stop(self) -> None:
        """From any thread: end after the current hop."""
        self._stops = True

    @property
    def _is_done(self) -> bool:
        return self._stops or (self._n_last is not None and self._status.n_hops >= self._n_last)

    def run(self) -> None:
        """Until `stop` or the plan's end. Failure: a device is not there at the start and the plan does not wait."""
        may_wait = self._plan.waits
        while not self._is_done:
            try:
                self._open()
            except Failure as failure:
                if not may_wait:
                    raise
                self._status.state, self._status.waiting_for = WAITING, str(failure)
                self._sleep(RETRY_S)
                continue
            may_wait = True
            try:
                self._stream()
            finally:
                self._capture.close()
                self._playback.close()
        self._status.state = STOPPED

    def _open(self) -> None:
        """Devices, a denoiser a stream, and the chain between them; nothing stays open after a Failure."""
        plan = self._plan
        with ExitStack() as undo:
            self._capture = self._open_pcm(plan.capture, CAPTURE, plan.capture_wish)
            undo.callback(self._capture.close)
            indices = plan.channels.indices(self._capture.config.n_channels, plan.capture)
            wish = replace(plan.playback_wish, n_channels_near=plan.channels.n_streams)
            self._playback = self._open_pcm(plan.playback, PLAYBACK, wish)
            undo.callback(self._playback.close)
            self._make_chain(indices, plan.channels.n_streams)
            undo.pop_all()

    def _make_chain(self, indices: Sequence[int], n_streams: int) -> None:
        capture, playback, status = self._capture.config, self._playback.config, self._status
        if 1 < n_streams > playback.n_channels:
            what = f"has {playback.n_channels} channel(s) for {n_streams} streams"
            raise Failure(what, where=playback.device, remedy="choose fewer with --channels")
        if len(self._denoisers) != n_streams:
            self._denoisers = self._open_denoisers(n_streams)
        self._chain = Chain(capture, playback, self._denoisers, indices, status, self._tee)
        self._in = self._capture.new_block(self._chain.n_block)
        self._n_out = round(HOP_S * playback.rate_hz)
        self._out = self._playback.new_block(3 * self._n_out)
        self._silence = self._playback.new_block(playback.buffer_pcm_frames)
        self._margin = self._margin_pcm_frames()
        status.capture, status.playback = str(capture), str(playback)
        status.engine = f"{self._denoisers[0].engine.name} {self._denoisers[0].engine.precision}"
        status.chain_ms = 1000 * (self._chain.n_block / capture.rate_hz + self._chain.delay_s)
        self._drift.reset()

    def _margin_pcm_frames(self) -> int:
        """The margin, and what a device moves at once beyond a hop."""
        capture, playback = self._capture.config, self._playback.config
        bulk_s = sum(max(0.0, c.period_pcm_frames / c.rate_hz - HOP_S) for c in (capture, playback))
        margin = round((self._plan.margin_ms / 1000 + bulk_s) * playback.rate_hz)
        return min(margin, playback.buffer_pcm_frames - 2 * self._n_out)

    def _stream(self) -> None:
        """Cycle until the end, or until a device must be opened again."""
        status = self._status
        while True:
            outcome = self._start()
            while outcome is Outcome.DONE and not self._is_done:
                outcome = self._cycle()
            if self._is_done:
                self._play_out()
                return
            if outcome is Outcome.DISCONNECTED:
                status.n_disconnects += 1
                return
            if outcome is Outcome.TIMEOUT:
                status.n_stalls += 1
                return

    def _start(self) -> Outcome:
        """Both clocks run, and playback holds the margin and one hop when it begins."""
        self._drift.restart()
        for pcm in (self._capture, self._playback):
            if (outcome := pcm.prepare()) is not Outcome.DONE:
                return self._counted(outcome, pcm)
        if (outcome := self._capture.start()) is not Outcome.DONE:
            return self._counted(outcome, self._capture)
        if (outcome := self._capture.read(self._in, timeout_ms=self._plan.timeout_ms)) is not Outcome.DONE:
            return self._counted(outcome, self._capture)
        n = self._chain.push(self._in, self._out)
        for block, size in ((self._silence, max(0, self._margin + self._n_out - n)), (self._out, n)):
            if (outcome := self._written(block, size)) is not Outcome.DONE:
                return outcome
        if self._status.state != OVERLOADED:
            self._status.state = RUNNING
        self._status.waiting_for = ""
        return self._counted(self._playback.start(), self._playback)

    def _cycle(self) -> Outcome:
        capture, playback, chain = self._capture, self._playback, self._chain
        outcome = capture.read(self._in, timeout_ms=self._plan.timeout_ms)
        if outcome is not Outcome.DONE:
            return self._counted(outcome, capture)
        unread_s, queued_s = capture.available() / capture.config.rate_hz, playback.queued() / playback.config.rate_hz
        self._note_latency(capture.delay() / capture.config.rate_hz, playback.delay() / playback.config.rate_hz)
        n = chain.push(self._in, self._out)
        outcome = self._written(self._out, n)
        if outcome is Outcome.DONE:
            outcome = self._steer(unread_s + chain.held_s + queued_s)
        return outcome

    def _steer(self, on_the_way_s: float) -> Outcome:
        """Follow the clocks; start again when too much is on the way, or too little."""
        drift, status = self._drift, self._status
        self._chain.ratio = drift.update(on_the_way_s)
        status.drift_ppm, status.drift_is_corrected = 1e6 * (drift.ratio - 1), drift.is_active
        if drift.is_lost:
            status.n_resyncs += 1
            return Outcome.XRUN
        return Outcome.DONE

    def _note_latency(self, capture_s: float, playback_s: float) -> None:
        status = self._status
        now_ms = status.chain_ms + 1000 * (capture_s + playback_s)
        status.latency_ms += (now_ms - status.latency_ms) * (_SMOOTHING if status.latency_ms else 1.0)

    def _written(self, block: Block, n_pcm_frames: int) -> Outcome:
        return self._counted(self._playback.write(block, n_pcm_frames, self._plan.timeout_ms), self._playback)

    def _counted(self, outcome: Outcome, pcm: Pcm) -> Outcome:
        status = self._status
        if outcome is Outcome.SUSPENDED:
            status.n_suspends += 1
        elif outcome is Outcome.XRUN and pcm.config.direction is CAPTURE:
            status.n_overruns += 1
            self._chain.miss_deadline()
        elif outcome is Outcome.XRUN:
            status.n_underruns += 1
            self._chain.miss_deadline()
        return outcome

    def _play_out(self) -> None:
        """What is queued is heard before the device is closed."""
        until_s = time.monotonic() + _DRAIN_S
        while self._playback.queued() > 0 and time.monotonic() < until_s:
            self._sleep(0.005)
