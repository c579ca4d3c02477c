"""Every command takes every network: from random weights of a small one to its artifact, by name and by checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from places import ROOT
from toy_build import TOY, toy

from calibration.corpus import Corpus
from calibration.mixing import Mix, mixtures
from edge_runtime.cli import main as runtime_main
from edge_runtime.engines.golden import check_golden
from edge_runtime.errors import Failure
from edge_runtime.manifest import open_artifact
from edge_runtime.quiet import silent
from edge_runtime.stft import Float32Array
from quant.build import networks, stages
from quant.build.settings import Search, Settings
from quant.cli import main
from quant.inputs import checkpoint, trained
from quant.inputs.source import Inputs, open_source
from quant.int8 import recipe
from quant.network import registry, sizes
from quant.search import ablation
from quant.training import runs, trainer

SMALL = {
    "gtcrn": "channels=8,dpgrnn=1",
    "ul-unas": "ul-unas:blocks=conv,dws,channels=4,8,kernels=3x3,2x3,strides=2,2,groups=1,2,dpgrnn=1",
}
JOB = runs.Job(
    Path(),
    mix=Mix(n_clips=2, clip_ms=400, warmup_ms=0),
    calibration=TOY.mix,
    settings=trainer.Settings(steps=1, validate_every=1, n_workers=0, n_validation_batches=1, share_teacher=0.0),
)
pytestmark = pytest.mark.usefixtures("undrawn")
each_network = pytest.mark.parametrize("name", registry.NETWORKS)


@pytest.fixture(scope="module", params=registry.NETWORKS)
def weights(
    request: pytest.FixtureRequest, made_once: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A checkpoint of a small network, trained for a step from random weights."""
    config = sizes.parse_line(SMALL[request.param])
    job = replace(JOB, out=tmp_path_factory.mktemp(request.param) / request.param, config=config)
    return made_once(f"small {request.param}", lambda: runs.train(job, silent, from_scratch=True))


def network_of(weights: Path) -> str:
    return weights.parent.name


def test_what_is_trained_tells_network_sizes_and_window(weights: Path) -> None:
    found, network = checkpoint.load(weights), registry.load(network_of(weights))
    assert (found.network, found.config) == (network, sizes.parse_line(SMALL[network.name]))
    assert found.window == network.window


def test_it_goes_on_from_its_own_weights(weights: Path, tmp_path: Path) -> None:
    more = runs.train(replace(JOB, out=tmp_path / "more", checkpoint=weights), silent)
    assert checkpoint.load(more).network.name == network_of(weights)


def test_it_is_planned(weights: Path) -> None:
    rows = stages.plan(toy("rpi4", inputs=Inputs(checkpoint=weights)), silent)
    assert {row.type for row in rows} == {"int8", "float"}


