"""The path of a search, as report.json holds it: structs alone, so that reading it is quick."""

from __future__ import annotations

import msgspec


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One raise: `macs` left int8 with it, `int8_share` of all MACs stay; PESQ and SNR against float, as built.

    `lost` is the most PESQ that may be lost, with 95 % confidence. The first step is the start: nothing raised.
    """

    group: str
    precision: str
    macs: int
    int8_share: float
    d_pesq: float
    snr_db: float
    d_pesq_low: float
    d_pesq_high: float
    lost: float


class SearchPart(msgspec.Struct, frozen=True, kw_only=True):
    """Every step, in order."""

    path: tuple[Step, ...]
