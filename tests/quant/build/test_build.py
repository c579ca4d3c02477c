"""One whole build, as a user runs it but for fewer calibration clips: what it leaves, twice the same, or nothing."""

from __future__ import annotations

import hashlib
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from places import ROOT
from toy_build import toy

from edge_runtime.engines.golden import check_golden
from edge_runtime.errors import Failure
from edge_runtime.manifest import DIGEST_FILE, MANIFEST_FILE, SEALS, open_artifact
from edge_runtime.native import Stream
from edge_runtime.quiet import silent
from quant import cli
from quant.artifact.folder import renew, replaceable, whole_artifact
from quant.artifact.stable_bytes import json_bytes
from quant.audit import budget
from quant.build import contents as built_contents
from quant.build import stages
from quant.build.settings import Search
from quant.build.stages import Built
from quant.cli.build import _build_lines, figures, worst
from quant.inputs import trained
from quant.inputs.source import Inputs
from quant.int8 import recipe
from quant.int8.plan import PlanRow
from quant.report import schema, verdict

FILES = {
    "README.md", "golden.npz", "manifest.json", "manifest.sha256", "model.fp32.native", "model.fp32.onnx",
    "model.fp32.tflite", "model.native", "model.onnx", "model.tflite", "plan.json", "ranges.json", "recipe.toml",
    "report.html", "report.json", "sbom.cdx.json",
}  # fmt: skip
MODELS = {name for name in FILES if name.startswith("model.")}


