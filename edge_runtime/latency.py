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
from edge_runtime.round_trip import AMPLITUDE, Heard, find, mls, summarise
from edge_runtime.stft import Float32Array

N_REPEATS: Final = 5
MAX_ROUND_TRIP_S: Final = 1.0  # what is looked for; a Bluetooth loudspeaker has 0.3 s
_SETTLE_S: Final = 0.25  # a resampler's and a server's first moments are not counted
_FULL_SCALE: Final = {"FLOAT_LE": 1.0, "S32_LE": 2.0**31, "S24_LE": 2.0**23, "S16_LE": 2.0**15}


class Duplex(Protocol):
    """Two ends that run at one rate."""

    rate_hz: int
    period_samples: int

    def exchange(self, played: Float32Array) -> Float32Array:
        """Read as many samples as are in `played`, then write those; both (n,)."""


def measure(duplex: Duplex, n_repeats: int = N_REPEATS, max_round_trip_s: float = MAX_ROUND_TRIP_S) -> dict[str, Any]:
    """The round trip of `duplex`, figures as JSON. Failure: the stimulus is not heard.

    Every other repeat plays it backwards, which is another MLS: one that comes too late is not taken for its successor.
    """
    stimuli = (mls(), np.ascontiguousarray(mls()[::-1]))
    n_settle, n_wait = round(_SETTLE_S * duplex.rate_hz), round(max_round_trip_s * duplex.rate_hz)
    _exchange(duplex, np.zeros(n_settle, np.float32))
    wait = np.zeros(n_wait, np.float32)
    heard: list[Heard | None] = []
    for stimulus in islice(cycle(stimuli), n_repeats):
        recording = _exchange(duplex, np.concatenate((AMPLITUDE * stimulus, wait)))
        heard.append(find(recording, stimulus, duplex.rate_hz))
    return summarise(heard, duplex.rate_hz)._asdict()


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
        self._in, self._out = (pcm.new_block(self.period_samples) for pcm in (self._capture, self._playback))

    def __enter__(self) -> AlsaDuplex:
        silence = self._playback.new_block(self.n_prefill)
        self._check(self._playback, self._playback.write(silence))
        self._check(self._capture, self._capture.start())
        self._check(self._playback, self._playback.start())
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def exchange(self, played: Float32Array) -> Float32Array:
        """One period."""
        self._check(self._capture, self._capture.read(self._in))
        encode(played, self._out, self._playback.config.sample_format.name)
        self._check(self._playback, self._playback.write(self._out))
        return decode(self._in, self._capture.config.sample_format.name)

    def _check(self, pcm: Pcm, outcome: Outcome) -> None:
        if outcome is not Outcome.DONE:
            remedy = "give it more: `--periods 8`, or stop what else runs"
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
    inverted = ["the signal comes back inverted: one end is wired that way"] if found["is_inverted"] else []
    return [
        "round trip {delay_samples} samples at {rate_hz} Hz, {delay_ms:.2f} ms".format(**found),
        "{} repeats, {spread_samples} samples apart, {confidence_db:.0f} dB above the next best".format(
            len(found["repeats"]), **found
        ),
        *inverted,
    ]


def _exchange(duplex: Duplex, sound: Float32Array) -> Float32Array:
    """(n,) played, and (n,) recorded meanwhile, period by period; the last is filled up with silence."""
    period = duplex.period_samples
    padded = np.concatenate((sound, np.zeros(-sound.size % period, np.float32)))
    return np.concatenate([duplex.exchange(part) for part in padded.reshape(-1, period)])


def _integers(samples: Float32Array, full_scale: float) -> npt.NDArray[np.int64]:
    return np.clip(np.rint(samples.astype(np.float64) * full_scale), -full_scale, full_scale - 1).astype(np.int64)
