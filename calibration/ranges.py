"""Every tap's range and how it came about <-> one JSON file.

    {"format": "edge-denoise ranges", "version": 1, "provenance": {...}, "values": {"TAP": {...}, ...}}

Keys are sorted and floats are written so that they read back exactly: the same ranges are the same bytes.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import msgspec

from calibration.mixing import Mix
from calibration.observers import Observer
from edge_runtime import bounded
from edge_runtime.errors import Failure
from edge_runtime.stft import WindowName
from edge_runtime.whole_file import written_whole

FORMAT = "edge-denoise ranges"
VERSION = 1
MOST_BYTES = 16 * bounded.MIB  # of a file; a build writes 0.1 MB
N_BITS = 8
WIDEST, NARROWEST = 2.0**40, 2.0**-40  # steps of 8 bits, their inverses and products, are floats well within these

_REMEDY = "leave --ranges out to calibrate anew"


class TapRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `n_values` values of a tap gave: the range chosen for `n_bits`, and the extremes seen."""

    low: float
    high: float
    n_values: int
    min: float
    max: float
    n_bits: int = 8
    symmetric: bool = False

    @classmethod
    def observed(cls, observer: Observer, n_bits: int = 8, symmetric: bool = False) -> TapRange:
        """The range `observer` chooses; fails when it saw nothing."""
        low, high = observer.range(n_bits, symmetric)
        seen = observer.histogram
        return cls(low, high, seen.n_values, seen.min, seen.max, n_bits, symmetric)


class Provenance(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How ranges came about; the corpora by `Corpus.fingerprint`. `window`: what the network heard them through."""

    observer: str
    mix: Mix
    speech_sha256: str
    noise_sha256: str
    checkpoint_sha256: str
    window: WindowName = "sqrt_hann"


class Ranges(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Tap name -> range, and value name -> peak of each channel before scale migration.

    Fails on a range that cannot be quantized: infinite, empty, or without 0."""

    values: dict[str, TapRange]
    provenance: Provenance
    channel_peaks: dict[str, tuple[float, ...]] = {}
    format: str = FORMAT
    version: int = VERSION

    def __post_init__(self) -> None:
        for name, tap in self.values.items():
            fault = _fault(tap)
            if fault:
                raise Failure(f"tap '{name}': {fault}", remedy=_REMEDY)

    def to_json(self) -> bytes:
        """What `load` reads; the same ranges give the same bytes."""
        text = json.dumps(msgspec.to_builtins(self), indent=1, sort_keys=True, allow_nan=False) + "\n"
        return text.encode()

    def require_usable(self) -> None:
        """Failure: a range is of other numbers than a network computes, or for another number of bits than a plan's."""
        for name, tap in self.values.items():
            if tap.n_bits != N_BITS:
                raise Failure(f"tap '{name}' is for {tap.n_bits} bits, not {N_BITS}", remedy=_REMEDY)
            if max(-tap.low, tap.high) > WIDEST or tap.high - tap.low < NARROWEST:
                raise Failure(f"tap '{name}': no network computes {tap.low} to {tap.high}", remedy=_REMEDY)

    def save(self, path: str | Path) -> None:
        """Write the file whole or not at all."""
        with written_whole(Path(path)) as part:
            part.write_bytes(self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Ranges:
        """Read and check what `save` wrote; fails in one line on anything else."""
        return _decoded(bounded.read(Path(path), MOST_BYTES, _REMEDY), Path(path))


class _Head(msgspec.Struct):
    format: str
    version: int


def _decoded(content: bytes, path: Path) -> Ranges:
    try:
        head = msgspec.json.decode(content, type=_Head)
        if head.format != FORMAT:
            raise Failure(f"is '{head.format}', not '{FORMAT}'", remedy=_REMEDY)
        if head.version != VERSION:
            raise Failure(f"has format version {head.version}, this program reads {VERSION}", remedy=_REMEDY)
        return msgspec.json.decode(content, type=Ranges)
    except msgspec.ValidationError as error:
        raise Failure(f"is not a ranges file ({error})", where=path, remedy=_REMEDY) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Failure(f"is not JSON ({error})", where=path, remedy=_REMEDY) from error
    except Failure as failure:
        raise Failure(str(failure), where=path) from failure


def _fault(tap: TapRange) -> str | None:
    """Why a range cannot be quantized, in a few words; None if it can."""
    bounds = {"low": tap.low, "high": tap.high, "min": tap.min, "max": tap.max}
    for name, bound in bounds.items():
        if not math.isfinite(bound):
            return f"{name} is {bound}"
    for low, high in (("low", "high"), ("min", "max")):
        if bounds[low] > bounds[high]:
            return f"{low} {bounds[low]} is above {high} {bounds[high]}"
    if not tap.low <= 0 <= tap.high:
        return f"{tap.low} to {tap.high} leaves out 0"
    return "is empty" if tap.low == tap.high else None
