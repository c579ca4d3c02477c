"""Builds beyond the default: files for other software, and a network of other sizes from its training to its folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy_build import TOY, toy

from calibration.mixing import Mix
from edge_runtime.engines.golden import check_golden
from edge_runtime.manifest import open_artifact
from edge_runtime.quiet import silent
from quant.audit import compare
from quant.build import contents, stages
from quant.emit.onnx import tensorrt_rules
from quant.emit.onnx.official import emit_official
from quant.inputs import checkpoint, source, trained
from quant.inputs.source import Inputs
from quant.network.gtcrn import Config
from quant.training import runs, trainer

MORE = {"model.official.onnx", "model.official.fp32.onnx", "model.tensorrt.onnx"}
TINY = Mix(n_clips=2, clip_ms=400, warmup_ms=0)
QUICK = trainer.Settings(steps=2, validate_every=2, n_validation_batches=1, n_workers=0)
SMALL = Config(channels=12, n_dpgrnn=1, dilations=(1, 2, 4))

pytestmark = pytest.mark.usefixtures("undrawn")


# --- other software ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(made_once: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("more") / "rpi4"
    settings = toy("rpi4", out, official_io=True, tensorrt=True)
    return made_once("more", lambda: stages.build(settings, silent).folder)


def test_the_files_are_in_the_manifest_and_in_the_report(folder: Path) -> None:
    opened = open_artifact(folder)
    opened.check_all()
    assert set(opened.manifest.files) >= MORE
    assert not MORE & set(opened.manifest.model_files()), "no engine of ours runs them"
    report = json.loads((folder / "report.json").read_text())
    assert {name: report["files"][name]["bytes"] for name in MORE} == {n: (folder / n).stat().st_size for n in MORE}
    assert report["tensorrt"]["golden_snr_db"] >= contents.INT8_FLOORS_DB["tflite"]


def test_the_others_are_what_they_are_without_them(folder: Path, rpi4: Path) -> None:
    plain = {path.name: path.read_bytes() for path in rpi4.iterdir()}
    assert not MORE & set(plain)
    for name in {n for n in plain if n.startswith(("model", "golden", "plan", "ranges", "recipe"))}:
        assert (folder / name).read_bytes() == plain[name], name


def test_they_keep_their_rules(folder: Path) -> None:
    found = source.open_source(None, None)
    assert (folder / "model.official.fp32.onnx").read_bytes() == emit_official(found.graph).data
    assert tensorrt_rules.violations((folder / "model.tensorrt.onnx").read_bytes()) == []


# --- a network of other sizes -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(made_once: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    job = runs.Job(tmp_path_factory.mktemp("scratch"), mix=TINY, settings=QUICK, config=SMALL)
    alone = replace(job, settings=replace(QUICK, share_teacher=0.0))
    return made_once("small", lambda: runs.train(alone, silent, from_scratch=True))


def test_it_is_trained_built_and_verified_in_every_engine(weights: Path, tmp_path: Path) -> None:
    assert checkpoint.load(weights).config == SMALL
    settings = toy("rpizero2w", tmp_path / "small", inputs=Inputs(checkpoint=weights), official_io=True)
    built = stages.build(settings, silent)
    rows = check_golden(open_artifact(built.folder))
    assert len(rows) == 6
    assert all(row.ok for row in rows)
    compared = compare.compare(
        compare.open_side("channels=12,dpgrnn=1,dilations=1,2,4", None, "static"),
        compare.open_side(str(built.folder)),
    )
    differ = {title: change for title, change in compared.totals.items() if change.difference}
    # Arrays that are equal lie once in a file: LayerNorms of a network that has hardly learned.
    assert set(differ) <= {"flash bytes", "RAM bytes"}
    assert all(-0.05 * change.before < change.difference < 0 for change in differ.values())


def test_it_is_trained_under_8_bit_rounding_and_built(weights: Path, tmp_path: Path) -> None:
    job = runs.Job(tmp_path / "run", checkpoint=weights, mix=TINY, calibration=TOY.mix, settings=QUICK)
    path = runs.qat(job, silent)
    assert trained.load(path).config == SMALL
    built = stages.build(toy("rpizero2w", tmp_path / "small", inputs=Inputs(checkpoint=path)), silent)
    rows = {(row.engine, row.precision): row for row in check_golden(open_artifact(built.folder))}
    # Random weights: where TFLite rounds one value otherwise, all after it differ (12 dB on AVX2, 22 dB on AVX-512).
    assert all(row.ok for key, row in rows.items() if key != ("tflite", "int8"))
    assert np.isfinite(rows["tflite", "int8"].snr_db), "it runs, and is not the reference itself"
    assert built.report.budget.published.n_learned == 12_009


def test_it_goes_on_from_its_own_weights(weights: Path, tmp_path: Path) -> None:
    job = runs.Job(tmp_path / "more", checkpoint=weights, mix=TINY, settings=replace(QUICK, steps=1))
    assert checkpoint.load(runs.train(job, silent)).config == SMALL
