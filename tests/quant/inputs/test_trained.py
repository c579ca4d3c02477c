"""The trained file: what is saved loads, equal runs are equal bytes, anything else is refused; builds start from it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import pytest
from toy_build import toy

from edge_runtime.errors import Failure
from edge_runtime.quiet import silent
from edge_runtime.stft import Float32Array
from quant.artifact.stable_bytes import npy_bytes, zip_bytes
from quant.build import stages
from quant.inputs import source, trained
from quant.inputs.source import Inputs
from quant.inputs.trained import Header, Trained
from quant.int8 import recipe
from quant.network import registry
from quant.ptq.quantize import Quantized, requantize


@pytest.fixture(scope="module")
def header(quantized: Quantized) -> Header:
    ranges = msgspec.structs.replace(quantized.ranges, channel_peaks={})
    return Header(
        checkpoint_name="x.onnx",
        checkpoint_sha256="0" * 64,
        recipe=recipe.load("static"),
        ranges=ranges,
        slopes=trained.slopes_of(quantized.graph),
        training={"settings": {"steps": 1}},
        attribution="somebody",
    )


@pytest.fixture(scope="module")
def noisy(mixture: Float32Array) -> Float32Array:
    return np.stack([mixture[:16_000], mixture[16_000:32_000]])


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, quantized: Quantized, header: Header, noisy: Float32Array) -> Path:
    path = tmp_path_factory.mktemp("trained") / "model.trained"
    trained.save(path, quantized.graph, header, noisy)
    return path


def test_what_is_saved_loads(saved: Path, quantized: Quantized, header: Header, noisy: Float32Array) -> None:
    found = trained.load(saved)
    assert found.header == header
    np.testing.assert_allclose(found.noisy, noisy, atol=1 / 32768 + 1e-4)
    assert trained.slopes_of(found.graph) == header.slopes
    for name, values in quantized.graph.params.items():
        np.testing.assert_array_equal(found.graph.params[name], values, err_msg=name)


def test_its_plan_is_the_one_it_was_saved_with(saved: Path, quantized: Quantized) -> None:
    found = trained.load(saved)
    again = requantize(found.graph, found.header.recipe, found.header.ranges)
    assert again.plan.grids == quantized.plan.grids
    assert again.graph.nodes == quantized.graph.nodes


def test_equal_results_are_equal_bytes(
    tmp_path: Path, saved: Path, quantized: Quantized, header: Header, noisy: Float32Array
) -> None:
    trained.save(tmp_path / "again.trained", quantized.graph, header, noisy)
    assert (tmp_path / "again.trained").read_bytes() == saved.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["again.trained"]


def rewritten(data: bytes, **members: bytes | None) -> bytes:
    """The archive with members replaced, added, or (None) left out; `__` in a key is a dot."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    for key, content in members.items():
        held.pop(key.replace("__", "."), None)
        if content is not None:
            held[key.replace("__", ".")] = content
    return zip_bytes(held)


def changed(data: bytes, **fields: object) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        old = msgspec.json.decode(archive.read("header.json"))
    return rewritten(data, header__json=msgspec.json.encode(old | fields))


