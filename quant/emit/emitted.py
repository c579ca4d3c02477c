"""What an emitter hands over: the model file, its states as stored, and which operator works for which node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_runtime.manifest import StateEntry
from edge_runtime.stft import SQRT_HANN, WindowName
from quant.int8.qparams import QParams

UINT8_SHIFT = 128  # int8 grid -> uint8 grid


@dataclass(frozen=True)
class Emitted:
    """`constant_bytes`: weights, biases and shapes in the file; the rest of it describes operators and tensors.
    `op_nodes`: for each operator, in order, the graph node it works for; empty where names tell. `window`: of the
    spectra that go in and come out.
    """

    data: bytes
    states: tuple[StateEntry, ...]
    constant_bytes: int
    op_nodes: tuple[str, ...] = ()
    window: WindowName = SQRT_HANN


def state_entry(name: str, shape: Sequence[int], q: QParams | None, *, unsigned: bool = False) -> StateEntry:
    """The manifest's entry of a state: float without a grid, else int8 or uint8."""
    if q is None:
        return StateEntry(name=name, shape=tuple(shape), dtype="float32")
    zero_point = q.zero_point + (UINT8_SHIFT if unsigned else 0)
    return StateEntry(
        name=name,
        shape=tuple(shape),
        dtype="uint8" if unsigned else "int8",
        scale=q.scale,
        zero_point=zero_point,
    )
