"""`quant eval`: parses, calls the measurement once, answers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from edge_runtime import command
from edge_runtime.command import Answer, Command
from edge_runtime.command.signals import status_of
from edge_runtime.errors import Failure
from quant.cli.options import n_processes
from quant.cli.output import say, table

if TYPE_CHECKING:
    from quant.quality.kept import Place
    from quant.quality.pairs import Pair
    from quant.quality.results import Difference, RobustnessRow, Row, SystemPart
    from quant.report.schema import Report

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
    kept = "keep the result here as JSON; default: in the artifact, where `quant report` finds it"
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help=kept)
    parser.add_argument("--rows", type=Path, metavar="FILE.csv", help="write the scores of every clip")
    parser.add_argument(
        "--force", action="store_true", help="replace the files of --out and --rows, and a fuller result"
    )
    parser.add_argument("--all", action="store_true", help="print every difference, or every bound")
    parser.add_argument("--speech", type=Path, metavar="DIR", help="clean speech for --suite; default: pulled once")
    parser.add_argument("--noise", type=Path, metavar="DIR", help="noise for --suite; default: pulled once")
    parser.add_argument("--jobs", type=n_processes, default=-1, metavar="N", help="processes; default: one a core")
    parser.add_argument(
        "--scheduler",
        metavar="tcp://HOST:PORT",
        help="run on a Dask cluster: the same edge-denoise is installed there with the extras build, eval and cluster, "
        "and its workers see the files of --pairs under the same paths (artifacts are sent)",
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
    from quant.quality import evaluate, kept, metrics, pairs, systems

    names = metrics.choose_metrics(args.metrics or ",".join(metrics.DEFAULT_METRICS))
    found = pairs.find_pairs(args.pairs)
    groupings = pairs.groupings(found)
    if args.by is not None and args.by not in groupings:
        raise Failure(f"no grouping {args.by!r}", where="--by", remedy=f"choose from {', '.join(groupings)}")
    chosen = systems.systems_of(args.artifacts)
    if args.against is not None:
        chosen = systems.compared(chosen, args.against)
    if args.rows is not None:
        kept.check_file(args.rows, force=args.force)
    place = _place(args, kept.QUALITY_FILE)
    if place.artifact is not None and not args.force:
        systems_then = [systems.NOISY, *(system.label for system in chosen)]
        clips = [pair.name for pair in found]
        place = _unless(place, kept.fuller(place.artifact, systems_then, metrics.columns(names), clips))
    say(f"{len(found)} clips{pairs.note_on_rate(found)}, {len(chosen)} systems, {','.join(names)}")
    rows: list[Row] = []
    try:
        evaluate.evaluate(chosen, found, names, scheduler=args.scheduler, n_jobs=args.jobs, rows=rows)
        status = command.DONE
    except KeyboardInterrupt as stop:
        if not rows:
            raise
        status, place = status_of(stop), kept.Place(kept.QUALITY_FILE, why_not="it was interrupted")
        say(f"interrupted: {len({row.clip for row in rows})} of {len(found)} clips are done")
    told = _told(args, rows, metrics.columns(names), groupings, evaluate.comparisons(chosen), place)
    return told._replace(status=status)


class Quality(NamedTuple):
    """Speech quality on pairs, for a build that takes it into its report."""

    data: Path
    pairs: Sequence[Pair]

    @classmethod
    def of(cls, folder: Path) -> Quality:
        """Failure, before anything is built: no pairs, or what the metrics need is not installed."""
        from quant.quality import metrics, pairs

        metrics.choose_metrics(",".join(metrics.DEFAULT_METRICS))
        return cls(folder, pairs.find_pairs(folder))

    def taken_in(self, artifact: Path, *, html: bool) -> Report:
        """Measure, keep it in the artifact, and make its report again. Failure: every clip failed; it is signed."""
        from quant.quality import evaluate, kept, metrics, pairs, systems
        from quant.report import remake

        chosen = systems.systems_of([artifact])
        say(f"measuring {len(chosen)} systems on {len(self.pairs)} clips of {self.data}")
        rows = evaluate.evaluate(chosen, self.pairs, metrics.DEFAULT_METRICS)
        for line in evaluate.failures(rows):
            say(line)
        evaluate.refuse_if_all_failed(rows)
        found = _result(rows, pairs.groupings(self.pairs), evaluate.comparisons(chosen), [artifact], self.data)
        kept.place(kept.QUALITY_FILE, [artifact], None, force=False).keep(found)
        return remake.remake(artifact, remake.Taken(), html=html)


def _result(
    rows: Sequence[Row], groupings: Sequence[str], against: Mapping[str, str], artifacts: Sequence[Path], data: Path
) -> dict[str, Any]:
    """What is printed as JSON, and kept."""
    from quant.quality import kept, summary

    return {
        "systems": summary.summarise(rows, against),
        "groups": {name: summary.summarise_by(rows, name, against) for name in groupings},
        "clips": [_clip(row) for row in rows],
        **kept.facts(artifacts, data),
    }


def _place(args: argparse.Namespace, name: str) -> Place:
    """Where the result goes; said before the work, if it is nowhere."""
    from quant.quality import kept

    if args.against is not None and args.out is None:
        place = kept.Place(name, why_not="it compares with another system")
    else:
        place = kept.place(name, args.artifacts, args.out, force=args.force)
    return _unless(place, place.why_not)


def _unless(place: Place, why_not: str) -> Place:
    """This place, if nothing is against it; else none, and it is said."""
    if not why_not:
        return place
    say(f"note: the result is not kept, for {why_not}: name a file with --out")
    return place._replace(file=None, artifact=None, why_not=why_not)


def _told(
    args: argparse.Namespace,
    rows: Sequence[Row],
    columns: Sequence[str],
    groupings: Sequence[str],
    against: Mapping[str, str],
    place: Place,
) -> Answer:
    """What was measured, kept before it is printed."""
    from quant.quality import evaluate, kept

    value = _result(rows, groupings, against, args.artifacts, args.pairs)
    systems_found, groups = value["systems"], value["groups"]

    def keep() -> Path | None:
        evaluate.refuse_if_all_failed(rows)
        return place.keep(value)

    saved = [kept.tried(keep)]
    if args.rows is not None:
        saved.append(kept.tried(lambda: evaluate.write_rows(args.rows, rows, columns, groupings)))

    def judge() -> None:
        for line in evaluate.failures(rows):
            say(line)
        n_compared = systems_found[0].n_clips if systems_found else 0
        if n_out := len({row.clip for row in rows}) - n_compared:
            say(f"left out of all means: {n_out} clips that a system failed on; they are over the same {n_compared}")
        _tell_kept(place, saved)

    lines = _quality_lines(args, columns, systems_found, {} if args.by is None else {args.by: groups[args.by]})
    return Answer(value, lines, then=judge)


def _tell_kept(place: Place, saved: Sequence[Path | Exception | None]) -> None:
    """Where; or the first failure, raised."""
    import shlex

    for where in saved:
        if isinstance(where, Path):
            page = f"; the page with it: `quant report {shlex.quote(str(where.parent))}`"
            say(f"kept in {where}{'' if place.artifact is None else page}")
    for failure in saved:
        if isinstance(failure, Exception):
            raise failure


def _clip(row: Row) -> dict[str, str | float | dict[str, str] | None]:
    """One clip under one system as JSON, which has no infinity: the SNR of a clip without noise is null."""
    told = row.snr_db is not None and abs(row.snr_db) < float("inf")
    facts = {"error": row.error, "groups": dict(row.groups), "snr_db": row.snr_db if told else None}
    return {"clip": row.clip, "system": row.system, **row.scores, **facts}


def _quality_lines(
    args: argparse.Namespace,
    columns: Sequence[str],
    systems_found: Sequence[SystemPart],
    groups: Mapping[str, Mapping[str, Sequence[SystemPart]]],
) -> Iterator[str]:
    """The verdict, if it is of one artifact against its own float model; means; with --all every difference."""
    from quant.quality.results import QualityPart
    from quant.report import verdict

    if len(args.artifacts) == 1 and args.against is None:
        from edge_runtime.manifest import open_artifact

        engine = open_artifact(args.artifacts[0]).manifest.preferred_engine
        found = verdict.of_quality(QualityPart(systems=tuple(systems_found)), engine)
        yield f"{found.status}: {found.answer}"
    for grouping, of_group in {"": {"": systems_found}, **groups}.items():
        yield from _summary_lines(args, columns, grouping, of_group)


def _summary_lines(
    args: argparse.Namespace, columns: Sequence[str], grouping: str, groups: Mapping[str, Sequence[SystemPart]]
) -> Iterator[str]:
    """A row a system, with its difference in the first metric; the group leads where there is a grouping."""
    from quant.quality.results import title

    head, rows = ((grouping,) if grouping else ()), [(g, s) for g, summaries in groups.items() for s in summaries]
    first = columns[0]
    cells = [
        (
            *((group,) if grouping else ()),
            s.system,
            str(s.n_clips),
            *(f"{s.means[c]:.3f}" for c in columns),
            *_paired(s.differences.get(first)),
        )
        for group, s in rows
    ]
    heading = (*head, "system", "clips", *map(title, columns), f"Δ{title(first)}", "95 %")
    yield from table(heading, cells)
    if args.all:
        paired = [
            (*((group,) if grouping else ()), s.system, s.against or "", title(column), *_paired(d))
            for group, s in rows
            for column, d in s.differences.items()
        ]
        yield from table((*head, "system", "against", "metric", "difference", "95 %"), paired)


def _paired(d: Difference | None) -> tuple[str, str]:
    return ("", "") if d is None else (f"{d.mean:+.4f}", f"{d.low:+.4f} .. {d.high:+.4f}")


def _robustness(args: argparse.Namespace) -> Answer:
    from quant.quality import kept, robustness

    place = _place(args, kept.ROBUSTNESS_FILE)
    rows = robustness.study(
        args.artifacts, args.speech, args.noise, n_jobs=args.jobs, scheduler=args.scheduler, progress=say
    )
    value = {"rows": rows, **kept.facts(args.artifacts, None)}
    saved = kept.tried(lambda: place.keep(value))

    def judge() -> None:
        _tell_kept(place, [saved])
        robustness.refuse_breaches(rows)

    return Answer(value, _bound_lines(rows, every=args.all), then=judge)


def _bound_lines(rows: Sequence[RobustnessRow], *, every: bool) -> Iterator[str]:
    """The verdict; breaches first; then every bound, or of each system how near it came to one."""
    from quant.report import verdict

    found = verdict.of_robustness(rows)
    yield f"{found.status}: {found.answer}"
    columns = ("system", "input", "quantity", "measured", "bound", "")
    broken, kept = [row for row in rows if not row.ok], [row for row in rows if row.ok]
    if every or broken:
        yield from table(columns, [_bound_cells(row) for row in (broken + kept if every else broken)])
    if not every:
        yield from table(("system", "bounds", "broken", "nearest kept", "margin"), list(_by_system(rows)))
        yield "--all prints every bound"


def _by_system(rows: Sequence[RobustnessRow]) -> Iterator[tuple[str, ...]]:
    for system in dict.fromkeys(row.system for row in rows):
        own = [row for row in rows if row.system == system]
        kept = [row for row in own if row.ok and row.value is not None]
        nearest = min(kept, key=_margin, default=None)
        near = ("", "") if nearest is None else (f"{nearest.stimulus}, {nearest.quantity}", _margin_text(nearest))
        yield system, str(len(own)), str(sum(not row.ok for row in own)), *near


def _margin(row: RobustnessRow) -> float:
    """What is left to the bound."""
    return abs(row.bound - (row.value or 0.0))


def _margin_text(row: RobustnessRow) -> str:
    return f"{_margin(row):.1f} {row.unit}"


def _bound_cells(row: RobustnessRow) -> tuple[str, ...]:
    sign = "<=" if row.is_upper else ">="
    measured = "failed" if row.value is None else f"{row.value:.1f} {row.unit}"
    bound = f"{sign} {row.bound:g} {row.unit}"
    return row.system, row.stimulus, row.quantity, measured, bound, "ok" if row.ok else "BREACH"


EVAL: Final = Command(
    "eval",
    "measure speech quality through the engines, clip by clip, or their robustness",
    _arguments,
    _run,
    examples=(
        "quant eval build/rpi4 --pairs DIR",
        "quant eval build/rpi4 --suite robustness",
    ),
    page="guide/evaluation.md",
    takes_long=True,
)
