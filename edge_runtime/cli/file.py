"""`edge-denoise file | pipe`: sound from files and pipes. Parses, calls once, answers."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

from edge_runtime import command
from edge_runtime.cli import options
from edge_runtime.command import Answer, Command, whole

_STDIN, _STDOUT = 0, 1  # the numbers: a closed one is an error here, not a place where sound is dropped


def _file_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", type=Path, metavar="IN", help="a sound file, any rate and channel count")
    parser.add_argument("output", type=Path, metavar="OUT", help="its suffix is its format: .wav, .flac, ...")
    options.engine(parser)
    options.band(parser)
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")


def _file(args: argparse.Namespace) -> Answer:
    from edge_runtime.files.denoise_file import denoise_file

    artifact = options.opened(args)
    done = denoise_file(
        args.input,
        args.output,
        artifact,
        engine=args.engine,
        precision=args.precision,
        n_threads=args.threads,
        band=args.band,
        force=args.force,
    )._asdict()
    return Answer({**done, "model": artifact.name}, [*_file_lines(done), options.model_line(artifact)])


def _file_lines(done: dict[str, Any]) -> Iterator[str]:
    speed = done["duration_s"] / done["elapsed_s"]
    band = ", full band" if done["band"] == "full" else ""
    line = "{output}: {duration_s:.2f} s, {n_channels} x {sample_rate_hz} Hz{band}, {container} {subtype}"
    yield line.format_map(done | {"band": band})
    how_it_went = "{engine} {precision} ({engine_reason}): {elapsed_s:.2f} s, {speed:.1f} times faster than it plays"
    yield how_it_went.format(**done, speed=speed)
    for key, what in (
        ("n_nonfinite", "input samples were not finite and became 0"),
        ("n_limited", "input samples were beyond 8 times full scale and were limited"),
        ("n_clipped", "output samples were beyond full scale and were clipped"),
    ):
        if done[key]:
            yield f"{done[key]} {what}"


def _pipe_arguments(parser: argparse.ArgumentParser) -> None:
    options.engine(parser)
    options.band(parser)
    parser.add_argument("--rate", type=whole(8000, 192_000, "Hz"), default=16_000, metavar="HZ", help="default: 16000")


def _pipe(args: argparse.Namespace) -> Answer:
    from edge_runtime.denoiser import Denoiser
    from edge_runtime.files.any_rate import one_channel
    from edge_runtime.files.denoise_pipe import denoise_pipe

    artifact = options.opened(args)
    denoiser = Denoiser.open(artifact, args.engine, args.precision, args.threads)
    done = denoise_pipe(_STDIN, _STDOUT, one_channel(denoiser, args.rate, args.band))
    return Answer({**done._asdict(), "model": artifact.name}, (), one_line=True, aside=True)


FILE: Final = command.after(
    partial(options.try_packages, "soundfile", "soxr"),
    Command(
        "file",
        "denoise a sound file",
        _file_arguments,
        _file,
        examples=(
            "edge-denoise file noisy.wav clean.wav",
            "edge-denoise file talk.flac clean.flac --model build/rpi4 --engine native --force",
        ),
        page="guide/files.md",
    ),
)
PIPE: Final = Command(
    "pipe",
    "denoise raw s16le mono, 16 kHz or --rate, from standard input to standard output",
    _pipe_arguments,
    _pipe,
    examples=(
        "edge-denoise pipe <noisy.raw >clean.raw",
        "arecord -f S16_LE -r 16000 -c 1 -t raw | edge-denoise pipe | aplay -f S16_LE -r 16000 -c 1",
    ),
    page="guide/files.md",
)
