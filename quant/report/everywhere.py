"""The same artifact on every board that there is a file for: time against the deadline, memory against budget."""

from __future__ import annotations

from collections.abc import Mapping

import boards
from quant.audit import frame_time
from quant.report import verdict
from quant.report.schema import BoardPart, Report
from quant.report.verdict import HOP_MS


def everywhere(report: Report) -> tuple[BoardPart, ...]:
    """Every board but the machine that builds, of which nothing is known; the report's own as its bench has it."""
    own = {report.target.name: report.target}
    others = {name: boards.load(name) for name in boards.names() if name not in (*own, "host")}
    found = [_on(board, report) for board in {**others, **own}.values()]
    return tuple(sorted(found, key=lambda row: (row.high_ms is None, row.high_ms or 0.0, row.board)))


def estimates(report: Report, board: boards.Board) -> Mapping[tuple[str, str], tuple[float, float]]:
    """(engine, precision) -> least and most ms a hop; only published networks were counted."""
    network = frame_time.counted_network(report.budget.published.macs)
    return {(e.engine, e.precision): (e.low_ms, e.high_ms) for e in frame_time.estimates(board, network)}


def _on(board: boards.Board, report: Report) -> BoardPart:
    file = f"model.{board.preferred_engine}"
    n_bytes = report.files[file if file in report.files else "model.native"].bytes
    time_ms = estimates(report, board).get((frame_time.engine_of(board), "int8"))
    measured = verdict.board_bench(report) if board == report.target else None
    if measured:
        time_ms = measured.hop_us.p50 / 1e3, measured.hop_us.p99 / 1e3
    low_ms, high_ms = time_ms or (None, None)
    totals = report.budget.totals
    engine_bytes = totals.ram_bytes - (0 if report.target.bare else totals.flash_bytes)
    ram_bytes = engine_bytes + (0 if board.bare else n_bytes)  # without a system the model stays in flash
    fits = ram_bytes <= board.budget.ram_bytes and n_bytes <= board.budget.model_bytes
    return BoardPart(
        board=board.name,
        title=board.title,
        engine=board.preferred_engine,
        low_ms=low_ms,
        high_ms=high_ms,
        measured=measured is not None,
        ram_bytes=ram_bytes,
        ram_limit_bytes=board.budget.ram_bytes,
        model_bytes=n_bytes,
        model_limit_bytes=board.budget.model_bytes,
        in_time=None if high_ms is None else high_ms <= board.budget.rtf * HOP_MS,
        fits=fits,
    )
