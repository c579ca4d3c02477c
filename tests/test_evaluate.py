"""Quality through the runtimes: pairs, metrics, paired differences, and clips that fail."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from toy_artifact import write_toy

from edge_runtime.errors import Failure
from quant import evaluate
from quant.cli import main
from quant.evaluate import METRICS, Row, System, bootstrap, find_pairs, summarise

RATE_HZ = 16_000


def speechlike(n: int = 2 * RATE_HZ) -> np.ndarray:
    """A voice as far as a metric can tell: harmonics under a syllabic envelope."""
    t = np.arange(n) / RATE_HZ
    voice = sum(np.sin(2 * np.pi * 140 * k * t) / k for k in range(1, 20))
    return (0.1 * voice * np.clip(np.sin(2 * np.pi * 3 * t), 0, None)).astype(np.float32)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for side, noise in (("clean", 0.0), ("noisy", 0.02)):
        (tmp_path / side).mkdir()
        for i in range(2):
            sound = speechlike() + noise * rng.standard_normal(2 * RATE_HZ).astype(np.float32)
            sf.write(tmp_path / side / f"{i}.wav", sound, RATE_HZ)
    return tmp_path


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_prefers_the_clean_sound(metric):
    clean = speechlike()
    noisy = clean + 0.05 * np.random.default_rng(1).standard_normal(len(clean)).astype(np.float32)
    assert METRICS[metric](clean, clean) > METRICS[metric](clean, noisy)


def test_si_sdr_of_a_known_mixture():
    clean = speechlike()
    noise = np.random.default_rng(2).standard_normal(len(clean))
    noise -= (noise @ clean) / (clean @ clean) * clean  # orthogonal, so that the ratio is the plain one
    noise -= noise.mean()
    noise *= np.sqrt(((clean - clean.mean()) ** 2).sum() / 10 / (noise @ noise))
    assert METRICS["sisdr"](clean, (3 * (clean + noise)).astype(np.float32)) == pytest.approx(10, abs=0.05)


def test_pairs_without_a_counterpart_are_refused(pairs: Path):
    (pairs / "clean" / "1.wav").unlink()
    with pytest.raises(Failure, match=r"1\.wav has no counterpart"):
        find_pairs(pairs)


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (["eval", "artifact", "--pairs", "nowhere"], 1, "holds no pairs"),
        (["eval", "nowhere", "--pairs", "."], 1, "nowhere"),
        (["eval", "artifact", "--pairs", ".", "--metrics", "mos"], 1, "unknown metric 'mos'"),
        (["eval", "artifact"], 2, "--pairs"),
        (["eval", "--pairs", "."], 2, "ARTIFACT"),
    ],
)
def test_bad_input_is_one_line(pairs: Path, monkeypatch, capfd, argv, status, words):
    (pairs / "artifact").mkdir()
    write_toy(pairs / "artifact")
    monkeypatch.chdir(pairs)
    assert main(argv) == status
    err = capfd.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_rows_of_every_system_and_paired_differences(pairs: Path, capfd):
    (pairs / "artifact").mkdir()
    write_toy(pairs / "artifact")
    assert main(["eval", str(pairs / "artifact"), "--pairs", str(pairs), "--metrics", "sisdr", "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    labels = [s["system"] for s in result["systems"]]
    assert labels == ["noisy", "onnx fp32", "onnx int8", "tflite fp32", "tflite int8"]
    assert {s["system"] for s in result["systems"] if s["differences"]} == {"onnx int8", "tflite int8"}
    assert len(result["clips"]) == 2 * len(labels)


def test_a_clip_that_fails_is_named_and_the_rest_goes_on(pairs: Path):
    (pairs / "artifact").mkdir()
    write_toy(pairs / "artifact")
    sf.write(pairs / "clean" / "0.wav", speechlike()[:100], RATE_HZ)
    system = System("toy", pairs / "artifact", "onnx", "fp32")
    rows = evaluate.evaluate([system], find_pairs(pairs), ["sisdr"], n_jobs=1)
    assert [(r.clip, r.system) for r in rows if r.error] == [("0.wav", "noisy")]
    assert "differ in length" in next(r.error for r in rows if r.error)
    assert [r.system for r in rows if r.clip == "1.wav"] == ["noisy", "toy"]


def test_the_interval_holds_the_mean_and_narrows_with_clips():
    rng = np.random.default_rng(3)
    few, many = rng.normal(0.1, 1, 20), rng.normal(0.1, 1, 2000)
    widths = []
    for values in (few, many):
        mean, low, high = bootstrap(values)
        assert low <= mean <= high
        widths.append(high - low)
    assert widths[1] < widths[0] / 5


def test_differences_pair_clips_and_skip_failed_ones():
    rows = [
        Row("a", "fp32", {"m": 1.0}),
        Row("a", "int8", {"m": 0.5}),
        Row("b", "fp32", {"m": 9.0}),
        Row("b", "int8", {}, "failed"),
    ]
    by_name = {s.system: s for s in summarise(rows, {"int8": "fp32"})}
    assert by_name["int8"].differences["m"][0] == -0.5
    assert by_name["fp32"].means["m"] == 5.0
