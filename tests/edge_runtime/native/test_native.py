"""The native engine: its integers are the reference's, all kernel sets match portable C; bad weights are refused."""

from __future__ import annotations

from array import array
from dataclasses import replace

import numpy as np
import pytest
import torch
from msgspec.structs import replace as replace_struct
from random_networks import PUBLISHED, random_network, with_erb_bands

from calibration.mixing import Mix
from calibration.ranges import Provenance, Ranges, TapRange
from edge_runtime.denoiser import Denoiser, repair
from edge_runtime.engines.interface import StateArray
from edge_runtime.errors import Failure
from edge_runtime.manifest import ModelEntry
from edge_runtime.native import Stream, isas
from edge_runtime.stft import HANN, HOP_SAMPLES, N_BINS, Analysis, Float32Array, Synthesis, WindowName
from quant.emit.native.emitter import emit_native
from quant.emit.native.file import HEADER_FIELDS
from quant.int8.plan import int8_taps, prepare
from quant.int8.recipe import Recipe, Rule
from quant.int8.reference import Reference
from quant.int8.roundings import with_fewer_roundings
from quant.network.float_model import FloatModel
from quant.network.graph import Graph
from quant.network.passes import streaming_graph
from quant.ptq.quantize import Quantized, requantize

native = pytest.importorskip("edge_runtime.engines.native", reason="the native engine is not here")
try:
    ISAS = isas()
except ImportError:
    pytest.skip("the native library is not compiled here: no C compiler", allow_module_level=True)

ENTRY = ModelEntry(file="model.native", states=(), golden_snr_floor_db=0.0)
PROVENANCE = Provenance("min_max", Mix(), "", "", "", window=HANN)
GRUS = ("gru", "bigru")


def opened(model: bytes, precision: str = "int8", isa: str | None = None):
    return native.open_model(model, ENTRY, precision, 1, isa)


@pytest.fixture(scope="module", params=PUBLISHED)
def model(request: pytest.FixtureRequest) -> Quantized:
    """Both networks with their recipes."""
    chosen: Quantized = request.getfixturevalue("ulunas_quantized" if request.param == "ul-unas" else "quantized")
    return chosen


@pytest.fixture(scope="module", params=PUBLISHED)
def floating(request: pytest.FixtureRequest) -> Graph:
    """Both networks in float."""
    if request.param == "ul-unas":
        return streaming_graph(random_network("ul-unas"))
    chosen: Graph = request.getfixturevalue("graph")
    return chosen


@pytest.fixture(scope="module")
def int8(model: Quantized) -> bytes:
    return emit_native(model.graph, model.plan).data


@pytest.fixture(scope="module")
def fp32(graph: Graph) -> bytes:
    return emit_native(graph).data


@pytest.fixture(scope="module")
def through_hann(graph: Graph) -> bytes:
    return emit_native(replace(graph, window="hann")).data


def streamed(engine, frames: Float32Array) -> Float32Array:
    enhanced = np.empty_like(frames)
    for frame, out in zip(frames, enhanced, strict=True):
        engine.step(frame, out)
    return enhanced


