"""The curves of a training run as a picture."""

from __future__ import annotations

from pathlib import Path

from edge_runtime.quoting import tex
from edge_runtime.whole_file import written_whole
from quant.training.trainer import History


def draw(history: History, path: Path, title: str) -> None:
    """Losses and SNR over the steps, the best step marked, into a .png."""
    from matplotlib.figure import Figure

    rows, best = history.rows, history.best
    trained = [row for row in rows if "train_loss" in row]
    figure = Figure(figsize=(8, 5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    upper.plot([r["step"] for r in trained], [r["train_loss"] for r in trained], label="training", marker=".")
    upper.plot([r["step"] for r in rows], [r["validation_loss"] for r in rows], label="validation", marker=".")
    upper.axvline(best["step"], color="grey", linestyle=":", label=f"best, step {best['step']:.0f}")
    upper.set(ylabel="loss", title=tex(title))
    upper.legend()
    lower.plot([r["step"] for r in rows], [r["snr_db"] for r in rows], color="black", marker=".")
    lower.set(xlabel="step", ylabel="SNR dB")
    with written_whole(path) as part:
        figure.savefig(part, dpi=100, format="png")
