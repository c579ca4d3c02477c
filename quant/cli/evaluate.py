"""`quant eval`: parses, calls the measurement once, answers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_runtime import command
from edge_runtime.command import Answer, Command
from edge_runtime.errors import Failure
from quant.cli.options import n_processes
from quant.cli.output import say, table

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
    parser.add_argument("--force", action="store_true", help="replace the file of --rows if it exists")
    parser.add_argument("--speech", type=Path, metavar="DIR", help="clean speech for --suite; default: pulled once")
    parser.add_argument("--noise", type=Path, metavar="DIR", help="noise for --suite; default: pulled once")
    parser.add_argument("--jobs", type=n_processes, default=-1, metavar="N", help="processes; default: one a core")
    parser.add_argument(
        "--scheduler",
        metavar="tcp://HOST:PORT",
        help="run on a Dask cluster: the same edge-denoise[build,eval,cluster] is installed there, and its workers see "
        "the files of --pairs under the same paths (artifacts are sent)",
    )


def _run(args: argparse.Namespace) -> Answer:
    """Measure."""
    _refuse(args, _ONLY_SUITE if args.suite is None else _ONLY_PAIRS, "--suite" if args.suite is None else "--pairs")
    return _quality(args) if args.suite is None else _robustness(args)


def _refuse(args: argparse.Namespace, options: Sequence[str], needs: str) -> None:
    for option in options:
        if getattr(args, option) is not None:
            raise Failure(f"goes with {needs}", where=f"--{option}", remedy="leave it out")


def _quality(args: argparse.Namespace) -> Answer:
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
        evaluate.evaluate(chosen, found, names, scheduler=args.scheduler, n_jobs=args.jobs, rows=rows)
        status = command.DONE
    except KeyboardInterrupt as stop:
        if not rows:
            raise
        status = command.status_of(stop)
        say(f"interrupted: {len({row.clip for row in rows})} of {len(found)} clips are done")
    told = _told(args, rows, metrics.columns(names), groupings, evaluate.comparisons(chosen))
    return told._replace(status=status)


def _told(
    args: argparse.Namespace,
    rows: Sequence[Row],
    columns: Sequence[str],
    groupings: Sequence[str],
    against: Mapping[str, str],
) -> Answer:
    """What was measured; --rows is written."""
    from quant.quality import evaluate, summary

    if args.rows is not None:
        evaluate.write_rows(args.rows, rows, columns, groupings)
    systems_found = summary.summarise(rows, against)
    groups = {name: summary.summarise_by(rows, name, against) for name in groupings}

    def judge() -> None:
        for line in evaluate.failures(rows):
            say(line)
        n_compared = systems_found[0].n_clips if systems_found else 0
        if n_out := len({row.clip for row in rows}) - n_compared:
            say(f"left out of all means: {n_out} clips that a system failed on; they are over the same {n_compared}")
        evaluate.refuse_if_all_failed(rows)

    shown = {"": {"": systems_found}} | ({} if args.by is None else {args.by: groups[args.by]})
    value = {"systems": systems_found, "groups": groups, "clips": [_clip(row) for row in rows]}
    return Answer(value, _quality_lines(columns, shown), then=judge)


def _clip(row: Row) -> dict[str, str | float | dict[str, str] | None]:
    """One clip under one system as JSON, which has no infinity: the SNR of a clip without noise is null."""
    told = row.snr_db is not None and abs(row.snr_db) < float("inf")
    facts = {"error": row.error, "groups": dict(row.groups), "snr_db": row.snr_db if told else None}
    return {"clip": row.clip, "system": row.system, **row.scores, **facts}


def _quality_lines(columns: Sequence[str], shown: Mapping[str, Mapping[str, Sequence[SystemPart]]]) -> Iterator[str]:
    for grouping, groups in shown.items():
        yield from _summary_lines(columns, grouping, groups)


def _summary_lines(columns: Sequence[str], grouping: str, groups: Mapping[str, Sequence[SystemPart]]) -> Iterator[str]:
    """Means, then paired differences, one line each; the group leads where there is a grouping."""
    head, rows = ((grouping,) if grouping else ()), [(g, s) for g, summaries in groups.items() for s in summaries]
    lead = [(group,) if grouping else () for group, _ in rows]
    means = [(s.system, str(s.n_clips), *(f"{s.means[c]:.3f}" for c in columns)) for _, s in rows]
    yield from table((*head, "system", "clips", *columns), [(*g, *cells) for g, cells in zip(lead, means, strict=True)])
    paired = [
        (*g, s.system, s.against or "", column, f"{d.mean:+.4f}", f"{d.low:+.4f} .. {d.high:+.4f}")
        for g, (_, s) in zip(lead, rows, strict=True)
        for column, d in s.differences.items()
    ]
    if paired:
        yield from table((*head, "system", "against", "metric", "difference", "95 %"), paired)


def _robustness(args: argparse.Namespace) -> Answer:
    from quant.quality import robustness

    rows = robustness.study(
        args.artifacts, args.speech, args.noise, n_jobs=args.jobs, scheduler=args.scheduler, progress=say
    )
    return Answer({"rows": rows}, _bound_lines(rows), then=lambda: robustness.refuse_breaches(rows))


def _bound_lines(rows: Sequence[RobustnessRow]) -> Iterator[str]:
    columns = ("system", "input", "quantity", "measured", "bound", "")
    yield from table(columns, [_bound_cells(row) for row in rows])


def _bound_cells(row: RobustnessRow) -> tuple[str, ...]:
    sign = "<=" if row.is_upper else ">="
    measured = "failed" if row.value is None else f"{row.value:.1f} {row.unit}"
    bound = f"{sign} {row.bound:g} {row.unit}"
    return row.system, row.stimulus, row.quantity, measured, bound, "ok" if row.ok else "BREACH"


EVAL: Final = Command(
    "eval", "measure speech quality through the engines, clip by clip, or their robustness", _arguments, _run
)
