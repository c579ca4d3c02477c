"""Int8 against float of the same artifact and engine on hard input (`quant eval --suite robustness`).

A row is one input, one quantity that a listener would notice, and a bound; RULES says why it is where it is. The bounds
are the worst of what was measured, with margin: docs/guide/evaluation.md says on what, and how to measure again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from edge_runtime.errors import Failure
from edge_runtime.quiet import Progress, silent
from edge_runtime.stft import SAMPLE_RATE_HZ, Float32Array
from quant.inputs.source import open_sounds
from quant.quality import parallel
from quant.quality.isolated import Call
from quant.quality.metrics import si_sdr_db
from quant.quality.results import RobustnessRow
from quant.quality.stimuli import DRIFT_MINUTES, Material, Stimulus, stimuli, ten_minutes
from quant.quality.systems import Model, System, systems_of

SILENT_DBFS: Final = -200.0  # reported for nothing at all
AUDIBLE_DB: Final = -40.0  # below the input; what is quieter than that in the output is not compared


class Quantity(NamedTuple):
    """`measure` takes the input and what float and int8 made of it, from the first sample that is judged."""

    measure: Callable[[Stimulus, Float32Array, Float32Array], float]
    unit: str
    is_upper: bool  # a bound from above


def level_dbfs(sound: Float32Array) -> float:
    """RMS without the mean, which nobody hears; SILENT_DBFS at least."""
    power = float(np.var(sound, dtype=np.float64))
    return max(SILENT_DBFS, 10 * float(np.log10(max(power, 1e-30))))


def _difference(stimulus: Stimulus, exact: Float32Array, rough: Float32Array) -> float:
    return level_dbfs(rough - exact) - level_dbfs(stimulus.noisy)


def _si_sdr_change(stimulus: Stimulus, exact: Float32Array, rough: Float32Array) -> float:
    if stimulus.clean is None:
        raise ValueError(f"{stimulus.name} has no clean speech")
    return si_sdr_db(stimulus.clean, rough) - si_sdr_db(stimulus.clean, exact)


def _attenuation_change(stimulus: Stimulus, exact: Float32Array, rough: Float32Array) -> float:
    floor = level_dbfs(stimulus.noisy) + AUDIBLE_DB
    return abs(max(level_dbfs(rough), floor) - max(level_dbfs(exact), floor))


def _output_level(stimulus: Stimulus, exact: Float32Array, rough: Float32Array) -> float:
    return level_dbfs(rough)


def _fidelity(stimulus: Stimulus, exact: Float32Array, rough: Float32Array) -> float:
    return si_sdr_db(stimulus.noisy, rough)


def _drift(stimulus: Stimulus, exact: Float32Array, rough: Float32Array) -> float:
    minute = len(exact) // DRIFT_MINUTES
    first, last = (level_dbfs((rough - exact)[cut]) for cut in (slice(minute), slice(-minute, None)))
    return last - first


QUANTITIES: Final[dict[str, Quantity]] = {
    "difference to float, to the input": Quantity(_difference, "dB", True),
    "change in SI-SDR": Quantity(_si_sdr_change, "dB", False),
    "change in attenuation": Quantity(_attenuation_change, "dB", True),
    "output level": Quantity(_output_level, "dBFS", True),
    "SI-SDR of the output to the input": Quantity(_fidelity, "dB", False),
    "difference to float, last minute to first": Quantity(_drift, "dB", True),
}
DIFFERENCE, SI_SDR, ATTENUATION, OUTPUT, FIDELITY, DRIFT = QUANTITIES

# One rounding that falls the other way moves these by dB, and processors round otherwise: judged on the engine that is
# exact, whose bits are the same everywhere. The others' DIFFERENCE is bounded.
EXACT_ENGINE: Final = "native"
CHAOTIC: Final = frozenset({DRIFT})


class Rule(NamedTuple):
    """What must hold for the inputs that one of the patterns names: quantity -> bound, and the reason of the bounds."""

    inputs: tuple[str, ...]
    bounds: dict[str, float]
    why: str


RULES: Final = (
    Rule(("level -[56]0 dBFS",), {DIFFERENCE: -12}, "so quiet that only what is added could be heard"),
    Rule(("level -[234]0 dBFS",), {DIFFERENCE: -15, SI_SDR: -1.5}, "where recordings lie: the noise left masks it"),
    Rule(("level -10 dBFS",), {DIFFERENCE: -5, SI_SDR: -4}, "louder than calibration: ranges clip"),
    Rule(("level 0 dBFS",), {DIFFERENCE: 0}, "peaks at 5 x full scale: must only not blow up"),
    Rule(("SNR -* dB",), {DIFFERENCE: -10, SI_SDR: -2}, "the input is noise; float's own output is rough there"),
    Rule(("SNR [05] dB", "SNR 10 dB"), {DIFFERENCE: -14, SI_SDR: -1.5}, "the noise left over masks it"),
    Rule(("SNR [234]0 dB",), {DIFFERENCE: -25, SI_SDR: -2.5}, "little noise masks it, but 25 dB below speech does"),
    Rule(("clean speech",), {DIFFERENCE: -25, SI_SDR: -2.5, FIDELITY: 12}, "speech without noise must pass through"),
    Rule(("digital silence", "cut * to silence"), {OUTPUT: -90}, "nothing in, nothing out, also after loud speech"),
    Rule(("16-bit dither",), {OUTPUT: -90}, "no louder than the last bit that made it"),
    Rule(("noise alone",), {DIFFERENCE: -15, ATTENUATION: 6}, "left over 25 dB below or lower; 6 dB is heard"),
    Rule(("noise alone, -50 dBFS",), {DIFFERENCE: -12, ATTENUATION: 6}, "the same where int8 has few steps left"),
    Rule(("clipped at full scale",), {DIFFERENCE: -2, SI_SDR: -8}, "18 dB too loud, then clipped: ranges clip as well"),
    Rule(("impulses",), {DIFFERENCE: -7, ATTENUATION: 3}, "one sample excites every channel; it is over in two frames"),
    Rule(("clicks in *",), {DIFFERENCE: -16, SI_SDR: -1.5}, "a click must not upset the states after it"),
    Rule(("tone *",), {DIFFERENCE: -6, ATTENUATION: 5}, "far from speech: float itself passes some and stops others"),
    Rule(("DC offset 0.01 *",), {DIFFERENCE: -16, SI_SDR: -1.5}, "cheap microphones have it: as good as without"),
    Rule(("DC offset 0.1 *",), {DIFFERENCE: -7, SI_SDR: -4}, "20 dB over any real offset: must only not break"),
    Rule(("cut * to -50 dBFS",), {DIFFERENCE: -12, SI_SDR: -3}, "states left by loud speech must not linger"),
    Rule(("10 minutes *",), {DRIFT: 3, DIFFERENCE: -14}, "states must not drift: the last minute is the first again"),
)


Bound = tuple[str, float, str]  # quantity, bound, why


def bounds_of(name: str) -> list[Bound]:
    """Of the rows of an input."""
    rules = [rule for rule in RULES if any(fnmatchcase(name, pattern) for pattern in rule.inputs)]
    return [(quantity, bound, rule.why) for rule in rules for quantity, bound in rule.bounds.items()]


def study(
    artifacts: Sequence[Path],
    speech: Path | None = None,
    noise: Path | None = None,
    *,
    n_jobs: int = -1,
    scheduler: str | None = None,
    progress: Progress = silent,
) -> list[RobustnessRow]:
    """Every row of every int8 model that has a float one beside it; sounds default to the pulled ones.

    Failure: no such model, sounds that cannot be used, and see `parallel.completed`.
    """
    compared = float_and_int8(systems_of(artifacts))
    progress("cutting speech and noise")
    material = Material(*open_sounds(speech, noise))
    inputs = [*stimuli(material), ten_minutes(material)]
    progress(f"{len(inputs)} inputs through {len(compared)} int8 models and their float ones")
    rows = judge(compared, inputs, n_jobs=n_jobs, scheduler=scheduler)
    order = {stimulus.name: place for place, stimulus in enumerate(inputs)}
    return sorted(rows, key=lambda row: (row.system, order[row.stimulus]))


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
) -> list[RobustnessRow]:
    """The rows of these inputs for each (float, int8), in parallel by input."""
    labels = {rough.label for _, rough in compared}
    packed = [(rough, parallel.packed(exact.open), parallel.packed(rough.open)) for exact, rough in compared]
    # Bounds travel with the job: what is judged by is decided here, whatever process does it.
    jobs = [
        (stimulus, bounds, rough.label, floating, integer)
        for stimulus in inputs
        for rough, floating, integer in packed
        if (bounds := [bound for bound in bounds_of(stimulus.name) if is_judged(bound, rough, labels)])
    ]
    lengths_s = [len(stimulus.noisy) / SAMPLE_RATE_HZ for stimulus, *_ in jobs]
    done = parallel.completed(
        judge_one,
        jobs,
        unit="s of sound",
        sizes=lengths_s,
        n_jobs=n_jobs,
        scheduler=scheduler,
        quiet=quiet,
        after_death=_dead,
    )
    by_place = dict(done)
    return [row for place in sorted(by_place) for row in by_place[place]]


def is_judged(bound: Bound, rough: System, labels: Collection[str]) -> bool:
    """All but what is chaotic, where the exact engine's model of the same artifact is among the systems."""
    if bound[0] not in CHAOTIC or not isinstance(rough.open, Model) or rough.open.engine == EXACT_ENGINE:
        return True
    engine, precision = rough.open.engine, rough.open.precision
    return f"{rough.label.removesuffix(f'{engine} {precision}')}{EXACT_ENGINE} {precision}" not in labels


