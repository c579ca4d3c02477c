"""Scale migration: the same function in float, and every 8-bit channel brought to a peak of one."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import torch

from edge_runtime.stft import Float32Array
from quant.int8.recipe import Recipe, Rule, load
from quant.network.float_model import FloatModel
from quant.network.graph import Graph, Node
from quant.ptq.migration import ABSORBS_INPUT, FREE_OUTPUT, LARGEST, choose_factors, migrate_scales
from quant.ptq.quantize import migrated_values

# The ladder's bound for a rewrite, of the largest value; 1e-6 was measured over 300 draws of peaks.
BOUND = 1e-5
SEEDS = pytest.mark.parametrize("seed", range(6))


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def frames(spectra: Float32Array) -> torch.Tensor:
    """(1, 2, 40, 257) of the mixture."""
    return torch.from_numpy(spectra[60:100]).permute(2, 0, 1)[None].contiguous()


@cache
def static() -> Recipe:
    return load("static")


def random_peaks(graph: Graph, seed: int, decades: float) -> dict[str, Float32Array]:
    """Positive peaks of every 8-bit value, spread over `decades` on both sides of one."""
    rng = np.random.default_rng(seed)
    return {
        name: (10 ** rng.uniform(-decades, decades, graph.shapes[name].channels)).astype(np.float32)
        for name in migrated_values(graph, static())
    }


def channel_peaks(graph: Graph, frames: torch.Tensor) -> dict[str, Float32Array]:
    """(channels,) largest magnitude of every value of the float model."""
    peaks: dict[str, Float32Array] = {}

    def tap(name: str, value: torch.Tensor) -> torch.Tensor:
        if name in graph.shapes and value.dim() == 4:
            peaks[name] = value.abs().amax((0, 2, 3)).numpy()
        return value

    FloatModel(graph)(frames, tap=tap)
    return peaks


def error(before: Graph, after: Graph, frames: torch.Tensor) -> float:
    wanted, found = FloatModel(before)(frames)[0], FloatModel(after)(frames)[0]
    return float((wanted - found).abs().max() / wanted.abs().max())


@SEEDS
@pytest.mark.parametrize("decades", [0.1, 1, 3])
def test_the_float_output_stays(graph: Graph, frames: torch.Tensor, seed: int, decades: float) -> None:
    migrated = migrate_scales(graph, random_peaks(graph, seed, decades))
    assert error(graph, migrated, frames) <= BOUND


def free(graph: Graph) -> list[str]:
    """8-bit values whose channels may be rescaled: LayerNorm and the mask's tanh need their input as it is."""
    fixed = {node.inputs[0] for node in graph.nodes if node.kind == "layer_norm"}
    fixed |= {node.name for node in graph.nodes if node.name.startswith("decoder.de_convs.4.")}
    return [name for name in migrated_values(graph, static()) if name not in fixed]


def test_every_8_bit_channel_peaks_at_one(graph: Graph, frames: torch.Tensor) -> None:
    before = channel_peaks(graph, frames)
    after = channel_peaks(migrate_scales(graph, {name: before[name] for name in free(graph)}), frames)
    for name in free(graph):
        # What a skip ties to a louder value stays below one: 0.19 for the first convolution.
        assert 0.1 <= after[name].max() <= 1 + BOUND, name


def test_migration_evens_the_channels(graph: Graph, frames: torch.Tensor) -> None:
    """Before, the loudest channel of a tensor drowns the quietest; channels tied by skips cannot all reach one."""
    values = free(graph)
    before = channel_peaks(graph, frames)
    after = channel_peaks(migrate_scales(graph, {name: before[name] for name in values}), frames)

    def spread(peaks: dict[str, Float32Array]) -> float:
        return float(np.median([peaks[name].max() / np.median(peaks[name]) for name in values]))

    assert spread(after) < 1.5 < spread(before)


def test_no_peaks_change_nothing(graph: Graph) -> None:
    migrated = migrate_scales(graph, {})
    for name, values in graph.params.items():
        np.testing.assert_array_equal(migrated.params[name], values, err_msg=name)


