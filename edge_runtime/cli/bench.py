"""`edge-denoise bench | verify`: how fast and how true a model is here. Parses, calls once, prints."""

from __future__ import annotations

import argparse
import json
from typing import Final

from edge_runtime import command
from edge_runtime.cli import options
from edge_runtime.cli.output import print_result, say
from edge_runtime.command import Command
from edge_runtime.engines import AUTO, ENGINES

ALL: Final = "all"


def _bench_arguments(parser: argparse.ArgumentParser) -> None:
    options.model(parser)
    every = "default: all that run here, remembered for `auto`"
    parser.add_argument("--engine", choices=(ALL, AUTO, *ENGINES), default=ALL, help=every)
    precisions = "default: int8, of all engines both"
    parser.add_argument("--precision", choices=("int8", "fp32"), help=precisions)
    options.threads(parser)


def _bench(args: argparse.Namespace) -> int:
    from edge_runtime.manifest import open_artifact

    artifact = open_artifact(args.model)
    if args.engine == ALL:
        from edge_runtime.bench import bench_all, lines_of_all

        precisions = ("int8", "fp32") if args.precision is None else (args.precision,)
        compared = bench_all(artifact, precisions, args.threads, say)
        print_result(args, compared, lines_of_all)
        return command.DONE
    from edge_runtime.bench import bench, lines_of_one

    figures = bench(artifact, args.engine, args.precision or "int8", args.threads)
    print_result(args, figures, lines_of_one)
    return command.DONE


def _verify(args: argparse.Namespace) -> int:
    from edge_runtime.engines import golden
    from edge_runtime.manifest import open_artifact

    artifact = open_artifact(args.model)
    artifact.check_all()
    rows = []
    tell = (lambda *_: None) if args.json else _verify_line
    tell("engine", "precision", "SNR dB", "floor dB", "")
    for row in golden.golden_rows(artifact):  # said as they come: an engine may take long, or die
        rows.append(row)
        tell(*golden.cells(row))
    if args.json:
        print(json.dumps({"directory": str(args.model), "golden": [golden.to_dict(row) for row in rows]}, indent=2))
    golden.judge(artifact, rows)
    return command.DONE


def _verify_line(*cells: str) -> None:
    print("{:<8} {:<9} {:>8} {:>8}  {}".format(*cells).rstrip(), flush=True)


BENCH: Final = Command("bench", "measure the time of a frame on this machine, by engine", _bench_arguments, _bench)
VERIFY: Final = Command(
    "verify", "check a model's files and run its golden vectors through every engine", options.model, _verify
)
