"""Exact rewrites of the graph. Each keeps the output within 1e-5 of what it was (tests/quant/network/test_passes.py).

fold_batch_norm    BatchNorm into the convolution before it
prelu_to_leaky     PReLU with one slope is LeakyReLU
affine_to_relu     affine PReLU: a slope a band below zero, and what is added to it above zero
weigh_channels     a mean over channels is a weighted sum, so that channels may be rescaled
linear_to_conv     a linear layer over channels is a 1x1 convolution
deconv_to_conv     stride 1: flipped kernel; stride 2: even and odd phases, interleaved
sort_directions    the units of a bidirectional GRU: all forward ones, then all backward ones
fuse_neighbours    SFE followed by a convolution is one convolution over two bands more, mended at both ends
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from edge_runtime.errors import Failure
from edge_runtime.stft import Float32Array
from quant.network.builder import KERNELS
from quant.network.graph import Graph, Node, Shape
from quant.network.gru_weights import channel_order

BATCH_NORM_EPS = 1e-5


def streaming_graph(graph: Graph) -> Graph:
    """Every rewrite, in order: the graph that calibration, the plan and the emitters work on."""
    for rewrite in PASSES:
        graph = rewrite(graph)
    return graph


def fold_batch_norm(graph: Graph) -> Graph:
    """weight * g / sqrt(var + eps), and the bias likewise; the convolution takes the BatchNorm's name."""
    params, nodes = dict(graph.params), list[Node]()
    for node in graph.nodes:
        if node.kind != "batch_norm":
            nodes.append(node)
            continue
        conv = nodes.pop()
        if conv.name != node.inputs[0]:
            raise ValueError(f"{node.name}: BatchNorm does not follow its convolution")
        w, b, bn = params[conv.param("weight")], params[conv.param("bias")], graph.arrays(node)
        gain = bn["weight"].astype(np.float64) / np.sqrt(bn["running_var"].astype(np.float64) + BATCH_NORM_EPS)
        with np.errstate(over="ignore", invalid="ignore"):
            params[conv.param("bias")] = ((b - bn["running_mean"]) * gain + bn["bias"]).astype(np.float32)
            params[conv.param("weight")] = (w * _along_outputs(gain, conv, w.shape[0])).astype(np.float32)
        if not all(np.isfinite(params[conv.param(role)]).all() for role in ("weight", "bias")):
            what = "its BatchNorm makes weights beyond all floats"
            raise Failure(what, where=node.name, remedy="this checkpoint is damaged; get it again")
        nodes.append(replace(conv, name=node.name))
    return graph.rewritten(nodes, params=params)


