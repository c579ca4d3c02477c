"""Speech quality through the real runtimes: noisy, float and int8 of each engine, clip by clip, with streaming state.

Metrics are those of kept libraries: PESQ wide-band (`pesq`), STOI (`pystoi`); SI-SDR is Le Roux et al., "SDR -
half-baked or well done?" (2019), equation 3.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from edge_runtime import Denoiser, open_artifact
from edge_runtime.engines import available
from edge_runtime.errors import Failure
from edge_runtime.stft import SAMPLE_RATE_HZ
from quant.graph import Array

AUDIO_SUFFIXES = (".flac", ".wav")
N_BOOTSTRAP = 2000
NOISY = "noisy"

Metric = Callable[[Array, Array], float]


@dataclass(frozen=True)
class Pair:
    """A noisy recording and its clean original, 16 kHz mono."""

    name: str
    clean: Path
    noisy: Path

    def read(self) -> tuple[Array, Array]:
        """(clean, noisy) samples. Failure: another rate, channel count or length."""
        sounds = []
        for path in (self.clean, self.noisy):
            samples, rate_hz = sf.read(path, dtype="float32", always_2d=True)
            if rate_hz != SAMPLE_RATE_HZ or samples.shape[1] != 1:
                raise Failure(f"is {samples.shape[1]} x {rate_hz} Hz, not mono 16000 Hz", where=path)
            sounds.append(samples[:, 0])
        if len(sounds[0]) != len(sounds[1]):
            raise Failure("clean and noisy differ in length", where=self.noisy)
        return sounds[0], sounds[1]


@dataclass(frozen=True)
class System:
    """One thing to evaluate: a model of an artifact, run by an engine. `label` names it in tables."""

    label: str
    artifact: Path
    engine: str
    precision: str


@dataclass(frozen=True)
class Row:
    """The scores of one clip under one system; `error` says why there are none."""

    clip: str
    system: str
    scores: Mapping[str, float]
    error: str = ""


def find_pairs(folder: Path) -> list[Pair]:
    """Pairs in FOLDER/clean and FOLDER/noisy by file name. Failure: none, or one side missing."""
    names = {
        side: {p.name: p for p in sorted((folder / side).glob("*")) if p.suffix in AUDIO_SUFFIXES}
        for side in ("clean", "noisy")
    }
    if not names["noisy"]:
        raise Failure("holds no pairs", where=folder, remedy="it needs clean/ and noisy/ with the same file names")
    if alone := sorted(set(names["clean"]) ^ set(names["noisy"])):
        raise Failure(f"{alone[0]} has no counterpart", where=folder, remedy="clean/ and noisy/ must match")
    return [Pair(name, names["clean"][name], names["noisy"][name]) for name in sorted(names["noisy"])]


def pesq_wb(clean: Array, enhanced: Array) -> float:
    """PESQ wide-band, MOS-LQO."""
    from pesq import pesq

    return float(pesq(SAMPLE_RATE_HZ, clean, enhanced, "wb"))


def stoi(clean: Array, enhanced: Array) -> float:
    """Short-time objective intelligibility, 0 to 1."""
    from pystoi import stoi as measure

    return float(measure(clean, enhanced, SAMPLE_RATE_HZ))


def si_sdr(clean: Array, enhanced: Array) -> float:
    """Scale-invariant signal to distortion ratio in dB."""
    clean, enhanced = (x.astype(np.float64) - x.mean(dtype=np.float64) for x in (clean, enhanced))
    target = (clean @ enhanced) / (clean @ clean) * clean
    return float(10 * np.log10((target @ target) / max(float(((enhanced - target) ** 2).sum()), 1e-20)))


def estoi(clean: Array, enhanced: Array) -> float:
    """Extended STOI, 0 to 1."""
    from pystoi import stoi as measure

    return float(measure(clean, enhanced, SAMPLE_RATE_HZ, extended=True))


METRICS: dict[str, Metric] = {"pesq": pesq_wb, "stoi": stoi, "estoi": estoi, "sisdr": si_sdr}
DEFAULT_METRICS = ("pesq", "stoi", "sisdr")


def choose_metrics(text: str) -> list[str]:
    """Names from a comma-separated list. Failure: an unknown one, or its package is not installed."""
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in METRICS]:
        raise Failure(f"unknown metric {unknown[0]!r}", where="--metrics", remedy=f"choose from {','.join(METRICS)}")
    for package in ("joblib", "pesq", "pystoi"):
        if find_spec(package) is None:
            raise Failure(f"{package} is not installed", remedy="pip install 'edge-denoise[eval]'")
    return names


def systems_of(artifacts: Sequence[Path]) -> list[System]:
    """Every model of every artifact that an engine here can run; with several artifacts labels say which."""
    systems = []
    for folder in artifacts:
        prefix = f"{folder.name} " if len(artifacts) > 1 else ""
        for engine, models in sorted(open_artifact(folder).manifest.models.items()):
            if engine in available():
                systems += [System(f"{prefix}{engine} {p}", folder, engine, p) for p in sorted(models)]
    if not systems:
        raise Failure("no engine is installed to run these models", remedy="pip install 'edge-denoise[onnx]'")
    return systems


def float_counterparts(systems: Sequence[System]) -> dict[str, str]:
    """int8 system -> the float one of the same artifact and engine."""
    return {s.label: s.label.replace("int8", "fp32") for s in systems if s.precision == "int8"}


def evaluate(
    systems: Sequence[System], pairs: Sequence[Pair], metrics: Sequence[str], *, n_jobs: int = -1, quiet: bool = False
) -> list[Row]:
    """Every pair under `noisy` and every system, in parallel by clip; a clip that fails is a row with its error."""
    from joblib import Parallel, delayed
    from tqdm import tqdm

    jobs = (delayed(_score_pair)(pair, systems, metrics) for pair in pairs)
    done = Parallel(n_jobs=n_jobs, return_as="generator")(jobs)
    hidden = quiet or not sys.stderr.isatty()
    shown = tqdm(done, total=len(pairs), unit="clip", file=sys.stderr, disable=hidden, leave=False)
    return [row for rows in shown for row in rows]


def _score_pair(pair: Pair, systems: Sequence[System], metrics: Sequence[str]) -> list[Row]:
    try:
        clean, noisy = pair.read()
    except (Failure, sf.LibsndfileError) as error:
        return [Row(pair.name, NOISY, {}, str(error))]
    rows = [_scored(pair.name, NOISY, clean, noisy, metrics)]
    return rows + [_scored(pair.name, s.label, clean, enhance(s, noisy), metrics) for s in systems]


def _scored(clip: str, system: str, clean: Array, sound: Array, metrics: Sequence[str]) -> Row:
    try:
        return Row(clip, system, {name: METRICS[name](clean, sound) for name in metrics})
    except Exception as error:  # PESQ raises its own kinds for silent clips
        return Row(clip, system, {}, f"{type(error).__name__}: {error}")


def enhance(system: System, noisy: Array) -> Array:
    """The recording through a fresh stream of the system's engine."""
    denoiser = Denoiser.open(open_artifact(system.artifact), system.engine, system.precision)
    return np.concatenate([denoiser.feed(noisy), denoiser.flush()])


