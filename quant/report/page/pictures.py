"""What is drawn as SVG, in the page's own colours, which follow dark and light."""

from __future__ import annotations

import io
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edge_runtime.quoting import tex
from quant.audit import blocks
from quant.quality.results import SNR, SystemPart, in_order, int8_system, title, uneven
from quant.report.page import sides
from quant.report.page.words import signed
from quant.report.schema import Report
from quant.report.verdict import HOP_MS

# Colours that no picture means, each replaced by a variable of the page.
INK, MUTED, GRID, A, B, C, BAD = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606", "#070707"
VARIABLES: Final = {INK: "ink", MUTED: "muted", GRID: "line", A: "a", B: "b", C: "c", BAD: "bad"}
WIDTH_IN: Final = 4.5  # text of 9 points stays readable at a phone's width
STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none", "svg.hashsalt": "edge-denoise", "font.family": "sans-serif", "font.size": 9,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": MUTED, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.6,
    "axes.axisbelow": True, "axes.titlesize": 9, "legend.frameon": False, "figure.facecolor": "none",
    "axes.facecolor": "none", "lines.linewidth": 1.4, "axes.unicode_minus": True, "savefig.facecolor": "none",
}  # fmt: skip
MARKS: Final = {"native": "o", "tflite": "s", "onnx": "D"}


class Picture(NamedTuple):
    """Inline SVG, what it says in words, and its caption."""

    svg: str
    alt: str
    caption: str


def memory(report: Report) -> Picture:
    """Bytes alive while each node runs, and the arena that holds them."""
    found, arena_kb = report.memory, report.memory.arena_bytes / 1024
    live = np.array(found.live_bytes) / 1024
    with _figure("memory", 2.4) as (figure, (axes,)):
        axes.fill_between(range(len(live)), live, step="mid", color=A, alpha=0.35, linewidth=0)
        axes.step(range(len(live)), live, where="mid", color=A)
        axes.axhline(arena_kb, color=BAD, linestyle="--")
        axes.text(0, arena_kb, f"arena {arena_kb:.1f} KB", va="bottom")
        axes.set_ylim(0, arena_kb * 1.18)
        axes.set_ylabel("alive, KB")
        _network_axis(axes, [layer.name for layer in report.budget.layers])
    alt = f"memory alive node by node, at most {live.max():.1f} KB, at {found.peak_node}"
    return Picture(
        _svg(figure, "memory"), alt, f"Activation memory along the network; the peak is at {found.peak_node}"
    )


def histograms(report: Report) -> Picture | None:
    """The values that cost the output most, with the range that their grid keeps."""
    found = report.histograms
    if not found:
        return None
    n_rows = math.ceil(len(found) / 2)
    titles = blocks.titles(layer.name for layer in report.budget.layers)
    with _figure("histograms", 1.35 * n_rows, len(found) + len(found) % 2, n_rows=n_rows) as (figure, all_axes):
        for axes, h in zip(all_axes, found, strict=False):
            edges = np.linspace(h.minimum, h.maximum, len(h.counts) + 1)
            axes.stairs(np.maximum(h.counts, 0.5), edges, fill=True, color=A, alpha=0.7, baseline=0.5)
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(_plain)
            for bound in (h.low, h.high):
                axes.axvline(bound, color=BAD, linestyle="--", linewidth=1)
            axes.set_title(f"{tex(_short(h.tap, titles))}\n{h.clipped_share:.2%} clipped", fontsize=8)
            axes.tick_params(labelsize=7)
        for axes in all_axes[len(found) :]:
            axes.set_visible(False)
    names = ", ".join(h.tap for h in found)
    return Picture(
        _svg(figure, "histograms"),
        f"histograms of {names}",
        "The costliest values: how often (log scale) which size; between the dashed lines is kept",
    )


