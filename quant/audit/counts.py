"""Parameters, multiply-accumulates (MACs) and bytes, layer by layer, derived from a graph and never typed in.

    count(streaming)           executed: one row a node of the streaming graph, MACs of one frame
    published(network)         as published: ptflops 0.7 on the network before any pass, MACs of 63 frames
    published_by_layer(...)    the published rows under the streaming node that does their work today

A MAC is one multiplication, with or without the addition behind it; docs/design/counting.md has both conventions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from edge_runtime.stft import HOP_SAMPLES, SAMPLE_RATE_HZ, Float32Array
from quant.audit.findings import LayerCount, PublishedCount, Totals
from quant.network.graph import Graph, Node

FRAMES_PER_S = SAMPLE_RATE_HZ / HOP_SAMPLES
MMAC = 1e6
PUBLISHED_FRAMES = 1 + SAMPLE_RATE_HZ // HOP_SAMPLES  # the frames of one second of a centred STFT

FIXED_KINDS = frozenset({"merge_bands", "split_bands"})  # matrices of the ERB scale, not trained
BUFFER_ROLES = frozenset({"running_mean", "running_var"})  # measured in training, but no parameters
GRU_MATRICES = ("weight_ih", "weight_hh")

FLOAT_BYTES = 4
INT8_BYTES = 1
SCALE_BYTES = 4  # float32, one an output channel
INT8_BIAS_BYTES = 4  # int32


def mmacs_per_s(macs_frame: int) -> float:
    """MACs of one frame -> million MACs a second of audio."""
    return macs_frame * FRAMES_PER_S / MMAC


# --- executed -----------------------------------------------------------------------------------------------


def count(graph: Graph, precision: Mapping[str, str] | None = None) -> tuple[LayerCount, ...]:
    """One row a node of a streaming graph, in execution order.

    `precision` maps node -> "int8", "mixed" (a GRU with int8 products and a float state) or "float", as
    `quant.int8.plan.prepare` gives it with its graph; a node it
    does not name is float. Raises ValueError for a graph before the passes and for names of another graph.
    """
    precision = precision or {}
    if stray := sorted(set(precision) - set(graph.shapes)):
        raise ValueError(f"{stray[0]} is not in the graph; count the graph that came with the precisions")
    alive = _alive_bytes(graph, precision)
    return tuple(_count_node(graph, node, precision, alive[node.name]) for node in graph.nodes)


def totals(layers: tuple[LayerCount, ...]) -> Totals:
    """Sum the rows of `count`."""
    macs = sum(layer.macs_frame for layer in layers)
    int8_macs = sum(layer.macs_frame for layer in layers if layer.precision != "float")
    weights, states = sum(layer.weight_bytes for layer in layers), sum(layer.state_bytes for layer in layers)
    peak = max(layer.activation_bytes for layer in layers)
    return Totals(
        n_parameters=sum(layer.n_stored for layer in layers),
        macs_frame=macs,
        nonzero_macs_frame=sum(layer.nonzero_macs_frame for layer in layers),
        int8_macs_frame=int8_macs,
        weight_bytes=weights,
        state_bytes=states,
        peak_activation_bytes=peak,
        mmacs_per_s=mmacs_per_s(macs),
        int8_share=int8_macs / max(macs, 1),
        ram_bytes=weights + states + peak,
        frames_per_s=FRAMES_PER_S,
    )


def _count_node(graph: Graph, node: Node, precision: Mapping[str, str], activation_bytes: int) -> LayerCount:
    if node.kind not in MACS:
        raise ValueError(f"{node.name}: {node.kind} does not stream; count what `streaming_graph` returns")
    int8 = precision.get(node.name) == "int8"
    multiplies_int8 = precision.get(node.name, "float") != "float"
    return LayerCount(
        name=node.name,
        kind=node.kind,
        shape=graph.shapes[node.name],
        precision=precision.get(node.name, "float"),
        n_stored=sum(array.size for _, array in _parameters(graph, node)),
        macs_frame=MACS[node.kind](graph, node, np.size),
        nonzero_macs_frame=MACS[node.kind](graph, node, _nonzero),
        weight_bytes=sum(_stored_bytes(role, array, multiplies_int8) for role, array in _parameters(graph, node)),
        state_bytes=_state_bytes(node, int8),
        activation_bytes=activation_bytes,
    )


def _parameters(graph: Graph, node: Node) -> Iterator[tuple[str, Float32Array]]:
    """(role, array) of every parameter of a node, all groups and directions."""
    return ((role, graph.params[name]) for role, names in node.params.items() for name in names)


def _stored_bytes(role: str, array: Float32Array, int8: bool) -> int:
    """An int8 weight comes with one scale an output channel, and an int32 bias."""
    if not int8:
        return array.size * FLOAT_BYTES
    if role.startswith("bias"):
        return array.size * INT8_BIAS_BYTES
    return array.size * INT8_BYTES + len(array) * SCALE_BYTES


def _value_bytes(n_values: int, int8: bool) -> int:
    return n_values * (INT8_BYTES if int8 else FLOAT_BYTES)


def _state_bytes(node: Node, int8: bool) -> int:
    """A state is stored as its node computes."""
    s = node.state
    return 0 if s is None else _value_bytes(s.frames * s.bands * s.channels, int8)


def _alive_bytes(graph: Graph, precision: Mapping[str, str]) -> dict[str, int]:
    """Node -> bytes of the values alive while it runs; a value dies with its last reader."""

    def n_bytes(name: str) -> int:
        return _value_bytes(_elements(graph, name), precision.get(name) == "int8")

    last = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
    last[graph.output] = len(graph.nodes)
    alive, result = {name: n_bytes(name) for name in graph.inputs}, {}
    for i, node in enumerate(graph.nodes):
        alive[node.name] = n_bytes(node.name)
        result[node.name] = sum(alive.values())
        alive = {name: size for name, size in alive.items() if last.get(name, i) > i}
    return result


def _elements(graph: Graph, name: str) -> int:
    shape = graph.shapes[name]
    return shape.channels * shape.bands


# --- MACs of one frame, by kind -----------------------------------------------------------------------------

Weighing = Callable[[Float32Array], int]  # how many numbers of a weight multiply: all, or those that are not zero


def _nonzero(weight: Float32Array) -> int:
    return int(np.count_nonzero(weight))


def _per_element(n_macs: int) -> Callable[[Graph, Node, Weighing], int]:
    """`n_macs` for each element of the node's input (the first one)."""
    return lambda graph, node, weigh: n_macs * _elements(graph, node.inputs[0])


