"""The verdict of a report: six questions, each answered from the figures by a rule in RULES, with what to do next.

good      within the bound, measured
caution   within a wider bound, or only estimated, or measured on another machine
bad       out of bounds
unknown   nobody measured it
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from boards import Board
from edge_runtime.bench import BenchPart
from edge_runtime.stft import HOP_SAMPLES, SAMPLE_RATE_HZ
from quant.audit.findings import EstimatePart
from quant.audit.frame_time import engine_of, span
from quant.network import registry
from quant.quality.results import QualityPart, RobustnessRow
from quant.quality.shipped import ShippedPart
from quant.report.schema import Judgement, Report, Status

HOP_MS: Final = 1e3 * HOP_SAMPLES / SAMPLE_RATE_HZ
GOOD_PESQ_DROP, BAD_PESQ_DROP = 0.02, 0.05  # 0.02 is what the search is asked to keep; 0.05 is heard side by side
MEASURE_QUALITY: Final = "quant eval DIR --pairs PAIRS, then quant report DIR"
MEASURE_ROBUSTNESS: Final = "quant eval DIR --suite robustness, then quant report DIR"
FOLDER: Final = "DIR"  # in what to do next, until `judge` knows which
SHARE_LOST: Final = 0.05  # of the MACs planned in 8 bits that an engine may run in float

ORDER: Final[tuple[Status, ...]] = ("bad", "unknown", "caution", "good")  # what settles the whole, first to last


class Answer(NamedTuple):
    """To a question, and what to do next ("" for nothing)."""

    status: Status
    answer: str
    todo: str = ""


def judge(report: Report, folder: str = "") -> tuple[Judgement, ...]:
    """One answer for each rule. `folder`: where the artifact lies, for what to do next; default: where a build puts it,
    so that a report is the same wherever it is made."""
    place = folder or default_folder(report)
    answers = {question: rule(report) for question, rule in RULES.items()}
    return tuple(
        Judgement(question=q, status=a.status, answer=a.answer, todo=a.todo.replace(FOLDER, place))
        for q, a in answers.items()
    )


def default_folder(report: Report) -> str:
    """Where `quant build` puts an artifact of this board and network unless told."""
    return str(registry.built_folder(report.board, report.network))


def overall(judged: Iterable[Judgement]) -> Status:
    """The status of the worst answer; what is unknown weighs more than what is close."""
    return min((j.status for j in judged), key=ORDER.index)


def _fits(report: Report) -> Answer:
    board, file = report.target, model_file(report)
    counted = [b for b in report.budget.budget if b.name not in ("model_bytes", "ram_bytes")]
    lines = [
        *((line.title.rstrip(":"), line.value, line.limit) for line in counted),
        (f"flash, {file}", report.files[file].bytes, board.budget.model_bytes),
        ("RAM", ram_bytes(report), board.budget.ram_bytes),
    ]
    over = [f"{what} {value:,.0f} of {limit:,.0f}" for what, value, limit in lines if value > limit]
    if over:
        remedy = "choose a smaller network (quant budget --set) or board"
        return Answer("bad", f"over budget: {'; '.join(over)}", remedy)
    what, value, limit = max(lines, key=lambda line: line[1] / line[2])
    return Answer("good", f"every line within the board's budget; tightest: {what}, {value / limit:.0%} used")


def model_file(report: Report) -> str:
    """The 8-bit model that the board runs."""
    wanted = f"model.{report.target.preferred_engine}"
    return wanted if wanted in report.files else "model.native"


def ram_bytes(report: Report) -> int:
    """The C engine's: see `quant.audit.footprint`; no Python, no libraries."""
    return report.budget.totals.ram_bytes


def _quality(report: Report) -> Answer:
    engine = report.target.preferred_engine
    if report.quality is not None:
        return of_quality(report.quality, engine)
    if report.shipped is None:
        return Answer("unknown", "speech quality of this artifact was not measured", MEASURE_QUALITY)
    found = of_quality(QualityPart(systems=report.shipped.systems), engine)
    return found._replace(answer=f"{found.answer}; {_by_us(report.shipped)}")


def of_quality(quality: QualityPart, engine: str) -> Answer:
    """What 8 bits cost in `engine`, or else in another that was measured."""
    own = [s for s in quality.systems if s.system.endswith("int8") and "pesq" in s.differences]
    if not own:
        return Answer("unknown", "the evaluation has no PESQ of an int8 model against float", MEASURE_QUALITY)
    found = next((s for s in own if engine in s.system), own[0])
    d = found.differences["pesq"]
    said = (
        f"{found.system}: PESQ {d.mean:+.3f} against float (95 %: {d.low:+.3f} to {d.high:+.3f}, {found.n_clips} clips)"
    )
    if d.mean >= -GOOD_PESQ_DROP:
        return Answer("good", said)
    status: Status = "caution" if d.mean >= -BAD_PESQ_DROP else "bad"
    return Answer(status, said, f"quant build --max-pesq-drop {GOOD_PESQ_DROP}, or quant qat")


def _speed(report: Report) -> Answer:
    """What was measured on the board; else what is estimated for it; a bench of another machine displaces neither."""
    board = report.target
    measure = (
        f"on the board: edge-denoise bench --model DIR --engine {board.preferred_engine} --json > bench.json, "
        "then quant report DIR --bench bench.json"
    )
    if board.bare:
        measure = "on the processor: count the cycles of ed_process, 256 samples a call"
    if measured := board_bench(report):
        return _measured(measured, board)
    elsewhere = [f"{_hop(b)}, which is not this board" for b in own_benches(report)[:1]]
    if estimate := board_estimate(report):
        said = f"estimated, not measured: {span(estimate.low_ms, estimate.high_ms)} ms of {HOP_MS:g} ms a hop"
        status: Status = "caution" if estimate.high_ms < HOP_MS else "bad"
        return Answer(status, "; ".join([said, *elsewhere]), measure)
    if elsewhere:
        return Answer("caution", elsewhere[0], measure)
    return Answer("unknown", "the time of a hop was neither measured nor estimated for this engine", measure)


