"""Where an artifact comes from, without a place or a date in it: the same inputs say the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

import msgspec

from calibration.ranges import Ranges
from quant.inputs import assets
from quant.inputs.source import Source

_BEFORE_TRAINING: Final = "weights before training SHA-256"
RANGES_SHA256: Final = "ranges.json SHA-256"  # of `Provenance.inputs`


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Versions of what built it, the command that builds it again, hashes of what went in, and whose that is."""

    built_with: dict[str, str]
    command: str
    inputs: dict[str, str]
    licences: tuple[str, ...]


def provenance(
    target: str,
    source: Source,
    ranges: Ranges,
    ranges_json: bytes,
    given: Mapping[str, bool],
    built_with: Mapping[str, str],
) -> Provenance:
    """The report's part. `given`: weights, speech, noise -> whether the user named them."""
    made = ranges.provenance
    trained = source.ranges is not None
    options = "" if trained else f" --recipe {source.recipe.name}"
    if not trained and source.graph.window != source.family.window:
        options += f" --window {source.graph.window.replace('_', '-')}"
    return Provenance(
        built_with=dict(built_with),
        command=f"quant build --target {target} --checkpoint {source.name}{options} --ranges ranges.json",
        inputs={
            "weights SHA-256": source.sha256,
            _BEFORE_TRAINING if trained else "ranges measured on SHA-256": made.checkpoint_sha256,
            RANGES_SHA256: hashlib.sha256(ranges_json).hexdigest(),
            "calibration speech SHA-256": made.speech_sha256,
            "calibration noise SHA-256": made.noise_sha256,
            "calibration": f"{made.observer}, {made.mix.n_clips} clips of {made.mix.clip_ms} ms, seed {made.mix.seed}",
        },
        licences=_licences(source, given),
    )


def is_trained(found: Provenance) -> bool:
    """Whether the weights were trained for their recipe, not only calibrated."""
    return _BEFORE_TRAINING in found.inputs


def _licences(source: Source, given: Mapping[str, bool]) -> tuple[str, ...]:
    """What came with the files; what the user named has the licence that the user knows."""
    if source.attribution:
        return (source.attribution,)
    mine = [
        f"{kind.capitalize()}: given by the one who built this; so is the licence" for kind, own in given.items() if own
    ]
    pulled = [
        f"{asset.kind.capitalize()}: {asset}, {asset.licence}, {asset.attribution}"
        for asset in assets.pinned()
        if not given[asset.kind]
    ]
    return (*mine, *pulled)
