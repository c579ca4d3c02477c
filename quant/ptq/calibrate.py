"""Ranges of every tap the plan needs, from the float model on real mixtures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch

from calibration.observers import OBSERVERS, ChannelMax, Histogram, Observer, Percentile
from calibration.ranges import Provenance, Ranges, TapRange
from edge_runtime.errors import Failure
from edge_runtime.stft import HOP_SAMPLES, Float32Array
from quant.int8.recipe import Recipe
from quant.network.float_model import FloatModel, Tap
from quant.network.graph import Graph
from quant.network.spectra import analyse


def run_tapped(graph: Graph, clips: Float32Array, warmup_samples: int, tap: Tap) -> None:
    """Run clips (n_clips, samples) through the float model; `tap` sees the frames after the warm-up.

    Every clip starts from a reset state and carries it to its end.
    """
    model, spectra = FloatModel(graph).eval(), torch.from_numpy(analyse(clips, graph.window))
    start = warmup_samples // HOP_SAMPLES
    with torch.no_grad():
        _, states = model(spectra[:, :, :start])
        model(spectra[:, :, start:], states, tap)


def observe(
    graph: Graph, taps: Iterable[str], clips: Float32Array, warmup_samples: int, floors: Mapping[str, float]
) -> dict[str, Histogram]:
    """A histogram of each tap. `floors`: tap -> the least that its grid will hold, so that nothing behind it hears of
    less."""
    histograms = {tap: Histogram() for tap in taps}

    def tap(name: str, value: torch.Tensor) -> torch.Tensor:
        if name in histograms:
            _observe(histograms[name], name, value)
        return floored(name, value, floors)

    run_tapped(graph, clips, warmup_samples, tap)
    return histograms


def _observe(observer: Histogram | ChannelMax, tap: str, value: torch.Tensor) -> None:
    try:
        observer.observe(value.numpy())
    except Failure as failure:
        raise Failure(str(failure), where=f"tap {tap}") from None


def floored(name: str, value: torch.Tensor, floors: Mapping[str, float]) -> torch.Tensor:
    """The value of a tap, nowhere below its floor: what is behind it hears no more."""
    return value.clamp_min(floors[name]) if name in floors else value


def observe_channels(
    graph: Graph,
    taps: Sequence[str],
    clips: Float32Array,
    warmup_samples: int,
    percentile: float,
    floors: Mapping[str, float],
) -> dict[str, Float32Array]:
    """The peak magnitude of each channel of each tap: what `percentile` % of its values do not exceed. `floors` as of
    `observe`."""
    observers = {tap: ChannelMax() for tap in taps}

    def tap(name: str, value: torch.Tensor) -> torch.Tensor:
        if name in observers:
            _observe(observers[name], name, value.transpose(0, 1).flatten(1))
        return floored(name, value, floors)

    run_tapped(graph, clips, warmup_samples, tap)
    return {name: np.asarray(o.maxima(percentile), np.float32) for name, o in observers.items()}


def choose_ranges(
    histograms: Mapping[str, Histogram], recipe: Recipe, provenance: Provenance, peaks: Mapping[str, Float32Array]
) -> Ranges:
    """What the recipe's observer chooses for 8 bits; the channel peaks behind a scale migration are kept with it."""

    def observer(name: str, histogram: Histogram) -> Observer:
        if recipe.observer in ("percentile", "loss_aware"):  # loss-aware ranges start from percentiles
            return Percentile(histogram, recipe.percentile_of(name))
        return OBSERVERS[recipe.observer](histogram)

    values = {name: TapRange.observed(observer(name, h)) for name, h in histograms.items()}
    return Ranges(values, provenance, {name: tuple(p.tolist()) for name, p in peaks.items()})
