"""`edge-denoise bench | verify`: how fast and how true a model is here. Parses, calls once, answers."""

from __future__ import annotations

import argparse
from typing import Any, Final

from edge_runtime.cli import options
from edge_runtime.command import Answer, Command
from edge_runtime.engines import AUTO, ENGINES

ALL: Final = "all"


def _bench_arguments(parser: argparse.ArgumentParser) -> None:
    options.model(parser)
    every = "default: all that run here, remembered for `auto`"
    parser.add_argument("--engine", choices=(ALL, AUTO, *ENGINES), default=ALL, help=every)
    precisions = "default: int8, of all engines both"
    parser.add_argument("--precision", choices=("int8", "fp32"), help=precisions)
    options.threads(parser)


def _bench(args: argparse.Namespace) -> Answer:
    from edge_runtime.bench import bench, bench_all
    from edge_runtime.manifest import open_artifact

    artifact = open_artifact(args.model)
    if args.engine == ALL:
        precisions = ("int8", "fp32") if args.precision is None else (args.precision,)
        compared = bench_all(artifact, precisions, args.threads, options.say)
        return Answer(compared, compared_lines(compared))
    figures = bench(artifact, args.engine, args.precision or "int8", args.threads)
    return Answer(figures, _bench_lines(figures))


def _bench_lines(figures: dict[str, Any]) -> list[str]:
    row = "{:<6} {p50:>9.1f} {p95:>9.1f} {p99:>9.1f} {max:>9.1f} {mean:>9.1f}"
    return [
        "{engine} {precision}, {n_threads} thread(s), {n_frames} frames".format(**figures),
        "on {cpu}, {os}, Python {python}, {engine_version}".format(**figures["machine"]),
        *(f"note: {note}" for note in figures["machine"]["conditions"]["notes"]),
        "us           p50       p95       p99       max      mean",
        row.format("frame", **figures["frame_us"]),
        row.format("hop", **figures["hop_us"]),
        "real-time factor {rtf:.4f}, load {load_ms:.0f} ms".format(**figures)
        + f", memory {figures['rss_bytes'] / 2**20:.0f} MiB",
    ]


def compared_lines(figures: dict[str, Any]) -> list[str]:
    """A row an engine and precision, and what `auto` takes from now on."""
    machine = figures["machine"]
    said = ["on {cpu}, {os}, Python {python}".format(**machine)]
    said += [f"note: {note}" for note in machine["conditions"]["notes"]]
    headings = "".join(f"{heading:>9}" for heading in ("p50", "p95", "p99", "max", "network", "load ms"))
    said.append(f"{'a hop of 16 ms, us':<20}{headings}{'MiB':>7}")
    for row in figures["rows"]:
        hop = row["hop_us"]
        name = f"{row['engine']} {row['precision']}"
        times = "".join(f"{hop[key]:>9.1f}" for key in ("p50", "p95", "p99", "max"))
        rest = f"{row['frame_us']['p50']:>9.1f}{row['load_ms']:>9.0f}{row['rss_bytes'] / 2**20:>7.0f}"
        said.append(f"{name:<20}{times}{rest}")
    said += ["{engine} {precision} failed: {error}".format(**row) for row in figures["failed"]]
    best = ", ".join(f"{engine} for {precision}" for precision, engine in figures["fastest"].items() if engine)
    kept = "and this is remembered" if figures["remembered"] else "but this could not be remembered"
    return [*said, f"`--engine auto` takes {best}, {kept}" if figures["remembered"] else f"fastest: {best}, {kept}"]


def _verify(args: argparse.Namespace) -> Answer:
    from edge_runtime.engines import golden
    from edge_runtime.manifest import open_artifact

    artifact = open_artifact(args.model)
    artifact.check_all()
    rows = golden.check_golden(artifact)
    golden.judge(artifact, rows)
    cells = [("engine", "precision", "SNR dB", "floor dB", ""), *map(golden.cells, rows)]
    value = {"directory": str(args.model), "golden": [golden.to_dict(row) for row in rows]}
    return Answer(value, ["{:<8} {:<9} {:>8} {:>8}  {}".format(*row) for row in cells])


BENCH: Final = Command("bench", "measure the time of a frame on this machine, by engine", _bench_arguments, _bench)
VERIFY: Final = Command(
    "verify", "check a model's files and run its golden vectors through every engine", options.model, _verify
)
