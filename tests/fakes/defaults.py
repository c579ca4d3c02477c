"""The trained defaults as the native engine computes them."""

from __future__ import annotations

from functools import cache

from quant.inputs.source import open_source
from quant.int8.plan import Plan
from quant.int8.roundings import with_fewer_roundings
from quant.network.graph import Graph
from quant.ptq.quantize import requantize


@cache
def native_default(network: str) -> tuple[Graph, Plan]:
    """Graph and plan of a network's default."""
    source = open_source(None, None, network=network)
    assert source.ranges is not None
    quantized = requantize(source.graph, source.recipe, source.ranges)
    return with_fewer_roundings(quantized.graph, quantized.plan)
