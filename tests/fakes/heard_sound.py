"""What fake devices were given to play, and when of what was captured."""

from __future__ import annotations

import numpy as np
import soxr
from fake_sound import FakeDevice

from edge_runtime.alsa.samples import SampleConverter


def heard(device: FakeDevice) -> np.ndarray:
    """(n_channels, n) float32 of all that was written to a playback device."""
    raw = np.concatenate([block for _, block in device.played])
    out = np.zeros((device.n_channels, len(raw)), np.float32)
    SampleConverter(device.format, device.n_channels, len(raw)).decode(raw, out)
    return out


def place_of(part: np.ndarray, whole: np.ndarray) -> int:
    """Where `part` lies in `whole`, by correlation."""
    size = 1 << int(np.ceil(np.log2(len(whole) + len(part))))
    found = np.fft.irfft(np.fft.rfft(whole, size) * np.conj(np.fft.rfft(part, size)), size)
    return int(np.argmax(found[: len(whole)]))


def true_latency_ms(capture: FakeDevice, playback: FakeDevice, from_s: float = 2.0) -> float:
    """From the moment at which a sample was captured to the one at which it is played, in the world's time."""
    n_part = capture.rate_hz // 2
    at_capture = round(from_s * capture.rate_hz)
    part = capture.sound(at_capture, n_part)[0]
    out, starts_s = heard(playback)[0], [start for start, _ in playback.played]
    if playback.rate_hz != capture.rate_hz:
        part = soxr.resample(part, capture.rate_hz, playback.rate_hz)
    place = place_of(part, out)
    ends = np.cumsum([len(block) for _, block in playback.played])
    k = int(np.searchsorted(ends, place, side="right"))
    played_s = starts_s[k] + (place - (ends[k - 1] if k else 0)) / (playback.rate_hz * playback.clock)
    return 1000 * (played_s - at_capture / (capture.rate_hz * capture.clock))
