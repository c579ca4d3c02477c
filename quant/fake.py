"""Fake quantization as a tap: the float model computes what the plan would, without leaving PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor

from quant.float_model import Tap
from quant.plan import Plan
from quant.qparams import WEIGHT_LIMIT, QParams


def fake_quantize(values: Tensor, q: QParams) -> Tensor:
    """The same numbers as `qparams.fake_quantize`, on a tensor."""
    grid = torch.clamp(torch.round(values / q.scale) + q.zero_point, -128, 127)
    return (grid - q.zero_point) * q.scale


def fake_quantize_weight(weight: Tensor, scales: Tensor) -> Tensor:
    """A weight rounded to its own grid, one scale for each output channel (axis 0)."""
    shaped = scales.reshape(-1, *([1] * (weight.dim() - 1)))
    return torch.clamp(torch.round(weight / shaped), -WEIGHT_LIMIT, WEIGHT_LIMIT) * shaped


def plan_tap(plan: Plan) -> Tap:
    """Rounds every value and weight of the plan to its grid, and leaves the rest alone."""
    scales = {name: torch.from_numpy(s) for name, s in plan.weight_scales.items()}

    def tap(name: str, value: Tensor) -> Tensor:
        if name in plan.grids:
            return fake_quantize(value, plan.grids[name])
        return fake_quantize_weight(value, scales[name]) if name in scales else value

    return tap
