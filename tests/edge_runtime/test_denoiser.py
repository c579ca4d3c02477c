"""The stream: any chunks, same output; states carried, reset and restored; engines found or refused."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import ROOT
from toy_artifact import (
    MODELS,
    NOW,
    PAST,
    SHAPE,
    enhance,
    manifest,
    toy,
    write_manifest,
    write_toy,
)

from edge_runtime.denoiser import INPUT_LIMIT, Denoiser, floats
from edge_runtime.engines import choice, open_engine
from edge_runtime.engines.golden import check_golden, judge, load_golden, stream
from edge_runtime.errors import Failure
from edge_runtime.extras import how_to_install
from edge_runtime.manifest import open_artifact
from edge_runtime.stft import HOP_SAMPLES, LATENCY_SAMPLES

every_model = pytest.mark.parametrize(("engine", "precision"), MODELS)
every_engine = pytest.mark.parametrize("engine", ["onnx", "tflite"])


def noise(n_samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.2, n_samples).astype(np.float32)


def denoise(denoiser: Denoiser, samples: np.ndarray, cuts: list[int] = ()) -> np.ndarray:  # type: ignore[assignment]
    chunks = np.split(samples, sorted(cuts))
    return np.concatenate([*(denoiser.feed(chunk) for chunk in chunks), denoiser.flush()])


@every_model
@settings(max_examples=25)
@given(data=st.data())
def test_law_any_chunks_give_the_same_output(engine, precision, data):
    n_samples = data.draw(st.integers(0, 3000))
    cuts = data.draw(st.lists(st.integers(0, n_samples), max_size=12))
    denoiser = denoiser_of(engine, precision)
    samples = noise(n_samples, seed=n_samples)
    whole = denoise(denoiser, samples)
    assert whole.shape == samples.shape
    assert np.array_equal(denoise(denoiser, samples, cuts), whole)


_OPEN: dict[tuple[str, str], Denoiser] = {}


def denoiser_of(engine: str, precision: str) -> Denoiser:
    """One denoiser a model for tests that leave it flushed."""
    if (engine, precision) not in _OPEN:
        _OPEN[engine, precision] = Denoiser.open(toy(), engine, precision)
    return _OPEN[engine, precision]


@every_engine
def test_sample_i_out_is_sample_i_in(engine):
    samples = noise(10 * HOP_SAMPLES)
    a_hop_ago = np.concatenate((np.zeros(HOP_SAMPLES, np.float32), samples[:-HOP_SAMPLES]))
    found = denoise(denoiser_of(engine, "fp32"), samples)
    assert np.abs(found - (NOW * samples + PAST * a_hop_ago)).max() <= 1e-6


def test_a_sample_comes_out_when_the_latency_says():
    denoiser = denoiser_of("onnx", "fp32")
    samples = noise(4 * HOP_SAMPLES)
    assert denoiser.feed(samples[: HOP_SAMPLES + LATENCY_SAMPLES - 1]).size == 0
    assert denoiser.feed(samples[:1]).size == HOP_SAMPLES
    denoiser.reset()


@every_model
def test_silence_in_is_silence_out(engine, precision):
    """A state that started at stored 0 instead of its zero point would hum."""
    assert not denoise(denoiser_of(engine, precision), np.zeros(2000, np.float32)).any()


@every_model
def test_reset_forgets_everything(engine, precision):
    denoiser = Denoiser.open(toy(), engine, precision)
    fresh = denoise(denoiser, noise(1000))
    for n_steps in (1, 2):  # after an odd and an even number of frames
        denoiser.feed(noise(n_steps * HOP_SAMPLES + 17, seed=5))
        denoiser.reset()
        assert np.array_equal(denoise(denoiser, noise(1000)), fresh)


@every_model
def test_two_streams_at_once_do_not_meet(engine, precision):
    one, other = (Denoiser.open(toy(), engine, precision) for _ in range(2))
    first, second = noise(3000, seed=1), noise(3000, seed=2)
    alone = denoise(one, first), denoise(other, second)
    found: tuple[list, list] = ([], [])
    for start in range(0, 3000, 500):
        found[0].append(one.feed(first[start : start + 500]))
        found[1].append(other.feed(second[start : start + 500]))
    assert np.array_equal(np.concatenate([*found[0], one.flush()]), alone[0])
    assert np.array_equal(np.concatenate([*found[1], other.flush()]), alone[1])


@every_model
@pytest.mark.parametrize("n_before", [0, 1, 2])
def test_states_saved_and_restored_continue_the_stream(engine, precision, n_before):
    spectra = load_golden(toy())["spectrum"][:6]
    one, other = (open_engine(toy(), engine, precision) for _ in range(2))
    whole = stream(one, spectra)
    stream(one, spectra[:n_before])
    other.step(spectra[5], np.empty_like(spectra[0]))  # leaves it somewhere else
    other.set_states(one.states())
    rest = np.empty_like(spectra[n_before:])
    for spectrum, out in zip(spectra[n_before:], rest, strict=True):
        other.step(spectrum, out)
    assert np.array_equal(rest, whole[n_before:])


@every_engine
def test_states_are_copies_as_stored(engine):
    opened = open_engine(toy(), engine, "int8")
    before = opened.states()["past"]
    assert before.dtype == np.int8
    assert before.shape == SHAPE
    assert (before == 9).all()
    opened.step(np.full((257, 2), 4.0, np.float32), np.empty((257, 2), np.float32))
    assert (before == 9).all()
    assert (opened.states()["past"] == 9 + 16).all()


@every_engine
@pytest.mark.parametrize("states", [{}, {"past": np.zeros(3, np.int8)}, {"past": np.zeros(SHAPE, np.float32)}], ids=str)
def test_states_of_another_model_are_refused(engine, states):
    with pytest.raises(ValueError, match="the model has"):
        open_engine(toy(), engine, "int8").set_states(states)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_become_zero_and_are_counted(bad):
    denoiser = Denoiser.open(toy(), "onnx")
    samples, repaired = noise(1000), noise(1000)
    samples[[3, 500]], repaired[[3, 500]] = bad, 0
    assert np.array_equal(denoise(denoiser, samples), denoise(denoiser, repaired))
    assert (denoiser.n_nonfinite, denoiser.n_limited) == (2, 0)
    assert not np.isfinite(samples[3]), "the caller's samples are left alone"


def test_samples_too_large_are_limited_and_counted():
    denoiser = Denoiser.open(toy(), "onnx")
    samples, limited = noise(1000), noise(1000)
    samples[[3, 500]], limited[[3, 500]] = (1e30, -9), (INPUT_LIMIT, -INPUT_LIMIT)
    assert np.array_equal(denoise(denoiser, samples), denoise(denoiser, limited))
    assert (denoiser.n_nonfinite, denoiser.n_limited) == (0, 2)


def test_a_stream_is_one_dimensional():
    with pytest.raises(ValueError, match="one-dimensional"):
        denoiser_of("onnx", "int8").feed(np.zeros((10, 2), np.float32))


# --- engines -----------------------------------------------------------------------------------------------


@pytest.fixture
def installed(monkeypatch):
    """Pretend that only these packages are installed."""

    def only(*packages: str) -> None:
        monkeypatch.setattr(choice, "find_spec", lambda name: ModuleSpec(name, None) if name in packages else None)

    return only


def test_auto_is_the_boards_preferred_engine(installed):
    assert open_engine(toy()).name == toy().manifest.preferred_engine == "tflite"
    installed("onnxruntime")
    assert open_engine(toy()).name == "onnx"


NOT_THERE = [
    ("auto", "the tflite or onnx engine needs"),
    ("onnx", f"the onnx engine needs onnxruntime, not installed; {how_to_install('onnx')}"),
    ("tflite", "the tflite engine needs ai_edge_litert or tflite_runtime or tensorflow, not installed"),
    ("tflite", how_to_install("litert")),
]


@pytest.mark.parametrize(("engine", "message"), NOT_THERE)
def test_an_engine_that_is_not_installed_says_how(installed, engine, message):
    installed()
    with pytest.raises(Failure, match=re.escape(message)):
        open_engine(toy(), engine)


def test_an_unknown_engine_or_precision_names_the_known():
    with pytest.raises(Failure, match="unknown engine 'torch'; choose one of: auto, native, onnx, tflite"):
        open_engine(toy(), "torch")
    with pytest.raises(Failure, match="no tflite int4 model; it holds: onnx fp32"):
        open_engine(toy(), "auto", "int4")


@every_model
def test_a_model_the_engine_cannot_read_is_one_line(tmp_path, engine, precision):
    """The hash is right, the content is not: what another version of a builder might leave."""
    folder = write_toy(tmp_path)
    (folder / toy().model(engine, precision).file).write_bytes(b"TFL3" * 300)
    artifact = open_artifact(write_manifest(folder, manifest(folder)))
    with pytest.raises(
        Failure, match=r"(cannot load it|is no ONNX model) \(.+\); build it again with `quant build`"
    ) as caught:
        open_engine(artifact, engine, precision)
    assert "\n" not in str(caught.value)


@every_engine
def test_a_model_that_is_not_what_the_manifest_says_is_refused(tmp_path, engine):
    folder = write_toy(tmp_path)
    name = toy().model(engine, "int8").file
    (folder / name).write_bytes((folder / toy().model(engine, "fp32").file).read_bytes())
    artifact = open_artifact(write_manifest(folder, manifest(folder)))
    message = r"input past is float32 \(1, 257, 1, 2\), the manifest says int8 \(1, 257, 1, 2\)"
    with pytest.raises(Failure, match=message):
        open_engine(artifact, engine, "int8")


def test_tflite_runtime_with_numpy_2_says_what_to_install(monkeypatch):
    from ai_edge_litert import interpreter

    def refuse(**_options):
        raise SystemError("<built-in method CreateWrapperFromBuffer> returned a result with an exception set")

    monkeypatch.setattr(interpreter, "Interpreter", refuse)
    with pytest.raises(
        Failure, match=r"does not work with NumPy .*; `.* 'numpy<2'`, or `.* ai-edge-litert` in its place"
    ):
        open_engine(toy(), "tflite")


@every_engine
def test_loading_prints_nothing(engine, capfd):
    open_engine(toy(), engine)
    assert capfd.readouterr() == ("", "")


# --- integers ------------------------------------------------------------------------------------------------

KINDS = [("int16", 2.0**15, 0), ("<i2", 2.0**15, 0), (">i2", 2.0**15, 0), ("int32", 2.0**31, 0), ("int8", 2.0**7, 0),
         ("uint8", 2.0**7, 128), ("float64", 1.0, 0), ("float16", 1.0, 0)]  # fmt: skip


@pytest.mark.parametrize(("kind", "scale", "zero"), KINDS)
def test_samples_of_every_kind_have_the_full_scale_of_their_kind(kind, scale, zero):
    sound = np.random.default_rng(0).uniform(-0.9, 0.9, 1000)
    stored = (np.rint(sound * scale) + zero if scale > 1 else sound).astype(kind)
    wanted = ((stored.astype(np.float64) - zero) / scale).astype(np.float32)
    assert np.array_equal(floats(stored), wanted)
    denoiser, other = (Denoiser.open(toy(), "onnx") for _ in range(2))
    assert np.array_equal(denoiser.feed(stored), other.feed(wanted))
    assert (denoiser.n_limited, denoiser.n_nonfinite) == (0, 0)


UNKNOWN = [[1000, -1000], np.zeros(9, bool), np.zeros(9, np.uint16), np.zeros(9, complex), ["a"]]


@pytest.mark.parametrize("samples", UNKNOWN)
def test_samples_whose_full_scale_nobody_knows_are_refused_in_one_line(samples):
    denoiser = Denoiser.open(toy(), "onnx")
    kinds = r"^samples are \w+; give floats in \[-1, 1\], or int16, int32, int8 or uint8$"
    with pytest.raises(ValueError, match=kinds):
        denoiser.feed(samples)
    with pytest.raises(ValueError, match=r"^the hop is int16, not float32; `feed` takes other kinds$"):
        denoiser.step(np.zeros(256, np.int16), np.zeros(256, np.float32))


# --- golden vectors ----------------------------------------------------------------------------------------


def test_golden_vectors_hold_for_every_model():
    rows = check_golden(toy())
    assert [(row.engine, row.precision) for row in rows] == [
        ("onnx", "fp32"),
        ("onnx", "int8"),
        ("tflite", "fp32"),
        ("tflite", "int8"),
    ]
    assert all(row.ok and row.snr_db > 100 for row in rows)


def test_golden_vectors_that_are_missed_are_not_ok(tmp_path):
    folder = write_toy(tmp_path)
    golden = load_golden(toy())
    wrong = {**golden, "enhanced_int8": golden["enhanced_int8"] * np.float32(1.01)}
    np.savez(folder / "golden.npz", **wrong)
    artifact = open_artifact(write_manifest(folder, manifest(folder)))
    rows = {row.precision: row for row in check_golden(artifact, ["onnx"])}
    assert rows["fp32"].ok is True
    assert rows["int8"].ok is False
    assert rows["int8"].snr_db == pytest.approx(40.0, abs=0.2)
    with pytest.raises(Failure, match=r"breached by onnx int8: .* on this processor .*; install another version"):
        judge(artifact, list(rows.values()))


def test_an_engine_that_is_not_installed_is_skipped_in_words(installed):
    installed("onnxruntime")
    rows = {(row.engine, row.precision): row for row in check_golden(toy())}
    assert rows["onnx", "int8"].ok is True
    assert rows["tflite", "int8"].ok is None
    assert rows["tflite", "int8"].snr_db is None


def test_golden_vectors_of_an_engine_that_was_not_built_are_refused():
    with pytest.raises(Failure, match="no native model; it holds: onnx, tflite"):
        check_golden(toy(), ["native"])


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04junk"])
def test_golden_vectors_that_are_none_are_refused(tmp_path, content):
    folder = write_toy(tmp_path)
    (folder / "golden.npz").write_bytes(content)
    artifact = open_artifact(write_manifest(folder, manifest(folder)))
    with pytest.raises(Failure, match=r"golden\.npz: not golden vectors"):
        check_golden(artifact)


def test_the_oracle_is_the_toy():
    """A state that is not carried, or starts wrong, misses the golden vectors by far."""
    spectra = load_golden(toy())["spectrum"]
    assert np.abs(enhance(spectra, "int8") - NOW * spectra).max() > 1


# --- what the board needs ----------------------------------------------------------------------------------


def test_the_runtime_imports_nothing_of_the_compiler():
    code = (
        "import sys, edge_runtime.files.denoise_file, edge_runtime.bench, edge_runtime.cli;"
        "import edge_runtime.engines.golden, edge_runtime.engines.onnx, edge_runtime.engines.tflite;"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    forbidden = {"torch", "quant", "calibration", "boards", "onnx", "tensorflow", "onnxruntime", "scipy"}
    assert not forbidden & set(found.stdout.split())
