"""Percentile ranges for any scale migration, from one pass over the clips.

Migration multiplies channels by factors that depend on which values a recipe stores in 8 bits, so each recipe has
ranges of its own. But a percentile of a value needs only its extremes, and the extremes of a rescaled value are among
the rescaled extremes of its channels: the few values at both ends of each channel are kept, and serve every recipe.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from calibration.observers import SMALLEST_PEAK, Histogram, Percentile
from calibration.ranges import Provenance, Ranges, TapRange
from edge_runtime.stft import Float32Array
from quant.int8.plan import ENTRANCE, GRU_RANGED, int8_taps, prepare
from quant.int8.recipe import RECURRENT, Recipe
from quant.network.graph import Graph
from quant.ptq import calibrate, saturation
from quant.ptq.migration import choose_factors, migrate_scales
from quant.ptq.quantize import migrated_values


@dataclass(frozen=True)
class Extremes:
    """`lows`, `highs` (channels, k): the k smallest and largest values of each channel; `n` values in all."""

    lows: Float32Array
    highs: Float32Array
    n: int

    @classmethod
    def of(cls, value: Tensor, percentile: float) -> Extremes:
        """Of a value (batch, channels, frames, bands), enough of them for `percentile`."""
        channels = value.transpose(0, 1).flatten(1)
        k = min(_rank(value.numel(), percentile), channels.shape[1])
        highs, lows = channels.topk(k).values, -(-channels).topk(k).values
        return cls(lows.numpy(), highs.numpy(), value.numel())

    def range(self, factors: Float32Array, percentile: float) -> TapRange:
        """What `percentile` % of the values lie below, and above, with the channels multiplied by `factors`."""
        k = _rank(self.n, percentile)
        ends = [np.sort((x * factors[:, None]).ravel()) for x in (self.lows, self.highs)]
        low, high = min(float(ends[0][k - 1]), 0.0), max(float(ends[1][-k]), 0.0)
        high = high if high - low >= SMALLEST_PEAK else SMALLEST_PEAK
        return TapRange(low, high, self.n, float(ends[0][0]), float(ends[1][-1]))


def _rank(n: int, percentile: float) -> int:
    """The percentile's place from its end, from 1."""
    return n - max(math.ceil(n * percentile / 100), 1) + 1


@dataclass(frozen=True)
class Tails:
    """What one pass over calibration clips keeps of a streaming graph: everything that any recipe's ranges need."""

    graph: Graph
    percentile: float
    peaks: Mapping[str, Float32Array]
    extremes: Mapping[str, Extremes]
    inside: Mapping[str, TapRange]  # of GRUs, whose insides are never rescaled
    provenance: Provenance

    def ranges(self, recipe: Recipe) -> Ranges:
        """The ranges of a recipe, within a histogram's bin of those that `ptq.quantize` measures."""
        peaks = {n: self.peaks[n] for n in migrated_values(self.graph, recipe)} if recipe.migrate_scales else {}
        factors = choose_factors(self.graph, peaks)
        prepared, precision = prepare(migrate_scales(self.graph, peaks), recipe)
        values: dict[str, TapRange] = {}
        for tap in int8_taps(prepared, precision):
            name = tap.removesuffix(ENTRANCE)
            inside = self.inside.get(tap)
            values[tap] = inside or self.extremes[name].range(factors[name], self.percentile)
        found = Ranges(values, self.provenance, {name: tuple(p.tolist()) for name, p in peaks.items()})
        return saturation.limited(prepared, precision, found, recipe)


def observe(graph: Graph, recipe: Recipe, clips: Float32Array, warmup_samples: int, provenance: Provenance) -> Tails:
    """One pass over clips (n_clips, samples) for the extremes, one for the channel peaks."""
    recurrent = [n.name for n in graph.nodes if n.kind in RECURRENT]
    inside = {f"{name}.{role}": Histogram() for name in recurrent for role in GRU_RANGED}
    values = [n.name for n in graph.nodes if n.kind not in RECURRENT]
    floors = {floor.tap.removesuffix(ENTRANCE): floor.low for floor in recipe.floors}  # no entrance is in this graph
    peaks = calibrate.observe_channels(graph, values, clips, warmup_samples, recipe.migration_percentile, floors)
    extremes: dict[str, Extremes] = {}
    steps: dict[str, list[Tensor]] = {name: [] for name in recurrent}
    wanted = set(values)

    def tap(name: str, value: Tensor) -> Tensor:
        if name in inside:
            inside[name].observe(value.numpy())
        elif name in steps:
            steps[name].append(value)
        elif name in wanted:
            extremes[name] = Extremes.of(value, recipe.percentile)
        return calibrate.floored(name, value, floors)

    calibrate.run_tapped(graph, clips, warmup_samples, tap)
    for name, made in steps.items():
        joined = torch.stack(made).movedim(-1, 0)[None]
        extremes[name] = Extremes.of(joined, recipe.percentile)
    found = {name: TapRange.observed(Percentile(h, recipe.percentile)) for name, h in inside.items()}
    return Tails(graph, recipe.percentile, peaks, extremes, found, provenance)
