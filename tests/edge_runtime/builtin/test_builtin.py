"""The model that comes with the runtime: it is what a build makes today, it is whole and small, and it is what speaks
where nobody names one."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import program_said
import pytest
import soundfile
from msgspec.structs import replace
from places import ROOT

from edge_runtime import Denoiser, Failure, builtin, open_artifact
from edge_runtime.cli import main
from edge_runtime.engines import open_engine
from edge_runtime.engines.golden import check_golden, load_golden, snr_db

# What was reviewed; `make builtin` writes all of it.
SHA256 = {
    "model.native": "120d641d8e74c0a9c7b7ad337e1ce4f50b9519f561fcf593ec1f1c028a923fc1",
    "model.fp32.native": "b4c8c12abb040a997eed484b3fc02b7017b1cc465aa88359712d04065de42d01",
    "golden.npz": "e534cc51ddf8e5bebfd5ea082ce34b2a564e689e23ca3aa253978876b9b70e35",
}
MOST_BYTES = 300_000
FLOAT_DB = 90.0  # between processors, whose sums run in another order


def test_its_files_are_those_that_were_reviewed() -> None:
    artifact = open_artifact()
    artifact.check_whole()
    assert {name: hashlib.sha256(artifact.path(name).read_bytes()).hexdigest() for name in SHA256} == SHA256
    assert artifact.manifest.files.keys() == SHA256.keys() | {"LICENSE"}
    assert sum(path.stat().st_size for path in artifact.directory.iterdir()) < MOST_BYTES
    licence = artifact.path("LICENSE").read_text()
    assert "Copyright (c) 2024 Rong Xiaobin" in licence
    assert "The above copyright notice and this permission notice shall be included" in licence


def test_it_is_what_a_build_makes_today(tmp_path: Path) -> None:
    """The weights byte for byte; NumPy's archive by its arrays, for zlib decides its bytes."""
    from quant.deploy.builtin import make, write
    from quant.inputs import source

    write(tmp_path / "gtcrn", make(lambda _: None))
    made, shipped = open_artifact(tmp_path / "gtcrn"), open_artifact()
    for name in ("model.native", "model.fp32.native", "LICENSE"):
        assert made.read(name) == shipped.read(name), name
    ours, theirs = (np.load(each.path("golden.npz")) for each in (made, shipped))
    assert set(ours) == set(theirs)
    assert (ours["enhanced_int8"] == theirs["enhanced_int8"]).all()
    assert all(snr_db(theirs[name], ours[name]) > FLOAT_DB for name in ours)
    assert shipped.manifest.checkpoint.sha256 == source.read(source.Inputs()).sha256
    shipped_files = {"files": shipped.manifest.files, "built_with": shipped.manifest.built_with}
    assert replace(made.manifest, **shipped_files) == shipped.manifest


def test_it_tests_itself() -> None:
    assert [(row.precision, row.ok, row.exact) for row in check_golden(open_artifact())] == [
        ("fp32", True, False),
        ("int8", True, True),
    ]


def test_its_few_frames_see_every_state() -> None:
    """Whatever the network has to remember from one frame to the next is missed in the vectors, wherever it is lost."""
    golden = load_golden(open_artifact())
    engine = open_engine(open_artifact(), "native", "int8")
    n_frames = len(golden["spectrum"])
    for lost in range(1, n_frames):
        engine.reset()
        out = np.empty_like(golden["spectrum"][0])
        for k, spectrum in enumerate(golden["spectrum"][: lost + 1]):
            if k == lost:
                engine.reset()
            engine.step(spectrum, out)
        assert not (out == golden["enhanced_int8"][lost]).all()


def test_python_takes_it_where_none_is_named() -> None:
    noisy = np.random.default_rng(3).normal(0, 0.1, 8_000).astype(np.float32)
    clean = [Denoiser.open(model).feed(noisy) for model in (None, "gtcrn", builtin.folder_of(None))]
    assert all((each == clean[0]).all() for each in clean)
    assert not np.allclose(clean[0], noisy[: clean[0].size])


def test_a_folder_of_ones_own_goes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_artifact("gtcrn").name == "gtcrn, built in"
    shutil.copytree(builtin.folder_of(None), tmp_path / "gtcrn")
    assert (open_artifact("gtcrn").name, open_artifact("gtcrn").directory) == ("gtcrn", Path("gtcrn"))
    with pytest.raises(Failure, match="no such folder"):
        open_artifact("nothing")


def test_damage_to_it_is_not_mended_by_a_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(builtin.folder_of(None), tmp_path / "gtcrn")
    (tmp_path / "gtcrn" / "model.native").write_bytes(b"short")
    monkeypatch.setattr(builtin, "_HERE", tmp_path)
    with pytest.raises(Failure, match=r"has 5 bytes, the manifest says 55088; install this again: `.*pip install"):
        open_artifact()


@pytest.fixture
def sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    soundfile.write("in.wav", np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000)
    return tmp_path


SAYS = {
    "file": (["file", "in.wav", "out.wav"], "model: gtcrn, built in"),
    "verify": (["verify"], "model: gtcrn, built in"),
    "bench": (["bench", "--engine", "native"], "model: gtcrn, built in"),
    "doctor": (["doctor"], "gtcrn, built in: 4 as shipped"),
    "virtual microphone": (["install", "--virtual-mic", "--root", "home", "--dry-run"], "model: gtcrn, built in"),
    "service": (["install", "--service", "--root", "home", "--dry-run"], "model: gtcrn, built in"),
}


@pytest.mark.parametrize(("argv", "line"), SAYS.values(), ids=SAYS)
def test_a_command_without_a_model_takes_it_and_says_so(
    sound: Path, capsys: pytest.CaptureFixture[str], argv: list[str], line: str
) -> None:
    main(argv)
    assert line in capsys.readouterr().out
    main([*argv, *(["--force"] if argv[0] == "file" else []), "--json"])
    said = capsys.readouterr().out
    found = json.loads(said)
    assert "gtcrn, built in" in (said if argv[0] == "doctor" else found["model"])


def test_the_same_sound_comes_of_the_same_model_by_its_folder(sound: Path) -> None:
    assert main(["file", "in.wav", "a.wav"]) == 0
    assert main(["file", "in.wav", "b.wav", "--model", str(builtin.folder_of(None))]) == 0
    assert (sound / "a.wav").read_bytes() == (sound / "b.wav").read_bytes()


def test_the_pipe_takes_it_too(sound: Path) -> None:
    pipe = [sys.executable, "-m", "edge_runtime.cli", "pipe", "--json"]
    done = program_said.run(pipe, bytes(6400), cwd=ROOT)
    assert len(done.stdout) == 6400
    assert json.loads(done.stderr)["model"] == "gtcrn, built in"


def test_a_service_without_a_model_follows_the_runtime(sound: Path) -> None:
    """No path of today's installation stands in its command: after an update it has that one's model."""
    assert main(["install", "--service", "--root", "root", "--yes"]) == 0
    unit = (sound / "root/etc/systemd/system/edge-denoise.service").read_text()
    (command,) = (line for line in unit.splitlines() if line.startswith("ExecStart="))
    assert command.endswith(" live --wait --capture default --playback default")


def test_a_virtual_microphone_has_its_weights(sound: Path) -> None:
    pytest.importorskip("edge_runtime.native", reason="needs the plugin")
    assert main(["install", "--virtual-mic", "--root", "home", "--yes"]) == 0
    assert (sound / "home/.local/lib/ladspa/edge_denoise.native").read_bytes() == open_artifact().read("model.native")
