"""Which networks there are, by name; the first is taken where none is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from edge_runtime.errors import Failure
from quant.network import gtcrn, ulunas
from quant.network.family import Network, Sizes
from quant.network.graph import Graph

DEFAULT: Final = gtcrn.NETWORK
NETWORKS: Final[Mapping[str, Network]] = {network.name: network for network in (DEFAULT, ulunas.NETWORK)}
TITLES: Final = " or ".join(network.title for network in NETWORKS.values())


def load(name: str | None) -> Network:
    """The network of that name. Failure: there is none."""
    if name is None:
        return DEFAULT
    if name not in NETWORKS:
        raise Failure(f"unknown network {name!r}", remedy=f"choose one of: {', '.join(NETWORKS)}; see `quant networks`")
    return NETWORKS[name]


def of_config(config: Sizes) -> Network:
    """The network whose sizes these are."""
    return next(network for network in NETWORKS.values() if isinstance(config, network.config))


def title(graph: Graph) -> str:
    """What a graph is called in the files made of it."""
    return NETWORKS[graph.network].title if graph.network in NETWORKS else "network"


def built_folder(target: str, network: str | None) -> Path:
    """Where an artifact goes unless the user says: build/BOARD, of another network than the first BOARD-NETWORK."""
    named = [] if network is None or network == DEFAULT.name else [network]
    return Path("build") / "-".join((Path(target).stem, *named))
