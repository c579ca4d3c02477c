"""What several commands of `edge-denoise` share: options, and the name that progress begins with."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_runtime import command
from edge_runtime.command import whole
from edge_runtime.engines import AUTO, ENGINES

if TYPE_CHECKING:
    from edge_runtime.manifest import Artifact

PROG: Final = "edge-denoise"
MODEL: Final = "made by `quant build`; default: the model that is built in"
PRECISION: Final = "default: int8; auto takes fp32 where a bench found it faster"
_MAX_THREADS: Final = 64

say = partial(command.say, PROG)


def model(parser: argparse._ActionsContainer) -> None:
    """The artifact; None is the one that is built in."""
    parser.add_argument("--model", type=Path, metavar="DIR", help=MODEL)


def model_line(artifact: Artifact) -> str:
    """Which one spoke."""
    return f"model: {artifact.name}"


def engine(parser: argparse._ActionsContainer) -> None:
    """The artifact, and what runs it."""
    model(parser)
    parser.add_argument("--engine", choices=(AUTO, *ENGINES), default=AUTO, help="default: auto, the fastest measured")
    parser.add_argument("--precision", choices=(AUTO, "int8", "fp32"), default="int8", help=PRECISION)
    threads(parser)


def band(parser: argparse._ActionsContainer) -> None:
    """How far up sound goes."""
    text = "full keeps what lies above 8 kHz, speech ends there; default: full, where sound is sampled above 16 kHz"
    parser.add_argument("--band", choices=("full", "speech"), help=text)


def threads(parser: argparse._ActionsContainer) -> None:
    """How many one stream may use."""
    parser.add_argument("--threads", type=whole(1, _MAX_THREADS), default=1, metavar="N", help="default: 1")


def note_numbers(args: argparse.Namespace, *names: str) -> None:
    """A line for each device that goes by its card's number."""
    from edge_runtime.alsa.cards import number_note

    for name in names:
        if note := number_note(f"--{name.replace('_', '-')}", getattr(args, name) or ""):
            say(f"note: {note}")


def try_packages(*names: str) -> None:
    """Failure: one of these packages dies here."""
    from edge_runtime.engines import trial

    trial.packages(*names)


def opened(args: argparse.Namespace) -> Artifact:
    """The artifact, once the engine that was asked for has shown that it does not die here."""
    from edge_runtime.engines import trial
    from edge_runtime.manifest import open_artifact

    artifact = open_artifact(args.model)
    trial.engine(artifact, args.engine, args.precision, args.threads)
    return artifact
