"""The arguments of `quant budget`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_runtime import command
from edge_runtime.command import Command
from edge_runtime.errors import Failure
from quant.audit import gates
from quant.cli.output import print_json, print_table, show

if TYPE_CHECKING:
    from quant.audit.findings import BudgetPart, FrameTime


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", metavar="BOARD", help="a board of `quant boards`, or a .toml file; default: none")
    parser.add_argument("--checkpoint", type=Path, metavar="F", help="default: the published network, without weights")
    plan = "plan by a recipe, or a .toml file; default: float, or a .trained file's own"
    parser.add_argument("--recipe", metavar="R", help=plan)
    sizes = "another network: channels, low_bins, erb_bands, kernel, dilations, dpgrnn, groups; more than once"
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", dest="sizes", help=sizes)
    sides = "artifact folders, checkpoints, or sizes: default, channels=12,dpgrnn=1; limits and board are B's"
    parser.add_argument("--compare", nargs=2, metavar=("A", "B"), help=sides)
    for gate in gates.GATES:
        option = f"--{gate.name.replace('_', '-')}"
        parser.add_argument(option, type=gates.number, metavar="N", help=f"exit status 1 above: {gate.help}")
    parser.add_argument("--bench", type=Path, metavar="F", help="`edge-denoise bench --json` of the board")
    parser.add_argument("--format", choices=sorted(gates.FORMATS), help="print the verdict for a CI job instead")


def _run(args: argparse.Namespace) -> int:
    """Count, print, and fail when over budget."""
    limits = {g.name: getattr(args, g.name) for g in gates.GATES if getattr(args, g.name) is not None}
    if args.format and not (limits or args.target):
        raise Failure("nothing to judge", remedy="give --target, or a limit such as --max-macs 30M")
    if args.format and args.json:
        raise Failure("--json and --format are two formats", remedy="give one of them")
    return _compare(args, limits) if args.compare else _count(args, limits)


def _count(args: argparse.Namespace, limits: dict[str, float]) -> int:
    from msgspec import to_builtins

    from quant.audit import budget, budget_table, frame_time
    from quant.network import sizes

    config = sizes.parse(args.sizes) if args.sizes else None
    counted = gates.gated(budget.for_target(args.target, args.checkpoint, args.recipe, config), limits)
    times = _frame_times(args, counted)
    name = args.target or (sizes.describe(config) if config else str(args.checkpoint or sizes.DEFAULT))
    if args.json:
        print_json({**to_builtins(counted), "frame_time": times})
    elif args.format:
        _verdict(args, counted, name)
    else:
        show(budget_table.render(counted))
        print("\n".join(frame_time.sentence(row) for row in times))
    gates.check(counted, f"board {args.target}" if args.target else name)
    return command.DONE


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


def _compare(args: argparse.Namespace, limits: dict[str, float]) -> int:
    from msgspec import to_builtins

    from quant.audit import compare

    if args.checkpoint or args.sizes:
        raise Failure("--compare names both networks itself", remedy="leave --checkpoint and --set out")
    a, b = (compare.open_side(text, args.target, args.recipe) for text in args.compare)
    comparison = compare.compare(a, b)
    counted = gates.gated(b.report, limits)
    if args.json:
        print_json({**to_builtins(comparison), "budget": counted.budget, "fits": counted.fits})
    elif args.format:
        _verdict(args, counted, b.name)
    else:
        print(f"A: {a.name}\nB: {b.name}")
        print_table(compare.TOTAL_COLUMNS, compare.total_rows(comparison))
        if comparison.layers:
            print_table(compare.LAYER_COLUMNS, compare.layer_rows(comparison))
        else:
            print("no layer differs")
        print("\n".join(line.sentence for line in counted.budget) or "no limit was given")
    gates.check(counted, b.name)
    return command.DONE


def _verdict(args: argparse.Namespace, counted: BudgetPart, name: str) -> None:
    print(gates.FORMATS[args.format](counted, name))


BUDGET: Final = Command(
    "budget",
    "count parameters, MACs and memory against a board and limits, or two networks against each other",
    _arguments,
    _run,
)
