"""The trainer: it learns, resumes to the same numbers, stops early, refuses what it cannot use; losses and batches."""

from __future__ import annotations

import fcntl
import json
import math
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import soundfile
import torch

from calibration.corpus import Corpus
from calibration.mixing import Mix
from edge_runtime.errors import Failure
from edge_runtime.quiet import silent
from edge_runtime.stft import WindowName
from quant import cli
from quant.inputs import assets, checkpoint, trained
from quant.network import sizes
from quant.network.gtcrn import param_shapes
from quant.network.spectra import analyse
from quant.training import losses, runs, watch
from quant.training.data import Sounds, batches
from quant.training.history import History
from quant.training.runs import Job
from quant.training.trainer import Settings

FEW = Mix(n_clips=2, clip_ms=1000)
TINY = Mix(n_clips=2, clip_ms=400, warmup_ms=0)
QUICK = Settings(steps=4, validate_every=2, n_validation_batches=1, warmup_steps=1, n_workers=0, learning_rate=1e-4)
tiny = partial(Job, mix=TINY, calibration=FEW, settings=QUICK)
small = partial(tiny, config=sizes.parse_line("channels=8,dpgrnn=1"))  # from random weights, without a teacher

pytestmark = pytest.mark.usefixtures("undrawn")


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(run / "last.pt", weights_only=True)["model"]
    return state


def assert_same_weights(one: Path, other: Path) -> None:
    mine, others = weights_of(one), weights_of(other)
    assert mine.keys() == others.keys()
    for name, value in mine.items():
        assert torch.equal(value, others[name]), name


# --- runs ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def qat_run(made_once: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of `qat`: its file; not to be changed."""
    return made_once("qat_run", lambda: runs.qat(tiny(tmp_path_factory.mktemp("qat") / "run"), silent))


