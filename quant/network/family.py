"""What a network is to the rooms above: a family of graphs by sizes, and the data in which families differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from edge_runtime.stft import Float32Array, WindowName
from quant.network.erb import merging_matrix
from quant.network.graph import Graph, Node

if TYPE_CHECKING:  # it brings NumPy
    from quant.network.builder import Builder

Shapes = Mapping[str, tuple[int, ...]]
ERB, ERB_BACK = "erb.erb_fc.weight", "erb.ierb_fc.weight"  # of every network here; computed, not learned


class Sizes(Protocol):
    """What the sizes of every network have, each a frozen dataclass whose defaults are the published network."""

    @property
    def n_low_bins(self) -> int:
        """Bins that are bands as they are."""

    @property
    def n_high_bands(self) -> int:
        """Bands that the other bins are merged into."""


class Setting(NamedTuple):
    """What `--set NAME=VALUE` changes: how the value is written, and where it stands in the sizes."""

    kind: Literal["number", "numbers", "words", "kernels"]  # 16   1,2,5   conv,mb   3x3,2x3
    of: Callable[[Any], Any]


class Cache(NamedTuple):
    """An input of the official streaming export that holds states, and which: `sides` lie in it one after another."""

    name: str
    sides: Callable[[Graph], tuple[tuple[Node, ...], ...]]
    layout: Literal["flat", "convolutions", "recurrent"]


@dataclass(frozen=True, kw_only=True)
class Paper:
    """Where a network was published, and its counts there, as its authors count (None: not stated)."""

    citation: str
    url: str
    n_parameters: int | None
    mmacs_per_s: float | None


@dataclass(frozen=True, kw_only=True)
class Network:
    """A family of networks. `config`: the class of its sizes; functions take them as its instance.

    `layers`: its nodes. `window`: what the published weights were trained through. `embedded`: the file of its
    trained default beside `quant.inputs`; `trained_on`: whose sounds are in that. `pulled`: `quant pull` fetches its
    official weights; `weights_at`: where they are. `of_shapes` and `n_fft` read a checkpoint's shapes, None where
    they cannot tell. `n_named_blocks`: of the `blocks` whose number decides what the names of layers mean.
    `attentions`: what modules are called whose GRU, linear layer and gate stand and fall together.
    """

    name: str
    title: str
    config: type[Any]
    layers: Callable[[Any], Builder]
    of_shapes: Callable[[Shapes], Any]
    n_fft: Callable[[Shapes], int | None]
    n_named_blocks: Callable[[Any], int]
    blocks: str
    attentions: tuple[str, ...]
    settings: Mapping[str, Setting]
    sized: Callable[[Mapping[str, Any]], Any]
    window: WindowName
    recipe: str
    embedded: str
    trained_on: str
    pulled: bool
    weights_at: str
    caches: tuple[Cache, ...]
    paper: Paper
    copyright: str
    licence: str
    advice: str

    @property
    def published(self) -> Any:
        """The sizes of the published network."""
        return self.config()

    @property
    def names(self) -> frozenset[str]:
        """Every parameter of the published network."""
        return frozenset(self.param_shapes())

    def build(self, params: Mapping[str, Float32Array], config: Any = None, window: WindowName | None = None) -> Graph:
        """The streaming graph with a checkpoint's parameters (name -> array, see `quant.inputs.checkpoint.load`), that
        were trained on spectra through `window`; by default of the published sizes and window."""
        return self._layers(config).graph(params, window or self.window)

    def param_shapes(self, config: Any = None) -> dict[str, tuple[int, ...]]:
        """Name and shape of every parameter, in the order of the network; what a checkpoint must hold."""
        return self._layers(config).param_shapes()

    def _layers(self, config: Any) -> Builder:
        return self.layers(self.published if config is None else config)

    def fixed(self, config: Sizes) -> dict[str, Float32Array]:
        """Parameters that are computed, not learned."""
        merging = merging_matrix(config.n_low_bins, config.n_high_bands)
        return {ERB: merging, ERB_BACK: merging.T.copy()}

    def blank(self, config: Any = None) -> Graph:
        """The network without a checkpoint, every parameter one but the fixed ones: enough to count."""
        import numpy as np

        config = self.published if config is None else config
        ones = {name: np.ones(shape, np.float32) for name, shape in self.param_shapes(config).items()}
        return self.build(ones | self.fixed(config), config, self.window)

    def takes_inputs(self, names: Sequence[str]) -> bool:
        """Whether an ONNX model with these inputs is its official streaming export."""
        return {cache.name for cache in self.caches} <= set(names)


def n_numbered(shapes: Shapes, name: str, first: int) -> int:
    """How many parameters are called `name` with a number for its {}, from `first` on without a gap."""
    return next(n for n in range(len(shapes) + 1) if name.format(first + n) not in shapes)


def with_state(graph: Graph, kind: str, name_part: str = "") -> tuple[Node, ...]:
    """The nodes of a kind that carry a state, in execution order."""
    return tuple(n for n in graph.nodes if n.state is not None and n.kind == kind and name_part in n.name)