def quality(report: Report) -> Picture | None:
    """Paired differences of int8 to float in the first metric, with intervals."""
    compared = [s for s in (report.quality.systems if report.quality else ()) if s.differences]
    if not compared:
        return None
    metric = in_order(m for s in compared for m in s.differences)[0]
    rows = [(s.system, s.differences[metric]) for s in compared if metric in s.differences][::-1]
    with _figure("quality", 0.34 * len(rows) + 0.8) as (figure, (axes,)):
        means = [d.mean for _, d in rows]
        spread = [[d.mean - d.low for _, d in rows], [d.high - d.mean for _, d in rows]]
        axes.errorbar(means, [tex(name) for name, _ in rows], xerr=spread, fmt="o", color=A, capsize=4)
        axes.axvline(0, color=MUTED)
        axes.margins(y=0.3)
        axes.locator_params(axis="x", nbins=4)
        axes.set_xlabel(f"Δ{tex(title(metric))} to float, mean and 95 % interval")
    said = "; ".join(f"{name} {d.mean:+.4f}" for name, d in rows)
    return Picture(
        _svg(figure, "quality"),
        f"difference in {title(metric)}: {said}",
        f"What 8 bits cost in {title(metric)}, paired clip by clip",
    )


def by_clip(report: Report) -> Picture | None:
    """Differences of the board's engine to float, a clip a step, sorted."""
    found = report.quality and int8_system(report.quality, report.target.preferred_engine)
    if not report.quality or not found:
        return None
    metric = in_order(found.differences)[0]
    values = sorted(
        c.differences[metric] for c in report.quality.by_clip if c.system == found.system and metric in c.differences
    )
    if len(values) < 2:
        return None
    d = found.differences[metric]
    with _figure("clips", 2.4) as (figure, (axes,)):
        axes.axhspan(d.low, d.high, color=B, alpha=0.25, linewidth=0, label="mean, 95 %")
        axes.axhline(d.mean, color=B)
        axes.axhline(0, color=MUTED, linewidth=0.8)
        axes.plot(range(1, len(values) + 1), values, ".", color=A, label="a clip")
        axes.set_xlabel("clips, most lost first")
        axes.locator_params(axis="x", integer=True)
        axes.set_ylabel(f"Δ{tex(title(metric))}")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=8)
    n_better = sum(value > 0 for value in values)
    lost, won = (signed(value, 3) for value in (values[0], values[-1]))
    said = f"{len(values)} clips from {lost} to {won}, {n_better} better in 8 bits than in float"
    return Picture(_svg(figure, "clips"), said, f"{found.system}, Δ{title(metric)} to float clip by clip: {said}")


def by_snr(report: Report) -> Picture | None:
    """The first metric by SNR group: noisy, and the board's engine in float and int8."""
    groups = report.quality.groups if report.quality else {}
    found = next((g for name, g in groups.items() if name.startswith(SNR)), {})
    names = sorted((name for name, systems in found.items() if systems), key=_leading_number)
    if len(names) < 2:
        return None
    metric = in_order(m for name in names for s in found[name] for m in s.means)[0]
    own = int8_system(report.quality, report.target.preferred_engine) if report.quality else None
    wanted = {"noisy": (MUTED, ":"), **({own.against or "": (B, "--"), own.system: (A, "-")} if own else {})}
    with _figure("snr", 2.4) as (figure, (axes,)):
        for system, (colour, dashes) in wanted.items():
            means = _means(found, names, system, metric)
            axes.plot(list(means), list(means.values()), dashes, color=colour, marker=".", label=tex(system))
        axes.set_xticks(range(len(names)), map(tex, names), fontsize=8)
        axes.set_ylabel(tex(title(metric)))
        axes.set_xlabel("SNR of the recording")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8)
    told = "; for some clips failed, not every mean is over the same ones" if any(map(uneven, found.values())) else ""
    return Picture(_svg(figure, "snr"), f"{title(metric)} by SNR, {', '.join(wanted)}", f"{title(metric)} by SNR{told}")


def _means(
    groups: Mapping[str, Sequence[SystemPart]], names: Sequence[str], system: str, metric: str
) -> dict[int, float]:
    """Place of the group -> mean."""
    return {
        place: s.means[metric]
        for place, name in enumerate(names)
        for s in groups[name]
        if s.system == system and metric in s.means
    }


