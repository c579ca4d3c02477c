"""JSON of a known shape, read as the struct that it is, or refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from edge_runtime import bounded
from edge_runtime.errors import Failure

MOST_BYTES = 64 * bounded.MIB  # a report with long clips has 3 MB

T = TypeVar("T")


def read(path: Path, type_: type[T], what: str, remedy: str) -> T:
    """A file that should hold `what`. Failure: it cannot be read, or holds something else."""
    return decoded(text(path, remedy), type_, path, what, remedy)


def text(path: Path, remedy: str) -> str:
    """The whole file. Failure: it cannot be read."""
    try:
        return bounded.read(path, MOST_BYTES, remedy).decode("utf-8")
    except UnicodeDecodeError:
        raise Failure("cannot be read (not text)", where=path, remedy=remedy) from None


def decoded(data: bytes | str, type_: type[T], where: object, what: str, remedy: str) -> T:
    """The same of what was read already; `where` names it."""
    try:
        return msgspec.json.decode(data, type=type_)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Failure(f"is not {what} ({error})", where=where, remedy=remedy) from None
