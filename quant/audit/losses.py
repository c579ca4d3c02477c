"""Where the output lost what it lost: the network rounded from its input to its output, a block more at each step.

The first step rounds the weights of all blocks, each further one the values of one block. The noise at the output that
a step adds, over the energy of the output, is its part; the parts add up to what the whole plan costs, exactly. A part
can be negative: what a block rounds away may cancel what those before it added.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from edge_runtime.stft import Float32Array
from quant.audit.blocks import block_of
from quant.audit.findings import LossPart
from quant.int8.fake_quantize import fake_quantize, plan_tap
from quant.int8.plan import Plan
from quant.network.float_model import FloatModel, Tap
from quant.network.graph import Graph
from quant.network.spectra import analyse

WEIGHTS: Final = "weights"  # the first step; every other is a block


def losses(graph: Graph, plan: Plan, clips: Float32Array) -> tuple[LossPart, ...]:
    """The steps in the order of the network, on clips (n_clips, samples)."""
    order = dict.fromkeys(block_of(node.name) for node in graph.nodes)
    rounded = {block_of(tap) for tap in plan.grids}
    steps = [WEIGHTS, *(block for block in order if block in rounded)]
    model, tap = FloatModel(graph).eval(), _growing(graph, plan, {block: i for i, block in enumerate(steps)})
    noise, energy = torch.zeros(len(steps), dtype=torch.float64), 0.0
    with torch.no_grad():
        for spectrum in torch.from_numpy(analyse(clips, graph.window)).split(1):
            exact = model(spectrum)[0].double()
            rough = model(spectrum.expand(len(steps), *spectrum.shape[1:]), tap=tap)[0].double()
            noise += ((rough - exact) ** 2).flatten(1).sum(1)
            energy += float((exact**2).sum())
    added = torch.diff(noise, prepend=torch.zeros(1, dtype=torch.float64)) / max(energy, 1e-30)
    return tuple(LossPart(block=block, noise=float(part)) for block, part in zip(steps, added, strict=True))


def _growing(graph: Graph, plan: Plan, step: dict[str, int]) -> Tap:
    """Row i of the batch is the network with the weights rounded, and the values of all steps up to i."""
    whole = plan_tap(graph, plan)

    def tap(name: str, value: Tensor) -> Tensor:
        if name not in plan.grids:
            return whole(name, value)
        batch = 1 if name.endswith(".gates_x") else 0  # the input gates of a scan come steps first
        first = step[block_of(name)]
        value = value.clone()
        rows = value.narrow(batch, first, value.shape[batch] - first)
        rows.copy_(fake_quantize(rows, plan.grids[name]))
        return value

    return tap
