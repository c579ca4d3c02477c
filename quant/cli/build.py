"""`quant plan | build | ablate`: parses, calls once, answers."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_runtime.command import Answer, Command, number
from edge_runtime.errors import Failure
from quant.cli.options import TARGET_HELP, corpora, network, sounds, target, window_name
from quant.cli.output import Stages, say, table

# Stage -> seconds on an idle core (2026-11-28, Intel Xeon).
USUAL_S: Final[dict[str, float | None]] = {
    "reading the weights": 0.3,
    "mixing calibration speech": 6.0,
    "search": None,  # its bars speak
    "calibrating": 15.0,
    "emitting": 0.6,
    "writing golden vectors": 7.0,
    "measuring the error of every tap": 5.0,
    "drawing the report": 4.0,
}
PLAN_USUAL_S: Final = {
    name: USUAL_S[name] for name in ("reading the weights", "mixing calibration speech", "calibrating")
}
ERRORS: Final = ("alone dB", "alone, at the output dB", "all quantized dB", "cosine")

if TYPE_CHECKING:
    from quant.audit.findings import AccuracyRow, CoverageNode
    from quant.build.settings import Settings
    from quant.build.stages import Built
    from quant.inputs.source import Inputs
    from quant.int8.plan import PlanRow
    from quant.report.schema import Report
    from quant.search.ablation import Row
    from quant.search.path import Step


def _plan_arguments(parser: argparse.ArgumentParser) -> None:
    own = f"{TARGET_HELP}; default: host, for the plan is every board's"
    parser.add_argument("--target", default="host", metavar="BOARD", help=own)
    network(parser)
    corpora(parser)


def _plan(args: argparse.Namespace) -> Answer:
    from quant.build import stages
    from quant.build.settings import Settings

    with Stages(PLAN_USUAL_S) as said:
        rows = stages.plan(Settings(target=args.target, inputs=_inputs(args)), said)
    return Answer(rows, _plan_lines(rows))


def _plan_lines(rows: Sequence[PlanRow]) -> Iterator[str]:
    yield from table(("value", "kind", "type", "scale", "zero", "range"), [_plan_row(row) for row in rows])


def _plan_row(row: PlanRow) -> tuple[str, ...]:
    if row.scales:
        scales = f"{min(row.scales):.2e} .. {max(row.scales):.2e}"
        return row.tap, "weight", "int8", scales, "0", f"{len(row.scales)} channels"
    if row.type == "float":
        return row.tap, row.kind, "float", "", "", ""
    return row.tap, row.kind, "int8", f"{row.scale:.3e}", str(row.zero_point), f"{row.low:.3g} .. {row.high:.3g}"


def _build_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what is built")
    target(what)
    network(what)
    lost = "keep layers in float until PESQ falls by at most X (3 to 6 minutes); --recipe then gives only its settings"
    what.add_argument("--max-pesq-drop", type=number(0), metavar="X", help=lost)
    own = "`official`: write the ONNX models also with the four inputs of the official one, for sherpa-onnx and others"
    what.add_argument("--io", choices=("own", "official"), default="own", help=own)
    jetson = "`tensorrt`: write the 8-bit ONNX model also by TensorRT's rules (symmetric, explicit), for Jetson boards"
    what.add_argument("--qdq", choices=("own", "tensorrt"), default="own", help=jetson)
    heard = parser.add_argument_group("what is heard")
    corpora(heard)
    pairs = "measure speech quality on DIR/clean and DIR/noisy, too, for the report: see `quant eval`"
    heard.add_argument("--pairs", type=Path, metavar="DIR", help=pairs)
    left = parser.add_argument_group("what is left")
    left.add_argument("--out", type=Path, metavar="DIR", help="default: build/BOARD, build/BOARD-NETWORK")
    left.add_argument("--force", action="store_true", help="replace an artifact that is there")
    left.add_argument("--no-report", action="store_true", help="leave report.html out; `quant report` makes it later")
    journal = (
        "journal of the search, to go on from; default: in the cache, one for each checkpoint, corpora and settings"
    )
    left.add_argument("--search-state", type=Path, metavar="F", help=journal)
    parser.add_argument(
        "--verbose", action="store_true", help="print sizes, what runs in 8 bits, the worst values, too"
    )


def _build(args: argparse.Namespace) -> Answer:
    from dataclasses import replace

    import msgspec

    from quant.build import stages
    from quant.cli import evaluate

    settings = _settings(args)
    measured = None if args.pairs is None else evaluate.Quality.of(args.pairs)
    start = time.monotonic()
    with Stages(USUAL_S) as said:
        built = stages.build(settings, said)
    if measured is not None:
        built = replace(built, report=measured.taken_in(built.folder, html=not args.no_report))
    lines = _build_lines(built, time.monotonic() - start, verbose=args.verbose)
    return Answer(lambda: {"out": str(built.folder), **msgspec.to_builtins(built.report)}, lines)


def _build_lines(built: Built, elapsed_s: float, *, verbose: bool) -> Iterator[str]:
    """The verdict, three figures, what to open, what to type next."""
    import shlex

    from quant.report.verdict import judge

    report, folder = built.report, shlex.quote(str(built.folder))
    yield f"{built.folder}: built for {report.target.title} in {elapsed_s:.0f} s"
    yield from table(("question", "", "answer"), [(j.question, j.status, j.answer) for j in report.verdict])
    yield ", ".join(figures(report))
    if verbose:
        yield from summary(built)
        yield from table(("worst values", *ERRORS), [_error_cells(row) for row in worst(report)])
    if report.search:
        columns = ("step", "raised", "to", "MACs", "int8 MACs", "ΔPESQ (95 %)", "at most lost", "SNR to float dB")
        yield from table(columns, [_step_cells(i, step) for i, step in enumerate(report.search.path)])
    if (built.folder / "report.html").is_file():
        yield f"open:    {built.folder}/report.html"
    if report.target.bare:
        yield f"try:     make -C {folder} && {folder}/self_test"
    else:
        yield f"try:     edge-denoise file noisy.wav clean.wav --model {folder}"
    if todo := next((j.todo for j in judge(report, folder) if j.status == "unknown"), ""):
        yield f"next:    {todo}"


def figures(report: Report) -> Iterator[str]:
    """What it takes of the board: flash, RAM, time."""
    from quant.audit import frame_time
    from quant.report import verdict

    yield f"{report.files[verdict.model_file(report)].bytes / 1024:.0f} KB of flash"
    yield f"{verdict.ram_bytes(report) / 1024:.0f} KB of RAM"
    if estimate := verdict.board_estimate(report):
        yield f"{frame_time.span(estimate.low_ms, estimate.high_ms)} ms of every {verdict.HOP_MS:g} ms (estimated)"


def _error_cells(row: AccuracyRow) -> tuple[str, ...]:
    figures = (row.isolated_sqnr_db, row.isolated_output_sqnr_db, row.cumulative_sqnr_db)
    return row.tap, *(f"{figure:.1f}" for figure in figures), f"{row.cumulative_cosine:.4f}"


def _settings(args: argparse.Namespace) -> Settings:
    from quant.build.settings import Outputs, Search, Settings

    if args.max_pesq_drop is None and args.search_state is not None:
        raise Failure("--search-state without a search", remedy="give --max-pesq-drop too")
    searches = args.max_pesq_drop is not None
    return Settings(
        target=args.target,
        inputs=_inputs(args),
        search=Search(max_pesq_drop=args.max_pesq_drop, state=args.search_state) if searches else None,
        outputs=Outputs(
            folder=args.out,
            force=args.force,
            html=not args.no_report,
            official_io=args.io == "official",
            tensorrt=args.qdq == "tensorrt",
        ),
    )


def _inputs(args: argparse.Namespace) -> Inputs:
    from quant.inputs.source import Inputs

    return Inputs(
        checkpoint=args.checkpoint,
        recipe=args.recipe,
        speech=args.speech,
        noise=args.noise,
        ranges=getattr(args, "ranges", None),
        window=window_name(args),
        network=args.network,
    )


def _step_cells(number: int, step: Step) -> tuple[str, ...]:
    what = (step.group, step.precision, f"{step.macs:,}") if number else ("everything int8", "", "")
    return str(number), *what, f"{step.int8_share:.0%}", _paired_pesq(step), f"{step.lost:.4f}", f"{step.snr_db:.1f}"


def _ablate_arguments(parser: argparse.ArgumentParser) -> None:
    network(parser, "the pulled official weights")
    sounds(parser)


def _ablate(args: argparse.Namespace) -> Answer:
    from quant.search import ablation

    rows = list(ablation.ablate(_inputs(args), say))
    return Answer(rows, _ablation_lines(rows))


def _ablation_lines(rows: Sequence[Row]) -> Iterator[str]:
    columns = ("technique", "SNR to float dB", "PESQ to float", "ΔPESQ (95 %)", "ΔSI-SDR dB")
    yield from table(columns, [_ablation_cells(row) for row in rows])


def _ablation_cells(row: Row) -> tuple[str, ...]:
    return row.what, f"{row.snr_db:.1f}", f"{row.fidelity:.3f}", _paired_pesq(row), f"{row.d_si_sdr:+.2f}"


def _paired_pesq(row: Row | Step) -> str:
    return f"{row.d_pesq:+.4f} ({row.d_pesq_low:+.4f} .. {row.d_pesq_high:+.4f})"


def summary(built: Built) -> list[str]:
    """What was made, in a few lines."""
    from msgspec import UNSET

    report = built.report
    sizes = ", ".join(f"{name} {f.bytes / 1024:.0f} KB" for name, f in report.files.items())
    shares = ", ".join(f"{c.int8_share:.0%} of the MACs in {engine}" for engine, c in report.coverage.items())
    lines = [
        f"recipe:   {report.recipe}",
        f"files:    {sizes}",
        f"int8:     {f'{shares}, as the runtimes execute them' if shares else 'as planned, bit for bit'}",
        *(f"{engine + ':':<9} {_by_kind(c.nodes)}" for engine, c in report.coverage.items()),
    ]
    if report.tensorrt is not UNSET:
        found = f"{report.tensorrt.golden_snr_db:.1f} dB to float in ONNX Runtime"
        lines.append(f"tensorrt: {found}; TensorRT itself was not run")
    return lines


def _by_kind(nodes: Sequence[CoverageNode]) -> str:
    """How many nodes of each kind that multiplies run in int8, and which stay float."""
    counts = Counter((n.executed, n.kind) for n in nodes if n.macs or n.kind == "leaky_relu")
    parts = [
        f"{precision} " + ", ".join(f"{n} {kind}" for (p, kind), n in sorted(counts.items()) if p == precision)
        for precision in ("int8", "mixed", "float")
        if any(p == precision for p, _ in counts)
    ]
    return "; ".join(parts)


def worst(report: Report, n: int = 8) -> list[AccuracyRow]:
    """The values that cost the output most when rounded alone."""
    return sorted(report.accuracy, key=lambda row: row.isolated_output_sqnr_db)[:n]


PLAN: Final = Command(
    "plan",
    "show the precision and the grid of every value",
    _plan_arguments,
    _plan,
    examples=(
        "quant plan --checkpoint my.tar",
        "quant plan --checkpoint my.tar --recipe my.toml",
    ),
    page="guide/checkpoint.md",
    takes_long=True,
)
BUILD: Final = Command(
    "build",
    "quantize a checkpoint and write the artifact folder of a board",
    _build_arguments,
    _build,
    examples=(
        "quant build --target rpi4",
        "quant build --target rpi4 --checkpoint my.tar --out build/mine --pairs DIR",
    ),
    page="guide/checkpoint.md",
    takes_long=True,
)
ABLATE: Final = Command(
    "ablate",
    "measure what each post-training technique gains on a checkpoint, alone and together",
    _ablate_arguments,
    _ablate,
    examples=(
        "quant ablate --checkpoint my.tar",
        "quant ablate --checkpoint my.tar --speech DIR --noise DIR",
    ),
    page="guide/checkpoint.md",
    takes_long=True,
)
