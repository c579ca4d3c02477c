"""The trainer: it learns, resumes to the same numbers, stops early, refuses what it cannot use; losses and batches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from calibration.corpus import Corpus
from calibration.mixing import Mix
from edge_runtime.errors import Failure
from edge_runtime.quiet import silent
from quant import cli
from quant.inputs import trained
from quant.network.gtcrn import param_shapes
from quant.network.spectra import analyse
from quant.training import losses, runs
from quant.training.data import Sounds, batches
from quant.training.runs import Job
from quant.training.trainer import History, Settings

FEW = Mix(n_clips=2, clip_ms=1000)
TINY = Mix(n_clips=2, clip_ms=400, warmup_ms=0)
QUICK = Settings(steps=4, validate_every=2, n_validation_batches=1, warmup_steps=1, n_workers=0, learning_rate=1e-4)
tiny = partial(Job, mix=TINY, calibration=FEW, settings=QUICK)


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(run / "last.pt", weights_only=True)["model"]
    return state


def assert_same_weights(one: Path, other: Path) -> None:
    mine, others = weights_of(one), weights_of(other)
    assert mine.keys() == others.keys()
    for name, value in mine.items():
        assert torch.equal(value, others[name]), name


# --- runs ---------------------------------------------------------------------------------------------------------


def test_a_run_leaves_a_trained_file_that_loads(tmp_path: Path) -> None:
    path = runs.qat(tiny(tmp_path / "run"), silent)
    found = trained.load(path)
    assert found.header.training["settings"]["steps"] == 4
    assert found.noisy.shape == (runs.EXCERPT_CLIPS, runs.EXCERPT_SAMPLES)
    assert (tmp_path / "run" / "curves.png").read_bytes()[:4] == b"\x89PNG"
    rows = json.loads((tmp_path / "run" / "history.json").read_text())
    assert [row["step"] for row in rows] == [0, 2, 4]


@pytest.mark.parametrize("kind", ["qat", "train"])
def test_a_resumed_run_gives_the_same_numbers(tmp_path: Path, kind: str) -> None:
    """Stopped after two of four steps, as a crash would, and taken up again."""
    run = runs.qat if kind == "qat" else runs.train
    whole, parts = (tiny(tmp_path / name) for name in ("whole", "parts"))
    run(whole, silent)

    class Stopped(Exception):
        pass

    def stop(message: str) -> None:
        if message.startswith("step 2 "):
            raise Stopped

    with pytest.raises(Stopped):
        run(parts, stop)
    (tmp_path / "parts" / "last.pt").unlink(missing_ok=True)  # the message comes before the state is written
    run(replace(parts, settings=replace(QUICK, steps=4), resume=True), silent)
    assert_same_weights(whole.out, parts.out)


def test_a_run_that_is_done_is_blended_anew(tmp_path: Path) -> None:
    """No step more; the file holds what lies between the start and the last step, and says so."""
    job = tiny(tmp_path / "run", settings=replace(QUICK, learning_rate=1e-3), keeps_last=True)
    whole = trained.load(runs.qat(job, silent))
    said: list[str] = []
    none, half = (trained.load(runs.qat(replace(job, resume=True, blend=blend), said.append)) for blend in (0.0, 0.5))
    assert "going on from step 4" in said
    assert [found.header.training["blend"] for found in (none, half, whole)] == [0.0, 0.5, 1.0]
    assert len(json.loads((job.out / "history.json").read_text())) == 3
    n_moved = 0
    for name, values in half.graph.params.items():
        mean = (none.graph.params[name] + whole.graph.params[name]) / 2
        np.testing.assert_allclose(values, mean, rtol=1e-2, atol=1e-4)  # half precision, its small ones zero
        n_moved += bool(np.any(none.graph.params[name] != whole.graph.params[name]))
    assert n_moved > len(half.graph.params) // 2
    best = trained.load(runs.qat(replace(job, resume=True, keeps_last=False), silent))
    rows = json.loads((job.out / "history.json").read_text())
    is_start = min(rows, key=lambda row: row["validation_loss"])["step"] == 0
    assert is_start == all(np.array_equal(best.graph.params[n], none.graph.params[n]) for n in none.graph.params)


def test_resume_goes_on_where_the_state_is(tmp_path: Path) -> None:
    whole, parts = (tiny(tmp_path / name) for name in ("whole", "parts"))
    runs.train(whole, silent)
    said: list[str] = []

    def stop(message: str) -> None:
        said.append(message)
        if message.startswith("step 4 "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.train(parts, stop)
    runs.train(replace(parts, resume=True), said.append)
    assert "going on from step 2" in said
    assert_same_weights(whole.out, parts.out)


def test_training_lowers_the_loss_it_trains(tmp_path: Path) -> None:
    """From random weights, where every step helps."""
    settings = replace(QUICK, steps=24, validate_every=24, learning_rate=3e-3, share_teacher=0.0)
    runs.train(tiny(tmp_path, settings=settings), silent, from_scratch=True)
    first, last = json.loads((tmp_path / "history.json").read_text())
    assert last["validation_loss"] < first["validation_loss"] - 0.1


def test_a_checkpoint_that_was_trained_is_one_to_build_from(tmp_path: Path) -> None:
    from quant.inputs import checkpoint

    path = runs.train(tiny(tmp_path, settings=replace(QUICK, steps=1)), silent)
    assert set(checkpoint.load(path).params) == set(param_shapes())


@pytest.mark.slow
def test_two_processes_train_together(tmp_path: Path) -> None:
    """Under torchrun: gradients are averaged, one process writes, and both hear different sounds."""
    argv = ["--out", str(tmp_path / "run"), "--steps", "2", "--batch", "2", "--clip-ms", "400", "--validate-every", "1"]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "quant.cli", "train"]
    done = subprocess.run(
        [*command, *argv, "--workers", "0"], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(json.loads((tmp_path / "run" / "history.json").read_text())) == 3


# --- what it refuses ----------------------------------------------------------------------------------------------


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(Failure, match="is not empty"):
        runs.qat(tiny(tmp_path), silent)


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--device", "cuda"], 1, "device cuda"),
        (["--checkpoint", "missing.tar"], 1, "no such checkpoint"),
        (["--speech", "missing"], 1, "no such folder"),
        (["--recipe", "statik"], 1, "unknown recipe"),
        (["--device", "abacus"], 2, "--device: 'abacus' is not a device"),
        (["--steps", "0"], 2, "--steps: '0' is not a whole number from 1"),
        (["--share-teacher", "2"], 2, "--share-teacher: '2' is not a number from 0 to 1"),
        (["--blend", "-0.1"], 2, "--blend: '-0.1' is not a number from 0 to 1"),
        (["--batch", "0"], 2, "--batch: '0' is not a whole number from 1"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], status: int, words: str
) -> None:
    if torch.cuda.is_available() and "cuda" in options:
        pytest.skip("this machine has a CUDA device")
    assert cli.main(["qat", "--out", str(tmp_path / "run"), *options]) == status
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in error
    assert not (tmp_path / "run").exists()


def test_another_runs_state_is_refused(tmp_path: Path) -> None:
    job = tiny(tmp_path, settings=replace(QUICK, steps=1))
    runs.train(job, silent)
    with pytest.raises(Failure, match="other settings"):
        runs.train(replace(job, settings=replace(QUICK, steps=1, seed=3), resume=True), silent)
    (tmp_path / "last.pt").write_bytes(b"cut")
    with pytest.raises(Failure, match="not a run to resume"):
        runs.train(replace(job, resume=True), silent)


# --- sounds -------------------------------------------------------------------------------------------------------


@pytest.fixture
def sounds(pulled: tuple[Corpus, Corpus]) -> Sounds:
    return Sounds(*pulled, TINY)


def test_validation_hears_no_training_file(sounds: Sounds) -> None:
    heard, held_out = sounds.split()
    for side in ("speech", "noise"):
        names, kept = getattr(heard, side).names, getattr(held_out, side).names
        assert names
        assert kept
        assert not set(names) & set(kept)
        assert sorted((*names, *kept)) == list(getattr(sounds, side).names)


def test_another_seed_hears_something_else(sounds: Sounds) -> None:
    one, other = (list(batches(sounds, 0, 2, seed=seed, n_workers=0)) for seed in (0, 1))
    assert not any(torch.equal(a[0], b[0]) for a, b in zip(one, other, strict=True))


def test_batches_depend_on_step_and_rank_alone(sounds: Sounds) -> None:
    whole = list(batches(sounds, 0, 3, n_workers=0))
    late = list(batches(sounds, 2, 3, n_workers=0))
    other = list(batches(sounds, 0, 3, rank=1, n_workers=0))
    assert torch.equal(whole[2][0], late[0][0])
    assert not any(torch.equal(a[0], b[0]) for a, b in zip(whole, other, strict=True))


def test_one_recording_cannot_be_parted(sounds: Sounds) -> None:
    alone = replace(sounds, speech=replace(sounds.speech, names=sounds.speech.names[:1]))
    with pytest.raises(Failure, match="single recording"):
        alone.split()


# --- losses -------------------------------------------------------------------------------------------------------


def test_samples_are_what_the_spectra_came_from() -> None:
    samples = np.random.default_rng(0).standard_normal((2, 2560)).astype(np.float32)
    back = losses.samples(torch.from_numpy(analyse(samples)))
    np.testing.assert_allclose(back, samples[:, : back.shape[1]], atol=1e-5)


def test_no_difference_costs_nothing() -> None:
    spectrum = torch.from_numpy(analyse(np.random.default_rng(1).standard_normal((1, 2560)).astype(np.float32)))
    assert float(losses.spectral(spectrum, spectrum)) == 0


def test_si_snr_ignores_level() -> None:
    clean, noise = torch.randn(2, 3, 4000, generator=torch.Generator().manual_seed(2))
    noisy = clean + 0.1 * noise
    assert float(losses.si_snr(noisy, clean)) == pytest.approx(-2.0, abs=0.05)
    assert float(losses.si_snr(7 * noisy, clean)) == pytest.approx(float(losses.si_snr(noisy, clean)), abs=1e-4)


def test_the_learning_rate_starts_low_and_ends_at_nothing() -> None:
    rates = [Settings(steps=100, warmup_steps=10).rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == 1 == rates[10]
    assert rates[-1] < 1e-3
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_the_earliest_of_equal_rows_is_best() -> None:
    history = History([{"step": i, "validation_loss": v} for i, v in enumerate((3.0, 1.0, 1.0, 2.0))])
    assert history.best["step"] == 1
    assert history.stale() == 2
