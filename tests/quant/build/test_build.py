"""One whole build, as a user runs it but for fewer calibration clips: what it leaves, twice the same, or nothing."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import pytest
import torch
from places import ROOT

from calibration.mixing import Mix
from edge_runtime.engines.golden import check_golden
from edge_runtime.errors import Failure
from edge_runtime.manifest import DIGEST_FILE, MANIFEST_FILE, open_artifact
from quant import cli
from quant.artifact import folder as artifact
from quant.build import stages
from quant.build.stages import Built, Settings
from quant.int8 import recipe
from quant.int8.plan import PlanRow
from quant.report import schema

FILES = {
    "README.md", "golden.npz", "manifest.json", "manifest.sha256", "model.fp32.native", "model.fp32.onnx",
    "model.fp32.tflite", "model.native", "model.onnx", "model.tflite", "plan.json", "ranges.json", "recipe.toml",
    "report.html", "report.json", "sbom.cdx.json",
}  # fmt: skip
MODELS = {name for name in FILES if name.startswith("model.")}


def silent(message: str) -> None:
    """Progress that nobody reads."""


@pytest.fixture(scope="module", autouse=True)
def _few_clips() -> Iterator[None]:
    """4 clips of 1.5 s in place of 48 of 4 s, 1 s of golden vectors: seconds in place of a quarter of a minute."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stages, "Mix", partial(Mix, n_clips=4, clip_ms=1500))
        patched.setattr(stages, "GOLDEN_SAMPLES", 16_000)
        patched.setattr(stages, "ACCURACY_SAMPLES", 8_000)
        yield


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Into a folder whose parents are not there yet."""
    out = tmp_path_factory.mktemp("build") / "deep" / "rpi4"
    return stages.build(Settings("rpi4", out=out), silent)


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
    assert (opened.manifest.board, opened.manifest.recipe) == ("rpi4", "static")


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
    assert all(row.floor_db == {"fp32": 90, "int8": 15}[row.precision] for row in rows if not row.exact)


def test_the_report_is_the_one_in_the_folder(built: Built) -> None:
    assert schema.read(built.folder / "report.json") == built.report
    plan = msgspec.json.decode((built.folder / "plan.json").read_bytes(), type=tuple[PlanRow, ...])
    assert plan == built.report.plan
    assert set(built.report.coverage) == {"onnx", "tflite"}
    planned, measured = ({row.tap for row in rows} for rows in (built.report.plan, built.report.accuracy))
    in_int8 = {row.tap for row in built.report.plan if row.type == "int8" and row.kind != "weight"}
    assert in_int8 <= measured <= planned


def test_the_summary_is_a_few_lines(built: Built) -> None:
    lines = stages.summary(built, 12.3)
    assert 3 <= len(lines) <= 8
    assert str(built.folder) in lines[0]
    assert len(stages.worst(built.report)) == 8


# --- the same inputs, the same bytes ------------------------------------------------------------------------------


def test_a_second_build_has_the_same_hashes(built: Built, tmp_path: Path) -> None:
    """On more threads, too: the order of a sum shows in its last bit, and so in a hash."""
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        again = stages.build(Settings("rpi4", out=tmp_path / "again"), silent)
    finally:
        torch.set_num_threads(threads)
    assert contents(again.folder) == contents(built.folder)


def test_ranges_of_a_build_make_the_same_artifact(built: Built, tmp_path: Path) -> None:
    out = tmp_path / "rpi4"
    again = stages.build(Settings("rpi4", ranges=built.folder / "ranges.json", out=out), silent)
    assert contents(again.folder) == contents(built.folder)


def test_the_plan_is_the_one_of_the_build(built: Built) -> None:
    assert stages.plan(Settings("rpi4", ranges=built.folder / "ranges.json"), silent) == built.report.plan


# --- what it replaces ---------------------------------------------------------------------------------------------


def hold(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_text("{}")
    return folder


def test_only_an_artifact_is_ever_replaced_and_only_by_force(tmp_path: Path) -> None:
    occupied = (tmp_path / "file").write_text("")
    assert occupied == 0
    rows = [
        # what lies at --out, force -> words of the refusal, or None
        (tmp_path / "absent", False, None),
        (hold(tmp_path / "empty"), False, None),
        (hold(tmp_path / "artifact", MANIFEST_FILE), True, None),
        (tmp_path / "artifact", False, "holds an artifact already; give --force"),
        (hold(tmp_path / "thesis", "thesis.tex"), False, "holds other files and no artifact"),
        (tmp_path / "thesis", True, "holds other files and no artifact"),
        (tmp_path / "file", True, "is a file, not a folder"),
    ]
    for out, force, words in rows:
        if words is None:
            artifact.refuse_to_clobber(out, force)
        else:
            with pytest.raises(Failure, match=words):
                artifact.refuse_to_clobber(out, force)


def test_a_refused_build_does_no_work(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(Failure, match="holds other files"):
        stages.build(Settings("rpi4", out=hold(tmp_path / "thesis", "thesis.tex")), said.append)
    assert said == []
    assert (tmp_path / "thesis" / "thesis.tex").read_text() == "{}"


def test_force_replaces_the_whole_folder(tmp_path: Path) -> None:
    out = hold(tmp_path / "out", MANIFEST_FILE, "old.onnx")
    with artifact.folder(out) as part:
        (part / "new.onnx").write_text("new")
        assert (out / "old.onnx").exists(), "the old one stays until the new one is whole"
    assert [path.name for path in out.iterdir()] == ["new.onnx"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# --- what fails leaves nothing --------------------------------------------------------------------------------------


def test_a_failing_build_leaves_nothing(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise Failure("the emitter broke")

    monkeypatch.setattr(stages, "emit_all", fail)
    with pytest.raises(Failure, match="the emitter broke"):
        stages.build(Settings("rpi4", ranges=built.folder / "ranges.json", out=tmp_path / "a" / "b" / "rpi4"), silent)
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_build_keeps_the_artifact_it_would_replace(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "make_manifest", interrupt)
    out, ranges = hold(tmp_path / "rpi4", MANIFEST_FILE), built.folder / "ranges.json"
    with pytest.raises(KeyboardInterrupt):
        stages.build(Settings("rpi4", ranges=ranges, out=out, force=True, html=False), silent)
    assert [path.name for path in tmp_path.iterdir()] == ["rpi4"]
    assert [path.name for path in out.iterdir()] == [MANIFEST_FILE]


# arguments after `build --target rpi4 --out OUT` -> words of the one line; all are said before the slow work
BAD: dict[str, tuple[list[str], str]] = {
    "board": (["--target", "rpi9"], "unknown board 'rpi9'"),
    "recipe": (["--recipe", "statik"], "unknown recipe 'statik'"),
    "checkpoint": (["--checkpoint", "absent.pt"], "absent.pt: no such checkpoint"),
    "not a checkpoint": (["--checkpoint", __file__], "not a PyTorch file"),
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
    assert recipe.names() == ["float-mask", "static"]
    assert not (tmp_path / "out").exists()
