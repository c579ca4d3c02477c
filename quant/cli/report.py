"""`quant report`: parses, remakes the page once, prints."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_runtime import command
from quant.cli.output import print_json, print_table

if TYPE_CHECKING:
    from quant.report.schema import Report

SUMMARY: Final = "make an artifact's report again with measurements taken in, or against an older artifact"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `quant report`."""
    parser.add_argument("directory", type=Path, metavar="DIR", help="made by `quant build`")
    parser.add_argument("--bench", type=Path, nargs="+", default=[], metavar="F", help="of `edge-denoise bench --json`")
    rows = "of `quant eval --pairs --json`, or its --rows (.csv)"
    parser.add_argument("--eval", type=Path, metavar="F", help=rows)
    parser.add_argument("--robustness", type=Path, metavar="F", help="of `quant eval --suite robustness --json`")
    clip = "hear this recording too, 8 s at most; with its clean speech where there is one"
    parser.add_argument("--clip", action="append", default=[], metavar="NOISY[:CLEAN]", help=clip)
    against = "an older artifact; exit status 1 when a figure got worse by more than its limit"
    parser.add_argument("--against", type=Path, metavar="OLD", help=against)
    parser.add_argument("--schema", action=_PrintSchema, nargs=0, help="print the JSON Schema of report.json, and end")


class _PrintSchema(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from quant.report import schema

        print_json(schema.schema())
        parser.exit()


def run(args: argparse.Namespace) -> int:
    """Remake, print the verdict, and fail on regressions."""
    from quant.report import regressions, remake

    taken = remake.Taken(args.bench, args.eval, args.robustness, args.clip, args.against)
    found = remake.remake(args.directory, taken)
    if args.json:
        print_json(found)
    else:
        _print(args.directory, found)
    if found.history and args.against is not None:
        regressions.refuse_regressions(found.history, args.directory)
    return command.DONE


def _print(directory: Path, found: Report) -> None:
    print(directory / "report.html")
    print_table(("question", "", "answer"), [(j.question, j.status, j.answer) for j in found.verdict])
    if found.history:
        rows = [
            (c.figure, f"{c.old:.6g}", f"{c.new:.6g}", c.change, c.limit, "WORSE" if c.regressed else "")
            for c in found.history.changes
        ]
        print_table(("figure", "then", "now", "change", "allowed", ""), rows)
