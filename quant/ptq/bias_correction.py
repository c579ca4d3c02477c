"""Bias correction: what rounding shifts a layer's output by on average, its bias takes back.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (2019), section 4.2, with
the error measured on calibration clips instead of derived. What it changes: the biases of 8-bit convolutions (linear
layers are convolutions here) and the input biases of 8-bit and mixed GRUs. No weight, no grid. The convolution of
the mask is left alone: corrected, it lost 0.09 PESQ on the DNS3 weights (docs/measured/2026-11-25-techniques.md).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from edge_runtime.stft import Float32Array
from quant.int8.fake_quantize import plan_tap
from quant.int8.plan import Plan
from quant.int8.recipe import RECURRENT
from quant.network import gru_weights
from quant.network.float_model import FloatModel, identity
from quant.network.graph import Graph, Node
from quant.network.spectra import analyse


def correct_biases(graph: Graph, plan: Plan, clips: Float32Array) -> Graph:
    """The graph with corrected biases; `clips` is (n_clips, samples).

    Layers are corrected in execution order, each on the values that the corrected layers before it make: the
    correction is taken off a layer's output as it is made, so one pass over the clips does them all.
    """
    layers = {_tap_of(n): n for n in correctable(graph, plan)}
    spectra, model = torch.from_numpy(analyse(clips, graph.window)), FloatModel(graph).eval()
    exact, errors = dict[str, Tensor](), dict[str, Tensor]()
    rounded = plan_tap(graph, plan)

    def record(name: str, value: Tensor) -> Tensor:
        if name in layers:
            exact[name] = _channel_means(layers[name], value)
        return value

    def correct(name: str, value: Tensor) -> Tensor:
        if name in layers:
            errors[name] = _channel_means(layers[name], value) - exact[name]
            value = value - _along_channels(layers[name], errors[name])
        return rounded(name, value)

    with torch.no_grad():
        model(spectra, tap=record if layers else identity)
        model(spectra, tap=correct)
    params = dict(graph.params)
    for name, error in errors.items():
        _shift(params, layers[name], -error.numpy())
    return replace(graph, params=params)


def correctable(graph: Graph, plan: Plan) -> list[Node]:
    """The layers with 8-bit products, in execution order, but for the one that makes the mask."""
    mask = graph.node(graph.node(graph.output).inputs[-1])
    while mask.kind != "conv":
        mask = graph.node(mask.inputs[0])
    return [n for n in graph.nodes if n.kind in ("conv", *RECURRENT) and plan.reads_int8(n) and n.name != mask.name]


def _tap_of(node: Node) -> str:
    """Where the sum of products and bias of a layer is seen before it is rounded."""
    return f"{node.name}.gates_x" if node.kind in RECURRENT else node.name


def _channel_means(node: Node, value: Tensor) -> Tensor:
    """(channels,) means over clips, frames and bands, summed in float64; a GRU's gates have channels last."""
    last = value if node.kind in RECURRENT else value.movedim(1, -1)
    return last.double().mean(tuple(range(last.dim() - 1))).float()


def _along_channels(node: Node, vector: Tensor) -> Tensor:
    return vector if node.kind in RECURRENT else vector[:, None, None]


def _shift(params: dict[str, Float32Array], node: Node, by: Float32Array) -> None:
    """Add `by` to the bias; a GRU's lies gate by gate over all groups and directions (`gru_weights.group_order`)."""
    if node.kind == "conv":
        params[node.param("bias")] = params[node.param("bias")] + by
        return
    order = gru_weights.group_order(node)
    parts = by.reshape(3, len(order), -1)
    for place, group in enumerate(order):
        name = node.params["bias_ih"][group]
        params[name] = params[name] + np.ascontiguousarray(parts[:, place]).ravel()
