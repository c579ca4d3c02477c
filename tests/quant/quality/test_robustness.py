"""The robustness study: what it feeds, what it measures, and that a breach is named and fails."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest
from toy_artifact import write_toy

from calibration.corpus import Corpus
from calibration.mixing import Mix, measure_level_dbfs, measure_snr_db
from edge_runtime.errors import Failure
from quant.cli import main
from quant.emit.native.emitter import emit_native
from quant.emit.onnx.emitter import emit_onnx
from quant.emit.tflite.emitter import emit_tflite
from quant.inputs import assets
from quant.int8 import recipe
from quant.int8.runtimes import for_onnx, for_tflite
from quant.network.graph import Graph
from quant.ptq.quantize import CalibrationSet, Quantized, quantize
from quant.quality import robustness
from quant.quality.robustness import (
    QUANTITIES,
    RULES,
    SILENT_DBFS,
    bounds_of,
    float_and_int8,
    is_judged,
    judge,
    level_dbfs,
    refuse_breaches,
)
from quant.quality.stimuli import DRIFT_MINUTES, LEVELS_DBFS, SNRS_DB, Material, Stimulus, stimuli, ten_minutes
from quant.quality.systems import Model, System, systems_of

RATE_HZ = 16_000
SHORT = {"clip_s": 0.5, "minute_s": 2.4}  # of less, where the sound begins decides whether states drift


@pytest.fixture(scope="module")
def material(pulled: tuple[Corpus, Corpus]) -> Material:
    return Material(*pulled, **SHORT)


@pytest.fixture(scope="module")
def inputs(material: Material) -> dict[str, Stimulus]:
    return {s.name: s for s in (*stimuli(material), ten_minutes(material))}


# --- inputs -------------------------------------------------------------------------------------------------------


def test_every_input_has_a_bound_and_every_bound_an_input(inputs):
    assert [name for name in inputs if not bounds_of(name)] == []
    patterns = [pattern for rule in RULES for pattern in rule.inputs]
    assert [p for p in patterns if not any(fnmatchcase(name, p) for name in inputs)] == []
    for name, stimulus in inputs.items():
        quantities = [quantity for quantity, _, _ in bounds_of(name)]
        assert len(set(quantities)) == len(quantities), f"{name} is judged twice by one quantity"
        assert stimulus.clean is not None or robustness.SI_SDR not in quantities


def test_inputs_are_what_their_names_say(inputs):
    for level in LEVELS_DBFS:
        assert measure_level_dbfs(inputs[f"level {level} dBFS"].noisy) == pytest.approx(level, abs=0.01)
    for snr_db in SNRS_DB:
        one = inputs[f"SNR {snr_db} dB"]
        parts = np.split(one.clean, 4), np.split(one.noisy - one.clean, 4)
        for speech, noise in zip(*parts, strict=True):
            assert measure_snr_db(speech, noise) == pytest.approx(snr_db, abs=0.1)
    assert np.abs(inputs["clipped at full scale"].noisy).max() == 1
    assert np.ptp(inputs["digital silence"].noisy) == 0
    cut = inputs["cut from -10 to -50 dBFS"]
    assert measure_level_dbfs(cut.noisy[: cut.start - RATE_HZ // 2]) == pytest.approx(-10, abs=0.01)
    assert len(cut.from_start().noisy) == len(cut.from_start().clean) == len(cut.noisy) - cut.start
    minutes = np.split(inputs["10 minutes of noisy speech"].noisy, DRIFT_MINUTES)
    np.testing.assert_array_equal(minutes[0], minutes[-1])
    assert not any(np.array_equal(minutes[0], minute) for minute in minutes[1:-1])


def test_the_same_sounds_give_the_same_inputs(material, inputs):
    for again in stimuli(material):
        np.testing.assert_array_equal(again.noisy, inputs[again.name].noisy)


# --- quantities ---------------------------------------------------------------------------------------------------


def ramp(start: float, stop: float):
    """A system that adds noise of a growing level: it drifts."""

    def enhance(noisy):
        hiss = np.random.default_rng(0).standard_normal(len(noisy))
        return (noisy + np.linspace(start, stop, len(noisy)) * hiss).astype(np.float32)

    return enhance


FLAWS = {
    # flaw -> what it makes of the input, an input and a quantity that must tell
    "hum": (lambda x: x + np.float32(1e-4) * (np.arange(len(x)) % 64 < 32), "digital silence", "output"),
    "mute": (lambda x: 0 * x + 1e-6 * ramp(1, 1)(0 * x), "clean speech", "SI-SDR of the output"),
    "loud": (lambda x: 2 * x, "noise alone", "change in attenuation"),
    "rough": (ramp(0.01, 0.01), "level -40 dBFS", "difference to float, to"),
    "hiss": (ramp(0.02, 0.02), "SNR 30 dB", "change in SI-SDR"),
    "drift": (ramp(0.001, 0.01), "10 minutes of noisy speech", "difference to float, last"),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_flaw_shows_in_its_row(flaw, inputs):
    enhance, name, quantity = FLAWS[flaw]
    systems = [System("fp32", lambda: lambda x: x), System("int8", lambda: enhance, against="fp32")]
    verdicts = judge(float_and_int8(systems), [inputs[name]], n_jobs=1, quiet=True)
    broken = [v for v in verdicts if not v.ok]
    assert any(v.quantity.startswith(quantity) for v in broken), verdicts
    with pytest.raises(Failure, match=f"breached: int8, {name}"):
        refuse_breaches(verdicts)


def test_equal_systems_breach_nothing(inputs):
    systems = [System("fp32", lambda: lambda x: x), System("int8", lambda: lambda x: x, against="fp32")]
    verdicts = judge(float_and_int8(systems), list(inputs.values()), n_jobs=1, quiet=True)
    assert {v.quantity for v in verdicts} == set(QUANTITIES)
    refuse_breaches(verdicts)


def test_what_nobody_hears_is_not_compared(inputs):
    """30 dB more of what is 60 dB under the input, and any mean."""
    noise = inputs["noise alone"]
    systems = [
        System("fp32", lambda: lambda x: np.float32(1e-4) * x),
        System("int8", lambda: lambda x: np.float32(3e-3) * x + np.float32(0.2), against="fp32"),
    ]
    verdicts = judge(float_and_int8(systems), [noise], n_jobs=1, quiet=True)
    assert [v.value for v in verdicts if v.quantity == robustness.ATTENUATION] == [0]
    refuse_breaches(verdicts)


def test_a_row_that_fails_is_named_and_the_rest_goes_on(inputs):
    def weak():
        def enhance(x):
            if not x.any():
                raise RuntimeError("nothing to do")
            return x

        return enhance

    systems = [System("fp32", lambda: lambda x: x), System("int8", weak, against="fp32")]
    chosen = [inputs["digital silence"], inputs["clean speech"]]
    verdicts = judge(float_and_int8(systems), chosen, n_jobs=1, quiet=True)
    assert [v.stimulus for v in verdicts if not v.ok] == ["digital silence"]
    with pytest.raises(Failure, match="int8, digital silence: RuntimeError: nothing to do"):
        refuse_breaches(verdicts)


# --- real models --------------------------------------------------------------------------------------------------


def float_and_exact(graph: Graph, quantized: Quantized) -> list[tuple[System, System]]:
    """A recipe and its float, in memory, on the engine that is exact: runtimes round otherwise on every processor."""
    fp32 = Model.of(emit_native(graph), "native", "fp32")
    int8 = Model.of(emit_native(quantized.graph, quantized.plan), "native", "int8")
    return [(System("native fp32", fp32), System("native int8", int8, against="native fp32"))]


def test_the_default_recipe_keeps_every_bound_on_short_input(graph, quantized, inputs):
    refuse_breaches(judge(float_and_exact(graph, quantized), list(inputs.values()), n_jobs=1, quiet=True))


@pytest.mark.slow
def test_the_default_recipe_keeps_every_bound(official, graph, pulled):
    """With ranges of as many clips as a build takes."""
    quantized = quantize(graph, recipe.load("static"), CalibrationSet.make(*pulled, Mix()), official.sha256)
    material = Material(*pulled)
    refuse_breaches(judge(float_and_exact(graph, quantized), [*stimuli(material), ten_minutes(material)], n_jobs=2))


# Runtime -> how far below the input its difference to the exact engine lies. That engine rounds less often than they do
# (quant/int8/roundings.py), which quiet input shows: of 33 inputs the worst, cut from -10 to -50 dBFS, had ONNX Runtime
# at -18 dB and TFLite at -16 on an AVX-512 processor, where they had -34 and -28 while all rounded alike; 6 dB for
# roundings to come.
AS_EXACT_DB = {"onnx": -12, "tflite": -10}


@pytest.mark.parametrize("runtime", AS_EXACT_DB)
def test_a_runtime_makes_of_hard_input_what_the_exact_engine_makes(runtime, quantized, inputs):
    graph, plan = quantized.graph, quantized.plan
    emit, of_runtime = (emit_onnx, for_onnx) if runtime == "onnx" else (emit_tflite, for_tflite)
    enhance = Model.of(emit(graph, plan), runtime, "int8")()
    exact = Model.of(emit_native(*of_runtime(graph, plan)), "native", "int8")()
    found = {}
    for name, stimulus in inputs.items():
        difference = level_dbfs((enhance(stimulus.noisy) - exact(stimulus.noisy))[stimulus.start :])
        found[name] = difference - level_dbfs(stimulus.from_start().noisy) if difference > SILENT_DBFS else SILENT_DBFS
    assert {name: db for name, db in found.items() if db > AS_EXACT_DB[runtime]} == {}


def test_what_is_chaotic_is_judged_on_the_exact_engine_where_there_is_one(quantized):
    """Of the same artifact: another's says nothing."""
    model = emit_onnx(quantized.graph, quantized.plan)
    rough = System("old build onnx int8", Model.of(model, "onnx", "int8"), against="old build onnx fp32")
    drift = next(bound for bound in bounds_of("10 minutes of noisy speech") if bound[0] == robustness.DRIFT)
    assert is_judged(drift, rough, {"old build onnx int8", "native int8", "new native int8"})
    assert not is_judged(drift, rough, {"old build onnx int8", "old build native int8"})
    assert all(is_judged(bound, rough, {"old build native int8"}) for bound in bounds_of("SNR 5 dB"))


