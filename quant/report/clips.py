"""What the report lets one hear: short clips as noisy, float, int8 and difference, matched in level; spectrograms.

A recording comes with the project, 8 s, noisy and clean; `quant report --clip` takes the user's in its place. Beside it
stands the clip of the golden vectors, 2 s, which the build has computed.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import soundfile as sf

from edge_runtime import stft
from edge_runtime.engines import available
from edge_runtime.engines.golden import snr_db
from edge_runtime.errors import Failure
from edge_runtime.extras import how_to_install
from edge_runtime.files import sound_source
from edge_runtime.manifest import Artifact
from edge_runtime.stft import HOP_SAMPLES, SAMPLE_RATE_HZ, WINDOW_SAMPLES, Float32Array, Synthesis, WindowName
from quant.quality.pairs import find_pairs
from quant.quality.results import QualityPart, worst
from quant.quality.systems import Model

PLAYED_DBFS: Final = -26.0  # RMS of every player: ITU-T P.56's usual level
PEAK: Final = 0.98  # no player clips
BOOST_DB: Final = 20.0  # of the difference signal, which would be too quiet to hear what it is
MOST_SECONDS: Final = 8.0  # of a user's clips together; the page stays small
PART_SECONDS: Final = 2.0  # of an evaluated clip
N_COLUMNS: Final = 500  # of a spectrogram: a screen shows no more
# Noisy and clean: the pulled beckett.wav in keyboard-typing.ogg at 5 dB SNR, a cut that calibration does not make.
RECORDING: Final = "recording.flac"
FLOOR_DB: Final = 80.0  # below the loudest of a clip: the dark end of its spectrograms


class SignalPart(msgspec.Struct, frozen=True, kw_only=True):
    """Level as it was, and the gain it is played with; `role`: noisy, fp32, int8, difference, clean."""

    role: str
    rms_dbfs: float
    gain_db: float


class ClipPart(msgspec.Struct, frozen=True, kw_only=True):
    """A clip without its sound. `snr_db`: of int8 to float, None where they are equal."""

    name: str
    source: str
    seconds: float
    snr_db: float | None
    signals: tuple[SignalPart, ...]


@dataclass(frozen=True)
class Clip:
    """Signals (n,) at 16 kHz, aligned, by role: noisy, fp32, int8, difference (int8 - fp32), clean."""

    name: str
    source: str
    signals: Mapping[str, Float32Array]

    @property
    def gains(self) -> dict[str, float]:
        """Role -> factor: all sound equally loud, none clips; the difference as int8, BOOST_DB louder."""
        own = {role: _level(signal) for role, signal in self.signals.items() if role != "difference"}
        gains = {role: 10 ** (PLAYED_DBFS / 20) / max(level, 1e-6) for role, level in own.items()}
        loudest = max(float(np.abs(self.signals[role]).max()) * gain for role, gain in gains.items())
        gains = {role: gain * min(1.0, PEAK / max(loudest, 1e-9)) for role, gain in gains.items()}
        if "difference" not in self.signals:
            return gains
        room = PEAK / max(float(np.abs(self.signals["difference"]).max()), 1e-9)
        return gains | {"difference": min(gains["int8"] * 10 ** (BOOST_DB / 20), room)}

    def part(self) -> ClipPart:
        """Levels and gains, not the sound."""
        exact, rough = self.signals["fp32"], self.signals["int8"]
        found = snr_db(exact, rough)
        return ClipPart(
            name=self.name,
            source=self.source,
            seconds=len(exact) / SAMPLE_RATE_HZ,
            snr_db=found if np.isfinite(found) else None,
            signals=tuple(
                SignalPart(role=role, rms_dbfs=_dbfs(_level(self.signals[role])), gain_db=_dbfs(gain))
                for role, gain in self.gains.items()
            ),
        )

    def flac(self, role: str) -> bytes:
        """The signal as it is played, 16 bits, lossless."""
        buffer = io.BytesIO()
        played = np.rint(np.clip(self.signals[role] * self.gains[role], -1, 1) * 32767).astype(np.int16)
        sf.write(buffer, played, SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
        return buffer.getvalue()

    def spectrogram(self, role: str) -> Float32Array:
        """(257, columns) as it is played, 0 (FLOOR_DB below the loudest) to 1, the highest bin first.

        The loudest is the noisy clip's, one scale for all; that of the difference is its own.
        """
        loudest = role if role == "difference" else "noisy"
        powers = {r: _power_db(self.signals[r] * self.gains[r]) for r in (role, loudest)}
        top = float(powers[loudest].max())
        return np.clip((powers[role] - top + FLOOR_DB) / FLOOR_DB, 0, 1)[::-1].astype(np.float32)


def golden_clip(golden: Mapping[str, Float32Array], window: WindowName, source: str) -> Clip:
    """The clip behind the golden vectors, by the float model and the integer reference."""
    signals = {
        role: _synthesis(golden[key], window)
        for role, key in (("noisy", "spectrum"), ("fp32", "enhanced_fp32"), ("int8", "enhanced_int8"))
    }
    return Clip("golden clip", source, signals | {"difference": signals["int8"] - signals["fp32"]})


def own_clip(models: Mapping[str, Model]) -> Clip:
    """The recording that comes with the project through the models of one engine, by precision."""
    with (resources.files(__package__) / RECORDING).open("rb") as file:
        noisy, clean = np.ascontiguousarray(sf.read(file, dtype="float32")[0].T)
    what = "comes with edge-denoise (Useful Sensors, MIT; Anton of freesound.org, CC BY 4.0)"
    engine = next(iter(models.values())).engine
    return _through(models, "speech at a keyboard", f"{what}, through the {engine} engine", noisy, clean)


def models_here(artifact: Artifact, first: str) -> dict[str, Model]:
    """Both precisions of the `first` engine if it is here, else of one that is. Failure: none runs both."""
    here = available()
    for engine in (first, "native", *sorted(artifact.manifest.models)):
        if engine in here and {"fp32", "int8"} <= set(artifact.manifest.models.get(engine, {})):
            return {precision: Model.read(artifact, engine, precision) for precision in ("fp32", "int8")}
    raise Failure("no engine here runs both models", where=artifact.directory, remedy=how_to_install("onnx"))


def user_clip(artifact: Artifact, text: str, most_seconds: float = MOST_SECONDS) -> Clip:
    """NOISY[:CLEAN] through the artifact's own models. Failure: no sound, or no engine here for both precisions."""
    noisy_path, _, clean_path = (text, "", "") if Path(text).exists() else text.partition(":")
    noisy = _read(Path(noisy_path), most_seconds)
    clean = _read(Path(clean_path), most_seconds) if clean_path else None
    if clean is not None and len(clean) != len(noisy):
        raise Failure("clean and noisy differ in length", where=clean_path, remedy="cut both alike, or leave it out")
    return _given(artifact, Path(noisy_path).name, "given with --clip", noisy, clean)


