"""Loss-aware ranges: each tap's clipping is the one, of a handful, that hurts the enhanced spectrum least.

Candidates are percentiles around the recipe's, up to the extremes. The loss is the distance of compressed spectra
(`compressed_distance`) to float on calibration clips with only this tap rounded. (With everything else of the plan
rounded too, as it will be, the choice was measured to be worse: what one range does drowns in what the other roundings
happen to do.) One batch holds a copy of the clips for each candidate. What it changes: the
ranges, hence the grids. No weight, no bias.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from calibration.observers import Histogram, Percentile
from calibration.ranges import TapRange
from edge_runtime.stft import Float32Array
from quant.int8.fake_quantize import fake_quantize
from quant.int8.qparams import QParams, choose_qparams
from quant.network.float_model import FloatModel
from quant.network.graph import Graph
from quant.network.spectra import analyse, compressed

TAIL_FACTORS = (10.0, 3.0, 1.0, 0.3, 0.0)  # candidates leave this much of the recipe's tail outside
LOSS_CLIPS, LOSS_SAMPLES = 8, 32_000  # listened to: five copies of each, for each of some seventy taps
MAGNITUDE_SHARE = 0.7  # of the distance, as in the official training loss; the rest is real and imaginary parts


def candidates(histogram: Histogram, percentile: float) -> list[TapRange]:
    """Ranges around `percentile`, each once, widest last; the recipe's own is among them."""
    tails = [min((100 - percentile) * factor, 10.0) for factor in TAIL_FACTORS]
    ranges = [TapRange.observed(Percentile(histogram, 100 - tail)) for tail in tails]
    return [r for i, r in enumerate(ranges) if r not in ranges[:i]]


def choose(graph: Graph, options: Mapping[str, Sequence[TapRange]], clips: Float32Array) -> dict[str, TapRange]:
    """The best option of each tap, on clips (n_clips, samples)."""
    spectra, model = torch.from_numpy(analyse(clips, graph.window)), FloatModel(graph).eval()
    chosen: dict[str, TapRange] = {}
    with torch.no_grad():
        exact, _ = model(spectra)
        for name, ranges in options.items():
            grids = [choose_qparams(r.low, r.high) for r in ranges]
            chosen[name] = ranges[int(np.argmin(_losses(model, name, grids, spectra, exact)))]
    return chosen


def compressed_distance(exact: Tensor, other: Tensor) -> Tensor:
    """Mean squared distance of compressed spectra (copies, 2, frames, bins), one a copy: (copies,)."""
    a, b = compressed(exact), compressed(other)
    parts = [((x - y) ** 2).mean((1, 2, 3)) for x, y in zip(a, b, strict=True)]
    return (1 - MAGNITUDE_SHARE) * parts[0] + MAGNITUDE_SHARE * parts[1]


def _losses(model: FloatModel, rounded: str, grids: Sequence[QParams], spectra: Tensor, exact: Tensor) -> list[float]:
    """The loss with the tap `rounded` to each grid in turn."""
    n = len(spectra)

    def tap(name: str, value: Tensor) -> Tensor:
        if name != rounded:
            return value
        batch = 1 if name.endswith(".gates_x") else 0  # the input gates of a scan come steps first
        parts = value.split(n, batch)
        return torch.cat([fake_quantize(part, q) for part, q in zip(parts, grids, strict=True)], batch)

    enhanced, _ = model(spectra.repeat(len(grids), 1, 1, 1), tap=tap)
    return [float(compressed_distance(exact, part).double().mean()) for part in enhanced.split(n)]
