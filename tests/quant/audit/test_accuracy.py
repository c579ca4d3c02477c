"""Error by tap: every tap has a row, and the numbers relate as their names promise."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import numpy as np
import pytest
import torch

from quant.audit.accuracy import SILENCE_DB, sqnr_db, study
from quant.audit.findings import AccuracyRow
from quant.int8.plan import Plan
from quant.int8.qparams import QParams
from quant.network.float_model import GRU_TAPS
from quant.ptq.quantize import CalibrationSet, Quantized

N_SAMPLES = 8000


@pytest.fixture(scope="module")
def clips(calibration: CalibrationSet) -> np.ndarray:
    """(2, 8000): half a second of two mixtures."""
    return calibration.noisy[:2, 16_000 : 16_000 + N_SAMPLES]


@pytest.fixture(scope="module")
def rows(quantized: Quantized, clips: np.ndarray) -> dict[str, AccuracyRow]:
    return {row.tap: row for row in study(quantized.graph, quantized.plan, clips)[0]}


def test_every_tap_has_a_row(rows: dict[str, AccuracyRow], quantized: Quantized) -> None:
    inside = {
        f"{node.name}.{role}" for node in quantized.graph.nodes if node.kind in ("gru", "bigru") for role in GRU_TAPS
    }
    assert set(rows) == {node.name for node in quantized.graph.nodes} | inside
    assert {tap for tap, row in rows.items() if row.type == "int8"} == set(quantized.plan.grids)


def test_every_number_is_finite_and_json(rows: dict[str, AccuracyRow]) -> None:
    json.dumps(msgspec.to_builtins(rows), allow_nan=False)
    for row in rows.values():
        assert -1 <= row.isolated_cosine <= 1 + 1e-9, row.tap
        assert -1 <= row.cumulative_cosine <= 1 + 1e-9, row.tap
        assert row.isolated_worst >= 0, row.tap
        assert row.cumulative_worst >= 0, row.tap


def test_worst_first(quantized: Quantized, clips: np.ndarray) -> None:
    found = [row.cumulative_sqnr_db for row in study(quantized.graph, quantized.plan, clips)[0]]
    assert found == sorted(found)


def test_a_float_value_loses_nothing_alone(rows: dict[str, AccuracyRow]) -> None:
    floats = [row for row in rows.values() if row.type == "float"]
    assert floats
    for row in floats:
        assert (row.isolated_sqnr_db, row.isolated_worst) == (SILENCE_DB, 0), row.tap


def test_what_lies_before_all_rounding_is_exact(rows: dict[str, AccuracyRow]) -> None:
    first = "encoder.en_convs.0"
    for tap in ("features", "erb.bands", f"{first}.bn.wide", f"{first}.bn", f"{first}.act"):
        assert rows[tap].cumulative_sqnr_db == SILENCE_DB, tap


def test_all_together_costs_more_than_one_alone(rows: dict[str, AccuracyRow]) -> None:
    """At the value itself; by chance a few errors cancel, so the rule holds for nearly all."""
    int8 = [row for row in rows.values() if row.type == "int8"]
    worse = [row.tap for row in int8 if row.cumulative_sqnr_db > row.isolated_sqnr_db + 0.5]
    assert worse == []
    at_the_output = rows["enhanced"].cumulative_sqnr_db
    assert all(row.isolated_output_sqnr_db > at_the_output for row in int8)


def test_on_a_fixed_grid_a_value_is_off_by_one_step_at_most(rows: dict[str, AccuracyRow], quantized: Quantized) -> None:
    """Half a step by rounding, one at the end where the grid stops short of 1: these grids clip nothing else."""
    for rnn in ("dpgrnn1.intra_rnn", "dpgrnn2.intra_rnn"):
        for tap in (rnn, f"{rnn}.reset_update", f"{rnn}.new"):
            assert rows[tap].isolated_worst <= quantized.plan.grids[tap].scale, tap


def scaled(plan: Plan, factor: float) -> Plan:
    """Every grid `factor` times as coarse, around the same zero."""
    grids = {tap: QParams(float(np.float32(q.scale * factor)), 0) for tap, q in plan.grids.items()}
    return replace(plan, grids=grids)


def test_coarser_grids_lose_more(quantized: Quantized, clips: np.ndarray, rows: dict[str, AccuracyRow]) -> None:
    """Four times the step is 12 dB where nothing clips."""
    coarse = {row.tap: row for row in study(quantized.graph, scaled(quantized.plan, 4), clips)[0]}
    int8 = [tap for tap, row in rows.items() if row.type == "int8"]
    lost = [rows[tap].isolated_sqnr_db - coarse[tap].isolated_sqnr_db for tap in int8]
    assert np.median(lost) == pytest.approx(12, abs=1.5)
    assert coarse["enhanced"].cumulative_sqnr_db < rows["enhanced"].cumulative_sqnr_db - 6


def test_a_plan_without_8_bits_loses_nothing(quantized: Quantized, clips: np.ndarray) -> None:
    nothing = Plan(dict.fromkeys(quantized.plan.precision, "float"), {}, {})
    rows = study(quantized.graph, nothing, clips)[0]
    assert {(row.type, row.cumulative_sqnr_db, row.isolated_output_sqnr_db) for row in rows} == {
        ("float", SILENCE_DB, SILENCE_DB)
    }


@pytest.mark.parametrize(("noise", "expected_db"), [(1.0, 0), (0.1, 20), (0.001, 60), (0.0, SILENCE_DB)])
def test_sqnr_is_a_ratio_of_energies(noise: float, expected_db: float) -> None:
    signal = torch.full((1000,), 3.0)
    assert sqnr_db(signal, signal * (1 + noise)) == pytest.approx(expected_db, abs=0.01)


def test_silence_is_not_a_nan() -> None:
    assert sqnr_db(torch.zeros(4), torch.zeros(4)) == SILENCE_DB
    assert np.isfinite(sqnr_db(torch.zeros(4), torch.ones(4)))
