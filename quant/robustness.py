"""Int8 against float of the same artifact and engine on hard input (`quant eval --suite robustness`).

A row is one input, one quantity that a listener would notice, and a bound; RULES says why it is where it is. The bounds
are the worst of what was measured, with margin: docs/evaluation.md says on what, and how to measure again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from calibration.corpus import Corpus
from edge_runtime.errors import Failure
from quant import assets, parallel
from quant.graph import Array
from quant.metrics import si_sdr_db
from quant.stimuli import DRIFT_MINUTES, Material, Stimulus, stimuli, ten_minutes
from quant.systems import System, systems_of

SILENT_DBFS: Final = -200.0  # reported for nothing at all
AUDIBLE_DB: Final = -40.0  # below the input; what is quieter than that in the output is not compared


class Quantity(NamedTuple):
    """`measure` takes the input and what float and int8 made of it, from the first sample that is judged."""

    measure: Callable[[Stimulus, Array, Array], float]
    unit: str
    is_upper: bool  # a bound from above


def level_dbfs(sound: Array) -> float:
    """RMS without the mean, which nobody hears; SILENT_DBFS at least."""
    power = float(np.var(sound, dtype=np.float64))
    return max(SILENT_DBFS, 10 * float(np.log10(max(power, 1e-30))))


def _difference(stimulus: Stimulus, exact: Array, rough: Array) -> float:
    return level_dbfs(rough - exact) - level_dbfs(stimulus.noisy)


def _si_sdr_change(stimulus: Stimulus, exact: Array, rough: Array) -> float:
    if stimulus.clean is None:
        raise ValueError(f"{stimulus.name} has no clean speech")
    return si_sdr_db(stimulus.clean, rough) - si_sdr_db(stimulus.clean, exact)


def _attenuation_change(stimulus: Stimulus, exact: Array, rough: Array) -> float:
    floor = level_dbfs(stimulus.noisy) + AUDIBLE_DB
    return abs(max(level_dbfs(rough), floor) - max(level_dbfs(exact), floor))


def _output_level(stimulus: Stimulus, exact: Array, rough: Array) -> float:
    return level_dbfs(rough)


def _fidelity(stimulus: Stimulus, exact: Array, rough: Array) -> float:
    return si_sdr_db(stimulus.noisy, rough)


def _drift(stimulus: Stimulus, exact: Array, rough: Array) -> float:
    minute = len(exact) // DRIFT_MINUTES
    first, last = (level_dbfs((rough - exact)[cut]) for cut in (slice(minute), slice(-minute, None)))
    return last - first


QUANTITIES: Final[dict[str, Quantity]] = {
    "difference to float below the input": Quantity(_difference, "dB", True),
    "change in SI-SDR": Quantity(_si_sdr_change, "dB", False),
    "change in attenuation": Quantity(_attenuation_change, "dB", True),
    "output level": Quantity(_output_level, "dBFS", True),
    "SI-SDR of the output to the input": Quantity(_fidelity, "dB", False),
    "difference to float, last minute to first": Quantity(_drift, "dB", True),
}
DIFFERENCE, SI_SDR, ATTENUATION, OUTPUT, FIDELITY, DRIFT = QUANTITIES


class Rule(NamedTuple):
    """What must hold for the inputs whose name starts with `inputs`."""

    inputs: str
    quantity: str
    bound: float
    why: str


RULES: Final = (
    Rule("level", DIFFERENCE, -5, "x"),
    Rule("level", SI_SDR, -1, "x"),
    Rule("SNR", DIFFERENCE, -5, "x"),
    Rule("SNR", SI_SDR, -1, "x"),
    Rule("clean", DIFFERENCE, -5, "x"),
    Rule("clean", SI_SDR, -1, "x"),
    Rule("clean", FIDELITY, 10, "x"),
    Rule("digital", OUTPUT, -90, "x"),
    Rule("16-bit", OUTPUT, -90, "x"),
    Rule("noise", DIFFERENCE, -5, "x"),
    Rule("noise", ATTENUATION, 3, "x"),
    Rule("clipped", DIFFERENCE, -5, "x"),
    Rule("clipped", SI_SDR, -1, "x"),
    Rule("impulses", DIFFERENCE, -5, "x"),
    Rule("impulses", ATTENUATION, 3, "x"),
    Rule("clicks", DIFFERENCE, -5, "x"),
    Rule("clicks", SI_SDR, -1, "x"),
    Rule("tone", DIFFERENCE, -5, "x"),
    Rule("tone", ATTENUATION, 3, "x"),
    Rule("DC", DIFFERENCE, -5, "x"),
    Rule("DC", SI_SDR, -3, "x"),
    Rule("cut from -10 to", DIFFERENCE, -5, "x"),
    Rule("cut from -10 to", SI_SDR, -1, "x"),
    Rule("cut from -10 dBFS to silence", OUTPUT, -90, "x"),
    Rule("10 minutes", DRIFT, 3, "x"),
)


@dataclass(frozen=True)
class Verdict:
    """One row: `value` is None where it could not be measured, and `error` says why."""

    system: str
    stimulus: str
    quantity: str
    unit: str
    value: float | None
    bound: float
    is_upper: bool
    why: str
    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether the bound holds."""
        if self.value is None:
            return False
        return self.value <= self.bound if self.is_upper else self.value >= self.bound

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**dataclasses.asdict(self), "ok": self.ok}


