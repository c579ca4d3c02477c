"""report.json and report.html: the schema holds, the same inputs give the same bytes, measurements are taken in whole
or refused, verdicts and regressions follow their tables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import numpy as np
import pytest
import soundfile as sf
from report_parts import Json, bench_row, evaluation, hard_row, with_parts
from toy_build import toy

import boards
from calibration.corpus import Corpus
from calibration.mixing import mixtures
from edge_runtime.bench import BenchPart
from edge_runtime.errors import Failure
from edge_runtime.manifest import open_artifact
from edge_runtime.quiet import silent
from quant import cli
from quant.artifact import signing
from quant.artifact.folder import renew
from quant.artifact.stable_bytes import json_bytes
from quant.build import stages
from quant.cli.demo import MIX, NOISE, SPEECH
from quant.report import clips, measured, regressions, remake, schema, verdict
from quant.report.page import pictures, whole
from quant.report.schema import Judgement, Report

RPI4 = msgspec.structs.replace(boards.load("rpi4"), preferred_engine="tflite")  # what the rows below are of


@pytest.fixture(autouse=True, scope="module")
def equal_histograms_are_drawn_once() -> Iterator[None]:
    """Half of what a page costs; that a second drawing is the same is a law of two builds."""
    draw, kept = pictures.histograms, dict[bytes, pictures.Picture | None]()

    def histograms(report: Report) -> pictures.Picture | None:
        read = msgspec.json.encode([report.histograms, [layer.name for layer in report.budget.layers]])
        if read not in kept:
            kept[read] = draw(report)
        return kept[read]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pictures, "histograms", histograms)
        yield


def written(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


# --- report.json --------------------------------------------------------------------------------------------------


def test_a_built_report_obeys_the_schema_that_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    built = json.loads((folder / "report.json").read_text())
    assert cli.main(["report", "--schema"]) == 0
    printed = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(printed)
    jsonschema.validate(built, printed)
    for part in ("verdict", "budget", "memory", "provenance"):
        broken = {key: value for key, value in built.items() if key != part}
        with pytest.raises(jsonschema.ValidationError, match=part):
            jsonschema.validate(broken, printed)


def test_nothing_is_claimed_that_nobody_measured(built: Report) -> None:
    other = remake.complete(with_parts(built, clips=[], checkpoint={"name": "mine.tar", "sha256": "0" * 64}), [])
    assert (other.quality, other.robustness, other.shipped) == (None, None, None)
    assert (built.quality, built.robustness, built.benches, built.history) == (None, None, (), None)
    unknown = {j.question for j in other.verdict if j.status == "unknown"}
    assert {"What did 8 bits cost?", "Does it hold on hard input?"} <= unknown
    assert all(j.todo for j in other.verdict if j.status != "good")


def test_what_was_measured_of_the_default_comes_with_it_dated_until_the_user_measures_his_own(built: Report) -> None:
    answers = {j.question: j for j in built.verdict}
    for question in ("What did 8 bits cost?", "Does it hold on hard input?"):
        assert answers[question].status == "good"
        assert "measured by edge-denoise on 2026-11-29 on these weights, not yet by you" in answers[question].answer
    cost = "native int8: PESQ -0.011 against float (95 %: -0.019 to -0.005, 128 clips)"
    assert answers["What did 8 bits cost?"].answer.startswith(cost)
    own = remake.complete(with_parts(built, clips=[], quality=evaluation(-0.1), robustness=[hard_row(False)]), [])
    answers = {j.question: j for j in own.verdict}
    assert answers["What did 8 bits cost?"].status == answers["Does it hold on hard input?"].status == "bad"
    assert not any("edge-denoise on 2026" in j.answer for j in own.verdict)
    other_ranges = dict(built.provenance.inputs) | {"ranges.json SHA-256": "0" * 64}
    parts = {"clips": [], "provenance": {**msgspec.to_builtins(built.provenance), "inputs": other_ranges}}
    assert remake.complete(with_parts(built, **parts), []).shipped is None, "the same weights on other ranges"


def test_bounds_that_were_not_measured_are_not_said_to_hold(built: Report) -> None:
    assert built.shipped is not None
    without = msgspec.structs.replace(built, shipped=msgspec.structs.replace(built.shipped, robustness=()))
    answers = {j.question: j.status for j in verdict.judge(without)}
    assert (answers["What did 8 bits cost?"], answers["Does it hold on hard input?"]) == ("good", "unknown")


def test_what_to_do_next_names_the_folder(built: Report) -> None:
    """The default one in the file, which says no place; where the artifact lies when somebody asks from there."""
    for judged, folder in ((built.verdict, "build/rpi4"), (verdict.judge(built, "/mnt/mine"), "/mnt/mine")):
        steps = [j.todo for j in judged if j.todo]
        assert steps
        assert all("DIR" not in step for step in steps)
        assert any(folder in step for step in steps)


def test_the_recipe_of_the_trained_default_is_the_one_it_was_trained_with(folder: Path, built: Report) -> None:
    assert built.recipe == open_artifact(folder).manifest.recipe == "float-mask"
    assert (folder / "recipe.toml").read_text().startswith('title = "For training: the mask stays float')


def test_estimates_are_of_the_published_network_alone(built: Report) -> None:
    assert built.estimates
    published = msgspec.to_builtins(built.budget.published) | {"macs": 1}
    counted = msgspec.to_builtins(built.budget) | {"published": published}
    other = remake.complete(with_parts(built, clips=[], budget=counted), [])
    assert other.estimates == ()
    assert {board.high_ms for board in other.boards} == {None}


def test_every_board_is_there_with_its_own_budget(built: Report) -> None:
    rows = {row.board: row for row in built.boards}
    assert set(rows) == set(boards.names()) - {"host"}
    assert rows["rpi4"].ram_bytes == verdict.ram_bytes(built)
    for name, row in rows.items():
        assert row.ram_limit_bytes == boards.load(name).budget.ram_bytes
        assert row.high_ms is not None
        assert row.high_ms < 16
        assert row.fits
    times = [row.high_ms for row in built.boards]
    assert times == sorted(times, key=lambda ms: ms or 0)


def test_histograms_tell_what_the_grid_clips(built: Report) -> None:
    assert len(built.histograms) == 6
    for h in built.histograms:
        assert sum(h.counts) == h.n_values
        assert 0 <= h.clipped_share < 0.5
        whole = h.low <= h.minimum and h.maximum <= h.high
        assert (h.clipped_share == 0) == whole, h.tap


# --- taking measurements in ---------------------------------------------------------------------------------------


def test_remaking_without_anything_gives_the_same_bytes(mine: Path, folder: Path) -> None:
    remake.remake(mine, remake.Taken())
    for path in folder.iterdir():
        assert (mine / path.name).read_bytes() == path.read_bytes(), path.name


def test_it_is_remade_in_the_folder_where_the_user_stands(
    mine: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mine / "notes.txt").write_text("mine")
    monkeypatch.chdir(mine)
    remake.remake(Path("."), remake.Taken())
    assert {p.name: p.read_bytes() for p in Path().iterdir()} == {
        "notes.txt": b"mine", **{p.name: p.read_bytes() for p in folder.iterdir()}
    }  # fmt: skip
    assert [path.name for path in mine.parent.iterdir()] == [mine.name]


def test_a_signed_artifact_is_not_made_unsigned(mine: Path, tmp_path: Path) -> None:
    signing.keygen(tmp_path / "key")
    signing.sign(mine, tmp_path / "key")
    with pytest.raises(Failure, match="is signed; do this first, then sign"):
        remake.remake(mine, remake.Taken())
    signing.verify(mine, tmp_path / "key.pub")


def test_what_another_run_changed_meanwhile_is_kept(mine: Path) -> None:
    opened = open_artifact(mine)
    remake.remake(mine, remake.Taken([written(mine.parent / "bench.json", bench_row(engine="native"))]))
    before = {path.name: path.read_bytes() for path in mine.iterdir()}
    with pytest.raises(Failure, match="was changed by another run meanwhile, and is kept"):
        renew(opened, {"report.json": b"{}"})
    assert {path.name: path.read_bytes() for path in mine.iterdir()} == before


def test_measurements_are_kept_and_the_manifest_agrees(mine: Path, tmp_path: Path) -> None:
    both = [bench_row(engine="native"), bench_row(engine="native", precision="fp32")]
    remake.remake(mine, remake.Taken(benches=[written(tmp_path / "bench.json", both)]))
    taken = remake.Taken(
        evaluation=written(tmp_path / "eval.json", evaluation(-0.004)),
        robustness=written(tmp_path / "hard.json", {"rows": [hard_row(True)]}),
    )
    found = remake.remake(mine, taken)
    assert (len(found.benches), len(found.robustness or ())) == (2, 1)
    assert "clips" not in json.loads((mine / "report.json").read_text())["quality"]
    status = {j.question: j.status for j in found.verdict}
    assert set(status.values()) == {"good"}, status
    open_artifact(mine).check_all()
    jsonschema.validate(json.loads((mine / "report.json").read_text()), schema.schema())
    html = (mine / "report.html").read_text()
    assert "Fits, measured, and within every bound" in html
    assert "Raspberry Pi 4 Model B Rev 1.4" in html
    remake.remake(mine, remake.Taken())
    assert (mine / "report.html").read_text() == html, "what was taken in stays, byte for byte"


def test_what_quant_eval_kept_is_taken_in_and_what_is_given_replaces_it(mine: Path, tmp_path: Path) -> None:
    def lost(report: Report) -> float:
        assert report.quality is not None
        return report.quality.systems[-1].differences["pesq"].mean

    hard = {"rows": [hard_row(True)]}
    renew(open_artifact(mine), {"quality.json": json_bytes(evaluation(-0.004)), "robustness.json": json_bytes(hard)})
    found = remake.remake(mine, remake.Taken())
    assert (lost(found), len(found.robustness or ())) == (-0.004, 1)
    given = remake.Taken(evaluation=written(tmp_path / "eval.json", evaluation(-0.03)))
    assert lost(remake.remake(mine, given)) == lost(remake.remake(mine, remake.Taken())) == -0.03
    renew(open_artifact(mine), {"quality.json": b"[]"})
    with pytest.raises(Failure, match=r"quality\.json: is not an evaluation"):
        remake.remake(mine, remake.Taken())


def test_a_new_bench_takes_the_place_of_the_old_one() -> None:
    old, other, new = (
        msgspec.convert(row, BenchPart) for row in (bench_row(rtf=0.5), bench_row(engine="native"), bench_row())
    )
    assert measured.merged([old, other], [new]) == (other, new)


def test_rows_of_an_evaluation_as_csv(folder: Path, tmp_path: Path) -> None:
    lines = ["clip,system,pesq,error,snr_db,subset"]
    for clip, base in (("a", 2.0), ("b", 2.4)):
        lines += [
            f"{clip},noisy,1.5,,3.0,x",
            f"{clip},onnx fp32,{base},,3.0,x",
            f"{clip},onnx int8,{base - 0.1},,3.0,x",
        ]
    lines.append("c,noisy,,PesqError: silent,,y")
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    found = measured.quality(tmp_path / "rows.csv", open_artifact(folder))
    int8 = next(s for s in found.systems if s.system == "onnx int8")
    assert int8.against == "onnx fp32"
    assert int8.differences["pesq"].mean == pytest.approx(-0.1)
    assert {grouping: list(groups) for grouping, groups in found.groups.items()} == {"subset": ["x"]}


ONE_FAILED = """\
clip,system,pesq,stoi,sisdr,error,snr_db,snr
a,noisy,1.5,0.8,3.0,,3.0,5 dB
a,tflite fp32,2.0,0.9,9.0,,3.0,5 dB
a,tflite int8,1.9,0.9,8.9,,3.0,5 dB
b,noisy,,,,b.wav: cannot be read as audio (),,
c,noisy,1.6,0.8,12.0,,12.0,10 dB
c,tflite fp32,2.2,0.9,15.0,,12.0,10 dB
c,tflite int8,,,,PesqError: silent,12.0,10 dB
d,noisy,,,,PesqError: silent,-9.0,-10 dB
e,noisy,1.4,0.8,4.0,,4.0,5 dB
e,tflite fp32,2.1,0.9,9.0,,4.0,5 dB
e,tflite int8,,,,PesqError: silent,4.0,5 dB
"""


def test_clips_that_failed_are_told_and_end_nothing(mine: Path, tmp_path: Path) -> None:
    """As `quant eval --rows` writes them: a clip that cannot be read has no SNR, one may fail under one system alone,
    and in a group all may have failed."""
    (tmp_path / "rows.csv").write_text(ONE_FAILED)
    found = remake.remake(mine, remake.Taken(evaluation=tmp_path / "rows.csv"))
    assert found.quality is not None
    assert list(found.quality.groups["snr"]) == ["10 dB", "5 dB"], "as JSON has them"
    assert [(s.system, s.n_clips) for s in found.quality.systems] == [
        ("noisy", 1),
        ("tflite fp32", 1),
        ("tflite int8", 1),
    ], "means are over the clips that went well under all"
    assert "Means are over different clips" not in (mine / "report.html").read_text()


def test_means_over_different_clips_are_told(built: Report) -> None:
    """As evaluations by an older version have them."""
    noisy = {"system": "noisy", "n_clips": 3, "means": {"pesq": 1.5}, "against": None, "differences": {}}
    systems = [noisy, noisy | {"system": "tflite int8", "n_clips": 1}]
    found = with_parts(
        built, clips=[], quality={"systems": systems, "groups": {"snr": dict.fromkeys(["0 dB", "5 dB"], systems)}}
    )
    html = whole.render(found, []).decode()
    assert "Means are over different clips, for some failed (noisy 3, tflite int8 1)" in html
    assert "PESQ-WB by SNR; for some clips failed, not every mean is over the same ones" in html


def test_metrics_come_in_the_order_in_which_people_look_at_them(built: Report) -> None:
    """Keys of JSON come sorted, DNSMOS before PESQ; pictures show the first, the table all, by their names."""
    means = {"dnsmos_bak": 4.0, "dnsmos_ovrl": 3.0, "dnsmos_sig": 3.5, "mine": 1.0, "pesq": 2.1, "sisdr": 9.0}
    differences = {name: {"mean": -0.01, "low": -0.02, "high": 0.0} for name in means}
    int8 = {"system": "tflite int8", "n_clips": 4, "means": means, "against": "x", "differences": differences}
    groups = {"snr": {"0 dB": [int8], "5 dB": [int8]}}
    found = with_parts(built, clips=[], quality={"systems": [int8], "groups": groups})
    for picture in (pictures.quality(found), pictures.by_snr(found)):
        assert picture is not None
        assert "PESQ-WB" in picture.caption
        assert "dnsmos" not in picture.svg
    heads = re.findall(r"<button type=.button.>([^<]*)</button>", whole.render(found, []).decode())
    first = heads.index("PESQ-WB")
    names = ["PESQ-WB", "SI-SDR dB", "DNSMOS OVRL", "DNSMOS SIG", "DNSMOS BAK", "mine", "against"]
    assert heads[first : first + len(names)] == names


@pytest.mark.parametrize(
    ("taken", "words"),
    [
        ({"benches": ["absent.json"]}, "cannot be read"),
        ({"benches": ["eval.json"]}, "edge-denoise bench --json"),
        ({"evaluation": "bench.json"}, "quant eval --pairs"),
        ({"evaluation": "empty.csv"}, "--rows FILE.csv"),
        ({"evaluation": "other-eval.json"}, "other-eval.json: was measured on other weights than those of "),
        ({"robustness": "bench.json"}, "--suite robustness"),
        ({"robustness": "other-hard.json"}, "; evaluate these: `quant eval "),
        ({"clips": ["bench.json"]}, "cannot be read as sound"),
        ({"clips": ["silence.wav"]}, "silence.wav: is silent; name a recording"),
        ({"clips": ["a:b.wav"]}, "a:b.wav: is silent; name a recording"),
        ({"clips": ["absent.wav"]}, "absent.wav: cannot be opened (No such file or directory); name a sound file"),
        ({"clips": ["short.wav:long.wav"]}, "differ in length; cut both alike"),
        ({"against": "nowhere"}, "cannot be read"),
    ],
)
def test_what_is_not_what_was_asked_for_is_refused_and_nothing_changes(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: Json, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "bench.json", bench_row())
    written(tmp_path / "eval.json", evaluation(0))
    for name, told in (("other-eval", evaluation(0)), ("other-hard", {"rows": []})):
        written(tmp_path / f"{name}.json", told | {"checkpoint_sha256": "0" * 64})
    (tmp_path / "empty.csv").write_text("clip,system\n")
    for name, n, gain in (("silence", 16000, 0), ("a:b", 16000, 0), ("short", 16000, 0.1), ("long", 17000, 0.1)):
        sf.write(tmp_path / f"{name}.wav", gain * np.sin(np.arange(n)), 16000)
    before = (mine / "report.json").read_bytes()
    paths = {
        k: v if k == "clips" else [Path(p) for p in v] if isinstance(v, list) else Path(v) for k, v in taken.items()
    }
    with pytest.raises(Failure, match=re.escape(words)):
        remake.remake(mine, remake.Taken(**paths))
    assert (mine / "report.json").read_bytes() == before
    assert sorted(p.name for p in mine.parent.iterdir() if p.name.startswith(".")) == []


def test_a_clip_of_the_user_is_heard_in_five_ways(mine: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clean = 0.1 * np.sin(np.arange(48_000) / 20) * (rng.random(48_000) > 0.5)
    sf.write(tmp_path / "clean.wav", clean, 48_000)
    sf.write(tmp_path / "noisy.wav", clean + 0.01 * rng.standard_normal(48_000), 48_000)
    found = remake.remake(mine, remake.Taken(clips=[f"{tmp_path}/noisy.wav:{tmp_path}/clean.wav"]))
    own, golden = found.clips
    assert [s.role for s in own.signals] == ["noisy", "fp32", "int8", "clean", "difference"]
    assert own.seconds == 1.0
    played = {s.role: s.rms_dbfs + s.gain_db for s in own.signals if s.role != "difference"}
    assert max(played.values()) - min(played.values()) < 0.05, "matched in level"
    html = (mine / "report.html").read_text()
    assert html.count("data:audio/flac") == len(golden.signals) + len(own.signals)
    assert str(tmp_path) not in html


def test_unless_the_user_names_one_a_recording_of_eight_seconds_is_heard_with_its_clean_speech(
    built: Report, mine: Path
) -> None:
    own, _ = built.clips
    assert [s.role for s in own.signals] == ["noisy", "fp32", "int8", "clean", "difference"]
    assert own.seconds == 8.0
    assert len((mine / "report.html").read_bytes()) < whole.MOST_BYTES / 2
    before = {path.name: path.read_bytes() for path in mine.iterdir()}
    assert remake.remake(mine, remake.Taken()).clips == built.clips
    assert {path.name: path.read_bytes() for path in mine.iterdir()} == before, "made again it is the same"


def test_the_recording_is_what_is_said_of_it(pulled: tuple[Corpus, Corpus]) -> None:
    """As `make demo` mixes it of the pulled sounds, to the last bit but one: resamplers differ by processor."""
    noisy, clean = sf.read(resources.files("quant.report") / clips.RECORDING, dtype="int16")[0].T.astype(int)
    speech, noise = pulled
    (mixed,) = mixtures(replace(speech, names=(SPEECH,)), replace(noise, names=(NOISE,)), MIX)
    for ours, theirs in ((noisy, mixed.noisy), (clean, mixed.clean)):
        assert len(ours) == 8 * 16_000
        assert np.abs(ours - np.rint(32_767 * theirs[: len(ours)])).max() <= 1


# --- the verdict --------------------------------------------------------------------------------------------------

BAD_HOP = {"p50": 9e3, "p95": 17e3, "p99": 20e3, "max": 3e4, "mean": 1e4}
PC = {"cpu": "Intel", "arch": "x86_64", "os": "Debian", "n_cores": 2}
ESTIMATE = {"engine": "tflite", "precision": "int8", "low_ms": 0.9, "high_ms": 1.6, "source": "counts"}
IN_FLOAT = ESTIMATE | {"precision": "fp32", "low_ms": 1.8, "high_ms": 3.2}
HALF_A_HOP = {name: us / 2 for name, us in bench_row()["hop_us"].items()}
FLOAT_FASTER = [bench_row(), bench_row(precision="fp32", hop_us=HALF_A_HOP)]
VERDICTS = [
    # what the report has, question, status, words of the answer
    ({}, "Does it fit?", "good", "tightest: parameters, 27% used"),
    ({"ram": 9_000_000}, "Does it fit?", "bad", "over budget: RAM"),
    ({"file": 3_000_000}, "Does it fit?", "bad", "flash, model.tflite 3,000,000 of 2,097,152"),
    ({}, "Is it fast enough?", "unknown", "neither measured nor estimated"),
    ({"benches": [bench_row()]}, "Is it fast enough?", "good", "measured on Raspberry Pi 4"),
    ({"benches": [bench_row(machine=PC)]}, "Is it fast enough?", "caution", "Intel, which is not this board"),
    ({"benches": [bench_row(machine=PC), bench_row()]}, "Is it fast enough?", "good", "measured on Raspberry Pi 4"),
    ({"benches": [bench_row(rtf=0.3)]}, "Is it fast enough?", "caution", "over the budget of 25% of a core"),
    ({"benches": [bench_row(rtf=1.2, hop_us=BAD_HOP)]}, "Is it fast enough?", "bad", "slower than sound"),
    ({"benches": [bench_row(engine="onnx")]}, "Is it fast enough?", "unknown", "neither"),
    ({"estimates": [ESTIMATE]}, "Is it fast enough?", "caution", "estimated, not measured: 0.90 to 1.6 ms"),
    ({"estimates": [ESTIMATE | {"high_ms": 20.0}]}, "Is it fast enough?", "bad", "estimated"),
    ({"quality": evaluation(0.01)}, "What did 8 bits cost?", "good", "PESQ +0.010"),
    ({"quality": evaluation(-0.019)}, "What did 8 bits cost?", "good", "PESQ -0.019"),
    ({"quality": evaluation(-0.04)}, "What did 8 bits cost?", "caution", "PESQ -0.040"),
    ({"quality": evaluation(-0.06)}, "What did 8 bits cost?", "bad", "PESQ -0.060"),
    ({"quality": {"systems": [], "groups": {}}}, "What did 8 bits cost?", "unknown", "no PESQ"),
    ({"robustness": [hard_row(True)]}, "Does it hold on hard input?", "good", "all 1 bounds hold"),
    ({"robustness": [hard_row(True), hard_row(False)]}, "Does it hold on hard input?", "bad", "1 of 2"),
    ({}, "Is it really 8 bits?", "good", "in tflite"),
    ({"share": 0.5}, "Is it really 8 bits?", "caution", "runs the rest in float"),
    ({}, "Do 8 bits pay?", "unknown", "neither measured nor estimated in tflite"),
    ({"estimates": [ESTIMATE]}, "Do 8 bits pay?", "unknown", "neither"),
    ({"estimates": [ESTIMATE, IN_FLOAT]}, "Do 8 bits pay?", "good", "0.50 of float's time in tflite (estimated)"),
    ({"estimates": [ESTIMATE, IN_FLOAT], "benches": FLOAT_FASTER}, "Do 8 bits pay?", "caution", "measured"),
    ({"benches": FLOAT_FASTER}, "Do 8 bits pay?", "caution", "float is faster: 8 bits take 2.00 of"),
    ({"benches": [bench_row(machine=PC), FLOAT_FASTER[1]]}, "Do 8 bits pay?", "unknown", "neither"),
]


@pytest.mark.parametrize(("has", "question", "status", "words"), VERDICTS)
def test_the_verdict(built: Report, has: Json, question: str, status: str, words: str) -> None:
    whole = msgspec.to_builtins(built) | {"estimates": [], "target": msgspec.to_builtins(RPI4)}
    whole["budget"]["totals"]["ram_bytes"] = has.get("ram", whole["budget"]["totals"]["ram_bytes"])
    whole["files"]["model.tflite"]["bytes"] = has.get("file", whole["files"]["model.tflite"]["bytes"])
    whole["coverage"]["tflite"]["int8_share"] = has.get("share", whole["coverage"]["tflite"]["int8_share"])
    whole |= {key: value for key, value in has.items() if key not in ("ram", "file", "share")}
    found = next(j for j in verdict.judge(msgspec.convert(whole, Report)) if j.question == question)
    assert (found.status, words in found.answer) == (status, True), found
    assert bool(found.todo) == (status != "good")


def test_without_a_system_the_library_is_judged_and_no_command_asked_for(built: Report) -> None:
    own = [ESTIMATE | {"engine": "libedge_denoise"}, ESTIMATE | {"engine": "native", "high_ms": 20.0}]
    bare = msgspec.to_builtins(boards.load("generic-c"))
    judged = verdict.judge(with_parts(built, estimates=own, target=bare))
    found = next(j for j in judged if j.question == "Is it fast enough?")
    assert (found.status, "edge-denoise" in found.todo) == ("caution", False)


def test_a_bench_of_another_machine_does_not_displace_the_estimate(built: Report) -> None:
    """Neither in the verdict nor in what is left for others; it is told beside it, and its row stays."""
    target = msgspec.to_builtins(RPI4)
    told = with_parts(built, benches=[bench_row(machine=PC)], estimates=[ESTIMATE], target=target)
    found = next(j for j in verdict.judge(told) if j.question == "Is it fast enough?")
    assert found.status == "caution"
    assert found.answer.startswith("estimated, not measured: 0.90 to 1.6 ms of 16 ms a hop; ")
    assert found.answer.endswith("measured on Intel, which is not this board")
    assert "estimated for Raspberry Pi 4 Model B" in whole.render(with_parts(told, clips=[]), []).decode()


def test_the_worst_answer_settles_the_whole() -> None:
    rows = [
        (("good", "good"), "good"),
        (("good", "caution"), "caution"),
        (("caution", "unknown"), "unknown"),
        (("unknown", "bad", "good"), "bad"),
    ]
    for statuses, settled in rows:
        assert verdict.overall([Judgement(question="", status=s, answer="", todo="") for s in statuses]) == settled


# --- against an older artifact ------------------------------------------------------------------------------------

REGRESSIONS = [
    # path into the report, factor, what is named, or "" where the limit holds
    (("files", "model.onnx", "bytes"), 1.04, ""),
    (("files", "model.onnx", "bytes"), 1.06, "file bytes model.onnx +6.0% (allowed +5%)"),
    (("files", "model.onnx", "bytes"), 0.5, ""),
    (("budget", "totals", "macs_frame"), 1.02, "MACs a frame +2.0%"),
    (("memory", "arena_bytes"), 1.1, "arena bytes +10.0%"),
    (("coverage", "tflite", "int8_share"), 0.9, "int8 share tflite"),
    (("quality", "systems", 2, "means", "pesq"), 0.98, "pesq tflite int8"),
    (("quality", "systems", 2, "means", "pesq"), 1.02, ""),
    (("benches", 0, "hop_us", "p50"), 1.2, "hop µs tflite int8 on Raspberry Pi 4"),
    (("robustness", 0, "ok"), 0, "broken bounds +1"),
]


@pytest.mark.parametrize(("path", "factor", "named"), REGRESSIONS)
def test_what_got_worse_is_named(built: Report, path: tuple[str | int, ...], factor: float, named: str) -> None:
    old = with_parts(built, quality=evaluation(0.0), benches=[bench_row()], robustness=[hard_row(True)])
    changed = json.loads(msgspec.json.encode(old))
    *parents, last = path
    place: Any = changed
    for key in parents:
        place = place[key]
    place[last] = type(place[last])(place[last] * factor)
    found = regressions.compare(old, msgspec.convert(changed, Report), "old")
    worse = [c for c in found.changes if c.regressed]
    assert len(worse) == bool(named), worse
    if not named:
        regressions.refuse_regressions(found, "here")
        return
    with pytest.raises(Failure, match=re.escape(named)):
        regressions.refuse_regressions(found, "here")


def test_what_is_no_longer_measured_is_missing(built: Report) -> None:
    found = regressions.compare(with_parts(built, benches=[bench_row()]), built, "old")
    assert found.missing == ("hop µs tflite int8 on Raspberry Pi 4 Model B Rev 1.4",)


def test_the_command_exits_1_on_a_regression(mine: Path, folder: Path, tmp_path: Path, capsys: Any) -> None:
    assert cli.main(["report", str(mine), "--against", str(folder), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["history"]["against"] == "rpi4"
    older = json.loads((folder / "report.json").read_text())
    older["memory"]["arena_bytes"] //= 2
    (tmp_path / "old").mkdir()
    written(tmp_path / "old" / "report.json", older)
    assert cli.main(["report", str(mine), "--against", str(tmp_path / "old")]) == 1
    out, err = capsys.readouterr()
    assert "WORSE" in out
    assert "arena bytes +100.0%" in err
    assert len([line for line in err.splitlines() if "error" in line]) == 1


@pytest.mark.parametrize(
    ("pattern", "new", "is_sealed", "words"),
    [
        (rb"(?s).*", b'{"board": "rpi4"}', True, r"not a report of this version.*quant build"),
        (
            rb'("checkpoint": {[^}]*"sha256": ").',
            rb"\g<1>0",
            True,
            r"report\.json: tells of other weights than the manifest; build it",
        ),
        (rb"rpi4", b"rpi5", False, r"report\.json: changed since the build \(SHA-256 differs\)"),
    ],
    ids=["older", "of another artifact", "changed"],
)
def test_a_report_that_is_not_this_builds_is_refused(mine: Path, pattern, new, is_sealed, words) -> None:
    changed = re.sub(pattern, new, (mine / "report.json").read_bytes(), count=1)
    if is_sealed:
        renew(open_artifact(mine), {"report.json": changed})
    else:
        (mine / "report.json").write_bytes(changed)
    with pytest.raises(Failure, match=words):
        remake.remake(mine, remake.Taken())


def test_a_build_without_the_page_can_have_it_later(tmp_path: Path, folder: Path) -> None:
    out = tmp_path / "bare"
    stages.build(toy("rpi4", out), silent)
    assert not (out / "report.html").exists()
    remake.remake(out, remake.Taken())
    assert (out / "report.html").read_bytes() == (folder / "report.html").read_bytes()
    open_artifact(out).check_all()


# --- clip by clip -------------------------------------------------------------------------------------------------


def by_clip(lost: dict[str, float]) -> Json:
    """An evaluation as printed: every clip under float and int8."""
    clips = [
        {"clip": name, "system": f"native {precision}", "pesq": 2.0 - d, "error": "", "groups": {}, "snr_db": 5.0}
        for name, d_pesq in lost.items()
        for precision, d in (("fp32", 0.0), ("int8", d_pesq))
    ]
    difference = {"mean": -0.01, "low": -0.02, "high": 0.0}
    systems = [
        {"system": "native fp32", "n_clips": 6, "means": {"pesq": 2.0}, "against": None, "differences": {}},
        {"system": "native int8", "n_clips": 6, "means": {"pesq": 1.99}, "against": "native fp32",
         "differences": {"pesq": difference}},
    ]  # fmt: skip
    return {"systems": systems, "groups": {}, "clips": clips}


LOST = {"a.wav": 0.01, "b.wav": 0.06, "c.wav": -0.02, "d.wav": 0.04, "e.wav": 0.05, "f.wav": 0.03}


def test_the_five_clips_that_lost_most_are_named_and_can_be_heard(mine: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for folder in ("clean", "noisy"):
        (tmp_path / "pairs" / folder).mkdir(parents=True)
        for name in LOST:
            sf.write(tmp_path / "pairs" / folder / name, 0.1 * rng.standard_normal(40_000), 16_000)
    evaluation_file = written(tmp_path / "eval.json", by_clip(LOST))
    with (resources.files(clips.__package__) / clips.RECORDING).open("rb") as file:
        sf.write(tmp_path / "own.wav", sf.read(file)[0][:, 0], 16_000)
    taken = remake.Taken(evaluation=evaluation_file, pairs=tmp_path / "pairs", clips=[str(tmp_path / "own.wav")])
    found = remake.remake(mine, taken)
    own, *worst, golden = found.clips
    assert own.seconds == clips.MOST_SECONDS / 2, "with the worst five a page is small enough to mail"
    assert [clip.name for clip in worst] == ["b.wav", "e.wav", "d.wav", "f.wav", "a.wav"]
    assert {clip.seconds for clip in worst} == {2.0}, "what differs most of two and a half"
    assert [s.role for s in worst[0].signals] == ["noisy", "fp32", "int8", "clean"]
    html = (mine / "report.html").read_text()
    assert re.findall(r'class="hear" data-clip="(\d)"', html) == ["1", "2", "3", "4", "5"]
    assert str(tmp_path) not in html
    again = remake.remake(mine, remake.Taken())
    assert again.quality == found.quality, "what was lost clip by clip stays"
    assert "quant report" in (mine / "report.html").read_text()
    assert "--pairs PAIRS" in (mine / "report.html").read_text(), "how to hear them again"
    assert golden.name == again.clips[-1].name
    assert again.clips[0].name == "speech at a keyboard", "the project's recording comes back"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "no evaluation tells clip by clip"),
        ({"evaluation": "eval.json"}, "holds no b.wav, which was evaluated"),
    ],
)
def test_clips_that_are_not_there_are_refused_in_one_line(mine: Path, tmp_path: Path, given: Json, words: str) -> None:
    written(tmp_path / "eval.json", by_clip(LOST))
    for folder in ("clean", "noisy"):
        (tmp_path / "pairs" / folder).mkdir(parents=True)
        sf.write(tmp_path / "pairs" / folder / "other.wav", 0.1 * np.sin(np.arange(16_000)), 16_000)
    taken = {name: tmp_path / file for name, file in given.items()}
    before = (mine / "report.json").read_bytes()
    with pytest.raises(Failure, match=words):
        remake.remake(mine, remake.Taken(**taken, pairs=tmp_path / "pairs"))
    assert (mine / "report.json").read_bytes() == before


def test_a_page_that_nobody_could_mail_is_refused(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "MOST_BYTES", 10_000)
    before = (mine / "report.html").read_bytes()
    with pytest.raises(Failure, match=r"the page would have 1\.\d MB.*fewer or shorter recordings"):
        remake.remake(mine, remake.Taken())
    assert (mine / "report.html").read_bytes() == before
