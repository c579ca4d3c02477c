"""One network of several: what is typed, what a file's names and shapes tell, and that nothing else has to know."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from edge_runtime.errors import Failure
from edge_runtime.stft import Float32Array
from quant.inputs import checkpoint, source
from quant.inputs.official_onnx import transposed
from quant.network import registry, sizes
from quant.network.family import Network
from quant.network.gtcrn import Config, gtcrn
from quant.network.passes import streaming_graph
from quant.network.ulunas import Block
from quant.network.ulunas import Config as Ulunas
from quant.training.runs import initial_params

SMALL = "ul-unas:blocks=conv,dws,channels=4,8,kernels=3x3,2x3,strides=2,2,groups=1,2,dpgrnn=1"
LINES = ("default", "channels=12,dpgrnn=1", "ul-unas", "ul-unas:dpgrnn=1", "ul-unas:channels=8,16,16,24,16", SMALL)
each_network = pytest.mark.parametrize("network", registry.NETWORKS.values(), ids=registry.NETWORKS)


def params_of(config: Any) -> dict[str, Float32Array]:
    """Random ones, no two numbers alike."""
    draw = np.random.default_rng(0)
    return {name: draw.random(v.shape, np.float32) + 0.1 for name, v in initial_params(1, config).items()}


def tensors(config: Any) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values) for name, values in params_of(config).items()}


# --- what is typed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", LINES)
def test_what_is_typed_is_described_again(line: str) -> None:
    config = sizes.parse_line(line)
    assert sizes.parse_line(sizes.describe(config)) == config
    assert sizes.from_dict(sizes.to_dict(config), "x", registry.of_config(config)) == config


@pytest.mark.parametrize(
    ("settings", "config"),
    [
        ([], Ulunas()),
        (["dpgrnn=1", "dpgrnn_groups=1"], Ulunas(n_dpgrnn=1, groups=1)),
        (
            ["blocks=conv,mb", "channels=8,16", "kernels=3x3,1x5", "strides=2,1", "groups=1,2"],
            Ulunas((Block("conv", 8, (3, 3), 2, 1), Block("mb", 16, (1, 5), 1, 2))),
        ),
    ],
)
def test_settings_change_the_published_network(settings: list[str], config: Ulunas) -> None:
    assert sizes.parse(settings, registry.load("ul-unas")) == config


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["kernel=3"], "no setting 'kernel' of the network; choose one of: blocks, channels"),
        (["channels=8"], "list as many as there are blocks"),
        (["channels=12,24,24,32,x"], "lists no whole numbers; write it as channels=12,24,24,32,16"),
        (["kernels=3,3,3,3,3"], "lists no kernels; write it as kernels=3x3,2x3"),
        (["dpgrnn=1,2"], "is no whole number; write it as dpgrnn=2"),
        (["blocks=conv,mb,dws,mb,lstm"], "block 4: no kind 'lstm': it is one of conv, dws, mb"),
        (["channels=12,24,24,31,16"], "block 3: 24 channels to 31 do not split into 2 groups"),
        (["strides=2,2,3,1,1"], "block 2: a stride of 3"),
        (["kernels=3x3,2x4,2x3,1x5,1x5"], "block 1: "),
        (["channels=12,24,24,32,18"], "18 channels of the last block do not split into 2 groups of two directions"),
        (["low_bins=250"], "do not fit into 257 bins"),
        (["dpgrnn=0"], "must be at least 1"),
    ],
)
def test_an_impossible_network_dies_in_one_sentence(settings: list[str], words: str) -> None:
    with pytest.raises(Failure) as caught:
        sizes.parse(settings, registry.load("ul-unas"))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_network_is_one_line() -> None:
    with pytest.raises(Failure, match="unknown network 'dtln'; choose one of: gtcrn, ul-unas"):
        registry.load("dtln")


# --- what a file tells --------------------------------------------------------------------------------------------


def state_dict(path: Path, weights: dict[str, torch.Tensor]) -> None:
    torch.save(weights, path)


def of_their_trainer(path: Path, weights: dict[str, torch.Tensor]) -> None:
    torch.save({"epoch": 9, "optimizer": {"lr": 1e-3}, "scheduler": {}, "model": weights}, path)


def compiled(path: Path, weights: dict[str, torch.Tensor]) -> None:
    torch.save({"ema": {f"module._orig_mod.{name}": value for name, value in weights.items()}}, path)


FORMS: tuple[Callable[[Path, dict[str, torch.Tensor]], None], ...] = (state_dict, of_their_trainer, compiled)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: str(form.__name__))
@pytest.mark.parametrize("line", LINES)
def test_names_and_shapes_tell_the_network_and_its_sizes(
    line: str, form: Callable[[Path, dict[str, torch.Tensor]], None], tmp_path: Path
) -> None:
    config = sizes.parse_line(line)
    form(tmp_path / "x.tar", tensors(config))
    found = checkpoint.load(tmp_path / "x.tar")
    assert (found.network, found.config) == (registry.of_config(config), config)
    assert found.graph().window == found.network.window


@each_network
def test_the_official_streaming_export_is_read_back(network: Network, tmp_path: Path) -> None:
    params = params_of(network.published)
    (tmp_path / "x.onnx").write_bytes(exported(network, params))
    found = checkpoint.load(tmp_path / "x.onnx")
    assert (found.network, found.config) == (network, network.published)
    folded = {n.param(role) for n in network.blank().nodes if n.kind == "batch_norm" for role in n.params}
    for name in params.keys() - folded:
        np.testing.assert_array_equal(found.params[name], params[name], err_msg=name)


def exported(network: Network, params: dict[str, Float32Array]) -> bytes:
    """As the official exporters leave a network: nodes in its order, most names lost, BatchNorm folded away."""
    graph, nodes, constants = network.blank(), list[Any](), dict[str, Float32Array]()

    def add(kind: str, *arrays: Float32Array, **attributes: Any) -> None:
        names = [f"onnx::{kind}_{len(constants) + i}" for i in range(len(arrays))]
        constants.update(zip(names, arrays, strict=True))
        nodes.append(helper.make_node(kind, ["x", *names], [f"y{len(nodes)}"], **attributes))

    for node in graph.nodes:
        p = {role: [params[name] for name in names] for role, names in node.params.items()}
        if node.kind == "conv":
            add("Conv", p["weight"][0], p["bias"][0], group=node.attrs["groups"])
        elif node.kind == "conv_transpose":  # a pointwise one is exported as a convolution
            weight, groups = p["weight"][0], node.attrs["groups"]
            pointwise = weight.shape[2:] == (1, 1)
            kind = "Conv" if pointwise else "ConvTranspose"
            add(kind, transposed_back(weight, groups) if pointwise else weight, p["bias"][0], group=groups)
        elif node.kind == "prelu":
            add("PRelu", p["weight"][0].reshape(1, 1, 1))
        elif node.kind == "affine_prelu":
            add("Mul", p["affine_weight"][0][None, :, None])
            add("Add", p["affine_bias"][0][None, :, None])
            add("Mul", p["slope_weight"][0][None, :, None, None])
        elif node.kind in ("linear", "merge_bands", "split_bands"):
            add("MatMul", np.ascontiguousarray(p["weight"][0].T))
        elif node.kind in ("gru", "bigru"):
            n_directions = 2 if node.kind == "bigru" else 1
            for first in range(0, len(p["weight_ih"]), n_directions):
                part = slice(first, first + n_directions)
                w, r = (np.stack([zrn(v) for v in p[role][part]]) for role in ("weight_ih", "weight_hh"))
                biases = zip(p["bias_ih"][part], p["bias_hh"][part], strict=True)
                add("GRU", w, r, np.stack([np.concatenate([zrn(ih), zrn(hh)]) for ih, hh in biases]))
    kept = {name: params[name] for name in params if name.endswith(("fc.bias", "_ln.weight", "_ln.bias"))}
    initializers = [numpy_helper.from_array(values, name) for name, values in (constants | kept).items()]
    ports = ["mix", *(cache.name for cache in network.caches)]
    inputs = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in ports]
    made = helper.make_graph(nodes, "torch_jit", inputs, inputs[:0], initializers)
    return bytes(helper.make_model(made, producer_name="pytorch").SerializeToString())


def zrn(values: Float32Array) -> Float32Array:
    r, z, n = np.split(values, 3)
    return np.concatenate([z, r, n])


def transposed_back(weight: Float32Array, groups: int) -> Float32Array:
    """(in, out / groups, 1, 1) -> (out, in / groups, 1, 1)."""
    n_in, n_out = weight.shape[0] // groups, weight.shape[1]
    parts = weight.reshape(groups, n_in, n_out, 1, 1).swapaxes(1, 2)
    found = np.ascontiguousarray(parts.reshape(groups * n_out, n_in, 1, 1))
    np.testing.assert_array_equal(transposed(found, groups), weight)
    return found


@pytest.mark.parametrize("asked", registry.NETWORKS)
@each_network
def test_a_checkpoint_of_another_network_than_asked_is_refused(network: Network, asked: str, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    state_dict(path, tensors(network.published))
    if asked == network.name:
        assert source.open_source(path, None, network=asked).family is network
        return
    with pytest.raises(Failure, match=f"is {network.title}, not {asked}; leave --network out"):
        source.open_source(path, None, network=asked)


def test_weights_of_another_n_fft_are_refused(tmp_path: Path) -> None:
    weights = tensors(Ulunas())
    weights |= {"erb.erb_fc.weight": torch.ones(64, 448), "erb.ierb_fc.weight": torch.ones(448, 64)}
    state_dict(tmp_path / "x.tar", weights)
    with pytest.raises(Failure, match=r"was trained on windows of 1024 samples \(n_fft\)"):
        checkpoint.load(tmp_path / "x.tar")


# --- where one is named alone -------------------------------------------------------------------------------------


def test_weights_that_nobody_pulls_are_asked_for() -> None:
    with pytest.raises(Failure, match="no weights of UL-UNAS are pulled; name a checkpoint with --checkpoint: https"):
        source.open_source(None, "static", network="ul-unas")


@each_network
def test_a_graph_tells_its_network_through_every_pass(network: Network) -> None:
    assert registry.title(streaming_graph(network.blank())) == network.title


def test_the_first_network_is_the_one_that_was_the_only_one() -> None:
    assert registry.load(None).name == "gtcrn"
    assert gtcrn(params_of(Config())).window == "sqrt_hann"
