"""`edge-denoise doctor`: is this machine fit for live denoising, and if not, what helps.

A check is a small function from what it looks at to rows; a row is ok, warn (it may crackle) or fail (it will not
work), with the remedy. What a check looks at is handed in, so that tests make up machines:

    doctor_machine    processor, clock speed, heat, memory, disk, time       a Host
    doctor_rights     priority, locked memory, sound devices, sound server   a Host
    doctor_model      engines, model files, golden vectors                   the engines here, an artifact's folder
    doctor_sound      the devices that are named                             ALSA
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Literal, NamedTuple

from edge_runtime.errors import Failure

Status = Literal["ok", "warn", "fail"]
RANK: Final[dict[Status, int]] = {"ok": 0, "warn": 1, "fail": 2}


class Row(NamedTuple):
    """One line of the report. `remedy` says what to do, and is empty when all is well."""

    check: str
    status: Status
    found: str
    remedy: str = ""


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
            yield fail(name, *_what_and_remedy(failure))
        except Exception as error:
            found = f"the check itself broke ({type(error).__name__}: {error})"
            yield warn(name, " ".join(found.split()), "please report it, with what this prints")


def report(rows: Iterable[Row]) -> dict[str, Any]:
    """The rows as JSON, and the worst status of all."""
    listed = list(rows)
    worst: Status = max((row.status for row in listed), key=RANK.__getitem__, default="ok")
    return {"status": worst, "rows": [row._asdict() for row in listed]}


def lines(found: dict[str, Any]) -> list[str]:
    """The report for people: a line a row, its remedy behind it, a sum below."""
    rows = [Row(**row) for row in found["rows"]]
    width = max((len(row.check) for row in rows), default=0)
    count = {status: sum(row.status == status for row in rows) for status in RANK}
    listed = [f"{row.status:<5} {row.check:<{width}}  {row.found}{'; ' * bool(row.remedy)}{row.remedy}" for row in rows]
    return [*listed, ", ".join(f"{n} {status}" for status, n in count.items())]


def _what_and_remedy(failure: Failure) -> tuple[str, str]:
    what, _, remedy = str(failure).partition("; ")
    return what, remedy
