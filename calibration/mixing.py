"""Speech and noise -> the clips a network is calibrated on, spread over SNR and level.

A clip depends on the corpora, the settings, the seed and its own index, never on how many clips follow it.
Cuts and loops have no cross-fade: the step they leave is no louder than the signal around it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from calibration.corpus import Corpus
from edge_runtime.errors import Failure
from edge_runtime.stft import SAMPLE_RATE_HZ, Float32Array

Kind = Literal["mixed", "clean", "noise"]
Signal = npt.NDArray[np.float64]

GATE_WINDOW_SAMPLES = 320  # 20 ms: one syllable's rise, several pitch periods
GATE_DB = -30.0  # below the loudest window: vowels and most consonants stay, pauses go
LOUD_SHARE = 0.1  # of a recording's peak; a cut always holds one sample this loud

_CLIP_STREAM, _SPEECH_STREAM, _NOISE_STREAM, _DRAW_STREAM, _PLACE_STREAM = 1, 2, 3, 4, 5
# Additive recurrence in three dimensions (M. Roberts, "The Unreasonable Effectiveness of Quasirandom
# Sequences", 2018): any number of clips covers kind, SNR and level evenly; 48 independent draws leave holes.
_STEPS = 1.2207440846057596 ** -np.arange(1.0, 4.0)


@dataclass(frozen=True)
class Mix:
    """Which clips to make. 0 dBFS is an RMS of 1; `warmup_ms` of each clip is run but not observed."""

    snr_db: tuple[float, float] = (-5.0, 20.0)
    level_dbfs: tuple[float, float] = (-45.0, -15.0)
    share_clean: float = 0.1
    share_noise_alone: float = 0.1
    n_clips: int = 48
    clip_ms: int = 4000
    warmup_ms: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (low, high) in (("snr_db", self.snr_db), ("level_dbfs", self.level_dbfs)):
            _require(-math.inf < low <= high < math.inf, f"{name} is {low}..{high}", "name low, then high")
        shares = (self.share_clean, self.share_noise_alone)
        fits = min(shares) >= 0 and sum(shares) <= 1
        _require(fits, f"shares of clean and noise are {shares}", "they are parts of 1")
        _require(self.n_clips >= 1, f"n_clips is {self.n_clips}", "make at least one")
        spare = 0 <= self.warmup_ms < self.clip_ms
        _require(spare, f"{self.warmup_ms} ms warm-up of {self.clip_ms} ms", "leave some to observe")
        _require(self.seed >= 0, f"seed is {self.seed}", "take 0 or more")

    @property
    def clip_samples(self) -> int:
        return self.clip_ms * SAMPLE_RATE_HZ // 1000

    @property
    def warmup_samples(self) -> int:
        return self.warmup_ms * SAMPLE_RATE_HZ // 1000


@dataclass(frozen=True, eq=False)
class Clip:
    """One clip at 16 kHz: noisy (n,) = clean (n,) + noise, within [-1, 1].

    `snr_db` is +inf for clean speech and -inf for noise alone. `level_dbfs` is what the clip has: less than
    was drawn where the peak would have passed 1. Joined utterances are named "a+b"; an absent part is "".
    """

    noisy: Float32Array
    clean: Float32Array
    kind: Kind
    snr_db: float
    level_dbfs: float
    speech_name: str
    noise_name: str


class _Part(NamedTuple):
    """One side of a clip before its gain: where it came from, and signal (n,)."""

    name: str
    signal: Signal


def mixtures(
    speech: Corpus, noise: Corpus, mix: Mix, left_out: Callable[[Failure], None] | None = None
) -> Iterator[Clip]:
    """Yield `mix.n_clips` clips; every recording is used once before any is used again.

    A recording that cannot be read or is silent is told to `left_out`, and the next one is taken. Without `left_out` it
    fails, and names all such recordings.
    """
    speech_parts = _recordings(speech, (mix.seed, _SPEECH_STREAM), left_out)
    noise_parts = _recordings(noise, (mix.seed, _NOISE_STREAM), left_out)
    absent = _Part("", np.zeros(mix.clip_samples))
    for index in range(mix.n_clips):
        rng = np.random.default_rng((mix.seed, _CLIP_STREAM, index))
        kind, snr_db, level_dbfs = _drawn(index, mix)
        talk = absent if kind == "noise" else _joined(speech_parts, mix.clip_samples, rng)
        hum = absent if kind == "clean" else _looped(next(noise_parts), mix.clip_samples, rng)
        yield _clip(kind, talk, hum, snr_db, level_dbfs)


def measure_level_dbfs(values: npt.NDArray[np.floating[Any]]) -> float:
    """RMS of values (n,) in dBFS."""
    return 10 * math.log10(np.mean(np.square(values, dtype=np.float64)))


def measure_snr_db(speech: npt.NDArray[np.floating[Any]], noise: npt.NDArray[np.floating[Any]]) -> float:
    """RMS of the active parts of speech (n,) over the RMS of all of noise (m,), in dB.

    Active are the 20 ms windows within 30 dB of the loudest, so pauses do not make speech look quiet.
    """
    powers = _window_powers(speech)
    active = powers >= powers.max() * 10 ** (GATE_DB / 10)
    return 10 * math.log10(powers[active].mean()) - measure_level_dbfs(noise)


def _window_powers(values: npt.NDArray[np.floating[Any]]) -> Signal:
    padded = np.pad(np.square(values, dtype=np.float64), (0, -len(values) % GATE_WINDOW_SAMPLES))
    powers: Signal = padded.reshape(-1, GATE_WINDOW_SAMPLES).mean(axis=1)
    return powers


def _drawn(index: int, mix: Mix) -> tuple[Kind, float, float]:
    """Kind, SNR and level of one clip."""
    start = np.random.default_rng((mix.seed, _DRAW_STREAM)).uniform(size=3)
    place, snr_share, level_share = ((start + index * _STEPS) % 1).tolist()
    kind: Kind = "mixed"
    if place < mix.share_clean:
        kind = "clean"
    elif place >= 1 - mix.share_noise_alone:
        kind = "noise"
    return kind, _at(mix.snr_db, snr_share), _at(mix.level_dbfs, level_share)


def _at(bounds: tuple[float, float], share: float) -> float:
    low, high = bounds
    return low + share * (high - low)


def _endless(names: tuple[str, ...], seed: tuple[int, int]) -> Iterator[str]:
    """Permutation after permutation of `names`."""
    n_rounds = 0
    while True:
        for place in np.random.default_rng((*seed, n_rounds)).permutation(len(names)):
            yield names[place]
        n_rounds += 1


def _recordings(corpus: Corpus, seed: tuple[int, int], left_out: Callable[[Failure], None] | None) -> Iterator[_Part]:
    """Recording after recording, without end, of long ones a part that is drawn. Failure: one cannot be used, or with
    `left_out` none can."""
    n_unfit, places = 0, np.random.default_rng((*seed, _PLACE_STREAM))
    for name in _endless(corpus.names, seed):
        try:
            values = corpus.read(name, places.random())
        except Failure as failure:
            n_unfit += 1
            if left_out is None or n_unfit >= 2 * len(corpus.names):
                raise corpus.refusal(name, failure) from failure.__cause__  # it may be that failure itself
            left_out(failure)
            continue
        n_unfit = 0
        yield _Part(name, values.astype(np.float64))


def _joined(parts: Iterator[_Part], n_samples: int, rng: np.random.Generator) -> _Part:
    """Utterances end to end until `n_samples` are full; the last is cut."""
    cuts: list[_Part] = []
    n_missing = n_samples
    while n_missing:
        name, values = next(parts)
        last_start = max(len(values) - n_missing, 0)
        start = min(max(_first_sample(values, n_missing, rng), 0), last_start)
        cuts.append(_Part(name, values[start : start + n_missing]))
        n_missing -= len(cuts[-1].signal)
    return _Part("+".join(cut.name for cut in cuts), np.concatenate([cut.signal for cut in cuts]))


def _looped(part: _Part, n_samples: int, rng: np.random.Generator) -> _Part:
    places = np.arange(n_samples) + _first_sample(part.signal, n_samples, rng)
    return _Part(part.name, part.signal[places % len(part.signal)])


def _first_sample(values: Signal, n_samples: int, rng: np.random.Generator) -> int:
    """Where a cut starts so that a random loud sample lies anywhere in it: padding alone is never cut."""
    magnitudes = np.abs(values)
    loud = np.flatnonzero(magnitudes >= LOUD_SHARE * magnitudes.max())
    return int(rng.choice(loud) - rng.integers(n_samples))


def _clip(kind: Kind, talk: _Part, hum: _Part, snr_db: float, level_dbfs: float) -> Clip:
    noise = hum.signal
    if kind == "mixed":
        noise = noise * 10 ** ((measure_snr_db(talk.signal, noise) - snr_db) / 20)
    else:
        snr_db = math.inf if kind == "clean" else -math.inf
    noisy = talk.signal + noise
    gain = 10 ** ((level_dbfs - measure_level_dbfs(noisy)) / 20)
    gain = min(gain, 1 / np.abs(noisy).max())
    heard, clean = (gain * noisy).astype(np.float32), (gain * talk.signal).astype(np.float32)
    return Clip(heard, clean, kind, snr_db, measure_level_dbfs(heard), talk.name, hum.name)


def _require(holds: bool, found: str, rule: str) -> None:
    if not holds:
        raise Failure(f"calibration mix: {found}", remedy=rule)
