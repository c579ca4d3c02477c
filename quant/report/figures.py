"""The pictures of the report: SVG with the page's own colours (they follow dark and light), and spectrograms as PNG."""

from __future__ import annotations

import base64
import io
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from boards import Board
from edge_runtime.bench import BenchPart
from edge_runtime.quoting import tex
from edge_runtime.stft import Float32Array
from quant.audit.findings import EstimatePart, Layer
from quant.quality.results import SNR, in_order, title, uneven
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
NO_METADATA: Final[dict[str, Any]] = {"Software": None}  # versions of what drew it are in the report
PRECISIONS: Final = (("int8", A), ("mixed", B), ("float", C))


class Picture(NamedTuple):
    """Inline SVG, what it says in words, and its caption."""

    svg: str
    alt: str
    caption: str


def block_of(layer: str) -> str:
    """The block that a layer belongs to: encoder.en_convs.2.tra.att_gru -> encoder 2."""
    parts = layer.split(".")
    if parts[0] in ("encoder", "decoder"):
        return f"{parts[0]} {'skips' if parts[1] == 'skips' else parts[2]}"
    return {"erb": "ERB bands", "features": "features", "enhanced": "mask"}.get(parts[0], parts[0])


class Block(NamedTuple):
    """Sums of a block; `macs` by precision."""

    name: str
    macs: Mapping[str, int]
    weight_bytes: int

    @property
    def macs_frame(self) -> int:
        """Of all precisions."""
        return sum(self.macs.values())


def blocks(layers: Iterable[Layer]) -> list[Block]:
    """In execution order."""
    macs: dict[str, Counter[str]] = defaultdict(Counter)
    weight_bytes = Counter[str]()
    for layer in layers:
        name = block_of(layer.name)
        macs[name][layer.precision] += layer.macs_frame
        weight_bytes[name] += layer.weight_bytes
    return [Block(name, counted, weight_bytes[name]) for name, counted in macs.items()]


def budget(report: Report) -> Picture:
    """MACs by block and precision, weight bytes beside them."""
    rows = [r for r in blocks(report.budget.layers) if r.macs_frame or r.weight_bytes][::-1]
    names = [r.name for r in rows]
    with _figure("budget", 0.24 * len(rows) + 0.8, 2, sharey=True) as (figure, (left, right)):
        start = np.zeros(len(rows))
        for precision, colour in PRECISIONS:
            values = np.array([r.macs.get(precision, 0) for r in rows]) / 1e3
            left.barh(names, values, left=start, color=colour, label=precision, height=0.7)
            start += values
        right.barh(names, [r.weight_bytes / 1024 for r in rows], color=MUTED, height=0.7)
        left.set_xlabel("thousand MACs a frame")
        right.set_xlabel("weights, KB")
        figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=3)
        for axes in (left, right):
            axes.grid(axis="y", visible=False)
    most = max(rows, key=lambda r: r.macs_frame)
    alt = f"MACs and weights by block; most MACs in {most.name}, {most.macs_frame:,} a frame"
    return Picture(
        _svg(figure, "budget"), alt, "MACs by block, as planned in 8 bits, mixed and float; weights by block"
    )


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


def accuracy(report: Report) -> Picture:
    """SQNR of every 8-bit value along the network."""
    order = {row.tap: i for i, row in enumerate(r for r in report.plan if r.kind != "weight")}
    rows = sorted((r for r in report.accuracy if r.tap in order), key=lambda r: order[r.tap])
    names = [r.tap for r in rows]
    inner = [(i, r) for i, r in enumerate(rows) if r.type == "int8"]
    with _figure("accuracy", 2.8) as (figure, (axes,)):
        seen = [min(r.cumulative_sqnr_db, 80) for r in rows]
        axes.plot(seen, color=B, label="with everything quantized, at the value")
        alone = [min(r.isolated_output_sqnr_db, 80) for _, r in inner]
        axes.plot([i for i, _ in inner], alone, ".", color=A, markersize=4, label="rounded alone, at the output")
        axes.set_ylabel("SQNR, dB")
        axes.set_ylim(min(0, *seen) - 2, 84)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", fontsize=8)
        _network_axis(axes, names)
    worst = min((r for _, r in inner), key=lambda r: r.isolated_output_sqnr_db, default=None)
    said = "" if worst is None else f"; {worst.tap} costs the output most, {worst.isolated_output_sqnr_db:.1f} dB"
    return Picture(
        _svg(figure, "accuracy"), f"SQNR along the network{said}", "Error along the network; above 80 dB is drawn at 80"
    )


def histograms(report: Report) -> Picture | None:
    """The values that cost the output most, with the range that their grid keeps."""
    found = report.histograms
    if not found:
        return None
    n_rows = math.ceil(len(found) / 2)
    with _figure("histograms", 1.35 * n_rows, len(found) + len(found) % 2, n_rows=n_rows) as (figure, all_axes):
        for axes, h in zip(all_axes, found, strict=False):
            edges = np.linspace(h.minimum, h.maximum, len(h.counts) + 1)
            axes.stairs(np.maximum(h.counts, 0.5), edges, fill=True, color=A, alpha=0.7, baseline=0.5)
            axes.set_yscale("log")
            for bound in (h.low, h.high):
                axes.axvline(bound, color=BAD, linestyle="--", linewidth=1)
            axes.set_title(f"{tex(_short(h.tap))}\n{h.clipped_share:.2%} clipped", fontsize=8)
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