def test_peaks_of_one_change_nothing(graph: Graph) -> None:
    peaks = {name: np.ones_like(p) for name, p in random_peaks(graph, 0, 1).items()}
    migrated = migrate_scales(graph, peaks)
    for name, values in graph.params.items():
        np.testing.assert_array_equal(migrated.params[name], values, err_msg=name)


def test_what_it_is_given_stays(graph: Graph) -> None:
    before = {name: values.copy() for name, values in graph.params.items()}
    migrate_scales(graph, random_peaks(graph, 1, 1))
    for name, values in graph.params.items():
        np.testing.assert_array_equal(values, before[name], err_msg=name)


def test_a_dead_channel_stays_finite(graph: Graph, frames: torch.Tensor) -> None:
    conv = graph.node("encoder.en_convs.2.point_bn1")
    params = {name: values.copy() for name, values in graph.params.items()}
    for role in ("weight", "bias"):
        params[conv.param(role)][5] = 0
    dead = graph.rewritten(list(graph.nodes), params=params)
    peaks = {name: p for name, p in channel_peaks(dead, frames).items() if name in migrated_values(dead, static())}
    assert peaks[conv.name][5] == 0
    migrated = migrate_scales(dead, peaks)
    assert choose_factors(dead, peaks)[conv.name][5] == LARGEST
    assert all(np.isfinite(values).all() for values in migrated.params.values())
    assert error(dead, migrated, frames) <= BOUND


# --- the factors ------------------------------------------------------------------------------------------------


def agreement(node: Node, factors: dict[str, Float32Array]) -> list[tuple[Float32Array, Float32Array]]:
    """Pairs of factors that must be equal for the node to keep its function."""
    out, ins = factors[node.name], [factors[name] for name in node.inputs]
    one = np.ones_like
    if node.kind in ("leaky_relu", "quantize"):
        return [(out, ins[0])]
    if node.kind == "edge_bands":  # its weight takes the second input as it comes
        return [(out, ins[0])]
    if node.kind == "slice":
        return [(out, ins[0][node.attrs["start"] : node.attrs["stop"]])]
    if node.kind == "add":
        return [(out, ins[0]), (out, ins[1])]
    if node.kind == "gate":
        return [(out, ins[0]), (ins[1], one(ins[1]))]
    if node.kind == "shuffle":
        return [(out[0::2], ins[0]), (out[1::2], ins[1])]
    if node.kind == "interleave":
        phases = ins[0].reshape(node.attrs["groups"], 2, -1)
        return [(out, phases[:, 0].ravel()), (out, phases[:, 1].ravel())]
    if node.kind == "mean_square":
        return [(out, ins[0] ** 2)]
    made = [] if node.kind in FREE_OUTPUT else [(out, one(out))]
    read = [] if node.kind in ABSORBS_INPUT else [(x, one(x)) for x in ins]
    return made + read


@SEEDS
def test_factors_agree_wherever_a_node_cannot_change_them(graph: Graph, seed: int) -> None:
    factors = choose_factors(graph, random_peaks(graph, seed, 2))
    for name, values in factors.items():
        assert np.isfinite(values).all(), name
        assert (values > 0).all(), name
    for node in graph.nodes:
        for one, other in agreement(node, factors):
            np.testing.assert_array_equal(one, other, err_msg=node.name)


@SEEDS
def test_the_loudest_of_each_class_reaches_one(graph: Graph, seed: int) -> None:
    peaks = random_peaks(graph, seed, 2)
    factors = choose_factors(graph, peaks)
    reached = {name: peaks[name] * factors[name] for name in free(graph)}
    assert max(values.max() for values in reached.values()) <= 1 + 1e-6
    # A convolution and its LeakyReLU are tied to each other and to nothing else.
    pair = ("encoder.en_convs.2.point_bn1", "encoder.en_convs.2.point_act")
    np.testing.assert_allclose(np.maximum(*(reached[name] for name in pair)), 1, rtol=1e-6)


def test_only_8_bit_values_are_rescaled(graph: Graph) -> None:
    """A recipe with less in 8 bits asks for fewer peaks."""
    grus = Recipe("grus alone", (Rule("dpgrnn*", "int8", "test", ("gru", "bigru")),))
    assert set(migrated_values(graph, grus)) < set(migrated_values(graph, static()))
