"""`quant`: what the one who builds types. Parses, calls once, prints; heavy imports happen inside a command."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edge_runtime import __version__, command
from edge_runtime.command import Command
from edge_runtime.errors import Failure

if TYPE_CHECKING:
    from edge_runtime.golden import GoldenRow
    from quant.evaluate import Summary

PROG: Final = "quant"
DESCRIPTION: Final = "Compile a GTCRN checkpoint into an int8 denoiser for a board."
WIDTH_CHARACTERS: Final = 160  # of a table that goes to no terminal
_TARGET_HELP: Final = "a board of `quant boards`, or a .toml file"
_WEIGHTS_HELP: Final = "the trained default, or with --recipe the pulled weights"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return command.run(command.parser_of(PROG, DESCRIPTION, __version__, COMMANDS), argv, PROG)


def _nothing(parser: argparse.ArgumentParser) -> None:
    """No options of its own."""


def _target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", required=True, metavar="BOARD", help=_TARGET_HELP)


def _network(parser: argparse.ArgumentParser, default: str = _WEIGHTS_HELP) -> None:
    parser.add_argument("--checkpoint", type=Path, metavar="F", help=f"default: {default}")
    own = "calibrate by a recipe, or a .toml file; default: static for a checkpoint, its own for a .trained file"
    parser.add_argument("--recipe", metavar="R", help=own)


def _corpora(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--speech", type=Path, metavar="DIR", help="clean speech; default: pulled once")
    parser.add_argument("--noise", type=Path, metavar="DIR", help="noise; default: pulled once")
    parser.add_argument("--ranges", type=Path, metavar="F", help="ranges.json of an earlier build")


def _plan_arguments(parser: argparse.ArgumentParser) -> None:
    own = f"{_TARGET_HELP}; default: host, for the plan is every board's"
    parser.add_argument("--target", default="host", metavar="BOARD", help=own)
    _network(parser)
    _corpora(parser)


def _build_arguments(parser: argparse.ArgumentParser) -> None:
    _target(parser)
    _network(parser)
    _corpora(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: build/BOARD")
    parser.add_argument("--force", action="store_true", help="replace an artifact that is there")


def _budget_arguments(parser: argparse.ArgumentParser) -> None:
    _target(parser)
    _network(parser, "the published network, without its weights")


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="DIR", help="made by `quant build`")


def _eval_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifacts", type=Path, nargs="+", metavar="ARTIFACT", help="made by `quant build`")
    parser.add_argument("--pairs", type=Path, required=True, metavar="DIR", help="clean/ and noisy/, same file names")
    parser.add_argument("--metrics", default="pesq,stoi,sisdr", metavar="M,..", help="of pesq,stoi,estoi,sisdr")


def _pull(args: argparse.Namespace) -> int:
    from quant import assets

    pulled = assets.pull(progress=_say)
    if args.json:
        rows = [
            {"id": p.asset.id, "kind": p.asset.kind, "licence": p.asset.licence, "attribution": p.asset.attribution,
             "source": p.asset.source, "fetched": p.fetched, "files": [str(f) for f in p.files]}
            for p in pulled
        ]  # fmt: skip
        return _print_json({"cache": str(assets.cache_dir()), "assets": rows})
    _print_table(("asset", "kind", "from", "licence", "by", ""), [
        (p.asset.id, p.asset.kind, str(p.asset), p.asset.licence, p.asset.attribution,
         "fetched" if p.fetched else "in the cache") for p in pulled])  # fmt: skip
    print(f"in {assets.cache_dir()}")
    return command.DONE


def _boards(args: argparse.Namespace) -> int:
    import boards

    loaded = [boards.load(name) for name in boards.names()]
    if args.json:
        return _print_json({board.name: boards.to_dict(board) for board in loaded})
    for board in loaded:
        heading, *rows = boards.describe(board)
        _print_table(heading, rows)
    return command.DONE


def _plan(args: argparse.Namespace) -> int:
    from quant import build

    settings = build.Settings(args.target, args.checkpoint, args.speech, args.noise, args.recipe, args.ranges)
    table = build.plan(settings, _say)
    if args.json:
        return _print_json(table)
    _print_table(("value", "kind", "type", "scale", "zero", "range"), [_plan_row(row) for row in table])
    return command.DONE


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


def _build(args: argparse.Namespace) -> int:
    from quant import build

    settings = build.Settings(
        args.target, args.checkpoint, args.speech, args.noise, args.recipe, args.ranges, args.out, args.force
    )
    start = time.monotonic()
    built = build.build(settings, _say)
    if args.json:
        return _print_json({"out": str(built.folder), **built.report})
    for line in build.summary(built, time.monotonic() - start):
        print(line)
    _print_table(
        ("worst values", "alone dB", "alone, at the output dB", "all quantized dB", "cosine"),
        [
            (
                row["tap"],
                f"{row['isolated_sqnr_db']:.1f}",
                f"{row['isolated_output_sqnr_db']:.1f}",
                f"{row['cumulative_sqnr_db']:.1f}",
                f"{row['cumulative_cosine']:.4f}",
            )
            for row in build.worst(built.report)
        ],
    )
    return command.DONE


def _budget(args: argparse.Namespace) -> int:
    from quant import budget

    report = budget.for_target(args.target, args.checkpoint, args.recipe)
    if args.json:
        _print_json(budget.to_dict(report))
    else:
        _show(budget.render(report))
    budget.check(report)
    return command.DONE


def _verify(args: argparse.Namespace) -> int:
    from edge_runtime.golden import check_golden
    from edge_runtime.manifest import open_artifact

    artifact = open_artifact(args.directory)
    artifact.check_all()
    rows = check_golden(artifact)
    if args.json:
        _print_json({"directory": str(args.directory), "golden": [_golden_dict(row) for row in rows]})
    else:
        print(f"{len(artifact.manifest.files)} files are as built")
        _print_table(("engine", "precision", "SNR dB", "floor dB", ""), [_golden_cells(row) for row in rows])
    _judge(args.directory, rows)
    return command.DONE


def _golden_dict(row: GoldenRow) -> dict[str, Any]:
    """JSON has no infinity, which is the SNR of equal vectors: null there, with "ok" true."""
    finite = row.snr_db is not None and math.isfinite(row.snr_db)
    return {**row._asdict(), "snr_db": row.snr_db if finite else None}


def _golden_cells(row: GoldenRow) -> tuple[str, ...]:
    reached = "" if row.snr_db is None else f"{row.snr_db:.1f}"
    verdict = {True: "ok", False: "BREACH", None: "not run: engine not installed"}[row.ok]
    return row.engine, row.precision, reached, "exact" if row.exact else f"{row.floor_db:.0f}", verdict


def _judge(directory: Path, rows: Sequence[GoldenRow]) -> None:
    """Failure when a model breached its golden vectors, or none could run."""
    broken = ", ".join(f"{row.engine} {row.precision}" for row in rows if row.ok is False)
    if broken:
        remedy = "build it again with `quant build`, or report the engine's version"
        raise Failure(f"golden vectors breached by {broken}", where=directory, remedy=remedy)
    if all(row.ok is None for row in rows):
        remedy = "`pip install 'edge-denoise[onnx]'`"
        raise Failure("no engine is installed to run the golden vectors", where=directory, remedy=remedy)


def _eval(args: argparse.Namespace) -> int:
    from quant import evaluate

    metrics, pairs = evaluate.choose_metrics(args.metrics), evaluate.find_pairs(args.pairs)
    systems = evaluate.systems_of(args.artifacts)
    rows = evaluate.evaluate(systems, pairs, metrics)
    summaries = evaluate.summarise(rows, evaluate.float_counterparts(systems))
    failed = [row for row in rows if row.error]
    if args.json:
        clips = [{"clip": r.clip, "system": r.system, **r.scores, "error": r.error} for r in rows]
        return _print_json({"systems": [s.to_dict() for s in summaries], "clips": clips})
    columns = ("system", "clips", *metrics, *(f"{m}: int8 to float (95 %)" for m in metrics))
    _print_table(columns, [_summary_cells(s, metrics) for s in summaries])
    for row in failed:
        _say(f"{row.clip}, {row.system}: {row.error}")
    return command.DONE


def _summary_cells(summary: Summary, metrics: Sequence[str]) -> tuple[str, ...]:
    means = [f"{summary.means[m]:.3f}" for m in metrics]
    paired = [summary.differences.get(m) for m in metrics]
    cells = ["" if d is None else f"{d[0]:+.4f} ({d[1]:+.4f} .. {d[2]:+.4f})" for d in paired]
    return summary.system, str(summary.n_clips), *means, *cells


def _say(message: str) -> None:
    """Progress goes to standard error."""
    print(f"{PROG}: {message}", file=sys.stderr, flush=True)


def _print_json(value: Any) -> int:
    print(json.dumps(value, indent=2, allow_nan=False))
    return command.DONE


def _show(renderable: Any) -> None:
    """Print what rich lays out; rich only lays out, for it would make status 1 of a reader that leaves."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else WIDTH_CHARACTERS
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as laid_out:
        console.print(renderable)
    print("\n".join(line.rstrip() for line in laid_out.get().splitlines()))


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    _show(table)


COMMANDS: Final = (
    Command("pull", "fetch the official weights, some speech and some noise into the cache, once", _nothing, _pull),
    Command("boards", "list the boards and their budgets", _nothing, _boards),
    Command("plan", "show the precision and the grid of every value", _plan_arguments, _plan),
    Command("build", "quantize a checkpoint and write the artifact folder of a board", _build_arguments, _build),
    Command(
        "verify",
        "check an artifact's files and run its golden vectors through every engine",
        _verify_arguments,
        _verify,
    ),
    Command("eval", "measure speech quality through the engines, clip by clip", _eval_arguments, _eval),
    Command("budget", "count parameters, MACs and memory against a board", _budget_arguments, _budget),
)

if __name__ == "__main__":
    sys.exit(main())
