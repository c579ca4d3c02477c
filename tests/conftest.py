"""What the tests of the compiler share, computed once a session from the pulled assets.

official    the published checkpoint            graph      its streaming graph, every pass done
mixture     10 s of real speech in real noise   spectra    its frames, (626, 257, 2)
calibration 8 real clips                        quantized  the default recipe on them
"""

from __future__ import annotations

import os

# One thread each: the tensors are small, and under `pytest -n 2` idle OpenMP threads spin against each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_runtime.engines import Engine
    from edge_runtime.stft import Float32Array
    from quant.checkpoint import Checkpoint
    from quant.emitted import Emitted
    from quant.graph import Graph
    from quant.ptq import CalibrationSet, Quantized

N_FRAMES_3_S = 188


@pytest.fixture(scope="session")
def official() -> Checkpoint:
    """The official weights, recovered from the streaming ONNX."""
    from quant import assets, checkpoint

    return checkpoint.load(assets.weights())


@pytest.fixture(scope="session")
def graph(official: Checkpoint) -> Graph:
    """The streaming graph of the official weights."""
    from quant.gtcrn import gtcrn
    from quant.passes import streaming_graph

    return streaming_graph(gtcrn(official.params))


@pytest.fixture(scope="session")
def mixture() -> Float32Array:
    """(160000,) samples: 10 s at 5 dB SNR and -25 dBFS."""
    from calibration.mixing import Mix

    mix = Mix((5, 5), (-25, -25), 0, 0, n_clips=1, clip_ms=10_000, warmup_ms=0, seed=1)
    return _clips(mix).noisy[0]


@pytest.fixture(scope="session")
def spectra(mixture: Float32Array) -> Float32Array:
    """(626, 257, 2) frames of the mixture; the last hop is padded."""
    from quant.spectra import analyse

    return np.ascontiguousarray(analyse(mixture).transpose(1, 2, 0))


@pytest.fixture(scope="session")
def spectra_3_s(spectra: Float32Array) -> Float32Array:
    """(188, 257, 2): the first 3 s."""
    return spectra[:N_FRAMES_3_S]


@pytest.fixture(scope="session")
def calibration() -> CalibrationSet:
    """8 clips of 4 s as a build mixes them; the mixture is another cut of the same recordings."""
    from calibration.mixing import Mix

    return _clips(Mix(n_clips=8))


@pytest.fixture(scope="session")
def quantized(official: Checkpoint, graph: Graph, calibration: CalibrationSet) -> Quantized:
    """The default recipe with ranges of the calibration clips."""
    from quant import ptq, recipe

    return ptq.quantize(graph, recipe.load("static"), calibration, official.sha256)


@pytest.fixture(scope="session")
def opened() -> Callable[[str, Emitted], Engine]:
    """What opens an emitted model with the runtime's own engine, "onnx" or "tflite"."""
    from importlib import import_module

    from edge_runtime.engines import ENGINES
    from edge_runtime.manifest import ModelEntry

    def open_emitted(engine: str, emitted: Emitted) -> Engine:
        entry = ModelEntry(file=f"model.{engine}", states=emitted.states, golden_snr_floor_db=0)
        opened: Engine = import_module(ENGINES[engine].module).open_model(emitted.data, entry, "int8", 1)
        return opened

    return open_emitted


def _clips(mix: object) -> CalibrationSet:
    from calibration.corpus import Corpus
    from quant import assets
    from quant.ptq import CalibrationSet

    return CalibrationSet.make(Corpus.open(assets.speech()), Corpus.open(assets.noise()), mix)
