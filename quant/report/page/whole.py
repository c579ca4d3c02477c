"""The page, put together from its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, Final, NamedTuple

import jinja2
from markupsafe import Markup, escape

from edge_runtime.errors import Failure
from quant.audit import blocks, frame_time
from quant.audit.findings import AccuracyRow, Layer
from quant.int8.plan import PlanRow
from quant.quality.results import in_order, title, uneven, worst
from quant.report import provenance, verdict
from quant.report.clips import BOOST_DB, FLOOR_DB, Clip
from quant.report.page import delays, first, hard, heard, network, pictures, sides, words
from quant.report.schema import Report

TEMPLATE: Final = "page.html.j2"
MOST_BYTES: Final = 3_000_000  # a page that is mailed
N_WORST: Final = 8
STATUS: Final = {"good": "Good", "caution": "Caution", "bad": "Problem", "unknown": "Not known"}


def render(report: Report, clips: Sequence[Clip]) -> bytes:
    """The page. `report` is whole: see `remake.complete`. Failure: it is larger than what is mailed."""
    html = _environment().get_template(TEMPLATE).render(_context(report, clips)).encode()
    if len(html) > MOST_BYTES:
        what = f"the page would have {len(html) / 1e6:.1f} MB, more than {MOST_BYTES / 1e6:g}"
        raise Failure(what, remedy="give fewer or shorter recordings to hear")
    return html


def _context(report: Report, clips: Sequence[Clip]) -> dict[str, Any]:
    """What the templates name."""
    return {
        "r": report,
        "board": report.target,
        "folder": verdict.default_folder(report),
        "model_file": verdict.model_file(report),
        "pictures": _pictures(report),
        **_first(report, clips),
        **_sides(report),
        **_network(report),
        **_measured(report),
        "ladder": delays.ladder(),
        "delay_ms": delays.total_ms(),
        "other_rate_ms": delays.OTHER_RATE_MS,
        "limits": _limits(report),
    }


def _first(report: Report, clips: Sequence[Clip]) -> dict[str, Any]:
    return {
        "trained": provenance.is_trained(report.provenance),
        "headline": first.headline(report),
        "overall": verdict.overall(report.verdict),
        "status": STATUS,
        "figures": first.figures(report),
        "sounds": heard.heard(clips, report.clips),
        "roles": heard.ROLES,
        "first_role": heard.FIRST,
        "has_clean": any(s.role == "clean" for clip in report.clips for s in clip.signals),
        "gradient": heard.gradient(),
        "boost_db": BOOST_DB,
        "floor_db": FLOOR_DB,
    }


def _sides(report: Report) -> dict[str, Any]:
    rows = sides.engines(report)
    on_boards = [(b.low_ms, b.high_ms) for b in report.boards if b.low_ms is not None and b.high_ms is not None]
    axis = sides.axis([*(row.ms for row in rows), *on_boards])
    return {"engines": rows, "axis": axis, "hop_ms": verdict.HOP_MS, "sources": _sources(report)}


def _network(report: Report) -> dict[str, Any]:
    steps = network.waterfall(report)
    return {
        "stages": network.stages(report),
        "steps": steps,
        "output_db": network.output_db(report),
        "output_bar": network.whole_bar(steps) if steps else (0.0, 0.0),
        "layers": _layers(report),
        "taps": _taps(report),
        "costly": _costly(report),
    }


def _measured(report: Report) -> dict[str, Any]:
    quality, origin = first.known_quality(report)
    found, clips = quality.systems if quality else (), _worst_clips(report)
    robustness = report.robustness or (report.shipped.robustness if report.shipped else ())
    return {
        "quality": quality,
        "quality_origin": origin,
        "metrics": in_order(metric for system in found for metric in {**system.means, **system.differences}),
        "uneven": uneven(found),
        "worst_clips": clips,
        "worst_metrics": in_order(metric for clip in clips for metric in clip.differences),
        "robustness": robustness,
        "hard": hard.rows(robustness),
        "hard_systems": list(dict.fromkeys(row.system for row in robustness)),
        "hard_axis": [(f"{db:g}", hard.at(db)) for db in (-10, 0, 10, 20, 30, 40)],
        "zero_db": hard.at(0),
    }


def _pictures(report: Report) -> dict[str, pictures.Picture | None]:
    draw = {
        "memory": pictures.memory, "histograms": pictures.histograms, "quality": pictures.quality,
        "clips": pictures.by_clip, "snr": pictures.by_snr, "pareto": pictures.pareto,
    }  # fmt: skip
    return {name: picture(report) for name, picture in draw.items()}


def _environment() -> jinja2.Environment:
    """Everything is escaped but the pictures, which are our own; a name that is missing is an error."""
    files = resources.files(__package__)
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (files / name).read_text("utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "n": words.grouped, "kb": words.kilobytes, "db": words.decibels, "pct": words.percent,
        "sig": words.three_digits, "signed": words.signed, "minus": words.with_minus, "title_of": title,
        "called": frame_time.called, "bar": lambda ms, axis: sides.bar(axis, ms), "step": _step,
        "indented": " {}".format,
    }  # fmt: skip
    environment.globals |= {"file": lambda name: Markup((files / name).read_text("utf-8")), "span": frame_time.span}
    return environment


def _step(text: str, folder: str) -> Markup:
    """What to type, with the folder where the page lies once a browser has read it."""
    marked = Markup('<span class="folder">{}</span>').format(folder)
    return Markup(marked).join(map(escape, text.replace(verdict.FOLDER, folder).split(folder)))


class _Limit(NamedTuple):
    """A limit of the board, and how much of it is used."""

    what: str
    value: str
    limit: str
    share: float


def _limits(report: Report) -> list[_Limit]:
    file, most = verdict.model_file(report), report.target.budget
    n, macs = report.budget.published.n_parameters, report.budget.totals.mmacs_per_s
    flash, ram = report.files[file].bytes, verdict.ram_bytes(report)
    kb, sig = words.kilobytes, words.three_digits
    return [
        _Limit("Parameters", words.grouped(n), words.grouped(most.n_parameters), n / most.n_parameters),
        _Limit("Compute, MMAC/s", sig(macs), sig(most.mmacs_per_s), macs / most.mmacs_per_s),
        _Limit(f"Flash, {file}", kb(flash), kb(most.model_bytes), flash / most.model_bytes),
        _Limit("RAM of the C engine", kb(ram), kb(most.ram_bytes), ram / most.ram_bytes),
    ]


class _LayerRow(NamedTuple):
    """A layer, its block, and the precision that each engine executes."""

    counted: Layer
    block: str
    executed: Mapping[str, str]


def _layers(report: Report) -> list[_LayerRow]:
    executed = {engine: {n.node: n.executed for n in found.nodes} for engine, found in report.coverage.items()}
    titles = blocks.titles(layer.name for layer in report.budget.layers)
    return [
        _LayerRow(layer, titles[blocks.block_of(layer.name)], {e: nodes[layer.name] for e, nodes in executed.items()})
        for layer in report.budget.layers
    ]


def _taps(report: Report) -> list[tuple[PlanRow, AccuracyRow]]:
    """8-bit values with their range and their error, in the order of the network."""
    rows = {row.tap: row for row in report.accuracy}
    return [(p, rows[p.tap]) for p in report.plan if p.type == "int8" and p.kind != "weight" and p.tap in rows]


def _costly(report: Report) -> list[AccuracyRow]:
    """The 8-bit values that cost the output most when rounded alone."""
    rounded = [row for row in report.accuracy if row.type == "int8"]
    return sorted(rounded, key=lambda row: row.isolated_output_sqnr_db)[:N_WORST]


class _WorstClip(NamedTuple):
    """A clip on which 8 bits lost most; `heard` is its place among the players, None where it cannot be heard."""

    name: str
    differences: Mapping[str, float]
    heard: int | None


def _worst_clips(report: Report) -> list[_WorstClip]:
    if report.quality is None:
        return []
    places = {clip.name: place for place, clip in enumerate(report.clips)}
    found = worst(report.quality, report.target.preferred_engine)
    return [_WorstClip(c.clip, c.differences, places.get(c.clip)) for c in found]


def _sources(report: Report) -> list[tuple[str, list[str]]]:
    """Where estimates come from, each source once, with what it is of."""
    found: dict[str, list[str]] = {}
    for e in report.estimates:
        found.setdefault(e.source, []).append(f"{frame_time.called(e.engine)} {e.precision}")
    return list(found.items())
