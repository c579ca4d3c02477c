"""Networks with random weights: what tests run where no official weights may be needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from edge_runtime.stft import Float32Array
from quant.network import gtcrn, ulunas
from quant.network.builder import N_BINS
from quant.network.erb import merging_matrix
from quant.network.graph import Graph
from quant.network.ulunas import Block

SMALL_ULUNAS = (
    Block("conv", 8, (2, 5), 2, 1),
    Block("mb", 8, (3, 3), 2, 1),
    Block("dws", 4, (3, 3)),
    Block("mb", 4, (1, 3)),
)


@dataclass(frozen=True)
class Network:
    """A network of some sizes: its graph with parameters, and their shapes."""

    graph: Callable[[Mapping[str, Float32Array]], Graph]
    shapes: dict[str, tuple[int, ...]]


def of_gtcrn(**sizes: Any) -> Network:
    """GTCRN of these sizes."""
    config = gtcrn.Config(**sizes)
    return Network(partial(gtcrn.gtcrn, config=config), gtcrn.param_shapes(config))


def of_ulunas(**sizes: Any) -> Network:
    """UL-UNAS of these sizes."""
    config = ulunas.Config(**sizes)
    return Network(partial(ulunas.NETWORK.build, config=config), ulunas.NETWORK.param_shapes(config))


NETWORKS = {
    "gtcrn": of_gtcrn(),
    "gtcrn, one block": of_gtcrn(channels=8, dilations=(3,), n_dpgrnn=1),
    "gtcrn, wide": of_gtcrn(channels=32, dilations=(1, 2), n_low_bins=33),
    "ul-unas": of_ulunas(),
    "ul-unas, small": of_ulunas(blocks=SMALL_ULUNAS, n_low_bins=33, n_dpgrnn=1, groups=1),
}
PUBLISHED = ("gtcrn", "ul-unas")


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


def random_network(name: str, seed: int = 0) -> Graph:
    """The network of that name before any pass, its ERB matrices the true ones."""
    network = NETWORKS[name]
    n_bands, n_bins = network.shapes["erb.erb_fc.weight"]
    merging = merging_matrix(N_BINS - n_bins, n_bands)
    fixed = {"erb.erb_fc.weight": merging, "erb.ierb_fc.weight": merging.T}
    return network.graph(random_params(seed, network.shapes) | fixed)


def with_erb_bands(graph: Graph) -> Graph:
    """The same with the matrices of the ERB scale, which are nearly empty."""
    (merge,) = (node for node in graph.nodes if node.kind == "merge_bands")
    (split,) = (node for node in graph.nodes if node.kind == "split_bands")
    merging = merging_matrix(merge.attrs["n_low"], len(graph.params[merge.param("weight")]))
    return replace(graph, params={**graph.params, merge.param("weight"): merging, split.param("weight"): merging.T})
