"""The verdict of a report: five questions, each answered from the figures by a rule in RULES, with what to do next.

good      within the bound, measured
caution   within a wider bound, or only estimated, or measured on another machine
bad       out of bounds
unknown   nobody measured it
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from boards import Board
from edge_runtime.stft import HOP_SAMPLES, SAMPLE_RATE_HZ
from quant.audit.frame_time import engine_of

HOP_MS: Final = 1e3 * HOP_SAMPLES / SAMPLE_RATE_HZ
GOOD_PESQ_DROP, BAD_PESQ_DROP = 0.02, 0.05  # 0.02 is what the search is asked to keep; 0.05 is heard side by side
SHARE_LOST: Final = 0.05  # of the MACs planned in 8 bits that an engine may run in float

Judged = dict[str, str]
ORDER: Final = ("bad", "unknown", "caution", "good")  # what settles the whole, first to last


def judge(report: Mapping[str, Any], board: Board) -> list[Judged]:
    """One answer for each rule."""
    return [
        {"question": question, "status": status, "answer": answer, "todo": todo}
        for question, rule in RULES.items()
        for status, answer, todo in [rule(report, board)]
    ]


def overall(judged: list[Judged]) -> str:
    """The status of the worst answer; what is unknown weighs more than what is close."""
    return min((j["status"] for j in judged), key=ORDER.index)


Answer = tuple[str, str, str]


def _fits(report: Mapping[str, Any], board: Board) -> Answer:
    model = report["files"][model_file(report, board)]
    needs = ram_bytes(report, board)
    lines = [
        *(
            (line["title"].rstrip(":"), line["value"], line["limit"])
            for line in report["budget"]["budget"]
            if line["name"] not in ("model_bytes", "ram_bytes")
        ),
        (f"flash, {model_file(report, board)}", model["bytes"], board.budget.model_bytes),
        ("RAM", needs, board.budget.ram_bytes),
    ]
    over = [f"{what} {value:,.0f} of {limit:,.0f}" for what, value, limit in lines if value > limit]
    if over:
        return "bad", f"over budget: {'; '.join(over)}", "choose a smaller network (quant budget --set) or board"
    what, value, limit = max(lines, key=lambda line: line[1] / line[2])
    return "good", f"every line within the board's budget; tightest: {what}, {value / limit:.0%} used", ""


def model_file(report: Mapping[str, Any], board: Board) -> str:
    """The 8-bit model that the board runs."""
    wanted = f"model.{board.preferred_engine}"
    return wanted if wanted in report["files"] else "model.native"


def ram_bytes(report: Mapping[str, Any], board: Board) -> int:
    """The model's file in memory, its states, and the planned arena; no Python, no libraries."""
    file = report["files"][model_file(report, board)]["bytes"]
    return int(file + report["budget"]["totals"]["state_bytes"] + report["memory"]["arena_bytes"])


def _quality(report: Mapping[str, Any], board: Board) -> Answer:
    found = report.get("quality")
    measure = "quant eval DIR --pairs PAIRS --json > eval.json, then quant report DIR --eval eval.json"
    if not found:
        return "unknown", "speech quality of this artifact was not measured", measure
    own = [s for s in found["systems"] if s["system"].endswith("int8") and "pesq" in s["differences"]]
    if not own:
        return "unknown", "the evaluation has no PESQ of an int8 model against float", measure
    system = next((s for s in own if board.preferred_engine in s["system"]), own[0])
    d = system["differences"]["pesq"]
    said = (
        f"{system['system']}: PESQ {d['mean']:+.3f} against float "
        f"(95 %: {d['low']:+.3f} to {d['high']:+.3f}, {system['n_clips']} clips)"
    )
    if d["mean"] >= -GOOD_PESQ_DROP:
        return "good", said, ""
    status = "caution" if d["mean"] >= -BAD_PESQ_DROP else "bad"
    return status, said, f"quant build --max-pesq-drop {GOOD_PESQ_DROP}, or quant qat"


def _speed(report: Mapping[str, Any], board: Board) -> Answer:
    measure = (
        f"on the board: edge-denoise bench --model DIR --engine {board.preferred_engine} --json > bench.json, "
        "then quant report DIR --bench bench.json"
    )
    if board.bare:
        measure = "on the processor: count the cycles of ed_process, 256 samples a call"
    own = [b for b in report["benches"] if (b["engine"], b["precision"]) == (board.preferred_engine, "int8")]
    here = [b for b in own if is_board(b, board)]
    for b in here or own:
        said = (
            f"{b['engine']} int8: a hop takes {b['hop_us']['p50'] / 1e3:.3g} ms, {b['hop_us']['p99'] / 1e3:.3g} ms at "
            f"the 99th percentile, of {HOP_MS:g} ms; measured on {b['machine']['cpu']}"
        )
        if not here:
            return "caution", f"{said}, which is not this board", measure
        if b["rtf"] <= board.budget.rtf and b["hop_us"]["p99"] < 1e3 * HOP_MS:
            return "good", said, ""
        if b["rtf"] < 1:
            return "caution", f"{said}: over the budget of {board.budget.rtf:.0%} of a core", "try another engine"
        return "bad", f"{said}: slower than sound", "choose a smaller network or board"
    guesses = [e for e in report["estimates"] if (e["engine"], e["precision"]) == (engine_of(board), "int8")]
    for e in guesses:
        said = f"estimated, not measured: {e['low_ms']:.2g} to {e['high_ms']:.2g} ms of {HOP_MS:g} ms a frame"
        return "caution" if e["high_ms"] < HOP_MS else "bad", said, measure
    return "unknown", "frame time was neither measured nor estimated for this engine", measure


def is_board(bench: Mapping[str, Any], board: Board) -> bool:
    """A board names itself in its device tree; this machine's own figures are good for `host`."""
    return board.name == "host" or bench["machine"]["cpu"].startswith(board.title)


def _robust(report: Mapping[str, Any], board: Board) -> Answer:
    measure = "quant eval DIR --suite robustness --json > hard.json, then quant report DIR --robustness hard.json"
    rows = report.get("robustness")
    if not rows:
        return "unknown", "behaviour on hard input was not measured", measure
    broken = [r for r in rows if not r["ok"]]
    if not broken:
        return "good", f"all {len(rows)} bounds hold", ""
    worst = f"{broken[0]['system']}, {broken[0]['stimulus']}"
    return "bad", f"{len(broken)} of {len(rows)} bounds broken, first {worst}", "quant qat, or another recipe"


def _executed(report: Mapping[str, Any], board: Board) -> Answer:
    planned = report["budget"]["totals"]["int8_share"]
    found = report["coverage"].get(board.preferred_engine)
    if found is None:
        return (
            "good",
            f"{planned:.0%} of the MACs in 8 bits, as planned: the native engine computes the plan itself",
            "",
        )
    said = f"{found['int8_share']:.0%} of the MACs in 8 bits in {board.preferred_engine}, {planned:.0%} planned"
    if found["int8_share"] >= planned - SHARE_LOST:
        return "good", said, ""
    return "caution", f"{said}: the engine runs the rest in float", "use --engine native or tflite on the board"


RULES: Final[dict[str, Callable[[Mapping[str, Any], Board], Answer]]] = {
    "Does it fit?": _fits,
    "Is it fast enough?": _speed,
    "What did 8 bits cost?": _quality,
    "Does it hold on hard input?": _robust,
    "Is it really 8 bits?": _executed,
}
