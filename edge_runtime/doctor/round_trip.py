"""Round trip by correlation: how many samples after it was played a stimulus comes back.

The stimulus is a maximum length sequence (MLS): its circular autocorrelation is 1 at 0 and -1/N elsewhere, so that the
largest correlation marks the delay to the sample, through any linear chain that is not too reverberant, and 10 log10 N
dB below the noise it is played into. Played once between silences, as a linear correlation sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final, NamedTuple

import numpy as np

from edge_runtime.errors import Failure
from edge_runtime.stft import Float32Array

MLS_ORDER: Final = 13  # 8191 samples: half a second at 16 kHz
AMPLITUDE: Final = 0.25  # -12 dBFS: heard over a fan, no danger to loudspeakers
MIN_CONFIDENCE_DB: Final = 12.0  # the peak above the largest correlation elsewhere; noise alone stays below 3 dB
NEAR_S: Final = 0.002  # echoes and filters spread the peak that far

_TAPS: Final = {10: (10, 7), 11: (11, 9), 12: (12, 6, 4, 1), 13: (13, 4, 3, 1), 14: (14, 5, 3, 1), 15: (15, 14)}


class Heard(NamedTuple):
    """One repeat. `confidence_db`: its peak over the largest correlation that is not near it."""

    delay_samples: int
    confidence_db: float
    is_inverted: bool


class RoundTrip(NamedTuple):
    """All repeats: their median, and how far apart they are."""

    rate_hz: int
    delay_samples: int
    delay_ms: float
    spread_samples: int
    confidence_db: float
    repeats: list[int]
    is_inverted: bool


def mls(order: int = MLS_ORDER) -> Float32Array:
    """(2 ** order - 1,) of +-1, from a linear feedback shift register with a primitive polynomial."""
    taps = [tap - 1 for tap in _TAPS[order]]
    register = [1] * order
    bits = np.empty(2**order - 1, np.float32)
    for i in range(bits.size):
        bits[i] = 2 * register[-1] - 1
        feedback = 0
        for tap in taps:
            feedback ^= register[tap]
        register = [feedback, *register[:-1]]
    return bits


def find(recording: Float32Array, stimulus: Float32Array, rate_hz: int) -> Heard | None:
    """Where in (n,) `stimulus` begins, None when it is not heard. The recording must hold all of it."""
    correlation = _correlate(recording, stimulus)
    size = np.abs(correlation)
    peak = int(size.argmax())
    if size[peak] == 0:
        return None
    near = max(1, round(NEAR_S * rate_hz))
    elsewhere = np.concatenate((size[: max(0, peak - near)], size[peak + near + 1 :]))
    second = float(elsewhere.max()) if elsewhere.size else 0.0
    confidence_db = float(20 * np.log10(size[peak] / second)) if second > 0 else float("inf")
    if confidence_db < MIN_CONFIDENCE_DB:
        return None
    return Heard(peak, confidence_db, bool(correlation[peak] < 0))


def summarise(heard: Sequence[Heard | None], rate_hz: int) -> RoundTrip:
    """The figures of all repeats. Failure: fewer than half were heard."""
    found = [one for one in heard if one is not None]
    if 2 * len(found) <= len(heard):
        raise Failure(
            f"the stimulus came back in {len(found)} of {len(heard)} repeats",
            remedy="connect playback to capture (a cable, or the microphone at the loudspeaker), and raise both levels",
        )
    delays = [one.delay_samples for one in found]
    middle = round(median(delays))
    return RoundTrip(
        rate_hz=rate_hz,
        delay_samples=middle,
        delay_ms=round(1000 * middle / rate_hz, 3),
        spread_samples=max(delays) - min(delays),
        confidence_db=round(min(min(one.confidence_db for one in found), 200.0), 1),
        repeats=delays,
        is_inverted=sum(one.is_inverted for one in found) * 2 > len(found),
    )


def _correlate(recording: Float32Array, stimulus: Float32Array) -> Float32Array:
    """(n_recording - n_stimulus + 1,): the products at each shift that fits, through one Fourier transform."""
    n = 1 << (recording.size + stimulus.size).bit_length()
    spectrum = np.fft.rfft(recording.astype(np.float64), n) * np.conj(np.fft.rfft(stimulus, n))
    return np.fft.irfft(spectrum, n)[: recording.size - stimulus.size + 1].astype(np.float32)