def pareto(report: Report) -> Picture | None:
    """Time of a hop against PESQ lost, a mark an engine and precision; against size where no loss is known."""
    rows = [(row, row.ms) for row in sides.engines(report) if row.ms]
    if not rows:
        return None
    lossy = any(row.pesq for row, _ in rows)
    with _figure("pareto", 2.9) as (figure, (axes,)):
        for row, (low, high) in rows:
            middle, colour = math.sqrt(low * high), A if row.precision == "int8" else C
            d = row.pesq
            y = (-d.mean if d else 0.0) if lossy else row.n_bytes / 1024
            spread = [[d.high - d.mean], [d.mean - d.low]] if lossy and d else None
            x_spread = [[middle - low], [high - middle]]
            mark = MARKS.get(row.engine, "o")
            axes.errorbar([middle], [y], xerr=x_spread, yerr=spread, fmt=mark, color=colour, linewidth=1)
            name = f"{row.engine} {row.precision}"
            axes.annotate(tex(name), (middle, y), xytext=(4, 5), textcoords="offset points", fontsize=7)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(_plain)
        axes.axvline(HOP_MS, color=BAD, linestyle="--")
        axes.set_xlabel("ms a hop, log scale; dashed: the deadline, 16 ms")
        axes.set_ylabel("PESQ lost to float" if lossy else "size, KB")
        axes.margins(x=0.1, y=0.2)
        axes.locator_params(axis="y", nbins=5)
    what = "PESQ lost" if lossy else "size"
    said = "; ".join(f"{row.engine} {row.precision} {low:.2g} to {high:.2g} ms" for row, (low, high) in rows)
    return Picture(_svg(figure, "pareto"), f"time of a hop against {what}: {said}", f"Time against {what}")


def _leading_number(group: str) -> float:
    """-5 of "-5 dB"; what has no number comes last."""
    found = re.search(r"-?\d+(\.\d+)?", group)
    return float(found.group()) if found else math.inf


@contextmanager
def _figure(
    name: str, height_in: float, n: int = 1, n_rows: int = 1, **layout: Any
) -> Iterator[tuple[Figure, list[Axes]]]:
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": f"edge-denoise {name}"}):
        figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        axes = figure.subplots(n_rows, n // n_rows, squeeze=False, **layout)
        yield figure, list(axes.flat)


def _svg(figure: Figure, name: str) -> str:
    """Without header, date and fixed size; ids are this figure's own; colours are the page's."""
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": f"edge-denoise {name}"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1), count=1
    )
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'href="#', f'href="#{name}-', text).replace("url(#", f"url(#{name}-")
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    return re.sub(r"\s*\n\s*", "\n", text)


def _network_axis(axes: Axes, names: Sequence[str]) -> None:
    """Ticks where blocks begin, but for those that have no room for a name."""
    titles, n_layers = blocks.titles(names), Counter(map(blocks.block_of, names))
    starts = list[int]()
    for i, block in enumerate(map(blocks.block_of, names)):
        begins = i == 0 or block != blocks.block_of(names[i - 1])
        if begins and n_layers[block] > 1 and (not starts or i - starts[-1] > 0.04 * len(names)):
            starts.append(i)
    shown = [titles[blocks.block_of(names[i])] for i in starts]
    axes.set_xticks(starts, shown, rotation=50, ha="right", rotation_mode="anchor", fontsize=7)
    axes.set_xlim(0, len(names) - 1)


def _short(tap: str, titles: Mapping[str, str]) -> str:
    """decoder.de_convs.1.depth_bn -> decoder 1 depth_bn"""
    block = blocks.block_of(tap)
    return f"{titles.get(block, block)} {tap[len(block) :].lstrip('.')}".rstrip()


def _plain(value: float, place: float = 0) -> str:
    """A tick of a log axis: 0.1, 10, 1,000."""
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