def test_it_is_trained_under_8_bit_rounding(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what comes of that would be the default of its network, if it were the file that comes with the project."""
    name = network_of(weights)
    low = -4.0 if name == "ul-unas" else None  # the other hears no logarithm
    path = runs.qat(replace(JOB, out=tmp_path / "run", checkpoint=weights, log_floor=low), silent)
    found = trained.load(path)
    assert list(found.header.floors.values()) == [low] * (low is not None)
    assert (found.network.name, found.graph.window) == (name, registry.load(name).window)
    monkeypatch.setattr(trained, "files", lambda package: Embedded(path))
    source = open_source(None, None, network=name)
    assert (source.name, source.family.name, source.recipe.name) == (path.name, name, found.network.recipe)
    with pytest.raises(Failure, match="leave --network out"):
        open_source(path, None, network=next(other for other in registry.NETWORKS if other != name))


class Embedded:
    """In the place of the folder of embedded files: this one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def joinpath(self, name: str) -> Path:
        return self.path


def test_a_trained_file_of_a_later_network_is_refused(weights: Path, tmp_path: Path) -> None:
    path = runs.qat(replace(JOB, out=tmp_path / "run", checkpoint=weights), silent)
    found = trained.load(path)
    header = trained.msgspec.structs.replace(found.header, network="dtln")
    trained.save(tmp_path / "later.trained", found.graph, header, found.noisy)
    with pytest.raises(Failure, match="is of a network 'dtln'; update edge-denoise"):
        trained.load(tmp_path / "later.trained")


@pytest.fixture(scope="module")
def built(
    weights: Path, made_once: Callable[..., stages.Built], tmp_path_factory: pytest.TempPathFactory
) -> stages.Built:
    """Its artifact, with the models for other software; not to be changed."""
    inputs, folder = Inputs(checkpoint=weights), tmp_path_factory.mktemp("built") / "art"
    settings = toy("rpi4", folder, inputs=inputs, official_io=True, tensorrt=True)
    return made_once(f"built {network_of(weights)}", lambda: stages.build(settings, silent))


def test_it_is_built_and_verified(built: stages.Built, weights: Path) -> None:
    opened, network = open_artifact(built.folder), registry.load(network_of(weights))
    assert (opened.manifest.network, opened.manifest.window) == (network.name, network.window)
    assert built.report.network == network.name
    assert [row for row in check_golden(opened) if not row.ok] == []
    assert f"[{network.title}]({network.paper.url})" in (built.folder / "README.md").read_text()
    assert main(["verify", str(built.folder)]) == 0


def test_it_is_measured_reported_bundled_and_deployed(
    built: stages.Built, pulled: tuple[Corpus, Corpus], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(built.folder, tmp_path / "art")
    (clip,) = mixtures(*pulled, Mix((5, 5), (-25, -25), 0, 0, n_clips=1, clip_ms=1500, warmup_ms=0))
    for side in ("clean", "noisy"):
        (tmp_path / "pairs" / side).mkdir(parents=True)
        soundfile.write(tmp_path / "pairs" / side / "a.wav", getattr(clip, side), 16_000)
    assert main(["eval", str(folder), "--pairs", str(tmp_path / "pairs"), "--metrics", "sisdr", "--jobs", "1"]) == 0
    assert main(["report", str(folder)]) == 0
    assert main(["bundle", str(folder), "-o", str(tmp_path / "art.bundle")]) == 0
    capsys.readouterr()
    bring = ["deploy", "pi@nowhere.invalid", "--target=rpi4", f"--bundle={tmp_path / 'art.bundle'}"]
    assert main([*bring, "--dry-run", "--json"]) == 0
    commands = json.loads(capsys.readouterr().out)["commands"]
    assert any("art.bundle" in command for command in commands)


@pytest.mark.parametrize("engine", ["native", "onnx", "tflite"])
def test_it_denoises_a_file(built: stages.Built, engine: str, mixture: Float32Array, tmp_path: Path) -> None:
    noisy, clean = tmp_path / "noisy.wav", tmp_path / "clean.wav"
    soundfile.write(noisy, mixture[:16_000], 16_000)
    assert runtime_main(["file", str(noisy), str(clean), "--model", str(built.folder), "--engine", engine]) == 0
    heard, _ = soundfile.read(clean)
    assert len(heard) == 16_000
    assert 0 < np.abs(heard).max() <= 1


def test_a_recipe_is_searched_for(weights: Path, tmp_path: Path) -> None:
    """Whatever it may lose: the start is good enough."""
    mix = Mix(n_clips=2, clip_ms=1500, seed=1, share_clean=0, share_noise_alone=0, level_dbfs=(-30, -20))
    effort = replace(TOY, mix=Mix(n_clips=2, clip_ms=1500), validation=mix, n_again=2)
    search = Search(max_pesq_drop=4.0, state=tmp_path / "journal")
    asked = toy("rpi4", tmp_path / "out", inputs=Inputs(checkpoint=weights), search=search, effort=effort)
    found = stages.build(asked, silent)
    assert found.report.search is not None
    assert [step.group for step in found.report.search.path] == [""]
    assert [(r.nodes, r.precision) for r in recipe.load(str(found.folder / "recipe.toml")).rules] == [("*", "int8")]


def test_techniques_are_taken_out_one_by_one(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the first two variants, on two clips."""
    few = Mix(n_clips=2, clip_ms=1500, share_clean=0, share_noise_alone=0, level_dbfs=(-30, -20))
    every = ablation.variants
    monkeypatch.setattr(ablation.quantize, "CALIBRATION_MIX", few)
    monkeypatch.setattr(ablation.validation, "listen", partial(ablation.validation.listen, mix=few))
    monkeypatch.setattr(ablation, "variants", lambda chosen: dict(list(every(chosen).items())[:2]))
    rows = list(ablation.ablate(Inputs(checkpoint=weights), silent))
    assert [row.what for row in rows] == ["none", "percentile ranges alone"]
    assert all(np.isfinite(row.snr_db) for row in rows)


def test_it_is_built_for_a_microcontroller(weights: Path, tmp_path: Path) -> None:
    built = stages.build(toy("generic-c", tmp_path / "out", inputs=Inputs(checkpoint=weights), html=False), silent)
    assert all(row.ok for row in check_golden(open_artifact(built.folder)))


# --- by name ------------------------------------------------------------------------------------------------------


@each_network
def test_its_artifact_has_a_folder_of_its_own(name: str) -> None:
    folder = Settings(target="rpi4", inputs=Inputs(network=name)).folder
    assert folder == Path("build/rpi4" if name == "gtcrn" else f"build/rpi4-{name}")
    assert Settings(target="rpi4").folder == Path("build/rpi4")


@each_network
def test_an_embedded_default_is_attributed(name: str) -> None:
    network = registry.load(name)
    path = Path(trained.__file__).parent / network.embedded
    if not path.is_file():
        with pytest.raises(Failure, match=f"no trained {network.title} comes with this version; name its weights"):
            open_source(None, None, network=name)
        return
    notice = (ROOT / "NOTICE").read_text()
    assert str(path.relative_to(ROOT)) in notice
    assert network.copyright.removeprefix("Copyright ") in notice
    assert trained.load(path).network is network


@each_network
def test_it_is_counted_by_name_and_by_settings(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    network = registry.load(name)
    assert main(["budget", "--network", name, "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)["published"]["n_learned"]
    params = network.blank().params
    assert whole == sum(
        values.size for role, values in params.items() if role not in network.fixed(network.published)
    ) - n_statistics(params)
    assert main(["budget", "--network", name, "--set", "dpgrnn=1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["published"]["n_learned"] < whole
    assert main(["budget", "--compare", name, f"{name}:dpgrnn=1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["totals"]["learned parameters"][0] == whole


def n_statistics(params: dict[str, np.ndarray]) -> int:
    """Means and variances of BatchNorm, which no paper counts."""
    return sum(values.size for name, values in params.items() if ".running_" in name)


def test_both_are_shown_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["networks", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == set(registry.NETWORKS)
    assert found["gtcrn"]["n_learned"] == 23_669
    assert found["gtcrn"]["times"]["rpi4"]["high_ms"] < 1
    assert found["gtcrn"]["times"]["host"] is None
    assert main(["networks"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == list(registry.NETWORKS)
    assert all(part.paper.url in "\n".join(lines) for part in networks.parts())