def by_snr(report: Report) -> Picture | None:
    """The first metric by SNR group: noisy, float, int8."""
    groups = report.quality.groups if report.quality else {}
    found = next((g for name, g in groups.items() if name.startswith(SNR)), {})
    names = sorted((name for name, systems in found.items() if systems), key=_leading_number)
    if len(names) < 2:
        return None
    metric = in_order(m for name in names for s in found[name] for m in s.means)[0]
    lines: dict[str, dict[str, float]] = defaultdict(dict)
    for name in names:
        lines |= {s.system: lines[s.system] | {name: s.means[metric]} for s in found[name] if metric in s.means}
    with _figure("snr", 2.6) as (figure, (axes,)):
        for i, (system, values) in enumerate(lines.items()):
            here = [name for name in names if name in values]
            drawn = A if "int8" in system else B, ("-", "--", "-.")[i % 3]
            colour, dashes = {"noisy": (MUTED, ":")}.get(system, drawn)
            places, means = [names.index(name) for name in here], [values[name] for name in here]
            axes.plot(places, means, dashes, color=colour, marker=".", label=tex(system))
        axes.set_xticks(range(len(names)), map(tex, names), fontsize=8)
        axes.set_ylabel(tex(title(metric)))
        axes.set_xlabel("SNR of the recording")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=8)
    told = "; for some clips failed, not every mean is over the same ones" if any(map(uneven, found.values())) else ""
    return Picture(
        _svg(figure, "snr"), f"{title(metric)} by SNR for {', '.join(lines)}", f"{title(metric)} by SNR{told}"
    )


def speed(report: Report) -> Picture | None:
    """Hop times, median to 99th percentile and the longest, and estimates, against the deadline."""
    board = report.target
    rows = [*(_bench_bar(b) for b in report.benches), *(_estimate_bar(e, board) for e in report.estimates)]
    if not rows:
        return None
    rows = rows[::-1]
    with _figure("speed", 0.3 * len(rows) + 1.0) as (figure, (axes,)):
        for i, (_, low, high, longest) in enumerate(rows):
            axes.plot([low, high], [i, i], color=A if longest is not None else C, linewidth=6, solid_capstyle="butt")
            if longest is not None:
                axes.plot([longest], [i], "|", color=MUTED, markersize=9)
        axes.axvline(HOP_MS, color=BAD, linestyle="--")
        axes.axvline(HOP_MS * board.budget.rtf, color=MUTED, linestyle=":")
        axes.set_xscale("log")
        axes.set_yticks(range(len(rows)), [tex(name) for name, *_ in rows], fontsize=7)
        axes.set_ylim(-0.8, len(rows) - 0.2)
        axes.set_xlabel("ms a hop, log scale")
    said = "; ".join(f"{name.splitlines()[0]} {low:.3g} to {high:.3g} ms" for name, low, high, _ in rows)
    return Picture(
        _svg(figure, "speed"),
        f"time of a hop: {said}",
        "Time of a hop: bar from median to 99th percentile, tick at the longest; estimates from lowest to highest. "
        f"Dashed: the deadline, {HOP_MS:g} ms; dotted: the board's budget of it",
    )


def _leading_number(group: str) -> float:
    """-5 of "-5 dB"; what has no number comes last."""
    found = re.search(r"-?\d+(\.\d+)?", group)
    return float(found.group()) if found else math.inf


Bar = tuple[str, float, float, float | None]  # name, from, to, longest; in ms


def _bench_bar(b: BenchPart) -> Bar:
    hop = b.hop_us
    return f"{b.engine} {b.precision}\n{b.machine.cpu[:28]}", hop.p50 / 1e3, hop.p99 / 1e3, hop.max / 1e3


def _estimate_bar(e: EstimatePart, board: Board) -> Bar:
    return f"{e.engine} {e.precision}\nestimate, {board.name}", e.low_ms, e.high_ms, None


def spectrogram_png(values: Float32Array) -> str:
    """(bins, frames) of 0 to 1 -> data URI."""
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, values, cmap="magma", vmin=0, vmax=1, format="png", metadata=NO_METADATA)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


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
    begin = [i for i, name in enumerate(names) if i == 0 or block_of(name) != block_of(names[i - 1])]
    starts = list[int]()
    for i in begin:
        named = block_of(names[i]) not in ("features", "ERB bands", "mask", "decoder skips")
        if named and (not starts or i - starts[-1] > 0.04 * len(names)):
            starts.append(i)
    axes.set_xticks(
        starts, [block_of(names[i]) for i in starts], rotation=50, ha="right", rotation_mode="anchor", fontsize=7
    )
    axes.set_xlim(0, len(names) - 1)


def _short(tap: str) -> str:
    return tap.replace("encoder.en_convs.", "en ").replace("decoder.de_convs.", "de ")