@pytest.fixture(scope="module")
def train_run(made_once: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run of `train`: its file; not to be changed."""
    return made_once("train_run", lambda: runs.train(tiny(tmp_path_factory.mktemp("train") / "run"), silent))


def test_a_run_leaves_a_trained_file_that_loads(qat_run: Path) -> None:
    found = trained.load(qat_run)
    assert found.header.training["settings"]["steps"] == 4
    assert found.noisy.shape == (runs.EXCERPT_CLIPS, runs.EXCERPT_SAMPLES)
    assert (qat_run.parent / "curves.png").read_bytes()[:4] == b"\x89PNG"
    rows = json.loads((qat_run.parent / "history.json").read_text())
    assert [row["step"] for row in rows] == [0, 2, 4]


@pytest.mark.parametrize("kind", ["qat", "train"])
def test_a_resumed_run_gives_the_same_numbers(tmp_path: Path, kind: str, qat_run: Path, train_run: Path) -> None:
    """Stopped after two of four steps, as a crash would, and taken up again."""
    run, parts = runs.qat if kind == "qat" else runs.train, tiny(tmp_path / "parts")
    whole = qat_run if kind == "qat" else train_run

    class Stopped(Exception):
        pass

    def stop(message: str) -> None:
        if message.startswith("step 2 "):
            raise Stopped

    with pytest.raises(Stopped):
        run(parts, stop)
    (tmp_path / "parts" / "last.pt").unlink(missing_ok=True)  # the message comes before the state is written
    run(replace(parts, settings=replace(QUICK, steps=4), resume=True), silent)
    assert_same_weights(whole.parent, parts.out)


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


def test_resume_goes_on_where_the_state_is(tmp_path: Path, train_run: Path) -> None:
    parts = tiny(tmp_path / "parts")
    said: list[str] = []

    def stop(message: str) -> None:
        said.append(message)
        if message.startswith("step 4 "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.train(parts, stop)
    runs.train(replace(parts, resume=True), said.append)
    assert "going on from step 2" in said
    assert_same_weights(train_run.parent, parts.out)


def test_training_lowers_the_loss_it_trains(tmp_path: Path) -> None:
    """From random weights, where every step helps."""
    settings = replace(QUICK, steps=24, validate_every=24, learning_rate=3e-3, share_teacher=0.0)
    runs.train(small(tmp_path, settings=settings), silent, from_scratch=True)
    first, last = json.loads((tmp_path / "history.json").read_text())
    assert last["validation_loss"] < first["validation_loss"] - 0.1


def test_a_checkpoint_that_was_trained_is_one_to_build_from(tmp_path: Path) -> None:
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


def test_the_curves_are_drawn_now_and_then_and_whole_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Validations of a small run follow each other faster than anybody looks."""
    now_s, drawn = [0.0], list[int]()
    monkeypatch.setattr(watch, "draw", lambda history, path, title: drawn.append(len(history.rows)))
    monkeypatch.setattr(watch.time, "monotonic", lambda: now_s[0])
    history = History()

    def validated_at(shown: watch.Watch, second: float) -> None:
        now_s[0] = second
        history.rows.append({"step": second, "validation_loss": 1.0})
        shown.validated(history)

    def is_stopped() -> None:
        with watch.Watch(silent, 0, 9, tmp_path, "", quiet=False) as shown:
            for second in (0.1, 10.1, 12.0):
                validated_at(shown, second)
            assert drawn == [2]
            now_s[0] = 20.2
            shown.step(4, 1.0, 1.0)
            validated_at(shown, 21.0)
            assert drawn == [2, 3]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        is_stopped()
    assert drawn == [2, 3, 4]


# --- what it refuses ----------------------------------------------------------------------------------------------


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for resume, words in ((False, "is not empty; give --resume"), (True, "holds no run to go on with; give another")):
        with pytest.raises(Failure, match=words):
            runs.qat(replace(tiny(tmp_path), resume=resume), silent)


def test_a_run_is_not_joined_by_another(tmp_path: Path) -> None:
    held = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with pytest.raises(Failure, match="is of a run that is at work; give another --out"):
        runs.train(tiny(tmp_path), silent)
    os.close(held)


@pytest.mark.parametrize("place", ["notes.txt", "notes.txt/run"])
def test_a_place_that_is_no_folder_is_known_before_the_work(tmp_path: Path, place: str) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    said: list[str] = []
    with pytest.raises(Failure, match=r"cannot be written \((File exists|Not a directory)\)"):
        runs.train(tiny(tmp_path / place), said.append)
    assert not [line for line in said if line.startswith("step ")]


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--device", "cuda"], 1, "device cuda"),
        (["--checkpoint", "missing.tar"], 1, "no such checkpoint"),
        (["--speech", "missing"], 1, "no such folder"),
        (["--recipe", "statik"], 1, "unknown recipe"),
        (["--log-floor", "-4"], 1, "this network hears no logarithm of magnitudes; leave --log-floor out"),
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
    (tmp_path / "last.pt").write_bytes(b"cut")
    with pytest.raises(Failure, match="not a run to resume"):
        runs.train(replace(job, resume=True), silent)


OTHERWISE = [
    ("seed", lambda job, folder: replace(job, settings=replace(job.settings, seed=3)), "--seed 0, not 3"),
    ("steps", lambda job, folder: replace(job, settings=replace(job.settings, steps=2)), "--steps 1, not 2"),
    ("batch", lambda job, folder: replace(job, mix=replace(TINY, n_clips=3)), "--batch 2, not 3"),
    ("length", lambda job, folder: replace(job, mix=replace(TINY, clip_ms=500)), "--clip-ms 400, not 500"),
    ("levels", lambda job, folder: replace(job, mix=replace(TINY, snr_db=(0.0, 5.0))), "mix.snr_db"),
    (
        "checkpoint",
        lambda job, folder: replace(job, checkpoint=renamed_weights(folder)),
        "--checkpoint gtcrn_simple.onnx, not other.pt, other weights of --checkpoint",
    ),
    ("speech", lambda job, folder: replace(job, speech=more_speech(folder)), "other recordings of --speech"),
]


def renamed_weights(folder: Path) -> Path:
    """The official weights, one of them changed."""
    params = checkpoint.load(assets.weights()).params
    path = folder / "other.pt"
    torch.save({**{k: torch.tensor(v) for k, v in params.items()}, "erb.erb_fc.weight": torch.ones(64, 192)}, path)
    return path


def more_speech(folder: Path) -> Path:
    shutil.copytree(assets.speech(), folder / "speech")
    shutil.copy(folder / "speech" / "beckett.wav", folder / "speech" / "again.wav")
    return folder / "speech"


@pytest.mark.parametrize(("change", "words"), [row[1:] for row in OTHERWISE], ids=[row[0] for row in OTHERWISE])
def test_a_run_goes_on_with_what_it_began_with_alone(tmp_path: Path, a_run: Path, change, words: str) -> None:
    """Else its provenance would name what it was not made from."""
    shutil.copytree(a_run, tmp_path / "run")
    job = tiny(tmp_path / "run", settings=replace(QUICK, steps=1), resume=True)
    with pytest.raises(Failure, match="was started with other settings") as caught:
        runs.train(change(job, tmp_path), silent)
    assert words in str(caught.value)


def test_another_command_does_not_go_on_with_a_run(tmp_path: Path, a_run: Path) -> None:
    shutil.copytree(a_run, tmp_path / "run")
    with pytest.raises(Failure, match="command train, not qat"):
        runs.qat(tiny(tmp_path / "run", settings=replace(QUICK, steps=1), resume=True), silent)


@pytest.fixture(scope="module")
def a_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One step of `train`."""
    out = tmp_path_factory.mktemp("a_run") / "run"
    runs.train(tiny(out, settings=replace(QUICK, steps=1)), silent)
    return out


IMPOSSIBLE = [
    {"learning_rate": math.nan},
    {"learning_rate": math.inf},
    {"learning_rate": -1.0},
    {"learning_rate": 0.0},
    {"range_learning_rate": math.nan},
    {"clip_norm": math.nan},
    {"n_workers": -1},
    {"device": "mps"},
    {"device": "cuda:x"},
    {"seed": 2**80},
    {"seed": -1},
    {"share_teacher": math.nan},
]


@pytest.mark.parametrize("chosen", IMPOSSIBLE, ids=str)
def test_impossible_settings_are_refused(chosen: dict[str, Any]) -> None:
    with pytest.raises(Failure):
        Settings(**chosen)


def test_from_scratch_takes_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="no start from scratch"):
        runs.train(tiny(tmp_path / "run", checkpoint=assets.weights()), silent, from_scratch=True)
    assert not (tmp_path / "run").exists()


def test_a_network_of_nan_is_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that makes everything NaN after a loss that was fine: nothing of it is kept, in no file."""

    def poison(optimizer: torch.optim.Adam) -> None:
        for group in optimizer.param_groups:
            for weight in group["params"]:
                weight.data.fill_(math.nan)

    monkeypatch.setattr(torch.optim.Adam, "step", poison)
    with pytest.raises(Failure, match="the validation loss is nan at step 1; lower --learning-rate"):
        runs.train(tiny(tmp_path, settings=replace(QUICK, steps=1), keeps_last=True), silent)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "history.json", "last.pt"]
    assert all(torch.isfinite(value).all() for value in weights_of(tmp_path).values())