def special(n_frames: int = 12) -> dict[str, Float32Array]:
    """Spectra that no calibration saw."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((n_frames, N_BINS, 2)).astype(np.float32)
    sparse = np.where(rng.random(noise.shape) < 0.02, noise, 0).astype(np.float32)
    return {
        "silence": np.zeros_like(noise),
        "noise": noise,
        "loud": 1000 * noise,
        "quiet": np.float32(1e-6) * noise,
        "far below one step": np.float32(1e-12) * noise,
        "single bins": 100 * sparse,
        "loud, then silence": np.concatenate([1000 * noise[:6], np.zeros_like(noise[6:])]),
        "alternating": np.where(np.arange(n_frames)[:, None, None] % 2, 50 * noise, np.float32(1e-4) * noise),
    }


INTEGERS = [
    np.array([1000, -1000], np.int16), np.zeros(2, np.uint8), np.zeros(2, bool), array("i", [5, 6]), b"ab",
    [1000, -1000], [0.5, 7],
]  # fmt: skip


@pytest.mark.parametrize("samples", INTEGERS, ids=repr)
def test_integers_are_refused_where_floats_are_meant(int8: bytes, samples) -> None:
    stream = Stream(int8)
    with pytest.raises(ValueError, match=r"^samples are integers, not floats in \[-1, 1\]; divide 16 bits by 32768$"):
        stream.samples_in[:2] = samples
    for good in (np.full(2, 0.5, np.float32), np.full(2, 0.5), array("f", [0.5, 0.5]), [0.5, 0.5], [0, 1], [1.5, -3.0]):
        stream.samples_in[:2] = good
        assert stream.samples_in[:2] == list(good)
    stream.samples_in[7] = 0.25
    assert memoryview(stream.samples_in).format == "<f"


def test_the_face_without_numpy_is_the_engine(int8: bytes, mixture: np.ndarray) -> None:
    """Two streams at once, one of them reset: floats in, the same floats out; the samples are shared memory."""
    hops = mixture[: 20 * HOP_SAMPLES].astype(np.float32).reshape(20, HOP_SAMPLES)
    engine, stream, other = opened(int8), Stream(int8), Stream(int8)
    wanted, found = np.empty_like(hops), np.empty_like(hops)
    for hop, out in zip(hops, wanted, strict=True):
        engine.process(hop, out)
    other.samples_in[:HOP_SAMPLES] = hops[7].tolist()
    other.process()
    for hop, out in zip(hops, found, strict=True):
        stream.samples_in[:HOP_SAMPLES] = hop.tolist()
        assert stream.process() == 0
        out[:] = stream.samples_out[:HOP_SAMPLES]
    np.testing.assert_array_equal(found, wanted)
    other.reset()
    other.samples_in[:HOP_SAMPLES] = hops[0].tolist()
    other.process()
    assert other.samples_out[:HOP_SAMPLES] == wanted[0].tolist()
    assert len(bytes(stream.carried)) == stream.n_stream_bytes
    with pytest.raises(Failure, match="the model: the native engine refuses it"):
        Stream(int8[:-1])


# --- exactness ----------------------------------------------------------------------------------------------------


def test_portable_is_the_reference_on_speech(int8: bytes, model: Quantized, spectra_3_s: Float32Array) -> None:
    """Bit for bit, free-running, three times as long as convolutions remember: no rounding may differ anywhere, or the
    states would carry it on."""
    reference, frames = Reference(*with_fewer_roundings(model.graph, model.plan)), spectra_3_s[:96]
    wanted = np.stack([reference.step(frame) for frame in frames])
    np.testing.assert_array_equal(streamed(opened(int8, isa="portable"), frames), wanted)


@pytest.mark.parametrize("name", special())
def test_portable_is_the_reference_on_special_input(int8: bytes, model: Quantized, name: str) -> None:
    frames, reference = special()[name], Reference(*with_fewer_roundings(model.graph, model.plan))
    wanted = np.stack([reference.step(frame) for frame in frames])
    np.testing.assert_array_equal(streamed(opened(int8, isa="portable"), frames), wanted)


def test_everything_in_8_bits_is_the_reference_too(everything: Quantized, spectra: Float32Array) -> None:
    """Kernels that the default recipe leaves idle: 8-bit sums, gates, first convolution, mask, states."""
    model = emit_native(everything.graph, everything.plan).data
    reference, frames = Reference(*with_fewer_roundings(everything.graph, everything.plan)), spectra[60:100]
    wanted = np.stack([reference.step(frame) for frame in frames])
    for isa in ISAS:
        np.testing.assert_array_equal(streamed(opened(model, isa=isa), frames), wanted, err_msg=isa)


RECIPES = {
    "everything": Recipe("everything", (Rule("*", "int8", "all of it"),)),
    "nothing": Recipe("nothing", (Rule("*", "float", "none of it"),)),
    "products alone": Recipe("products", (Rule("*", "int8", "they multiply", ("conv",)),)),
    "all but products": Recipe(
        "others", (Rule("*", "int8", "the rest"), Rule("*", "float", "they multiply", ("conv", "gru", "bigru")))
    ),
    "the encoder": Recipe(
        "encoder", (Rule("encoder.*", "int8", "half of it"), Rule("dpgrnn.*", "mixed", "gates", GRUS))
    ),
}


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_of_the_second_network_is_the_reference(name: str, spectra: Float32Array) -> None:
    """What its own recipe leaves idle: 8-bit cells, gates by themselves, float kernels within 8-bit programs."""
    recipe = replace_struct(RECIPES[name], migrate_scales=False)
    graph = streaming_graph(random_network("ul-unas, small", 3))
    prepared, precision = prepare(graph, recipe)
    ranges = Ranges(observed(prepared, int8_taps(prepared, precision), spectra[:60]), PROVENANCE)
    chosen = requantize(graph, recipe, ranges)
    model = emit_native(chosen.graph, chosen.plan).data
    reference, frames = Reference(*with_fewer_roundings(chosen.graph, chosen.plan)), spectra[60:90]
    wanted = np.stack([reference.step(frame) for frame in frames])
    for isa in ISAS:
        np.testing.assert_array_equal(streamed(opened(model, isa=isa), frames), wanted, err_msg=isa)


def observed(graph: Graph, taps: list[str], frames: Float32Array) -> dict[str, TapRange]:
    """The extremes of every tap on some frames."""
    found: dict[str, TapRange] = {}

    def tap(name: str, value: torch.Tensor) -> torch.Tensor:
        low, high = min(float(value.min()), 0.0), max(float(value.max()), 0.0)
        found[name] = TapRange(low, high, 1, low, high)
        return value

    with torch.no_grad():
        FloatModel(graph)(torch.from_numpy(np.ascontiguousarray(frames.transpose(2, 0, 1)))[None], tap=tap)
    return {name: found[name] for name in taps}


@pytest.fixture(scope="module")
def by_portable(int8: bytes, spectra: Float32Array) -> list[tuple[Float32Array, Float32Array]]:
    """10 s of speech and everything special, each with what portable C makes of it."""
    rows = (spectra, *special().values())
    return [(frames, streamed(opened(int8, isa="portable"), frames)) for frames in rows]


@pytest.mark.parametrize("isa", [isa for isa in ISAS if isa != "portable"])
def test_every_kernel_set_is_the_portable_one(
    int8: bytes, by_portable: list[tuple[Float32Array, Float32Array]], isa: str
) -> None:
    """States included."""
    for frames, wanted in by_portable:
        np.testing.assert_array_equal(streamed(opened(int8, isa=isa), frames), wanted)


@pytest.fixture(scope="module")
def by_float_model(floating: Graph, spectra: Float32Array) -> Float32Array:
    with torch.no_grad():
        enhanced, _ = FloatModel(floating)(torch.from_numpy(np.ascontiguousarray(spectra.transpose(2, 0, 1)))[None])
    return enhanced[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("isa", ISAS)
def test_float_is_the_float_model(
    floating: Graph, by_float_model: Float32Array, spectra: Float32Array, isa: str
) -> None:
    found, wanted = streamed(opened(emit_native(floating).data, "fp32", isa), spectra), by_float_model
    assert 10 * np.log10((wanted**2).sum() / ((wanted - found) ** 2).sum()) > 100


# --- the hop ------------------------------------------------------------------------------------------------------


WINDOWS: dict[WindowName, str] = {"sqrt_hann": "fp32", "hann": "through_hann"}  # the weights that name it


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("window", WINDOWS)
def test_a_hop_is_analysis_step_synthesis(
    window: WindowName, mixture: Float32Array, isa: str, request: pytest.FixtureRequest
) -> None:
    """The transforms in C against NumPy's, around the same network."""
    weights = request.getfixturevalue(WINDOWS[window])
    whole, inner = opened(weights, "fp32", isa), opened(weights, "fp32", isa)
    analysis, synthesis = Analysis(window), Synthesis(window)
    spectrum, enhanced = (np.zeros((N_BINS, 2), np.float32) for _ in range(2))
    found, wanted = (np.zeros((200, HOP_SAMPLES), np.float32) for _ in range(2))
    for i, hop in enumerate(mixture[: found.size].reshape(found.shape)):
        whole.process(hop, found[i])
        analysis.push(hop, spectrum)
        inner.step(spectrum, enhanced)
        synthesis.push(enhanced, wanted[i])
    assert 10 * np.log10((wanted**2).sum() / ((wanted - found) ** 2).sum()) > 100


