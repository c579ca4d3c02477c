"""What several commands of `edge-denoise` share: options, and the name that progress begins with."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_runtime import command
from edge_runtime.command import number, or_word, whole
from edge_runtime.engines import AUTO, ENGINES

if TYPE_CHECKING:
    from edge_runtime.manifest import Artifact

PROG: Final = "edge-denoise"
MODEL: Final = "made by `quant build`; default: the model that is built in"
PRECISION: Final = "default: int8; auto takes fp32 where a bench found it faster"
CHANNELS: Final = "best (one), mix, all, or numbers such as 1,3; default: the mean of one or two, of more the first"
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


_GAIN_DB: Final[Callable[[str], float | None]] = or_word("auto", None, number(-40, 60, "dB"))
_HIGHPASS_HZ: Final[Callable[[str], float | None]] = or_word("off", 0.0, or_word("auto", None, number(10, 300, "Hz")))
_GAIN: Final = "for a quiet microphone; auto: slowly, by speech alone; default: 0"
_RUMBLE: Final = "take off offset and rumble below, auto (60 where there is some), or off; default: auto"


def microphone(parser: argparse._ActionsContainer) -> None:
    """What it needs before it is heard."""
    parser.add_argument("--input-gain-db", type=_GAIN_DB, default=0.0, metavar="DB", help=_GAIN)
    parser.add_argument("--highpass", type=_HIGHPASS_HZ, default=None, metavar="HZ", help=_RUMBLE)


def microphone_as_typed(parser: argparse._ActionsContainer) -> None:
    """The same for a command that hands it on, checked."""
    for name, check, metavar, text in (
        ("--input-gain-db", _GAIN_DB, "DB", _GAIN),
        ("--highpass", _HIGHPASS_HZ, "HZ", _RUMBLE),
    ):
        parser.add_argument(name, type=_as_typed(check), metavar=metavar, help=f"the service's: {text}")


def _as_typed(check: Callable[[str], object]) -> Callable[[str], str]:
    def keep(text: str) -> str:
        check(text)
        return text

    return keep


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
