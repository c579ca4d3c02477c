"""What the commands print when all is well: results on standard output, for people and as JSON."""

from __future__ import annotations

import hashlib
import json
import re

import msgspec
import pytest
from quant_desk import build, copy_artifact, main, only_error, write_ranges

import boards
from quant.inputs import assets
from quant.int8 import recipe
from quant.int8.plan import int8_taps, prepare
from quant.network.gtcrn import blank
from quant.network.passes import streaming_graph


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache that holds the one asset there is."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    content = b"RIFF"
    digest = hashlib.sha256(content).hexdigest()
    member = assets.Member("a.wav", "pkg/a.wav", digest)
    asset = assets.Asset(
        id="tiny",
        kind="speech",
        package="pkg",
        version="1.0",
        wheel="pkg.whl",
        wheel_bytes=4,
        wheel_sha256=digest,
        licence="MIT",
        attribution="nobody",
        source="made here",
        members=(member,),
    )
    monkeypatch.setattr(assets, "pinned", lambda: (asset,))
    path = assets.cache_dir() / "speech" / "a.wav"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def test_pull_shows_what_is_in_the_cache_and_its_licence(cache, capfd):
    assert main(["pull"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert re.search(r"tiny +speech +pkg 1\.0 +MIT +nobody +in the cache\n", out)
    assert out.endswith(f"in {cache.parent.parent}\n")


def test_pull_as_json(cache, capfd):
    assert main(["pull", "--json"]) == 0
    pulled = json.loads(capfd.readouterr().out)
    assert pulled["cache"] == str(cache.parent.parent)
    (asset,) = pulled["assets"]
    assert (asset["id"], asset["licence"], asset["attribution"]) == ("tiny", "MIT", "nobody")
    assert (asset["fetched"], asset["files"]) == (False, [str(cache)])


def test_boards_prints_a_row_a_board_and_every_figure_of_one(capfd):
    assert main(["boards"]) == 0
    head, _, *rows = capfd.readouterr().out.splitlines()
    assert head.split()[:3] == ["board", "processor", "MMAC/s"]
    assert [row.split()[0] for row in rows] == boards.names()
    assert main(["boards", "rpi4"]) == 0
    out = capfd.readouterr().out
    assert "rpi4, Raspberry Pi 4" in out
    assert "at most" in out
    assert main(["boards", "rpi9"]) == 1
    assert "unknown board 'rpi9'; did you mean" in capfd.readouterr().err


def test_boards_as_json(capfd):
    assert main(["boards", "--json"]) == 0
    printed = json.loads(capfd.readouterr().out)
    assert printed == {name: json.loads(msgspec.json.encode(boards.load(name))) for name in boards.names()}


def test_verify_says_what_ran(desk, capfd):
    copy_artifact("art")
    assert main(["verify", "art"]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert out.startswith("5 files are as built\n")
    assert re.findall(r"(onnx|tflite) +(fp32|int8) .* ok\n", out) == [
        ("onnx", "fp32"),
        ("onnx", "int8"),
        ("tflite", "fp32"),
        ("tflite", "int8"),
    ]


def test_verify_as_json_has_no_infinity(desk, capfd, monkeypatch):
    """A float engine may reproduce its vectors exactly; their SNR is then no number."""
    copy_artifact("art")
    monkeypatch.setattr("edge_runtime.engines.golden.snr_db", lambda *_arrays: float("inf"))
    assert main(["verify", "art", "--json"]) == 0
    rows = json.loads(capfd.readouterr().out, parse_constant=pytest.fail)["golden"]
    assert [(row["snr_db"], row["ok"]) for row in rows] == [(None, True)] * 4


def test_verify_says_what_did_not_run(desk, capfd, monkeypatch):
    copy_artifact("art")
    monkeypatch.setattr("edge_runtime.engines.golden.available", lambda: ["onnx"])
    assert main(["verify", "art"]) == 0
    assert capfd.readouterr().out.count("not run: engine not installed") == 2
    monkeypatch.setattr("edge_runtime.engines.golden.available", list)
    assert main(["verify", "art"]) == 1
    out, err = capfd.readouterr()
    assert out.count("not run: engine not installed") == 4
    assert re.search("art: no engine is installed to run the golden vectors; `.*pip install .*onnx", only_error(err))


def test_plan_with_ranges_needs_no_sound_and_no_board(desk, capfd):
    wanted = int8_taps(*prepare(streaming_graph(blank()), recipe.load("static")))
    write_ranges("ranges.json", taps=wanted)
    argv = build(command="plan", ranges="ranges.json")
    assert main([argument for argument in argv if "--target" not in argument]) == 0
    out = capfd.readouterr().out
    assert re.search(r"\n *encoder\.en_convs\.0\.bn\.wide +conv +float\n", out)
    assert re.search(r"\n *encoder\.en_convs\.2\.depth_bn +conv +int8 +7\.843e-03 +-1 +-0\.996 \.\. 1\n", out)
    assert re.search(r"\n *encoder\.en_convs\.2\.depth_conv\.weight +weight +int8 .* channels\n", out)
    assert main([*argv, "--json"]) == 0
    rows = {row["tap"]: row for row in json.loads(capfd.readouterr().out)}
    assert rows["encoder.en_convs.2.depth_bn"]["zero_point"] == -1
