"""ONNX and TFLite files against their judges: float against the float model, 8 bits against the integer reference.

Free-running, a rounding that falls the other way feeds back through the states, so only an SNR can be promised. Op by
op nothing cascades: each operator is held to the reference rule on the inputs the runtime itself gave it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from emitted_once import emitted
from numpy.typing import NDArray
from operators import CLASSES, RUNTIMES, breaches, entry, judged, show
from random_networks import random_network
from recorded import engine as engine_of
from recorded import recorded

from edge_runtime.engines import native
from edge_runtime.engines.golden import snr_db, stream
from edge_runtime.engines.interface import Engine
from edge_runtime.manifest import ModelEntry
from edge_runtime.stft import Float32Array
from quant.audit import coverage
from quant.audit.findings import CoveragePart
from quant.emit.emitted import Emitted
from quant.emit.native.emitter import emit_native
from quant.emit.onnx.emitter import emit_onnx
from quant.emit.tflite.emitter import emit_tflite
from quant.int8.plan import Plan
from quant.int8.reference import Reference
from quant.int8.runtimes import for_onnx, for_tflite
from quant.network.float_model import FloatModel
from quant.network.graph import Graph
from quant.network.passes import streaming_graph, with_floors
from quant.ptq.quantize import Quantized

Array = NDArray[Any]


def engine(runtime: str, model: Emitted) -> Engine:
    return engine_of(runtime, model.data, entry(model))


# --- whole streams ----------------------------------------------------------------------------------------------

# Float32 sums in another order: 131 dB and more were measured.
FP32_FLOOR_DB = 100
# On 3 s at 5 dB SNR: 33 to 37 dB against the reference, 32 to 35 dB against float. One LSB that falls the other way
# moves these by 3 dB, so the floors lie 6 dB below; a wrong grid, state or weight costs more than 10.
REFERENCE_FLOOR_DB, FLOAT_FLOOR_DB = 27, 26


@pytest.fixture(scope="module")
def enhanced_fp32(graph: Graph, spectra: Float32Array) -> Float32Array:
    """(626, 257, 2): the mixture through the float model."""
    with torch.no_grad():
        y, _ = FloatModel(graph)(torch.from_numpy(spectra).permute(2, 0, 1)[None].contiguous())
    return np.ascontiguousarray(y[0].permute(1, 2, 0).numpy())


@pytest.fixture(scope="module")
def enhanced_int8(quantized: Quantized, spectra_3_s: Float32Array) -> Float32Array:
    """(188, 257, 2): the first 3 s through the integer reference."""
    reference = Reference(quantized.graph, quantized.plan)
    return np.stack([reference.step(frame) for frame in spectra_3_s]).astype(np.float32)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_float_is_the_float_model(
    runtime: str, graph: Graph, spectra_3_s: Float32Array, enhanced_fp32: Float32Array
) -> None:
    found = stream(engine(runtime, emitted(runtime, graph)), spectra_3_s)
    assert snr_db(enhanced_fp32[: len(found)], found) >= FP32_FLOOR_DB


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_8_bits_follow_the_reference(
    runtime: str,
    quantized: Quantized,
    spectra_3_s: Float32Array,
    enhanced_int8: Float32Array,
    enhanced_fp32: Float32Array,
) -> None:
    found = stream(engine(runtime, emitted(runtime, quantized.graph, quantized.plan)), spectra_3_s)
    assert snr_db(enhanced_int8, found) >= REFERENCE_FLOOR_DB
    assert snr_db(enhanced_fp32[: len(found)], found) >= FLOAT_FLOOR_DB


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_8_bits_follow_the_reference_for_10_s(runtime: str, quantized: Quantized, spectra: Float32Array) -> None:
    """33 to 38 dB were measured: the error does not grow with time."""
    reference = Reference(quantized.graph, quantized.plan)
    wanted = np.stack([reference.step(frame) for frame in spectra]).astype(np.float32)
    found = stream(engine(runtime, emitted(runtime, quantized.graph, quantized.plan)), spectra)
    assert snr_db(wanted, found) >= REFERENCE_FLOOR_DB


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_reset_and_carried_states_are_exact(runtime: str, quantized: Quantized, spectra_3_s: Float32Array) -> None:
    """The runtime's own laws on the real model: the same stream again, and from states that were taken out."""
    opened = engine(runtime, emitted(runtime, quantized.graph, quantized.plan))
    first = stream(opened, spectra_3_s[:20])
    middle = opened.states()
    out = np.empty_like(first[0])
    opened.step(spectra_3_s[20], out)
    wanted = out.copy()
    np.testing.assert_array_equal(stream(opened, spectra_3_s[:20]), first)
    opened.reset()
    opened.set_states(middle)
    opened.step(spectra_3_s[20], out)
    np.testing.assert_array_equal(out, wanted)


# --- operator by operator ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_recipe(quantized: Quantized, everything: Quantized, ulunas_quantized: Quantized) -> dict[str, Quantized]:
    return {"static": quantized, "everything": everything, "ul-unas": ulunas_quantized}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_8_bit_operator_is_in_its_class(
    runtime: str, by_recipe: dict[str, Quantized], spectra: Float32Array
) -> None:
    met = set[str]()
    for recipe, chosen in by_recipe.items():
        model, frames = emitted(runtime, chosen.graph, chosen.plan), spectra[60:75]
        found = judged(runtime, model, recorded(runtime, show(runtime, model), frames))
        assert breaches(runtime, found) == {}, recipe
        met |= set(found)
    assert met == set(CLASSES[runtime]), "a class that nothing measures"


