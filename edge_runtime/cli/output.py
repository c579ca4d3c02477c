"""How `edge-denoise` prints: results on standard output, progress on standard error."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any, Final

PROG: Final = "edge-denoise"


def say(message: str) -> None:
    """Progress goes to standard error."""
    print(f"{PROG}: {message}", file=sys.stderr, flush=True)


def print_result(
    args: argparse.Namespace, result: dict[str, Any], lines: Callable[[dict[str, Any]], list[str]]
) -> None:
    """As JSON or for people."""
    print(json.dumps(result, indent=2) if args.json else "\n".join(lines(result)))
