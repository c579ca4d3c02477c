"""`edge-denoise bench | verify`: how fast and how true a model is here. Parses, calls once, answers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from edge_runtime.cli import options
from edge_runtime.command import Answer, Command
from edge_runtime.engines import AUTO, ENGINES

if TYPE_CHECKING:
    from edge_runtime.manifest import Artifact

ALL: Final = "all"


def _bench_arguments(parser: argparse.ArgumentParser) -> None:
    options.model(parser)
    every = "default: all that run here, remembered for `auto`"
    parser.add_argument("--engine", choices=(ALL, AUTO, *ENGINES), default=ALL, help=every)
    precisions = "default: int8, of all engines both"
    parser.add_argument("--precision", choices=("int8", "fp32"), help=precisions)
    options.threads(parser)


def _bench(args: argparse.Namespace) -> Answer:
    from edge_runtime.bench import bench, bench_all, lines_of_all, lines_of_one
    from edge_runtime.manifest import open_artifact

    artifact = open_artifact(args.model)
    if args.engine == ALL:
        precisions = ("int8", "fp32") if args.precision is None else (args.precision,)
        compared = bench_all(artifact, precisions, args.threads, options.say)
        return _benched(artifact, compared, lines_of_all(compared))
    figures = bench(artifact, args.engine, args.precision or "int8", args.threads)
    return _benched(artifact, figures, lines_of_one(figures))


def _benched(artifact: Artifact, figures: object, lines: Sequence[str]) -> Answer:
    import msgspec

    return Answer({**msgspec.to_builtins(figures), "model": artifact.name}, [*lines, options.model_line(artifact)])


def _verify(args: argparse.Namespace) -> Answer:
    from edge_runtime.engines import golden
    from edge_runtime.manifest import open_artifact

    artifact = open_artifact(args.model)
    artifact.check_all()
    rows: list[golden.GoldenRow] = []

    def lines() -> Iterator[str]:  # said as they come: an engine may take long, or die
        yield options.model_line(artifact)
        row_of = "{:<8} {:<9} {:>8} {:>8}  {}"
        yield row_of.format("engine", "precision", "SNR dB", "floor dB", "").rstrip()
        for row in golden.golden_rows(artifact):
            rows.append(row)
            yield row_of.format(*golden.cells(row)).rstrip()

    def value() -> dict[str, Any]:
        rows.extend(golden.golden_rows(artifact))
        return {
            "directory": str(artifact.directory),
            "model": artifact.name,
            "golden": [golden.to_dict(row) for row in rows],
        }

    return Answer(value, lines(), then=lambda: golden.judge(artifact, rows))


BENCH: Final = Command(
    "bench",
    "measure the time of a hop on this machine, by engine",
    _bench_arguments,
    _bench,
    examples=(
        "edge-denoise bench",
        "edge-denoise bench --model build/rpi4 --engine native --json >pi.json",
    ),
    page="guide/pi.md",
    takes_long=True,
)
VERIFY: Final = Command(
    "verify",
    "check a model's files and run its golden vectors through every engine",
    options.model,
    _verify,
    examples=(
        "edge-denoise verify",
        "edge-denoise verify --model build/rpi4",
    ),
    page="guide/trust.md",
    takes_long=True,
)
