"""The quantized model that can be trained: the plan's own rounding in the forward pass, learned ranges behind it.

`prepare` (`ptq.quantize`) gives a graph, a plan and ranges; `Prepared` trains weights and ranges; `convert` gives the
same three things back. The forward pass makes the plan of the current weights and ranges by `make_plan`, so what is
trained and what it converts to are one computation, not two that agree.

Gradients are straight-through inside a range. Ranges learn as in LSQ+ (Bhalgat et al., "LSQ+: Improving low-bit
quantization through learnable offsets and better initialization", 2020): both ends of a range get the gradient of what
they clip, and the rounding residual of what they hold. A range is learned as the logarithm of a factor on its start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from calibration.ranges import Ranges
from quant.int8.fake_quantize import bias_units, fake_quantize_bias, fake_quantize_weight, to_half
from quant.int8.plan import SAME_GRID, make_plan
from quant.int8.qparams import QParams
from quant.int8.recipe import RECURRENT
from quant.network.float_model import FloatModel, States, Tap
from quant.ptq.quantize import Quantized, halved, halved_names

FIXED_WEIGHTS = frozenset({"merge_bands", "split_bands"})  # the ERB matrices are not trained


class Prepared(nn.Module):
    """Fake-quantized training of a `Quantized`. `forward(spectrum, states)` as FloatModel's.

    `log_factors`: (taps, 2), the logarithm of what the low and the high end of each range was multiplied by.
    """

    def __init__(self, quantized: Quantized, *, rounds_gates: bool = True) -> None:
        """`rounds_gates`: of recurrent layers with a float state, too, as ONNX and TFLite do and the native engine does
        not; without it they run in PyTorch's own kernel."""
        super().__init__()
        self.start = quantized
        self.model = FloatModel(quantized.graph)
        self.taps = tuple(quantized.ranges.values)
        self.log_factors = nn.Parameter(torch.zeros(len(self.taps), 2))
        plan, nodes = quantized.plan, quantized.graph.nodes
        alone = ("float",) if rounds_gates else ("float", "mixed")
        self._fused = frozenset(n.name for n in nodes if n.kind in RECURRENT and plan.precision[n.name] in alone)
        self._half = halved_names(quantized.graph, plan.precision)
        self._idle = frozenset(n.name for n in nodes if n.kind in SAME_GRID)
        for node in nodes:
            if node.kind in FIXED_WEIGHTS:
                self.model.weight(node.param("weight")).requires_grad_(False)

    def forward(self, spectrum: Tensor, states: Mapping[str, Tensor] | None = None) -> tuple[Tensor, States]:
        """Enhance `spectrum` (batch, 2, frames, 257) with every value of the plan on its grid."""
        enhanced, after = self.model(spectrum, states, self._tap(self.converted(), spectrum.device), self._fused)
        return enhanced, after

    def converted(self) -> Quantized:
        """The graph, plan and ranges of the weights and ranges as they are now. Failure: a range is not finite."""
        graph = replace(self.start.graph, params=self.model.params())
        graph, ranges = halved(graph, self.start.plan.precision), self.ranges()
        return Quantized(graph, make_plan(graph, self.start.plan.precision, ranges), ranges)

    def blend(self, share: float) -> None:
        """Go back: keep `share` of the way from the start, of every weight and (as a factor) of every range.

        The mean of a network and what it was fine-tuned to keeps most of what was gained and loses little elsewhere
        (Wortsman et al., "Robust fine-tuning of zero-shot models", 2022).
        """
        with torch.no_grad():
            for name, started in self.start.graph.params.items():
                weight = self.model.weight(name)
                weight.lerp_(torch.tensor(started).to(weight), 1 - share)
            self.log_factors.mul_(share)

    def ranges(self) -> Ranges:
        """The ranges as they are now; channel peaks are spent, for the weights are migrated already."""
        factors = np.exp(self.log_factors.detach().cpu().double().numpy())
        values = {
            tap: msgspec.structs.replace(start, low=start.low * float(low), high=start.high * float(high))
            for (tap, start), (low, high) in zip(self.start.ranges.values.items(), factors, strict=True)
        }
        return Ranges(values, self.start.ranges.provenance)

    def _tap(self, now: Quantized, device: torch.device) -> Tap:
        plan, ranges = now.plan, now.ranges.values
        factors = dict(zip(self.taps, self.log_factors.unbind(), strict=True))
        scales = {name: torch.from_numpy(s).to(device) for name, s in plan.weight_scales.items()}
        units = {n: torch.from_numpy(u).to(device) for node in now.graph.nodes for n, u in bias_units(node, plan)}

        def tap(name: str, value: Tensor) -> Tensor:
            if name in plan.grids:
                if name in self._idle:  # moved values are on their grid already
                    return value
                q, factor = plan.grids[name], factors.get(name)
                if factor is None:
                    return _FixedRange.apply(value, q)
                return _LearnedRange.apply(value, factor, q, ranges[name].low, ranges[name].high)
            if name in units:
                return _StraightThrough.apply(value, fake_quantize_bias(value, units[name]))
            if name in self._half:
                return _StraightThrough.apply(value, to_half(value))
            if name in scales:
                return _StraightThrough.apply(value, fake_quantize_weight(value, scales[name]))
            return value

        return tap


def _rounded(values: Tensor, q: QParams) -> tuple[Tensor, Tensor]:
    """`fake.fake_quantize`, and which values lay within the range."""
    grid = torch.mul(values, float(q.inverse)).round_().add_(q.zero_point)
    held = torch.clamp(grid, -128, 127)
    inside = held == grid
    return held.sub_(q.zero_point).mul_(q.scale), inside


class _StraightThrough(torch.autograd.Function):
    """The rounded value forward, the gradient of the value itself backward."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, rounded: Tensor) -> Tensor:
        return rounded

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class _FixedRange(torch.autograd.Function):
    """Rounding onto a grid that is not learned."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, q: QParams) -> Tensor:
        rounded, inside = _rounded(value, q)
        ctx.save_for_backward(inside)
        return rounded

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None


class _LearnedRange(torch.autograd.Function):
    """Rounding onto a grid whose range is learned: `factor` (2,) is the logarithm of a factor on `low` and `high`."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, factor: Tensor, q: QParams, low: float, high: float) -> Tensor:
        rounded, inside = _rounded(value, q)
        ctx.save_for_backward(value, rounded, inside)
        ctx.low, ctx.high = low, high
        return rounded

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        value, rounded, inside = ctx.saved_tensors
        through = gradients[0] * inside
        clipped = gradients[0] - through
        # scale = (high - low) / 255, and a value within the range moves by its residual a scale.
        spread = (through * (rounded - value)).sum() / (ctx.high - ctx.low)
        above = (clipped * (value > 0)).sum()
        below = clipped.sum() - above
        return through, torch.stack([(below - spread) * ctx.low, (above + spread) * ctx.high]), None, None, None
