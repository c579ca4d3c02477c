"""What the report lets one hear: short clips as noisy, float, int8 and difference, matched in level; spectrograms.

At a build the clip is the golden one, 2 s, which the build has computed; `quant report --clip` takes the user's.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
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
from quant.quality.systems import Model

PLAYED_DBFS: Final = -26.0  # RMS of every player: ITU-T P.56's usual level
PEAK: Final = 0.98  # no player clips
BOOST_DB: Final = 20.0  # of the difference signal, which would be too quiet to hear what it is
MOST_SECONDS: Final = 8.0  # of a user's clip; the page stays small
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
        """(257, frames) as it is played, 0 (FLOOR_DB below the clip's loudest) to 1, the highest bin first."""
        powers = {r: _power_db(self.signals[r] * self.gains[r]) for r in (role, "noisy")}
        top = float(powers["noisy"].max())
        return np.clip((powers[role] - top + FLOOR_DB) / FLOOR_DB, 0, 1)[::-1].astype(np.float32)


def golden_clip(golden: Mapping[str, Float32Array], window: WindowName, source: str) -> Clip:
    """The clip behind the golden vectors, by the float model and the integer reference."""
    signals = {
        role: _synthesis(golden[key], window)
        for role, key in (("noisy", "spectrum"), ("fp32", "enhanced_fp32"), ("int8", "enhanced_int8"))
    }
    return Clip("golden clip", source, signals | {"difference": signals["int8"] - signals["fp32"]})


def user_clip(artifact: Artifact, text: str) -> Clip:
    """NOISY[:CLEAN] through the artifact's own models. Failure: no sound, or no engine here for both precisions."""
    noisy_path, _, clean_path = text.partition(":")
    noisy = _read(Path(noisy_path))
    engine = _engine(artifact)
    made = {p: Model.read(artifact, engine, p)()(noisy)[: len(noisy)] for p in ("fp32", "int8")}
    signals = {"noisy": noisy, **made, "difference": made["int8"] - made["fp32"]}
    if clean_path:
        clean = _read(Path(clean_path))
        if len(clean) != len(noisy):
            raise Failure("clean and noisy differ in length", where=clean_path)
        signals["clean"] = clean
    return Clip(Path(noisy_path).name, f"given with --clip, through the {engine} engine; its licence is yours", signals)


def _engine(artifact: Artifact) -> str:
    here = available()
    order = (artifact.manifest.preferred_engine, "native", *sorted(artifact.manifest.models))
    for engine in order:
        if engine in here and {"fp32", "int8"} <= set(artifact.manifest.models.get(engine, {})):
            return engine
    raise Failure("no engine here runs both models", where=artifact.directory, remedy=how_to_install("onnx"))


def _read(path: Path) -> Float32Array:
    """At most MOST_SECONDS, mono, at 16 kHz. Failure: unreadable or silent."""
    import soxr

    sound, rate_hz = sound_source.read(path, MOST_SECONDS)
    mono = np.ascontiguousarray(sound.mean(1), np.float32)
    if rate_hz != SAMPLE_RATE_HZ:
        mono = soxr.resample(mono, rate_hz, SAMPLE_RATE_HZ)
    if not mono.size or not np.abs(mono).max() > 0:
        raise Failure("holds no sound", where=path)
    return mono


def _synthesis(frames: Float32Array, window: WindowName) -> Float32Array:
    """(frames, 257, 2) -> samples."""
    synthesis, hop, out = Synthesis(window), np.empty(HOP_SAMPLES, np.float32), list[Float32Array]()
    for frame in frames:
        synthesis.push(np.ascontiguousarray(frame), hop)
        out.append(hop.copy())
    return np.concatenate(out)


def _power_db(signal: Float32Array) -> Float32Array:
    """(257, frames) in dB."""
    padded = np.pad(signal, (0, max(0, WINDOW_SAMPLES - len(signal))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW_SAMPLES)[:: HOP_SAMPLES // 2]
    power = np.abs(np.fft.rfft(frames * stft.window(stft.SQRT_HANN).analysis ** 2)) ** 2
    return np.asarray(10 * np.log10(power.T + 1e-9), np.float32)


def _level(signal: Float32Array) -> float:
    return float(np.sqrt(np.mean(signal.astype(np.float64) ** 2)))


def _dbfs(factor: float) -> float:
    return round(20 * float(np.log10(max(factor, 1e-10))), 2)