def rules_for(stimulus: Stimulus) -> list[Rule]:
    """What an input is judged by."""
    return [rule for rule in RULES if stimulus.name.startswith(rule.inputs)]


def study(
    artifacts: Sequence[Path],
    speech: Path | None = None,
    noise: Path | None = None,
    *,
    n_jobs: int = -1,
    scheduler: str | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> list[Verdict]:
    """Every row of every int8 model that has a float one beside it; sounds default to the pulled ones.

    Failure: no such model, sounds that cannot be used, and see `parallel.run`.
    """
    compared = float_and_int8(systems_of(artifacts))
    progress("cutting speech and noise")
    material = Material(Corpus.open(speech or assets.speech()), Corpus.open(noise or assets.noise()))
    inputs = [ten_minutes(material), *stimuli(material)]  # the long one first, so that it does not run alone at the end
    progress(f"{len(inputs)} inputs through {len(compared)} int8 models and their float ones")
    verdicts = judge(compared, inputs, n_jobs=n_jobs, scheduler=scheduler)
    order = {stimulus.name: place for place, stimulus in enumerate([*inputs[1:], inputs[0]])}
    return sorted(verdicts, key=lambda v: (v.system, order[v.stimulus]))


def float_and_int8(systems: Sequence[System]) -> list[tuple[System, System]]:
    """Each int8 system after its float one. Failure: there is none."""
    by_label = {s.label: s for s in systems}
    found = [(by_label[s.against], s) for s in systems if s.against is not None]
    if not found:
        raise Failure("no int8 model has a float one beside it", remedy="build it again with `quant build`")
    return found


def judge(
    compared: Sequence[tuple[System, System]],
    inputs: Sequence[Stimulus],
    *,
    n_jobs: int = -1,
    scheduler: str | None = None,
    quiet: bool = False,
) -> list[Verdict]:
    """The rows of these inputs for each (float, int8), in parallel by input."""
    packed = [(rough.label, parallel.packed(exact.open), parallel.packed(rough.open)) for exact, rough in compared]
    jobs = [(stimulus, *models) for stimulus in inputs for models in packed]
    done = parallel.run(judge_one, jobs, unit="row", n_jobs=n_jobs, scheduler=scheduler, quiet=quiet)
    return [verdict for verdicts in done for verdict in verdicts]


def judge_one(stimulus: Stimulus, label: str, exact: bytes, rough: bytes) -> list[Verdict]:
    """The rows of one input under one model; `exact` and `rough` are packed openers."""
    rules = rules_for(stimulus)
    try:
        outputs = [parallel.opened(opener)(stimulus.noisy)[stimulus.start :] for opener in (exact, rough)]
    except Exception as error:  # a row that fails is named; the others go on
        return [_verdict(label, stimulus, rule, None, f"{type(error).__name__}: {error}") for rule in rules]
    heard = stimulus.from_start()
    return [_verdict(label, stimulus, rule, QUANTITIES[rule.quantity].measure(heard, *outputs)) for rule in rules]


def _verdict(label: str, stimulus: Stimulus, rule: Rule, value: float | None, error: str = "") -> Verdict:
    if value is not None and not np.isfinite(value):
        value, error = None, "not a finite number"
    _, unit, is_upper = QUANTITIES[rule.quantity]
    return Verdict(label, stimulus.name, rule.quantity, unit, value, rule.bound, is_upper, rule.why, error)


def refuse_breaches(verdicts: Sequence[Verdict]) -> None:
    """Failure, naming the rows, when a bound does not hold."""
    broken = [f"{v.system}, {v.stimulus}: {v.error or v.quantity}" for v in verdicts if not v.ok]
    if broken:
        raise Failure(f"{len(broken)} of {len(verdicts)} bounds breached: {'; '.join(broken)}")
