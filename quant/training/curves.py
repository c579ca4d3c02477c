"""The curves of a training run as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_runtime.quoting import tex
from edge_runtime.whole_file import written_whole
from quant.training.history import History


def draw(history: History, path: Path, title: str) -> None:
    """Losses, SNR and PESQ over the steps, the best step marked, into a .png."""
    from matplotlib.figure import Figure

    rows, best = history.rows, history.best
    has_pesq = history.has_pesq
    figure = Figure(figsize=(8, 7.5 if has_pesq else 5), layout="constrained")
    axes = figure.subplots(2 + has_pesq, 1, sharex=True)
    axes[0].set(ylabel="loss", title=tex(title))
    _line(axes[0], rows, "train_loss", "training, mixed anew each step", "C0")
    _line(axes[0], rows, "validation_loss", "validation, always the same clips", "C1")
    axes[0].axvline(best["step"], color="grey", linestyle=":", label=f"best, step {best['step']:.0f}")
    _line(axes[1], rows, "snr_db", "output, against what it is trained towards", "C1")
    axes[1].set(ylabel="SNR dB")
    if has_pesq:
        _line(axes[2], rows, "pesq", "output of the first validation clips", "C1")
        axes[2].axhline(rows[0]["pesq"], color="C0", linestyle="--", label="start: calibrated, or as it was read")
        axes[2].axhline(rows[0]["pesq_noisy"], color="grey", linestyle="--", label="noisy")
        axes[2].set(ylabel="PESQ-WB")
    for axis in axes:
        axis.ticklabel_format(useOffset=False)
        axis.legend()
    axes[-1].set(xlabel="step")
    with written_whole(path) as part:
        figure.savefig(part, dpi=100, format="png")


def _line(axis: Any, rows: Sequence[Mapping[str, float]], name: str, label: str, color: str) -> None:
    found = [(row["step"], row[name]) for row in rows if name in row]
    axis.plot(*zip(*found, strict=True) if found else ([], []), label=label, color=color, marker=".")