def _conv_macs(graph: Graph, node: Node, weigh: Weighing) -> int:
    """weight (out, in/groups, time, band): each number once an output band, also over the zero padding."""
    return weigh(graph.params[node.param("weight")]) * graph.shapes[node.name].bands


def _weight_macs(graph: Graph, node: Node, weigh: Weighing) -> int:
    """Each number of the weight once."""
    return weigh(graph.params[node.param("weight")])


def _bands_macs(graph: Graph, node: Node, weigh: Weighing) -> int:
    """The ERB matrix on the high bands, once a channel; low bands are copied."""
    return weigh(graph.params[node.param("weight")]) * graph.shapes[node.name].channels


def _sparse_bands_macs(graph: Graph, node: Node, weigh: Weighing) -> int:
    """What the ERB matrix holds besides zeros: by construction a band around its diagonal."""
    return _bands_macs(graph, node, _nonzero)


def _gru_macs(graph: Graph, node: Node, weigh: Weighing) -> int:
    """Both matrices of every group and direction, r * h_n and z * (h - n), once a band."""
    matrices = sum(weigh(graph.params[name]) for role in GRU_MATRICES for name in node.params[role])
    n_units = sum(graph.params[name].shape[1] for name in node.params["weight_hh"])
    return (matrices + 2 * n_units) * graph.shapes[node.name].bands


def _affine_macs(graph: Graph, node: Node, weigh: Weighing) -> int:
    """The slope a channel and band, and the rise a channel, once a band."""
    weight, rise = (weigh(graph.params[node.param(role)]) for role in ("weight", "rise"))
    return weight + rise * graph.shapes[node.name].bands


MACS: dict[str, Callable[[Graph, Node, Weighing], int]] = {
    "features": _per_element(1),  # re * re + im * im
    "log_magnitude": _per_element(1),  # the same; the logarithm is a curve
    "merge_bands": _sparse_bands_macs,
    "conv": _conv_macs,
    "edge_bands": _weight_macs,
    "mean_square": _per_element(1),
    "band_energy": _per_element(2),  # square, * weight
    "affine_relu": _affine_macs,
    "gru": _gru_macs,
    "bigru": _gru_macs,
    "gate": _per_element(1),
    "band_gate": _per_element(1),
    "layer_norm": _per_element(3),  # square for the variance, * 1/deviation, * weight + bias
    "split_bands": _sparse_bands_macs,
    "mask": _per_element(2),  # complex product: 4 a bin of two numbers
    "real_mask": _per_element(1),
} | dict.fromkeys(
    # moves, additions, curves and conversions multiply nothing
    (
        "leaky_relu",
        "slice",
        "shuffle",
        "sigmoid",
        "tanh",
        "add",
        "interleave",
        "stack_bands",
        "unstack_bands",
        "quantize",
    ),
    _per_element(0),
)


