"""Rewrites keep the function: each pass alone and in order, on the official weights and on random ones of every
network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.stft import Float32Array
from quant.inputs.checkpoint import Checkpoint
from quant.network import gtcrn as gtcrn_module
from quant.network import ulunas as ulunas_module
from quant.network.float_model import FloatModel
from quant.network.graph import KINDS, Graph, Node, Shape
from quant.network.gtcrn import gtcrn
from quant.network.passes import PASSES, fold_batch_norm, streaming_graph
from quant.network.ulunas import Block, ulunas

# The ladder's bound for a pass, of the largest value; 1e-6 was measured over 360 random networks.
BOUND = 1e-5
PASS_NAMES = [p.__name__ for p in PASSES]
REMOVED = {"conv_transpose", "linear", "batch_norm", "prelu", "affine_prelu", "neighbours"}
SMALL_ULUNAS = (
    Block("conv", 8, (2, 5), 2, 1),
    Block("mb", 8, (3, 3), 2, 1),
    Block("dws", 4, (3, 3)),
    Block("mb", 4, (1, 3)),
)
Params = Mapping[str, Float32Array]


@dataclass(frozen=True)
class Network:
    """A network of some sizes: its graph with parameters, and their shapes."""

    graph: Callable[[Params], Graph]
    shapes: dict[str, tuple[int, ...]]


def of_gtcrn(**sizes: Any) -> Network:
    config = gtcrn_module.Config(**sizes)
    return Network(partial(gtcrn, config=config), gtcrn_module.param_shapes(config))


def of_ulunas(**sizes: Any) -> Network:
    config = ulunas_module.Config(**sizes)
    return Network(partial(ulunas, config=config), ulunas_module.param_shapes(config))


NETWORKS = {
    "gtcrn": of_gtcrn(),
    "gtcrn, one block": of_gtcrn(channels=8, dilations=(3,), n_dpgrnn=1),
    "gtcrn, wide": of_gtcrn(channels=32, dilations=(1, 2), n_low_bins=33),
    "ul-unas": of_ulunas(),
    "ul-unas, small": of_ulunas(blocks=SMALL_ULUNAS, n_low_bins=33, n_dpgrnn=1, groups=1),
}
PUBLISHED = ("gtcrn", "ul-unas")
LAWS = settings(max_examples=8, deadline=None)


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def random_params(seed: int, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Float32Array]:
    """Normal weights at half the gain that keeps unit scale, positive variances, slopes of either sign.

    At the full gain a few networks in a hundred amplify float32's own rounding above the bound.
    """
    rng = np.random.default_rng(seed)
    params = {}
    for name, shape in shapes.items():
        fan_in = max(int(np.prod(shape[1:])), 1)
        values = 0.5 * rng.standard_normal(shape) / np.sqrt(fan_in)
        if name.endswith("running_var"):
            values = rng.uniform(0.25, 4, shape)
        params[name] = values.astype(np.float32)
    return params


def of_random(name: str, seed: int = 0) -> Graph:
    network = NETWORKS[name]
    return network.graph(random_params(seed, network.shapes))


@cache
def unit_frames(n_frames: int = 12) -> torch.Tensor:
    """(1, 2, n_frames, 257) of unit scale; more frames than the longest kernel reaches back."""
    return torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (1, 2, n_frames, 257)).astype(np.float32))


def output(graph: Graph) -> torch.Tensor:
    return FloatModel(graph)(unit_frames())[0]


def steps(graph: Graph) -> list[Graph]:
    """The graph before any pass, and after each."""
    graphs = [graph]
    for rewrite in PASSES:
        graphs.append(rewrite(graphs[-1]))
    return graphs


def error(before: Graph, after: Graph) -> float:
    wanted, found = output(before), output(after)
    return float((wanted - found).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("index", range(len(PASSES)), ids=PASS_NAMES)
def test_a_pass_keeps_the_official_network(index: int, official: Checkpoint) -> None:
    graphs = steps(gtcrn(official.params))
    assert error(graphs[index], graphs[index + 1]) <= BOUND


@given(seed=st.integers(0, 2**32 - 1), name=st.sampled_from(sorted(NETWORKS)))
@LAWS
def test_every_pass_keeps_any_network(seed: int, name: str) -> None:
    graphs = steps(of_random(name, seed))
    for rewrite, before, after in zip(PASS_NAMES, graphs[:-1], graphs[1:], strict=True):
        assert error(before, after) <= BOUND, rewrite


def test_all_passes_together_keep_the_official_network(official: Checkpoint, graph: Graph) -> None:
    assert error(gtcrn(official.params), graph) <= BOUND


@pytest.mark.parametrize("index", range(len(PASSES)), ids=PASS_NAMES)
def test_every_pass_does_something_to_some_network(index: int) -> None:
    graphs = [steps(of_random(name)) for name in PUBLISHED]
    assert any(one[index].nodes != one[index + 1].nodes for one in graphs)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_streaming_graph_has_few_kinds_and_the_same_states(name: str) -> None:
    network = of_random(name)
    graph = streaming_graph(network)
    kinds = Counter(node.kind for node in graph.nodes)
    assert not REMOVED & set(kinds)
    assert len(kinds) <= 20
    assert graph.states == network.states


def test_every_kind_is_made_by_some_network() -> None:
    kinds = {node.kind for name in PUBLISHED for graph in steps(of_random(name)) for node in graph.nodes}
    assert kinds | {"quantize"} == set(KINDS)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_value_has_its_declared_shape(name: str) -> None:
    graph = streaming_graph(of_random(name))
    seen: dict[str, Shape] = {}

    def tap(name: str, value: torch.Tensor) -> torch.Tensor:
        if value.dim() == 4 and name in graph.shapes:
            seen[name] = Shape(value.shape[1], value.shape[3])
        return value

    FloatModel(graph)(unit_frames(), tap=tap)
    assert {k: v for k, v in graph.shapes.items() if k in seen} == seen
    assert set(graph.shapes) == set(graph.inputs) | {node.name for node in graph.nodes}


@pytest.mark.parametrize("name", NETWORKS)
def test_no_parameter_is_left_over(name: str) -> None:
    graph = streaming_graph(of_random(name))
    read = {name for node in graph.nodes for names in node.params.values() for name in names}
    assert set(graph.params) == read


def test_passes_do_not_touch_what_they_are_given(official: Checkpoint) -> None:
    before = {name: values.copy() for name, values in official.params.items()}
    streaming_graph(gtcrn(official.params))
    for name, values in official.params.items():
        np.testing.assert_array_equal(values, before[name], err_msg=name)


# --- what a pass or a graph refuses -----------------------------------------------------------------------------


def relu(name: str, source: str) -> Node:
    return Node("leaky_relu", name, (source,), attrs={"slope": 0.1})


BROKEN: dict[str, tuple[list[Node], str, str]] = {
    "unknown kind": ([Node("wavelet", "a", ("x",))], "a", "a: unknown kind 'wavelet'"),
    "read too early": ([relu("a", "b"), relu("b", "x")], "b", "a: reads b before it is made"),
    "made twice": ([relu("a", "x"), relu("a", "x")], "a", "a: made twice"),
    "no parameter": ([Node("prelu", "a", ("x",), {"weight": ("w",)})], "a", "a: no parameter w"),
    "no output": ([relu("a", "x")], "z", "output z is never made"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_graph_is_refused(case: str) -> None:
    nodes, out, words = BROKEN[case]
    with pytest.raises(ValueError, match=words):
        Graph({"x": Shape(1, 1)}, tuple(nodes), dict.fromkeys(("x", "a", "b"), Shape(1, 1)), {}, out)


def test_batch_norm_must_follow_its_convolution(official: Checkpoint) -> None:
    written = gtcrn(official.params)
    conv, norm = (n for n in written.nodes if n.name in ("encoder.en_convs.0.conv", "encoder.en_convs.0.bn"))
    parted = [*(n for n in written.nodes if n not in (conv, norm))]
    at = next(i for i, n in enumerate(parted) if n.name == "encoder.en_convs.0.act")
    parted[at:at] = [conv, relu("between", "sfe"), norm]
    with pytest.raises(ValueError, match="does not follow its convolution"):
        fold_batch_norm(written.rewritten(parted, {**written.shapes, "between": written.shapes["sfe"]}))
