"""How long a frame takes on this machine: the model alone, and the whole hop around it.

    bench(artifact, "native")     one engine and precision, in this process
    bench_all(artifact)           all that run here, each in a process of its own, and remembered for `auto`

A process each: what one engine loads is neither in the memory nor in the start of the next, and one that dies is a row.
"""

from __future__ import annotations

import gc
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import UNSET
from msgspec.structs import replace

from edge_runtime.denoiser import Denoiser
from edge_runtime.engines import AUTO, ENGINES, available, open_engine
from edge_runtime.engines.apart import engine_apart
from edge_runtime.engines.choice import Measured, remember
from edge_runtime.engines.golden import load_golden
from edge_runtime.engines.interface import Engine
from edge_runtime.errors import Failure
from edge_runtime.machine import Machine, conditions, this_machine
from edge_runtime.manifest import Artifact, open_artifact
from edge_runtime.quiet import Progress, silent
from edge_runtime.stft import HOP_SAMPLES, SAMPLE_RATE_HZ, Float32Array, Synthesis, WindowName

N_FRAMES = 2000
N_WARMUP_FRAMES = 100  # caches, branch predictors and the clock of the core settle

_HOP_US = 1e6 * HOP_SAMPLES / SAMPLE_RATE_HZ


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Microseconds."""

    p50: float
    p95: float
    p99: float
    max: float
    mean: float


class BenchPart(msgspec.Struct, frozen=True, kw_only=True):
    """One engine and precision. `frame_us` is the model step alone; `hop_us` adds STFT and overlap-add.

    `rtf` is the mean hop over its 16 ms; `load_ms` is from nothing to a ready engine, its package's import included if
    this process had not done it; `rss_bytes` is the peak of the process.
    """

    engine: str
    precision: str
    n_threads: int
    n_frames: int
    frame_us: Spread
    hop_us: Spread
    rtf: float
    load_ms: float
    rss_bytes: int
    machine: Machine


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """What did not run, and the last that it said."""

    engine: str
    precision: str
    error: str


class BenchAll(msgspec.Struct, frozen=True, kw_only=True):
    """Every engine here, the fastest hop first. `fastest`: precision -> engine; `remembered`: the file for `auto`."""

    rows: tuple[BenchPart, ...]
    failed: tuple[Failed, ...]
    fastest: dict[str, str | None]
    remembered: str | None
    machine: Machine


def bench(
    artifact: Artifact,
    engine: str = AUTO,
    precision: str = "int8",
    n_threads: int = 1,
    n_frames: int = N_FRAMES,
) -> BenchPart:
    """Time `n_frames` of the artifact's golden speech, after a warm-up. Failure: as `open_engine`."""
    spectra = load_golden(artifact)["spectrum"]
    began_ns = time.perf_counter_ns()
    opened = open_engine(artifact, engine, precision, n_threads)
    load_ms = (time.perf_counter_ns() - began_ns) / 1e6
    frame_us = _time_frames(opened, spectra, n_frames)
    hop_us = _time_hops(Denoiser(opened), spectra, n_frames)
    return BenchPart(
        engine=opened.name,
        precision=precision,
        n_threads=n_threads,
        n_frames=n_frames,
        frame_us=spread_us(frame_us),
        hop_us=spread_us(hop_us),
        rtf=round(float(hop_us.mean()) / _HOP_US, 5),
        load_ms=round(load_ms, 2),
        rss_bytes=_peak_rss_bytes(),
        machine=replace(this_machine(), engine_version=opened.package, conditions=conditions()),
    )


def bench_all(
    artifact: Artifact,
    precisions: tuple[str, ...] = ("int8", "fp32"),
    n_threads: int = 1,
    progress: Progress = silent,
) -> BenchAll:
    """Each in a process of its own; what `auto` takes follows from it.

    Failure: nothing that could run the artifact is installed, or nothing ran.
    """
    models = artifact.manifest.models
    chosen = [(e, p) for e in ENGINES if e in models and e in available() for p in precisions if p in models[e]]
    if not chosen:
        held = ", ".join(sorted(models))
        raise Failure("no engine of it is installed", where=artifact.directory, remedy=f"install one of: {held}")
    for engine, precision in chosen:  # a damaged copy says nothing about the artifact
        artifact.check(artifact.model(engine, precision).file)
    found = []
    for k, (engine, precision) in enumerate(chosen, 1):
        progress(f"measuring {engine} {precision}, {k} of {len(chosen)}")
        found.append(_apart(artifact, engine, precision, n_threads))
    failed = tuple(row for row in found if isinstance(row, Failed))
    rows = tuple(sorted((r for r in found if isinstance(r, BenchPart)), key=lambda r: r.hop_us.p50))
    if not rows:
        raise Failure(f"no engine ran: {failed[0].error}", where=artifact.directory)
    hops = [Measured(row.engine, row.precision, n_threads, row.hop_us.p50) for row in rows]
    kept = remember(artifact, [*hops, *(Measured(row.engine, row.precision, n_threads, None) for row in failed)])
    return BenchAll(
        rows=rows,
        failed=failed,
        fastest={p: next((r.engine for r in rows if r.precision == p), None) for p in precisions},
        remembered=None if kept is None else str(kept),
        machine=replace(this_machine(), conditions=conditions()),
    )


