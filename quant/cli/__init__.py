"""`quant`: what the one who builds types. Parses, calls once, prints; heavy imports happen inside a command."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_runtime import __version__, command
from edge_runtime.command import Command
from quant.cli import budget, card, deploy, evaluate, release, report, train
from quant.cli.output import PROG
from quant.cli.output import print_json as _print_json
from quant.cli.output import print_table as _print_table
from quant.cli.output import say as _say

if TYPE_CHECKING:
    from quant.int8.plan import PlanRow
    from quant.search.ablation import Row
    from quant.search.path import Step

DESCRIPTION: Final = "Compile a GTCRN checkpoint into an int8 denoiser for a board."
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


def _sounds(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--speech", type=Path, metavar="DIR", help="clean speech; default: pulled once")
    parser.add_argument("--noise", type=Path, metavar="DIR", help="noise; default: pulled once")


def _corpora(parser: argparse.ArgumentParser) -> None:
    _sounds(parser)
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
    parser.add_argument(
        "--max-pesq-drop",
        type=_pesq_drop,
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


def _pesq_drop(text: str) -> float:
    """A finite number from 0."""
    with suppress(ValueError):
        if 0 <= float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0")


def _ablate_arguments(parser: argparse.ArgumentParser) -> None:
    _network(parser, "the pulled official weights")
    _sounds(parser)


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, metavar="DIR", help="made by `quant build`")
    signer = "public key that must have signed it; then nothing may lie there that the manifest does not name"
    parser.add_argument("--key", type=Path, metavar="PUB", help=signer)


def _pull(args: argparse.Namespace) -> int:
    from quant.inputs import assets

    pulled = assets.pull(progress=_say)
    if args.json:
        rows = [
            {
                "id": p.asset.id,
                "kind": p.asset.kind,
                "licence": p.asset.licence,
                "attribution": p.asset.attribution,
                "source": p.asset.source,
                "fetched": p.fetched,
                "files": [str(f) for f in p.files],
            }
            for p in pulled
        ]
        return _print_json({"cache": str(assets.cache_dir()), "assets": rows})
    _print_table(
        ("asset", "kind", "from", "licence", "by", ""),
        [
            (
                p.asset.id,
                p.asset.kind,
                str(p.asset),
                p.asset.licence,
                p.asset.attribution,
                "fetched" if p.fetched else "in the cache",
            )
            for p in pulled
        ],
    )
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
    from quant.build import stages

    settings = stages.Settings(args.target, args.checkpoint, args.speech, args.noise, args.recipe, args.ranges)
    table = stages.plan(settings, _say)
    if args.json:
        return _print_json(table)
    _print_table(("value", "kind", "type", "scale", "zero", "range"), [_plan_row(row) for row in table])
    return command.DONE


def _plan_row(row: PlanRow) -> tuple[str, ...]:
    if row.scales:
        scales = f"{min(row.scales):.2e} .. {max(row.scales):.2e}"
        return row.tap, "weight", "int8", scales, "0", f"{len(row.scales)} channels"
    if row.type == "float":
        return row.tap, row.kind, "float", "", "", ""
    return row.tap, row.kind, "int8", f"{row.scale:.3e}", str(row.zero_point), f"{row.low:.3g} .. {row.high:.3g}"


def _build(args: argparse.Namespace) -> int:
    import msgspec

    from quant.build import stages

    settings = stages.Settings(
        args.target,
        args.checkpoint,
        args.speech,
        args.noise,
        args.recipe,
        args.ranges,
        args.out,
        args.force,
        args.max_pesq_drop,
        args.search_state,
        args.io == "official",
        not args.no_report,
        args.qdq == "tensorrt",
    )
    start = time.monotonic()
    built = stages.build(settings, _say)
    if args.json:
        return _print_json({"out": str(built.folder), **msgspec.to_builtins(built.report)})
    for line in stages.summary(built, time.monotonic() - start):
        print(line)
    if built.report.search:
        columns = ("step", "raised", "to", "MACs", "int8 MACs", "ΔPESQ (95 %)", "at most lost", "SNR to float dB")
        _print_table(columns, [_step_cells(i, step) for i, step in enumerate(built.report.search.path)])
    _print_table(
        ("worst values", "alone dB", "alone, at the output dB", "all quantized dB", "cosine"),
        [
            (
                row.tap,
                f"{row.isolated_sqnr_db:.1f}",
                f"{row.isolated_output_sqnr_db:.1f}",
                f"{row.cumulative_sqnr_db:.1f}",
                f"{row.cumulative_cosine:.4f}",
            )
            for row in stages.worst(built.report)
        ],
    )
    return command.DONE


def _ablate(args: argparse.Namespace) -> int:
    from quant.build import stages
    from quant.search import ablation

    settings = stages.Settings("host", args.checkpoint, args.speech, args.noise, args.recipe)
    rows = list(ablation.ablate(settings, _say))
    if args.json:
        return _print_json(rows)
    columns = ("technique", "SNR to float dB", "PESQ to float", "ΔPESQ (95 %)", "ΔSI-SDR dB")
    _print_table(columns, [_ablation_cells(row) for row in rows])
    return command.DONE


def _ablation_cells(row: Row) -> tuple[str, ...]:
    return row.what, f"{row.snr_db:.1f}", f"{row.fidelity:.3f}", _paired_pesq(row), f"{row.d_si_sdr:+.2f}"


def _step_cells(number: int, step: Step) -> tuple[str, ...]:
    what = (step.group, step.precision, f"{step.macs:,}") if number else ("everything int8", "", "")
    return str(number), *what, f"{step.int8_share:.0%}", _paired_pesq(step), f"{step.lost:.4f}", f"{step.snr_db:.1f}"


def _paired_pesq(row: Row | Step) -> str:
    return f"{row.d_pesq:+.4f} ({row.d_pesq_low:+.4f} .. {row.d_pesq_high:+.4f})"


def _verify(args: argparse.Namespace) -> int:
    from edge_runtime.engines import golden
    from edge_runtime.manifest import open_artifact
    from quant.artifact import signing

    artifact = open_artifact(args.directory)
    artifact.check_all()
    if args.key is not None:
        artifact.check_whole()
    signed = signing.verify(args.directory, args.key) if args.key or signing.is_signed(args.directory) else None
    rows = golden.check_golden(artifact)
    if args.json:
        table = [golden.to_dict(row) for row in rows]
        seal = {"signature": signed and signed._asdict(), "unnamed_files": artifact.unnamed_files()}
        _print_json({"directory": str(args.directory), "golden": table, **seal})
    else:
        print(f"{len(artifact.manifest.files)} files are as built{signing.describe(signed)}")
        _print_table(("engine", "precision", "SNR dB", "floor dB", ""), [golden.cells(row) for row in rows])
    golden.judge(artifact, rows)
    return command.DONE


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
    Command("qat", train.QAT, train.add_qat_arguments, train.run_qat),
    Command("train", train.TRAIN, train.add_train_arguments, train.run_train),
    Command("eval", evaluate.SUMMARY, evaluate.add_arguments, evaluate.run),
    Command(
        "ablate",
        "measure what each post-training technique gains on a checkpoint, alone and together",
        _ablate_arguments,
        _ablate,
    ),
    Command("report", report.SUMMARY, report.add_arguments, report.run),
    Command("budget", budget.SUMMARY, budget.add_arguments, budget.run),
    *release.COMMANDS,
    deploy.COMMAND,
    *card.COMMANDS,
)
