"""`quant report | card | view`: parses, calls once, answers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_runtime.command import Answer, Command
from edge_runtime.errors import Failure
from quant.cli.options import directory, port
from quant.cli.output import say, table

if TYPE_CHECKING:
    from quant.report.schema import Report

VIEWERS: Final = ("netron", "model-explorer")
_DEFAULT_PORT: Final = 8080


def _report_arguments(parser: argparse.ArgumentParser) -> None:
    directory(parser)
    parser.add_argument("--bench", type=Path, nargs="+", default=[], metavar="F", help="of `edge-denoise bench --json`")
    rows = "of `quant eval --pairs --json`, or its --rows (.csv); default: what `quant eval DIR` kept"
    parser.add_argument("--eval", type=Path, metavar="F", help=rows)
    parser.add_argument(
        "--robustness", type=Path, metavar="F", help="of `quant eval --suite robustness --json`; default: the same"
    )
    clip = "hear this recording too, 8 s at most, 4 with --pairs; with its clean speech where there is one"
    parser.add_argument("--clip", action="append", default=[], metavar="NOISY[:CLEAN]", help=clip)
    worst = "hear the five of these evaluated recordings on which 8 bits lost most"
    parser.add_argument("--pairs", type=Path, metavar="DIR", help=worst)
    against = "an older artifact; exit status 1 when a figure got worse by more than its limit"
    parser.add_argument("--against", type=Path, metavar="OLD", help=against)
    parser.add_argument("--schema", action=_PrintSchema, nargs=0, help="print the JSON Schema of report.json, and end")


class _PrintSchema(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        import json

        from quant.report import schema

        print(json.dumps(schema.schema(), indent=2))
        parser.exit()


def _report(args: argparse.Namespace) -> Answer:
    """Remake, and fail on regressions."""
    from quant.report import regressions, remake

    taken = remake.Taken(
        benches=args.bench,
        evaluation=args.eval,
        robustness=args.robustness,
        clips=args.clip,
        pairs=args.pairs,
        against=args.against,
    )
    found = remake.remake(args.directory, taken)

    def judge() -> None:
        if found.history and args.against is not None:
            regressions.refuse_regressions(found.history, args.directory)

    return Answer(found, _report_lines(args.directory, found), then=judge)


def _report_lines(directory: Path, found: Report) -> Iterator[str]:
    yield str(directory / "report.html")
    yield from table(("question", "", "answer"), [(j.question, j.status, j.answer) for j in found.verdict])
    if found.history:
        rows = [
            (c.figure, f"{c.old:.6g}", f"{c.new:.6g}", c.change, c.limit, "WORSE" if c.regressed else "")
            for c in found.history.changes
        ]
        yield from table(("figure", "then", "now", "change", "allowed", ""), rows)


def _card_arguments(parser: argparse.ArgumentParser) -> None:
    directory(parser)
    parser.add_argument(
        "--eval", type=Path, metavar="FILE", help="what `quant eval DIR --json` printed; default: what it kept"
    )
    parser.add_argument("--dataset", default="", metavar="NAME", help="what the pairs of --eval are, in words")
    place = "default: DIR/README.md, and the manifest is made to agree"
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help=place)
    parser.add_argument("--force", action="store_true", help="replace the file of --out if it exists")


def _card(args: argparse.Namespace) -> Answer:
    from edge_runtime.manifest import open_artifact
    from edge_runtime.whole_file import written_whole
    from quant.quality import kept
    from quant.report import card, measured, schema

    artifact = open_artifact(args.directory)
    if args.out is not None:
        kept.check_file(args.out, force=args.force)
    quality = measured.quality(args.eval, artifact) if args.eval is not None else measured.kept(artifact)[0]
    systems = quality.systems if quality is not None else ()
    if args.dataset and not systems:
        raise Failure("nothing was measured", where="--dataset", remedy="`quant eval DIR --pairs DIR` first, or --eval")
    text = card.render(artifact.manifest, schema.read_from(artifact), systems, args.dataset)
    out = args.out or artifact.path(card.FILE)
    if args.out is None:
        card.write(artifact, text)
    else:
        with written_whole(args.out) as part:
            part.write_text(text, "utf-8")
    return Answer({"card": str(out), "n_systems": len(systems)}, [f"{out}: {len(systems)} systems measured"])


def _view_arguments(parser: argparse.ArgumentParser) -> None:
    directory(parser)
    parser.add_argument("--engine", choices=("onnx", "tflite"), default="tflite", help="default: tflite")
    parser.add_argument("--precision", choices=("int8", "fp32"), default="int8", help="default: int8")
    parser.add_argument("--viewer", choices=VIEWERS, help="default: the first that is installed")
    parser.add_argument("--port", type=port, default=_DEFAULT_PORT, metavar="N", help=f"default: {_DEFAULT_PORT}")
    parser.add_argument("--no-browser", action="store_true", help="serve only, open no browser")


def _view(args: argparse.Namespace) -> Answer:
    from edge_runtime.manifest import open_artifact
    from quant.cli.viewer import LOCALHOST, choose

    artifact = open_artifact(args.directory)
    entry = artifact.model(args.engine, args.precision)
    artifact.check(entry.file)
    viewer = choose(args.viewer)
    path, url = artifact.path(entry.file), f"http://{LOCALHOST}:{args.port}"

    def show() -> None:
        sys.stdout.flush()
        say(f"{path} at {url}; Ctrl-C ends it")
        viewer.show(path, args.port, not args.no_browser)

    return Answer({"file": str(path), "viewer": viewer.package, "url": url}, (), then=show)


REPORT: Final = Command(
    "report",
    "make an artifact's report again with measurements taken in, or against an older artifact",
    _report_arguments,
    _report,
    examples=(
        "quant report build/rpi4",
        "quant report build/rpi4 --bench pi.json --clip noisy.wav --against build/old",
    ),
    page="guide/report.md",
    takes_long=True,
)
CARD: Final = Command(
    "card",
    "write an artifact's model card, with what an evaluation measured",
    _card_arguments,
    _card,
    examples=(
        "quant card build/rpi4",
        "quant card build/rpi4 --dataset 'VoiceBank-DEMAND, test set'",
    ),
    page="guide/report.md",
    takes_long=True,
)
VIEW: Final = Command(
    "view",
    "show the graph of a model in Netron or Model Explorer",
    _view_arguments,
    _view,
    examples=(
        "quant view build/rpi4",
        "quant view build/rpi4 --engine onnx --precision fp32",
    ),
    page="guide/checkpoint.md",
)
