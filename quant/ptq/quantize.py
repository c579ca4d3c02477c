"""Post-training quantization: a float graph and calibration speech in, a quantized graph and its plan out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import msgspec
import numpy as np

from calibration.corpus import Corpus
from calibration.mixing import Clip, Mix, mixtures
from calibration.ranges import Provenance, Ranges
from edge_runtime.errors import Failure
from edge_runtime.stft import Float32Array, WindowName
from quant.int8 import exact_float
from quant.int8.plan import Plan, int8_taps, make_plan, prepare, uses_once
from quant.int8.recipe import RECURRENT, Precision, Recipe
from quant.network.graph import Graph
from quant.ptq import adaptive_rounding, bias_correction, calibrate, loss_aware, saturation
from quant.ptq.migration import migrate_scales

ANEW = "leave --ranges out to calibrate anew"
CALIBRATION_MIX: Final = Mix()


@dataclass(frozen=True)
class CalibrationSet:
    """Mixtures of real speech and noise, and what they were made from."""

    clips: tuple[Clip, ...]
    mix: Mix
    speech_sha256: str
    noise_sha256: str

    @classmethod
    def make(
        cls, speech: Corpus, noise: Corpus, mix: Mix, left_out: Callable[[Failure], None] | None = None
    ) -> CalibrationSet:
        """Mix the corpora; `left_out` as of `mixtures`."""
        return cls(tuple(mixtures(speech, noise, mix, left_out)), mix, speech.fingerprint(), noise.fingerprint())

    @property
    def noisy(self) -> Float32Array:
        """(n_clips, samples) what the network hears."""
        return np.stack([clip.noisy for clip in self.clips])

    @property
    def excerpt(self) -> Float32Array:
        """The same, speech in noise first: what golden vectors and the accuracy report are made of."""
        return np.stack([clip.noisy for clip in sorted(self.clips, key=lambda clip: clip.kind != "mixed")])

    def provenance(self, recipe: Recipe, checkpoint_sha256: str, window: WindowName) -> Provenance:
        """How ranges measured on this set come about."""
        sounds = self.speech_sha256, self.noise_sha256
        return Provenance(recipe.observer, self.mix, *sounds, checkpoint_sha256, window)


@dataclass(frozen=True)
class Quantized:
    """A prepared graph (channels rescaled, entrances explicit), its plan, and the ranges behind it."""

    graph: Graph
    plan: Plan
    ranges: Ranges


def quantize(graph: Graph, recipe: Recipe, calibration: CalibrationSet, checkpoint_sha256: str) -> Quantized:
    """Measure channel peaks and ranges on the float graph, plan, then `refine`."""
    noisy, warmup = calibration.noisy, calibration.mix.warmup_samples
    floors = {floor.tap: floor.low for floor in recipe.floors}
    peaks: dict[str, Float32Array] = {}
    if recipe.migrate_scales:
        peaks = calibrate.observe_channels(
            graph, migrated_values(graph, recipe), noisy, warmup, recipe.migration_percentile, floors
        )
    prepared, precision = prepare(migrate_scales(graph, peaks), recipe)
    histograms = calibrate.observe(prepared, int8_taps(prepared, precision), noisy, warmup, floors)
    provenance = calibration.provenance(recipe, checkpoint_sha256, graph.window)
    ranges = calibrate.choose_ranges(histograms, recipe, provenance, peaks)
    if recipe.observer == "loss_aware":
        options = {tap: loss_aware.candidates(h, recipe.percentile_of(tap)) for tap, h in histograms.items()}
        heard = noisy[: loss_aware.LOSS_CLIPS, : loss_aware.LOSS_SAMPLES]
        ranges = msgspec.structs.replace(ranges, values=loss_aware.choose(prepared, options, heard))
    ranges = saturation.limited(prepared, precision, ranges, recipe)
    return refine(_planned(prepared, precision, ranges), recipe, calibration)


def refine(quantized: Quantized, recipe: Recipe, calibration: CalibrationSet) -> Quantized:
    """Move weights on their grids and shift biases, as the recipe says; the plan stays."""
    graph = quantized.graph
    if recipe.adaptive_rounding:
        graph = adaptive_rounding.round_weights(graph, quantized.plan, calibration.noisy)
    if recipe.bias_correction:
        graph = bias_correction.correct_biases(graph, quantized.plan, calibration.noisy)
    return replace(quantized, graph=graph)


def requantize(graph: Graph, recipe: Recipe, ranges: Ranges, checkpoint_sha256: str | None = None) -> Quantized:
    """Plan with ranges measured or learned before; needs no sound, so nothing is refined.

    Failure: they belong to another checkpoint or another recipe, or no network computes such numbers.
    """
    if checkpoint_sha256 is not None and ranges.provenance.checkpoint_sha256 != checkpoint_sha256:
        raise Failure("measured on another checkpoint", remedy=ANEW)
    if ranges.provenance.window != graph.window:
        raise Failure(f"measured through another window, {ranges.provenance.window}", remedy=ANEW)
    ranges.require_usable()
    peaks = peaks_of(ranges)
    if odd := [n for n, values in peaks.items() if n not in graph.shapes or len(values) != graph.shapes[n].channels]:
        raise Failure(f"{len(peaks[odd[0]])} channel peaks for {odd[0]}, which this network does not have", remedy=ANEW)
    prepared, precision = prepare(migrate_scales(graph, peaks), recipe)
    if missing := [tap for tap in int8_taps(prepared, precision) if tap not in ranges.values]:
        raise Failure(f"measured for another recipe: no range for tap {missing[0]}", remedy=ANEW)
    return _planned(prepared, precision, ranges)


def _planned(prepared: Graph, precision: Mapping[str, Precision], ranges: Ranges) -> Quantized:
    return Quantized(halved(prepared, precision), make_plan(prepared, precision, ranges), ranges)


def halved(graph: Graph, precision: Mapping[str, Precision]) -> Graph:
    """Float layers that hold many numbers and use each once (recurrent, normalizing, over a single band): two bytes are
    enough for them.

    Every engine then carries the same numbers; the native one stores them in half precision.
    """
    names = halved_names(graph, precision)
    with np.errstate(over="ignore"):
        params = {k: exact_float.to_half(v) if k in names else v for k, v in graph.params.items()}
    if large := next((k for k in params if k in names and not np.isfinite(params[k]).all()), None):
        what = f"{large} holds weights above {np.finfo(np.float16).max:,.0f}, which half precision cannot"
        raise Failure(what, remedy="a network that learned such weights diverged; train it again")
    return replace(graph, params=params)


def halved_names(graph: Graph, precision: Mapping[str, Precision]) -> frozenset[str]:
    """The parameters that are kept in half precision."""
    kept = [n for n in graph.nodes if precision[n.name] == "float" and uses_once(graph, n)]
    return frozenset(name for node in kept for role in node.params.values() for name in role)


def peaks_of(ranges: Ranges) -> dict[str, Float32Array]:
    """The channel peaks behind the ranges' scale migration."""
    return {name: np.asarray(values, np.float32) for name, values in ranges.channel_peaks.items()}


def migrated_values(graph: Graph, recipe: Recipe) -> list[str]:
    """The values whose channels are stored in 8 bits and can be rescaled: a GRU's cannot, energies follow what they
    are of."""
    prepared, precision = prepare(graph, recipe)
    stored = [n for n in prepared.nodes if precision[n.name] == "int8"]
    names = [n.inputs[0] if n.kind == "quantize" else n.name for n in stored]
    return [
        name for name in dict.fromkeys(names) if graph.node(name).kind not in RECURRENT | {"mean_square", "band_energy"}
    ]
