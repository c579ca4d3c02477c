"""The network as a map of its blocks, and the waterfall of what the output lost, block by block."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from quant.audit import blocks
from quant.audit.losses import WEIGHTS
from quant.report.schema import Report

N_NAMED: Final = 5  # of the steps that cost most
PRECISIONS: Final = ("int8", "mixed", "float")
SMALL: Final = 0.02  # of the MACs: a stage that needs no column of its own
BORDERS_PX: Final = ((0.15, 5), (0.05, 3), (0.0, 1))  # share of the noise -> how thick


class Box(NamedTuple):
    """A block on the map: its MACs a frame, the shares of them by executed precision, its share of the noise at the
    output (None: it is not rounded)."""

    title: str
    macs: int
    shares: Mapping[str, float]
    noise_share: float | None
    border_px: int
    n_layers: int


class Stage(NamedTuple):
    """Blocks that follow each other: encoder, DPGRNN, decoder."""

    title: str
    boxes: tuple[Box, ...]

    @property
    def macs(self) -> int:
        """A frame."""
        return sum(box.macs for box in self.boxes)


class Step(NamedTuple):
    """A step of the waterfall, in percent of all noise: from `start`, `share` more (or, below zero, less). Its bar, in
    percent of the axis: where it begins, and how wide it is."""

    title: str
    start: float
    share: float
    named: bool
    left: float
    width: float


def stages(report: Report) -> list[Stage]:
    """The map, in the order of the network; blocks without a MAC and without noise are left out."""
    titles = _titles(report)
    found: list[tuple[str, list[Box]]] = []
    for block, box in _boxes(report, titles).items():
        stage = blocks.stage_of(block)
        if not found or found[-1][0] != stage:
            found.append((stage, []))
        found[-1][1].append(box)
    whole = [Stage(blocks.ACRONYMS.get(name, name), tuple(boxes)) for name, boxes in found]
    return _joined(whole, SMALL * report.budget.totals.macs_frame)


def waterfall(report: Report) -> list[Step]:
    """From the input of the network to its output; the shares add up to 100. The axis holds all that was between."""
    total = sum(part.noise for part in report.losses)
    if total <= 0:
        return []
    titles = _titles(report) | {WEIGHTS: "all weights"}
    most = sorted(report.losses, key=lambda part: -part.noise)[:N_NAMED]
    shares = [100 * part.noise / total for part in report.losses]
    ends = list(accumulate(shares, initial=0.0))
    low, high = min(ends), max(ends)
    percent = 100 / (high - low)  # of the axis, a percent of all noise
    return [
        Step(
            titles.get(part.block, part.block), round(start, 2), round(share, 2), part in most,
            round((min(start, start + share) - low) * percent, 2), round(abs(share) * percent, 2),
        )
        for part, share, start in zip(report.losses, shares, ends, strict=False)
    ]  # fmt: skip


def whole_bar(steps: Sequence[Step]) -> tuple[float, float]:
    """Of all noise on the axis of a waterfall that is not empty: where it begins, and how wide it is, in percent."""
    first = next(step for step in steps if step.share)
    percent = first.width / abs(first.share)
    return round(steps[0].left if steps[0].share >= 0 else steps[0].left + steps[0].width, 2), round(100 * percent, 2)


def output_db(report: Report) -> float | None:
    """Signal to noise of the enhanced spectrum with everything rounded: what the waterfall adds up to."""
    total = sum(part.noise for part in report.losses)
    return None if total <= 0 else -10 * math.log10(total)


def _joined(found: Sequence[Stage], small_macs: float) -> list[Stage]:
    """Small ones that follow each other as one."""
    joined = list[Stage]()
    for stage in found:
        if joined and max(stage.macs, joined[-1].macs) < small_macs:
            before = joined.pop()
            stage = Stage(f"{before.title}, {stage.title}", before.boxes + stage.boxes)
        joined.append(stage)
    return joined


def _titles(report: Report) -> dict[str, str]:
    return blocks.titles(layer.name for layer in report.budget.layers)


def _boxes(report: Report, titles: Mapping[str, str]) -> dict[str, Box]:
    """By the precision that the board's engine executes; the native engine computes the plan itself."""
    coverage = report.coverage.get(report.target.preferred_engine)
    executed = {} if coverage is None else {node.node: node.executed for node in coverage.nodes}
    macs = {block: Counter[str]() for block in titles}
    n_layers = Counter(blocks.block_of(layer.name) for layer in report.budget.layers)
    for layer in report.budget.layers:
        precision = executed.get(layer.name, layer.precision)
        macs[blocks.block_of(layer.name)][precision] += layer.macs_frame
    total, noise = sum(part.noise for part in report.losses), {part.block: part.noise for part in report.losses}
    boxes = {}
    for block, title in titles.items():
        share = noise[block] / total if block in noise and total > 0 else None
        n_macs = macs[block].total()
        if not n_macs and share is None:
            continue
        shares = {precision: macs[block][precision] / max(n_macs, 1) for precision in PRECISIONS}
        border = next(px for least, px in BORDERS_PX if (share or 0.0) >= least or least == 0)
        boxes[block] = Box(title, n_macs, shares, share, border, n_layers[block])
    return boxes
