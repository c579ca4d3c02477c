"""Builds of seconds in place of a quarter of a minute: few short clips, 16 golden frames, no page but where asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from calibration.mixing import Mix
from quant.build.settings import Effort, Outputs, Search, Settings
from quant.inputs.source import Inputs

TOY = Effort(mix=Mix(n_clips=4, clip_ms=1500), golden_samples=4_000, n_accuracy_clips=1, accuracy_samples=4_000)


def toy(
    target: str,
    out: Path | None = None,
    *,
    inputs: Inputs | None = None,
    search: Search | None = None,
    effort: Effort = TOY,
    html: bool = False,
    **outputs: Any,
) -> Settings:
    """What to build into `out`; `outputs` as of `Outputs`."""
    return Settings(
        target=target,
        inputs=inputs or Inputs(),
        search=search,
        effort=effort,
        outputs=Outputs(folder=out, html=html, **outputs),
    )
