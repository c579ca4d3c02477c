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
    from quant.quality.evaluate import Row
    from quant.quality.robustness import Verdict
    from quant.quality.summary import Summary

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
    parser.add_argument("--force", action="store_true", help="replace the file of --rows if it exists")
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
    from quant.quality import evaluate, metrics, pairs, systems

    names = metrics.choose_metrics(args.metrics or ",".join(metrics.DEFAULT_METRICS))
    found = pairs.find_pairs(args.pairs)
    groupings = pairs.groupings(found)
    if args.by is not None and args.by not in groupings:
        raise Failure(f"no grouping {args.by!r}", where="--by", remedy=f"choose from {', '.join(groupings)}")
    chosen = systems.systems_of(args.artifacts)
    if args.against is not None:
        chosen = systems.compared(chosen, args.against)
    if args.rows is not None:
        evaluate.check_rows(args.rows, force=args.force)
    say(f"{len(found)} clips{pairs.note_on_rate(found)}, {len(chosen)} systems, {','.join(names)}")
    rows: list[Row] = []
    try:
        for done in evaluate.scored(chosen, found, names, scheduler=args.scheduler, n_jobs=args.jobs):
            rows += done
        status = command.DONE
    except KeyboardInterrupt:
        status = command.INTERRUPTED
        say(f"interrupted: {len({row.clip for row in rows})} of {len(found)} clips are done")
    if rows:
        _tell(args, rows, metrics.columns(names), groupings, evaluate.comparisons(chosen))
    return status


def _tell(
    args: argparse.Namespace,
    rows: Sequence[Row],
    columns: Sequence[str],
    groupings: Sequence[str],
    against: Mapping[str, str],
) -> None:
    """Write and print what was measured. Failure: nothing was, under some system."""
    from quant.quality import evaluate, summary

    if args.rows is not None:
        evaluate.write_rows(args.rows, rows, columns, groupings)
    summaries = summary.summarise(rows, against)
    groups = {name: summary.summarise_by(rows, name, against) for name in groupings}
    if args.json:
        print_json(_quality_json(rows, summaries, groups))
    else:
        _print_summaries(columns, "", {"": summaries})
        if args.by is not None:
            _print_summaries(columns, args.by, groups[args.by])
    for line in evaluate.failures(rows):
        say(line)
    n_compared = summaries[0].n_clips if summaries else 0
    if n_out := len({row.clip for row in rows}) - n_compared:
        say(f"left out of all means: {n_out} clips that a system failed on; they are over the same {n_compared}")
    evaluate.refuse_if_all_failed(rows)


def _quality_json(
    rows: Sequence[Any], summaries: Sequence[Summary], groups: Mapping[str, Mapping[str, Sequence[Summary]]]
) -> dict[str, Any]:
    clips = [
        {"clip": r.clip, "system": r.system, **r.scores, "error": r.error, "groups": dict(r.groups)}
        | {"snr_db": r.snr_db if r.snr_db is None or abs(r.snr_db) < float("inf") else None}
        for r in rows
    ]
    by = {name: {group: [s.to_dict() for s in of] for group, of in found.items()} for name, found in groups.items()}
    return {"systems": [s.to_dict() for s in summaries], "groups": by, "clips": clips}


def _print_summaries(columns: Sequence[str], grouping: str, groups: Mapping[str, Sequence[Summary]]) -> None:
    """Means, then paired differences, one line each; the group leads where there is a grouping."""
    head, rows = ((grouping,) if grouping else ()), [(g, s) for g, summaries in groups.items() for s in summaries]
    lead = [(group,) if grouping else () for group, _ in rows]
    means = [(s.system, str(s.n_clips), *(f"{s.means[c]:.3f}" for c in columns)) for _, s in rows]
    print_table((*head, "system", "clips", *columns), [(*g, *cells) for g, cells in zip(lead, means, strict=True)])
    paired = [
        (*g, s.system, s.against or "", column, f"{mean:+.4f}", f"{low:+.4f} .. {high:+.4f}")
        for g, (_, s) in zip(lead, rows, strict=True)
        for column, (mean, low, high) in s.differences.items()
    ]
    if paired:
        print_table((*head, "system", "against", "metric", "difference", "95 %"), paired)


def _robustness(args: argparse.Namespace) -> int:
    from quant.quality import robustness

    verdicts = robustness.study(
        args.artifacts, args.speech, args.noise, n_jobs=args.jobs, scheduler=args.scheduler, progress=say
    )
    if args.json:
        print_json({"rows": [v.to_dict() for v in verdicts]})
    else:
        print_table(("system", "input", "quantity", "measured", "bound", ""), [_verdict_cells(v) for v in verdicts])
    robustness.refuse_breaches(verdicts)
    return command.DONE


def _verdict_cells(verdict: Verdict) -> tuple[str, ...]:
    sign, unit = ("<=" if verdict.is_upper else ">="), verdict.unit
    measured = "failed" if verdict.value is None else f"{verdict.value:.1f} {unit}"
    bound = f"{sign} {verdict.bound:g} {unit}"
    return verdict.system, verdict.stimulus, verdict.quantity, measured, bound, "ok" if verdict.ok else "BREACH"


EVAL: Final = Command(
    "eval", "measure speech quality through the engines, clip by clip, or their robustness", _arguments, _run
)