def judge_one(
    stimulus: Stimulus, bounds: Sequence[Bound], label: str, exact: bytes, rough: bytes
) -> list[RobustnessRow]:
    """The rows of one input under one model; `exact` and `rough` are packed openers."""
    try:
        outputs = [parallel.opened(opener)(stimulus.noisy)[stimulus.start :] for opener in (exact, rough)]
    except Exception as error:  # a row that fails is named; the others go on
        return [_row(label, stimulus, *bound, error=f"{type(error).__name__}: {error}") for bound in bounds]
    heard = stimulus.from_start()
    return [_row(label, stimulus, *bound, value=QUANTITIES[bound[0]].measure(heard, *outputs)) for bound in bounds]


def _dead(call: Call, job: tuple[Any, ...], of: str) -> list[RobustnessRow]:
    """The rows of an input on which a model took its process with it."""
    bounds: Sequence[Bound]
    stimulus, bounds, label = job[:3]
    return [_row(label, stimulus, *bound, error=f"died: {of}") for bound in bounds]


def _row(
    label: str, stimulus: Stimulus, quantity: str, bound: float, why: str, value: float | None = None, error: str = ""
) -> RobustnessRow:
    if value is not None and not np.isfinite(value):
        value, error = None, "not a finite number"
    _, unit, is_upper = QUANTITIES[quantity]
    return RobustnessRow(
        system=label,
        stimulus=stimulus.name,
        quantity=quantity,
        unit=unit,
        value=value,
        bound=bound,
        is_upper=is_upper,
        why=why,
        error=error,
        ok=value is not None and (value <= bound if is_upper else value >= bound),
    )


def refuse_breaches(rows: Sequence[RobustnessRow]) -> None:
    """Failure, naming the rows, when a bound does not hold."""
    broken = [f"{row.system}, {row.stimulus}: {row.error or row.quantity}" for row in rows if not row.ok]
    if broken:
        raise Failure(f"{len(broken)} of {len(rows)} bounds breached: {'; '.join(broken)}")
