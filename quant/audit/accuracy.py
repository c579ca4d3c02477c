"""Error by tap: what each value loses alone, and what it has lost with everything quantized.

    isolated    only this value is rounded; its error at the tap, and what that does to the enhanced spectrum
    cumulative  every value, weight and state of the plan is rounded; the error visible at the tap

The distinction is ESP-PPQ's: the first tells which value to spend bits on, the second what the listener gets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from edge_runtime.stft import Float32Array
from quant.audit.findings import AccuracyRow, HistogramPart
from quant.int8.fake_quantize import fake_quantize, plan_tap
from quant.int8.plan import Plan
from quant.int8.qparams import QParams
from quant.network.float_model import GRU_TAPS, FloatModel, identity
from quant.network.graph import Graph
from quant.network.spectra import analyse

SILENCE_DB = 200.0  # reported when nothing differs
N_HISTOGRAMS, N_BINS = 6, 48  # of the values that cost the output most when rounded alone


def sqnr_db(reference: Tensor, value: Tensor) -> float:
    """Signal to quantization noise ratio."""
    noise = float(((reference - value) ** 2).sum())
    signal = float((reference**2).sum())
    return SILENCE_DB if noise == 0 else float(10 * np.log10(max(signal, 1e-30) / noise))


def study(graph: Graph, plan: Plan, clips: Float32Array) -> tuple[list[AccuracyRow], list[HistogramPart]]:
    """Every tap on clips (n_clips, samples), worst cumulative SQNR first; and the histograms of the 8-bit values that
    cost the output most when rounded alone."""
    spectra = torch.from_numpy(analyse(clips, graph.window))
    model = FloatModel(graph).eval()
    inside = [f"{n.name}.{role}" for n in graph.nodes if n.kind in ("gru", "bigru") for role in GRU_TAPS]
    taps = [*(node.name for node in graph.nodes), *inside]
    with torch.no_grad():
        exact = _recorded(model, spectra, identity, taps)
        rough = _recorded(model, spectra, plan_tap(graph, plan), taps)
        effects = _output_effects(model, plan, spectra[:1])
    rows = [_row(tap, plan.grids.get(tap), exact[tap], rough[tap], effects.get(tap, SILENCE_DB)) for tap in taps]
    costly = sorted((r for r in rows if r.type == "int8"), key=lambda r: r.isolated_output_sqnr_db)[:N_HISTOGRAMS]
    histograms = [_histogram(r.tap, plan.grids[r.tap], exact[r.tap]) for r in costly]
    return sorted(rows, key=lambda r: r.cumulative_sqnr_db), histograms


def _histogram(tap: str, q: QParams, values: Tensor) -> HistogramPart:
    counts, edges = np.histogram(values.numpy(), N_BINS)
    clipped = int(((values < q.low) | (values > q.high)).sum())
    return HistogramPart(
        tap=tap,
        minimum=float(edges[0]),
        maximum=float(edges[-1]),
        low=q.low,
        high=q.high,
        n_values=values.numel(),
        clipped_share=clipped / values.numel(),
        counts=tuple(int(n) for n in counts),
    )


def _row(tap: str, q: QParams | None, exact: Tensor, rough: Tensor, effect_db: float) -> AccuracyRow:
    alone = _error(exact, exact if q is None else fake_quantize(exact, q))
    together = _error(exact, rough)
    return AccuracyRow(
        tap=tap,
        type="float" if q is None else "int8",
        isolated_sqnr_db=alone.sqnr_db,
        isolated_cosine=alone.cosine,
        isolated_worst=alone.worst,
        isolated_output_sqnr_db=effect_db,
        cumulative_sqnr_db=together.sqnr_db,
        cumulative_cosine=together.cosine,
        cumulative_worst=together.worst,
    )


class _Error(NamedTuple):
    sqnr_db: float
    cosine: float
    worst: float


def _error(exact: Tensor, value: Tensor) -> _Error:
    worst = float((exact - value).abs().max())
    if worst == 0:
        return _Error(SILENCE_DB, 1.0, 0.0)
    cosine = torch.nn.functional.cosine_similarity(exact.double(), value.double(), 0)
    return _Error(sqnr_db(exact, value), float(cosine), worst)


def _recorded(
    model: FloatModel, spectra: Tensor, tap: Callable[[str, Tensor], Tensor], names: list[str]
) -> dict[str, Tensor]:
    """Every value of the named taps, the steps of a recurrence joined."""
    wanted, seen = set(names), dict[str, list[Tensor]]()

    def record(name: str, value: Tensor) -> Tensor:
        value = tap(name, value)
        if name in wanted:
            seen.setdefault(name, []).append(value)
        return value

    model(spectra, tap=record)
    return {name: torch.cat([v.flatten() for v in values]) for name, values in seen.items()}


def _output_effects(model: FloatModel, plan: Plan, spectrum: Tensor) -> dict[str, float]:
    """SQNR of the enhanced spectrum with only one tap rounded: the batch holds one copy of the clip for each tap."""
    row = {name: i for i, name in enumerate(plan.grids)}

    def tap(name: str, value: Tensor) -> Tensor:
        if name not in row:
            return value
        batch = 1 if name.endswith(".gates_x") else 0  # the input gates of a scan come steps first
        value = value.clone()
        one = value.select(batch, row[name])
        one.copy_(fake_quantize(one, plan.grids[name]))
        return value

    enhanced, _ = model(spectrum.expand(len(row), -1, -1, -1), tap=tap)
    exact, _ = model(spectrum)
    return {name: sqnr_db(exact[0], enhanced[i]) for name, i in row.items()}
