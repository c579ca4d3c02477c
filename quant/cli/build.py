"""`quant plan | build | ablate`: parses, calls once, answers."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edge_runtime.command import Answer, Command, number
from quant.cli.options import TARGET_HELP, corpora, network, sounds, target
from quant.cli.output import say, table

if TYPE_CHECKING:
    from quant.build.stages import Built


def _plan_arguments(parser: argparse.ArgumentParser) -> None:
    own = f"{TARGET_HELP}; default: host, for the plan is every board's"
    parser.add_argument("--target", default="host", metavar="BOARD", help=own)
    network(parser)
    corpora(parser)


def _plan(args: argparse.Namespace) -> Answer:
    from quant.build import stages

    settings = stages.Settings(
        target=args.target,
        checkpoint=args.checkpoint,
        speech=args.speech,
        noise=args.noise,
        recipe=args.recipe,
        ranges=args.ranges,
    )
    rows = stages.plan(settings, say)
    return Answer(rows, _plan_lines(rows))


def _plan_lines(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield from table(("value", "kind", "type", "scale", "zero", "range"), [_plan_row(row) for row in rows])


def _plan_row(row: dict[str, Any]) -> tuple[str, ...]:
    if row["type"] == "float":
        return row["tap"], row["kind"], "float", "", "", ""
    if row["kind"] == "weight":
        scales = row["scales"]
        return row["tap"], "weight", "int8", f"{min(scales):.2e} .. {max(scales):.2e}", "0", f"{len(scales)} channels"
    return (
        row["tap"],
        row["kind"],
        "int8",
        f"{row['scale']:.3e}",
        str(row["zero_point"]),
        f"{row['low']:.3g} .. {row['high']:.3g}",
    )


def _build_arguments(parser: argparse.ArgumentParser) -> None:
    target(parser)
    network(parser)
    corpora(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: build/BOARD")
    parser.add_argument("--force", action="store_true", help="replace an artifact that is there")
    parser.add_argument(
        "--max-pesq-drop",
        type=number(0),
        metavar="X",
        help="search for the recipe: int8 where PESQ"
        " stays within X of float; the settings of --recipe hold, its rules do not",
    )
    parser.add_argument("--no-report", action="store_true", help="leave report.html out; `quant report` makes it later")
    parser.add_argument(
        "--search-state",
        type=Path,
        metavar="F",
        help="journal of the search, to go on from; default:"
        " in the cache, one for each checkpoint, corpora and settings",
    )
    own = "`official`: write the ONNX models also with the four inputs of the official one, for sherpa-onnx and others"
    jetson = "`tensorrt`: write the 8-bit ONNX model also by TensorRT's rules (symmetric, explicit), for Jetson boards"
    parser.add_argument("--qdq", choices=("own", "tensorrt"), default="own", help=jetson)
    parser.add_argument("--io", choices=("own", "official"), default="own", help=own)


def _build(args: argparse.Namespace) -> Answer:
    from quant.build import stages

    settings = stages.Settings(
        target=args.target,
        checkpoint=args.checkpoint,
        speech=args.speech,
        noise=args.noise,
        recipe=args.recipe,
        ranges=args.ranges,
        out=args.out,
        force=args.force,
        max_pesq_drop=args.max_pesq_drop,
        search_state=args.search_state,
        official_io=args.io == "official",
        html=not args.no_report,
        tensorrt=args.qdq == "tensorrt",
    )
    start = time.monotonic()
    built = stages.build(settings, say)
    lines = _build_lines(built, time.monotonic() - start)
    return Answer({"out": str(built.folder), **built.report}, lines)


def _build_lines(built: Built, elapsed_s: float) -> Iterator[str]:
    yield from summary(built, elapsed_s)
    if built.report["search"]:
        columns = ("step", "raised", "to", "MACs", "int8 MACs", "ΔPESQ (95 %)", "at most lost", "SNR to float dB")
        yield from table(columns, [_step_cells(i, step) for i, step in enumerate(built.report["search"]["path"])])
    figures = ("alone dB", "alone, at the output dB", "all quantized dB", "cosine")
    yield from table(("worst values", *figures), [_error_cells(row) for row in worst(built.report)])


def _error_cells(row: dict[str, Any]) -> tuple[str, ...]:
    figures = ("isolated_sqnr_db", "isolated_output_sqnr_db", "cumulative_sqnr_db")
    return row["tap"], *(f"{row[name]:.1f}" for name in figures), f"{row['cumulative_cosine']:.4f}"


def _step_cells(number: int, step: dict[str, Any]) -> tuple[str, ...]:
    what = (step["group"], step["precision"], f"{step['macs']:,}") if number else ("everything int8", "", "")
    figures = f"{step['int8_share']:.0%}", _paired_pesq(step), f"{step['lost']:.4f}", f"{step['snr_db']:.1f}"
    return str(number), *what, *figures


def _ablate_arguments(parser: argparse.ArgumentParser) -> None:
    network(parser, "the pulled official weights")
    sounds(parser)


def _ablate(args: argparse.Namespace) -> Answer:
    from quant.build import stages
    from quant.search import ablation

    settings = stages.Settings(
        target="host", checkpoint=args.checkpoint, speech=args.speech, noise=args.noise, recipe=args.recipe
    )
    rows = [row.to_dict() for row in ablation.ablate(settings, say)]
    return Answer(rows, _ablation_lines(rows))


def _ablation_lines(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    columns = ("technique", "SNR to float dB", "PESQ to float", "ΔPESQ (95 %)", "ΔSI-SDR dB")
    yield from table(columns, [_ablation_cells(row) for row in rows])


def _ablation_cells(row: dict[str, Any]) -> tuple[str, ...]:
    figures = f"{row['snr_db']:.1f}", f"{row['fidelity']:.3f}", _paired_pesq(row), f"{row['d_si_sdr']:+.2f}"
    return row["what"], *figures


def _paired_pesq(row: dict[str, Any]) -> str:
    return f"{row['d_pesq']:+.4f} ({row['d_pesq_low']:+.4f} .. {row['d_pesq_high']:+.4f})"


def summary(built: Built, elapsed_s: float) -> list[str]:
    """What was made, in a few lines."""
    report = built.report
    sizes = ", ".join(f"{name} {f['bytes'] / 1024:.0f} KB" for name, f in report["files"].items())
    shares = ", ".join(f"{c['int8_share']:.0%} of the MACs in {engine}" for engine, c in report["coverage"].items())
    return [
        f"{built.folder}: {report['board']}, recipe {report['recipe']}, in {elapsed_s:.0f} s",
        f"files:    {sizes}",
        f"int8:     {f'{shares}, as the runtimes execute them' if shares else 'as planned, bit for bit'}",
        *(f"{engine + ':':<9} {_by_kind(c['nodes'])}" for engine, c in report["coverage"].items()),
        *(
            f"tensorrt: {t['golden_snr_db']:.1f} dB to float in ONNX Runtime; TensorRT itself was not run"
            for t in [report.get("tensorrt")]
            if t
        ),
    ]


def _by_kind(nodes: list[dict[str, Any]]) -> str:
    """How many nodes of each kind that multiplies run in int8, and which stay float."""
    counts = Counter((n["executed"], n["kind"]) for n in nodes if n["macs"] or n["kind"] == "leaky_relu")
    parts = [
        f"{precision} " + ", ".join(f"{n} {kind}" for (p, kind), n in sorted(counts.items()) if p == precision)
        for precision in ("int8", "mixed", "float")
        if any(p == precision for p, _ in counts)
    ]
    return "; ".join(parts)


def worst(report: dict[str, Any], n: int = 8) -> list[dict[str, Any]]:
    """The values that cost the output most when rounded alone."""
    return sorted(report["accuracy"], key=lambda row: row["isolated_output_sqnr_db"])[:n]


PLAN: Final = Command("plan", "show the precision and the grid of every value", _plan_arguments, _plan)
BUILD: Final = Command(
    "build", "quantize a checkpoint and write the artifact folder of a board", _build_arguments, _build
)
ABLATE: Final = Command(
    "ablate",
    "measure what each post-training technique gains on a checkpoint, alone and together",
    _ablate_arguments,
    _ablate,
)
