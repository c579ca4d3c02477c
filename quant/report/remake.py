"""`report.json` and `report.html` of an artifact: put together at a build, and made again with measurements taken in.

complete(report, board, clips)                   the build's figures -> a whole report, verdict and all
pages(report, clips)                             -> both files
remake(DIR, Taken(...))                          `quant report`: into DIR, with its manifest, or not at all
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

import boards
from boards import Board
from edge_runtime.engines.golden import load_golden
from edge_runtime.manifest import open_artifact
from quant.artifact.folder import renew
from quant.artifact.stable_bytes import json_bytes
from quant.audit import frame_time
from quant.report import measured, regressions, schema, verdict
from quant.report.clips import Clip, golden_clip, user_clip

JSON_FILE, HTML_FILE = "report.json", "report.html"
GOLDEN_SOURCE: Final = "the golden vectors of this artifact: float model and integer reference; licences are below"


@dataclass(frozen=True)
class Taken:
    """What `quant report` was given; what is None or empty stays as the report has it."""

    benches: Sequence[Path] = ()
    evaluation: Path | None = None
    robustness: Path | None = None
    clips: Sequence[str] = ()
    against: Path | None = None


def complete(report: dict[str, Any], board: Board, clips: Sequence[Clip]) -> dict[str, Any]:
    """The report with format, estimates, clips and verdict; parts that were not measured are there and empty."""
    whole: dict[str, Any] = {
        "benches": [],
        "quality": None,
        "robustness": None,
        "history": None,
        "search": None,
    } | report
    whole |= {
        "format": schema.FORMAT,
        "version": schema.VERSION,
        "estimates": msgspec.to_builtins(frame_time.estimates(board)),
    }
    whole |= {"clips": [clip.to_dict() for clip in clips], "target": boards.to_dict(board)}
    whole = msgspec.json.decode(json_bytes(whole))  # in the order of the file, so that a remake draws the same
    return whole | {"verdict": verdict.judge(whole, board)}


def pages(whole: dict[str, Any], board: Board, clips: Sequence[Clip], *, html: bool = True) -> dict[str, bytes]:
    """File name -> bytes."""
    files = {JSON_FILE: json_bytes(whole)}
    if html:
        from quant.report import page  # draws, and what draws is slow to import

        files[HTML_FILE] = page.render(whole, board, clips)
    return files


def remake(directory: Path, taken: Taken) -> dict[str, Any]:
    """Take measurements in and write both files and the manifest anew; returns the report.

    Failure: no artifact, no report of this version, a file that is not what it should be.
    """
    opened = open_artifact(directory)
    found = schema.read(directory / JSON_FILE)
    board = msgspec.convert(found["target"], Board)
    found["benches"] = measured.merged(
        found["benches"], msgspec.to_builtins([b for f in taken.benches for b in frame_time.read_bench(f)])
    )
    if taken.evaluation is not None:
        found["quality"] = measured.quality(taken.evaluation)
    if taken.robustness is not None:
        found["robustness"] = measured.robustness(taken.robustness)
    if taken.against is not None:
        older = schema.read(taken.against / JSON_FILE)
        found["history"] = regressions.compare(older, found, taken.against.resolve().name)
    clips = [golden_clip(load_golden(opened), GOLDEN_SOURCE), *(user_clip(opened, text) for text in taken.clips)]
    whole = complete(found, board, clips)
    renew(opened, pages(whole, board, clips))
    return whole
