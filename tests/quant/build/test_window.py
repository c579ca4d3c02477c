"""The window is the network's: told once, it goes from the checkpoint into every file and through every engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy_build import TOY, toy

from calibration.mixing import Mix
from edge_runtime.denoiser import Denoiser
from edge_runtime.engines.golden import check_golden, snr_db
from edge_runtime.errors import Failure
from edge_runtime.manifest import open_artifact
from edge_runtime.quiet import silent
from edge_runtime.stft import Float32Array, Synthesis
from quant.build import stages
from quant.inputs import checkpoint, trained
from quant.inputs.source import Inputs, open_source
from quant.quality.systems import Model
from quant.training import runs, trainer

HANN = Inputs(recipe="static", window="hann")
JOB = runs.Job(
    Path(),
    mix=Mix(n_clips=2, clip_ms=400, warmup_ms=0),
    calibration=TOY.mix,
    settings=trainer.Settings(steps=1, validate_every=1, n_workers=0, n_validation_batches=1),
    window="hann",
)

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def folder(made_once: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact through it; not to be changed."""
    settings = toy("rpi4", tmp_path_factory.mktemp("window") / "rpi4", inputs=HANN, official_io=True)
    return made_once("hann artifact", lambda: stages.build(settings, silent).folder)


def test_the_artifact_names_it_and_passes_its_golden_vectors(folder: Path) -> None:
    opened = open_artifact(folder)
    assert opened.manifest.window == "hann"
    assert all(row.ok for row in check_golden(opened))
    assert b"hann_sqrt" not in (folder / "model.official.onnx").read_bytes()


@pytest.mark.parametrize("engine", ["native", "onnx", "tflite"])
def test_every_engine_hears_the_spectra_that_were_calibrated_on(folder: Path, engine: str) -> None:
    """The golden spectra back to samples, these through the whole stream: float is what golden float is."""
    opened = open_artifact(folder)
    with np.load(folder / "golden.npz") as golden:
        noisy, wanted = (samples(golden[name]) for name in ("spectrum", "enhanced_fp32"))
    lag = 256  # synthesis is a hop behind analysis
    for denoise in (Model.read(opened, engine, "fp32")(), whole(Denoiser.open(opened, engine, "fp32"))):
        assert snr_db(wanted[lag:-lag], denoise(noisy[lag:])[: len(wanted) - 2 * lag]) > 90


def whole(denoiser: Denoiser):
    return lambda noisy: np.concatenate([denoiser.feed(noisy), denoiser.flush()])


def samples(frames: Float32Array) -> Float32Array:
    synthesis, hops = Synthesis("hann"), np.empty((len(frames), 256), np.float32)
    for frame, hop in zip(frames, hops, strict=True):
        synthesis.push(np.ascontiguousarray(frame), hop)
    return hops.reshape(-1)


def test_ranges_measured_through_another_window_are_refused(folder: Path) -> None:
    with pytest.raises(Failure, match="measured through another window, hann"):
        stages.plan(toy("rpi4", inputs=Inputs(recipe="static", ranges=folder / "ranges.json")), silent)


def test_a_trained_file_has_its_own(tmp_path: Path) -> None:
    assert open_source(None, None, window="sqrt_hann").graph.window == "sqrt_hann"
    with pytest.raises(Failure, match="trained through the window sqrt_hann; leave --window out"):
        open_source(None, None, window="hann")


@pytest.fixture(scope="module")
def weights(made_once: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a step from random weights."""
    job = replace(JOB, out=tmp_path_factory.mktemp("float") / "float")
    return made_once("hann weights", lambda: runs.train(job, silent, from_scratch=True))


def test_what_is_trained_through_it_tells_so(weights: Path, tmp_path: Path) -> None:
    assert checkpoint.load(weights).window == "hann"
    assert open_source(weights, None).graph.window == "hann"
    with pytest.raises(Failure, match="trained through the window hann; leave --window out"):
        open_source(weights, None, window="sqrt_hann")
    path = runs.qat(replace(JOB, out=tmp_path / "int8", checkpoint=weights, window=None), silent)
    assert trained.load(path).graph.window == "hann"


def test_weights_that_do_not_tell_are_asked_about(weights: Path, tmp_path: Path) -> None:
    state = trainer.torch.load(weights, weights_only=True)
    del state[checkpoint.WINDOW_KEY]
    trainer.save(state, tmp_path / "bare.tar")
    said: list[str] = []
    assert open_source(tmp_path / "bare.tar", None, said.append).graph.window == "sqrt_hann"
    assert "weights do not tell their window" in "".join(said)
    assert "give --window" in "".join(said)
    said.clear()
    assert open_source(tmp_path / "bare.tar", None, said.append, window="hann").graph.window == "hann"
    assert said == []


def test_a_window_of_another_version_is_refused(weights: Path, tmp_path: Path) -> None:
    state = trainer.torch.load(weights, weights_only=True)
    trainer.save(state | {checkpoint.WINDOW_KEY: "kaiser"}, tmp_path / "later.tar")
    with pytest.raises(Failure, match="was trained through a window 'kaiser'"):
        checkpoint.load(tmp_path / "later.tar")
