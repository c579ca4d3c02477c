"""How long a hop takes on a board that is not at hand: instructions counted x cycles an instruction / clock.

    for row in frame_time.estimates(boards.load("rpi4")):
        print(row.engine, row.precision, row.low_ms, row.high_ms, row.fits)

The instructions of a hop (256 samples, both Fourier transforms) of the published network are counted on emulated cores
(`make counts`, instructions.json); cycles an instruction are a range by core (frame_time.toml) with its source. What
`edge-denoise bench --json` measured on the board replaces the estimate of its engine and precision.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

from boards import Board
from edge_runtime.errors import Failure

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HOP_MS: Final = 16.0
PUBLISHED_MACS: Final = 32_998_378  # of the network that was counted, as papers count them
LIBRARY: Final = "libedge_denoise"  # the native engine called from C; "native" is it through Python
_COUNTED_RUNTIMES: Final = "cortex-a72"  # the core that ran Python and the other engines
_ERROR: Final = "an estimate that no board was at hand to check"


@dataclass(frozen=True)
class Estimate:
    """Time of a whole hop through one engine, one thread: a range, and where it comes from.

    `measured`: from a bench of the board; the range is then from the median to the 99th percentile, and
    `n_instructions` None. `fits`: even `high_ms` is within the board's `budget.rtf`.
    """

    engine: str
    precision: str
    n_instructions: int | None
    low_ms: float
    high_ms: float
    source: str
    fits: bool
    measured: bool = False

    @property
    def middle_ms(self) -> float:
        """Geometric mean of the range."""
        return float((self.low_ms * self.high_ms) ** 0.5)

    @property
    def label(self) -> str:
        """Never let an estimate pass for a measurement."""
        return "measured" if self.measured else "estimate"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self) | {"label": self.label}


def estimates(board: Board, bench: Mapping[str, Any] | None = None) -> list[Estimate]:
    """Every engine and precision counted or measured, fastest first; empty for a core of which nothing is known.

    `bench` is what `edge-denoise bench --json` printed on such a board, of one engine or of all; see `load_bench`.
    """
    limit_ms = board.budget.rtf * HOP_MS
    rows = {(row.engine, row.precision): row for row in _estimated(board, limit_ms)}
    rows |= {(row.engine, row.precision): row for row in _measured(bench or {}, limit_ms)}
    return sorted(rows.values(), key=lambda row: (row.middle_ms, row.engine, row.precision))


def engine_of(board: Board) -> str:
    """What runs on the board: the preferred engine, or without a system the library itself."""
    return LIBRARY if board.bare else board.preferred_engine


def load_bench(path: Path) -> dict[str, Any]:
    """What `edge-denoise bench --json` wrote. Failure: it is something else."""
    remedy = "give what `edge-denoise bench --json` printed on the board"
    try:
        bench = json.loads(path.read_text(encoding="utf-8"))
        if not list(_measured(bench, HOP_MS)):
            raise ValueError("no row")
    except OSError as error:
        raise Failure(f"cannot be read ({error.strerror})", where=path, remedy=remedy) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Failure("not a bench of a board", where=path, remedy=remedy) from error
    return dict(bench)


def sentence(row: Estimate) -> str:
    """A row for people."""
    name = f"{row.engine} {row.precision}"
    counted = "" if row.n_instructions is None else f", {row.n_instructions / 1e6:.2f} M instructions"
    verdict = "" if row.fits else ", may exceed the budget"
    return f"{row.label} a hop: {name:<22} {row.low_ms:.2f} to {row.high_ms:.2f} ms of 16{counted}{verdict}"


def _estimated(board: Board, limit_ms: float) -> Iterator[Estimate]:
    core = _cores().get(board.cpu.core)
    if core is None:
        return
    counted, runtimes_on = _counted(), None if board.bare else _COUNTED_RUNTIMES
    for (on, engine, precision), row in counted.items():
        if on != (core["counted_on"] if engine == LIBRARY else runtimes_on):
            continue
        n, in_loops = row["n_instructions"], 0
        if engine in ("native", LIBRARY):
            in_loops = min(n, counted[(on, LIBRARY, precision)]["n_instructions"])
        ranges = zip(core["loops"], core.get("runtimes", core["loops"]), strict=True)
        cycles = [in_loops * a + (n - in_loops) * b for a, b in ranges]
        low_ms, high_ms = (c / board.cpu.clock_mhz / 1e3 for c in cycles)
        yield Estimate(engine, precision, n, low_ms, high_ms, _source(board, core, on, engine), high_ms <= limit_ms)


def _source(board: Board, core: Mapping[str, Any], on: str, engine: str) -> str:
    counted = f"counted on emulated {on}, {_data()['date']}"
    if engine == LIBRARY:
        cpi = f"{core['loops'][0]} to {core['loops'][1]} cycles an instruction ({core['loops_source']})"
    else:
        cpi = f"{core['runtimes'][0]} to {core['runtimes'][1]} cycles an instruction ({core['runtimes_source']})"
    return f"{_ERROR}: {counted}; {cpi}; {board.cpu.clock_mhz} MHz"


def _measured(bench: Mapping[str, Any], limit_ms: float) -> Iterator[Estimate]:
    for row in bench.get("rows", [bench] if bench else []):
        low_ms, high_ms = row["hop_us"]["p50"] / 1e3, row["hop_us"]["p99"] / 1e3
        machine = row.get("machine") or bench["machine"]
        source = f"measured on {machine['cpu']}, {row.get('n_frames', '?')} frames"
        fits = row["hop_us"]["mean"] / 1e3 <= limit_ms
        yield Estimate(row["engine"], row["precision"], None, low_ms, high_ms, source, fits, measured=True)


@cache
def _cores() -> dict[str, Any]:
    text = (resources.files(__package__) / "frame_time.toml").read_text(encoding="utf-8")
    return dict(tomllib.loads(text)["cores"])


@cache
def _data() -> dict[str, Any]:
    text = (resources.files(__package__) / "instructions.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def _counted() -> dict[tuple[str, str, str], Any]:
    return {(row["core"], row["engine"], row["precision"]): row for row in _data()["rows"]}
