"""`auto` takes what was measured here, says so, and never fails for its memory's sake."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import msgspec
import pytest
import soundfile
from toy_artifact import toy

from edge_runtime import Denoiser, bench
from edge_runtime.cli import main
from edge_runtime.engines import choice, choose
from edge_runtime.errors import Failure
from edge_runtime.machine import conditions


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "edge-denoise" / choice.CACHE_FILE


def rows(
    onnx_us: float | None, tflite_us: float | None, precision: str = "int8", n_threads: int = 1
) -> list[choice.Measured]:
    times_us = {"onnx": onnx_us, "tflite": tflite_us}
    return [choice.Measured(engine, precision, n_threads, us) for engine, us in times_us.items()]


def test_unmeasured_it_is_the_boards():
    chosen = choose(toy())
    assert chosen == (toy().manifest.preferred_engine, "the board's, not measured here", "int8")


@pytest.mark.parametrize(("onnx_us", "tflite_us", "engine"), [(100, 300, "onnx"), (300, 100, "tflite")])
def test_the_fastest_measured_is_taken_and_said(onnx_us: float, tflite_us: float, engine: str):
    assert choice.remember(toy(), rows(onnx_us, tflite_us)) is not None
    chosen = choose(toy())
    assert chosen.engine == engine
    assert "fastest measured here, 100 us a hop" in chosen.reason
    denoiser = Denoiser.open(toy())
    assert (denoiser.engine.name, denoiser.engine_reason) == (engine, chosen.reason)


def test_an_engine_that_is_named_is_taken():
    choice.remember(toy(), rows(100, 300))
    assert choose(toy(), "tflite") == ("tflite", "as asked", "int8")


def test_a_precision_that_was_not_measured_is_the_boards():
    choice.remember(toy(), rows(100, 300, "fp32"))
    assert choose(toy(), precision="fp32").engine == "onnx"
    assert choose(toy(), precision="int8").engine == "tflite"


def test_a_bench_of_one_precision_keeps_the_figures_of_the_other():
    choice.remember(toy(), rows(100, 300))
    choice.remember(toy(), rows(200, 150, "fp32"))
    assert [choose(toy(), precision=p).engine for p in ("int8", "fp32")] == ["onnx", "tflite"]


@pytest.mark.parametrize(
    ("int8_us", "fp32_us", "precision", "words"),
    [
        (100, 150, "int8", "float is not faster, measured here, 150 us a hop against 100"),
        (150, 100, "fp32", "float is faster, measured here, 100 us a hop against 150"),
        (100, "unmeasured", "int8", "8 bits, until a bench finds float faster"),
    ],
)
def test_the_faster_precision_is_taken_where_that_is_asked(
    int8_us: float, fp32_us: float | str, precision: str, words: str
):
    choice.remember(toy(), rows(300, int8_us))
    if not isinstance(fp32_us, str):
        choice.remember(toy(), rows(300, fp32_us, "fp32")[1:])
    for engine in ("auto", "tflite"):
        chosen = choose(toy(), engine, "auto")
        assert (chosen.engine, chosen.precision, words in chosen.reason) == ("tflite", precision, True), chosen
        assert Denoiser.open(toy(), engine, "auto").engine.precision == precision
    assert choose(toy()).precision == "int8", "unless it is asked"


def of_models(**precisions: tuple[str, ...]) -> object:
    """The toy with these precisions of each engine alone."""
    manifest = toy().manifest
    models = {engine: {p: manifest.models[engine][p] for p in kept} for engine, kept in precisions.items()}
    return dataclasses.replace(toy(), manifest=msgspec.structs.replace(manifest, models=models))


@pytest.mark.parametrize("asked", ["auto", "tflite"])
@pytest.mark.parametrize(
    ("tflite", "onnx", "precision", "words"),
    [
        (("int8",), ("fp32",), "int8", "float does not run here"),
        (("fp32",), ("int8",), "fp32", "8 bits do not run here"),
        (("int8", "fp32"), (), "int8", "8 bits, until a bench finds float faster"),
    ],
)
def test_of_two_precisions_one_that_does_not_run_here_is_not_taken(
    tflite: tuple[str, ...],
    onnx: tuple[str, ...],
    precision: str,
    words: str,
    asked: str,
    monkeypatch: pytest.MonkeyPatch,
):
    """The package of the engine that has the other is not installed."""
    monkeypatch.setattr("edge_runtime.engines.choice.available", lambda: ["tflite"])
    artifact = of_models(tflite=tflite, onnx=onnx)
    chosen = choose(artifact, asked, "auto")
    assert (chosen.engine, chosen.precision) == ("tflite", precision)
    assert words in chosen.reason
    assert Denoiser.open(artifact, asked, "auto").engine.precision == precision


def test_where_neither_precision_runs_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("edge_runtime.engines.choice.available", lambda: ["native"])
    with pytest.raises(Failure, match="the tflite or onnx engine needs ai_edge_litert"):
        choose(toy(), "auto", "auto")


def test_float_that_died_in_a_bench_is_not_taken_nor_8_bits_that_did():
    choice.remember(toy(), rows(None, None))
    choice.remember(toy(), rows(300, 100, "fp32"))
    assert choose(toy(), precision="auto") == (
        "tflite", "fastest measured here, 100 us a hop (onnx 300); 8 bits do not run here", "fp32",
    )  # fmt: skip
    choice.remember(toy(), rows(300, 100))
    choice.remember(toy(), rows(None, None, "fp32"))
    chosen = choose(toy(), precision="auto")
    assert (chosen.engine, chosen.precision, "float does not run here" in chosen.reason) == ("tflite", "int8", True)


def test_a_bench_replaces_what_it_measured_before():
    choice.remember(toy(), rows(100, 300))
    choice.remember(toy(), rows(400, 300))
    assert choose(toy()).engine == "tflite"
    assert sorted(choice.recall(toy())) == sorted(rows(400, 300))


def test_what_was_measured_with_more_threads_is_taken_with_as_many():
    choice.remember(toy(), rows(100, 300, n_threads=4))
    assert choose(toy()) == ("tflite", "the board's, not measured here", "int8")
    assert choose(toy(), n_threads=4).engine == "onnx"
    choice.remember(toy(), rows(500, 300))
    assert [choose(toy(), n_threads=n).engine for n in (1, 4)] == ["tflite", "onnx"]
    assert [Denoiser.open(toy(), n_threads=n).engine.name for n in (1, 4)] == ["tflite", "onnx"]


@pytest.mark.parametrize(("onnx_us", "tflite_us", "engine"), [(100, None, "onnx"), (None, 300, "tflite")])
def test_an_engine_that_did_not_run_is_not_taken(onnx_us: float | None, tflite_us: float | None, engine: str):
    choice.remember(toy(), rows(onnx_us, tflite_us))
    assert choose(toy()).engine == engine


def test_an_engine_that_did_not_run_is_taken_once_it_does():
    choice.remember(toy(), rows(100, None))
    choice.remember(toy(), rows(100, 50))
    assert choose(toy()).engine == "tflite"


def test_none_beats_a_board_s_engine_that_was_not_measured():
    choice.remember(toy(), rows(100, None)[:1])
    assert choose(toy()) == ("tflite", "the board's, not measured here", "int8")


def test_a_damaged_copy_is_refused_and_moves_no_other(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    copy = tmp_path / "copy"
    shutil.copytree(toy().directory, copy)
    model = copy / toy().model("tflite", "int8").file
    model.write_bytes(bytes(model.stat().st_size))
    assert main(["bench", "--model", str(copy)]) == 1
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert f"{model}: changed since the build" in err
    assert choice.recall(toy()) == []
    assert choose(toy()).engine == "tflite"


def test_an_engine_that_is_not_installed_is_not_taken(monkeypatch: pytest.MonkeyPatch):
    choice.remember(toy(), rows(100, 300))
    monkeypatch.setattr("edge_runtime.engines.choice.available", lambda: ["tflite"])
    assert choose(toy()).engine == "tflite"


def other_model() -> object:
    manifest = toy().manifest
    files = {name: msgspec.structs.replace(entry, sha256="0" * 64) for name, entry in manifest.files.items()}
    return dataclasses.replace(toy(), manifest=msgspec.structs.replace(manifest, files=files))


CHANGES = {
    "another processor": ("edge_runtime.machine.cpu_name", lambda: "another"),
    "another version of an engine": ("edge_runtime.engines.choice.stamp", lambda package: f"{package} newer"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_measured_elsewhere_is_not_taken(change: str, monkeypatch: pytest.MonkeyPatch):
    choice.remember(toy(), rows(100, 300))
    monkeypatch.setattr(*CHANGES[change])
    assert choose(toy()).engine == "tflite"


def test_what_was_measured_of_another_model_is_not_taken():
    choice.remember(toy(), rows(100, 300))
    assert choice.recall(other_model()) == []
    assert choice.recall(toy()) == rows(100, 300)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe", b'{"KEY": 3}', b'{"KEY": [["onnx", "int8", 3]]}'])
def test_a_damaged_memory_is_none(cache: Path, text: bytes):
    cache.parent.mkdir(parents=True)
    cache.write_bytes(text.replace(b"KEY", choice._key(toy()).encode()))
    assert choice.recall(toy()) == []
    assert choose(toy()).engine == "tflite"
    assert choice.remember(toy(), rows(1, 2)) == cache
    assert choice.recall(toy()) == rows(1, 2)


def test_a_memory_that_cannot_be_written_is_no_failure(cache: Path):
    cache.parent.parent.write_text("a file where the folder would be")
    assert choice.remember(toy(), rows(1, 2)) is None
    assert choose(toy()).engine == "tflite"


def test_old_artifacts_are_forgotten(cache: Path, monkeypatch: pytest.MonkeyPatch):
    for k in range(choice.MOST_REMEMBERED + 3):
        monkeypatch.setattr("edge_runtime.engines.choice._key", lambda _, k=k: f"artifact {k}")
        choice.remember(toy(), rows(1, 2))
    kept = json.loads(cache.read_text())
    assert list(kept) == [f"artifact {k}" for k in range(3, choice.MOST_REMEMBERED + 3)]
    assert list(cache.parent.iterdir()) == [cache]


def test_bench_measures_all_and_auto_follows(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    model = str(toy().directory)
    assert main(["bench", "--model", model, "--precision", "int8", "--json"]) == 0
    out, err = capfd.readouterr()
    figures = json.loads(out)
    assert {row["engine"] for row in figures["rows"]} == {"onnx", "tflite"}
    assert figures["failed"] == []
    assert err.count("measuring") == 2
    soundfile.write(tmp_path / "in.wav", [0.0] * 1600, 16000)
    argv = ["file", str(tmp_path / "in.wav"), str(tmp_path / "out.wav"), "--model", model, "--json"]
    assert main(argv) == 0
    done = json.loads(capfd.readouterr().out)
    assert done["engine"] == figures["fastest"]["int8"]
    assert done["engine_reason"].startswith("fastest measured here")


@pytest.mark.parametrize(("fp32_us", "said"), [(50.0, True), (200.0, False)])
def test_bench_says_where_float_is_faster(fp32_us: float, said: bool):
    small = bench.bench(toy(), "tflite", n_frames=1)
    spreads = [bench.Spread(**dict.fromkeys(bench.Spread.__struct_fields__, us)) for us in (100.0, fp32_us)]
    both = [
        msgspec.structs.replace(small, precision=precision, hop_us=hop_us)
        for precision, hop_us in zip(("int8", "fp32"), spreads, strict=True)
    ]
    figures = bench.BenchAll(
        rows=tuple(both), failed=(), fastest={"int8": "tflite"}, remembered=None, machine=small.machine
    )
    line = "in tflite float is faster here, 8 bits take 2.00 of its time: `--precision auto`"
    assert (line in bench.lines_of_all(figures)) == said


def test_an_engine_that_dies_is_a_row(monkeypatch: pytest.MonkeyPatch):
    good, dead = bench.bench(toy(), "onnx", n_frames=1), bench.Failed(engine="tflite", precision="int8", error="died")
    monkeypatch.setattr(bench, "_apart", lambda _a, engine, _p, _n: good if engine == "onnx" else dead)
    figures = bench.bench_all(toy(), ("int8",))
    assert (figures.rows, figures.failed) == ((good,), (dead,))
    assert "tflite int8 failed: died" in bench.lines_of_all(figures)


def test_conditions_read_what_linux_offers(tmp_path: Path):
    files = {
        "sys/class/thermal/thermal_zone0/temp": "81000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "600000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "1500000\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = conditions(tmp_path)
    assert (found.temperature_c, found.governor, found.clock_mhz, found.most_mhz) == (81, "ondemand", 600, 1500)
    assert "81 degrees" in found.notes[0]
    assert "ondemand" in found.notes[1]
    assert "under-voltage, throttled; since it started under-voltage, throttled" in found.notes[2]


def test_conditions_of_a_machine_that_offers_nothing(tmp_path: Path):
    assert conditions(tmp_path).notes == ()
