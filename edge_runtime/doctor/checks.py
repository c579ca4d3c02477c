"""`edge-denoise doctor`: is this machine fit for live denoising, and if not, what helps.

A check is a small function from what it looks at to rows; a row is ok, warn (it may crackle) or fail (it will not
work), with the remedy. What a check looks at is handed in, so that tests make up machines:

    machine      processor, clock speed, heat, memory, disk, time       a Host
    rights       priority, locked memory, sound devices, sound server   a Host
    virtual_mic  the virtual microphone, where it is installed          a Host
    sound        the devices that are named                             ALSA
    microphone   what one of them gives                                 its samples
    model        engines, model files, golden vectors                   the engines here, an artifact's folder
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal

import msgspec

from edge_runtime.errors import Failure

Status = Literal["ok", "warn", "fail"]
RANK: Final[dict[Status, int]] = {"ok": 0, "warn": 1, "fail": 2}
WIDTH: Final = len("golden vectors native int8")  # of the longest check's name


class Row(msgspec.Struct, frozen=True):
    """One line of the report. `remedy` says what to do, and is empty when all is well."""

    check: str
    status: Status
    found: str
    remedy: str = ""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Every row, and the worst status of all."""

    status: Status
    rows: list[Row]


Check = Callable[[], Iterable[Row]]


def ok(check: str, found: str) -> Row:
    """All is well."""
    return Row(check, "ok", found)


def warn(check: str, found: str, remedy: str) -> Row:
    """It works, but may crackle, or less well than it could."""
    return Row(check, "warn", found, remedy)


def fail(check: str, found: str, remedy: str) -> Row:
    """It will not work."""
    return Row(check, "fail", found, remedy)


def examine(checks: Iterable[tuple[str, Check]]) -> Iterator[Row]:
    """Every row of every check. A check that breaks becomes a row that says so: the others still run."""
    for name, check in checks:
        try:
            yield from check()
        except Failure as failure:
            yield fail(name, failure.what, failure.remedy)
        except Exception as error:
            found = f"the check itself broke ({type(error).__name__}: {error})"
            yield warn(name, " ".join(found.split()), "please report it, with what this prints")


def report(rows: Iterable[Row]) -> Report:
    """The rows, and the worst status of all."""
    listed = list(rows)
    return Report(status=max((row.status for row in listed), key=RANK.__getitem__, default="ok"), rows=listed)


def line(row: Row) -> str:
    """A row for people, its remedy behind it. Rows are said as they come: the columns do not wait for the last."""
    return f"{row.status:<5} {row.check:<{WIDTH}}  {row.found}{'; ' * bool(row.remedy)}{row.remedy}"


def total(rows: Iterable[Row]) -> str:
    """How many of each status."""
    listed = list(rows)
    return ", ".join(f"{sum(row.status == status for row in listed)} {status}" for status in RANK)
