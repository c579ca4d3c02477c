"""Loss-aware ranges: each tap's clipping is the one, of a handful, that hurts the enhanced spectrum least.

Candidates are percentiles around the recipe's, up to the extremes. The loss is the distance of compressed spectra
(`compressed_distance`) between float and quantized, on calibration clips, everything else of the plan rounded: taps are
taken in execution order, each with the choices made before it. One batch holds a copy of the clips for each candidate.
What it changes: the ranges, hence the grids. No weight, no bias.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from calibration.observers import Histogram, Percentile
from calibration.ranges import TapRange
from quant.fake import fake_quantize, plan_tap
from quant.float_model import FloatModel, Tap, identity
from quant.graph import Array, Graph
from quant.plan import SAME_GRID, Plan
from quant.qparams import QParams, choose_qparams
from quant.spectra import analyse

TAIL_FACTORS = (10.0, 3.0, 1.0, 0.3, 0.0)  # candidates leave this much of the recipe's tail outside
COMPRESSION = 0.3  # loudness grows about so with magnitude
LOSS_CLIPS, LOSS_SAMPLES = 8, 32_000  # listened to: five copies of each, for each of some seventy taps
MAGNITUDE_SHARE = 0.7  # of the distance, as in the official training loss; the rest is real and imaginary parts


def candidates(histogram: Histogram, percentile: float) -> list[TapRange]:
    """Ranges around `percentile`, each once, widest last; the recipe's own is among them."""
    tails = [min((100 - percentile) * factor, 10.0) for factor in TAIL_FACTORS]
    ranges = [TapRange.observed(Percentile(histogram, 100 - tail)) for tail in tails]
    return [r for i, r in enumerate(ranges) if r not in ranges[:i]]


def choose(
    graph: Graph, plan: Plan, options: Mapping[str, Sequence[TapRange]], clips: Array, alone: bool = False
) -> dict[str, TapRange]:
    """The best option of each tap; `plan` is what the other taps start from, `clips` (n_clips, samples)."""
    spectra, model = torch.from_numpy(analyse(clips)), FloatModel(graph).eval()
    chosen: dict[str, TapRange] = {}
    with torch.no_grad():
        exact, _ = model(spectra)
        for name, ranges in options.items():
            grids = [choose_qparams(r.low, r.high) for r in ranges]
            sharing = same_grid(graph, name)
            losses = _losses(model, identity if alone else plan_tap(graph, plan), sharing, grids, spectra, exact)
            best = int(np.argmin(losses))
            chosen[name] = ranges[best]
            plan = replace(plan, grids={**plan.grids, **dict.fromkeys(sharing, grids[best])})
    return chosen


def same_grid(graph: Graph, tap: str) -> list[str]:
    """A tap and those that must lie on its grid because they only move its values."""
    names = [tap]
    for node in graph.nodes:
        if node.kind in SAME_GRID and node.inputs[0] in names:
            names.append(node.name)
    return names


def compressed_distance(exact: Tensor, other: Tensor) -> Tensor:
    """Mean squared distance of compressed spectra (copies, 2, frames, bins), one a copy: (copies,)."""
    a, b = _compressed(exact), _compressed(other)
    parts = ((a[0] - b[0]) ** 2).mean((1, 2, 3)), ((a[1] - b[1]) ** 2).mean((1, 2))
    return (1 - MAGNITUDE_SHARE) * parts[0] + MAGNITUDE_SHARE * parts[1]


def _compressed(spectrum: Tensor) -> tuple[Tensor, Tensor]:
    """Spectrum and magnitude with magnitudes to the power of COMPRESSION."""
    magnitude = torch.sqrt((spectrum**2).sum(1) + 1e-12)
    return spectrum * (magnitude ** (COMPRESSION - 1))[:, None], magnitude**COMPRESSION


def _losses(
    model: FloatModel, others: Tap, names: Sequence[str], grids: Sequence[QParams], spectra: Tensor, exact: Tensor
) -> list[float]:
    """The loss with each grid in turn on `names`."""
    n = len(spectra)

    def tap(name: str, value: Tensor) -> Tensor:
        if name not in names:
            return others(name, value)
        batch = 1 if name.endswith(".gates_x") else 0  # the input gates of a scan come steps first
        parts = value.split(n, batch)
        return torch.cat([fake_quantize(part, q) for part, q in zip(parts, grids, strict=True)], batch)

    enhanced, _ = model(spectra.repeat(len(grids), 1, 1, 1), tap=tap)
    return [float(compressed_distance(exact, part).double().mean()) for part in enhanced.split(n)]
