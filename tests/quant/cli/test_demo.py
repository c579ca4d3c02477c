"""`make demo`: a real recording through every model of a real build."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile

from quant.cli import demo, main
from quant.inputs import assets


def test_the_demo_refuses_a_wrong_board_before_it_pulls(capfd, monkeypatch):
    monkeypatch.setattr(assets, "pull", pytest.fail)
    assert demo.main(["--target", "rpi9"]) == 1
    assert capfd.readouterr().err.startswith("quant-demo: error: unknown board 'rpi9'; did you mean rpi5?")


def test_the_demo_refuses_a_wrong_network_before_it_pulls(capfd, monkeypatch):
    monkeypatch.setattr(assets, "pull", pytest.fail)
    assert demo.main(["--network", "gtrcn"]) == 1
    assert "unknown network 'gtrcn'; choose one of: gtcrn" in capfd.readouterr().err


@pytest.mark.slow
def test_the_demo_builds_denoises_and_judges(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert demo.main([]) == demo.main([]) == 0  # the second replaces what the first made
    rows = {line.split()[0]: line.split()[1:] for line in capfd.readouterr().out.splitlines()}
    noisy_pesq = float(rows["noisy"][0])
    for name in ("onnx-fp32", "tflite-fp32", "onnx-int8", "tflite-int8"):
        assert float(rows[name][0]) > noisy_pesq + 0.5
        assert soundfile.info(f"build/demo/{name}.wav").frames == soundfile.info("build/demo/clean.wav").frames
    assert main(["verify", "build/rpi4"]) == 0
    first = json.loads(Path("build/rpi4/report.json").read_text())["clips"][0]
    assert [signal["role"] for signal in first["signals"]] == ["noisy", "fp32", "int8", "clean", "difference"]
    assert first["seconds"] == 8.0
    assert Path("build/rpi4/report.html").stat().st_size < 3_000_000
