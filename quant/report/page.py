"""report.html: one file that needs nothing else, from a report and its clips; same inputs, same bytes."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Final, NamedTuple

import jinja2

from quant.audit.findings import AccuracyRow, Layer
from quant.int8.plan import PlanRow
from quant.quality.results import in_order, title, uneven
from quant.report import figures, verdict
from quant.report.clips import BOOST_DB, FLOOR_DB, Clip, ClipPart, SignalPart
from quant.report.schema import Report

TEMPLATE: Final = "report.html.j2"
MOST_BYTES: Final = 5_000_000  # a page that is mailed
N_WORST: Final = 8
ROLES: Final = {
    "noisy": "Noisy",
    "fp32": "Float",
    "int8": "8 bits",
    "difference": "Difference, 8 bits − float",
    "clean": "Clean",
}
STATUS: Final = {"good": "Good", "caution": "Caution", "bad": "Problem", "unknown": "Not known"}
HEADLINES: Final = {
    "good": "Fits, measured, and within every bound",
    "caution": "Usable; read the cautions",
    "unknown": "Not decided yet: something was not measured",
    "bad": "Not as it is: something is out of bounds",
}


def render(report: Report, clips: Sequence[Clip]) -> bytes:
    """The page. `report` is whole: see `remake.complete`."""
    found = report.quality.systems if report.quality else ()
    html = (
        _environment()
        .get_template(TEMPLATE)
        .render(
            r=report,
            board=report.target,
            headline=HEADLINES[verdict.overall(report.verdict)],
            overall=verdict.overall(report.verdict),
            status=STATUS,
            bars=_bars(report),
            layers=_layers(report),
            taps=_taps(report),
            worst=_worst(report),
            sounds=[_sound(clip, facts) for clip, facts in zip(clips, report.clips, strict=True)],
            boost_db=BOOST_DB,
            floor_db=FLOOR_DB,
            cpu=_cpu(report),
            metrics=in_order(metric for system in found for metric in system.means),
            uneven=uneven(found),
            pictures={
                "budget": figures.budget(report),
                "memory": figures.memory(report),
                "accuracy": figures.accuracy(report),
                "histograms": figures.histograms(report),
                "quality": figures.quality(report),
                "snr": figures.by_snr(report),
                "speed": figures.speed(report),
            },
        )
    )
    return html.encode()


def _environment() -> jinja2.Environment:
    """Everything is escaped but the pictures, which are our own; a name that is missing is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (resources.files(__package__) / name).read_text("utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"n": _grouped, "kb": _kilobytes, "db": _decibels, "pct": _percent, "sig": _three_digits}
    environment.filters |= {"title_of": title}
    return environment


class _Bar(NamedTuple):
    """A limit of the board, and how much of it is used."""

    what: str
    value: str
    limit: str
    share: float
    over: bool


def _bars(report: Report) -> list[_Bar]:
    file, limit = verdict.model_file(report), report.target.budget

    def bar(what: str, value: float, most: float, show: Callable[[float], str]) -> _Bar:
        return _Bar(what, show(value), show(most), value / most, value > most)

    return [
        bar("Parameters", report.budget.published.n_parameters, limit.n_parameters, _grouped),
        bar("Compute, MMAC/s", report.budget.totals.mmacs_per_s, limit.mmacs_per_s, _three_digits),
        bar(f"Flash, {file}", report.files[file].bytes, limit.model_bytes, _kilobytes),
        bar("RAM: model, states, activations", verdict.ram_bytes(report), limit.ram_bytes, _kilobytes),
    ]


class _LayerRow(NamedTuple):
    """A layer, its block, and the precision that each engine executes."""

    counted: Layer
    block: str
    executed: Mapping[str, str]


def _layers(report: Report) -> list[_LayerRow]:
    executed = {engine: {n.node: n.executed for n in found.nodes} for engine, found in report.coverage.items()}
    return [
        _LayerRow(layer, figures.block_of(layer.name), {e: nodes[layer.name] for e, nodes in executed.items()})
        for layer in report.budget.layers
    ]


def _taps(report: Report) -> list[tuple[PlanRow, AccuracyRow]]:
    """8-bit values with their range and their error, in the order of the network."""
    rows = {row.tap: row for row in report.accuracy}
    return [(p, rows[p.tap]) for p in report.plan if p.type == "int8" and p.kind != "weight" and p.tap in rows]


def _worst(report: Report) -> list[AccuracyRow]:
    """The 8-bit values that cost the output most when rounded alone."""
    rounded = [row for row in report.accuracy if row.type == "int8"]
    return sorted(rounded, key=lambda row: row.isolated_output_sqnr_db)[:N_WORST]


class _Player(NamedTuple):
    """One signal of a clip: `flac` and `png` are data URIs."""

    title: str
    flac: str
    png: str
    level: SignalPart


def _sound(clip: Clip, facts: ClipPart) -> tuple[ClipPart, list[_Player]]:
    levels = {s.role: s for s in facts.signals}
    return facts, [
        _Player(
            title,
            f"data:audio/flac;base64,{base64.b64encode(clip.flac(role)).decode()}",
            figures.spectrogram_png(clip.spectrogram(role)),
            levels[role],
        )
        for role, title in ROLES.items()
        if role in clip.signals
    ]


class _Cpu(NamedTuple):
    """What is left of the board's cores for other processes; shares are of one core, but `left` of all."""

    used_low: float
    used_high: float
    left: float
    n_cores: int
    how: str


def _cpu(report: Report) -> _Cpu | None:
    """From a bench of the board, else the estimate."""
    n_cores = report.target.cpu.n_cores
    if b := verdict.board_bench(report):
        return _Cpu(b.rtf, b.rtf, 1 - b.rtf / n_cores, n_cores, f"measured on {b.machine.cpu}")
    if e := verdict.board_estimate(report):
        low, high = e.low_ms / verdict.HOP_MS, e.high_ms / verdict.HOP_MS
        return _Cpu(low, high, 1 - high / n_cores, n_cores, "estimated, not measured")
    return None


def _grouped(value: float) -> str:
    return f"{value:,.0f}"


def _kilobytes(value: float) -> str:
    return f"{value / 1024:,.1f} KB" if value < 1 << 20 else f"{value / (1 << 20):,.2f} MB"


def _decibels(value: float) -> str:
    return "exact" if value >= 200 else f"{value:.1f}"


def _percent(value: float) -> str:
    return f"{value:.1%}" if value < 0.1 else f"{value:.0%}"


def _three_digits(value: float) -> str:
    return f"{value:.3g}"
