"""Float convolutions of the native engine's plan, multiplied in integers.

The numbers of a value become steps of one power of two a frame, the least under which 16 bits hold the largest of them
(block floating point): no range has to be measured, and a quiet frame keeps as many bits as a loud one. Weights become
integers on one scale an output channel, as large as 32 bits of a sum allow: twelve bits or more in GTCRN. A sum is
exact; it is made a float32, scaled once, and the bias is added.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_runtime.stft import Float32Array
from quant.int8.plan import Plan
from quant.network.graph import Graph, Node

MOST: Final = (1 << 15) - 1  # of 16 bits
MOST_SUM: Final = (1 << 16) - 1  # of the weights under one result: times 2^15 that is 32 bits
MOST_INPUTS: Final = 256  # of a result: weights then still have 8 bits
WIDTH: Final = 4  # inputs, and results, that kernels take at a time
BLOCK: Final = "block"  # attribute of a convolution
ENDS: Final = "ends"  # role: what `edge_bands` adds

# Exponents as float32 has them: 2^-40 is silence, 254 the last finite one. 15 bits lie below the largest number's next
# power of two.
LEAST_EXPONENT, MOST_EXPONENT, UNIT_BELOW, BOTH = 87, 254, 14, 254


def with_blocks(graph: Graph, plan: Plan) -> tuple[Graph, Plan]:
    """The plan with convolutions that say `block`: in float, over several bands, of widths that kernels take.

    What `edge_bands` adds to one joins it (role `ends`): its first and its last result have weights of their own.
    """
    nodes = list[Node]()
    for node in graph.nodes:
        before = nodes[-1] if nodes else node
        if node.kind == "edge_bands" and _joins(graph, before, node):
            nodes[-1] = replace(before, name=node.name, params={**before.params, ENDS: node.params["weight"]})
        elif _fits(graph, plan, node):
            nodes.append(replace(node, attrs={**node.attrs, BLOCK: True}))
        else:
            nodes.append(node)
    made = {node.name for node in nodes}
    precision = {name: p for name, p in plan.precision.items() if name in made}
    return graph.rewritten(nodes), Plan(precision, plan.grids, plan.weight_scales)


def _fits(graph: Graph, plan: Plan, node: Node) -> bool:
    if node.kind != "conv" or plan.precision[node.name] != "float" or node.state is not None:
        return False
    (n_out, n_in, n_frames, taps), groups = graph.params[node.param("weight")].shape, node.attrs["groups"]
    whole = n_out // groups % WIDTH == 0 and (groups == 1 or n_in % WIDTH == 0)
    return whole and n_frames == 1 and n_in * taps <= MOST_INPUTS and graph.shapes[node.name].bands > 1


def _joins(graph: Graph, conv: Node, ends: Node) -> bool:
    """Whether that adds to this convolution alone, of the value that it reads."""
    alone = ends.inputs == (conv.name, *conv.inputs) and len(graph.consumers(conv.name)) == 1
    return alone and bool(conv.attrs.get(BLOCK)) and conv.attrs["groups"] == 1


def kernels(graph: Graph, node: Node) -> list[Float32Array]:
    """Weights (out, in, 1, taps) of all results; with ends also of the first and of the last one."""
    weight, attrs = graph.params[node.param("weight")], node.attrs
    if ENDS not in node.params:
        return [weight]
    n_in, n_out, pad = graph.shapes[node.inputs[0]].bands, graph.shapes[node.name].bands, attrs["pad"]
    taps = pad, pad + n_in - 1 - (n_out - 1) * attrs["stride"]  # that see the first band, and the last
    mended = [weight]
    for tap, added in zip(taps, graph.params[node.param(ENDS)], strict=True):
        mended.append(weight.copy())
        mended[-1][:, :, 0, tap] += added
    return mended


def integers(weight: Float32Array) -> tuple[NDArray[np.int16], Float32Array]:
    """(out, ...) -> whole numbers of 16 bits, and one scale an output channel."""
    rows = np.abs(weight.reshape(len(weight), -1).astype(np.float64))
    room = MOST_SUM - 1 - rows.shape[1] / 2  # each may be rounded up by half
    scales = np.maximum(np.maximum(rows.sum(1) / room, rows.max(1) / MOST), 1e-12).astype(np.float32)
    shaped = scales.reshape(-1, *([1] * (weight.ndim - 1)))
    return np.clip(np.rint(weight / shaped), -MOST, MOST).astype(np.int16), scales


def steps(x: Float32Array) -> tuple[NDArray[np.int16], np.float32]:
    """Numbers as whole steps, to nearest with ties to even, and what a step is."""
    largest = int((x.view(np.uint32) & np.uint32(0x7FFFFFFF)).max())
    exponent = min(max(largest >> 23, LEAST_EXPONENT), MOST_EXPONENT)
    unit = np.uint32(exponent - UNIT_BELOW << 23).view(np.float32)
    per_unit = np.uint32(BOTH - exponent + UNIT_BELOW << 23).view(np.float32)
    return np.rint(np.clip(x * per_unit, -MOST - 1, MOST)).astype(np.int16), unit


def scaled(sums: NDArray[np.int64], scales: Float32Array, unit: np.float32, bias: Float32Array) -> Float32Array:
    """(out, bands) of sums as float32."""
    made: Float32Array = sums.astype(np.float32) * (scales * unit)[:, None] + bias[:, None]
    return made
