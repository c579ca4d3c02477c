"""The inputs of the robustness study, cut from real speech and noise: what a microphone may hand a denoiser.

Mixtures are four speakers in four noises, 6 s each, end to end in one stream. Levels are RMS over the whole in dBFS;
the runtime takes samples beyond full scale (up to 8), so that 0 dBFS is loud and not also clipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np

from calibration.corpus import Corpus
from calibration.mixing import Mix, measure_level_dbfs, mixtures
from edge_runtime.stft import SAMPLE_RATE_HZ, Float32Array

LEVEL_DBFS, SNR_DB = -25.0, 10.0  # where nothing else is said
LEVELS_DBFS: Final = (-60, -50, -40, -30, -20, -10, 0)
SNRS_DB: Final = (-10, -5, 0, 5, 10, 20, 30, 40)
TONES_HZ: Final = (100, 440, 1000, 4000, 7500)
OFFSETS: Final = (0.01, 0.1)  # of a cheap microphone, and of a broken one
DRIFT_MINUTES: Final = 10
LSB: Final = 2.0**-15
CLICK: Final = (0.9, -0.9, 0.8, -0.6, 0.3, -0.1)  # of a switch or a finger


@dataclass(frozen=True, eq=False)
class Stimulus:
    """One input (n,) at 16 kHz; `clean` (n,) is the speech in it; only samples from `start` on are judged."""

    name: str
    noisy: Float32Array
    clean: Float32Array | None = None
    start: int = 0

    def from_start(self) -> Stimulus:
        """What is judged."""
        clean = None if self.clean is None else self.clean[self.start :]
        return replace(self, noisy=self.noisy[self.start :], clean=clean, start=0)


class Parts(NamedTuple):
    """Speech and noise (n,) whose sum has an SNR of SNR_DB."""

    speech: Float32Array
    noise: Float32Array

    def mixed(self, snr_db: float = SNR_DB, level_dbfs: float = LEVEL_DBFS) -> tuple[Float32Array, Float32Array]:
        """(noisy, clean) of another SNR and level."""
        noisy = self.speech + _gain(SNR_DB - snr_db) * self.noise
        gain = _gain(level_dbfs - measure_level_dbfs(noisy))
        return gain * noisy, gain * self.speech


@dataclass(frozen=True)
class Material:
    """Where the sounds come from and how long they are; the same numbers give the same stimuli."""

    speech: Corpus
    noise: Corpus
    clip_s: float = 6.0
    minute_s: float = 60.0
    seed: int = 3  # calibration takes 0, the bench 1: other cuts of the same recordings

    def parts(self) -> Parts:
        """Four clips end to end."""
        return self._cut(4, self.clip_s)

    def minute(self, index: int) -> Float32Array:
        """One minute of noisy speech, others for each index."""
        return replace(self, seed=self.seed + 1 + index)._cut(5, self.minute_s / 5).mixed()[0]

    def _cut(self, n_clips: int, clip_s: float) -> Parts:
        mix = Mix((SNR_DB, SNR_DB), (LEVEL_DBFS, LEVEL_DBFS), 0, 0, n_clips, round(clip_s * 1000), 0, self.seed)
        clips = list(mixtures(self.speech, self.noise, mix))
        noisy, clean = (np.concatenate([getattr(clip, side) for clip in clips]) for side in ("noisy", "clean"))
        return Parts(clean, noisy - clean)


def _gain(db: float) -> np.float32:
    return np.float32(10 ** (db / 20))


def _at_level(sound: Float32Array, level_dbfs: float = LEVEL_DBFS) -> Float32Array:
    return _gain(level_dbfs - measure_level_dbfs(sound)) * sound


def stimuli(material: Material) -> Iterator[Stimulus]:
    """Every input but the long one."""
    parts = material.parts()
    for level_dbfs in LEVELS_DBFS:
        yield Stimulus(f"level {level_dbfs} dBFS", *parts.mixed(level_dbfs=level_dbfs))
    for snr_db in SNRS_DB:
        yield Stimulus(f"SNR {snr_db} dB", *parts.mixed(snr_db))
    speech = _at_level(parts.speech)
    yield Stimulus("clean speech", speech, speech)
    yield Stimulus("noise alone", _at_level(parts.noise))
    yield Stimulus("noise alone, -50 dBFS", _at_level(parts.noise, -50))
    yield from _silent(len(speech), material.seed)
    yield from _upset(*parts.mixed())


def _silent(n: int, seed: int) -> Iterator[Stimulus]:
    """Inputs without speech or noise."""
    t = np.arange(n) / SAMPLE_RATE_HZ
    dither = np.random.default_rng(seed).integers(-1, 2, n)
    yield Stimulus("digital silence", np.zeros(n, np.float32))
    yield Stimulus("16-bit dither", (LSB * dither).astype(np.float32))
    yield Stimulus("impulses", _impulses(n))
    for tone_hz in TONES_HZ:
        yield Stimulus(f"tone {tone_hz} Hz", (0.1 * np.sin(2 * np.pi * tone_hz * t)).astype(np.float32))


def _upset(noisy: Float32Array, clean: Float32Array) -> Iterator[Stimulus]:
    """Noisy speech with something wrong."""
    n = len(noisy)
    yield Stimulus("clipped at full scale", np.clip(_gain(18) * noisy, -1, 1), clean)
    clicks = np.convolve(_impulses(n), CLICK)[:n].astype(np.float32)
    yield Stimulus("clicks in noisy speech", noisy + clicks, clean)
    for offset in OFFSETS:
        yield Stimulus(f"DC offset {offset} in noisy speech", noisy + np.float32(offset), clean)
    loud, quiet, after = _at_level(noisy, -10), _at_level(noisy, -50), n + SAMPLE_RATE_HZ // 2
    yield Stimulus("cut from -10 to -50 dBFS", np.concatenate([loud, quiet]), np.concatenate([clean, clean]), after)
    yield Stimulus("cut from -10 dBFS to silence", np.concatenate([loud, np.zeros(n // 4, np.float32)]), None, after)


def _impulses(n: int) -> Float32Array:
    """One sample of full scale, twice a second."""
    impulses = np.zeros(n, np.float32)
    impulses[SAMPLE_RATE_HZ // 4 :: SAMPLE_RATE_HZ // 2] = 1
    return impulses


def ten_minutes(material: Material) -> Stimulus:
    """Noisy speech whose last minute is the first again, other speech and noise between: only states can differ."""
    minutes = [material.minute(i) for i in range(DRIFT_MINUTES - 1)]
    return Stimulus("10 minutes of noisy speech", np.concatenate([*minutes, minutes[0]]))
