"""`edge-denoise file | pipe`: sound from files and pipes. Parses, calls once, prints."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

from edge_runtime import command
from edge_runtime.cli import options
from edge_runtime.cli.output import print_result
from edge_runtime.command import Command


def _file_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", type=Path, metavar="IN", help="a sound file, any rate and channel count")
    parser.add_argument("output", type=Path, metavar="OUT", help="its suffix is its format: .wav, .flac, ...")
    options.engine(parser)
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
    print_result(args, summary, _file_lines)
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


def _pipe(args: argparse.Namespace) -> int:
    from edge_runtime.denoiser import Denoiser
    from edge_runtime.files.denoise_pipe import denoise_pipe

    denoiser = Denoiser.open(args.model, args.engine, args.precision, args.threads)
    summary = denoise_pipe(sys.stdin.fileno(), sys.stdout.fileno(), denoiser)
    if args.json:  # standard output is sound
        print(json.dumps(summary._asdict()), file=sys.stderr)
    return command.DONE


FILE: Final = Command("file", "denoise a sound file", _file_arguments, _file)
PIPE: Final = Command(
    "pipe", "denoise raw s16le 16 kHz mono from standard input to standard output", options.engine, _pipe
)