class Second(NamedTuple):
    """The second network on some frames: its float graph, what that makes of them, and what the reference does of the
    plan as each runtime computes it."""

    frames: Float32Array
    graph: Graph
    enhanced: Float32Array
    wanted: dict[str, Float32Array]


@pytest.fixture(scope="module")
def second(ulunas_quantized: Quantized, spectra_3_s: Float32Array) -> Second:
    frames, graph = spectra_3_s[60:90], streaming_graph(random_network("ul-unas"))
    with torch.no_grad():
        y, _ = FloatModel(graph)(torch.from_numpy(frames).permute(2, 0, 1)[None].contiguous())

    def referred(lowered: tuple[Graph, Plan]) -> Float32Array:
        reference = Reference(*lowered)
        return np.stack([reference.step(frame) for frame in frames]).astype(np.float32)

    q = ulunas_quantized
    tflite = referred(for_tflite(q.graph, q.plan))
    wanted = {"onnx": referred(for_onnx(q.graph, q.plan)), "tflite": tflite, "tflite_builtin": tflite}
    return Second(frames, graph, np.ascontiguousarray(y[0].permute(1, 2, 0).numpy()), wanted)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_second_network_is_the_float_model_and_its_reference(
    runtime: str, second: Second, ulunas_quantized: Quantized
) -> None:
    q = ulunas_quantized
    floating = stream(engine(runtime, emitted(runtime, second.graph)), second.frames)
    assert snr_db(second.enhanced, floating) >= FP32_FLOOR_DB
    found = stream(engine(runtime, emitted(runtime, q.graph, q.plan)), second.frames)
    assert snr_db(second.wanted[runtime], found) >= REFERENCE_FLOOR_DB


@pytest.mark.parametrize("runtime", [*RUNTIMES, "native"])
def test_a_logarithm_ends_at_its_floor(runtime: str, second: Second) -> None:
    """Frames below it, at levels of 24-bit sound, are all alike there."""
    floored = with_floors(second.graph, {"features": -4.0})
    quiet = second.frames * np.float32(1e-6)
    with torch.no_grad():
        y, _ = FloatModel(floored)(torch.from_numpy(quiet).permute(2, 0, 1)[None].contiguous())
    wanted = y[0].permute(1, 2, 0).numpy()
    if runtime == "native":
        entry = ModelEntry(file="model.native", states=(), golden_snr_floor_db=0.0)
        opened: Engine = native.open_model(emit_native(floored).data, entry, "fp32", 1)
    else:
        opened = engine(runtime, emitted(runtime, floored))
    assert snr_db(wanted, stream(opened, quiet)) >= FP32_FLOOR_DB


@pytest.mark.parametrize(
    ("runtime", "audit", "share"),
    [("onnx", coverage.audit_onnx, 0.7714), ("tflite", coverage.audit_tflite, 0.9006)],
)
def test_the_second_network_is_executed_in_8_bits(
    runtime: str, audit: Callable[..., CoveragePart], share: float, ulunas_quantized: Quantized
) -> None:
    q = ulunas_quantized
    assert audit(q.graph, q.plan, emitted(runtime, q.graph, q.plan)).int8_share == pytest.approx(share, abs=0.0005)


# --- what the runtimes execute ----------------------------------------------------------------------------------


def test_onnx_runtime_executes_every_8_bit_convolution_in_8_bits(quantized: Quantized) -> None:
    audit = coverage.audit_onnx(quantized.graph, quantized.plan, emitted("onnx", quantized.graph, quantized.plan))
    rows = [row for row in audit.nodes if row.planned == "int8"]
    assert {row.executed for row in rows if row.kind == "conv"} == {"int8"}
    assert {row.executed for row in rows if row.kind in ("gru", "bigru")} == {"float"}, "it has no 8-bit GRU"
    assert {row.executed for row in audit.nodes if row.kind == "conv" and row.planned == "float"} == {"float"}
    assert audit.int8_share == pytest.approx(0.563, abs=0.01)


def test_onnx_runtime_executes_8_bit_sums_and_gates_in_8_bits(everything: Quantized) -> None:
    audit = coverage.audit_onnx(everything.graph, everything.plan, emitted("onnx", everything.graph, everything.plan))
    assert {row.executed for row in audit.nodes if row.kind in ("add", "gate", "conv")} == {"int8"}


def test_tflite_executes_all_that_is_planned(quantized: Quantized) -> None:
    audit = coverage.audit_tflite(quantized.graph, quantized.plan, emitted("tflite", quantized.graph, quantized.plan))
    for row in audit.nodes:
        assert row.executed == ("moved" if row.kind == "quantize" else row.planned), row.node
    assert audit.int8_share == pytest.approx(0.8158, abs=0.0005)
    n_int8, n_float = audit.multiplied["int8"], audit.multiplied["float32"]
    assert n_int8 + n_float > 1.5 * audit.macs_frame, "block-diagonal GRUs and dense kernels multiply zeros"
    assert n_int8 / (n_int8 + n_float) > audit.int8_share


@pytest.mark.parametrize("audit", [coverage.audit_onnx, coverage.audit_tflite])
def test_a_float_file_may_not_count_as_8_bit(
    audit: Callable[..., CoveragePart], graph: Graph, quantized: Quantized
) -> None:
    """The audit reads the runtime, not the plan: a float file under an 8-bit plan has a share of zero."""
    float_file = (emit_onnx if audit is coverage.audit_onnx else emit_tflite)(graph)
    found = audit(quantized.graph, quantized.plan, float_file)
    assert found.int8_share == 0
    assert all(row.executed != "int8" for row in found.nodes)
