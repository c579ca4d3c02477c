"""`quant networks`: what there is to choose from, side by side: size, cost, quality, time on every board."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

import boards
from edge_runtime.errors import Failure
from quant.audit import budget, frame_time
from quant.inputs import trained
from quant.inputs.trained import Trained
from quant.network import registry
from quant.network.family import Network
from quant.quality import shipped
from quant.quality.shipped import ShippedPart


class PaperPart(msgspec.Struct, frozen=True, kw_only=True):
    """Where it was published, and its counts there."""

    citation: str
    url: str
    n_parameters: int | None
    mmacs_per_s: float | None


class TimePart(msgspec.Struct, frozen=True, kw_only=True):
    """A hop of 16 ms in 8 bits, in the board's own engine, estimated."""

    engine: str
    low_ms: float
    high_ms: float


class NetworkPart(msgspec.Struct, frozen=True, kw_only=True):
    """A network as it was published. `n_parameters`: with the fixed ERB matrices; `trained_sha256`: of the trained
    default that comes with this version; `pesq_wb`: measured of it, by system, on `pesq_date`; `times`: by board, None
    where its core or the network was not counted."""

    name: str
    title: str
    advice: str
    window: str
    recipe: str
    licence: str
    copyright: str
    n_learned: int
    n_parameters: int
    published_mmacs_per_s: float
    macs_frame: int
    state_bytes: int
    paper: PaperPart
    trained_sha256: str | None
    pesq_wb: dict[str, float] | None
    pesq_date: str | None
    times: dict[str, TimePart | None]


def parts() -> list[NetworkPart]:
    """Every network of the registry."""
    return [_part(network) for network in registry.NETWORKS.values()]


def _part(network: Network) -> NetworkPart:
    default = _default(network)
    known = _known(default) if default else None
    counted, paper = budget.for_target(None, network=network.name), network.paper
    return NetworkPart(
        name=network.name,
        title=network.title,
        advice=network.advice,
        window=network.window,
        recipe=network.recipe,
        licence=network.licence,
        copyright=network.copyright,
        n_learned=counted.published.n_learned,
        n_parameters=counted.published.n_parameters,
        published_mmacs_per_s=counted.published.mmacs_per_s,
        macs_frame=counted.totals.macs_frame,
        state_bytes=counted.totals.state_bytes,
        paper=PaperPart(
            citation=paper.citation,
            url=paper.url,
            n_parameters=paper.n_parameters,
            mmacs_per_s=paper.mmacs_per_s,
        ),
        trained_sha256=default.sha256 if default else None,
        pesq_wb=_pesq_wb(known) if known else None,
        pesq_date=known.date if known else None,
        times=dict(_times(network)),
    )


def _default(network: Network) -> Trained | None:
    try:
        return trained.load(trained.embedded(network))
    except Failure:
        return None


def _known(default: Trained) -> ShippedPart | None:
    """None: nobody measured these weights on these ranges."""
    ranges = hashlib.sha256(default.header.ranges.to_json()).hexdigest()
    return shipped.measured_of(default.sha256, ranges)


def _pesq_wb(known: ShippedPart) -> dict[str, float]:
    """System -> mean."""
    return {s.system: s.means["pesq"] for s in known.systems if "pesq" in s.means}


def _times(network: Network) -> Mapping[str, TimePart | None]:
    found: dict[str, TimePart | None] = {}
    for name in boards.names():
        board = boards.load(name)
        engine = frame_time.engine_of(board)
        rows = frame_time.estimates(board, network.name)
        own = (row for row in rows if (row.engine, row.precision) == (engine, "int8"))
        found[name] = next((TimePart(engine=engine, low_ms=row.low_ms, high_ms=row.high_ms) for row in own), None)
    return found
