"""The live loop: one thread that reads a hop, denoises it, writes it, and mends what breaks on the way.

    open -> settle (both clocks run on silence, then playback is left with the margin) -> a cycle a hop
      xrun, suspend, lost track     count it, start again; with more margin where it was too small
      disconnected, stalled         count it, close, open again; wait where it cannot be opened, or ran for a moment
      overload                      the chain rests its denoiser

Latency, computed as the sound goes: the hop itself, what capture still holds, the chain, what playback holds before the
write. `reported` counts what the devices say instead (snd_pcm_delay): a card adds its converters, PipeWire 0.3 adds a
whole quantum or two that the sound does not wait. In a cycle no sound is allocated, nothing is printed and no lock is
taken; other threads read the Status.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Final

from edge_runtime.alsa.pcm import CAPTURE, PLAYBACK, Block, Direction, Outcome, Pcm, Unfit, Wish
from edge_runtime.denoiser import Denoiser
from edge_runtime.errors import Failure
from edge_runtime.live.chain import Chain, Sink
from edge_runtime.live.channels import Channels
from edge_runtime.live.drift import DriftControl
from edge_runtime.live.margin import FIRM_HOPS, Margin
from edge_runtime.live.realtime import give_back_priority
from edge_runtime.live.sound.front import FrontSettings
from edge_runtime.live.status import OVERLOADED, RUNNING, STOPPED, WAITING, Status
from edge_runtime.stft import HOP_SAMPLES, SAMPLE_RATE_HZ

HOP_S: Final = HOP_SAMPLES / SAMPLE_RATE_HZ
RETRY_S: Final = 0.5
_FUTILE_STARTS: Final = 8  # in a row, without a sample: PipeWire's plugin calls its server's loss an xrun, for ever
_MOST_TO_FALL: Final = 16  # hops, for a playback buffer to fall to the margin
_DRAIN_NS: Final = 200_000_000
_SMOOTHING: Final = 1 / 32  # of the latency: half a second

OpenPcm = Callable[[str, Direction, Wish], Pcm]
OpenDenoisers = Callable[[int], Sequence[Denoiser]]


@dataclass(frozen=True, kw_only=True)
class LivePlan:
    """What to run. `margin_ms` is the sound that playback still holds when the next hop is written."""

    capture: str
    playback: str
    channels: Channels = field(default_factory=Channels)
    capture_wish: Wish = field(default_factory=Wish)
    playback_wish: Wish = field(default_factory=Wish)
    band: str | None = None  # see `band.chosen`
    front: FrontSettings = field(default_factory=FrontSettings)
    margin_ms: float = 12.0
    settle_ms: float = 300.0  # a sound server takes some cycles to link a stream that begins
    waits: bool = False  # for devices that are not there at the start
    seconds: float | None = None
    timeout_ms: int = 1000  # without a sample: the device stands still


class LiveLoop:
    """Owns devices and chain while it runs. `open_pcm`, `sleep` and the clocks are the seams that tests replace."""

    def __init__(
        self,
        plan: LivePlan,
        open_pcm: OpenPcm,
        open_denoisers: OpenDenoisers,
        status: Status,
        open_tee: Callable[[], Sink | None] = lambda: None,
        sleep: Callable[[float], None] = time.sleep,
        now_ns: Callable[[], int] = time.perf_counter_ns,
        cpu_ns: Callable[[], int] | None = None,
    ) -> None:
        self._plan, self._open_pcm, self._open_denoisers = plan, open_pcm, open_denoisers
        self._status, self._open_tee, self._sleep, self._clocks = status, open_tee, sleep, (now_ns, cpu_ns)
        self._tee: Sink | None = None
        self._denoisers: Sequence[Denoiser] = ()
        self._drift, self._margin = DriftControl(HOP_S), Margin(plan.margin_ms)
        self._stops = False
        self._n_last = None if plan.seconds is None else round(plan.seconds / HOP_S)

    def stop(self) -> None:
        """From any thread: end after the current hop."""
        self._stops = True

    @property
    def _is_done(self) -> bool:
        return self._stops or (self._n_last is not None and self._status.n_hops >= self._n_last)

    def run(self) -> None:
        """Until `stop` or the plan's end. Failure: a device is not there at the start and the plan does not wait, or it
        is there and can never do what is asked."""
        has_run = False
        # Before the devices: a card that is open and not read overruns while a model loads.
        self._denoisers = self._open_denoisers(self._plan.channels.n_streams)
        while not self._is_done:
            try:
                self._open()
            except Failure as failure:
                if not has_run and (not self._plan.waits or isinstance(failure, Unfit)):
                    raise
                self._wait(failure)
                continue
            has_run, n_before = True, self._status.n_hops
            try:
                self._tee = self._chain.tee = self._tee or self._open_tee()
                self._stream()
            finally:
                self._capture.close()
                self._playback.close()
            n_hops = self._status.n_hops - n_before
            if n_hops < FIRM_HOPS and not self._is_done:
                self._wait(_broken(*self._broken_by, n_hops))
        self._status.doing = STOPPED, self._status.doing[1]

    def _wait(self, failure: Failure) -> None:
        """Until it may be tried again."""
        self._status.doing = WAITING, str(failure)
        self._status.silence()
        self._sleep(RETRY_S)

    def _open(self) -> None:
        """Both devices, as they must be, and the chain between; nothing stays open after a Failure."""
        plan = self._plan
        buffer_ms = self._margin.buffer_ms(plan.playback_wish.period_ms)
        with ExitStack() as undo:
            wish = replace(plan.capture_wish, least_buffer_ms=buffer_ms)
            self._capture = self._open_pcm(plan.capture, CAPTURE, wish)
            undo.callback(self._capture.close)
            plan.channels.indices(self._capture.config.n_channels, plan.capture)  # or a Failure
            wish = replace(plan.playback_wish, n_channels_near=plan.channels.n_streams, least_buffer_ms=buffer_ms)
            self._playback = self._open_pcm(plan.playback, PLAYBACK, wish)
            undo.callback(self._playback.close)
            n_streams, n_channels = plan.channels.n_streams, self._playback.config.n_channels
            if 1 < n_streams > n_channels:
                what = f"has {n_channels} channel(s) for {n_streams} streams"
                remedy = "choose fewer with --channels"
                raise Unfit(what, where=self._playback.config.device, remedy=remedy)
            self._margin.fit(self._capture.config, self._playback.config)
            try:
                self._make_chain()
            except Failure as failure:
                raise Unfit(failure.what, where=plan.capture, remedy=failure.remedy) from None
            undo.pop_all()

    def _make_chain(self) -> None:
        capture, playback, status = self._capture.config, self._playback.config, self._status
        chooses = self._plan.channels
        how = self._plan.band, self._plan.front
        self._chain = Chain(capture, playback, self._denoisers, chooses, status, *how, *self._clocks)
        self._in = self._capture.new_block(self._chain.n_most)
        self._n_in = round(HOP_S * capture.rate_hz)
        self._n_out = round(HOP_S * playback.rate_hz)
        self._out = self._playback.new_block(3 * self._n_out)
        self._silence = self._playback.new_block(playback.buffer_pcm_frames)
        status.capture, status.playback = str(capture), str(playback)
        status.engine = f"{self._denoisers[0].engine.name} {self._denoisers[0].engine.precision}"
        status.chain_ms = 1000 * (HOP_S + self._chain.delay_s)
        self._drift.reset()
        self._is_settled = False
        self._is_timed = True  # ALSA's null and file devices have no clock: always full, always empty
        both = self._capture, self._playback
        self._first_steps = ((both[0].prepare, both[0]), (both[1].prepare, both[1]), (both[0].start, both[0]))

    def _stream(self) -> None:
        """Cycle until the end, or until a device must be opened again."""
        status, n_futile = self._status, 0
        while n_futile < _FUTILE_STARTS:
            n_before, self._n_reads, self._ran_dry = status.n_hops, 0, False
            status.margin_ms = self._margin.ms
            status.note("margin", self._margin.note)
            outcome = self._start()
            if outcome is not Outcome.DONE and not self._is_settled:
                status.n_starts += 1
            while outcome is Outcome.DONE and not self._is_done:
                outcome = self._cycle()
            if self._is_done:
                self._play_out()
                return
            if outcome is Outcome.DISCONNECTED:
                break
            if outcome is Outcome.TIMEOUT:
                status.n_stalls += 1
                return
            n_futile = 0 if self._n_reads else n_futile + 1
            self._margin.ended(status.n_hops - n_before, self._ran_dry)
        status.n_disconnects += 1

    def _start(self) -> Outcome:
        """Both clocks run, the first hop is written, and playback holds the margin besides."""
        self._drift.restart(self._margin.pcm_frames / self._playback.config.rate_hz)
        for step, pcm in self._first_steps:
            if (outcome := step()) is not Outcome.DONE:
                return self._counted(outcome, pcm)
        if not self._is_settled and (outcome := self._settle()) is not Outcome.DONE:
            return outcome
        n_late = self._chain.n_wanted - self._n_in
        if (outcome := self._read()) is not Outcome.DONE:
            return outcome
        n, n_lead = self._first_hop(n_late)
        for block, size in ((self._silence, n_lead), (self._out, n)):
            if (outcome := self._written(block, size)) is not Outcome.DONE:
                return outcome
        self._status.doing = OVERLOADED if self._chain.overload.is_resting else RUNNING, ""
        if self._is_settled:
            return self._counted(self._playback.start(), self._playback)
        self._is_settled = True
        return outcome

    def _first_hop(self, n_late: int) -> tuple[int, int]:
        """pcm_frames of it in `_out`, and of the silence before it. Playback that stands still gets the margin, less
        what capture holds already: it would be on the way as well. Running, it was left with it by `_settle`."""
        capture_hz, playback_hz = self._capture.config.rate_hz, self._playback.config.rate_hz
        now_ns, _ = self._clocks
        held_s, read_ns = self._capture.available() / capture_hz, now_ns()
        n = self._chain.push(self._in[: self._n_read], self._out)
        n_lead = self._n_out - n
        if self._is_settled:
            held_s += (now_ns() - read_ns) / 1e9
            n_lead += self._margin.pcm_frames - round(held_s * playback_hz)
        else:
            n_lead += round(n_late * playback_hz / capture_hz)
        return n, max(0, n_lead)

    def _settle(self) -> Outcome:
        """Silence through both devices until they run evenly; then playback falls, or is filled, to the margin."""
        n_full = self._playback.config.buffer_pcm_frames - self._n_out
        if (outcome := self._written(self._silence, n_full)) is not Outcome.DONE:
            return outcome
        if (outcome := self._counted(self._playback.start(), self._playback)) is not Outcome.DONE:
            return outcome
        n_hops = round(self._plan.settle_ms / 1000 / HOP_S)
        n_excess = self._n_out + 1  # at least one look
        while not self._is_done and (n_hops > 0 or (n_excess > self._n_out and n_hops > -_MOST_TO_FALL)):
            if (outcome := self._read(self._n_in)) is not Outcome.DONE:
                return outcome
            n_hops -= 1
            n_excess = round(self._on_the_way_s() * self._playback.config.rate_hz) - self._margin.pcm_frames
            n = self._n_out if n_hops > 0 else max(0, self._n_out - n_excess)
            if (outcome := self._written(self._silence, n)) is not Outcome.DONE:
                return outcome
        self._is_timed = n_excess <= self._n_out
        if not self._is_timed:
            give_back_priority()  # it never waits: with a real-time priority nothing else would run
        return Outcome.DONE

    def _cycle(self) -> Outcome:
        if (outcome := self._read()) is not Outcome.DONE:
            return outcome
        on_the_way_s = self._on_the_way_s()
        self._note_latency(on_the_way_s)
        n = self._chain.push(self._in[: self._n_read], self._out)
        if (outcome := self._written(self._out, n)) is not Outcome.DONE:
            return outcome
        return self._steer(on_the_way_s)

    def _read(self, n_pcm_frames: int | None = None) -> Outcome:
        """What completes a hop, or so many."""
        self._n_read = self._chain.n_wanted if n_pcm_frames is None else n_pcm_frames
        outcome = self._counted(self._capture.read(self._in, self._n_read, self._plan.timeout_ms), self._capture)
        self._n_reads += outcome is Outcome.DONE
        return outcome

    def _on_the_way_s(self) -> float:
        """Sound that capture still holds and that playback still holds."""
        capture, playback = self._capture, self._playback
        return capture.available() / capture.config.rate_hz + playback.queued() / playback.config.rate_hz

    def _steer(self, on_the_way_s: float) -> Outcome:
        """Follow the clocks; start again when too much is on the way, or too little."""
        drift, status = self._drift, self._status
        if not self._is_timed:
            return Outcome.DONE
        self._chain.ratio = drift.update(on_the_way_s)
        status.drift_ppm, status.drift_is_corrected = 1e6 * drift.difference, drift.is_active
        if drift.is_lost:
            status.n_resyncs += 1
            return Outcome.XRUN
        return Outcome.DONE

    def _note_latency(self, held_s: float) -> None:
        """By what the devices' buffers hold, and by what the devices say of themselves."""
        status, capture, playback = self._status, self._capture, self._playback
        reported_s = capture.delay() / capture.config.rate_hz + playback.delay() / playback.config.rate_hz
        weight = _SMOOTHING if status.latency_ms else 1.0
        status.latency_ms += (status.chain_ms + 1000 * held_s - status.latency_ms) * weight
        status.reported_ms += (status.chain_ms + 1000 * reported_s - status.reported_ms) * weight

    def _written(self, block: Block, n_pcm_frames: int) -> Outcome:
        return self._counted(self._playback.write(block, n_pcm_frames, self._plan.timeout_ms), self._playback)

    def _counted(self, outcome: Outcome, pcm: Pcm) -> Outcome:
        status = self._status
        if outcome is not Outcome.DONE:
            self._broken_by = pcm, outcome
        if outcome is Outcome.SUSPENDED:
            status.n_suspends += 1
        elif outcome is Outcome.XRUN:
            is_playback = pcm.config.direction is PLAYBACK
            self._ran_dry = is_playback and not self._chain.is_to_blame
            if self._is_settled:  # before that nothing was to be heard
                status.n_underruns += is_playback
                status.n_overruns += not is_playback
                self._chain.blame()
        return outcome

    def _play_out(self) -> None:
        """What is queued is heard before the device is closed."""
        now_ns, _ = self._clocks
        until_ns = now_ns() + _DRAIN_NS
        while self._playback.queued() > 0 and now_ns() < until_ns:
            self._sleep(0.005)


def _broken(pcm: Pcm, outcome: Outcome, n_hops: int) -> Failure:
    """A device that can be opened, and does not run, or not for long."""
    runs = "runs for a moment" if n_hops else "does not run"
    why = "its clock stands still" if outcome is Outcome.TIMEOUT else os.strerror(pcm.last_errno)
    remedy = "plug it in anew, or choose another: `edge-denoise devices` lists them"
    return Failure(f"{pcm.config.direction} opens and {runs} ({why})", where=pcm.config.device, remedy=remedy)
