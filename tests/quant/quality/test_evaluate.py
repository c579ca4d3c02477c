"""Quality through the runtimes: pairs, systems, paired differences, groups, clusters, and clips that fail."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import one_thread
import onnxruntime
import pytest
import soundfile as sf
from toy_artifact import write_toy

from edge_runtime import open_artifact
from edge_runtime.errors import Failure
from quant.cli import main
from quant.quality import evaluate as evaluate_module
from quant.quality import kept, parallel, robustness
from quant.quality.evaluate import (
    _piece_by_piece,
    comparisons,
    evaluate,
    failures,
    refuse_if_all_failed,
    score_pair,
)
from quant.quality.isolated import Died
from quant.quality.metrics import METRICS, columns, score
from quant.quality.pairs import find_pairs, groupings, snr_db_of, snr_group
from quant.quality.results import Row
from quant.quality.stimuli import Stimulus
from quant.quality.summary import bootstrap, summarise, summarise_by
from quant.quality.systems import Model, System, compared, systems_of

RATE_HZ = 16_000


def speechlike(n: int = 2 * RATE_HZ) -> np.ndarray:
    """A voice as far as a metric can tell: harmonics under a syllabic envelope."""
    t = np.arange(n) / RATE_HZ
    voice = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 20))
    return (0.1 * voice * np.clip(np.sin(2 * np.pi * 3 * t), 0, None)).astype(np.float32)


def halved():
    """A system that is no model: opened in the worker, called with a clip."""
    return lambda noisy: noisy / 2


def broken_on_loud():
    def enhance(noisy: np.ndarray) -> np.ndarray:
        if noisy[0] > 0.5:
            raise RuntimeError("too loud\nfor me")
        return noisy

    return enhance


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for side, noise in (("clean", 0.0), ("noisy", 0.02)):
        (tmp_path / side).mkdir()
        for i in range(2):
            sound = speechlike() + noise * rng.standard_normal(2 * RATE_HZ).astype(np.float32)
            sf.write(tmp_path / side / f"{i}.wav", sound, RATE_HZ)
    return tmp_path


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    folder = tmp_path / "int8 artifact"  # a name that a label must survive
    folder.mkdir()
    return write_toy(folder)


# --- metrics ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_prefers_the_clean_sound(metric):
    clean = speechlike(5 * RATE_HZ)  # doubled until it lasts 9 s, it is one of DNSMOS' windows; 2 s are seven
    noisy = clean + 0.05 * np.random.default_rng(1).standard_normal(len(clean)).astype(np.float32)
    better, worse = (score([metric], clean, sound) for sound in (clean, noisy))
    assert list(better) == columns([metric])
    first = columns([metric])[0]
    assert better[first] > worse[first]


def test_si_sdr_of_a_known_mixture():
    clean = speechlike()
    noise = np.random.default_rng(2).standard_normal(len(clean))
    noise -= (noise @ clean) / (clean @ clean) * clean  # orthogonal, so that the ratio is the plain one
    noise -= noise.mean()
    noise *= np.sqrt(((clean - clean.mean()) ** 2).sum() / 10 / (noise @ noise))
    assert score(["sisdr"], clean, (3 * (clean + noise)).astype(np.float32))["sisdr"] == pytest.approx(10, abs=0.05)


@pytest.mark.parametrize("side", ["clean", "enhanced"])
def test_a_score_that_is_not_defined_is_no_number(side):
    sounds = {"clean": speechlike(), "enhanced": speechlike()} | {side: np.zeros(2 * RATE_HZ, np.float32)}
    with pytest.raises(Failure, match="sisdr is not defined"):
        score(["sisdr"], **sounds)


@pytest.mark.parametrize("duration_s", [0.6, 5, 9.01, 11.2, 13])
def test_dnsmos_is_what_speechmos_says(duration_s, monkeypatch):
    """Its own code, with librosa's part, which makes only the P.808 score, left out."""
    import sys
    from types import SimpleNamespace

    sound = speechlike(int(duration_s * RATE_HZ))
    sound += 0.01 * np.random.default_rng(3).standard_normal(len(sound)).astype(np.float32)
    ours = score(["dnsmos"], sound, sound)  # before theirs, which opens models in a way of its own
    mel = SimpleNamespace(melspectrogram=lambda **_: np.ones((120, 900)))
    librosa = SimpleNamespace(feature=mel, power_to_db=lambda mel, ref: mel)
    monkeypatch.setitem(sys.modules, "librosa", librosa)
    monkeypatch.setitem(sys.modules, "requests", SimpleNamespace(session=None))
    monkeypatch.setattr(onnxruntime, "InferenceSession", one_thread.session)
    from speechmos import dnsmos

    theirs = dnsmos.run(sound, RATE_HZ)
    assert ours == pytest.approx({f"dnsmos_{k}": theirs[f"{k}_mos"] for k in ("ovrl", "sig", "bak")}, abs=1e-5)


def test_dnsmos_hears_what_a_sound_file_would_hold():
    loud = 20 * speechlike(5 * RATE_HZ)
    assert score(["dnsmos"], loud, loud) == score(["dnsmos"], loud, np.clip(loud, -1, 1))


# --- pairs and groups ---------------------------------------------------------------------------------------------


def test_pairs_without_a_counterpart_are_refused(pairs: Path):
    (pairs / "clean" / "1.wav").unlink()
    with pytest.raises(Failure, match="noisy 1 has no counterpart"):
        find_pairs(pairs)


def test_a_manifest_tells_snr_and_groups(pairs: Path):
    table = "file,snr_nominal,snr_db,subset\nnoisy/0.wav,7.5,6.7,a\nclean/0.wav,1,1,wrong\n1.wav,2.5,,b\n"
    (pairs / "manifest.csv").write_text(table)
    first, second = find_pairs(pairs)
    assert (first.snr_db, first.groups) == (6.7, {"subset": "a", "snr_nominal": "7.5"})
    assert (second.snr_db, second.groups) == (2.5, {"subset": "b", "snr_nominal": "2.5"}), "a field may be empty"
    assert groupings([first, second]) == ["snr", "subset", "snr_nominal"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"name,snr\n0.wav,3\n", "no column `file`"),
        (b"file,snr\n0.wav,loud\n", "SNR 'loud'"),
        (b"file,snr\n0.wav,\xff\n", "cannot be read"),
        (b"", "no column `file`"),
    ],
)
def test_a_bad_manifest_is_one_line(pairs: Path, content, words):
    (pairs / "manifest.csv").write_bytes(content)
    with pytest.raises(Failure, match=words):
        find_pairs(pairs)


@pytest.mark.parametrize(
    ("snr_db", "group"),
    [(-0.01, "0 dB"), (0.16, "0 dB"), (6.7, "5 dB"), (-7.4, "-5 dB"), (np.inf, "no noise"), (-np.inf, "no speech")],
)
def test_groups_of_snr(snr_db, group):
    assert snr_group(snr_db) == group


def test_an_snr_that_nobody_told_is_measured():
    clean, noise = speechlike(), np.random.default_rng(4).standard_normal(2 * RATE_HZ).astype(np.float32)
    silent = np.zeros_like(clean)
    assert snr_db_of(clean, clean + 0.1 * noise) - snr_db_of(clean, clean + noise) == pytest.approx(20, abs=0.01)
    assert (snr_db_of(clean, clean), snr_db_of(silent, noise)) == (np.inf, -np.inf)


# --- systems ------------------------------------------------------------------------------------------------------


def test_int8_is_compared_with_the_float_of_its_artifact_and_engine(artifact: Path):
    assert comparisons(systems_of([artifact])) == {"onnx int8": "onnx fp32", "tflite int8": "tflite fp32"}
    other = write_toy_beside(artifact, "other")
    against = comparisons(systems_of([artifact, other]))
    assert against["int8 artifact onnx int8"] == "int8 artifact onnx fp32"
    assert against["other tflite int8"] == "other tflite fp32"


def write_toy_beside(artifact: Path, name: str) -> Path:
    folder = artifact.parent / name
    folder.mkdir(parents=True)
    return write_toy(folder)


def test_artifacts_of_one_name_are_told_apart(artifact: Path):
    twin = write_toy_beside(artifact, "elsewhere/int8 artifact")
    labels = {s.label for s in systems_of([artifact, twin])}
    assert len(labels) == 8
    assert f"{twin} onnx int8" in labels
    with pytest.raises(Failure, match="named twice"):
        systems_of([artifact, artifact])


def test_against_a_label_or_another_artifact(artifact: Path):
    systems = systems_of([artifact])
    assert comparisons(compared(systems, "onnx fp32")) == dict.fromkeys(
        ("onnx int8", "tflite fp32", "tflite int8"), "onnx fp32"
    )
    assert set(comparisons(compared(systems, "noisy")).values()) == {"noisy"}
    original = write_toy_beside(artifact, "original")
    chosen = compared(systems, str(original))
    assert [s.label for s in chosen[:2]] == [f"{original} onnx fp32", f"{original} tflite fp32"]
    assert comparisons(chosen) == {s.label: f"{original} {s.label.split()[0]} fp32" for s in systems}
    with pytest.raises(Failure, match="no system and no artifact"):
        compared(systems, "elsewhere")


def test_a_system_may_be_a_model_in_memory_or_any_function(pairs: Path, artifact: Path):
    model = Model.read(open_artifact(artifact), "onnx", "fp32")
    systems = [System("model", model), System("half", halved), System("lambda", lambda: lambda noisy: noisy)]
    rows = evaluate(systems, find_pairs(pairs), ["sisdr"], n_jobs=2)
    scores = {(r.clip, r.system): r.scores["sisdr"] for r in rows}
    assert scores["0.wav", "half"] == pytest.approx(scores["0.wav", "noisy"], abs=1e-3), "scale-invariant"
    assert scores["0.wav", "lambda"] == scores["0.wav", "noisy"]
    assert scores["0.wav", "model"] != scores["0.wav", "noisy"]
    with pytest.raises(ValueError, match="not unique"):
        evaluate([System("noisy", halved)], find_pairs(pairs), ["sisdr"])


def test_a_stream_starts_anew_with_every_clip_and_after_a_failure(artifact: Path):
    enhance = Model.read(open_artifact(artifact), "onnx", "int8")()
    sound = speechlike(5000)
    first = enhance(sound)
    with pytest.raises(ValueError, match="one-dimensional"):
        enhance(np.ones((2, 300), np.float32))
    enhance.args[0].feed(np.ones(777, np.float32))  # left in the middle
    np.testing.assert_array_equal(enhance(sound), first)


def test_a_worker_opens_a_system_once(tmp_path: Path):
    log = tmp_path / "opened"

    def opener():
        log.write_text(log.read_text() + "x" if log.exists() else "x")
        return lambda noisy: noisy

    for _ in range(3):
        parallel.opened(parallel.packed(opener))
    assert log.read_text() == "x"


# --- the same numbers everywhere ----------------------------------------------------------------------------------


def test_a_cluster_gives_the_same_numbers(pairs: Path, artifact: Path):
    pytest.importorskip("distributed", reason="dask is not installed: pip install 'edge-denoise[cluster]'")
    from distributed import LocalCluster

    systems, found = [*systems_of([artifact]), System("half", halved)], find_pairs(pairs)
    metrics = ["pesq", "stoi", "estoi", "sisdr"]
    here = [evaluate(systems, found, metrics, n_jobs=n) for n in (1, 2)]
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        there = evaluate(systems, found, metrics, scheduler=cluster.scheduler_address)
    assert not [row.error for row in there if row.error]
    for rows in (here[1], there):
        assert [(r.clip, r.system, r.groups) for r in rows] == [(r.clip, r.system, r.groups) for r in here[0]]
        for row, wanted in zip(rows, here[0], strict=True):
            # Where an array lies in memory decides how SIMD code sums it: 13 digits of ESTOI, seen once, stay.
            assert row.scores == pytest.approx(wanted.scores, rel=1e-9), row.clip


def test_a_scheduler_that_does_not_answer_is_one_line(pairs: Path, artifact: Path, monkeypatch, capfd):
    pytest.importorskip("distributed", reason="dask is not installed: pip install 'edge-denoise[cluster]'")
    monkeypatch.setattr(parallel, "CONNECT_S", 1)
    argv = ["eval", str(artifact), "--pairs", str(pairs), "--metrics", "sisdr", "--scheduler", "tcp://127.0.0.1:9"]
    assert main(argv) == 1
    assert "tcp://127.0.0.1:9: no scheduler answers; start one" in capfd.readouterr().err.splitlines()[-1]


def test_progress_is_told_where_there_is_no_terminal_and_before_the_first_is_done(monkeypatch, capfd):
    monkeypatch.setattr(parallel, "TICK_S", 0.01)
    monkeypatch.setattr(parallel, "LINE_EVERY_S", 0.05)
    done, told, say = [(2, "c"), (0, "a"), (1, "b")], list[float](), parallel._say

    def tell(n_done: float, *rest: Any) -> None:
        say(n_done, *rest)
        told.append(n_done)

    def slowly() -> Iterator[tuple[int, str]]:
        for n_done, each in zip((0, 3, 4), done, strict=True):
            while n_done not in told:  # however busy the machine is
                time.sleep(0.01)
            yield each

    monkeypatch.setattr(parallel, "_say", tell)

    assert list(parallel.watched(slowly(), [1, 2, 3], "clips")) == done
    lines = capfd.readouterr().err.splitlines()
    assert list(dict.fromkeys(line.split(",")[0] for line in lines)) == ["0 of 6 clips", "3 of 6 clips", "4 of 6 clips"]
    assert lines[0] == "0 of 6 clips"
    assert "s left" in lines[-1]
    time.sleep(0.1)
    assert capfd.readouterr().err == "", "it is done"


# --- clips that fail ----------------------------------------------------------------------------------------------


def test_a_clip_that_fails_is_named_and_the_rest_goes_on(pairs: Path, artifact: Path):
    sf.write(pairs / "clean" / "0.wav", speechlike()[:100], RATE_HZ)
    rows = evaluate([System("half", halved)], find_pairs(pairs), ["sisdr"], n_jobs=1)
    assert [(r.clip, r.system) for r in rows if r.error] == [("0.wav", "noisy")]
    assert "differ in length" in next(r.error for r in rows if r.error)
    assert [r.system for r in rows if r.clip == "1.wav"] == ["noisy", "half"]
    refuse_if_all_failed(rows)


def test_a_system_that_fails_on_a_clip_is_named(pairs: Path):
    for side in ("clean", "noisy"):
        sf.write(pairs / side / "1.wav", np.r_[np.float32(0.9), speechlike()], RATE_HZ)
    rows = evaluate([System("weak", broken_on_loud), System("half", halved)], find_pairs(pairs), ["sisdr"], n_jobs=1)
    assert failures(rows) == ["1.wav, weak: RuntimeError: too loud for me"]


def test_a_run_in_which_every_clip_failed_is_a_failure(pairs: Path, artifact: Path, capfd):
    for i in range(2):
        sf.write(pairs / "clean" / f"{i}.wav", speechlike()[:100], RATE_HZ)
    assert main(["eval", str(artifact), "--pairs", str(pairs), "--metrics", "sisdr", "--json"]) == 1
    told = capfd.readouterr()
    assert "every clip failed, first 0.wav, noisy" in told.err.splitlines()[-1]
    assert len(json.loads(told.out)["clips"]) == 2


def test_equal_reasons_are_one_line_and_many_are_counted():
    rows = [Row(f"{i}.wav", "int8", {}, f"/x/{i}.wav: has 2 channels") for i in range(800)]
    assert failures(rows) == ["0.wav and 799 more clips, int8: has 2 channels"]
    rows = [Row(f"{i}.wav", "int8", {}, f"/x/{i}.wav: has {i} channels") for i in range(800)]
    assert failures(rows)[1] == "1.wav, int8: has 1 channels"
    assert failures(rows)[10:] == ["and 790 reasons more: --rows lists every clip"]


@pytest.mark.parametrize("metric", ["stoi", "estoi"])
def test_too_little_speech_for_a_metric_is_no_number(metric):
    """pystoi returns 1e-5 for it, which a mean would swallow."""
    with pytest.raises(Failure, match=f"{metric} is not defined for it: it needs 0.4 s of speech"):
        score([metric], speechlike(4800), speechlike(4800))


# --- what dies ----------------------------------------------------------------------------------------------------


def dies_on_loud():
    def enhance(noisy: np.ndarray) -> np.ndarray:
        if noisy[0] > 0.85:
            os.kill(os.getpid(), signal.SIGSEGV)
        return noisy

    return enhance


def dies_at_once():
    os.kill(os.getpid(), signal.SIGILL)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_system_that_dies_costs_its_clip_and_is_named(pairs: Path, n_jobs: int, capfd):
    for side in ("clean", "noisy"):
        sf.write(pairs / side / "1.wav", np.r_[np.float32(0.9), speechlike()], RATE_HZ)
    systems = [System("weak", dies_on_loud), System("half", halved)]
    rows = evaluate(systems, find_pairs(pairs), ["sisdr"], n_jobs=n_jobs, quiet=True)
    assert failures(rows) == ["1.wav, weak: weak died on it: segmentation fault (signal 11)"]
    assert [(r.clip, r.system) for r in rows] == [(f"{i}.wav", s) for i in (0, 1) for s in ("noisy", "weak", "half")]
    assert [(s.system, s.n_clips) for s in summarise(rows, {})] == [("noisy", 1), ("weak", 1), ("half", 1)]
    assert capfd.readouterr().err == "", "a crash prints nothing of its own"


def test_a_system_that_dies_on_any_sound_is_left_out_and_named(pairs: Path):
    systems = [System("dead", dies_at_once), System("half", halved)]
    rows = evaluate(systems, find_pairs(pairs), ["sisdr"], n_jobs=2, quiet=True)
    death = "illegal instruction on this processor (signal 4)"
    assert failures(rows) == [f"0.wav and 1 more clips, dead: died on its first sound: {death}"]
    assert [(s.system, s.n_clips) for s in summarise(rows, {})] == [("noisy", 2), ("half", 2)]
    with pytest.raises(Failure, match=r"every clip failed, first 0\.wav, dead: died on its first sound"):
        refuse_if_all_failed(rows)


@pytest.mark.parametrize("dies", ["pesq", "stoi"])
def test_a_metric_that_dies_is_named(pairs: Path, dies: str):
    pair = find_pairs(pairs)[0]

    def call(task, *job):
        if job[2] == (dies,):
            raise Died("segmentation fault (signal 11)")
        return task(*job)

    rows = _piece_by_piece(call, (pair, (("noisy", None),), ("pesq", "stoi", "sisdr")), "it")
    hint = "; it has room for 50 utterances: cut the recording" if dies == "pesq" else ""
    assert [row.error for row in rows] == [f"{dies} died on it: segmentation fault (signal 11){hint}"]
    alive = _piece_by_piece(lambda task, *job: task(*job), (pair, (("noisy", None),), ("stoi", "sisdr")), "it")
    assert alive == score_pair(pair, (("noisy", None),), ("stoi", "sisdr")), (
        "a death for want of memory may be the last"
    )


def test_pesq_takes_nothing_with_it(pairs: Path):
    """54 utterances are more than its C code holds; should it learn to, the clip has a score."""
    word = np.r_[speechlike(RATE_HZ // 2), np.zeros(RATE_HZ // 4, np.float32)]
    for side, gain in (("clean", 0), ("noisy", 0.01)):
        sound = np.tile(word, 54)
        noise = gain * np.random.default_rng(0).standard_normal(len(sound)).astype(np.float32)
        sf.write(pairs / side / "1.wav", sound + noise, RATE_HZ)
    rows = evaluate([], find_pairs(pairs), ["pesq", "sisdr"], n_jobs=1, quiet=True)
    assert set(rows[0].scores) == {"pesq", "sisdr"}
    assert rows[1].scores or rows[1].error.startswith("pesq died on it: segmentation fault (signal 11)")


def test_an_input_on_which_a_model_dies_is_a_breach(artifact: Path):
    loud = Stimulus("clean speech", np.r_[np.float32(0.9), speechlike()], None)
    compared = [(System("exact", halved), System("weak", dies_on_loud, "exact"))]
    verdicts = robustness.judge(compared, [loud], n_jobs=1, quiet=True)
    assert {v.error for v in verdicts} == {"died: segmentation fault (signal 11)"}
    assert not any(v.ok for v in verdicts)


# --- the end of an evaluation ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("missing/r.csv", "missing: no such folder; make it first"),
        ("there.csv", "there.csv: exists already; pass --force to replace it"),
        ("clean", "clean: is a folder; name a file"),
    ],
)
def test_rows_that_cannot_be_written_are_told_before_the_work(
    pairs: Path, artifact: Path, monkeypatch, capfd, rows, words
):
    (pairs / "there.csv").write_text("mine")
    monkeypatch.setattr(evaluate_module, "evaluate", None)
    assert main(["eval", str(artifact), "--pairs", str(pairs), "--rows", str(pairs / rows)]) == 1
    assert words in capfd.readouterr().err
    assert (pairs / "there.csv").read_text() == "mine"


@pytest.mark.parametrize("full", ["quant.quality.evaluate.write_rows", "edge_runtime.command._print"])
def test_a_full_disk_costs_what_lies_there_alone(pairs: Path, artifact: Path, monkeypatch, capfd, full):
    """The rows, the result and what is printed may lie on three disks; each took hours."""
    out, rows = pairs / "found.json", pairs / "r.csv"

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(full, refuse)
    argv = ["eval", str(artifact), "--pairs", str(pairs), "--metrics", "sisdr", "--out", str(out), "--rows", str(rows)]
    assert main(argv) == 1
    assert "No space left on device" in capfd.readouterr().err.splitlines()[-1]
    assert (out.exists(), rows.exists()) == (True, full.endswith("_print"))


def test_what_was_measured_before_an_interruption_is_kept(pairs: Path, artifact: Path, monkeypatch, capfd):
    whole = parallel.completed

    def interrupted(*args, **options):
        yield next(whole(*args, **options))
        raise KeyboardInterrupt

    monkeypatch.setattr(parallel, "completed", interrupted)
    argv = [
        "eval",
        str(artifact),
        "--pairs",
        str(pairs),
        "--metrics",
        "sisdr",
        "--rows",
        str(pairs / "r.csv"),
        "--json",
    ]
    assert main(argv) == 130
    told = capfd.readouterr()
    assert "interrupted: 1 of 2 clips are done" in told.err
    assert {s["n_clips"] for s in json.loads(told.out)["systems"]} == {1}
    with (pairs / "r.csv").open(newline="") as file:
        assert len({row["clip"] for row in csv.DictReader(file)}) == 1
    assert not (artifact / "quality.json").exists(), "half a measurement is none"


def is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("is_killed", [False, True], ids=["Ctrl-C", "killed"])
def test_an_interruption_ends_every_process(tmp_path: Path, is_killed: bool):
    """As Ctrl-C in a terminal does it: every process of the group gets the signal, and only one line is printed. One
    that is killed prints none, and leaves no process and no semaphore."""
    code = (
        "import sys, time\n"
        "from quant.quality import parallel\n"
        "def slow(i):\n    open(sys.argv[1] + str(i), 'w').close(); time.sleep(60)\n"
        "try:\n    list(parallel.run(slow, [(0,), (1,)], unit='jobs', n_jobs=2, quiet=True))\n"
        "except KeyboardInterrupt:\n    print('interrupted')\n"
    )
    argv = [sys.executable, "-c", code.replace("sys.argv[1]", repr(str(tmp_path / "job")))]
    program = subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    while len(list(tmp_path.glob("job*"))) < 2:
        assert program.poll() is None
        time.sleep(0.05)
    if is_killed:
        program.kill()
        program.communicate(timeout=20)  # until the last of them has ended
    else:
        os.killpg(program.pid, signal.SIGINT)
        assert program.communicate(timeout=120)[0] == "interrupted\n"
    deadline_s = time.monotonic() + 120
    while is_alive(program.pid):
        assert time.monotonic() < deadline_s, "processes were left behind"
        time.sleep(0.1)
    assert not list(Path("/dev/shm").glob(f"sem.loky-{program.pid}-*"))


# --- the command --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (["eval", "artifact", "--pairs", "nowhere"], 1, "no such folder"),
        (["eval", "nowhere", "--pairs", "."], 1, "nowhere"),
        (["eval", "artifact", "--pairs", ".", "--metrics", "mos"], 1, "unknown metric 'mos'"),
        (["eval", "artifact", "--pairs", ".", "--by", "colour"], 1, "choose from snr"),
        (["eval", "artifact", "--pairs", ".", "--against", "x"], 1, "no system and no artifact"),
        (["eval", "artifact", "--pairs", ".", "--jobs", "0"], 2, "--jobs"),
        (["eval", "artifact", "--pairs", ".", "--speech", "x"], 1, "goes with --suite"),
        (["eval", "artifact", "--suite", "robustness", "--rows", "x"], 1, "goes with --pairs"),
        (["eval", "artifact", "--suite", "robustness", "--speech", "nowhere"], 1, "no such folder"),
        (["eval", "artifact"], 2, "--pairs"),
        (["eval", "artifact", "--pairs", ".", "--suite", "robustness"], 2, "not allowed with"),
        (["eval", "--pairs", "."], 2, "ARTIFACT"),
    ],
)
def test_bad_input_is_one_line(pairs: Path, monkeypatch, capfd, argv, status, words):
    write_toy_beside(pairs / "x", "artifact")
    monkeypatch.chdir(pairs)
    assert main(argv) == status
    err = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("quant: cutting")]
    assert words in err[0]
    assert len(err) == 1


