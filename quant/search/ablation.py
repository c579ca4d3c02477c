"""`quant ablate`: what each post-training technique gains, alone and together, on a checkpoint of the user's.

Two tables in one. First the recipe's rules with no technique at all, and with each one alone. Then the recipe as it is,
and with each technique taken out (or put in, where the recipe does without). Every row is a model built as `quant
build` builds it, run by TFLite on the validation split and compared with float (`validation`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from edge_runtime.quiet import Progress
from quant.emit.tflite.emitter import emit_tflite
from quant.inputs.source import Inputs, read, sounds
from quant.int8 import recipe
from quant.int8.recipe import RECURRENT, Precision, Recipe
from quant.ptq import quantize
from quant.ptq.quantize import CalibrationSet
from quant.search import validation


@dataclass(frozen=True)
class Technique:
    """Something a recipe may do: how to set it, and how to do without."""

    put_in: Callable[[Recipe], Recipe]
    take_out: Callable[[Recipe], Recipe]


def _setting(name: str, on: Any, off: Any) -> Technique:
    return Technique(lambda r: replace(r, **{name: on}), lambda r: replace(r, **{name: off}))


def _gru_rules(chosen: Recipe, precision: Precision) -> Recipe:
    """`chosen` with its own rules for GRUs, int8 or mixed, at `precision`."""

    def changed(rule: recipe.Rule) -> recipe.Rule:
        concerns = rule.precision != "float" and rule.nodes != "*" and RECURRENT.issuperset(rule.kinds)
        return replace(rule, precision=precision) if concerns else rule

    return replace(chosen, rules=tuple(changed(rule) for rule in chosen.rules))


TECHNIQUES: Final[Mapping[str, Technique]] = {
    "percentile ranges": _setting("observer", "percentile", "min_max"),
    "minimum-MSE ranges": _setting("observer", "min_mse", "min_max"),
    "loss-aware ranges": _setting("observer", "loss_aware", "min_max"),
    "scale migration": _setting("migrate_scales", True, False),
    "mixed GRUs": Technique(lambda r: _gru_rules(r, "mixed"), lambda r: _gru_rules(r, "int8")),
    "adaptive rounding": _setting("adaptive_rounding", True, False),
    "bias correction": _setting("bias_correction", True, False),
}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One model: what was done, and the means of how it scores against float."""

    what: str
    d_pesq: float
    d_si_sdr: float
    fidelity: float
    snr_db: float
    d_pesq_low: float
    d_pesq_high: float


def variants(chosen: Recipe) -> dict[str, Recipe]:
    """What to build: name -> recipe, each different recipe once."""
    bare = chosen
    for technique in TECHNIQUES.values():
        bare = technique.take_out(bare)
    rows = {"none": bare} | {f"{name} alone": t.put_in(bare) for name, t in TECHNIQUES.items()}
    rows |= {f"recipe {chosen.name}": chosen}
    for name, technique in TECHNIQUES.items():
        added = technique.put_in(chosen)
        rows |= {f"with {name}": added} if added != chosen else {f"without {name}": technique.take_out(chosen)}
    names = list(rows)
    return {what: r for i, (what, r) in enumerate(rows.items()) if r not in [rows[name] for name in names[:i]]}


def ablate(inputs: Inputs, progress: Progress) -> Iterator[Row]:
    """A row a variant of the recipe, as it is measured."""
    validation.require_metrics()
    source = read(inputs.by_recipe(), progress)
    graph, chosen = source.graph, source.recipe
    corpora = sounds(inputs, progress)
    calibration = CalibrationSet.make(*corpora, quantize.CALIBRATION_MIX)
    progress("listening to the float model")
    heard = validation.listen(emit_tflite(graph), *corpora)
    todo, start = variants(chosen), time.monotonic()
    for number, (what, variant) in enumerate(todo.items()):
        left_s = (time.monotonic() - start) / number * (len(todo) - number) if number else 0.0
        progress(f"{number + 1} of {len(todo)}: {what}" + (f", about {left_s:.0f} s left" if number else ""))
        made = quantize.quantize(graph, variant, calibration, source.sha256)
        (score,) = validation.score([emit_tflite(made.graph, made.plan)], heard, what)
        d_pesq = score.interval("d_pesq")
        means = {figure: score.mean(figure) for figure in score.figures}
        yield Row(what=what, **means, d_pesq_low=d_pesq.low, d_pesq_high=d_pesq.high)
