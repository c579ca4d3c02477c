"""`edge-denoise latency`: plays a stimulus, records what comes back, says how late: `round_trip` finds it.

The loop is that of `live`: a period is read, a period is written, a margin lies between. So the round trip is all that
a live stream takes but for the denoiser's own 16 ms: the period, both buffers, both converters, and the way between
loudspeaker and microphone. From a sample of the capture stream to the one that is recorded when it is played at once.
Playback that cannot run at the rate of capture gets its own, through one of `live`'s rate converters, which is told.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from itertools import cycle, islice
from typing import Any, Final, Protocol

import numpy as np

from edge_runtime.alsa.device import open_pcm
from edge_runtime.alsa.pcm import CAPTURE, PLAYBACK, Outcome, Pcm, Unfit, Wish
from edge_runtime.alsa.samples import SampleConverter
from edge_runtime.denoiser import repair
from edge_runtime.doctor.round_trip import AMPLITUDE, find, mls, summarise
from edge_runtime.errors import Failure, counted
from edge_runtime.live.sound.fifo import Fifo
from edge_runtime.live.sound.rate import RateConverter
from edge_runtime.stft import Float32Array

N_REPEATS: Final = 5
MAX_ROUND_TRIP_S: Final = 1.0  # what is looked for; a Bluetooth loudspeaker has 0.3 s
_SETTLE_S: Final = 0.25  # a resampler's and a server's first moments are not counted
_N_SETTLE: Final = 20
_MORE: Final = "give it more: `--margin-ms 32`, or stop what else runs; see `edge-denoise doctor`"


class Duplex(Protocol):
    """Two ends, to be used at one rate."""

    rate_hz: int
    period_samples: int
    n_xruns: int  # so far
    playback_rate_hz: int  # of the device
    converter_ms: float  # what a converter between the rates adds; 0: there is none

    def exchange(self, played: Float32Array) -> Float32Array:
        """Read as many samples as are in `played`, then write those; both (n,)."""


def measure(duplex: Duplex, n_repeats: int = N_REPEATS, max_round_trip_s: float = MAX_ROUND_TRIP_S) -> dict[str, Any]:
    """The round trip of `duplex`, figures as JSON. Failure: the stimulus is not heard, or the stream keeps breaking.

    Every other repeat plays it backwards, which is another MLS: one that comes too late is not taken for its successor.
    """
    forward = mls()
    stimuli = list(islice(cycle((forward, np.ascontiguousarray(forward[::-1]))), n_repeats))
    wait = np.zeros(round(max_round_trip_s * duplex.rate_hz), np.float32)
    sounds = [np.concatenate((AMPLITUDE * stimulus, wait)) for stimulus in stimuli]
    _settle(duplex)
    recordings = [_undisturbed(duplex, sound) for sound in sounds]  # searched later: that takes longer than a period
    n_broken = sum(recording is None for recording in recordings)
    if 2 * n_broken >= n_repeats:
        raise Failure(f"xruns in {n_broken} of {n_repeats} repeats", remedy=_MORE)
    heard = [find(r, s, duplex.rate_hz) for r, s in zip(recordings, stimuli, strict=True) if r is not None]
    rates = {"playback_rate_hz": duplex.playback_rate_hz, "converter_ms": round(duplex.converter_ms, 2)}
    return {**summarise(heard, duplex.rate_hz)._asdict(), "n_xruns": duplex.n_xruns, **rates}


class AlsaDuplex:
    """Two ALSA devices, driven as `live` drives them. Failure: they cannot be opened, or are gone.

    Playback begins with a period and `margin_ms` of silence, as a live stream's does.
    """

    def __init__(
        self, capture: str, playback: str, wish: Wish, margin_ms: float, open_pcm: Callable[..., Pcm] = open_pcm
    ) -> None:
        wish = replace(wish, least_buffer_ms=margin_ms + 2 * wish.period_ms)
        with ExitStack() as undo:
            self._capture = undo.enter_context(open_pcm(capture, CAPTURE, wish))
            heard = self._capture.config
            try:
                opened = open_pcm(playback, PLAYBACK, replace(wish, rate_hz=heard.rate_hz))
            except Unfit:
                if wish.rate_hz is not None:
                    raise
                opened = open_pcm(playback, PLAYBACK, wish)
            self._playback = undo.enter_context(opened)
            self._close = undo.pop_all().close
        played = self._playback.config
        self.rate_hz, self.period_samples, self.n_xruns = heard.rate_hz, heard.period_pcm_frames, 0
        self.playback_rate_hz, n = played.rate_hz, self.period_samples
        differ = heard.rate_hz != played.rate_hz
        self._converter = RateConverter(heard.rate_hz, played.rate_hz, 1, n) if differ else None
        self.converter_ms = 1000 * self._converter.delay_s if self._converter else 0.0
        n_out = self._converter.n_most if self._converter else n
        self._at_once = Fifo(1, n_out)
        self._in, self._out = self._capture.new_block(n), self._playback.new_block(n_out)
        self._heard = np.zeros((heard.n_channels, n), np.float32)
        self._played = np.zeros((played.n_channels, n_out), np.float32)
        self._decoder = SampleConverter(heard.sample_format, heard.n_channels, n)
        self._encoder = SampleConverter(played.sample_format, played.n_channels, n_out)
        ahead_s = n / heard.rate_hz + (margin_ms + self.converter_ms) / 1000
        self._silence = self._playback.new_block(min(round(ahead_s * played.rate_hz), played.buffer_pcm_frames))

    def __enter__(self) -> AlsaDuplex:
        self._start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._close()

    def exchange(self, played: Float32Array) -> Float32Array:
        """One period; after an xrun both start again, and what was heard is silence."""
        if not self._runs(self._capture, self._capture.read(self._in)):
            return self._silent_restart()
        self._decoder.decode(self._in, self._heard)
        repair(self._heard)  # a NaN would be the largest correlation
        if self._converter:
            self._converter.push(played[None], self._at_once)
        else:
            self._at_once.push(played[None])
        n = self._at_once.n
        self._played[:, :n] = self._at_once.view(n)
        self._at_once.drop(n)
        self._encoder.encode(self._played[:, :n], self._out[:n])
        if not self._runs(self._playback, self._playback.write(self._out, n)):
            return self._silent_restart()
        return self._heard.mean(axis=0)

    def _start(self) -> None:
        if self._converter:
            self._converter.reset()
        for pcm in (self._capture, self._playback):
            self._check(pcm, pcm.prepare())
        self._check(self._capture, self._capture.start())
        self._check(self._capture, self._capture.read(self._in))
        self._check(self._playback, self._playback.write(self._silence))
        self._check(self._playback, self._playback.start())

    def _silent_restart(self) -> Float32Array:
        self._start()
        return np.zeros(self.period_samples, np.float32)

    def _runs(self, pcm: Pcm, outcome: Outcome) -> bool:
        """Whether it goes on; an xrun is counted. Failure: it is gone."""
        if outcome is Outcome.XRUN:
            self.n_xruns += 1
            return False
        self._check(pcm, outcome)
        return True

    def _check(self, pcm: Pcm, outcome: Outcome) -> None:
        if outcome is not Outcome.DONE:
            remedy = "see `edge-denoise doctor`, or choose another device"
            raise Failure(f"{pcm.config.direction} stopped: {outcome.value}", where=pcm.config.device, remedy=remedy)


def lines(found: dict[str, Any]) -> list[str]:
    """The figures for people."""
    notes = ["the signal comes back inverted: one end is wired that way"] if found["is_inverted"] else []
    notes += [f"{counted(found['n_xruns'], 'xrun')}: `--margin-ms` gives it more"] if found["n_xruns"] else []
    if found["converter_ms"]:
        notes.append("{converter_ms:.2f} ms of it are the converter to {playback_rate_hz} Hz".format(**found))
    return [
        "round trip {delay_samples} samples at {rate_hz} Hz, {delay_ms:.2f} ms".format(**found),
        "{}, {spread_samples} samples apart, {confidence_db:.0f} dB above the next best".format(
            counted(len(found["repeats"]), "repeat"), **found
        ),
        *notes,
    ]


def _exchange(duplex: Duplex, sound: Float32Array) -> Float32Array:
    """(n,) played, and (n,) recorded meanwhile, period by period; the last is filled up with silence."""
    period = duplex.period_samples
    padded = np.concatenate((sound, np.zeros(-sound.size % period, np.float32)))
    return np.concatenate([duplex.exchange(part) for part in padded.reshape(-1, period)])


def _settle(duplex: Duplex) -> None:
    """Until nothing broke for a while. Failure: it never ends."""
    silence = np.zeros(round(_SETTLE_S * duplex.rate_hz), np.float32)
    for _ in range(_N_SETTLE):
        n_xruns = duplex.n_xruns
        _exchange(duplex, silence)
        if duplex.n_xruns == n_xruns:
            return
    raise Failure(f"{duplex.n_xruns} xruns before the first stimulus", remedy=_MORE)


def _undisturbed(duplex: Duplex, sound: Float32Array) -> Float32Array | None:
    """What was recorded; None when there was an xrun in it."""
    n_xruns = duplex.n_xruns
    recording = _exchange(duplex, sound)
    return recording if duplex.n_xruns == n_xruns else None
