"""Fake quantization as a tap: the float model computes what the plan would, without leaving PyTorch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from quant.int8.plan import Plan
from quant.int8.qparams import WEIGHT_LIMIT, QParams
from quant.network.float_model import Tap
from quant.network.graph import Graph, Node


def fake_quantize(values: Tensor, q: QParams) -> Tensor:
    """The same numbers as `qparams.fake_quantize`, on a tensor."""
    grid = torch.clamp(torch.round(values * float(q.inverse)) + q.zero_point, -128, 127)
    return (grid - q.zero_point) * q.scale


def fake_quantize_weight(weight: Tensor, scales: Tensor) -> Tensor:
    """A weight rounded to its own grid, one scale for each output channel (axis 0)."""
    shaped = scales.reshape(-1, *([1] * (weight.dim() - 1)))
    return torch.clamp(torch.round(weight / shaped), -WEIGHT_LIMIT, WEIGHT_LIMIT) * shaped


def fake_quantize_bias(bias: Tensor, units: Tensor) -> Tensor:
    """A bias as the accumulator holds it: from float64, so that the integer is the emitted one."""
    return (torch.round(bias.double() / units) * units).float()


def to_half(values: Tensor) -> Tensor:
    """The same numbers as `exact_float.to_half`, on a tensor."""
    half = values.half().float()
    return torch.where(half.abs() < torch.finfo(torch.float16).tiny, 0.0, half)


def plan_tap(graph: Graph, plan: Plan) -> Tap:
    """Rounds every value, weight and bias of the plan to its grid, and leaves the rest alone."""
    scales = {name: torch.from_numpy(s) for name, s in plan.weight_scales.items()}
    units = {name: torch.from_numpy(u) for node in graph.nodes for name, u in bias_units(node, plan)}

    def tap(name: str, value: Tensor) -> Tensor:
        if name in plan.grids:
            return fake_quantize(value, plan.grids[name])
        if name in units:
            return fake_quantize_bias(value, units[name])
        return fake_quantize_weight(value, scales[name]) if name in scales else value

    return tap


def bias_units(node: Node, plan: Plan) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Bias -> one step of the accumulator it is added to, input scale x weight scale, by output channel (axis 0)."""
    if node.kind not in ("conv", "affine_relu", "gru", "bigru") or not plan.reads_int8(node):
        return
    source = plan.grids[node.inputs[0]]
    pairs = (
        [("weight", "bias", source)]
        if node.kind in ("conv", "affine_relu")
        else [("weight_ih", "bias_ih", source), ("weight_hh", "bias_hh", plan.grids[f"{node.name}.state"])]
    )
    for weight, bias, grid in pairs:
        for w, b in zip(node.params[weight], node.params[bias], strict=True):
            units = np.float64(grid.scale) * plan.weight_scales[w].astype(np.float64)
            yield b, units[:, None] if node.kind == "affine_relu" else units
