"""Which values of a frame live at the same time, and the arena that holds them: peak activation memory.

    memory = plan_memory(graph, precision)      of `quant.int8.plan.prepare`, or of a float streaming graph
    memory.arena_bytes                          what an engine has to set aside besides weights and states

Nodes run in the order of the graph. A value lives from the node that makes it to its last reader; the spectrum and the
enhanced one belong to the caller and live all the frame. A slice is a window on its source; a LeakyReLU that alone
reads a value overwrites it. Tensors are placed by size, the largest first, each at the lowest offset that is free
while it lives: the greedy order of TensorFlow Lite Micro's memory planner. A test holds the result to what the native
engine sets aside: never less, and at most a fifth more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from quant.audit.findings import MemoryPart, Tensor
from quant.network.graph import Graph, Node

ALIGN_BYTES: Final = 64  # a cache line; vector loads of every engine are satisfied by it
BEYOND_BYTES: Final = 16  # a last vector may be stored beyond the last row
FLOAT_BYTES, INT8_BYTES = 4, 1
GATES: Final = 3  # reset, update, new


def plan_memory(graph: Graph, precision: Mapping[str, str] | None = None) -> MemoryPart:
    """Lifetimes and placement for one frame of a streaming graph; what `precision` does not name is float."""
    precision = precision or {}
    tensors = _placed(_tensors(graph, precision))
    live = tuple(sum(t.n_bytes for t in tensors if t.first <= i <= t.last) for i in range(len(graph.nodes)))
    peak = max(range(len(live)), key=live.__getitem__)
    arena = max(t.offset + t.n_bytes for t in tensors) + ALIGN_BYTES  # loads may read beyond the last tensor
    return MemoryPart(
        arena_bytes=arena,
        peak_live_bytes=live[peak],
        peak_node=graph.nodes[peak].name,
        live_bytes=live,
        tensors=tuple(tensors),
    )


def _tensors(graph: Graph, precision: Mapping[str, str]) -> list[Tensor]:
    """Everything that needs memory: values, float copies of 8-bit ones, and what a node needs only while it runs."""
    owner = _owners(graph, precision)
    at = {node.name: i for i, node in enumerate(graph.nodes)} | dict.fromkeys(graph.inputs, 0)
    first, last = dict[str, int](), dict[str, int]()
    copied = dict[str, tuple[int, int]]()
    for name, i in at.items():
        first.setdefault(owner[name], i)
        last[owner[name]] = max(last.get(owner[name], 0), i)
    for i, node in enumerate(graph.nodes):
        for name in node.inputs:
            if _int8(precision, name) and precision.get(node.name) == "float" and owner[node.name] != owner[name]:
                copied[name] = (copied.get(name, (i, i))[0], i)  # dequantized for its float readers
            last[owner[name]] = max(last[owner[name]], i)
    for name in (*graph.inputs, owner[graph.output]):  # the caller's
        first[name], last[name] = 0, len(graph.nodes) - 1
    values = [_tensor(n, _value_bytes(graph, precision, n), first[n], last[n]) for n in first]
    copies = [_tensor(f"{n} (float)", _value_bytes(graph, {}, n), *span) for n, span in copied.items()]
    inside = [
        _tensor(f"{node.name} (workspace {k})", n_bytes, at[node.name], at[node.name])
        for node in graph.nodes
        for k, n_bytes in enumerate(_workspaces(graph, node, precision))
    ]
    return [*values, *copies, *inside]


def _tensor(name: str, n_bytes: int, first: int, last: int) -> Tensor:
    """Not placed yet."""
    return Tensor(name=name, n_bytes=n_bytes, first=first, last=last, offset=0)


def _owners(graph: Graph, precision: Mapping[str, str]) -> dict[str, str]:
    """Value -> the value whose memory it lies in: its own, that of what it slices, or of what it overwrites."""
    owner = {name: name for name in graph.inputs}
    for node in graph.nodes:
        source = node.inputs[0]
        same_type = _int8(precision, node.name) == _int8(precision, source)
        overwrites = node.kind == "leaky_relu" and len(graph.consumers(source)) == 1
        inherits = same_type and (node.kind == "slice" or overwrites)
        owner[node.name] = owner[source] if inherits else node.name
    return owner


def _workspaces(graph: Graph, node: Node, precision: Mapping[str, str]) -> tuple[int, ...]:
    """A recurrent node's gates, three times its hidden size: from the input over all bands, and from the state, over
    all bands where bands are independent (`gru`), over one in each direction where they follow each other (`bigru`)."""
    if node.kind not in ("gru", "bigru"):
        return ()
    shape = graph.shapes[node.name]
    row = GATES * shape.channels * (INT8_BYTES if _int8(precision, node.name) else FLOAT_BYTES)
    from_state = shape.bands if node.kind == "gru" else 2
    return _up(shape.bands * row + BEYOND_BYTES), _up(from_state * row + BEYOND_BYTES)


def _value_bytes(graph: Graph, precision: Mapping[str, str], name: str) -> int:
    """With the rows of zeros around it that a convolution over bands reads."""
    shape = graph.shapes[name]
    n = (shape.bands + 2 * _halo_bands(graph, name)) * shape.channels
    return _up(n * (INT8_BYTES if _int8(precision, name) else FLOAT_BYTES) + BEYOND_BYTES)


def _halo_bands(graph: Graph, name: str) -> int:
    kernels = [graph.params[n.param("weight")].shape[-1] for n in graph.consumers(name) if n.kind == "conv"]
    passed_on = [_halo_bands(graph, n.name) for n in graph.consumers(name) if n.kind in ("leaky_relu", "slice")]
    return max([k // 2 for k in kernels] + passed_on, default=0)


def _int8(precision: Mapping[str, str], name: str) -> bool:
    return precision.get(name) == "int8"


def _placed(tensors: list[Tensor]) -> list[Tensor]:
    """Offsets, the largest first; in the order in which they come to life."""
    placed = list[Tensor]()
    for tensor in sorted(tensors, key=lambda t: (-t.n_bytes, t.first, t.name)):
        offset = 0
        for other in sorted((p for p in placed if p.meets(tensor)), key=lambda p: p.offset):
            if offset + tensor.n_bytes <= other.offset:
                break
            offset = max(offset, other.offset + other.n_bytes)
        placed.append(replace(tensor, offset=offset))
    return sorted(placed, key=lambda t: (t.first, t.offset))


def _up(n_bytes: int) -> int:
    return -(-n_bytes // ALIGN_BYTES) * ALIGN_BYTES
