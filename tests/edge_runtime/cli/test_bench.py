"""`edge-denoise bench` and models that are refused; each row brings what is wrong with the model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from runtime_desk import bench, file, main, refuses
from toy_artifact import toy


def in_manifest(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        index = json.loads((folder / "manifest.json").read_text())
        change(index)
        (folder / "manifest.json").write_text(json.dumps(index))

    return damage


def emptied(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(bytes((folder / name).stat().st_size))


MODELS = [
    ("a newer version", in_manifest(lambda index: index.update(version=2)), "has version 2, this runtime reads 1"),
    ("another format", in_manifest(lambda index: index.update(format="other")), "not an edge-denoise manifest but"),
    ("broken", lambda folder: (folder / "manifest.json").write_text('{"format":'), "manifest.json: not a valid manife"),
    ("no manifest", lambda folder: (folder / "manifest.json").unlink(), "a: no manifest.json in it"),
    ("a changed file", emptied("model.tflite"), "model.tflite: changed since the build (SHA-256 differs)"),
    ("a short file", lambda folder: (folder / "model.onnx").write_bytes(b""), "model.onnx: has 0 bytes, the manifest"),
    ("a lost file", lambda folder: (folder / "golden.npz").unlink(), "golden.npz: missing from the artifact; build it"),
]


@pytest.mark.parametrize(("damage", "message"), [row[1:] for row in MODELS], ids=[row[0] for row in MODELS])
def test_a_bad_model_is_one_line_and_leaves_nothing(desk, capfd, damage: Callable[[Path], object], message: str):
    shutil.copytree(toy().directory, "a")
    damage(Path("a"))
    refuses(file(model="a"), 1, message, capfd)


@pytest.mark.parametrize(
    ("name", "message"),
    [("gone", "gone: no such folder; name a folder made by `quant build`"), ("in.wav", "in.wav: not a folder")],
)
def test_what_is_no_folder_is_no_model(desk, capfd, name, message):
    refuses(bench(name), 1, message, capfd)


def test_an_engine_that_was_not_built_is_one_line(desk, capfd):
    shutil.copytree(toy().directory, "a")
    in_manifest(lambda index: index["models"].pop("tflite"))(Path("a"))
    refuses(bench("a", "--engine", "tflite"), 1, "it holds: onnx fp32, onnx int8", capfd)


def test_debug_adds_the_traceback(desk, capfd):
    assert main(bench("gone", "--debug")) == 1
    err = capfd.readouterr().err
    assert err.startswith("Traceback (most recent call last)")
    assert err.splitlines()[-1].startswith("edge-denoise: error: gone: no such folder")


@pytest.mark.parametrize("engine", ["onnx", "tflite"])
def test_bench_measures(desk, capfd, engine):
    assert main(bench("MODEL", "--engine", engine, "--json")) == 0
    figures = json.loads(capfd.readouterr().out)
    assert set(figures) == {
        "engine",
        "precision",
        "n_threads",
        "n_frames",
        "frame_us",
        "hop_us",
        "rtf",
        "load_ms",
        "rss_bytes",
        "machine",
        "model",
    }
    assert (figures["engine"], figures["precision"], figures["n_threads"]) == (engine, "int8", 1)
    for spread in (figures["frame_us"], figures["hop_us"]):
        assert 0 < spread["p50"] <= spread["p95"] <= spread["p99"] <= spread["max"]
    assert figures["rtf"] == pytest.approx(figures["hop_us"]["mean"] / 16000, abs=1e-5)
    assert figures["rss_bytes"] > 2**20
    assert set(figures["machine"]) == {"cpu", "arch", "n_cores", "os", "python", "engine_version", "conditions"}


def test_bench_prints_a_table(desk, capfd):
    assert main(bench("MODEL", "--engine", "auto", "--precision", "fp32", "--threads", "2")) == 0
    out = capfd.readouterr().out
    assert out.startswith("tflite fp32, 2 thread(s), 2000 frames\n")
    assert out.isascii()
