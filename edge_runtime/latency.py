"""`edge-denoise latency`: plays a stimulus, records what comes back, says how late: `round_trip` finds it.

The loop is that of `live`: a period is read, a period is written, `n_prefill` periods of silence lie in the playback
buffer at the start. So the round trip is what a live stream adds outside the program: from a sample at the capture
side, through both buffers, both converters and the way between loudspeaker and microphone. Denoising adds its own.
"""

from __future__ import annotations

from contextlib import ExitStack
from itertools import cycle, islice
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from edge_runtime.alsa import CAPTURE, PLAYBACK, Block, Outcome, Pcm, Wish, open_pcm
from edge_runtime.errors import Failure
from edge_runtime.round_trip import AMPLITUDE, find, mls, summarise
from edge_runtime.stft import Float32Array

N_REPEATS: Final = 5
MAX_ROUND_TRIP_S: Final = 1.0  # what is looked for; a Bluetooth loudspeaker has 0.3 s
_SETTLE_S: Final = 0.25  # a resampler's and a server's first moments are not counted
_N_SETTLE: Final = 20
_MORE: Final = "give it more: `--periods 8`, or stop what else runs; see `edge-denoise doctor`"
_FULL_SCALE: Final = {"FLOAT_LE": 1.0, "S32_LE": 2.0**31, "S24_LE": 2.0**23, "S16_LE": 2.0**15}


class Duplex(Protocol):
    """Two ends that run at one rate."""

    rate_hz: int
    period_samples: int
    n_xruns: int  # so far

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
    return {**summarise(heard, duplex.rate_hz)._asdict(), "n_xruns": duplex.n_xruns}


class AlsaDuplex:
    """Two ALSA devices in the order of a live loop. Failure: they cannot be opened alike, or stop."""

    def __init__(self, capture: str, playback: str, rate_hz: int | None, period_ms: float, n_periods: int) -> None:
        self._stack = ExitStack()
        try:
            wish = Wish(rate_hz=rate_hz, sample_format=None, n_channels=None, period_ms=period_ms, n_periods=n_periods)
            self._capture = self._stack.enter_context(open_pcm(capture, CAPTURE, wish))
            self.rate_hz = self._capture.config.rate_hz
            same = Wish(rate_hz=self.rate_hz, period_ms=period_ms, n_periods=n_periods)
            self._playback = self._stack.enter_context(open_pcm(playback, PLAYBACK, same))
        except BaseException:
            self._stack.close()
            raise
        self.period_samples = self._capture.config.period_pcm_frames
        self.n_prefill = max(1, n_periods - 1) * self._playback.config.period_pcm_frames
        self.n_xruns = 0
        self._in, self._out = (pcm.new_block(self.period_samples) for pcm in (self._capture, self._playback))
        self._silence = self._playback.new_block(self.n_prefill)

    def __enter__(self) -> AlsaDuplex:
        self._check(self._capture, self._capture.start())
        self._check(self._capture, self._capture.read(self._in))  # a server needs a moment before it delivers
        self._start_playback()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def exchange(self, played: Float32Array) -> Float32Array:
        """One period."""
        if not self._runs(self._capture, self._capture.read(self._in)):
            self._check(self._capture, self._capture.prepare())
            self._check(self._capture, self._capture.start())
            self._in[:] = 0
        encode(played, self._out, self._playback.config.sample_format.name)
        if not self._runs(self._playback, self._playback.write(self._out)):
            self._check(self._playback, self._playback.prepare())
            self._start_playback()
        return decode(self._in, self._capture.config.sample_format.name)

    def _start_playback(self) -> None:
        """Beginning with what was captured last: what waits there is older than a live loop lets it become."""
        while self._capture.available() >= self.period_samples:
            self._check(self._capture, self._capture.read(self._in))
        self._check(self._playback, self._playback.write(self._silence))
        self._check(self._playback, self._playback.start())

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


def encode(samples: Float32Array, block: Block, sample_format: str) -> None:
    """(n,) in [-1, 1] into every channel of a device's block."""
    if sample_format == "S24_3LE":
        values = _integers(samples, 2.0**23)
        block[:] = values.astype("<i4").view("u1").reshape(-1, 4)[:, None, :3]
    elif sample_format == "FLOAT_LE":
        block[:] = samples[:, None]
    else:
        block[:] = _integers(samples, _FULL_SCALE[sample_format])[:, None]


def decode(block: Block, sample_format: str) -> Float32Array:
    """The mean of all channels, (n,) in [-1, 1]."""
    if sample_format == "S24_3LE":
        wide = np.zeros((*block.shape[:2], 4), np.uint8)
        wide[..., 1:] = block  # the upper three bytes: the sign comes with them
        values = wide.view("<i4")[..., 0] / 2.0**31
    else:
        values = block / _FULL_SCALE[sample_format]
    return values.mean(axis=1, dtype=np.float64).astype(np.float32)


def lines(found: dict[str, Any]) -> list[str]:
    """The figures for people."""
    notes = ["the signal comes back inverted: one end is wired that way"] if found["is_inverted"] else []
    notes += [f"{found['n_xruns']} xruns: `--periods` gives it more"] if found["n_xruns"] else []
    return [
        "round trip {delay_samples} samples at {rate_hz} Hz, {delay_ms:.2f} ms".format(**found),
        "{} repeats, {spread_samples} samples apart, {confidence_db:.0f} dB above the next best".format(
            len(found["repeats"]), **found
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


def _integers(samples: Float32Array, full_scale: float) -> npt.NDArray[np.int64]:
    return np.clip(np.rint(samples.astype(np.float64) * full_scale), -full_scale, full_scale - 1).astype(np.int64)
