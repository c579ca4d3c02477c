"""The streaming graph: what the network does to one frame.

A value is a (channels, bands) array named after the layer that makes it; the same name is its tap.
A node makes exactly one value, so node and value share one name. Memory is explicit: a node that looks
back in time declares a State, whose shape is derived from its kernel, dilation or hidden size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from edge_runtime.stft import SQRT_HANN, Float32Array, WindowName


class Shape(NamedTuple):
    """The shape of a value in one frame."""

    channels: int
    bands: int


class State(NamedTuple):
    """What a node carries to the next frame: (frames, bands, channels), all zero at the start of a stream."""

    name: str
    frames: int
    bands: int
    channels: int


FLOOR = -12.0  # of log_magnitude, where its node says no other: log10 of the least magnitude that is told from nothing
MOST_BLOCKS = 64  # of a kind, in a network that a file describes: ten times the published ones

# kind -> the parameters it reads, by role (order matters only for printing)
KINDS: dict[str, tuple[str, ...]] = {
    "features": (),  # spectrum (re, im) -> (magnitude, re, im)
    "log_magnitude": (),  # spectrum (re, im) -> log10 of its magnitude; attribute `floor`: its least (FLOOR)
    "merge_bands": ("weight",),  # 257 bins -> 129 ERB bands: low bins copied, high bins @ weight.T
    "neighbours": (),  # each channel beside its left and right neighbour band (SFE); removed by passes
    "conv": ("weight", "bias"),  # (out, in/groups, time, band)
    "edge_bands": ("weight",),  # weight[0] @ second input's first band added to the first band, weight[1] to the last
    "conv_transpose": ("weight", "bias"),  # (in, out/groups, time, band); removed by passes
    "linear": ("weight", "bias"),  # over channels, per band; removed by passes
    "batch_norm": ("weight", "bias", "running_mean", "running_var"),  # removed by passes
    "prelu": ("weight",),  # one slope; removed by passes
    "affine_prelu": (
        "affine_weight",
        "affine_bias",
        "slope_weight",
    ),  # (channels, bands) twice, (channels,); removed by passes
    "affine_relu": ("weight", "bias", "rise"),  # weight x + bias + rise max(x, 0): (channels, bands) twice, (channels,)
    "leaky_relu": (),
    "slice": (),  # channels start:stop
    "shuffle": (),  # two values, channels interleaved
    "mean_square": (),  # over bands
    "mean_square_channels": (),  # over channels; rewritten by passes
    "band_energy": ("weight",),  # squares, weighted sum over channels: (channels,)
    "stack_bands": (),  # each n neighbouring bands of one channel -> n channels of one band; zeros behind the last
    "unstack_bands": (),  # the other way, cut
    "gru": ("weight_ih", "weight_hh", "bias_ih", "bias_hh"),  # over time, one state a band
    "bigru": ("weight_ih", "weight_hh", "bias_ih", "bias_hh"),  # over bands, both directions, no state
    "sigmoid": (),
    "tanh": (),
    "gate": (),  # value * per-channel gate
    "band_gate": (),  # value * per-band gate
    "layer_norm": ("weight", "bias"),  # over channels and bands together
    "add": (),
    "interleave": (),  # (groups, 2 phases, channels) -> channels, bands doubled and cut
    "split_bands": ("weight",),  # 129 ERB bands -> 257 bins
    "mask": (),  # complex product with the spectrum
    "real_mask": (),  # the spectrum times a real number a bin
    "quantize": (),  # float -> int8 at the entrance of an int8 node; identity in float
}


@dataclass(frozen=True)
class Node:
    """One operation. `params` maps a role (`KINDS`) to names in `Graph.params`, one for each group of a GRU."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    params: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)
    state: State | None = None

    def param(self, role: str) -> str:
        """The single parameter of that role."""
        (name,) = self.params[role]
        return name


@dataclass(frozen=True)
class Graph:
    """Nodes in execution order, the shape of every value, the parameters by name, and what `network.registry` knows:
    the window of its spectra, and which network it is."""

    inputs: Mapping[str, Shape]
    nodes: tuple[Node, ...]
    shapes: Mapping[str, Shape]
    params: Mapping[str, Float32Array]
    output: str
    window: WindowName = SQRT_HANN
    network: str = ""

    def __post_init__(self) -> None:
        """Every input is made earlier, every kind is known, every parameter is there, no name is used twice."""
        made = set(self.inputs)
        for node in self.nodes:
            if node.kind not in KINDS:
                raise ValueError(f"{node.name}: unknown kind {node.kind!r}")
            if missing := [i for i in node.inputs if i not in made]:
                raise ValueError(f"{node.name}: reads {missing[0]} before it is made")
            if node.name in made:
                raise ValueError(f"{node.name}: made twice")
            if absent := [p for names in node.params.values() for p in names if p not in self.params]:
                raise ValueError(f"{node.name}: no parameter {absent[0]}")
            made.add(node.name)
        if self.output not in made:
            raise ValueError(f"output {self.output} is never made")

    @property
    def states(self) -> tuple[State, ...]:
        """Every state, in execution order."""
        return tuple(n.state for n in self.nodes if n.state is not None)

    def node(self, name: str) -> Node:
        """The node that makes `name`."""
        return next(n for n in self.nodes if n.name == name)

    def consumers(self, name: str) -> list[Node]:
        """The nodes that read `name`."""
        return [n for n in self.nodes if name in n.inputs]

    def arrays(self, node: Node) -> dict[str, Float32Array]:
        """The parameters of a node by role; a role with several groups is left out (see `groups`)."""
        return {role: self.params[names[0]] for role, names in node.params.items() if len(names) == 1}

    def rewritten(
        self,
        nodes: Iterable[Node],
        shapes: Mapping[str, Shape] | None = None,
        params: Mapping[str, Float32Array] | None = None,
    ) -> Graph:
        """A checked copy with other nodes; unused parameters and shapes are dropped."""
        kept = tuple(nodes)
        params = self.params if params is None else params
        shapes = self.shapes if shapes is None else shapes
        used = {p for n in kept for names in n.params.values() for p in names}
        live = {n.name for n in kept} | set(self.inputs)
        return replace(
            self,
            nodes=kept,
            params={k: v for k, v in params.items() if k in used},
            shapes={k: v for k, v in shapes.items() if k in live},
        )
