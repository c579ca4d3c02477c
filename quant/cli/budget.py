"""`quant budget`: parses, calls once, answers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import suppress
from math import inf, nan
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_runtime.command import Answer, Command
from edge_runtime.errors import Failure
from quant.audit import gates
from quant.cli.options import network_name
from quant.cli.output import laid_out, table

if TYPE_CHECKING:
    from quant.audit.compare import Comparison
    from quant.audit.findings import BudgetPart, FrameTime

_UNITS: Final = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2.0**10, "Mi": 2.0**20}


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", metavar="BOARD", help="a board of `quant boards`, or a .toml file; default: none")
    parser.add_argument("--checkpoint", type=Path, metavar="F", help="default: the published network, without weights")
    plan = "plan by a recipe, or a .toml file; default: float, or a .trained file's own"
    parser.add_argument("--recipe", metavar="R", help=plan)
    network_name(parser)
    sizes = "another of the family: channels, low_bins, erb_bands, dpgrnn ...; a wrong one lists them; more than once"
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="sizes", help=sizes)
    sides = "artifact folders, checkpoints, networks or sizes: ul-unas, channels=12,dpgrnn=1; limits and board are B's"
    parser.add_argument("--compare", nargs=2, metavar=("A", "B"), help=sides)
    for gate in gates.GATES:
        option = f"--{gate.name.replace('_', '-')}"
        parser.add_argument(option, type=amount, metavar="N", help=f"exit status 1 above: {gate.help}")
    parser.add_argument("--bench", type=Path, metavar="F", help="`edge-denoise bench --json` of the board")
    parser.add_argument("--format", choices=sorted(gates.FORMATS), help="print the verdict for a CI job instead")


def amount(text: str) -> float:
    """A positive number with an SI or binary unit: 20k, 30M, 64Ki."""
    unit = text.lstrip("0123456789.")
    with suppress(ValueError):
        value = float(text[: len(text) - len(unit)]) * _UNITS.get(unit, nan)
        if 0 < value < inf:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is not a number such as 48000, 48k, 30M or 64Ki")


def _run(args: argparse.Namespace) -> Answer:
    """Count, and fail when over budget."""
    limits = {g.name: getattr(args, g.name) for g in gates.GATES if getattr(args, g.name) is not None}
    if args.format and not (limits or args.target):
        raise Failure("nothing to judge", remedy="give --target, or a limit such as --max-macs 30M")
    if args.format and args.json:
        raise Failure("--json and --format are two formats", remedy="give one of them")
    return _compare(args, limits) if args.compare else _count(args, limits)


def _count(args: argparse.Namespace, limits: dict[str, float]) -> Answer:
    from msgspec import to_builtins

    from quant.audit import budget
    from quant.network import registry, sizes

    config = sizes.parse(args.sizes, registry.load(args.network)) if args.sizes else None
    found = budget.for_target(args.target, args.checkpoint, args.recipe, config, args.network)
    counted = gates.gated(found, limits)
    times = _frame_times(args, counted)
    name = args.target or (sizes.describe(config) if config else str(args.checkpoint or args.network or sizes.DEFAULT))
    lines = _verdict(args, counted, name) if args.format else _count_lines(counted, times)
    place = f"board {args.target}" if args.target else name
    value = {**to_builtins(counted), "frame_time": times}
    return Answer(value, lines, then=lambda: gates.check(counted, place))


def _count_lines(counted: BudgetPart, times: Sequence[FrameTime]) -> Iterator[str]:
    from quant.audit import budget_table, frame_time

    yield from laid_out(budget_table.Sheet(counted))
    yield "\n".join(frame_time.sentence(row) for row in times)


def _frame_times(args: argparse.Namespace, counted: BudgetPart) -> list[FrameTime]:
    """What the board takes, fastest first: measured, or estimated for a network of the published sizes alone."""
    import boards
    from quant.audit import frame_time

    benches = frame_time.read_bench(args.bench) if args.bench else []
    if args.target is None:
        if benches:
            raise Failure("--bench without a board", remedy="give --target too")
        return []
    rows = frame_time.frame_times(boards.load(args.target), benches)
    published = counted.published.macs == frame_time.PUBLISHED_MACS
    return rows if published else [row for row in rows if row.measured]


def _compare(args: argparse.Namespace, limits: dict[str, float]) -> Answer:
    from msgspec import to_builtins

    from quant.audit import compare

    if args.checkpoint or args.sizes:
        raise Failure("--compare names both networks itself", remedy="leave --checkpoint and --set out")
    a, b = (compare.open_side(text, args.target, args.recipe, args.network) for text in args.compare)
    comparison = compare.compare(a, b)
    counted = gates.gated(b.report, limits)
    lines = _verdict(args, counted, b.name) if args.format else _compare_lines(comparison, counted)
    value = {**to_builtins(comparison), "budget": counted.budget, "fits": counted.fits}
    return Answer(value, lines, then=lambda: gates.check(counted, b.name))


def _compare_lines(comparison: Comparison, counted: BudgetPart) -> Iterator[str]:
    from quant.audit import compare

    yield from (f"A: {comparison.a}", f"B: {comparison.b}")
    yield from table(compare.TOTAL_COLUMNS, compare.total_rows(comparison))
    if comparison.layers:
        yield from table(compare.LAYER_COLUMNS, compare.layer_rows(comparison))
    else:
        yield "no layer differs"
    yield "\n".join(line.sentence for line in counted.budget) or "no limit was given"


def _verdict(args: argparse.Namespace, counted: BudgetPart, name: str) -> Iterator[str]:
    yield gates.FORMATS[args.format](counted, name)


BUDGET: Final = Command(
    "budget",
    "count parameters, MACs and memory against a board and limits, or two networks against each other",
    _arguments,
    _run,
)
