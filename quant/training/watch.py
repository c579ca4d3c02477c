"""What is seen of a run while it goes on: a bar a step, or a line every few seconds; PESQ; the curves."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from edge_runtime.quiet import Progress, ticking
from edge_runtime.stft import SAMPLE_RATE_HZ, WindowName
from quant.training import losses
from quant.training.curves import draw
from quant.training.history import History

LINE_EVERY_S: Final = 4.0  # where there is no bar: nobody should wonder whether it still runs
DRAW_EVERY_S: Final = 10.0  # a picture takes most of a second, and a validation of a small run less
TICK_S: Final = 0.5
BAR: Final = "step {n_fmt} of {total_fmt} |{bar}| {elapsed}, {remaining} left{postfix}"


class Watch:
    """For a run from step `first` to `n_steps`. `progress` takes whole lines, above the bar if there is one."""

    def __init__(self, progress: Progress, first: int, n_steps: int, curves: Path, title: str, *, quiet: bool) -> None:
        """`curves`: the picture of all validations, seconds late at most and whole when the run ends; `quiet`: of
        another process, or for nobody."""
        self._progress, self._first, self._n_steps, self._quiet = progress, first, n_steps, quiet
        self._curves, self._title = curves, title
        self._start = self._last = self._drawn = time.monotonic()
        self._undrawn: History | None = None
        self._told = f"step {first} of {n_steps}"
        self._bar: Any = None
        self._ticks: AbstractContextManager[None] = nullcontext() if quiet else ticking(self._tick, TICK_S)

    def __enter__(self) -> Watch:
        if not self._quiet and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(initial=self._first, total=self._n_steps, bar_format=BAR, file=sys.stderr, leave=False)
        self._ticks.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._ticks.__exit__(*error)
        if self._bar is not None:
            self._bar.close()
        self._draw()

    def say(self, line: str) -> None:
        """A line of its own."""
        if self._bar is not None:
            self._bar.clear()
        self._last = time.monotonic()
        self._progress(line)

    def step(self, step: int, loss: float, rate: float) -> None:
        """After a step: the loss of its batch, the learning rate."""
        self._draw_if_due()
        now = time.monotonic()
        pace = (step - self._first) / max(now - self._start, 1e-9)
        told = f"loss {loss:.4f}, rate {rate:.1e}, {pace:.2f} steps/s"
        if self._bar is not None:
            self._bar.set_postfix_str(told, refresh=False)
            self._bar.update(step - self._bar.n)
            return
        self._told = f"step {step} of {self._n_steps}: {told}{left((self._n_steps - step) / pace)}"
        if not self._quiet and now - self._last >= LINE_EVERY_S:
            self.say(self._told)

    def validated(self, history: History) -> None:
        """After a validation: the curves as they are now."""
        if not self._quiet:
            self._undrawn = history
        self._draw_if_due()

    def _draw_if_due(self) -> None:
        if time.monotonic() - self._drawn >= DRAW_EVERY_S:
            self._draw()

    def _draw(self) -> None:
        if self._undrawn is not None:
            draw(self._undrawn, self._curves, self._title)
            self._undrawn, self._drawn = None, time.monotonic()

    def _tick(self) -> None:
        """The bar's clock goes on; without a bar a step, or a validation, that takes long is said to go on."""
        if self._bar is not None:
            self._bar.refresh()
        elif time.monotonic() - self._last >= LINE_EVERY_S:
            self.say(f"{self._told}, still at work")


def left(seconds: float) -> str:
    """What a line says of the time to come."""
    return f", about {seconds / 60:.0f} min left" if seconds >= 60 else f", about {seconds:.0f} s left"


def pesq_is_here() -> bool:
    """Whether it can be measured; nothing is imported."""
    return find_spec("pesq") is not None


def mean_pesq(sounds: Tensor, clean: Tensor, window: WindowName) -> float | None:
    """Wide-band PESQ of spectra (clips, 2, frames, 257), the mean over clips with speech; None where there is none."""
    from pesq import PesqError, pesq

    found = list[float]()
    pairs = zip(*(losses.samples(each.cpu(), window).numpy() for each in (clean, sounds)), strict=True)
    for reference, heard in pairs:
        try:
            found.append(pesq(SAMPLE_RATE_HZ, reference.astype(np.float32), heard.astype(np.float32), "wb"))
        except (PesqError, ValueError):  # no speech in it, or too short
            continue
    return float(np.mean(found)) if found else None


@torch.no_grad()
def enhanced_pesq(model: torch.nn.Module, noisy: Tensor, clean: Tensor, window: WindowName) -> float | None:
    """Of what a model makes of noisy spectra."""
    enhanced, _ = model(noisy)
    return mean_pesq(enhanced, clean, window)