# --- as published: ptflops 0.7 ------------------------------------------------------------------------------


def published(graph: Graph, n_frames: int = PUBLISHED_FRAMES) -> tuple[PublishedCount, ...]:
    """The layers that ptflops 0.7 sees in the network before any pass, over `n_frames` frames at once.

    Raises ValueError for a graph that passes have rewritten: folded layers can no longer be counted.
    """
    if rewritten := [n for n in graph.nodes if n.kind in ("leaky_relu", "affine_relu", "interleave", "quantize")]:
        raise ValueError(f"{rewritten[0].name}: the published counts need the graph before the passes")
    rows = []
    for node in graph.nodes:
        n_parameters = sum(a.size for role, a in _parameters(graph, node) if role not in BUFFER_ROLES)
        if n_parameters:
            learned, fixed = (0, n_parameters) if node.kind in FIXED_KINDS else (n_parameters, 0)
            macs = PUBLISHED[node.kind](graph, node, n_frames)
            rows.append(PublishedCount(name=node.name, kind=node.kind, n_learned=learned, n_fixed=fixed, macs=macs))
    return tuple(rows)


def published_by_layer(graph: Graph, streaming: Graph) -> dict[str, tuple[PublishedCount, ...]]:
    """Streaming node -> the published rows of `graph` that it does the work of."""
    homes = _homes(graph, streaming)
    rows = published(graph)
    return {node.name: tuple(row for row in rows if homes[row.name] == node.name) for node in streaming.nodes}


def _homes(graph: Graph, streaming: Graph) -> dict[str, str]:
    """Node with parameters -> streaming node: the reader of its parameters, else where a pass put it."""
    readers = {p: node.name for node in streaming.nodes for names in node.params.values() for p in names}
    homes: dict[str, str] = {}
    for node in graph.nodes:
        if node.kind == "batch_norm":  # folded into the convolution before it
            homes[node.name] = homes[node.inputs[0]]
        elif node.kind == "prelu":  # its slope became an attribute
            homes[node.name] = node.name
        elif node.params:
            homes[node.name] = readers[next(iter(node.params.values()))[0]]
    return homes


def _published_elements(n_macs: int) -> Callable[[Graph, Node, int], int]:
    return lambda graph, node, n_frames: n_macs * n_frames * _elements(graph, node.name)


def _published_conv(graph: Graph, node: Node, n_frames: int) -> int:
    """Weight and bias once an output position, for a transposed convolution too."""
    n_parameters = sum(array.size for _, array in _parameters(graph, node))
    return n_parameters * n_frames * graph.shapes[node.name].bands


def _published_linear(graph: Graph, node: Node, n_frames: int) -> int:
    """Weight once a position, bias once a call."""
    weight, bias = (graph.params[node.param(role)] for role in ("weight", "bias"))
    return weight.size * n_frames * graph.shapes[node.name].bands + bias.size


def _published_bands(graph: Graph, node: Node, n_frames: int) -> int:
    """A linear layer over the high bands, without bias, once a channel."""
    return n_frames * _bands_macs(graph, node, np.size)


def _published_gru(graph: Graph, node: Node, n_frames: int) -> int:
    """All parameters, and 7 a unit (r * h_n: 1, input + state parts: 3, the new state: 3), once a band."""
    n_parameters = sum(array.size for _, array in _parameters(graph, node))
    n_units = sum(graph.params[name].shape[1] for name in node.params["weight_hh"])
    return (n_parameters + 7 * n_units) * n_frames * graph.shapes[node.name].bands


PUBLISHED: dict[str, Callable[[Graph, Node, int], int]] = {
    "merge_bands": _published_bands,
    "conv": _published_conv,
    "conv_transpose": _published_conv,
    "linear": _published_linear,
    "batch_norm": _published_elements(2),
    "prelu": _published_elements(1),
    "affine_prelu": _published_elements(0),  # a layer of the network's own, which ptflops does not know
    "gru": _published_gru,
    "bigru": _published_gru,
    "layer_norm": _published_elements(1),
    "split_bands": _published_bands,
}
