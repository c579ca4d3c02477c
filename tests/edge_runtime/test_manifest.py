"""The artifact's index: what is written is what is read, and what is wrong is refused with the remedy."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from toy_artifact import manifest, toy

from edge_runtime.errors import Failure
from edge_runtime.manifest import (
    DIGEST_FILE,
    MANIFEST_FILE,
    MOST_FILE_BYTES,
    MOST_INDEX_BYTES,
    Manifest,
    StateEntry,
    dump,
    open_artifact,
)
from edge_runtime.stft import WindowName


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the toy artifact that a test may break."""
    return Path(shutil.copytree(toy().directory, tmp_path / "copy"))


def refusal(folder: Path) -> str:
    with pytest.raises(Failure) as caught:
        open_artifact(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_written_is_what_is_read():
    assert toy().manifest == manifest(toy().directory)
    toy().check_all()


def test_dump_is_deterministic_sorted_and_ends_its_line():
    index = toy().manifest
    text = dump(index)
    assert text == dump(msgspec.structs.replace(index, files=dict(reversed(index.files.items()))))
    keys = list(json.loads(text))
    assert keys == sorted(keys)
    assert text.startswith(b'{\n  "board"')
    assert text.endswith(b"}\n")


NOT_JSON = [
    ("empty", b"", "not a valid manifest"),
    ("cut", b'{"format": "edge-denoise", "ver', "not a valid manifest"),
    ("not text", b"\xff\xfe\x00", "not a valid manifest"),
    ("a list", b"[]", "not a valid manifest"),
    ("too deep", b"[" * 100_000, "not a valid manifest"),
    ("other format", b'{"format": "other", "version": 1}', "not an edge-denoise manifest but 'other'"),
    ("newer", b'{"format": "edge-denoise", "version": 2}', "this runtime reads 1; update edge-denoise"),
    ("older", b'{"format": "edge-denoise", "version": 0}', "this runtime reads 1; build it again"),
    ("no version", b'{"format": "edge-denoise"}', "missing required field `version`"),
]


@pytest.mark.parametrize(("text", "message"), [row[1:] for row in NOT_JSON], ids=[row[0] for row in NOT_JSON])
def test_a_manifest_that_is_none_is_refused(folder, text, message):
    (folder / MANIFEST_FILE).write_bytes(text)
    assert message in refusal(folder)


CHANGED = [
    ("sample rate", {"sample_rate_hz": 8000}, "$.sample_rate_hz"),
    ("hop", {"hop_samples": 128}, "$.hop_samples"),
    ("window", {"window": "hamming"}, "$.window"),
    ("threads", {"n_threads": 0}, "$.n_threads"),
    ("no models", {"models": {}}, "$.models"),
    ("golden elsewhere", {"golden": "../golden.npz"}, "$.golden"),
    ("golden unlisted", {"golden": "other.npz"}, "other.npz has no entry in files"),
    ("hash", {"files": {"model.onnx": {"sha256": "xyz", "bytes": 1}}}, "sha256"),
    ("absolute name", {"files": {"/etc/passwd": {"sha256": "0" * 64, "bytes": 1}}}, "$.files"),
    ("negative size", {"files": {"model.onnx": {"sha256": "0" * 64, "bytes": -1}}}, "bytes"),
    ("precision", {"models": {"onnx": {"int4": {}}}}, "$.models"),
]


@pytest.mark.parametrize(("change", "message"), [row[1:] for row in CHANGED], ids=[row[0] for row in CHANGED])
def test_a_wrong_field_is_named(folder, change, message):
    index = json.loads((folder / MANIFEST_FILE).read_text()) | change
    (folder / MANIFEST_FILE).write_text(json.dumps(index))
    assert message in refusal(folder)
    assert "build it again with `quant build`" in refusal(folder)


def test_a_manifest_without_a_window_is_of_the_root_of_hann(folder):
    index = json.loads((folder / MANIFEST_FILE).read_text())
    del index["window"]
    (folder / MANIFEST_FILE).write_text(json.dumps(index))
    assert open_artifact(folder).manifest.window == "sqrt_hann"


def test_a_manifest_names_every_window_that_there_is():
    (field,) = (field for field in msgspec.structs.fields(Manifest) if field.name == "window")
    assert get_args(field.type) == get_args(WindowName)


def test_unknown_fields_of_the_same_version_are_left_alone(folder):
    index = json.loads((folder / MANIFEST_FILE).read_text()) | {"later": [1, 2]}
    (folder / MANIFEST_FILE).write_text(json.dumps(index))
    assert open_artifact(folder).manifest.recipe == "toy"


def test_not_an_artifact(tmp_path):
    assert "no such folder" in refusal(tmp_path / "nowhere")
    assert "no manifest.json in it" in refusal(tmp_path)
    (tmp_path / "file").touch()
    assert "not a folder" in refusal(tmp_path / "file")


def test_a_missing_file_is_refused_at_once(folder):
    (folder / "model.tflite").unlink()
    assert "model.tflite: missing from the artifact; build it again" in refusal(folder)


def test_a_file_of_another_size_is_refused_at_once(folder):
    with (folder / "model.tflite").open("ab") as file:
        file.write(b"x")
    assert "model.tflite: has" in refusal(folder)


@pytest.mark.parametrize("n_bytes", [MOST_FILE_BYTES + 1, 3 * 2**30])
def test_a_file_beyond_the_budget_is_refused_before_it_is_read(folder, n_bytes):
    """A manifest that agrees with it: holes on the disk would be as many bytes in memory, twice."""
    index = toy().manifest
    entry = msgspec.structs.replace(index.files["model.onnx"], bytes=n_bytes)
    (folder / MANIFEST_FILE).write_bytes(
        dump(msgspec.structs.replace(index, files={**index.files, "model.onnx": entry}))
    )
    (folder / DIGEST_FILE).unlink(missing_ok=True)
    os.truncate(folder / "model.onnx", n_bytes)
    assert f"model.onnx: has {n_bytes} bytes by the manifest; no file of an artifact has over" in refusal(folder)


def test_an_index_beyond_the_budget_is_refused_before_it_is_parsed(folder):
    os.truncate(folder / MANIFEST_FILE, MOST_INDEX_BYTES + 1)
    assert "manifest.json: is larger than 8388608 bytes, which no manifest is; build it again" in refusal(folder)


def test_a_changed_byte_is_found_where_it_is_read(folder):
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    artifact = open_artifact(folder)
    artifact.check("model.tflite")
    for check in (lambda: artifact.check("model.onnx"), artifact.check_all):
        with pytest.raises(Failure, match=r"model\.onnx: changed since the build"):
            check()


def test_a_model_that_was_not_built_is_named_with_those_that_were():
    with pytest.raises(Failure, match="no c int8 model; it holds: onnx fp32, onnx int8, tflite fp32, tfl"):
        toy().model("c", "int8")
    assert toy().model("onnx", "fp32").file == "model.fp32.onnx"


@pytest.mark.parametrize("fields", [{"dtype": "int8"}, {"dtype": "float32", "scale": 0.5}])
def test_a_state_has_a_scale_exactly_if_it_is_an_integer(fields):
    with pytest.raises(ValueError, match="with scale"):
        StateEntry(name="past", shape=(1,), **fields)