def lines_of_all(figures: BenchAll) -> list[str]:
    """For people."""
    said = machine_lines(figures.machine)
    headings = "".join(f"{heading:>9}" for heading in ("p50", "p95", "p99", "max", "network", "load ms"))
    said.append(f"{'a hop of 16 ms, us':<20}{headings}{'MiB':>7}")
    for row in figures.rows:
        hop = row.hop_us
        times = "".join(f"{time_us:>9.1f}" for time_us in (hop.p50, hop.p95, hop.p99, hop.max))
        rest = f"{row.frame_us.p50:>9.1f}{row.load_ms:>9.0f}{row.rss_bytes / 2**20:>7.0f}"
        said.append(f"{f'{row.engine} {row.precision}':<20}{times}{rest}")
    said += [f"{row.engine} {row.precision} failed: {row.error}" for row in figures.failed]
    said += _float_is_faster(figures)
    best = ", ".join(f"{engine} for {precision}" for precision, engine in figures.fastest.items() if engine)
    if figures.remembered is None:
        return [*said, f"fastest: {best}, but this could not be remembered"]
    threads = f" --threads {figures.rows[0].n_threads}" if figures.rows[0].n_threads > 1 else ""
    return [*said, f"`--engine auto{threads}` takes {best}, and this is remembered"]


def _float_is_faster(figures: BenchAll) -> list[str]:
    """A line where it is so in the engine that `auto` takes."""
    hop_us = {(row.engine, row.precision): row.hop_us.p50 for row in figures.rows}
    engine = figures.fastest.get("int8") or ""
    small, large = (hop_us.get((engine, precision)) for precision in ("int8", "fp32"))
    if small is None or large is None or small <= large:
        return []
    return [f"in {engine} float is faster here, 8 bits take {small / large:.2f} of its time: `--precision auto`"]


def lines_of_one(figures: BenchPart) -> list[str]:
    """For people."""

    def row(name: str, s: Spread) -> str:
        return f"{name:<6} {s.p50:>9.1f} {s.p95:>9.1f} {s.p99:>9.1f} {s.max:>9.1f} {s.mean:>9.1f}"

    return [
        f"{figures.engine} {figures.precision}, {figures.n_threads} thread(s), {figures.n_frames} frames",
        *machine_lines(figures.machine),
        "us           p50       p95       p99       max      mean",
        row("frame", figures.frame_us),
        row("hop", figures.hop_us),
        f"real-time factor {figures.rtf:.4f}, load {figures.load_ms:.0f} ms, "
        f"memory {figures.rss_bytes / 2**20:.0f} MiB",
    ]


def machine_lines(machine: Machine) -> list[str]:
    """Where it was measured, and what held that back."""
    engine = "" if machine.engine_version is UNSET else f", {machine.engine_version}"
    notes = () if machine.conditions is UNSET else machine.conditions.notes
    return [f"on {machine.cpu}, {machine.os}, Python {machine.python}{engine}", *(f"note: {note}" for note in notes)]


def benched(directory: str, engine: str, precision: str, n_threads: str) -> bytes:
    """`bench` as JSON. For a process of its own."""
    return msgspec.json.encode(bench(open_artifact(directory), engine, precision, int(n_threads)))


def _apart(artifact: Artifact, engine: str, precision: str, n_threads: int) -> BenchPart | Failed:
    where = str(artifact.directory)
    try:
        row = engine_apart(engine, "edge_runtime.bench:benched", where, engine, precision, str(n_threads))
    except Failure as failure:
        return Failed(engine=engine, precision=precision, error=str(failure))
    return msgspec.json.decode(row, type=BenchPart)


def _time_frames(engine: Engine, spectra: Float32Array, n_frames: int) -> npt.NDArray[np.float64]:
    enhanced = np.empty_like(spectra[0])
    engine.reset()
    return _time(lambda spectrum: engine.step(spectrum, enhanced), list(spectra), n_frames)


def _time_hops(denoiser: Denoiser, spectra: Float32Array, n_frames: int) -> npt.NDArray[np.float64]:
    hop_out = np.empty(HOP_SAMPLES, np.float32)
    return _time(lambda hop: denoiser.step(hop, hop_out), _hops(spectra, denoiser.engine.window), n_frames)


def _hops(spectra: Float32Array, window: WindowName) -> list[Float32Array]:
    """The samples behind the spectra."""
    synthesis = Synthesis(window)
    hops = np.empty((len(spectra), HOP_SAMPLES), np.float32)
    for spectrum, hop in zip(spectra, hops, strict=True):
        synthesis.push(spectrum, hop)
    return list(hops)


def _time(step: Callable[[Float32Array], None], inputs: list[Float32Array], n_frames: int) -> npt.NDArray[np.float64]:
    """Microseconds of each of `n_frames` steps over the inputs, cycled, warm-up left out."""
    taken_ns = np.empty(N_WARMUP_FRAMES + n_frames, np.int64)
    now_ns = time.perf_counter_ns
    with _no_garbage_collection():
        for k, one in enumerate(islice(cycle(inputs), len(taken_ns))):
            began_ns = now_ns()
            step(one)
            taken_ns[k] = now_ns() - began_ns
    return taken_ns[N_WARMUP_FRAMES:] / 1e3


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def spread_us(taken_us: npt.NDArray[np.float64]) -> Spread:
    p50, p95, p99 = np.percentile(taken_us, (50, 95, 99))
    figures = {"p50": p50, "p95": p95, "p99": p99, "max": taken_us.max(), "mean": taken_us.mean()}
    return Spread(**{name: round(float(value), 2) for name, value in figures.items()})


def _peak_rss_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB
