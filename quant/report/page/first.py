"""The first screen: five figures, each with where it comes from, and the headline."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from quant.audit.frame_time import span
from quant.quality.results import QualityPart, int8_system
from quant.report import verdict
from quant.report.page import delays
from quant.report.page.words import kilobytes, percent, signed
from quant.report.schema import Change, Report, Status

HEADLINES: Final[dict[Status, str]] = {
    "good": "Fits, measured, and within every bound",
    "caution": "Good to try, with a caution",
    "unknown": "Not decided yet, for nobody measured",
    "bad": "Not as it is",
}


class Figure(NamedTuple):
    """A large figure: `detail` explains it, `origin` says who found it; `change` against an older artifact."""

    name: str
    value: str
    unit: str
    detail: str
    origin: str
    change: Change | None = None


def headline(report: Report) -> str:
    """What the whole comes to, and the questions that keep it from more."""
    status = verdict.overall(report.verdict)
    if status == "good":
        return HEADLINES[status]
    return f"{HEADLINES[status]}: {' '.join(j.question for j in report.verdict if j.status == status)}"


def figures(report: Report) -> list[Figure]:
    """Time, loss, flash, RAM, delay."""
    return [_time(report), _loss(report), _flash(report), _ram(report), _delay()]


def known_quality(report: Report) -> tuple[QualityPart | None, str]:
    """What is known of the quality, and who measured it."""
    if report.quality is not None:
        told = f"{', ' if report.quality.date else ''}{report.quality.date}"
        return report.quality, f"measured by you{told}"
    if report.shipped is not None:
        return QualityPart(systems=report.shipped.systems), f"measured by edge-denoise, {report.shipped.date}"
    return None, ""


def _time(report: Report) -> Figure:
    board = report.target
    what = f"of {verdict.HOP_MS:g} ms a hop"
    if b := verdict.board_bench(report):
        value, detail = span(b.hop_us.p50 / 1e3, b.hop_us.p99 / 1e3), f"{what}, {percent(b.rtf)} of one core"
        return Figure("Time a hop", value, "ms", detail, f"measured on {b.machine.cpu}", _changed(report, "hop µs"))
    if e := verdict.board_estimate(report):
        core = [percent(ms / verdict.HOP_MS) for ms in (e.low_ms, e.high_ms)]
        detail = f"{what}, {' to '.join(dict.fromkeys(core))} of one core"
        return Figure("Time a hop", span(e.low_ms, e.high_ms), "ms", detail, f"estimated for {board.title}")
    return Figure("Time a hop", "?", "", f"{what}; not known for {board.title}", "not measured")


def _loss(report: Report) -> Figure:
    quality, origin = known_quality(report)
    found = int8_system(quality, report.target.preferred_engine) if quality else None
    if found is None or "pesq" not in found.differences:
        return Figure("Cost of 8 bits", "?", "PESQ", "needs noisy and clean recordings", "not measured")
    d = found.differences["pesq"]
    detail = f"95 %: {signed(d.low, 3)} to {signed(d.high, 3)}, {found.n_clips} recordings"
    change = _changed(report, f"pesq {found.system}")
    return Figure("Cost of 8 bits", signed(d.mean, 3), "PESQ", detail, origin, change)


def _flash(report: Report) -> Figure:
    file = verdict.model_file(report)
    floating = report.files.get(file.replace("model.", "model.fp32."))
    detail = file if floating is None else f"{file}; {kilobytes(floating.bytes)} in float"
    value, unit = kilobytes(report.files[file].bytes).split()
    return Figure("Flash", value, unit, detail, "counted", _changed(report, f"file bytes {file}"))


def _ram(report: Report) -> Figure:
    value, unit = kilobytes(verdict.ram_bytes(report)).split()
    share = verdict.ram_bytes(report) / report.target.budget.ram_bytes
    detail = f"of the C engine; {percent(share)} of the board's budget"
    return Figure("RAM", value, unit, detail, "counted", _changed(report, "RAM bytes"))


def _delay() -> Figure:
    detail = f"in the sound; {delays.total_ms():.0f} ms from microphone to loudspeaker"
    return Figure("Delay", f"{delays.IN_SOUND_MS:g}", "ms", detail, "by design")


def _changed(report: Report, figure: str) -> Change | None:
    """What an older artifact had, if it was compared and differs."""
    found: Iterator[Change] = (c for c in (report.history.changes if report.history else ()))
    return next((c for c in found if c.figure.startswith(figure) and c.old != c.new), None)
