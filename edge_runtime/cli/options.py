"""Options that several commands of `edge-denoise` share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from edge_runtime.engines import AUTO, ENGINES

_MAX_THREADS: Final = 64


def model(parser: argparse.ArgumentParser) -> None:
    """The artifact."""
    parser.add_argument("--model", type=Path, required=True, metavar="DIR", help="made by `quant build`")


def engine(parser: argparse.ArgumentParser) -> None:
    """The artifact, and what runs it."""
    model(parser)
    parser.add_argument("--engine", choices=(AUTO, *ENGINES), default=AUTO, help="default: auto, the fastest measured")
    parser.add_argument("--precision", choices=("int8", "fp32"), default="int8", help="default: int8")
    threads(parser)


def threads(parser: argparse.ArgumentParser) -> None:
    """How many one stream may use."""
    parser.add_argument("--threads", type=_n_threads, default=1, metavar="N", help="default: 1")


def _n_threads(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MAX_THREADS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {_MAX_THREADS}")
    return int(text)
