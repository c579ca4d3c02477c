"""`quant budget`: parses, calls once, answers."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from math import inf, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from edge_runtime.command import Answer, Command
from edge_runtime.errors import Failure
from edge_runtime.errors import counted as counted_of
from quant.audit import gates
from quant.cli.options import network_name
from quant.cli.output import say, table

if TYPE_CHECKING:
    from quant.audit.compare import Comparison, Side
    from quant.audit.findings import BudgetPart, FrameTime

Counted = TypeVar("Counted")
FLOAT: Final = "float"  # no recipe
NOT_NAMED: Final = "names the layers of"  # how a recipe refuses a network of other blocks
_UNITS: Final = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2.0**10, "Mi": 2.0**20}


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", metavar="BOARD", help="a board of `quant boards`, or a .toml file; default: none")
    parser.add_argument("--checkpoint", type=Path, metavar="F", help="default: what `quant build` takes")
    plan = "plan by a recipe, or a .toml file, or `float`; default: as `quant build` plans"
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
    parser.add_argument("--layers", action="store_true", help="print every layer, not only blocks")
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

    from quant.network import registry, sizes

    config = sizes.parse(args.sizes, registry.load(args.network)) if args.sizes else None
    counted = gates.gated(_counted(args, config), limits)
    times = _frame_times(args, counted)
    name = args.target or (sizes.describe(config) if config else str(args.checkpoint or args.network or sizes.DEFAULT))
    lines = _verdict(args, counted, name) if args.format else _count_lines(args, counted, times)
    place = f"board {args.target}" if args.target else name
    value = {**to_builtins(counted), "frame_time": times}
    return Answer(value, lines, then=lambda: gates.check(counted, place))


def _counted(args: argparse.Namespace, config: Any) -> BudgetPart:
    """As `quant build` would make it: the trained default, or what is named by its network's own recipe; unless told
    otherwise."""
    from quant.audit import budget
    from quant.inputs import trained
    from quant.network import registry

    family = registry.load(args.network)
    if args.checkpoint is None and config is None and args.recipe is None:
        with suppress(Failure):  # no trained default of this network comes with this version
            return budget.for_target(args.target, trained.embedded(family), network=args.network)
    counted = partial(budget.for_target, args.target, args.checkpoint, config=config, network=args.network)
    if args.recipe is not None:
        return counted(None if args.recipe == FLOAT else args.recipe)
    return _in_float_where_not_named(counted)


def _in_float_where_not_named(counted: Callable[[str | None], Counted]) -> Counted:
    """By the network's own recipe, or in float where that names other layers."""
    from quant.audit.budget import OWN

    try:
        return counted(OWN)
    except Failure as failure:
        if NOT_NAMED not in failure.what:
            raise
        say(f"counted in float: {failure}")
        return counted(None)


def _count_lines(args: argparse.Namespace, counted: BudgetPart, times: Sequence[FrameTime]) -> Iterator[str]:
    """The answer, then blocks, or every layer."""
    from quant.audit import budget_table, frame_time

    if counted.budget:
        yield f"{'fits' if counted.fits else 'exceeds the budget of'} {counted.board or 'the limits'}"
        yield from (line.sentence for line in counted.budget)
    if counted.board is None or not counted.totals.flash_bytes:
        yield budget_table.held(counted.totals)
    yield budget_table.published(counted.published)
    yield budget_table.executed(counted.totals)
    yield from (frame_time.sentence(row) for row in (times if args.layers else _own(args, times)))
    yield ""
    if args.layers:
        rows = budget_table.layer_rows(counted)
        yield from table(budget_table.HEADINGS, rows, less_needed=budget_table.LESS_NEEDED)
    else:
        yield from table(budget_table.BLOCK_HEADINGS, budget_table.block_rows(counted))
        yield "--layers prints every layer" + (" and engine" if times else "")


def _frame_times(args: argparse.Namespace, counted: BudgetPart) -> list[FrameTime]:
    """What the board takes, fastest first: measured, or estimated for a network of the published sizes alone."""
    import boards
    from quant.audit import frame_time

    benches = frame_time.read_bench(args.bench) if args.bench else []
    if args.target is None:
        if benches:
            raise Failure("--bench without a board", remedy="give --target too")
        return []
    network = frame_time.counted_network(counted.published.macs)
    return frame_time.frame_times(boards.load(args.target), benches, network)


def _own(args: argparse.Namespace, times: Sequence[FrameTime]) -> list[FrameTime]:
    """Of these what the board runs."""
    import boards
    from quant.audit import frame_time

    wanted = (frame_time.engine_of(boards.load(args.target)), "int8") if times else ()
    return [row for row in times if (row.engine, row.precision) == wanted]


def _compare(args: argparse.Namespace, limits: dict[str, float]) -> Answer:
    from msgspec import to_builtins

    from quant.audit import compare

    if args.checkpoint or args.sizes:
        raise Failure("--compare names both networks itself", remedy="leave --checkpoint and --set out")
    a, b = _sides(args)
    comparison = compare.compare(a, b)
    counted = gates.gated(b.report, limits)
    lines = _verdict(args, counted, b.name) if args.format else _compare_lines(args, comparison, counted)
    value = {**to_builtins(comparison), "budget": counted.budget, "fits": counted.fits}
    return Answer(value, lines, then=lambda: gates.check(counted, b.name))


def _sides(args: argparse.Namespace) -> tuple[Side, Side]:
    """Each planned by its network's own recipe, both in float where that is not for one of them; unless told."""
    from quant.audit import compare

    def sides(recipe: str | None) -> tuple[Side, Side]:
        a, b = (compare.open_side(text, args.target, recipe, args.network) for text in args.compare)
        return a, b

    if args.recipe is not None:
        return sides(None if args.recipe == FLOAT else args.recipe)
    return _in_float_where_not_named(sides)


def _compare_lines(args: argparse.Namespace, comparison: Comparison, counted: BudgetPart) -> Iterator[str]:
    from quant.audit import compare

    yield from (line.sentence for line in counted.budget)
    yield from (f"A: {comparison.a}", f"B: {comparison.b}", "")
    yield from table(compare.TOTAL_COLUMNS, compare.total_rows(comparison))
    if not comparison.layers:
        yield "no layer differs"
    elif args.layers:
        rows = compare.layer_rows(comparison)
        yield from table(compare.LAYER_COLUMNS, rows, less_needed=compare.LESS_NEEDED)
    else:
        yield f"{counted_of(len(comparison.layers), 'layer')} differ: --layers prints them"


def _verdict(args: argparse.Namespace, counted: BudgetPart, name: str) -> Iterator[str]:
    yield gates.FORMATS[args.format](counted, name)


BUDGET: Final = Command(
    "budget",
    "count parameters, MACs, flash and RAM against a board and limits, or two networks against each other",
    _arguments,
    _run,
    examples=(
        "quant budget --target rpizero2w",
        "quant budget --compare default channels=12,dpgrnn=1 --max-macs 20M",
    ),
    page="guide/budget.md",
    takes_long=True,
)