BAD = [
    ("empty", lambda data: b"", "not a trained file"),
    ("cut", lambda data: data[: len(data) // 2], "not a trained file"),
    ("text", lambda data: b"hello", "not a trained file"),
    ("no header", lambda data: rewritten(data, header__json=None), "not a trained file"),
    ("header is no JSON", lambda data: rewritten(data, header__json=b"{"), "not a trained file"),
    ("other format", lambda data: changed(data, format="other"), "not a trained file"),
    ("newer version", lambda data: changed(data, version=2), "has version 2"),
    ("no excerpt", lambda data: rewritten(data, excerpt__npy=None), "not a trained file"),
    ("float excerpt", lambda data: rewritten(data, excerpt__npy=npy_bytes(np.zeros((1, 9)))), "its excerpt is float64"),
    ("missing weight", lambda data: rewritten(data, **{"encoder.en_convs.1.conv.bias.npy": None}), "another network"),
    ("more weights", lambda data: rewritten(data, more__npy=npy_bytes(np.zeros(1, np.float32))), "another network"),
    ("pickled", lambda data: rewritten(data, excerpt__npy=pickled()), "not a trained file"),
    ("slopes of another", lambda data: changed(data, slopes={"a": 0.1}), "slopes"),
]


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.array([{}], object), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(("spoil", "words"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_anything_else_is_refused_in_one_line(tmp_path: Path, saved: Path, spoil, words: str) -> None:
    path = tmp_path / "bad.trained"
    path.write_bytes(spoil(saved.read_bytes()))
    with pytest.raises(Failure, match=words) as caught:
        trained.load(path)
    assert "\n" not in str(caught.value)


def test_nan_weights_are_refused(tmp_path: Path, saved: Path, quantized: Quantized) -> None:
    name = "encoder.en_convs.1.conv.bias"
    bad = np.full_like(quantized.graph.params[name], np.nan)
    path = tmp_path / "nan.trained"
    path.write_bytes(rewritten(saved.read_bytes(), **{f"{name}.npy": npy_bytes(bad)}))
    with pytest.raises(Failure, match="not finite"):
        trained.load(path)


# --- as a source of builds ----------------------------------------------------------------------------------------


def test_a_build_from_it_hears_no_sound(tmp_path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither weights nor sounds are pulled."""
    for asset in ("weights", "speech", "noise"):
        monkeypatch.setattr(f"quant.inputs.assets.{asset}", lambda **_: pytest.fail("pulled"))
    built = stages.build(toy("rpi4", tmp_path / "out", inputs=Inputs(checkpoint=saved)), silent)
    assert built.report.checkpoint.name == "model.trained"
    assert built.report.coverage["tflite"].int8_share >= 0.8


def test_it_brings_its_own_recipe(saved: Path) -> None:
    with pytest.raises(Failure, match="its own recipe"):
        source.open_source(saved, "static")


SOURCES = [
    ("nothing named", None, None, "default.trained"),
    ("a recipe named", None, "static", "gtcrn_simple.onnx"),
]


@pytest.mark.parametrize(("path", "name", "wanted"), [row[1:] for row in SOURCES], ids=[row[0] for row in SOURCES])
def test_what_a_build_starts_from(path: Path | None, name: str | None, wanted: str) -> None:
    assert source.open_source(path, name).name == wanted


@pytest.mark.parametrize(("name", "most_bytes"), [("gtcrn", 500_000), ("ul-unas", 850_000)])
def test_an_embedded_default_is_small_and_attributed(name: str, most_bytes: int) -> None:
    path = trained.embedded(registry.load(name))
    found: Trained = trained.load(path)
    assert found.network.name == name
    assert path.stat().st_size < most_bytes
    assert "Rong" in found.header.attribution
    assert "LibriSpeech" in found.header.attribution


def test_a_floor_is_kept_in_float_as_in_8_bits(tmp_path: Path) -> None:
    """What is compared is one network."""
    found = trained.load(trained.embedded(registry.load("ul-unas")))
    path, floors = tmp_path / "model.trained", {"features": -4.0}
    trained.save(path, found.graph, msgspec.structs.replace(found.header, floors=floors), found.noisy)
    again = trained.load(path)
    assert trained.floors_of(again.graph) == floors
    assert trained.floors_of(requantize(again.graph, again.header.recipe, again.header.ranges).graph) == floors


@pytest.mark.parametrize("floors", [{"features": -13.0}, {"features": 1.0}, {"erb.bands": -4.0}])
def test_a_floor_of_nothing_is_refused(floors: dict[str, float], tmp_path: Path) -> None:
    found = trained.load(trained.embedded(registry.load("ul-unas")))
    path = tmp_path / "model.trained"
    trained.save(path, found.graph, msgspec.structs.replace(found.header, floors=floors), found.noisy)
    with pytest.raises(Failure, match="its floors are those of another network"):
        trained.load(path)
