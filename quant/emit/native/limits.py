"""What the native engine's loader takes (`edge_runtime/native/engine/ed_check.c`), said before a file is made."""

from __future__ import annotations

import math
from typing import Final

from edge_runtime.errors import Failure
from quant.network.graph import Graph

MOST_CHANNELS: Final = 64  # of a bidirectional GRU: its gates lie in registers
MOST_DILATION: Final = 64  # frames
MOST_NUMBERS: Final = 32_768  # of one value
MOST_PERIOD: Final = 2**32 - 1  # frames after which every history is at its first slot again
# Of the engine's ED_MOST_... half the work and a little less memory: elements, curves and scratch need the rest.
MOST_PRODUCTS: Final = 1 << 24  # of a frame
MOST_STATE_BYTES: Final = 30 << 20
MOST_WEIGHT_BYTES: Final = 15 << 20
FLOAT_BYTES: Final = 4


def require(graph: Graph) -> None:
    """Failure when the streaming graph is more than the engine takes."""
    if wide := [n.name for n in graph.nodes if n.kind == "bigru" and graph.shapes[n.name].channels > MOST_CHANNELS]:
        _refuse(f"{wide[0]} has {graph.shapes[wide[0]].channels} channels, it takes {MOST_CHANNELS}")
    if large := [name for name, shape in graph.shapes.items() if shape.channels * shape.bands > MOST_NUMBERS]:
        _refuse(f"{large[0]} has {graph.shapes[large[0]]}, it takes {MOST_NUMBERS} numbers")
    dilations = [n.attrs["dilation"] for n in graph.nodes if n.kind == "conv" and n.state is not None]
    if max(dilations, default=1) > MOST_DILATION:
        _refuse(f"a dilation of {max(dilations)} frames, it takes {MOST_DILATION}")
    period = math.lcm(*(n.state.frames for n in graph.nodes if n.kind == "conv" and n.state is not None))
    if period > MOST_PERIOD:
        together = f"dilations {sorted(set(dilations))} come round together after {period} frames"
        _refuse(f"{together}, it counts to {MOST_PERIOD}")
    _require_budget(graph)


def _require_budget(graph: Graph) -> None:
    """Products, states and weights of the whole network."""
    states = [n.state for n in graph.nodes if n.state is not None]
    n_state_bytes = FLOAT_BYTES * sum(s.frames * s.bands * s.channels for s in states)
    n_weight_bytes = FLOAT_BYTES * sum(p.size for p in graph.params.values())
    for n, unit, most in (
        (_products(graph), "products a frame", MOST_PRODUCTS),
        (n_state_bytes, "bytes of states", MOST_STATE_BYTES),
        (n_weight_bytes, "bytes of weights", MOST_WEIGHT_BYTES),
    ):
        if n > most:
            _refuse(f"{n:,} {unit}, it takes {most:,}")


def _products(graph: Graph) -> int:
    multiply = [n for n in graph.nodes if n.kind in ("conv", "gru", "bigru")]
    names = [(graph.shapes[n.name].bands, p) for n in multiply for parts in n.params.values() for p in parts]
    return sum(bands * graph.params[p].size for bands, p in names if graph.params[p].ndim > 1)


def _refuse(what: str) -> None:
    raise Failure(f"too much for the native engine: {what}", remedy="train a smaller network")
