"""What int8 costs the listener, measured while a model is being made: through TFLite, on calibration sounds.

The validation clips are mixtures of the calibration corpora under another seed, in other cuts, at other SNRs and
levels: never the pairs that `quant eval` is given. Four figures a clip, each of int8 against float, same network:

    d_pesq    PESQ-WB to clean, difference
    d_si_sdr  SI-SDR to clean, difference in dB
    fidelity  PESQ-WB of the int8 sound with the float sound as its reference: 4.64 when they are equal
    snr_db    of the int8 sound with the float sound as its reference

The first is what budgets are in. `fidelity` hears the same loss without the luck of clips on which a wrong value
happens to sound better than the float model's: it ranks trials.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from calibration.corpus import Corpus
from calibration.mixing import Clip, Mix, mixtures
from edge_runtime.errors import Failure
from edge_runtime.extras import require
from edge_runtime.stft import Float32Array
from quant.emit.emitted import Emitted
from quant.quality import parallel
from quant.quality.metrics import pesq_wb, si_sdr_db
from quant.quality.results import Difference
from quant.quality.summary import bootstrap
from quant.quality.systems import Model

SPLIT = Mix(n_clips=72, clip_ms=4000, seed=1, share_clean=0, share_noise_alone=0, level_dbfs=(-35, -20))
WORST_PESQ = 1.0  # of a sound in which PESQ finds no speech at all
CLIPS_A_JOB = 6  # a model is loaded once for so many clips
NO_TRACE_DB = -100.0
SILENCE = 1e-20  # energy of a difference that is none


@dataclass(frozen=True)
class Heard:
    """A validation clip, and what the float model makes of it."""

    noisy: Float32Array
    clean: Float32Array
    enhanced: Float32Array
    pesq: float
    si_sdr_db: float


@dataclass(frozen=True)
class Score:
    """Figures of a model, clip by clip."""

    figures: tuple[str, ...]
    clips: tuple[tuple[float, ...], ...]

    def mean(self, figure: str) -> float:
        """Over the clips."""
        return float(np.mean(self._column(figure)))

    def standard_error(self, figure: str) -> float:
        """Of the mean."""
        return float(np.std(self._column(figure)) / np.sqrt(len(self.clips)))

    def interval(self, figure: str) -> Difference:
        """The mean with its bootstrap 95 % interval."""
        return bootstrap(np.asarray(self._column(figure)))

    def _column(self, figure: str) -> list[float]:
        return [row[self.figures.index(figure)] for row in self.clips]


def require_metrics() -> None:
    """Failure: a package is missing."""
    require("joblib", "pesq")


def listen(model: Emitted, speech: Corpus, noise: Corpus, mix: Mix = SPLIT) -> tuple[Heard, ...]:
    """The validation clips through the float `model`; clips in which PESQ finds no speech are left out."""
    require_metrics()
    clips = list(mixtures(speech, noise, mix))
    chunks = [clips[i : i + CLIPS_A_JOB] for i in range(0, len(clips), CLIPS_A_JOB)]
    parts = parallel.run(_listen, [(model, chunk) for chunk in chunks], unit="jobs", quiet=True)
    heard = [h for part in parts for h in part if h is not None]
    if not heard:
        remedy = "name another --speech"
        raise Failure("PESQ finds no speech in any validation clip", where=speech.folder, remedy=remedy)
    return tuple(heard)


def score(
    models: Iterable[Emitted], heard: Sequence[Heard], label: str = "", figures: Sequence[str] = ()
) -> Iterator[Score]:
    """The score of each int8 model, in order, as they are done: all `FIGURES`, or those named.

    `label` names the work on a terminal.
    """
    figures = tuple(figures or FIGURES)
    chunks = [heard[i : i + CLIPS_A_JOB] for i in range(0, len(heard), CLIPS_A_JOB)]
    jobs = [(model, chunk, figures) for model in models for chunk in chunks]
    rows: list[tuple[float, ...]] = []
    for part in parallel.run(_score, jobs, unit=f"jobs of {label}", quiet=not label):
        rows += part
        if len(rows) == len(heard):
            yield Score(figures, tuple(rows))
            rows = []


def _listen(model: Emitted, clips: Sequence[Clip]) -> list[Heard | None]:
    enhance = Model.of(model, "tflite", "fp32")()
    return [_heard(clip, enhance(clip.noisy)) for clip in clips]


def _heard(clip: Clip, enhanced: Float32Array) -> Heard | None:
    found = _pesq(clip.clean, enhanced, 0.0)
    return Heard(clip.noisy, clip.clean, enhanced, found, _si_sdr_db(clip.clean, enhanced)) if found else None


def _score(model: Emitted, heard: Sequence[Heard], figures: Sequence[str]) -> list[tuple[float, ...]]:
    enhance = Model.of(model, "tflite", "int8")()
    sounds = [enhance(h.noisy) for h in heard]
    return [tuple(FIGURES[name](h, sound) for name in figures) for h, sound in zip(heard, sounds, strict=True)]


def _si_sdr_db(clean: Float32Array, sound: Float32Array) -> float:
    """SI-SDR; of silence, which has none, that of a sound without a trace of the clean one."""
    return max(si_sdr_db(clean, sound), NO_TRACE_DB) if np.any(sound) else NO_TRACE_DB


def _snr_db(h: Heard, sound: Float32Array) -> float:
    energy, lost = float((h.enhanced**2).sum()), float(((h.enhanced - sound) ** 2).sum())
    return 10 * float(np.log10(max(energy, SILENCE) / max(lost, SILENCE)))


def _pesq(reference: Float32Array, sound: Float32Array, otherwise: float) -> float:
    """PESQ-WB; `otherwise` where it finds no speech."""
    from pesq import PesqError

    try:
        return pesq_wb(reference, sound)
    except (PesqError, ValueError):  # it fails on digital silence with "cannot convert float NaN to integer"
        return otherwise


FIGURES: dict[str, Callable[[Heard, Float32Array], float]] = {
    "d_pesq": lambda h, sound: _pesq(h.clean, sound, WORST_PESQ) - h.pesq,
    "d_si_sdr": lambda h, sound: _si_sdr_db(h.clean, sound) - h.si_sdr_db,
    "fidelity": lambda h, sound: _pesq(h.enhanced, sound, WORST_PESQ),
    "snr_db": _snr_db,
}
