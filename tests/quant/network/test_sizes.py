"""Networks of other sizes: what is typed, what a checkpoint says of itself, and that every engine runs them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edge_runtime.engines.golden import snr_db, stream
from edge_runtime.engines.native import open_model as open_native
from edge_runtime.engines.onnx import open_model as open_onnx
from edge_runtime.engines.tflite import open_model as open_tflite
from edge_runtime.errors import Failure
from edge_runtime.manifest import ModelEntry
from quant.audit import counts
from quant.emit.native.emitter import emit_native
from quant.emit.onnx.emitter import emit_onnx
from quant.emit.tflite.emitter import emit_tflite
from quant.inputs import checkpoint, source, trained
from quant.int8 import recipe
from quant.int8.reference import Reference
from quant.int8.roundings import with_fewer_roundings
from quant.network import sizes
from quant.network.erb import merging_matrix
from quant.network.float_model import FloatModel
from quant.network.gtcrn import Config, blank, gtcrn, param_shapes
from quant.network.passes import streaming_graph
from quant.ptq import quantize
from quant.ptq.quantize import CalibrationSet
from quant.training.runs import Job, initial_params, train

VARIANTS = (
    "default", "channels=12,dpgrnn=1", "channels=20", "kernel=3", "dilations=1,2", "dilations=1,2,4,8", "dpgrnn=3",
    "groups=1", "channels=32,groups=4", "low_bins=33,erb_bands=32", "channels=24,low_bins=49,erb_bands=48,kernel=3",
)  # fmt: skip
ENGINES = {
    "onnx": (emit_onnx, open_onnx),
    "tflite": (emit_tflite, open_tflite),
    "native": (emit_native, open_native),
}
FP32_FLOOR_DB = 120  # 132 dB and more were measured: float32 sums in another order


@pytest.mark.parametrize("line", VARIANTS)
def test_what_is_typed_is_described_again(line: str) -> None:
    config = sizes.parse_line(line)
    assert sizes.parse_line(sizes.describe(config)) == config
    assert sizes.from_dict(sizes.to_dict(config), "x") == config


@pytest.mark.parametrize(
    ("settings", "config"),
    [
        ([], Config()),
        (["channels=12", "dpgrnn=1"], Config(channels=12, n_dpgrnn=1)),
        (["dilations=2,4"], Config(dilations=(2, 4))),
        (["low_bins=33", "erb_bands=32"], Config(n_low_bins=33, n_high_bands=32)),
        (["kernel=5", "kernel=3"], Config(kernel=3)),
    ],
)
def test_settings_change_the_published_network(settings: list[str], config: Config) -> None:
    assert sizes.parse(settings) == config


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["width=12"], "no setting 'width' of the network; choose one of: channels"),
        (["channels"], "'channels' is no whole number"),
        (["channels=-4"], "is no whole number"),
        (["channels=0"], "0 channels do not split"),
        (["channels=14"], "channels must be a multiple of 4"),
        (["channels=20", "groups=4"], "channels must be a multiple of 8"),
        (["groups=0"], "must be at least 1"),
        (["dpgrnn=0"], "must be at least 1"),
        (["kernel=4"], "must be one of (3, 5)"),
        (["kernel=7"], "must be one of (3, 5)"),
        (["dilations="], "lists no whole numbers"),
        (["dilations=0"], "numbers from 1"),
        (["low_bins=64"], "only 4 n + 1 bands come out as they went in, such as 129"),
        (["low_bins=257"], "do not fit into 257 bins"),
        (["low_bins=1", "erb_bands=256"], "narrower than a bin"),
        (["low_bins=9", "erb_bands=120"], "narrower than a bin"),
    ],
)
def test_an_impossible_network_dies_in_one_sentence(settings: list[str], words: str) -> None:
    with pytest.raises(Failure) as caught:
        sizes.parse(settings)
    message = str(caught.value)
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize("line", VARIANTS)
def test_every_engine_runs_it(line: str) -> None:
    """The passes keep the network; ONNX, TFLite and native files are the float model."""
    config = sizes.parse_line(line)
    network = gtcrn(initial_params(1, config), config)
    graph = streaming_graph(network)
    frames = np.random.default_rng(0).standard_normal((24, 257, 2)).astype(np.float32)
    wanted = through(FloatModel(network), frames)
    for emit, opened in ENGINES.values():
        model = emit(graph)
        engine = opened(model.data, ModelEntry(file="x", states=model.states, golden_snr_floor_db=0), "fp32", 1)
        assert snr_db(wanted, stream(engine, frames)) >= FP32_FLOOR_DB, emit.__name__


def through(model: FloatModel, frames: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        y, _ = model(torch.from_numpy(frames).permute(2, 0, 1)[None].contiguous())
    return np.ascontiguousarray(y[0].permute(1, 2, 0).numpy())


@pytest.mark.parametrize("line", ["channels=12,dpgrnn=1", "channels=20,kernel=3"])
def test_8_bits_in_native_are_the_integer_reference(line: str, calibration: CalibrationSet) -> None:
    config = sizes.parse_line(line)
    graph = streaming_graph(gtcrn(initial_params(1, config), config))
    few = CalibrationSet(calibration.clips[:1], calibration.mix, "0" * 64, "0" * 64)
    quantized = quantize.quantize(graph, recipe.load("static"), few, "0" * 64)
    frames = np.random.default_rng(0).standard_normal((24, 257, 2)).astype(np.float32)
    reference = Reference(*with_fewer_roundings(quantized.graph, quantized.plan))
    wanted = np.stack([reference.step(frame) for frame in frames]).astype(np.float32)
    model = emit_native(quantized.graph, quantized.plan)
    engine = open_native(model.data, ModelEntry(file="x", states=(), golden_snr_floor_db=0), "int8", 1)
    np.testing.assert_array_equal(stream(engine, frames), wanted)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (Config(channels=64, dilations=(64,)), None),
        (Config(channels=68), "dpgrnn1.intra_rnn has 68 channels, it takes 64"),
        (Config(dilations=(65,)), "a dilation of 65 frames, it takes 64"),
        (Config(dilations=(64, 63, 61, 59, 53, 47)), "come round together after 72294638976 frames"),
        (Config(channels=64, n_dpgrnn=8, dilations=(64, 64, 64, 64)), None),
        (Config(channels=64, n_dpgrnn=20), "products a frame, it takes 16,777,216"),
        (Config(channels=64, dilations=(64,) * 16), "bytes of states, it takes 31,457,280"),
    ],
)
def test_what_the_native_engine_cannot_run_is_refused_before_it_is_written(config: Config, words: str | None) -> None:
    graph = streaming_graph(blank(config))
    if words is None:
        open_native(emit_native(graph).data, ModelEntry(file="x", states=(), golden_snr_floor_db=0), "fp32", 1)
        return
    with pytest.raises(Failure, match="too much for the native engine") as caught:
        emit_native(graph)
    assert words in str(caught.value)


# --- checkpoints ------------------------------------------------------------------------------------------------


def saved(path: Path, config: Config, **beside: object) -> Path:
    weights = {name: torch.tensor(values) for name, values in initial_params(0, config).items()}
    torch.save({"model": weights, **beside}, path)
    return path


@pytest.mark.parametrize("line", [v for v in VARIANTS if "dilations" not in v])
def test_a_checkpoint_tells_its_network_by_its_shapes(line: str, tmp_path: Path) -> None:
    config = sizes.parse_line(line)
    assert checkpoint.load(saved(tmp_path / "m.tar", config)).config == config


def test_dilations_are_stored_for_shapes_do_not_tell_them(tmp_path: Path) -> None:
    config = Config(dilations=(1, 3, 9, 27), channels=8)
    found = checkpoint.load(saved(tmp_path / "m.tar", config, variant=sizes.to_dict(config)))
    assert found.config == config
    with pytest.raises(Failure, match="not a GTCRN checkpoint"):
        checkpoint.load(saved(tmp_path / "n.tar", config))


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        ("channels=12", "names no sizes"),
        ({"channels": 12}, "names no sizes"),
        (
            sizes.to_dict(Config()) | {"channels": 12.5},
            r"m\.tar: no such network: .* got `float` - at `\$\.channels`",
        ),
        (sizes.to_dict(Config()) | {"dilations": 5}, "Expected `array`, got `int`"),
        (sizes.to_dict(Config()) | {"dilations": None}, "Expected `array`, got `null`"),
        (sizes.to_dict(Config()) | {"channels": 14}, "no such network"),
        (sizes.to_dict(Config(channels=12)), "misshaped"),
    ],
)
def test_stored_sizes_that_are_wrong_fail_in_one_line(stored: object, words: str, tmp_path: Path) -> None:
    with pytest.raises(Failure, match=words):
        checkpoint.load(saved(tmp_path / "m.tar", Config(), variant=stored))


def test_a_variant_is_counted_by_its_own_shapes(tmp_path: Path) -> None:
    config = Config(channels=12, n_dpgrnn=1)
    found = source.open_source(saved(tmp_path / "m.tar", config), None)
    assert {n: a.shape for n, a in found.network.params.items()} == param_shapes(config)
    assert [r.macs for r in counts.published(found.network)] == [r.macs for r in counts.published(blank(config))]


def test_recipes_that_name_other_layers_are_refused(tmp_path: Path) -> None:
    config = Config(dilations=(1, 2))
    path = saved(tmp_path / "m.tar", config, variant=sizes.to_dict(config))
    with pytest.raises(Failure, match="static: names the layers of 3 GT-conv blocks, this has 2"):
        source.open_source(path, "static")


def test_other_sizes_need_other_weights(tmp_path: Path, official: checkpoint.Checkpoint) -> None:
    with pytest.raises(Failure, match="give --from-scratch with --set"):
        train(Job(tmp_path / "run", config=Config(channels=12)), lambda message: None)


def test_the_published_matrices_are_the_default() -> None:
    assert merging_matrix(65, 64).shape == (64, 192)
    assert trained.load(trained.embedded()).config == Config()