def _measured(bench: BenchPart, board: Board) -> Answer:
    said = _hop(bench)
    if bench.rtf <= board.budget.rtf and bench.hop_us.p99 < 1e3 * HOP_MS:
        return Answer("good", said)
    if bench.rtf < 1:
        return Answer("caution", f"{said}: over the budget of {board.budget.rtf:.0%} of a core", "try another engine")
    return Answer("bad", f"{said}: slower than sound", "choose a smaller network or board")


def _hop(b: BenchPart) -> str:
    return (
        f"{b.engine} int8: a hop takes {b.hop_us.p50 / 1e3:.3g} ms, {b.hop_us.p99 / 1e3:.3g} ms at "
        f"the 99th percentile, of {HOP_MS:g} ms; measured on {b.machine.cpu}"
    )


def own_benches(report: Report) -> list[BenchPart]:
    """Of the board's engine in 8 bits, on whatever machine."""
    wanted = report.target.preferred_engine, "int8"
    return [b for b in report.benches if (b.engine, b.precision) == wanted]


def board_bench(report: Report) -> BenchPart | None:
    """Of these the board's own: it names itself in its device tree; this machine's figures are good for `host`."""
    return next((b for b in own_benches(report) if is_of(b, report.target)), None)


def is_of(bench: BenchPart, board: Board) -> bool:
    """Whether a bench was made on such a board."""
    return board.name == "host" or bench.machine.cpu.startswith(board.title)


def board_estimate(report: Report) -> EstimatePart | None:
    """Of what runs on the board, in 8 bits."""
    wanted = engine_of(report.target), "int8"
    return next((e for e in report.estimates if (e.engine, e.precision) == wanted), None)


def _robust(report: Report) -> Answer:
    if report.robustness:
        return of_robustness(report.robustness)
    if report.shipped is None or not report.shipped.robustness:
        return Answer("unknown", "behaviour on hard input was not measured", MEASURE_ROBUSTNESS)
    found = of_robustness(report.shipped.robustness)
    return found._replace(answer=f"{found.answer}; {_by_us(report.shipped)}")


def _by_us(shipped: ShippedPart) -> str:
    return f"measured by edge-denoise on {shipped.date} on these weights, not yet by you"


def of_robustness(rows: Sequence[RobustnessRow]) -> Answer:
    """Whether every bound holds."""
    broken = [row for row in rows if not row.ok]
    if not broken:
        return Answer("good", f"all {len(rows)} bounds hold")
    worst = f"{broken[0].system}, {broken[0].stimulus}"
    return Answer("bad", f"{len(broken)} of {len(rows)} bounds broken, first {worst}", "quant qat, or another recipe")


def _executed(report: Report) -> Answer:
    planned, engine = report.budget.totals.int8_share, report.target.preferred_engine
    if engine not in report.coverage:
        said = f"{planned:.0%} of the MACs in 8 bits, as planned: the native engine computes the plan itself"
        return Answer("good", said)
    share = report.coverage[engine].int8_share
    said = f"{share:.0%} of the MACs in 8 bits in {engine}, {planned:.0%} planned"
    if share >= planned - SHARE_LOST:
        return Answer("good", said)
    return Answer("caution", f"{said}: the engine runs the rest in float", "use --engine native or tflite on the board")


def _pays(report: Report) -> Answer:
    """Eight bits against float in the board's engine, in time and in bytes of the model's file."""
    engine, found = report.target.preferred_engine, _time_against_float(report)
    small, large = (report.files.get(name) for name in (model_file(report), f"model.fp32.{engine}"))
    size = f", {small.bytes / large.bytes:.2f} of its file" if small and large else ""
    if found is None:
        both = (
            "on the board: edge-denoise bench --model DIR --json > bench.json, then quant report DIR --bench bench.json"
        )
        return Answer("unknown", f"time against float was neither measured nor estimated in {engine}{size}", both)
    ratio, how = found
    said = f"8 bits take {ratio:.2f} of float's time in {engine} ({how}){size}"
    if ratio <= 1:
        return Answer("good", said)
    return Answer("caution", f"float is faster: {said}", "--precision fp32 where time decides")


def _time_against_float(report: Report) -> tuple[float, str] | None:
    """(8 bits / float, how that is known): of benches of both on the board, else of both estimates."""
    board = report.target
    own = [b for b in report.benches if b.engine == board.preferred_engine and is_of(b, board)]
    benched = {b.precision: b.hop_us.p50 for b in own}
    counted = {e.precision: e.low_ms + e.high_ms for e in report.estimates if e.engine == engine_of(board)}
    for how, times in ("measured", benched), ("estimated", counted):
        if {"int8", "fp32"} <= times.keys():
            return times["int8"] / times["fp32"], how
    return None


RULES: Final[dict[str, Callable[[Report], Answer]]] = {
    "Does it fit?": _fits,
    "Is it fast enough?": _speed,
    "What did 8 bits cost?": _quality,
    "Does it hold on hard input?": _robust,
    "Is it really 8 bits?": _executed,
    "Do 8 bits pay?": _pays,
}
