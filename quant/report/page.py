"""report.html: one file that needs nothing else, from a report, its board and its clips; same inputs, same bytes."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, Final

import jinja2

from boards import Board
from quant.audit.frame_time import engine_of
from quant.report import figures, verdict
from quant.report.clips import BOOST_DB, FLOOR_DB, Clip

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


def render(report: Mapping[str, Any], board: Board, clips: Sequence[Clip]) -> bytes:
    """The page. `report` is whole: see `report.complete`."""
    html = (
        _environment()
        .get_template(TEMPLATE)
        .render(
            r=report,
            board=board,
            headline=HEADLINES[verdict.overall(report["verdict"])],
            overall=verdict.overall(report["verdict"]),
            status=STATUS,
            bars=_bars(report, board),
            blocks=figures.blocks(report["budget"]["layers"]),
            layers=_layers(report),
            taps=_taps(report),
            worst=_worst(report),
            sounds=[_sound(clip, facts) for clip, facts in zip(clips, report["clips"], strict=True)],
            boost_db=BOOST_DB,
            floor_db=FLOOR_DB,
            cpu=_cpu(report, board),
            metrics=_metrics(report),
            pictures={
                "budget": figures.budget(report),
                "memory": figures.memory(report),
                "accuracy": figures.accuracy(report),
                "histograms": figures.histograms(report),
                "quality": figures.quality(report),
                "snr": figures.by_snr(report),
                "speed": figures.speed(report, board),
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
    return environment


def _bars(report: Mapping[str, Any], board: Board) -> list[dict[str, Any]]:
    """The board's limits, and how much of each is used."""
    file = verdict.model_file(report, board)
    totals, published, limit = report["budget"]["totals"], report["budget"]["published"], board.budget
    n_parameters = published["n_learned"] + published["n_fixed"]
    rows = [
        ("Parameters", n_parameters, limit.n_parameters, _grouped),
        ("Compute, MMAC/s", totals["mmacs_per_s"], limit.mmacs_per_s, _three_digits),
        (f"Flash, {file}", report["files"][file]["bytes"], limit.model_bytes, _kilobytes),
        ("RAM: model, states, activations", verdict.ram_bytes(report, board), limit.ram_bytes, _kilobytes),
    ]
    return [
        {"what": what, "value": show(value), "limit": show(most), "share": value / most, "over": value > most}
        for what, value, most, show in rows
    ]


def _layers(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Budget rows with the precision that each engine executes."""
    executed = {
        engine: {n["node"]: n["executed"] for n in found["nodes"]} for engine, found in report["coverage"].items()
    }
    return [
        layer
        | {
            "block": figures.block_of(layer["name"]),
            "executed": {e: nodes[layer["name"]] for e, nodes in executed.items()},
        }
        for layer in report["budget"]["layers"]
    ]


def _taps(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """8-bit values with their error and their range, in the order of the network."""
    rows = {row["tap"]: row for row in report["accuracy"]}
    return [
        rows[p["tap"]] | p for p in report["plan"] if p["type"] == "int8" and p["kind"] != "weight" and p["tap"] in rows
    ]


def _worst(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The 8-bit values that cost the output most when rounded alone."""
    rounded = [row for row in report["accuracy"] if row["type"] == "int8"]
    return sorted(rounded, key=lambda row: row["isolated_output_sqnr_db"])[:N_WORST]


def _sound(clip: Clip, facts: Mapping[str, Any]) -> dict[str, Any]:
    levels = {s["role"]: s for s in facts["signals"]}
    players = [
        {
            "title": title,
            "flac": f"data:audio/flac;base64,{base64.b64encode(clip.flac(role)).decode()}",
            "png": figures.spectrogram_png(clip.spectrogram(role)),
            **levels[role],
        }
        for role, title in ROLES.items()
        if role in clip.signals
    ]
    return dict(facts) | {"players": players}


def _cpu(report: Mapping[str, Any], board: Board) -> dict[str, Any] | None:
    """What is left of the board's cores for other processes, from its own bench or the estimate."""
    own = [b for b in report["benches"] if (b["engine"], b["precision"]) == (board.preferred_engine, "int8")]
    for b in own:
        if verdict.is_board(b, board):
            used = b["rtf"], b["rtf"]
            return _left(used, board, f"measured on {b['machine']['cpu']}")
    for e in report["estimates"]:
        if (e["engine"], e["precision"]) == (engine_of(board), "int8"):
            return _left(
                (e["low_ms"] / verdict.HOP_MS, e["high_ms"] / verdict.HOP_MS), board, "estimated, not measured"
            )
    return None


def _left(used: tuple[float, float], board: Board, how: str) -> dict[str, Any]:
    cores = board.cpu.n_cores
    return {"used_low": used[0], "used_high": used[1], "left": 1 - used[1] / cores, "n_cores": cores, "how": how}


def _metrics(report: Mapping[str, Any]) -> list[str]:
    """The columns of the quality table."""
    found: dict[str, None] = {}
    for system in (report["quality"] or {"systems": []})["systems"]:
        found |= dict.fromkeys(system["means"])
    return list(found)


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
