"""Checks through ALSA's library: that it is there, and the devices that are named."""

from __future__ import annotations

from collections.abc import Iterator

from edge_runtime.alsa.cards import stable_name
from edge_runtime.alsa.device import Capabilities, capabilities, check_configuration
from edge_runtime.alsa.library import library_version
from edge_runtime.alsa.pcm import CAPTURE, Direction
from edge_runtime.doctor import microphone
from edge_runtime.doctor.checks import Row, ok, warn
from edge_runtime.errors import counted
from edge_runtime.stft import HOP_SAMPLES, SAMPLE_RATE_HZ

MIN_PERIODS = 2  # of one hop; below it nothing can be read while something is written


def libasound() -> list[Row]:
    """Its version. Failure: it cannot be loaded, or not read its configuration."""
    version = library_version()
    check_configuration()
    return [ok("libasound", version)]


def device(name: str, direction: Direction) -> Iterator[Row]:
    """What the device can do, whether its name stays, and what is heard of it. Failure: it cannot be opened."""
    able = judge(name, direction, capabilities(name, direction))
    yield able
    if (stable := stable_name(name)) is not None:
        remedy = f"a number changes with what is plugged in: name it {stable}"
        yield warn(f"{direction} name", f"{name} goes by its card's number", remedy)
    if direction is CAPTURE and able.status == "ok":
        yield from microphone.rows(microphone.listen(name))


def judge(name: str, direction: Direction, can: Capabilities) -> Row:
    """Whether a device does what a live stream needs of it."""
    rates = " ".join(str(rate_hz) for rate_hz in sorted(can.rates_hz)) or "{} to {}".format(*can.rate_range_hz)
    found = f"{name}: {rates} Hz, {' '.join(can.formats) or 'no format that is known'}"
    fewest, most = can.n_channels_range
    found += f", {fewest} to {most} channels" if fewest != most else f", {counted(fewest, 'channel')}"
    hop_s = HOP_SAMPLES / SAMPLE_RATE_HZ
    if not can.formats:
        return warn(str(direction), found, "name it with plughw: instead of hw:, which converts")
    if can.buffer_range_pcm_frames[1] < MIN_PERIODS * hop_s * can.rate_range_hz[0]:
        return warn(str(direction), found, "its buffer holds less than two hops: it will crackle")
    if SAMPLE_RATE_HZ not in can.rates_hz:
        return ok(str(direction), f"{found}; resampled to 16000 Hz, which costs some time")
    return ok(str(direction), found)
