"""`quant pull | boards | networks`: parses, calls once, answers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from edge_runtime.command import Answer, Command
from quant.cli.options import nothing
from quant.cli.output import say, table

MEASURED_ENGINES: Final = ("native", "tflite", "onnx")
BOARD_COLUMNS: Final = ("board", "processor", "MMAC/s", "flash KB", "RAM KB", "core")

if TYPE_CHECKING:
    from boards import Board
    from quant.build.networks import NetworkPart, TimePart
    from quant.inputs.assets import PulledAsset


def _pull(args: argparse.Namespace) -> Answer:
    from quant.inputs import assets

    pulled, cache = assets.pull(progress=say), str(assets.cache_dir())
    return Answer({"cache": cache, "assets": [_asset(each) for each in pulled]}, _pull_lines(pulled, cache))


def _asset(pulled: PulledAsset) -> dict[str, str | bool | list[str]]:
    named = {name: getattr(pulled.asset, name) for name in ("id", "kind", "licence", "attribution", "source")}
    return {**named, "fetched": pulled.fetched, "files": [str(file) for file in pulled.files]}


def _pull_lines(pulled: Sequence[PulledAsset], cache: str) -> Iterator[str]:
    rows = [
        (a.id, a.kind, str(a), a.licence, a.attribution, "fetched" if fetched else "in the cache")
        for a, fetched in ((each.asset, each.fetched) for each in pulled)
    ]
    yield from table(("asset", "kind", "from", "licence", "by", ""), rows)
    yield f"in {cache}"


def _boards_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("boards", nargs="*", metavar="BOARD", help="every figure of these; default: a row a board")


def _boards(args: argparse.Namespace) -> Answer:
    import boards

    loaded = [boards.load(name) for name in args.boards or boards.names()]
    lines = _board_lines(loaded) if args.boards else table(BOARD_COLUMNS, [_board_cells(board) for board in loaded])
    return Answer({board.name: board for board in loaded}, lines)


def _board_lines(loaded: Sequence[Board]) -> Iterator[str]:
    import boards

    for board in loaded:
        heading, *rows = boards.describe(board)
        yield from table(heading, rows)


def _board_cells(board: Board) -> tuple[str, ...]:
    """What a network is built for, and the most that it may need there."""
    budget = board.budget
    processor = f"{board.cpu.n_cores} x {board.cpu.core}, {board.cpu.clock_mhz:,} MHz"
    figures = (f"{budget.mmacs_per_s:g}", f"{budget.model_bytes / 1024:,.0f}", f"{budget.ram_bytes / 1024:,.0f}")
    return board.name, processor, *figures, f"{budget.rtf:.0%}"


def _networks(args: argparse.Namespace) -> Answer:
    from quant.build import networks

    parts = networks.parts()
    return Answer({part.name: part for part in parts}, _network_lines(parts))


def _network_lines(parts: Sequence[NetworkPart]) -> Iterator[str]:
    """A column a network."""
    rows = [
        ("learned parameters", *(f"{part.n_learned:,}" for part in parts)),
        ("MMAC/s, as papers count", *(f"{part.published_mmacs_per_s:.1f}" for part in parts)),
        ("MACs a frame, executed", *(f"{part.macs_frame:,}" for part in parts)),
        ("bytes of states, float", *(f"{part.state_bytes:,}" for part in parts)),
        ("in the paper", *(_in_the_paper(part) for part in parts)),
        ("trained default", *("embedded" if part.trained_sha256 else "none yet: --checkpoint" for part in parts)),
        *((f"PESQ-WB, int8, {engine}", *(_quality(part, engine) for part in parts)) for engine in MEASURED_ENGINES),
        *((f"{board}, a hop", *(_time(part.times[board]) for part in parts)) for board in parts[0].times),
        ("window", *(part.window for part in parts)),
    ]
    yield from table(("", *(part.name for part in parts)), rows)
    yield "times are estimates in 8 bits, of the 16 ms that a hop has: `quant budget --network NAME --target BOARD`"
    for part in parts:
        yield f"{part.name}: {part.title}, {part.advice}; {part.paper.url}"


def _in_the_paper(part: NetworkPart) -> str:
    n, mmacs = part.paper.n_parameters, part.paper.mmacs_per_s
    known = [f"{n / 1000:.1f} K" if n else "", f"{mmacs:.0f} MMAC/s" if mmacs else ""]
    return ", ".join(text for text in known if text) or "not stated"


def _quality(part: NetworkPart, engine: str) -> str:
    found = (part.pesq_wb or {}).get(f"{engine} int8")
    return "not measured" if found is None else f"{found:.3f} ({part.pesq_date})"


def _time(found: TimePart | None) -> str:
    from quant.audit.frame_time import span

    return "not counted" if found is None else f"{span(found.low_ms, found.high_ms)} ms"


PULL: Final = Command(
    "pull",
    "fetch the official weights, some speech and some noise into the cache, once",
    nothing,
    _pull,
    examples=(
        "quant pull",
        "quant pull --json",
    ),
    page="guide/checkpoint.md",
    takes_long=True,
)
BOARDS: Final = Command(
    "boards",
    "list the boards and their budgets",
    _boards_arguments,
    _boards,
    examples=(
        "quant boards",
        "quant boards rpi4",
    ),
    page="guide/budget.md",
)
NETWORKS: Final = Command(
    "networks",
    "list the networks with their size, cost, quality and time on every board",
    nothing,
    _networks,
    examples=(
        "quant networks",
        "quant networks --json",
    ),
    page="guide/networks.md",
    takes_long=True,
)