@dataclass(frozen=True)
class Summary:
    """Means of a system, and the paired difference to its float counterpart with a bootstrap 95 % interval."""

    system: str
    n_clips: int
    means: Mapping[str, float]
    differences: Mapping[str, tuple[float, float, float]]  # mean, low, high

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "system": self.system,
            "n_clips": self.n_clips,
            "means": dict(self.means),
            "differences": {k: dict(zip(("mean", "low", "high"), v, strict=True)) for k, v in self.differences.items()},
        }


def summarise(rows: Sequence[Row], float_of: Mapping[str, str]) -> list[Summary]:
    """One summary a system; `float_of` maps a system to the one it is compared with."""
    table: dict[str, dict[str, Mapping[str, float]]] = {}
    for row in rows:
        if not row.error:
            table.setdefault(row.system, {})[row.clip] = row.scores
    out = []
    for system, clips in table.items():
        names = next(iter(clips.values()))
        means = {m: float(np.mean([scores[m] for scores in clips.values()])) for m in names}
        base = table.get(float_of.get(system, ""), {})
        shared = [c for c in clips if c in base]
        differences = {m: bootstrap(np.array([clips[c][m] - base[c][m] for c in shared])) for m in names if shared}
        out.append(Summary(system, len(clips), means, differences))
    return out


def bootstrap(differences: NDArray[np.float64], seed: int = 0) -> tuple[float, float, float]:
    """Mean, and the 2.5 and 97.5 percentiles of means over resampled clips."""
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(differences), (N_BOOTSTRAP, len(differences)))
    low, high = np.percentile(differences[picks].mean(1), [2.5, 97.5])
    return float(differences.mean()), float(low), float(high)
