"""What a microphone gives in two seconds: which of its channels are silent, its offset, its level."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from edge_runtime.alsa.device import open_pcm
from edge_runtime.alsa.pcm import CAPTURE, Outcome, Pcm, Wish
from edge_runtime.alsa.samples import SampleConverter
from edge_runtime.denoiser import repair
from edge_runtime.doctor.checks import Row, ok, warn
from edge_runtime.errors import Failure
from edge_runtime.live.channels import MANY, STEP, Channels
from edge_runtime.live.control.controls import OFFSET_DBFS, dbfs
from edge_runtime.live.sound.front import HIGHPASS_HZ, MOST_GAIN_DB
from edge_runtime.stft import Float32Array

LISTEN_S: Final = 2.0
_SETTLE_S: Final = 0.5  # converters begin with a click
LOUD_DBFS: Final = -12.0  # of the peaks of speech that is loud enough
QUIET_DBFS: Final = -40.0  # of the peaks: below it, speech is denoised less well
_CLIPPED: Final = 0.999  # of full scale
_FEW: Final = 3  # clipped samples, that may be a click
_MIXER: Final = "`alsamixer`, F4"


def listen(device: str, open_pcm: Callable[..., Pcm] = open_pcm) -> Float32Array:
    """(n_channels, n) of what `live` would hear of the device. Failure: it cannot be opened, or gives nothing."""
    wish = Wish(n_channels_near=Channels(first_of_many=True).n_near(device))
    with open_pcm(device, CAPTURE, wish) as pcm:
        config = pcm.config
        block = pcm.new_block(config.period_pcm_frames)
        decode = SampleConverter(config.sample_format, config.n_channels, len(block)).decode
        n_blocks = round((_SETTLE_S + LISTEN_S) * config.rate_hz / len(block))
        heard = np.zeros((n_blocks, config.n_channels, len(block)), np.float32)
        pcm.start()
        for part in heard:
            outcome = pcm.read(block)
            if outcome is Outcome.XRUN:  # nothing is played: what was lost does not matter
                pcm.prepare()
                outcome = pcm.start()
            if outcome is not Outcome.DONE:
                raise Failure(f"capture stopped: {outcome.value}", where=device, remedy="see what else uses it")
            decode(block, part)
            repair(part)  # as `live` does
        n_settle = round(_SETTLE_S * config.rate_hz / len(block))
    return np.concatenate(list(heard[n_settle:]), axis=1)


def rows(samples: Float32Array) -> Iterator[Row]:
    """What is to be said of (n_channels, n). A constant is no sound."""
    offsets = samples.mean(axis=1, keepdims=True, dtype=np.float64)
    sound = samples - offsets.astype(np.float32)
    has_sound = np.ptp(samples, axis=1) > STEP
    levels_dbfs = [dbfs(float(row.dot(row)) / row.size) for row in sound]
    yield _channels([level if has else None for level, has in zip(levels_dbfs, has_sound, strict=True)])
    if not has_sound.any():
        return
    taken = np.flatnonzero(has_sound)[: 1 if len(samples) >= MANY else None]
    yield _level(samples[taken], sound[taken])
    yield _offset(float(np.abs(offsets[taken]).max()))


def _channels(levels_dbfs: list[float | None]) -> Row:
    """Levels of all of them, None for a silent one; what `live` takes of them."""
    check, n = "capture channels", len(levels_dbfs)
    names = ["left", "right"] if n == 2 else [f"channel {k + 1}" for k in range(n)]
    silent = [name for name, level in zip(names, levels_dbfs, strict=True) if level is None]
    if len(silent) == n:
        return warn(check, "silent", f"is it muted ({_MIXER})? is the right input chosen, are its wires right?")
    said = ["silent" if level is None else f"{level:.1f} dBFS" for level in levels_dbfs]
    found = ", ".join(f"{name} {level}" for name, level in zip(names, said, strict=True))
    good = ",".join(str(k + 1) for k, level in enumerate(levels_dbfs) if level is not None)
    if n >= MANY:
        first = good.partition(",")[0]
        return ok(check, f"{found}; `live` takes {first}, as others may hold the loudspeaker")
    if silent:
        return warn(check, found, f"`live` leaves it out; --channels {good} says so for good")
    return ok(check, found)


def _level(samples: Float32Array, sound: Float32Array) -> Row:
    """`samples` as they came, clipped perhaps; `sound` without their offset."""
    check, peak = "capture level", float(np.abs(sound).max())
    n_clipped = int(np.count_nonzero(np.abs(samples) >= _CLIPPED))
    found = f"peaks at {dbfs(peak * peak):.0f} dBFS"
    if n_clipped > _FEW:
        return warn(check, f"{found}, {n_clipped} samples clipped", f"less gain: {_MIXER}")
    if dbfs(peak * peak) < QUIET_DBFS:
        gain_db = min(MOST_GAIN_DB, LOUD_DBFS - dbfs(peak * peak))
        options = f"--input-gain-db {gain_db:.0f}, or auto"
        return warn(check, found, f"speak while it listens; if they stay there, add gain: {_MIXER}, else {options}")
    return ok(check, found)


def _offset(offset: float) -> Row:
    check, size_dbfs = "capture offset", dbfs(offset * offset)
    if size_dbfs < OFFSET_DBFS:
        return ok(check, "none to speak of")
    remedy = f"`live` takes it off; --highpass {HIGHPASS_HZ:.0f} does so from the first sample on"
    return warn(check, f"offset {size_dbfs:.0f} dBFS", remedy)
