"""Rewrites keep the function: each pass alone and in order, on the official weights and on random ones of every
network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_networks import NETWORKS, PUBLISHED, random_network

from edge_runtime.errors import Failure
from quant.inputs.checkpoint import Checkpoint
from quant.network.float_model import FloatModel
from quant.network.graph import KINDS, Graph, Node, Shape
from quant.network.gtcrn import gtcrn
from quant.network.passes import PASSES, fold_batch_norm, streaming_graph

# The ladder's bound for a pass, of the largest value; 1e-6 was measured over 360 random networks.
BOUND = 1e-5
PASS_NAMES = [p.__name__ for p in PASSES]
REMOVED = {"conv_transpose", "linear", "batch_norm", "prelu", "affine_prelu", "mean_square_channels", "neighbours"}
LAWS = settings(max_examples=8, deadline=None)


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


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
    graphs = steps(random_network(name, seed))
    for rewrite, before, after in zip(PASS_NAMES, graphs[:-1], graphs[1:], strict=True):
        assert error(before, after) <= BOUND, rewrite


def test_all_passes_together_keep_the_official_network(official: Checkpoint, graph: Graph) -> None:
    assert error(gtcrn(official.params), graph) <= BOUND


@pytest.mark.parametrize("index", range(len(PASSES)), ids=PASS_NAMES)
def test_every_pass_does_something_to_some_network(index: int) -> None:
    graphs = [steps(random_network(name)) for name in PUBLISHED]
    assert any(one[index].nodes != one[index + 1].nodes for one in graphs)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_streaming_graph_has_few_kinds_and_the_same_states(name: str) -> None:
    network = random_network(name)
    graph = streaming_graph(network)
    kinds = Counter(node.kind for node in graph.nodes)
    assert not REMOVED & set(kinds)
    assert len(kinds) <= 20
    assert graph.states == network.states


def test_every_kind_is_made_by_some_network() -> None:
    kinds = {node.kind for name in PUBLISHED for graph in steps(random_network(name)) for node in graph.nodes}
    assert kinds | {"quantize"} == set(KINDS)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_value_has_its_declared_shape(name: str) -> None:
    graph = streaming_graph(random_network(name))
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
    graph = streaming_graph(random_network(name))
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


def test_weights_that_a_batch_norm_makes_infinite_are_one_line(official: Checkpoint) -> None:
    gain = {"encoder.en_convs.0.bn.weight": np.full(16, 3e38, np.float32)}
    with pytest.raises(Failure, match=r"en_convs.0.bn: its BatchNorm makes weights beyond all floats; this checkpoint"):
        streaming_graph(gtcrn({**official.params, **gain}))
