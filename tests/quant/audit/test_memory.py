"""The memory plan: placements that cannot collide, and what the native engine sets aside, never less, a fifth more."""

from __future__ import annotations

import numpy as np
import pytest

from quant.audit.findings import MemoryPart
from quant.audit.memory import plan_memory
from quant.emit.native.emitter import emit_native
from quant.emit.native.file import HEADER
from quant.inputs.source import open_source
from quant.int8.plan import Plan
from quant.network.graph import Graph
from quant.network.gtcrn import Config, blank
from quant.network.passes import streaming_graph
from quant.ptq import quantize

SIZES = (
    {}, {"channels": 8}, {"channels": 12}, {"channels": 32}, {"n_dpgrnn": 1}, {"n_dpgrnn": 3}, {"dilations": (1, 2)},
)  # fmt: skip


def native_arena_bytes(graph: Graph, plan: Plan | None) -> int:
    """What the engine's own file asks for: `n_scratch_bytes` of `ed_describe`."""
    data = emit_native(graph, plan).data
    return int(np.frombuffer(data[: HEADER.itemsize], HEADER)["n_arena_bytes"][0])


def check_placement(memory: MemoryPart) -> None:
    for i, a in enumerate(memory.tensors):
        assert 0 <= a.offset <= memory.arena_bytes - a.n_bytes
        for b in memory.tensors[i + 1 :]:
            apart = a.offset + a.n_bytes <= b.offset or b.offset + b.n_bytes <= a.offset
            assert apart or not a.meets(b), f"{a.name} and {b.name}"
    assert memory.peak_live_bytes <= memory.arena_bytes


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_float_networks_of_any_sizes(sizes: dict[str, int]) -> None:
    graph = streaming_graph(blank(Config(**sizes)))  # type: ignore[arg-type]
    memory, native = plan_memory(graph), native_arena_bytes(graph, None)
    check_placement(memory)
    assert native <= memory.arena_bytes <= 1.2 * native


def test_the_trained_default_in_8_bits() -> None:
    source = open_source(None, None)
    assert source.ranges is not None
    quantized = quantize.requantize(source.graph, source.recipe, source.ranges)
    memory = plan_memory(quantized.graph, quantized.plan.precision)
    native = native_arena_bytes(quantized.graph, quantized.plan)
    check_placement(memory)
    assert native <= memory.arena_bytes <= 1.2 * native
    assert memory.peak_node == "dpgrnn1.inter_rnn"
    assert len(memory.live_bytes) == len(quantized.graph.nodes)


def test_a_value_lives_until_its_last_reader() -> None:
    graph = streaming_graph(blank())
    at = {node.name: i for i, node in enumerate(graph.nodes)}
    life = {tensor.name: tensor for tensor in plan_memory(graph).tensors}
    for name, tensor in life.items():
        for node in graph.consumers(name):
            assert tensor.first <= at[node.name] <= tensor.last, f"{name} read by {node.name}"
    spectrum = next(iter(graph.inputs))
    assert (life[spectrum].first, life[spectrum].last) == (0, len(graph.nodes) - 1)
