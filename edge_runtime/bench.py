"""How long a frame takes on this machine: the model alone, and the whole hop around it."""

from __future__ import annotations

import gc
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_runtime.denoiser import Denoiser
from edge_runtime.engines import AUTO, Engine, open_engine
from edge_runtime.engines.golden import load_golden
from edge_runtime.machine import conditions, this_machine
from edge_runtime.manifest import Artifact, open_artifact
from edge_runtime.stft import HOP_SAMPLES, SAMPLE_RATE_HZ, Float32Array, Synthesis

N_FRAMES = 2000
N_WARMUP_FRAMES = 100  # caches, branch predictors and the clock of the core settle

_HOP_US = 1e6 * HOP_SAMPLES / SAMPLE_RATE_HZ


def bench(
    artifact: Artifact,
    engine: str = AUTO,
    precision: str = "int8",
    n_threads: int = 1,
    n_frames: int = N_FRAMES,
) -> dict[str, Any]:
    """Time `n_frames` of the artifact's golden speech, after a warm-up.

    frame_us is the model step alone; hop_us adds STFT and overlap-add; rtf is the mean hop over its 16 ms;
    load_ms is from nothing to a ready engine, its package's import included if this process had not done it;
    rss_bytes is the peak of the process. Failure: as `open_engine`.
    """
    spectra = load_golden(artifact)["spectrum"]
    began_ns = time.perf_counter_ns()
    opened = open_engine(artifact, engine, precision, n_threads)
    load_ms = (time.perf_counter_ns() - began_ns) / 1e6
    frame_us = _time_frames(opened, spectra, n_frames)
    hop_us = _time_hops(Denoiser(opened), spectra, n_frames)
    return {
        "engine": opened.name,
        "precision": precision,
        "n_threads": n_threads,
        "n_frames": n_frames,
        "frame_us": _spread(frame_us),
        "hop_us": _spread(hop_us),
        "rtf": round(float(hop_us.mean()) / _HOP_US, 5),
        "load_ms": round(load_ms, 2),
        "rss_bytes": _peak_rss_bytes(),
        "machine": {**this_machine(), "engine_version": opened.package, "conditions": conditions()},
    }


def benched(directory: str, engine: str, precision: str, n_threads: str) -> bytes:
    """`bench` as JSON. For a process of its own."""
    import json

    return json.dumps(bench(open_artifact(directory), engine, precision, int(n_threads))).encode()


def _time_frames(engine: Engine, spectra: Float32Array, n_frames: int) -> npt.NDArray[np.float64]:
    enhanced = np.empty_like(spectra[0])
    engine.reset()
    return _time(lambda spectrum: engine.step(spectrum, enhanced), list(spectra), n_frames)


def _time_hops(denoiser: Denoiser, spectra: Float32Array, n_frames: int) -> npt.NDArray[np.float64]:
    hop_out = np.empty(HOP_SAMPLES, np.float32)
    return _time(lambda hop: denoiser.step(hop, hop_out), _hops(spectra), n_frames)


def _hops(spectra: Float32Array) -> list[Float32Array]:
    """The samples behind the spectra."""
    synthesis = Synthesis()
    hops = np.empty((len(spectra), HOP_SAMPLES), np.float32)
    for spectrum, hop in zip(spectra, hops, strict=True):
        synthesis.push(spectrum, hop)
    return list(hops)


def _time(step: Callable[[Float32Array], None], inputs: list[Float32Array], n_frames: int) -> npt.NDArray[np.float64]:
    """Microseconds of each of `n_frames` steps over the inputs, cycled, warm-up left out."""
    taken_ns = np.empty(N_WARMUP_FRAMES + n_frames, np.int64)
    now_ns = time.perf_counter_ns
    with _no_garbage_collection():
        for k, one in enumerate(islice(cycle(inputs), len(taken_ns))):
            began_ns = now_ns()
            step(one)
            taken_ns[k] = now_ns() - began_ns
    return taken_ns[N_WARMUP_FRAMES:] / 1e3


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _spread(taken_us: npt.NDArray[np.float64]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(taken_us, (50, 95, 99))
    figures = {"p50": p50, "p95": p95, "p99": p99, "max": taken_us.max(), "mean": taken_us.mean()}
    return {name: round(float(value), 2) for name, value in figures.items()}


def _peak_rss_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB
