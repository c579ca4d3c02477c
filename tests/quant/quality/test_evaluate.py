"""Quality through the runtimes: pairs, systems, paired differences, groups, clusters, and clips that fail."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from toy_artifact import write_toy

from edge_runtime import open_artifact
from edge_runtime.errors import Failure
from quant.cli import main
from quant.quality import parallel
from quant.quality.evaluate import comparisons, evaluate, failures, refuse_if_all_failed
from quant.quality.metrics import METRICS, columns, score
from quant.quality.pairs import find_pairs, groupings, snr_db_of, snr_group
from quant.quality.results import Row
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
    clean = speechlike()
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


@pytest.mark.parametrize("duration_s", [0.5, 5, 9.01, 11.2, 13])
def test_dnsmos_is_what_speechmos_says(duration_s, monkeypatch):
    """Its own code, with librosa's part, which makes only the P.808 score, left out."""
    import sys
    from types import SimpleNamespace

    mel = SimpleNamespace(melspectrogram=lambda **_: np.ones((120, 900)))
    librosa = SimpleNamespace(feature=mel, power_to_db=lambda mel, ref: mel)
    monkeypatch.setitem(sys.modules, "librosa", librosa)
    monkeypatch.setitem(sys.modules, "requests", SimpleNamespace(session=None))
    from speechmos import dnsmos

    sound = speechlike(int(duration_s * RATE_HZ))
    sound += 0.01 * np.random.default_rng(3).standard_normal(len(sound)).astype(np.float32)
    theirs, ours = dnsmos.run(sound, RATE_HZ), score(["dnsmos"], sound, sound)
    assert ours == pytest.approx({f"dnsmos_{k}": theirs[f"{k}_mos"] for k in ("ovrl", "sig", "bak")}, abs=1e-5)


def test_dnsmos_hears_what_a_sound_file_would_hold():
    loud = 20 * speechlike()
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


def test_progress_is_told_where_there_is_no_terminal(monkeypatch, capfd):
    monkeypatch.setattr(parallel, "LINE_EVERY_S", 0.0)
    assert list(parallel.watched(iter("abc"), [1, 2, 3], "clips")) == ["a", "b", "c"]
    lines = capfd.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["1 of 6 clips", "3 of 6 clips"]
    assert "s left" in lines[0]


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


# --- the command --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (["eval", "artifact", "--pairs", "nowhere"], 1, "holds no pairs"),
        (["eval", "nowhere", "--pairs", "."], 1, "nowhere"),
        (["eval", "artifact", "--pairs", ".", "--metrics", "mos"], 1, "unknown metric 'mos'"),
        (["eval", "artifact", "--pairs", ".", "--by", "colour"], 1, "choose from snr"),
        (["eval", "artifact", "--pairs", ".", "--against", "x"], 1, "no system and no artifact"),
        (["eval", "artifact", "--pairs", ".", "--jobs", "0"], 1, "--jobs"),
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
    assert main([*argv, "--by", "subset"]) == 0
    table = capfd.readouterr().out
    assert next(line.split()[:2] for line in table.splitlines() if line.startswith((" a ", " b "))) == ["a", "noisy"]


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


def test_differences_pair_clips_and_skip_failed_ones():
    by_name = {s.system: s for s in summarise(ROWS, {"int8": "fp32"})}
    assert by_name["int8"].differences["m"].mean == -0.5
    assert by_name["fp32"].means["m"] == 5.0


def test_groups_come_by_rising_snr_and_hold_their_own_clips():
    groups = summarise_by(ROWS, "snr", {"int8": "fp32"})
    assert list(groups) == ["5 dB", "10 dB"]
    assert [s.means["m"] for s in groups["10 dB"]] == [1.0, 0.5]
    assert [s.system for s in groups["5 dB"]] == ["fp32"]
    assert list(summarise_by(ROWS, "subset", {})) == ["x"]
    assert summarise_by([replace(row, groups={}) for row in ROWS], "subset", {}) == {}