def test_rows_of_every_system_and_paired_differences(pairs: Path, artifact: Path, capfd):
    (pairs / "manifest.csv").write_text("file,snr,subset\n0.wav,4,a\n1.wav,11,b\n")
    argv = ["eval", str(artifact), "--pairs", str(pairs), "--metrics", "sisdr", "--rows", str(pairs / "rows.csv")]
    assert main([*argv, "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    labels = [s["system"] for s in result["systems"]]
    assert labels == ["noisy", "onnx fp32", "onnx int8", "tflite fp32", "tflite int8"]
    assert {s["system"] for s in result["systems"] if s["differences"]} == {"onnx int8", "tflite int8"}
    assert len(result["clips"]) == 2 * len(labels)
    assert {name: list(of) for name, of in result["groups"].items()} == {"snr": ["5 dB", "10 dB"], "subset": ["a", "b"]}
    with (pairs / "rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["clip"], r["system"], r["snr_db"], r["subset"]) for r in rows[:2]] == [
        ("0.wav", "noisy", "4.0", "a"),
        ("0.wav", "onnx fp32", "4.0", "a"),
    ]
    assert [float(r["sisdr"]) for r in rows] == [c["sisdr"] for c in result["clips"]]
    assert main([*argv, "--by", "subset", "--force"]) == 0
    table = capfd.readouterr().out
    assert next(line.split()[:2] for line in table.splitlines() if line.startswith(("a ", "b "))) == ["a", "noisy"]


def test_where_no_process_can_wait_for_another_it_is_one_line(pairs: Path, artifact: Path, monkeypatch, capfd):
    """As in a container without /dev/shm."""

    def refuse(*args: object, ctx: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("multiprocessing.synchronize.Lock.__init__", refuse)
    assert main(["eval", str(artifact), "--pairs", str(pairs), "--metrics", "sisdr"]) == 1
    assert "/dev/shm: holds no semaphores (Read-only file system); let programs write" in capfd.readouterr().err


# --- what is kept --------------------------------------------------------------------------------------------------


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """An artifact that may be changed."""
    return write_toy_beside(tmp_path / "x", "mine")


def test_a_result_is_kept_in_its_artifact_as_it_is_printed(pairs: Path, mine: Path, capfd):
    """The manifest names it, so that a signature covers it, a bundle takes it, and a build over it removes it."""
    argv = ["eval", str(mine), "--pairs", str(pairs), "--metrics", "sisdr"]
    assert main([*argv, "--json"]) == 0
    told = capfd.readouterr()
    held = json.loads(open_artifact(mine).read("quality.json"))
    assert held == json.loads(told.out)
    assert (held["data"], len(held["date"])) == (pairs.name, len("2026-11-28"))
    assert held["checkpoint_sha256"] == open_artifact(mine).manifest.checkpoint.sha256
    assert f"kept in {mine / 'quality.json'}; the page with it: `quant report " in told.err
    open_artifact(mine).check_whole()
    assert main([*argv, "--metrics", "stoi"]) == 0
    assert "not kept, for " in (err := capfd.readouterr().err)
    assert "--force replaces it" in err
    assert main([*argv, "--metrics", "stoi", "--force"]) == 0
    assert json.loads(open_artifact(mine).read("quality.json"))["systems"][0]["means"].keys() == {"stoi"}


NAMES = ("0.wav", "1.wav")
SYSTEMS = ("noisy", "onnx fp32", "onnx int8")


@pytest.mark.parametrize(
    ("systems", "columns", "clips", "is_lost"),
    [
        (SYSTEMS, ("sisdr", "stoi"), NAMES, False),
        ((*SYSTEMS, "tflite fp32"), ("pesq", "sisdr", "stoi"), (*NAMES, "2.wav"), False),
        (SYSTEMS[:2], ("sisdr", "stoi"), NAMES, True),
        (SYSTEMS, ("sisdr",), NAMES, True),
        (SYSTEMS, ("sisdr", "stoi"), ("1.wav", "2.wav"), True),
    ],
)
def test_a_result_replaces_what_it_measures_again(mine: Path, systems, columns, clips, is_lost):
    """What it does not measure took longer, and is replaced with --force alone."""
    rows = [Row(clip, system, {"stoi": 0.5, "sisdr": 1.0}) for clip in NAMES for system in SYSTEMS]
    told = {"systems": summarise(rows, {}), "clips": [{"clip": name} for name in NAMES]}
    kept.place(kept.QUALITY_FILE, [mine], None, force=False).keep(told)
    held = f"{mine} keeps one that holds other things (2 clips under 3 systems in STOI, SI-SDR dB; --force replaces it)"
    assert kept.fuller(open_artifact(mine), systems, columns, clips) == (held if is_lost else "")


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--against", "onnx fp32"], "it compares with another system"),
        (["signed"], "is signed"),
        (["other"], "it is about several artifacts"),
    ],
    ids=["against", "signed", "two"],
)
def test_a_result_that_the_artifact_cannot_hold_is_kept_where_told(pairs: Path, mine: Path, capfd, more, why):
    out, argv = pairs / "found.json", ["eval", str(mine), "--pairs", str(pairs), "--metrics", "sisdr"]
    if more == ["signed"]:
        (mine / "manifest.json.sig").write_text("x")
    elif more == ["other"]:
        argv.insert(2, str(write_toy_beside(pairs / "y", "other")))
    else:
        argv += more
    before = (mine / "manifest.json").read_bytes()
    assert main(argv) == 0
    err = capfd.readouterr().err
    assert f"note: the result is not kept, for {why}" in err.replace(f"{mine} ", "")
    assert main([*argv, "--out", str(out)]) == 0
    assert f"kept in {out}\n" in capfd.readouterr().err
    assert json.loads(out.read_text())["systems"]
    assert (mine / "manifest.json").read_bytes() == before
    assert main([*argv, "--out", str(out)]) == 1
    assert "exists already; pass --force" in capfd.readouterr().err


# --- means and differences ----------------------------------------------------------------------------------------


def test_the_interval_holds_the_mean_and_narrows_with_clips():
    rng = np.random.default_rng(3)
    few, many = rng.normal(0.1, 1, 20), rng.normal(0.1, 1, 2000)
    widths = []
    for values in (few, many):
        found = bootstrap(values)
        mean, low, high = found.mean, found.low, found.high
        assert low <= mean <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 5


ROWS = [
    Row("a", "fp32", {"m": 1.0}, snr_db=11.0, groups={"snr": "10 dB", "subset": "x"}),
    Row("a", "int8", {"m": 0.5}, snr_db=11.0, groups={"snr": "10 dB", "subset": "x"}),
    Row("b", "fp32", {"m": 9.0}, snr_db=4.0, groups={"snr": "5 dB"}),
    Row("b", "int8", {}, "failed", snr_db=4.0, groups={"snr": "5 dB"}),
]


def test_means_and_differences_are_over_the_clips_that_went_well_everywhere():
    by_name = {s.system: s for s in summarise(ROWS, {"int8": "fp32"})}
    assert by_name["int8"].differences["m"].mean == -0.5
    assert {name: (s.means["m"], s.n_clips) for name, s in by_name.items()} == {"fp32": (1.0, 1), "int8": (0.5, 1)}


def test_a_system_that_failed_everywhere_costs_the_others_nothing():
    by_name = {s.system: s for s in summarise([*ROWS, Row("a", "dead", {}, "x"), Row("b", "dead", {}, "x")], {})}
    assert {name: s.n_clips for name, s in by_name.items()} == {"fp32": 1, "int8": 1}
    crossed = [ROWS[0], Row("a", "int8", {}, "x"), Row("b", "fp32", {}, "x"), Row("b", "int8", {"m": 1.0})]
    assert summarise(crossed, {}) == (), "no clip went well under both"


def test_groups_come_by_rising_snr_and_hold_their_own_clips():
    rows = [*ROWS[:3], replace(ROWS[3], scores={"m": 8.0}, error="")]
    groups = summarise_by(rows, "snr", {"int8": "fp32"})
    assert list(groups) == ["5 dB", "10 dB"]
    assert [s.means["m"] for s in groups["10 dB"]] == [1.0, 0.5]
    assert [s.means["m"] for s in groups["5 dB"]] == [9.0, 8.0]
    only_int8 = [replace(row, system="int8") for row in ROWS if row.system == "int8"]
    assert list(summarise_by(only_int8, "snr", {})) == ["10 dB"], "a group without a clip is none"
    assert list(summarise_by(ROWS, "subset", {})) == ["x"]
    assert summarise_by([replace(row, groups={}) for row in ROWS], "subset", {}) == {}