@pytest.fixture(scope="module")
def built(made_once: Callable[..., Built], tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Into a folder whose parents are not there yet, on four threads; not to be changed."""

    def make() -> Built:
        threads = torch.get_num_threads()
        torch.set_num_threads(4)
        try:
            return stages.build(toy("rpi4", tmp_path_factory.mktemp("build") / "deep" / "rpi4", html=True), silent)
        finally:
            torch.set_num_threads(threads)

    return made_once("built", make)


def contents(folder: Path) -> dict[str, str]:
    """File name -> SHA-256."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


# --- what it leaves -----------------------------------------------------------------------------------------------


def test_every_file_is_there_and_as_the_manifest_says(built: Built) -> None:
    assert set(contents(built.folder)) == FILES
    assert [path.name for path in built.folder.parent.iterdir()] == ["rpi4"], "no temporary folder stays"
    opened = open_artifact(built.folder)
    opened.check_whole()
    assert set(opened.manifest.files) == FILES - {MANIFEST_FILE, DIGEST_FILE}
    for name, sha256 in contents(built.folder).items():
        if name not in (MANIFEST_FILE, DIGEST_FILE):
            assert opened.manifest.files[name].sha256 == sha256
            assert opened.manifest.files[name].bytes == (built.folder / name).stat().st_size
    assert (opened.manifest.board, opened.manifest.recipe) == ("rpi4", "float-mask")


@pytest.mark.parametrize(("own_db", "floor_db"), [(40.0, 27.0), (20.0, 21.0), (26.0, 27.0)])
def test_the_floor_of_onnx_lies_above_what_8_bits_alone_lose(own_db: float, floor_db: float) -> None:
    """Or a processor that is right would fail where the network hears 8 bits more than usual."""
    floats = np.random.default_rng(0).normal(size=(9, 257, 2)).astype(np.float32)
    golden = {"enhanced_fp32": floats, "enhanced_int8_onnx": floats * np.float32(1 + 10 ** (-own_db / 20))}
    assert built_contents.int8_floor_db("onnx", golden) == pytest.approx(floor_db, abs=0.05)
    assert built_contents.int8_floor_db("tflite", {}) == built_contents.INT8_FLOORS_DB["tflite"]


def test_no_file_tells_when_or_where_it_was_made(built: Built) -> None:
    with zipfile.ZipFile(built.folder / "golden.npz") as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    here = (str(built.folder.parent), str(ROOT))
    for name in FILES:
        assert not [place for place in here if place.encode() in (built.folder / name).read_bytes()], name


def test_golden_vectors_pass_in_every_engine(built: Built) -> None:
    rows = check_golden(open_artifact(built.folder))
    assert [(row.engine, row.precision, row.ok) for row in rows] == [
        (engine, precision, True) for engine in ("native", "onnx", "tflite") for precision in ("fp32", "int8")
    ]
    assert [(row.engine, row.precision) for row in rows if row.exact] == [("native", "int8")]
    floors_db = {(row.engine, row.precision): row.floor_db for row in rows if not row.exact}
    assert floors_db == dict.fromkeys([(e, "fp32") for e in ("native", "onnx", "tflite")], 90) | {
        ("onnx", "int8"): 27,
        ("tflite", "int8"): 15,
    }


def test_the_report_is_the_one_in_the_folder(built: Built) -> None:
    assert schema.read(built.folder / "report.json") == built.report
    plan = msgspec.json.decode((built.folder / "plan.json").read_bytes(), type=tuple[PlanRow, ...])
    assert plan == built.report.plan
    assert set(built.report.coverage) == {"onnx", "tflite"}
    planned, measured = ({row.tap for row in rows} for rows in (built.report.plan, built.report.accuracy))
    in_int8 = {row.tap for row in built.report.plan if row.type == "int8" and row.kind != "weight"}
    assert in_int8 <= measured <= planned


def test_a_build_ends_with_the_verdict_three_figures_and_what_to_type(built: Built) -> None:
    lines = "\n".join(_build_lines(built, 12.3, verbose=False)).splitlines()
    first, *_, figures, opened, tried = lines
    assert first == f"{built.folder}: built for Raspberry Pi 4 Model B in 12 s"
    questions = [j.question for j in built.report.verdict]  # answers may take lines of their own
    assert [q for line in lines for q in questions if line.startswith(q)] == questions
    assert re.fullmatch(r"\d+ KB of flash, \d+ KB of RAM, [\d.]+ to [\d.]+ ms of every 16 ms \(estimated\)", figures)
    assert opened == f"open:    {built.folder}/report.html"
    assert tried == f"try:     edge-denoise file noisy.wav clean.wav --model {built.folder}"
    more = "\n".join(_build_lines(built, 12.3, verbose=True))
    assert "recipe:   float-mask" in more
    assert len(worst(built.report)) == 8


def test_what_to_type_next_names_the_folder_that_was_built(built: Built) -> None:
    unmeasured = replace(built, report=msgspec.structs.replace(built.report, shipped=None))
    *_, last = _build_lines(unmeasured, 12.3, verbose=False)
    assert last == f"next:    quant eval {built.folder} --pairs PAIRS, then quant report {built.folder}"


def test_flash_and_ram_are_the_same_figures_in_report_card_budget_and_at_the_end_of_a_build(built: Built) -> None:
    opened, totals = open_artifact(built.folder), built.report.budget.totals
    flash = opened.manifest.files["model.native"].bytes
    assert totals.flash_bytes == flash
    assert totals.ram_bytes == flash + Stream(opened.read("model.native")).n_bytes == verdict.ram_bytes(built.report)
    counted = budget.for_target("rpi4", trained.embedded()).totals
    assert (counted.flash_bytes, counted.ram_bytes) == (totals.flash_bytes, totals.ram_bytes)
    lines = {line.name: line.value for line in built.report.budget.budget}
    assert (lines["model_bytes"], lines["ram_bytes"]) == (totals.flash_bytes, totals.ram_bytes)
    card = (built.folder / "README.md").read_text()
    said = [f"{n_bytes / 1024:.1f} KB |\n" for n_bytes in (totals.flash_bytes, totals.ram_bytes)]
    assert all(each in card for each in said)
    flash_kb, ram_kb, _ = figures(built.report)
    assert (flash_kb, ram_kb) == (f"{flash / 1024:.0f} KB of flash", f"{totals.ram_bytes / 1024:.0f} KB of RAM")


# --- into a folder that holds an artifact ---------------------------------------------------------------------------


def test_the_same_inputs_again_leave_what_is_there(built: Built, tmp_path: Path) -> None:
    """With what was measured of it since, and its signature."""
    out = Path(shutil.copytree(built.folder, tmp_path / "rpi4"))
    renew(open_artifact(out), {"quality.json": b"{}"})
    before = contents(out)
    said = list[str]()
    assert stages.build(toy("rpi4", out), said.append).report == built.report
    assert said[-1] == f"{out}: the same models are there already; left as it is"
    assert contents(out) == before
    with pytest.raises(Failure, match=f"already, for rpi4; give --force to replace it, or --out {out}-2"):
        stages.build(toy("rpi3", out), silent)
    (tmp_path / "rpi4-2").mkdir()
    for asked, why in (
        (toy("rpi4", out, official_io=True), "without model.official.onnx"),
        (toy("rpi4", out, search=Search(max_pesq_drop=0.1)), "and a search makes another"),
    ):
        with pytest.raises(Failure, match=f"already, {why}; give --force to replace it, or --out {out}-3"):
            stages.build(asked, silent)
    assert contents(out) == before


def test_models_that_are_built_otherwise_now_are_not_replaced_unasked(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = Path(shutil.copytree(built.folder, tmp_path / "rpi4"))
    renew(open_artifact(out), {"model.onnx": b"of an older compiler"})
    before = contents(out)
    with pytest.raises(
        Failure, match=r"holds an artifact already, whose model\.onnx was built otherwise; give --force"
    ):
        stages.build(toy("rpi4", out), silent)
    assert contents(out) == before


# --- the same inputs, the same bytes ------------------------------------------------------------------------------


def test_a_second_build_has_the_same_hashes(built: Built, rpi4: Path) -> None:
    """On one thread: the order of a sum shows in its last bit, and so in a hash."""
    assert contents(rpi4) == contents(built.folder)


def test_ranges_of_a_build_make_the_same_artifact(built: Built, tmp_path: Path) -> None:
    out = tmp_path / "rpi4"
    again = stages.build(toy("rpi4", out, inputs=Inputs(ranges=built.folder / "ranges.json"), html=True), silent)
    assert contents(again.folder) == contents(built.folder)


def test_the_plan_is_the_one_of_the_build(built: Built) -> None:
    assert stages.plan(toy("rpi4", inputs=Inputs(ranges=built.folder / "ranges.json")), silent) == built.report.plan


# --- what it replaces ---------------------------------------------------------------------------------------------


def hold(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_text("{}")
    return folder


def hold_artifact(folder: Path, *names: str) -> Path:
    """A folder with our mark, and the files that it lists."""
    hold(folder, *names)
    (folder / MANIFEST_FILE).write_bytes(json_bytes({"format": "edge-denoise", "files": dict.fromkeys(names)}))
    return folder


def test_only_an_artifact_is_ever_replaced_and_only_by_force(tmp_path: Path) -> None:
    occupied = (tmp_path / "file").write_text("")
    assert occupied == 0
    hold(tmp_path / "app", MANIFEST_FILE)  # a browser's extension has one, too
    rows = [
        # what lies at --out, force -> words of the refusal, or the names that may be replaced
        (hold(tmp_path / "empty"), False, set()),
        (hold(tmp_path / "fresh disk", "lost+found", ".keep"), False, set()),
        (hold_artifact(tmp_path / "artifact", "model.onnx"), True, {"model.onnx", MANIFEST_FILE, *SEALS}),
        (tmp_path / "artifact", False, "holds an artifact already; give --force to replace it, or --out .*artifact-2"),
        (hold(tmp_path / "thesis", "thesis.tex"), False, "holds other files and no artifact"),
        (tmp_path / "thesis", True, "holds other files and no artifact"),
        (tmp_path / "app", True, "holds a manifest.json that is not of an artifact, or is damaged"),
        (tmp_path / "file", True, "is a file, not a folder"),
    ]
    for out, force, expected in rows:
        if isinstance(expected, set):
            assert replaceable(out, force) == expected
        else:
            with pytest.raises(Failure, match=expected):
                replaceable(out, force)


def test_a_refused_build_does_no_work(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(Failure, match="holds other files"):
        stages.build(toy("rpi4", hold(tmp_path / "thesis", "thesis.tex")), said.append)
    assert said == []
    assert (tmp_path / "thesis" / "thesis.tex").read_text() == "{}"


def test_force_replaces_the_artifact_and_keeps_the_users_files(tmp_path: Path) -> None:
    out = hold_artifact(tmp_path / "out", "old.onnx")
    (out / "notes.txt").write_text("mine")
    with whole_artifact(out, force=True) as part:
        (part / "new.onnx").write_text("new")
        assert (out / "old.onnx").exists(), "the old one stays until the new one is whole"
    assert sorted(path.name for path in out.iterdir()) == ["new.onnx", "notes.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_of_two_builds_into_one_folder_the_second_is_told(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with whole_artifact(out, force=False) as part:
        (part / "model.onnx").write_text("first")
        with pytest.raises(Failure, match="is being written by another run"):
            stages.build(toy("rpi4", out), silent)
    assert (out / "model.onnx").read_text() == "first"


# --- what fails leaves nothing --------------------------------------------------------------------------------------


def test_a_failing_build_leaves_nothing(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise Failure("the emitter broke")

    monkeypatch.setattr(stages, "emit_all", fail)
    ranges = Inputs(ranges=built.folder / "ranges.json")
    with pytest.raises(Failure, match="the emitter broke"):
        stages.build(toy("rpi4", tmp_path / "a" / "b" / "rpi4", inputs=ranges), silent)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_build_keeps_the_artifact_it_would_replace(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("quant.build.contents.make_manifest", interrupt)
    out, ranges = hold_artifact(tmp_path / "rpi4"), Inputs(ranges=built.folder / "ranges.json")
    with pytest.raises(KeyboardInterrupt):
        stages.build(toy("rpi4", out, inputs=ranges, force=True), silent)
    assert [path.name for path in tmp_path.iterdir()] == ["rpi4"]
    assert [path.name for path in out.iterdir()] == [MANIFEST_FILE]


# arguments after `build --target rpi4 --out OUT` -> words of the one line; all are said before the slow work
BAD: dict[str, tuple[list[str], str]] = {
    "board": (["--target", "rpi9"], "unknown board 'rpi9'"),
    "recipe": (["--recipe", "statik"], "unknown recipe 'statik'"),
    "checkpoint": (["--checkpoint", "absent.pt"], "absent.pt: no such checkpoint"),
    "not a checkpoint": (["--checkpoint", __file__], "not a PyTorch, safetensors or ONNX file"),
    "ranges": (["--ranges", "absent.json"], "absent.json: cannot be read"),
    "not ranges": (["--ranges", __file__], "is not a ranges file"),
    "speech": (["--speech", "absent"], "absent: no such folder"),
    "noise": (["--noise", str(Path(__file__).parent)], "no recordings in it"),
}


@pytest.mark.parametrize("row", BAD)
def test_bad_input_is_one_line_and_status_1(row: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, words = BAD[row]
    status = cli.main(["build", "--target", "rpi4", "--out", str(tmp_path / "out"), *arguments])
    said = capsys.readouterr()
    assert status == 1
    assert said.out == ""
    *progress, error = said.err.splitlines()
    assert words in error
    assert error.startswith("quant: error: ")
    assert not any("error" in line for line in progress)
    assert list(tmp_path.iterdir()) == []


def test_ranges_of_another_recipe_are_refused_in_one_line(
    built: Built, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "all.toml").write_text('title = "t"\n[[rules]]\nnodes = "*"\nprecision = "int8"\nwhy = "w"\n')
    ranges = str(built.folder / "ranges.json")
    arguments = ["build", "--target", "rpi4", "--out", str(tmp_path / "out"), "--ranges", ranges]
    assert cli.main([*arguments, "--recipe", str(tmp_path / "all.toml")]) == 1
    assert "measured for another recipe" in capsys.readouterr().err
    assert recipe.names() == ["float-mask", "static", "ul-unas"]
    assert not (tmp_path / "out").exists()