@pytest.mark.parametrize("n_workers", [0, 1])
def test_a_recording_that_cannot_be_used_is_left_out_and_told(tmp_path: Path, n_workers: int) -> None:
    """Ten steps hear every recording."""
    shutil.copytree(assets.speech(), tmp_path / "speech")
    soundfile.write(tmp_path / "speech" / "silent.wav", np.zeros(32_000), 16_000)
    said: list[str] = []
    settings = replace(QUICK, steps=10, validate_every=10, n_workers=n_workers, share_teacher=0.0)
    job = small(tmp_path / "run", speech=tmp_path / "speech", settings=settings)
    runs.train(job, said.append, from_scratch=True)
    told = [line for line in said if line.startswith("left out: ")]
    assert told == [f"left out: {tmp_path / 'speech' / 'silent.wav'}: is silent"], said


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_ends_a_program_is_left_to_the_process_that_was_asked(sounds: Sounds, number: signal.Signals) -> None:
    others = multiprocessing.active_children()  # of tests before
    made = batches(sounds, 0, 3, n_workers=1)
    next(made)
    (worker,) = set(multiprocessing.active_children()).difference(others)
    os.kill(worker.pid, number)
    assert len(list(made)) == 2
    assert worker.exitcode == 0


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


@pytest.mark.parametrize("window", get_args(WindowName))
def test_samples_are_what_the_spectra_came_from(window: WindowName) -> None:
    samples = np.random.default_rng(0).standard_normal((2, 2560)).astype(np.float32)
    back = losses.samples(torch.from_numpy(analyse(samples, window)), window)
    np.testing.assert_allclose(back, samples[:, : back.shape[1]], atol=1e-5)


def test_no_difference_costs_nothing() -> None:
    samples = np.random.default_rng(1).standard_normal((1, 2560)).astype(np.float32)
    spectrum = torch.from_numpy(analyse(samples, "sqrt_hann"))
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
