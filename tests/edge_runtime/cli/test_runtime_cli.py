"""`edge-denoise`: results on standard output, every error one line on standard error, nothing left behind."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from places import ROOT
from toy_artifact import toy

from edge_runtime import __version__
from edge_runtime.cli import main


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A working folder with an artifact, damaged ones, and sounds good and bad."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Path("MODEL").symlink_to(toy().directory)
    Path("out").mkdir()
    Path("empty").mkdir()
    Path("folder.wav").mkdir()
    Path("notes.txt").write_text("not sound")
    Path("nothing.wav").touch()
    Path("taken.wav").write_bytes(b"precious")
    os.mkfifo("pipe.wav")
    sounds()
    damaged_models()
    return tmp_path


def sounds() -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, (16000, 1)).astype(np.float32)
    for name in ("in.wav", "in.flac", "in.mp3"):
        soundfile.write(name, samples, 16000)
        Path(f"cut-{name}").write_bytes(Path(name).read_bytes()[: Path(name).stat().st_size // 2])
    soundfile.write("many.wav", np.zeros((100, 12), np.float32), 16000)
    soundfile.write("odd.wav", samples, 12345)
    Path("in.raw").write_bytes(Path("in.wav").read_bytes()[44:])
    Path("same.wav").hardlink_to("in.wav")


def damaged_models() -> None:
    for name in ("newer", "other", "broken", "changed", "short", "lost", "lean"):
        shutil.copytree(toy().directory, name)
    index = json.loads(Path("MODEL/manifest.json").read_text())
    Path("newer/manifest.json").write_text(json.dumps(index | {"version": 2}))
    Path("other/manifest.json").write_text(json.dumps(index | {"format": "other"}))
    Path("broken/manifest.json").write_text('{"format":')
    Path("changed/model.tflite").write_bytes(bytes(Path("MODEL/model.tflite").stat().st_size))
    Path("short/model.onnx").write_bytes(b"")
    Path("lost/golden.npz").unlink()
    index["models"].pop("tflite")
    Path("lean/manifest.json").write_text(json.dumps(index))


def file(source: str = "in.wav", target: str = "out/a.wav", model: str = "MODEL", *options: str) -> list[str]:
    return ["file", source, target, "--model", model, *options]


def bench(model: str = "MODEL", *options: str) -> list[str]:
    return ["bench", "--model", model, *options]


BAD = [
    # usage
    ("no command", [], 2, "required: COMMAND"),
    ("unknown command", ["clean"], 2, "invalid choice: 'clean'"),
    ("no arguments", ["file"], 2, "required: IN, OUT, --model"),
    ("no output", ["file", "in.wav", "--model", "MODEL"], 2, "required: OUT"),
    ("no model", ["file", "in.wav", "out/a.wav"], 2, "required: --model"),
    ("bench without model", ["bench"], 2, "required: --model"),
    ("unknown option", [*file(), "--fast"], 2, "unrecognized arguments: --fast"),
    ("abbreviated option", [*file(), "--prec", "fp32"], 2, "unrecognized arguments: --prec fp32"),
    ("unknown engine", [*file(), "--engine", "torch"], 2, "invalid choice: 'torch'"),
    ("unknown precision", bench("MODEL", "--precision", "int4"), 2, "invalid choice: 'int4'"),
    ("no threads", bench("MODEL", "--threads", "0"), 2, "'0' is not a number from 1 to 64"),
    ("threads in words", bench("MODEL", "--threads", "two"), 2, "'two' is not a number from 1 to 64"),
    ("too many threads", bench("MODEL", "--threads", "1000"), 2, "'1000' is not a number from 1 to 64"),
    # input
    ("missing input", file("gone.wav"), 1, "gone.wav: no such file"),
    ("folder as input", file("empty"), 1, "empty: a folder, not a sound file"),
    ("pipe as input", file("pipe.wav"), 1, "pipe.wav: not a regular file; save the sound to a file first"),
    ("text as input", file("notes.txt"), 1, "notes.txt: cannot be read as sound (Format not recognised)"),
    ("zero bytes", file("nothing.wav"), 1, "nothing.wav: cannot be read as sound"),
    ("headerless", file("in.raw"), 1, "in.raw: cannot be read as sound"),
    ("cut WAV", file("cut-in.wav"), 1, "cut-in.wav: cut short: its header promises 32000 bytes"),
    ("cut FLAC", file("cut-in.flac"), 1, "cut-in.flac: damaged after"),
    ("cut MP3", file("cut-in.mp3"), 1, "cut-in.mp3: damaged after"),
    ("name too long", file("x" * 300), 1, "File name too long"),
    # output
    ("no suffix", file("in.wav", "out/a"), 1, "unknown output format ''; use one of: .wav, .flac"),
    ("unknown suffix", file("in.wav", "out/a.m4a"), 1, "unknown output format '.m4a'"),
    ("same file", file("in.wav", "in.wav", "MODEL", "--force"), 1, "input and output are the same file"),
    ("same by link", file("in.wav", "same.wav", "MODEL", "--force"), 1, "input and output are the same file"),
    ("existing output", file("in.wav", "taken.wav"), 1, "taken.wav: exists already; pass --force"),
    ("pipe as output", file("in.wav", "pipe.wav"), 1, "pipe.wav: exists and is not a regular file"),
    ("folder as output", file("in.wav", "folder.wav"), 1, "folder.wav: exists and is not a regular file"),
    ("no such folder", file("in.wav", "gone/a.wav"), 1, "gone: no such folder; make it first"),
    ("file as folder", file("in.wav", "in.flac/a.wav"), 1, "in.flac: no such folder"),
    ("unwritable folder", file("in.wav", "/proc/a.wav"), 1, "/proc/a.wav: cannot be written (No such file"),
    ("12 channels in FLAC", file("many.wav", "out/a.flac"), 1, "cannot hold 12 channels at 16000 Hz"),
    ("odd rate in Opus", file("odd.wav", "out/a.opus"), 1, "Opus only supports sample rates of 8000"),
    # model
    ("missing model", bench("gone"), 1, "gone: no such folder; name a folder made by `quant build`"),
    ("file as model", bench("in.wav"), 1, "in.wav: not a folder"),
    ("folder without manifest", bench("empty"), 1, "empty: no manifest.json in it"),
    ("newer version", bench("newer"), 1, "has version 2, this runtime reads 1; update edge-denoise"),
    ("other format", bench("other"), 1, "not an edge-denoise manifest but 'other'"),
    ("broken manifest", bench("broken"), 1, "broken/manifest.json: not a valid manifest"),
    ("changed model", file(model="changed"), 1, "model.tflite: changed since the build (SHA-256 differs)"),
    ("short model", file(model="short"), 1, "model.onnx: has 0 bytes, the manifest says"),
    ("lost file", file(model="lost"), 1, "golden.npz: missing from the artifact; build it again"),
    ("engine not built", bench("lean", "--engine", "tflite"), 1, "it holds: onnx fp32, onnx int8"),
]


def tree() -> dict[str, bytes]:
    """Every file of the working folder that a test may have touched."""
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.mark.parametrize(("argv", "status", "message"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input_is_one_line_and_leaves_nothing(desk, capfd, argv, status, message):
    before = tree()
    assert main(argv) == status
    out, err = capfd.readouterr()
    assert out == ""
    assert re.fullmatch(r"edge-denoise: error: [^\n]+\n", err)
    assert message in err
    assert tree() == before


def test_an_engine_that_refuses_midway_is_one_line(desk, capfd, monkeypatch):
    from edge_runtime.engines.onnx import OnnxEngine

    def fail(*_arguments):
        raise RuntimeError("ran out\nof luck")

    monkeypatch.setattr(OnnxEngine, "step", fail)
    assert main(["file", "in.wav", "out/a.wav", "--model", "MODEL", "--engine", "onnx"]) == 1
    assert capfd.readouterr().err == (
        "edge-denoise: error: RuntimeError: ran out of luck; please report it, with what --debug shows\n"
    )
    assert not list(Path("out").iterdir())


def test_debug_adds_the_traceback(desk, capfd):
    assert main(["bench", "--model", "gone", "--debug"]) == 1
    err = capfd.readouterr().err
    assert err.startswith("Traceback (most recent call last)")
    assert err.splitlines()[-1].startswith("edge-denoise: error: gone: no such folder")


# --- what it does when all is well -------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["auto", "onnx", "tflite"])
@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_file_denoises_a_file(desk, capfd, engine, precision):
    argv = ["file", "in.wav", "out/a.flac", "--model", "MODEL", "--engine", engine, "--precision", precision]
    assert main(argv) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert out.startswith("out/a.flac: 1.00 s, 1 x 16000 Hz, FLAC PCM_16\n")
    assert soundfile.info("out/a.flac").frames == 16000


def test_file_says_what_it_did_as_json(desk, capfd):
    Path("out/a.wav").write_bytes(b"old")
    assert main(["file", "in.wav", "out/a.wav", "--model", "MODEL", "--force", "--json"]) == 0
    summary = json.loads(capfd.readouterr().out)
    assert summary["n_samples"] == 16000
    assert summary["engine"] == "tflite"
    assert summary["n_clipped"] == summary["n_limited"] == summary["n_nonfinite"] == 0


def test_file_names_what_it_repaired(desk, capfd):
    soundfile.write("bad.wav", np.full(16000, np.nan, np.float32), 16000, "FLOAT")
    assert main(["file", "bad.wav", "out/a.wav", "--model", "MODEL"]) == 0
    assert "16000 input samples were not finite and became 0" in capfd.readouterr().out


def test_file_names_need_not_be_text(desk, capfd):
    name = os.fsdecode(b"out/\xff.wav")
    assert main(["file", "in.wav", name, "--model", "MODEL"]) == 0
    assert Path(name).is_file()
    assert main(["file", "in.wav", name, "--model", "MODEL"]) == 1
    assert capfd.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("engine", ["onnx", "tflite"])
def test_bench_measures(desk, capfd, engine):
    assert main(["bench", "--model", "MODEL", "--engine", engine, "--json"]) == 0
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
    }
    assert (figures["engine"], figures["precision"], figures["n_threads"]) == (engine, "int8", 1)
    for spread in (figures["frame_us"], figures["hop_us"]):
        assert 0 < spread["p50"] <= spread["p95"] <= spread["p99"] <= spread["max"]
    assert figures["rtf"] == pytest.approx(figures["hop_us"]["mean"] / 16000, abs=1e-5)
    assert figures["rss_bytes"] > 2**20
    assert set(figures["machine"]) == {"cpu", "arch", "n_cores", "os", "python", "engine_version", "conditions"}


def test_bench_prints_a_table(desk, capfd):
    argv = ["bench", "--model", "MODEL", "--engine", "auto", "--precision", "fp32", "--threads", "2"]
    assert main(argv) == 0
    out = capfd.readouterr().out
    assert out.startswith("tflite fp32, 2 thread(s), 2000 frames\n")
    assert out.isascii()


def test_the_version_is_the_projects(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"edge-denoise {__version__}\n"
    assert f'\nversion = "{__version__}"\n' in (ROOT / "pyproject.toml").read_text()


# --- as a process ------------------------------------------------------------------------------------------


def process(*argv: str, **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "edge_runtime.cli", *argv]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    # A test run in the background of a script ignores Ctrl-C, and its children would inherit that.
    heeds_ctrl_c = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    usual = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "preexec_fn": heeds_ctrl_c}
    return subprocess.Popen(command, env=environment, text=True, **(usual | options))


def test_help_is_quick_because_it_imports_nothing_heavy():
    code = "import sys, edge_runtime.cli as c; c.main(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"numpy", "msgspec", "soundfile", "soxr", "tqdm"} & set(done.stderr.split())
    assert "file" in done.stdout
    assert "bench" in done.stdout


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
def test_whatever_ends_it_leaves_nothing_half_written(desk, number, status):
    soundfile.write("hour.wav", np.zeros(3600 * 16000, np.int16), 16000)
    running = process(*file("hour.wav"))
    deadline_s = time.monotonic() + 20
    while not list(Path("out").iterdir()) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert [path.suffix for path in Path("out").iterdir()] == [".part"]
    running.send_signal(number)
    assert running.communicate(timeout=20) == ("", "")
    assert running.returncode == status
    assert not list(Path("out").iterdir())


def test_under_nohup_a_hang_up_does_not_end_it(desk):
    running = process(*file(), preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    running.send_signal(signal.SIGHUP)
    assert running.communicate(timeout=20)[1] == ""
    assert running.returncode == 0


def test_ctrl_c_while_an_engine_loads_is_no_error(desk, capfd, monkeypatch):
    """pybind11 wraps it: ImportError("initialization failed") from KeyboardInterrupt."""

    def interrupted(*_arguments, **_options):
        raise ImportError("initialization failed") from KeyboardInterrupt()

    monkeypatch.setattr("edge_runtime.engines.onnx.open_model", interrupted)
    assert main(file("in.wav", "out/a.wav", "MODEL", "--engine", "onnx")) == 130
    assert capfd.readouterr() == ("", "")
    assert not list(Path("out").iterdir())


def test_a_reader_that_leaves_is_no_error(desk):
    read_end, write_end = os.pipe()
    os.close(read_end)
    running = process(*file(), stdout=write_end)
    os.close(write_end)
    assert running.communicate(timeout=20)[1] == ""
    assert running.returncode == 141


@pytest.mark.parametrize("target", ["out/a.wav", "out/a.flac"])
def test_a_full_disk_leaves_nothing(desk, target):
    def no_more_than_10_kilobytes():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    running = process(*file("in.wav", target), preexec_fn=no_more_than_10_kilobytes)
    message = f"edge-denoise: error: {target}: cannot be written (File too large); write to a file system,"
    message += " or under a limit, that takes larger files\n"
    assert running.communicate(timeout=20) == ("", message)
    assert running.returncode == 1
    assert not list(Path("out").iterdir())
