"""`edge-denoise`: what the board's user types. Parses, calls once, prints."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from edge_runtime import __version__, command
from edge_runtime.cli import board, live
from edge_runtime.cli.install import add_install, add_uninstall, run_install, run_uninstall
from edge_runtime.command import Command
from edge_runtime.engines import AUTO, ENGINES

PROG: Final = "edge-denoise"
DESCRIPTION: Final = "Remove noise from speech, with a model of `quant build`."
ALL: Final = "all"
_MAX_THREADS: Final = 64


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    return command.run(command.parser_of(PROG, DESCRIPTION, __version__, COMMANDS), argv, PROG)


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="made by `quant build`")
    parser.add_argument("--engine", choices=(AUTO, *ENGINES), default=AUTO, help="default: auto, the fastest measured")
    parser.add_argument("--precision", choices=("int8", "fp32"), default="int8", help="default: int8")
    parser.add_argument("--threads", type=_n_threads, default=1, metavar="N", help="default: 1")


def _add_bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="made by `quant build`")
    every = "default: all that run here, remembered for `auto`"
    parser.add_argument("--engine", choices=(ALL, AUTO, *ENGINES), default=ALL, help=every)
    precisions = "default: int8, of all engines both"
    parser.add_argument("--precision", choices=("int8", "fp32"), help=precisions)
    parser.add_argument("--threads", type=_n_threads, default=1, metavar="N", help="default: 1")


def _n_threads(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MAX_THREADS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {_MAX_THREADS}")
    return int(text)


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", type=Path, metavar="IN", help="a sound file, any rate and channel count")
    parser.add_argument("output", type=Path, metavar="OUT", help="its suffix is its format: .wav, .flac, ...")
    _add_model(parser)
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")


def _file(args: argparse.Namespace) -> int:
    from edge_runtime.files.denoise_file import denoise_file
    from edge_runtime.manifest import open_artifact

    summary = denoise_file(
        args.input,
        args.output,
        open_artifact(args.model),
        args.engine,
        args.precision,
        args.threads,
        force=args.force,
    )._asdict()
    _print_result(args, summary, _file_lines)
    return command.DONE


def _file_lines(done: dict[str, Any]) -> list[str]:
    speed = done["duration_s"] / done["elapsed_s"]
    what_it_is = "{output}: {duration_s:.2f} s, {n_channels} x {sample_rate_hz} Hz, {container} {subtype}"
    how_it_went = "{engine} {precision} ({engine_reason}): {elapsed_s:.2f} s, {speed:.1f} times faster than it plays"
    lines = [what_it_is.format(**done), how_it_went.format(**done, speed=speed)]
    for key, what in (
        ("n_nonfinite", "input samples were not finite and became 0"),
        ("n_limited", "input samples were beyond 8 times full scale and were limited"),
        ("n_clipped", "output samples were beyond full scale and were clipped"),
    ):
        lines += [f"{done[key]} {what}"] if done[key] else []
    return lines


def _add_live(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    live.add_live(parser)


def _bench(args: argparse.Namespace) -> int:
    from edge_runtime.manifest import open_artifact

    artifact = open_artifact(args.model)
    if args.engine == ALL:
        from edge_runtime import bench_all

        precisions = ("int8", "fp32") if args.precision is None else (args.precision,)
        compared = bench_all.bench_all(artifact, precisions, args.threads, _say)
        _print_result(args, compared, bench_all.lines)
        return command.DONE
    from edge_runtime.bench import bench

    figures = bench(artifact, args.engine, args.precision or "int8", args.threads)
    _print_result(args, figures, _bench_lines)
    return command.DONE


def _say(message: str) -> None:
    print(f"{PROG}: {message}", file=sys.stderr, flush=True)


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


def _pipe(args: argparse.Namespace) -> int:
    from edge_runtime.denoiser import Denoiser
    from edge_runtime.files.denoise_pipe import denoise_pipe

    denoiser = Denoiser.open(args.model, args.engine, args.precision, args.threads)
    summary = denoise_pipe(sys.stdin.fileno(), sys.stdout.fileno(), denoiser)
    if args.json:  # standard output is sound
        print(json.dumps(summary._asdict()), file=sys.stderr)
    return command.DONE


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="made by `quant build`")


def _verify(args: argparse.Namespace) -> int:
    from edge_runtime.engines import golden
    from edge_runtime.manifest import open_artifact

    artifact = open_artifact(args.model)
    artifact.check_all()
    rows = []
    say = (lambda *_: None) if args.json else _verify_line
    say("engine", "precision", "SNR dB", "floor dB", "")
    for row in golden.golden_rows(artifact):  # said as they come: an engine may take long, or die
        rows.append(row)
        say(*golden.cells(row))
    if args.json:
        print(json.dumps({"directory": str(args.model), "golden": [golden.to_dict(row) for row in rows]}, indent=2))
    golden.judge(artifact, rows)
    return command.DONE


def _verify_line(*cells: str) -> None:
    print("{:<8} {:<9} {:>8} {:>8}  {}".format(*cells).rstrip(), flush=True)


def _print_result(
    args: argparse.Namespace, result: dict[str, Any], lines: Callable[[dict[str, Any]], list[str]]
) -> None:
    print(json.dumps(result, indent=2) if args.json else "\n".join(lines(result)))


COMMANDS: Final = (
    Command("file", "denoise a sound file", _add_file, _file),
    Command("live", "denoise from one sound device to another", _add_live, live.run_live),
    Command("ctl", "ask or steer a running `live`", live.add_ctl, live.run_ctl),
    Command("pipe", "denoise raw s16le 16 kHz mono from standard input to standard output", _add_model, _pipe),
    Command("install", "set up a virtual microphone or a service", add_install, run_install),
    Command("uninstall", "take back what install did", add_uninstall, run_uninstall),
    Command("verify", "check a model's files and run its golden vectors through every engine", _add_verify, _verify),
    Command("bench", "measure the time of a frame on this machine, by engine", _add_bench, _bench),
    *board.COMMANDS,
)
