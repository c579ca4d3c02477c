"""How `edge-denoise` prints: results on standard output, progress on standard error."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Final, TypeVar

PROG: Final = "edge-denoise"
T = TypeVar("T")


def say(message: str) -> None:
    """Progress goes to standard error."""
    print(f"{PROG}: {message}", file=sys.stderr, flush=True)


def print_result(args: argparse.Namespace, result: T, lines: Callable[[T], list[str]]) -> None:
    """As JSON or for people. `result`: a struct, or plain values."""
    import msgspec  # no `--help` waits for it

    print(json.dumps(msgspec.to_builtins(result), indent=2) if args.json else "\n".join(lines(result)))
