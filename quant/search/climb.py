"""`quant build --max-pesq-drop`: spend precision where the speech metric says so, until the budget holds.

From everything in int8, one group of nodes a step is raised (int8 -> mixed for GRUs -> float). Each step measures the
most promising groups again on top of what is raised already, for gains alone mislead, and takes the one that gains
most a MAC among those that gain well. Trials are ranked by `fidelity` on a few clips; after each step the model is
built as `quant build` builds it and judged on the whole validation split: the PESQ difference to float, by TFLite,
at 95 % confidence.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from msgspec.structs import replace

from calibration.corpus import Corpus
from calibration.mixing import Mix
from edge_runtime.errors import Failure
from edge_runtime.quiet import Progress
from quant.audit.counts import count
from quant.emit.emitted import Emitted
from quant.emit.tflite.emitter import emit_tflite
from quant.inputs import assets
from quant.inputs.source import Source
from quant.int8.plan import make_plan, prepare
from quant.int8.recipe import Recipe
from quant.network.graph import Graph
from quant.ptq import quantize
from quant.ptq.migration import migrate_scales
from quant.ptq.quantize import CalibrationSet
from quant.search import tails, validation
from quant.search.groups import Group, groups, recipe_of
from quant.search.journal import Journal
from quant.search.path import Step
from quant.search.validation import SPLIT, Heard, Score

N_GUIDE_CLIPS = 12
RANKS_BY, JUDGES_BY = "fidelity", ("d_pesq", "snr_db")
N_AGAIN = 12  # groups measured anew at each step, those that gained most before
GOOD_SHARE = 0.5  # of the best gain: what gains less is not worth a step, however cheap
LARGE_GAIN = 0.3  # of fidelity: it uncovers losses that it had covered, so everything is measured anew
ONE_SIDED_95 = 1.645  # standard errors
DECIDES_BY = ("edge-denoise", "ai-edge-litert", "pesq", "torch", "numpy")

Levels = Mapping[Group, int]


@dataclass(frozen=True)
class Found:
    """The recipe that keeps the budget, and the path to it; the first step is the start."""

    recipe: Recipe
    steps: tuple[Step, ...]


@dataclass
class Bench:
    """Measures levels of groups, each once."""

    graph: Graph
    base: Recipe
    calibration: CalibrationSet
    checkpoint_sha256: str
    tails: tails.Tails
    heard: Sequence[Heard]
    journal: Journal
    progress: Progress
    n_again: int = N_AGAIN
    why: dict[str, str] = field(default_factory=dict)
    trial_s: float = 0.0  # of the last trials, each

    def recipe(self, levels: Levels) -> Recipe:
        """What these levels mean."""
        return recipe_of(self.base, self.graph, levels, self.why)

    def guide(self, trials: Sequence[Levels]) -> list[float]:
        """Fidelity on the first clips, planned from the tails."""
        names = [f"guide {_named(levels)}" for levels in trials]
        missing = [(n, t) for n, t in zip(names, trials, strict=True) if n not in self.journal.scores]
        if missing:
            estimate = f", about {self.trial_s * len(missing):.0f} s" if self.trial_s else ""
            self.progress(f"search: {len(missing)} trials{estimate}")
            start = time.monotonic()
            models = (self._model(levels) for _, levels in missing)
            scores = validation.score(models, self.heard[:N_GUIDE_CLIPS], "trials", (RANKS_BY,))
            for (name, _), found in zip(missing, scores, strict=True):
                self.journal.add(name, found)
            self.trial_s = (time.monotonic() - start) / len(missing)
        return [self.journal.scores[name].mean(RANKS_BY) for name in names]

    def built(self, levels: Levels) -> Score:
        """On the whole split, exactly as the artifact will be."""
        name = f"built {_named(levels)}"
        if name not in self.journal.scores:
            made = quantize.quantize(self.graph, self.recipe(levels), self.calibration, self.checkpoint_sha256)
            (found,) = validation.score([emit_tflite(made.graph, made.plan)], self.heard, "as built", JUDGES_BY)
            self.journal.add(name, found)
        return self.journal.scores[name]

    def _model(self, levels: Levels) -> Emitted:
        recipe = self.recipe(levels)
        ranges = self.tails.ranges(recipe)
        graph, precision = prepare(migrate_scales(self.graph, quantize.peaks_of(ranges)), recipe)
        return emit_tflite(graph, make_plan(graph, precision, ranges))


def _named(levels: Levels) -> str:
    """Levels as text: what is raised, in the order of the graph."""
    return " ".join(f"{g.name}={g.levels[level]}" for g, level in levels.items() if level)


def search(
    source: Source,
    calibration: CalibrationSet,
    corpora: tuple[Corpus, Corpus],
    progress: Progress,
    *,
    max_pesq_drop: float,
    state: Path | None = None,
    split: Mix = SPLIT,
    n_again: int = N_AGAIN,
) -> Found:
    """The cheapest recipe found that loses at most `max_pesq_drop` PESQ (`Step.lost`).

    It keeps the settings of the source's recipe, not its rules. `state`: the journal; default: in the cache.
    Failure: the budget does not hold even with everything raised.
    """
    title = f"Searched: at most {max_pesq_drop} PESQ below float"
    base = replace(source.recipe, name="searched", title=title)
    key = journal_key(base, calibration, source, split)
    journal = Journal(state or assets.cache_dir() / "search" / f"{key[:16]}.jsonl", key)
    progress("search: listening to the float model")
    heard = validation.listen(emit_tflite(source.graph), *corpora, split)
    progress("search: observing all values")
    provenance = calibration.provenance(base, source.sha256, source.graph.window)
    seen = tails.observe(source.graph, base, calibration.noisy, calibration.mix.warmup_samples, provenance)
    bench = Bench(source.graph, base, calibration, source.sha256, seen, heard, journal, progress, n_again)
    return _climb(bench, max_pesq_drop)


def journal_key(base: Recipe, calibration: CalibrationSet, source: Source, split: Mix) -> str:
    """What a journal's measurements belong to; neither the budget nor how the search decides changes them."""
    decides = {
        "checkpoint": source.sha256,
        "window": source.graph.window,
        "speech": calibration.speech_sha256,
        "noise": calibration.noise_sha256,
        "mixes": [dataclasses.asdict(mix) for mix in (calibration.mix, split)],
        "recipe": [
            base.observer,
            base.percentile,
            base.migrate_scales,
            base.migration_percentile,
            base.bias_correction,
            base.adaptive_rounding,
            base.clip_saturated,
            *((floor.tap, floor.low) for floor in base.floors),
        ],
        "guide": [N_GUIDE_CLIPS, RANKS_BY],
        "versions": {name: version(name) for name in DECIDES_BY},
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def _climb(bench: Bench, max_pesq_drop: float) -> Found:
    all_groups = groups(bench.graph)
    n_macs = sum(layer.macs_frame for layer in count(bench.graph))
    n_float = n_macs - sum(g.macs for g in all_groups)
    levels: dict[Group, int] = dict.fromkeys(all_groups, 0)
    gains = dict.fromkeys(all_groups, float("inf"))
    steps = [_step("", "int8", n_float, 1 - n_float / n_macs, bench.built(levels))]
    bench.progress(_line(0, steps[-1]))
    while steps[-1].lost > max_pesq_drop:
        open_groups = [g for g in all_groups if levels[g] + 1 < len(g.levels)]
        if not open_groups:
            reached = f"with everything raised {steps[-1].lost:.4f} may be lost"
            remedy = "give a larger --max-pesq-drop"
            raise Failure(f"no recipe loses at most {max_pesq_drop} PESQ: {reached}", remedy=remedy)
        group = _choose(bench, levels, gains, open_groups)
        levels[group] += 1
        precision = group.levels[levels[group]]
        gains[group] = float("inf")  # its next level was never tried
        moved = group.macs if precision == "float" else 0
        n_float += moved
        steps.append(_step(group.name, precision, moved, 1 - n_float / n_macs, bench.built(levels)))
        before, after = (step.d_pesq for step in steps[-2:])
        bench.why[group.name] = f"step {len(steps) - 1} of the search: PESQ against float {before:+.4f} -> {after:+.4f}"
        bench.progress(_line(len(steps) - 1, steps[-1]))
    return Found(bench.recipe(levels), tuple(steps))


def _step(group: str, precision: str, macs: int, int8_share: float, score: Score) -> Step:
    """`lost` is a bound and no mean, which would end the search early, by luck: while a model is still far from float,
    some clips lose and some gain much, and over a few dozen of them that may cancel."""
    d_pesq = score.interval("d_pesq")
    return Step(
        group=group,
        precision=precision,
        macs=macs,
        int8_share=int8_share,
        d_pesq=score.mean("d_pesq"),
        snr_db=score.mean("snr_db"),
        d_pesq_low=d_pesq.low,
        d_pesq_high=d_pesq.high,
        lost=ONE_SIDED_95 * score.standard_error("d_pesq") - score.mean("d_pesq"),
    )


def _choose(bench: Bench, levels: Levels, gains: dict[Group, float], open_groups: Sequence[Group]) -> Group:
    """The next group to raise; `gains` is brought up to date for those tried."""
    tried = sorted(open_groups, key=lambda g: -gains[g])
    tried = [g for i, g in enumerate(tried) if i < bench.n_again or gains[g] == float("inf")]
    now, *then = bench.guide([levels, *({**levels, g: levels[g] + 1} for g in tried)])
    gains.update({g: fidelity - now for g, fidelity in zip(tried, then, strict=True)})
    best = max(gains[g] for g in tried)
    good = [g for g in tried if gains[g] >= GOOD_SHARE * best] if best > 0 else [max(tried, key=lambda g: gains[g])]
    chosen = max(good, key=lambda g: gains[g] / g.cost(levels[g] + 1))
    if gains[chosen] > LARGE_GAIN:
        gains.update(dict.fromkeys(gains, float("inf")))
    return chosen


def _line(number: int, step: Step) -> str:
    what = f"{step.group} {step.precision}" if step.group else "everything int8"
    return (
        f"search: step {number}: {what}, {step.int8_share:.0%} of the MACs int8:"
        f" PESQ {step.d_pesq:+.4f}, at most {step.lost:.4f} lost (95 %)"
    )
