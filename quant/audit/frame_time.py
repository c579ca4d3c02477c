"""How long a hop takes on a board that is not at hand: instructions counted x cycles an instruction / clock.

    for row in frame_time.frame_times(boards.load("rpi4"), frame_time.read_bench(path)):
        print(row.engine, row.precision, row.low_ms, row.high_ms, row.label, row.fits)

The instructions of a hop (256 samples, both Fourier transforms) of the published network are counted on emulated cores
(`make counts`, instructions.json); cycles an instruction are a range by core (frame_time.toml) with its source. What
`edge-denoise bench --json` measured on the board replaces the estimate of its engine and precision.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final

import msgspec

from boards import Board
from edge_runtime.bench import BenchPart
from edge_runtime.errors import Failure
from quant.artifact import typed_json
from quant.audit.findings import EstimatePart, FrameTime

HOP_MS: Final = 16.0
PUBLISHED_MACS: Final = {"gtcrn": 32_998_378, "ul-unas": 34_593_920}  # of those counted, as papers count them
LIBRARY: Final = "libedge_denoise"  # the native engine called from C; "native" is it through Python
BENCH: Final = "a bench"
BENCH_REMEDY: Final = "give what `edge-denoise bench --json` printed"
_COUNTED_RUNTIMES: Final = "cortex-a72"  # the core that ran Python and the other engines
_ERROR: Final = "an estimate that no board was at hand to check"


class _Core(msgspec.Struct, frozen=True, kw_only=True):
    """frame_time.toml: cycles an instruction, least and most; `runtimes` of a core with a system."""

    counted_on: str
    loops: tuple[float, float]
    loops_source: str
    runtimes: tuple[float, float] | None = None
    runtimes_source: str = ""


class _FrameTimes(msgspec.Struct, frozen=True):
    cores: dict[str, _Core]


class _Count(msgspec.Struct, frozen=True):
    core: str
    engine: str
    precision: str
    n_instructions: int
    date: str
    network: str = "gtcrn"


class _Instructions(msgspec.Struct, frozen=True):
    """instructions.json, what is read of it."""

    rows: list[_Count]


class _Rows(msgspec.Struct):
    """What a bench of all engines prints."""

    rows: list[BenchPart] | None = None


def counted_network(published_macs: int) -> str | None:
    """The network of so many MACs, if its instructions were counted."""
    return next((name for name, macs in PUBLISHED_MACS.items() if macs == published_macs), None)


def estimates(board: Board, network: str | None = "gtcrn") -> list[EstimatePart]:
    """Every engine and precision that was counted, fastest first; empty for a core or a network of which nothing is
    known."""
    return [
        EstimatePart(engine=t.engine, precision=t.precision, low_ms=t.low_ms, high_ms=t.high_ms, source=t.source)
        for t in frame_times(board, network=network)
    ]


def frame_times(board: Board, benches: Iterable[BenchPart] = (), network: str | None = "gtcrn") -> list[FrameTime]:
    """The same, and in the place of an estimate what was measured on such a board: see `read_bench`."""
    limit_ms = board.budget.rtf * HOP_MS
    rows = {(row.engine, row.precision): row for row in _estimated(board, limit_ms, network)}
    rows |= {(bench.engine, bench.precision): _measured(bench, limit_ms) for bench in benches}
    return sorted(rows.values(), key=lambda row: (row.middle_ms, row.engine, row.precision))


def engine_of(board: Board) -> str:
    """What runs on the board: the preferred engine, or without a system the library itself."""
    return LIBRARY if board.bare else board.preferred_engine


def read_bench(path: Path) -> list[BenchPart]:
    """What `edge-denoise bench --json` printed, of all engines or of one, or a list of the latter.

    Failure: it is something else.
    """
    said = typed_json.text(path, BENCH_REMEDY)
    if said.lstrip().startswith("["):
        rows = typed_json.decoded(said, list[BenchPart], path, BENCH, BENCH_REMEDY)
    else:
        found = typed_json.decoded(said, _Rows, path, BENCH, BENCH_REMEDY).rows
        rows = [typed_json.decoded(said, BenchPart, path, BENCH, BENCH_REMEDY)] if found is None else found
    if not rows:
        raise Failure(f"is not {BENCH} (it has no row)", where=path, remedy=BENCH_REMEDY)
    return rows


def called(engine: str) -> str:
    """What people read: the engine has one name, and two who call it."""
    return "native from C" if engine == LIBRARY else engine


def span(low: float, high: float) -> str:
    """Two figures of two digits, from 10 on with a tenth, or one where they are alike: 0.13 to 0.29, 11.4 to 15.5."""
    texts = [f"{value:#.2g}".rstrip(".") if value < 10 else f"{value:.{int(value < 100)}f}" for value in (low, high)]
    return texts[0] if texts[0] == texts[1] else " to ".join(texts)


def sentence(row: FrameTime) -> str:
    """A row for people."""
    name = f"{called(row.engine)} {row.precision}"
    counted = "" if row.n_instructions is None else f", {row.n_instructions / 1e6:.2f} M instructions"
    verdict = "" if row.fits else ", may exceed the budget"
    return f"{row.label} a hop: {name:<22} {span(row.low_ms, row.high_ms)} ms of 16{counted}{verdict}"


def _estimated(board: Board, limit_ms: float, network: str | None) -> Iterator[FrameTime]:
    core = _cores().get(board.cpu.core)
    if core is None:
        return
    counted = _counted(network)
    for (on, engine, precision), n in counted.items():
        if on != (core.counted_on if engine == LIBRARY else _COUNTED_RUNTIMES) or not _runs_on(board, engine):
            continue
        in_loops = 0
        if engine in ("native", LIBRARY):  # its kernels were counted on this core, what Python adds on another
            in_loops = counted[core.counted_on, LIBRARY, precision]
            n += in_loops - counted[on, LIBRARY, precision]
        ranges = zip(core.loops, core.runtimes or core.loops, strict=True)
        cycles = [in_loops * a + (n - in_loops) * b for a, b in ranges]
        low_ms, high_ms = (c / board.cpu.clock_mhz / 1e3 for c in cycles)
        yield FrameTime(
            engine=engine,
            precision=precision,
            n_instructions=n,
            low_ms=low_ms,
            high_ms=high_ms,
            source=_source(board, core, on, engine, network),
            fits=high_ms <= limit_ms,
            measured=False,
            label="estimate",
        )


def _runs_on(board: Board, engine: str) -> bool:
    """The library anywhere, its Python face where there is a system, others where they have wheels."""
    installs = engine == "native" or any(system.extra_for(engine) is not None for system in board.os)
    return engine == LIBRARY or (installs and not board.bare)


def _source(board: Board, core: _Core, on: str, engine: str, network: str | None) -> str:
    rows = _instructions().rows
    date = next(row.date for row in rows if (row.core, row.engine, row.network) == (on, engine, network))
    counted = f"counted on emulated {on}, {date}"
    (low, high), why = core.loops, core.loops_source
    if engine != LIBRARY and core.runtimes:
        (low, high), why = core.runtimes, core.runtimes_source
    return f"{_ERROR}: {counted}; {low} to {high} cycles an instruction ({why}); {board.cpu.clock_mhz} MHz"


def _measured(bench: BenchPart, limit_ms: float) -> FrameTime:
    return FrameTime(
        engine=bench.engine,
        precision=bench.precision,
        n_instructions=None,
        low_ms=bench.hop_us.p50 / 1e3,
        high_ms=bench.hop_us.p99 / 1e3,
        source=f"measured on {bench.machine.cpu}, {bench.n_frames} frames",
        fits=bench.hop_us.mean / 1e3 <= limit_ms,
        measured=True,
        label="measured",
    )


@cache
def _cores() -> dict[str, _Core]:
    return msgspec.toml.decode((resources.files(__package__) / "frame_time.toml").read_bytes(), type=_FrameTimes).cores


@cache
def _instructions() -> _Instructions:
    return msgspec.json.decode((resources.files(__package__) / "instructions.json").read_bytes(), type=_Instructions)


def _counted(network: str | None) -> dict[tuple[str, str, str], int]:
    """(core, engine, precision) -> instructions of a hop of the network."""
    rows = [row for row in _instructions().rows if row.network == network]
    return {(row.core, row.engine, row.precision): row.n_instructions for row in rows}