@pytest.mark.parametrize("window", WINDOWS)
def test_every_kernel_set_makes_the_same_hops(quantized: Quantized, mixture: Float32Array, window: WindowName) -> None:
    data = emit_native(replace(quantized.graph, window=window), quantized.plan).data
    made = {isa: np.zeros((40, HOP_SAMPLES), np.float32) for isa in ISAS}
    for isa, out in made.items():
        engine = opened(data, isa=isa)
        for hop, hop_out in zip(mixture[: out.size].reshape(out.shape), out, strict=True):
            engine.process(hop, hop_out)
    for isa, out in made.items():
        np.testing.assert_array_equal(out, made["portable"], err_msg=isa)


def test_weights_differ_in_the_byte_of_their_window_alone(fp32: bytes, through_hann: bytes) -> None:
    differing = np.flatnonzero(np.frombuffer(fp32, "<u4") != np.frombuffer(through_hann, "<u4"))
    assert {HEADER_FIELDS[i] for i in differing} == {"crc32", "window"}


GARBAGE = {"nan": np.nan, "infinity": np.inf, "minus infinity": -np.inf, "huge": 1e30, "beyond the limit": -9.0}


@pytest.mark.parametrize("value", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_repaired_as_the_denoiser_repairs_it(int8: bytes, mixture: Float32Array, value: float) -> None:
    engine, hop = opened(int8), mixture[:HOP_SAMPLES].copy()
    hop[[3, 100]] = value
    out, mended = np.zeros(HOP_SAMPLES, np.float32), hop.copy()
    assert engine.process(hop, out) == repair(mended)
    other, wanted = opened(int8), np.zeros(HOP_SAMPLES, np.float32)
    other.process(mended, wanted)
    np.testing.assert_array_equal(out, wanted)
    assert np.isfinite(out).all()


def test_any_chunks_give_the_same_samples(int8: bytes, mixture: Float32Array) -> None:
    samples = mixture[:20_000]

    def denoised(*cuts: int) -> Float32Array:
        denoiser = Denoiser(opened(int8))
        parts = [denoiser.feed(part) for part in np.split(samples, cuts)]
        return np.concatenate([*parts, denoiser.flush()])

    np.testing.assert_array_equal(denoised(), denoised(1, 2, 700, 701, 9_999))


def test_streams_share_nothing_and_reset_is_a_new_one(int8: bytes, spectra: Float32Array) -> None:
    one, other = opened(int8), opened(int8)
    wanted = streamed(one, spectra[:20])
    streamed(other, spectra[300:320])
    one.reset()
    for i, frame in enumerate(spectra[:20]):
        found = np.empty_like(frame)
        one.step(frame, found)
        other.step(spectra[400 + i], np.empty_like(frame))
        np.testing.assert_array_equal(found, wanted[i])


def test_a_stream_goes_on_from_its_state(int8: bytes, spectra: Float32Array) -> None:
    engine = opened(int8)
    streamed(engine, spectra[:20])
    kept: dict[str, StateArray] = engine.states()
    wanted = streamed(engine, spectra[20:30])
    fresh = opened(int8)
    fresh.set_states(kept)
    np.testing.assert_array_equal(streamed(fresh, spectra[20:30]), wanted)


# --- sizes, and what it refuses -----------------------------------------------------------------------------------


# Bytes of weights without the program that reads them, and of states and scratch together.
LARGEST = {"gtcrn": (60 * 1024, 100 * 1024), "ul-unas": (200 * 1024, 80 * 1024)}


def test_it_is_small(quantized: Quantized, ulunas_quantized: Quantized, fp32: bytes) -> None:
    for name, chosen in (("gtcrn", quantized), ("ul-unas", ulunas_quantized)):
        model = emit_native(with_erb_bands(chosen.graph), chosen.plan)
        engine = opened(model.data)
        assert model.constant_bytes <= LARGEST[name][0], name
        assert engine.n_stream_bytes + engine.n_scratch_bytes <= LARGEST[name][1], name
    assert opened(fp32, "fp32").n_stream_bytes <= 80 * 1024


def test_every_changed_byte_is_found(int8: bytes) -> None:
    """A sample over the whole file, its header byte by byte."""
    places = [*range(128), *np.random.default_rng(1).integers(128, len(int8), 400).tolist()]
    for place in places:
        bad = bytearray(int8)
        bad[place] ^= 0x41
        with pytest.raises(Failure, match="refuses it"):
            opened(bytes(bad))


@pytest.mark.parametrize("n_bytes", [0, 1, 15, 64, 1000, -1])
def test_cut_weights_are_refused(int8: bytes, n_bytes: int) -> None:
    with pytest.raises(Failure, match="refuses it"):
        opened(int8[:n_bytes])


def test_more_bytes_are_refused(int8: bytes) -> None:
    with pytest.raises(Failure, match="refuses it"):
        opened(int8 + bytes(16))


def test_float_weights_are_no_int8_weights(fp32: bytes) -> None:
    with pytest.raises(Failure, match="holds fp32 weights"):
        opened(fp32, "int8")


def test_unknown_kernels_are_refused(int8: bytes) -> None:
    with pytest.raises(Failure, match="refuses it"):
        opened(int8, isa="abacus")
