"""The same everywhere: 8-bit operators and a second of sound through each runtime, on other processors than this."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import operators
import pytest
from processors import EMULATED, PROCESSORS, run_emulated, run_hidden

from edge_runtime.engines.golden import snr_db
from edge_runtime.stft import Float32Array
from quant.build.contents import INT8_FLOORS_DB
from quant.emit.native.emitter import emit_native
from quant.emit.onnx.emitter import emit_onnx
from quant.emit.tflite.emitter import emit_tflite
from quant.int8.plan import with_float_grus
from quant.int8.reference import Reference
from quant.ptq.quantize import Quantized

N_FRAMES = 62  # a second
Run = Callable[..., None]


@pytest.fixture(scope="module")
def asked(quantized: Quantized, spectra: Float32Array) -> dict[str, Any]:
    """Runtime -> (model, frames for its operators, frames of sound)."""
    onnx, tflite, native = (emit(quantized.graph, quantized.plan) for emit in (emit_onnx, emit_tflite, emit_native))
    few, sound = spectra[60:66], spectra[:N_FRAMES]
    return {name: (model, few, sound) for name, model in (("onnx", onnx), ("tflite", tflite), ("native", native))}


@pytest.fixture(scope="module")
def wanted(quantized: Quantized, spectra: Float32Array) -> dict[str, Float32Array]:
    """Runtime -> what the integer reference makes of the sound, of the plan as that runtime computes it."""

    def referred(graph: Any, plan: Any) -> Float32Array:
        reference = Reference(graph, plan)
        return np.stack([reference.step(frame) for frame in spectra[:N_FRAMES]]).astype(np.float32)

    as_planned = referred(quantized.graph, quantized.plan)
    onnx = referred(*with_float_grus(quantized.graph, quantized.plan))
    return {"onnx": onnx, "tflite": as_planned, "native": as_planned}


def check(run: Run, asked: dict[str, Any], wanted: dict[str, Float32Array], folder: Path) -> None:
    (folder / "asked.pkl").write_bytes(pickle.dumps(asked))
    run(operators.__file__, folder)
    told = json.loads((folder / "judged.json").read_text())
    assert set(told) == {"onnx", "tflite"}
    for runtime, kinds in told.items():
        found = {kind: operators.Judged(*numbers) for kind, numbers in kinds.items()}
        assert operators.breaches(runtime, found) == {}, runtime
    for runtime, enhanced in wanted.items():
        heard = np.load(folder / f"{runtime}.npy")
        if runtime == "native":
            np.testing.assert_array_equal(heard, enhanced)
        else:
            assert snr_db(enhanced, heard) >= INT8_FLOORS_DB[runtime], runtime


@pytest.mark.parametrize("name", PROCESSORS)
def test_every_runtime_computes_what_it_must_on(
    name: str, asked: dict[str, Any], wanted: dict[str, Float32Array], tmp_path: Path
) -> None:
    check(partial(run_hidden, PROCESSORS[name], tmp_path), asked, wanted, tmp_path)
    assert json.loads((tmp_path / "isas.json").read_text())[0] == PROCESSORS[name].native, "its features are hidden"


@pytest.mark.slow
@pytest.mark.qemu
@pytest.mark.parametrize("cpu", EMULATED)
def test_every_runtime_computes_what_it_must_emulated(
    cpu: str, asked: dict[str, Any], wanted: dict[str, Float32Array], tmp_path: Path
) -> None:
    check(partial(run_emulated, cpu), asked, wanted, tmp_path)
