"""Options that several commands of `quant` share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edge_runtime.command import or_word, whole

if TYPE_CHECKING:
    from edge_runtime.stft import WindowName

TARGET_HELP: Final = "a board of `quant boards`, or a .toml file"
_WEIGHTS_HELP: Final = "the trained default, or with --recipe the pulled weights"
WINDOWS: Final[dict[str, WindowName]] = {"sqrt-hann": "sqrt_hann", "hann": "hann"}
_MAX_PORT, _MAX_PROCESSES = 65_535, 4096

port = whole(1, _MAX_PORT)
n_processes = or_word("-1", -1, whole(1, _MAX_PROCESSES))  # -1: one a core


def nothing(parser: argparse.ArgumentParser) -> None:
    """No options of its own."""


def directory(parser: argparse.ArgumentParser) -> None:
    """An artifact, where a command is about one."""
    parser.add_argument("directory", type=Path, metavar="DIR", help="made by `quant build`")


def target(parser: argparse._ActionsContainer) -> None:
    """The board."""
    parser.add_argument("--target", required=True, metavar="BOARD", help=TARGET_HELP)


def network_name(parser: argparse._ActionsContainer) -> None:
    """Which network, where no weights tell."""
    own = "of `quant networks`; default: what --checkpoint is of, else gtcrn"
    parser.add_argument("--network", metavar="NAME", help=own)


def network(parser: argparse._ActionsContainer, default: str = _WEIGHTS_HELP) -> None:
    """Weights, and how they are quantized."""
    network_name(parser)
    parser.add_argument("--checkpoint", type=Path, metavar="F", help=f"default: {default}")
    own = "calibrate by a recipe, or a .toml file; default: the network's own for a checkpoint, a .trained file's own"
    parser.add_argument("--recipe", metavar="R", help=own)
    window(parser)


def window(parser: argparse._ActionsContainer) -> None:
    """What weights were trained through."""
    own = "that the weights were trained through, where the file does not tell; default: the published network's"
    parser.add_argument("--window", choices=WINDOWS, help=own)


def window_name(args: argparse.Namespace) -> WindowName | None:
    """As the manifest calls it."""
    return None if args.window is None else WINDOWS[args.window]


def sounds(parser: argparse._ActionsContainer) -> None:
    """What clips are mixed from."""
    parser.add_argument("--speech", type=Path, metavar="DIR", help="clean speech; default: pulled once")
    parser.add_argument("--noise", type=Path, metavar="DIR", help="noise; default: pulled once")


def corpora(parser: argparse._ActionsContainer) -> None:
    """What ranges are measured on, or were."""
    sounds(parser)
    parser.add_argument("--ranges", type=Path, metavar="F", help="ranges.json of an earlier build")
