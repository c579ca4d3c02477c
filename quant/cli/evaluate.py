"""`quant eval`: parses, calls the measurement once, prints."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edge_runtime import command
from edge_runtime.command import Command
from edge_runtime.errors import Failure
from quant.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from quant.quality.results import RobustnessRow, Row, SystemPart

_ONLY_PAIRS: Final = ("metrics", "against", "by", "rows")
_ONLY_SUITE: Final = ("speech", "noise")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artifacts", type=Path, nargs="+", metavar="ARTIFACT", help="made by `quant build`")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--pairs",
        type=Path,
        metavar="DIR",
        help="speech quality on DIR/clean and DIR/noisy, same file names, or as VoiceBank-DEMAND and DNS are "
        "published; DIR/manifest.csv may tell SNR and subset",
    )
    what.add_argument("--suite", choices=("robustness",), help="int8 against float on hard input, with bounds")
    parser.add_argument("--metrics", metavar="M,..", help="of pesq,stoi,estoi,sisdr,dnsmos; default: pesq,stoi,sisdr")
    parser.add_argument(
        "--against",
        metavar="LABEL|ARTIFACT",
        help="compare all with this system, or this artifact's float models; default: int8 with its own float",
    )
    parser.add_argument("--by", metavar="GROUPING", help="show groups too: snr, or a column of the manifest as subset")
    parser.add_argument("--rows", type=Path, metavar="FILE.csv", help="write the scores of every clip")
    parser.add_argument("--speech", type=Path, metavar="DIR", help="clean speech for --suite; default: pulled once")
    parser.add_argument("--noise", type=Path, metavar="DIR", help="noise for --suite; default: pulled once")
    parser.add_argument("--jobs", type=int, default=-1, metavar="N", help="processes; default: one a core")
    parser.add_argument(
        "--scheduler",
        metavar="tcp://HOST:PORT",
        help="run on a Dask cluster: the same edge-denoise[build,eval,cluster] is installed there, and its workers see "
        "the files of --pairs under the same paths (artifacts are sent)",
    )


def _run(args: argparse.Namespace) -> int:
    """Measure and print."""
    _refuse(args, _ONLY_SUITE if args.suite is None else _ONLY_PAIRS, "--suite" if args.suite is None else "--pairs")
    if args.jobs == 0 or args.jobs < -1:
        raise Failure(f"{args.jobs} processes cannot work", where="--jobs", remedy="give 1 or more, or -1: one a core")
    return _quality(args) if args.suite is None else _robustness(args)


def _refuse(args: argparse.Namespace, options: Sequence[str], needs: str) -> None:
    for option in options:
        if getattr(args, option) is not None:
            raise Failure(f"goes with {needs}", where=f"--{option}", remedy="leave it out")


def _quality(args: argparse.Namespace) -> int:
    from quant.quality import evaluate, metrics, pairs, results, summary, systems

    names = metrics.choose_metrics(args.metrics or ",".join(metrics.DEFAULT_METRICS))
    found = pairs.find_pairs(args.pairs)
    groupings = pairs.groupings(found)
    if args.by is not None and args.by not in groupings:
        raise Failure(f"no grouping {args.by!r}", where="--by", remedy=f"choose from {', '.join(groupings)}")
    chosen = systems.systems_of(args.artifacts)
    if args.against is not None:
        chosen = systems.compared(chosen, args.against)
    against = evaluate.comparisons(chosen)
    resampled = pairs.note_on_rate(found)
    say(f"{len(found)} clips{resampled}, {len(chosen)} systems, {','.join(names)}")
    rows = evaluate.evaluate(chosen, found, names, scheduler=args.scheduler, n_jobs=args.jobs)
    columns = metrics.columns(names)
    if args.rows is not None:
        evaluate.write_rows(args.rows, rows, columns, groupings)
    systems_found = summary.summarise(rows, against)
    groups = {name: summary.summarise_by(rows, name, against) for name in groupings}
    if args.json:
        print_json({"systems": systems_found, "groups": groups, "clips": [_clip(row) for row in rows]})
    else:
        _print_summaries(columns, "", {"": systems_found})
        if args.by is not None:
            _print_summaries(columns, args.by, groups[args.by])
    for line in filter(None, [*evaluate.failures(rows), results.uneven(systems_found)]):
        say(line)
    evaluate.refuse_if_all_failed(rows)
    return command.DONE


def _clip(row: Row) -> dict[str, Any]:
    """One clip under one system as JSON, which has no infinity: the SNR of a clip without noise is null."""
    told = row.snr_db is not None and abs(row.snr_db) < float("inf")
    facts = {"error": row.error, "groups": dict(row.groups), "snr_db": row.snr_db if told else None}
    return {"clip": row.clip, "system": row.system, **row.scores, **facts}


def _print_summaries(columns: Sequence[str], grouping: str, groups: Mapping[str, Sequence[SystemPart]]) -> None:
    """Means, then paired differences, one line each; the group leads where there is a grouping."""
    head, rows = ((grouping,) if grouping else ()), [(g, s) for g, summaries in groups.items() for s in summaries]
    lead = [(group,) if grouping else () for group, _ in rows]
    means = [(s.system, str(s.n_clips), *(f"{s.means[c]:.3f}" for c in columns)) for _, s in rows]
    print_table((*head, "system", "clips", *columns), [(*g, *cells) for g, cells in zip(lead, means, strict=True)])
    paired = [
        (*g, s.system, s.against or "", column, f"{d.mean:+.4f}", f"{d.low:+.4f} .. {d.high:+.4f}")
        for g, (_, s) in zip(lead, rows, strict=True)
        for column, d in s.differences.items()
    ]
    if paired:
        print_table((*head, "system", "against", "metric", "difference", "95 %"), paired)


def _robustness(args: argparse.Namespace) -> int:
    from quant.quality import robustness

    rows = robustness.study(
        args.artifacts, args.speech, args.noise, n_jobs=args.jobs, scheduler=args.scheduler, progress=say
    )
    if args.json:
        print_json({"rows": rows})
    else:
        print_table(("system", "input", "quantity", "measured", "bound", ""), [_bound_cells(row) for row in rows])
    robustness.refuse_breaches(rows)
    return command.DONE


def _bound_cells(row: RobustnessRow) -> tuple[str, ...]:
    sign = "<=" if row.is_upper else ">="
    measured = "failed" if row.value is None else f"{row.value:.1f} {row.unit}"
    bound = f"{sign} {row.bound:g} {row.unit}"
    return row.system, row.stimulus, row.quantity, measured, bound, "ok" if row.ok else "BREACH"


EVAL: Final = Command(
    "eval", "measure speech quality through the engines, clip by clip, or their robustness", _arguments, _run
)