def _along_outputs(gain: np.ndarray, conv: Node, n_in: int) -> np.ndarray:
    """`gain` (outputs,) shaped to multiply the weight of a convolution or a transposed one.

    A transposed convolution's weight is (in, out/groups, ...): its inputs are grouped along axis 0.
    """
    if conv.kind == "conv":
        return gain[:, None, None, None]
    groups = conv.attrs["groups"]
    return np.repeat(gain.reshape(groups, -1), n_in // groups, axis=0)[:, :, None, None]


def prelu_to_leaky(graph: Graph) -> Graph:
    """One slope for every channel: the slope becomes an attribute."""

    def rewrite(node: Node) -> Node:
        slope = float(graph.arrays(node)["weight"].item())
        return Node("leaky_relu", node.name, node.inputs, attrs={"slope": slope})

    return graph.rewritten([rewrite(n) if n.kind == "prelu" else n for n in graph.nodes])


def affine_to_relu(graph: Graph) -> Graph:
    """w x + b + (x, or slope x below zero) = (w + slope) x + b + (1 - slope) max(x, 0); the parameters keep their
    names."""
    params = dict(graph.params)

    def rewrite(node: Node) -> Node:
        weight, bias, slope = (node.param(role) for role in ("affine_weight", "affine_bias", "slope_weight"))
        params[weight] = params[weight] + params[slope][:, None]
        params[slope] = 1 - params[slope]
        return replace(node, kind="affine_relu", params={"weight": (weight,), "bias": (bias,), "rise": (slope,)})

    return graph.rewritten([rewrite(n) if n.kind == "affine_prelu" else n for n in graph.nodes], params=params)


def weigh_channels(graph: Graph) -> Graph:
    """The mean of squares over n channels: every weight is 1 / n."""
    params = dict(graph.params)

    def rewrite(node: Node) -> Node:
        name, n = f"{node.name}.weight", graph.shapes[node.inputs[0]].channels
        params[name] = np.full(n, 1 / n, np.float32)
        return replace(node, kind="band_energy", params={"weight": (name,)})

    return graph.rewritten([rewrite(n) if n.kind == "mean_square_channels" else n for n in graph.nodes], params=params)


def linear_to_conv(graph: Graph) -> Graph:
    """weight (out, in) -> (out, in, 1, 1)."""
    params = dict(graph.params)
    attrs = {"kernel": (1, 1), "stride": 1, "groups": 1, "pad": 0, "dilation": 1}

    def rewrite(node: Node) -> Node:
        params[node.param("weight")] = params[node.param("weight")][:, :, None, None]
        return replace(node, kind="conv", attrs=attrs)

    return graph.rewritten([rewrite(n) if n.kind == "linear" else n for n in graph.nodes], params=params)


def deconv_to_conv(graph: Graph) -> Graph:
    """Transposed convolutions become convolutions, with `interleave` behind those of stride 2."""
    params, shapes, nodes = dict(graph.params), dict(graph.shapes), list[Node]()
    for node in graph.nodes:
        if node.kind != "conv_transpose":
            nodes.append(node)
            continue
        weight = params[node.param("weight")]
        groups = node.attrs["groups"]
        kernels = _grouped_transpose(weight, groups)[:, :, ::-1, ::-1]
        if node.attrs["stride"] == 1:
            params[node.param("weight")] = np.ascontiguousarray(kernels)
            pad = node.attrs["kernel"][1] - 1 - node.attrs["pad"]
            nodes.append(replace(node, kind="conv", attrs={**node.attrs, "pad": pad}))
        else:
            weight, bias = _phases(kernels, params[node.param("bias")], groups)
            params[node.param("weight")], params[node.param("bias")] = weight, bias
            phases = f"{node.name}.phases"
            n_bands = shapes[node.inputs[0]].bands
            shapes[phases] = Shape(2 * shapes[node.name].channels, n_bands)
            attrs = {**node.attrs, "kernel": weight.shape[2:], "stride": 1, "pad": weight.shape[3] // 2}
            nodes.append(replace(node, kind="conv", name=phases, attrs=attrs))
            nodes.append(
                Node(
                    "interleave",
                    node.name,
                    (phases,),
                    attrs={"groups": groups, "n_bands": shapes[node.name].bands},
                )
            )
    return graph.rewritten(nodes, shapes, params)


def _grouped_transpose(weight: Float32Array, groups: int) -> Float32Array:
    """(in, out/groups, t, b) -> (out, in/groups, t, b)."""
    n_in, per_group, kt, kf = weight.shape
    grouped = weight.reshape(groups, n_in // groups, per_group, kt, kf).transpose(0, 2, 1, 3, 4)
    return grouped.reshape(groups * per_group, n_in // groups, kt, kf)


def _phases(flipped: Float32Array, bias: Float32Array, groups: int) -> tuple[Float32Array, Float32Array]:
    """Split a stride-2 kernel of 3 or 5 bands (flipped, padded by half of it) into its even and odd phase, each over 3
    inputs.

    5 bands:  out[2j] = k0 x[j-1] + k2 x[j] + k4 x[j+1]    3 bands:  out[2j] =           k1 x[j]
            out[2j+1] =             k1 x[j] + k3 x[j+1]            out[2j+1] =           k0 x[j] + k2 x[j+1]
    Output channels come as (group, phase, channel), so that a grouped convolution stays one.
    """
    if flipped.shape[3] not in KERNELS:
        raise ValueError(f"stride 2 is written for kernels of 3 and 5 bands, not {flipped.shape[3]}")
    none, one_tap = np.zeros_like(flipped[..., :1]), flipped.shape[3] == 3
    even = np.concatenate([none, flipped[..., 1:2], none], -1) if one_tap else flipped[..., ::2]
    odd = np.concatenate([none, flipped[..., ::2] if one_tap else flipped[..., 1::2]], -1)
    n_out = len(bias)
    both = np.stack([k.reshape(groups, n_out // groups, *k.shape[1:]) for k in (even, odd)], 1)
    biases = np.repeat(bias.reshape(groups, 1, -1), 2, axis=1)
    return both.reshape(2 * n_out, *both.shape[3:]), biases.reshape(-1)


def sort_directions(graph: Graph) -> Graph:
    """Reorder the inputs of the convolution behind each `bigru`, so that emitters need not shuffle its output."""
    params = dict(graph.params)

    def rewrite(node: Node) -> Node:
        if node.kind != "bigru":
            return node
        (reader,) = graph.consumers(node.name)
        order = channel_order(node, graph.shapes[node.name].channels // 2)
        weight = params[reader.param("weight")]
        params[reader.param("weight")] = weight[:, np.argsort(order)]
        return replace(node, attrs={**node.attrs, "sorted": True})

    return graph.rewritten([rewrite(n) for n in graph.nodes], params=params)


def fuse_neighbours(graph: Graph) -> Graph:
    """SFE puts the bands b-1, b, b+1 beside each other; a convolution of k bands over that is one of k + 2 bands.

    weight (out, 3 * in, 1, k) -> (out, in, 1, k + 2). The two zero paddings differ: SFE makes no band -1, whose upper
    neighbour would be band 0, but the fused kernel sees it. `edge_bands` takes that back, at both ends.
    """
    params, nodes, shapes = dict(graph.params), list[Node](), dict(graph.shapes)
    for node in graph.nodes:
        before = nodes[-1] if nodes else None
        if node.kind != "conv" or before is None or before.kind != "neighbours" or node.inputs != (before.name,):
            nodes.append(node)
            continue
        taps = _by_neighbour(params[node.param("weight")])
        params[node.param("weight")] = _joined_taps(taps)
        pad = node.attrs["pad"] + 1
        wide = replace(node, inputs=before.inputs, attrs={**node.attrs, "kernel": (1, taps.shape[-1] + 2), "pad": pad})
        nodes.pop()
        if (edges := _edge_taps(taps, node.attrs["pad"])) is None:
            nodes.append(wide)
            continue
        name, weight = f"{node.name}.wide", f"{node.name}.edges"
        nodes.append(replace(wide, name=name))
        shapes[name], params[weight] = shapes[node.name], edges
        nodes.append(Node("edge_bands", node.name, (name, *before.inputs), {"weight": (weight,)}))
    return graph.rewritten(nodes, shapes, params)


def _by_neighbour(weight: Float32Array) -> Float32Array:
    """(out, 3 * in, 1, k) -> (out, in, neighbour, k); neighbour 0 is the band below."""
    n_out, n_in, _, k = weight.shape
    return weight.reshape(n_out, n_in // 3, 3, k)


def _joined_taps(taps: Float32Array) -> Float32Array:
    """(out, in, neighbour, k) -> (out, in, 1, k + 2): neighbour n of band b is band b + n - 1."""
    joined = np.zeros((*taps.shape[:2], 1, taps.shape[-1] + 2), np.float64)
    for n in range(3):
        joined[:, :, 0, n : n + taps.shape[-1]] += taps[:, :, n]
    return joined.astype(np.float32)


def _edge_taps(taps: Float32Array, pad: int) -> Float32Array | None:
    """(2, out, in): what the first band of the input must add to the first of the output, and the last to the last.

    SFE's band -1 has one neighbour inside, band 0; only the first output reaches it when the stride is no less than the
    padding of `pad` bands. The other end likewise when the last output lies on the last input. None without padding.
    """
    if pad == 0:
        return None
    return -np.stack([taps[:, :, 2, pad - 1], taps[:, :, 0, pad + 1]])


PASSES: tuple[Callable[[Graph], Graph], ...] = (
    fold_batch_norm,
    prelu_to_leaky,
    affine_to_relu,
    weigh_channels,
    linear_to_conv,
    deconv_to_conv,
    sort_directions,
    fuse_neighbours,
)


def with_floors(graph: Graph, floors: Mapping[str, float]) -> Graph:
    """The graph with logarithms of magnitudes, by name, that go no lower."""
    return graph.rewritten(
        replace(n, attrs={**n.attrs, "floor": floors[n.name]}) if n.kind == "log_magnitude" and n.name in floors else n
        for n in graph.nodes
    )