def worst_clips(artifact: Artifact, quality: QualityPart | None, folder: Path) -> list[Clip]:
    """The clips of an evaluation on which 8 bits lost most, the PART_SECONDS where they differ most from float.

    Failure: the evaluation does not tell clip by clip, or its recordings are not in `folder`.
    """
    names = [c.clip for c in worst(quality, artifact.manifest.preferred_engine)] if quality else []
    if not names:
        raise Failure(
            "no evaluation tells clip by clip", where="--pairs", remedy="first `quant eval DIR --pairs PAIRS`"
        )
    found = {pair.name: pair for pair in find_pairs(folder)}
    if missing := [name for name in names if name not in found]:
        raise Failure(f"holds no {missing[0]}, which was evaluated", where=folder, remedy="name the evaluated folder")
    clips = []
    for name in names:
        clean, noisy = found[name].read()
        whole = _given(artifact, name, f"where 8 bits differ most, {PART_SECONDS:g} s", noisy, clean)
        clips.append(_loudest_part(whole))
    return clips


def _given(artifact: Artifact, name: str, what: str, noisy: Float32Array, clean: Float32Array | None) -> Clip:
    models = models_here(artifact, artifact.manifest.preferred_engine)
    told = f"{what}, through the {models['int8'].engine} engine; its licence is yours"
    return _through(models, name, told, noisy, clean)


def _through(
    models: Mapping[str, Model], name: str, source: str, noisy: Float32Array, clean: Float32Array | None
) -> Clip:
    made = {precision: models[precision]()(noisy)[: len(noisy)] for precision in ("fp32", "int8")}
    signals = {"noisy": noisy, **made, "difference": made["int8"] - made["fp32"]}
    signals |= {} if clean is None else {"clean": clean}
    return Clip(name, source, signals)


def _loudest_part(clip: Clip) -> Clip:
    """Of the difference, and without it: five of them fill a page."""
    n = int(PART_SECONDS * SAMPLE_RATE_HZ)
    energy = np.concatenate([[0.0], np.cumsum(clip.signals["difference"].astype(np.float64) ** 2)])
    start = int(np.argmax(energy[n:] - energy[:-n])) if len(energy) > n else 0
    cut = {role: signal[start : start + n] for role, signal in clip.signals.items() if role != "difference"}
    return replace(clip, signals=cut)


def _read(path: Path, most_seconds: float) -> Float32Array:
    """At most so much, mono, at 16 kHz. Failure: unreadable or silent."""
    import soxr

    sound, rate_hz = sound_source.read(path, most_seconds, mixed=True)
    mono = sound[:, 0]
    if rate_hz != SAMPLE_RATE_HZ:
        mono = soxr.resample(mono, rate_hz, SAMPLE_RATE_HZ)
    if not mono.any():
        raise Failure("is silent", where=path, remedy="name a recording with sound in it")
    return mono


def _synthesis(frames: Float32Array, window: WindowName) -> Float32Array:
    """(frames, 257, 2) -> samples."""
    synthesis, hop, out = Synthesis(window), np.empty(HOP_SAMPLES, np.float32), list[Float32Array]()
    for frame in frames:
        synthesis.push(np.ascontiguousarray(frame), hop)
        out.append(hop.copy())
    return np.concatenate(out)


def _power_db(signal: Float32Array) -> Float32Array:
    """(257, columns) in dB, at most about N_COLUMNS."""
    step = max(HOP_SAMPLES // 4, len(signal) // N_COLUMNS)
    half = WINDOW_SAMPLES // 2  # a column lies where its window is centred
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(signal, half), WINDOW_SAMPLES)[::step]
    power = np.abs(np.fft.rfft(frames * stft.window(stft.SQRT_HANN).analysis ** 2)) ** 2
    return np.asarray(10 * np.log10(power.T + 1e-9), np.float32)


def _level(signal: Float32Array) -> float:
    return float(np.sqrt(np.mean(signal.astype(np.float64) ** 2)))


def _dbfs(factor: float) -> float:
    return round(20 * float(np.log10(max(factor, 1e-10))), 2)
