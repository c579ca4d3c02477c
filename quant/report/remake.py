"""`report.json` and `report.html` of an artifact: put together at a build, and made again with measurements taken in.

complete(report, clips)                          what is concluded from a report: estimates, clips, verdict
pages(report, clips)                             -> both files
remake(DIR, Taken(...))                          `quant report`: into DIR, with its manifest, or not at all;
                                                 what `quant eval` kept there is taken in unless another is given
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from msgspec.structs import replace

from edge_runtime.engines.golden import load_golden
from edge_runtime.errors import Failure
from edge_runtime.manifest import Artifact, open_artifact
from quant.artifact.folder import renew
from quant.artifact.stable_bytes import json_bytes
from quant.audit import frame_time
from quant.quality import shipped
from quant.quality.kept import QUALITY_FILE, ROBUSTNESS_FILE
from quant.report import measured, regressions, schema, verdict
from quant.report.clips import MOST_SECONDS, Clip, golden_clip, models_here, own_clip, user_clip, worst_clips
from quant.report.everywhere import everywhere
from quant.report.provenance import RANGES_SHA256
from quant.report.schema import Report

HTML_FILE: Final = "report.html"
GOLDEN_SOURCE: Final = "the golden vectors of this artifact: float model and integer reference"


@dataclass(frozen=True)
class Taken:
    """What `quant report` was given; what is None or empty stays as the report has it."""

    benches: Sequence[Path] = ()
    evaluation: Path | None = None
    robustness: Path | None = None
    clips: Sequence[str] = ()
    pairs: Path | None = None  # the recordings that were evaluated, to hear the worst
    against: Path | None = None


def complete(report: Report, clips: Sequence[Clip]) -> Report:
    """The report as its file will be read again, so that a remake draws the same, judged anew."""
    counted = frame_time.counted_network(report.budget.published.macs)  # other sizes were not
    estimates = tuple(frame_time.estimates(report.target, counted))
    known = shipped.measured_of(report.checkpoint.sha256, report.provenance.inputs.get(RANGES_SHA256, ""))
    parts = tuple(clip.part() for clip in clips)
    whole = replace(report, estimates=estimates, shipped=known, clips=parts, verdict=())
    whole = msgspec.json.decode(json_bytes(whole), type=Report)
    return replace(whole, verdict=verdict.judge(whole), boards=everywhere(whole))


def pages(report: Report, clips: Sequence[Clip], *, html: bool = True) -> dict[str, bytes]:
    """File name -> bytes."""
    files = {schema.FILE: json_bytes(report)}
    if html:
        from quant.report.page import whole  # draws, and what draws is slow to import

        files[HTML_FILE] = whole.render(report, clips)
    return files


def remake(directory: Path, taken: Taken, *, html: bool = True) -> Report:
    """Take measurements in and write both files, or the JSON alone, and the manifest anew; returns the report.

    Failure: no artifact, no report of this version, a file that is not what it should be.
    """
    opened = open_artifact(directory)
    found = schema.read_from(opened)
    benches = [row for file in taken.benches for row in frame_time.read_bench(file)]
    found = replace(found, benches=measured.merged(found.benches, benches))
    quality, robustness = measured.kept(opened)
    if taken.evaluation is not None:
        quality = measured.quality(taken.evaluation, opened)
    if taken.robustness is not None:
        robustness = measured.robustness(taken.robustness, opened)
    found = replace(found, quality=quality or found.quality, robustness=robustness or found.robustness)
    if taken.against is not None:
        older = schema.read(taken.against / schema.FILE)
        with schema.coherent(taken.against / schema.FILE):
            found = replace(found, history=regressions.compare(older, found, taken.against.resolve().name))
    golden = golden_clip(load_golden(opened), opened.manifest.window, GOLDEN_SOURCE)
    clips = [*_heard(opened, found, taken), golden]
    with schema.coherent(directory / schema.FILE):
        whole = complete(found, clips)
        files = pages(whole, clips, html=html)
    kept = dict[str, bytes]()  # what lay there is older
    if taken.evaluation is not None:
        kept[QUALITY_FILE] = json_bytes(whole.quality)
    if taken.robustness is not None:
        kept[ROBUSTNESS_FILE] = json_bytes({"rows": whole.robustness})
    renew(opened, {**files, **kept})
    return whole


def _heard(artifact: Artifact, report: Report, taken: Taken) -> list[Clip]:
    """The user's recordings and those that lost most; in their place the project's own, if an engine here runs it."""
    together = MOST_SECONDS if taken.pairs is None else MOST_SECONDS / 2  # the worst five take a megabyte of the page
    seconds = together / max(1, len(taken.clips))
    given = [user_clip(artifact, text, seconds) for text in taken.clips]
    given += [] if taken.pairs is None else worst_clips(artifact, report.quality, taken.pairs)
    with suppress(Failure):
        return given or [own_clip(models_here(artifact, "native"))]
    return []
