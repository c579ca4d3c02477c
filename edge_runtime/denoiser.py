"""Noisy samples in, clean samples out: analysis, one step of the engine, synthesis.

Any chunk size gives the same output. Sample i out is sample i in; it comes out once the hop that contains
sample i + LATENCY_SAMPLES is complete, so a live stream runs at most HOP_SAMPLES + LATENCY_SAMPLES (32 ms)
behind. `flush` drains what is still owed at the end.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_runtime.engines import AUTO, open_engine
from edge_runtime.engines.interface import Engine, HopEngine
from edge_runtime.manifest import Artifact, open_artifact
from edge_runtime.stft import (
    HOP_SAMPLES,
    INPUT_LIMIT,
    LATENCY_SAMPLES,
    N_BINS,
    Analysis,
    Float32Array,
    Repairs,
    Synthesis,
)


def repair(samples: Float32Array) -> Repairs:
    """In place: samples that are not finite become 0, the others are limited to +-INPUT_LIMIT."""
    if samples.size == 0 or (samples.min() >= -INPUT_LIMIT and samples.max() <= INPUT_LIMIT):
        return Repairs()  # a NaN fails both comparisons
    finite = np.isfinite(samples)
    samples[~finite] = 0
    n_limited = int(np.count_nonzero(np.abs(samples) > INPUT_LIMIT))
    np.clip(samples, -INPUT_LIMIT, INPUT_LIMIT, out=samples)
    return Repairs(samples.size - int(np.count_nonzero(finite)), n_limited)


# Full scale of integer samples, as sound files and devices have them.
_FULL_SCALE: Final = {"int8": 2.0**7, "uint8": 2.0**7, "int16": 2.0**15, "int32": 2.0**31}


def floats(samples: npt.ArrayLike) -> Float32Array:
    """Samples as float32 in [-1, 1]: integers divided by their full scale, 8 unsigned bits less 128, as WAV has them.

    ValueError: of another kind, whose full scale nobody knows.
    """
    given = np.asarray(samples)
    if given.dtype.kind == "f":
        return given.astype(np.float32, copy=False)
    scale = _FULL_SCALE.get(given.dtype.name)
    if scale is None:
        raise ValueError(f"samples are {given.dtype.name}; give floats in [-1, 1], or int16, int32, int8 or uint8")
    zero = 128.0 if given.dtype.kind == "u" else 0.0
    return ((given.astype(np.float64) - zero) / scale).astype(np.float32)


class Denoiser:
    """One mono stream at 16 kHz through one engine, which it owns. Not for two threads at once.

    `n_nonfinite` and `n_limited` count the input samples repaired since it was made (see `repair`);
    `engine_reason` says why the engine was taken.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._process = engine.process if isinstance(engine, HopEngine) else self._through_spectra
        self.n_nonfinite = 0
        self.n_limited = 0
        self._analysis = Analysis(engine.window)
        self._synthesis = Synthesis(engine.window)
        self._hop = np.zeros(HOP_SAMPLES, np.float32)
        self._spectrum = np.zeros((N_BINS, 2), np.float32)
        self._enhanced = np.zeros((N_BINS, 2), np.float32)
        self.reset()

    @classmethod
    def open(
        cls,
        artifact: Artifact | str | Path | None = None,
        engine: str = AUTO,
        precision: str = "int8",
        n_threads: int = 1,
    ) -> Denoiser:
        """A denoiser from an artifact or its folder; without one, from the model that is built in.

        Failure: see `open_artifact` and `open_engine`.
        """
        if not isinstance(artifact, Artifact):
            artifact = open_artifact(artifact)
        return cls(open_engine(artifact, engine, precision, n_threads))

    @property
    def engine_reason(self) -> str:
        """As asked, as measured, as given: why this engine."""
        return self.engine.reason

    def reset(self) -> None:
        """Forget the stream: every state back to its start, nothing owed."""
        self.engine.reset()
        self._analysis.reset()
        self._synthesis.reset()
        self._pending = np.empty(0, np.float32)  # fewer than HOP_SAMPLES, waiting for the rest of their hop
        self._n_owed = 0  # samples fed and not yet returned
        self._n_preroll = LATENCY_SAMPLES  # what synthesis emits before the first sample of the stream

    def step(self, hop: Float32Array, hop_out: Float32Array) -> None:
        """One hop in, (256,), one hop out, (256,), LATENCY_SAMPLES behind. For live loops; not with feed.

        ValueError: the hop is not float32.
        """
        if hop.dtype != np.float32:
            raise ValueError(f"the hop is {hop.dtype.name}, not float32; `feed` takes other kinds")
        repairs = self._process(hop, hop_out)
        self.n_nonfinite += repairs.n_nonfinite
        self.n_limited += repairs.n_limited

    def _through_spectra(self, hop: Float32Array, hop_out: Float32Array) -> Repairs:
        """What an engine without Fourier transforms needs around its step."""
        self._hop[:] = hop
        repairs = repair(self._hop)
        self._analysis.push(self._hop, self._spectrum)
        self.engine.step(self._spectrum, self._enhanced)
        self._synthesis.push(self._enhanced, hop_out)
        return repairs

    def feed(self, samples: npt.ArrayLike) -> Float32Array:
        """Take any number of samples, (n,), and return those that are ready, (m,) float32 in [-1, 1].

        They are floats in [-1, 1], or integers as `floats` takes them. ValueError: neither, or not one-dimensional.
        """
        new = floats(samples)
        if new.ndim != 1:
            raise ValueError(f"samples have shape {new.shape}, a stream is one-dimensional")
        self._n_owed += new.size
        ready = self._denoise_whole_hops(np.concatenate((self._pending, new)))
        self._n_owed -= ready.size
        return ready

    def flush(self) -> Float32Array:
        """The samples still owed, as if silence followed; then `reset`. Total out equals total in."""
        n_owed = self._n_owed
        n_to_whole_hop = -self._pending.size % HOP_SAMPLES
        tail = self.feed(np.zeros(n_to_whole_hop + LATENCY_SAMPLES, np.float32))[:n_owed]
        self.reset()
        return tail

    def _denoise_whole_hops(self, stream: Float32Array) -> Float32Array:
        n_whole = stream.size - stream.size % HOP_SAMPLES
        out = np.empty(n_whole, np.float32)
        for start in range(0, n_whole, HOP_SAMPLES):
            hop = slice(start, start + HOP_SAMPLES)
            self.step(stream[hop], out[hop])
        self._pending = stream[n_whole:].copy()
        n_early = min(self._n_preroll, n_whole)
        self._n_preroll -= n_early
        return out[n_early:]