def test_the_command_prints_rows_and_fails_on_a_breach(material, tmp_path: Path, monkeypatch, capfd):
    """The toy's int8 state clips, and no bound was made for it."""
    monkeypatch.setattr(robustness, "Material", lambda *corpora: material)
    some = [rule for rule in RULES if {"clean speech", "digital silence"} & set(rule.inputs)]
    monkeypatch.setattr(robustness, "RULES", tuple(some))
    argv = ["eval", str(write_toy(tmp_path)), "--suite", "robustness", "--jobs", "1"]
    assert main([*argv, "--json"]) == 1
    told = capfd.readouterr()
    rows = json.loads(told.out)["rows"]
    broken = [row for row in rows if not row["ok"]]
    assert f"{len(broken)} of {len(rows)} bounds breached: {broken[0]['system']}, {broken[0]['stimulus']}" in told.err
    assert {row["system"] for row in rows} == {"onnx int8", "tflite int8"}
    assert all(row["why"] and row["unit"] for row in rows)
    monkeypatch.setattr(robustness, "RULES", tuple(r for r in RULES if "digital silence" in r.inputs))
    assert main(argv) == 0
    assert "digital silence" in capfd.readouterr().out


def test_an_artifact_without_a_pair_is_refused(tmp_path: Path):
    systems = [s for s in systems_of([write_toy(tmp_path)]) if s.against is None]
    with pytest.raises(Failure, match="no int8 model has a float one beside it"):
        float_and_int8(systems)


def test_sounds_default_to_the_pulled_ones(monkeypatch):
    asked = []
    monkeypatch.setattr(assets, "speech", lambda **_: asked.append("speech") or "nowhere")
    monkeypatch.setattr(robustness, "systems_of", lambda artifacts: [System("a", dict), System("b", dict, "a")])
    with pytest.raises(Failure, match="no such folder"):
        robustness.study([])
    assert asked == ["speech"]
