"""The official four-input signature of a streaming network, around a model of ours, and what sherpa-onnx asks for.

    mix (1, 257, 1, 2)  -> enh (1, 257, 1, 2)
    three caches        -> CACHE_out             which states lie in which, the network says (`network.family.Cache`)

    layout of a cache   shape                                  its states
    convolutions        (2, 1, channels, frames, bands)        two sides, each along its frames
    recurrent           GTCRN: (2, blocks, 1, 1, channels) of one band, else (nodes, 1, bands, channels)
    flat                (1, numbers)                           one after another, as (channels, frames, bands) or rows

All float32, zero at the start. States that the model keeps in 8 bits pass through their own grid on the way in and out:
a dequantized value is quantized to the number that it came from, so that the outputs are those of our own signature.

Source: names and shapes of the official `gtcrn_simple.onnx` and `ulunas_stream_simple.onnx`; metadata keys of
sherpa-onnx's GTCRN model loader.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Final

from onnx import TensorProto

from edge_runtime.stft import HOP_SAMPLES, SAMPLE_RATE_HZ, WINDOW_SAMPLES, WindowName
from quant.emit.emitted import Emitted
from quant.emit.onnx.emitter import write
from quant.emit.onnx.file import CHANNELS_FIRST, CHANNELS_LAST, OnnxFile
from quant.int8.plan import Plan
from quant.int8.qparams import QParams
from quant.network import registry
from quant.network.family import Cache
from quant.network.graph import Graph, Node, State

RENAMED: Final = {"spectrum": "mix", "enhanced": "enh"}
WINDOW_TYPES: Final[dict[WindowName, str]] = {"sqrt_hann": "hann_sqrt", "hann": "hann"}  # as sherpa-onnx calls them


class Held:
    """A cache of one graph: the states in it, and its shape."""

    def __init__(self, cache: Cache, graph: Graph) -> None:
        self.name, self.layout, self.sides = cache.name, cache.layout, cache.sides(graph)
        self.states = [_state(node) for side in self.sides for node in side]

    @property
    def shape(self) -> tuple[int, ...]:
        """As the official model has it."""
        first = self.states[0]
        if self.layout == "flat":
            return (1, sum(_size(state) for state in self.states))
        if self.layout == "convolutions":
            frames = sum(_state(node).frames for node in self.sides[0])
            return (len(self.sides), 1, first.channels, frames, first.bands)
        if first.bands == 1:  # gates of the encoder, then of the decoder
            return (2, len(self.states) // 2, 1, 1, first.channels)
        return (len(self.states), 1, first.bands, first.channels)


def held(graph: Graph) -> list[Held]:
    """Every state of a streaming graph in an official cache. ValueError: one that has no place."""
    found = [Held(cache, graph) for cache in registry.load(graph.network).caches]
    if sorted(s for cache in found for s in cache.states) != sorted(graph.states):
        raise ValueError("the graph has states that the official signature has no place for")
    return found


def emit_official(graph: Graph, plan: Plan | None = None) -> Emitted:
    """The ONNX model of `emit_onnx` with the official signature and metadata."""
    found = held(graph)
    file = _OfficialFile(found)
    write(graph, plan, file)
    file.write_caches()
    data = file.to_bytes(registry.title(graph), "one frame, official signature", metadata(found, graph))
    return Emitted(data, (), file.constant_bytes, window=graph.window)


def metadata(found: Sequence[Held], graph: Graph) -> dict[str, str]:
    """What sherpa-onnx reads of a model."""
    return {
        "model_type": graph.network,
        "version": "1",
        "sample_rate": str(SAMPLE_RATE_HZ),
        "n_fft": str(WINDOW_SAMPLES),
        "hop_length": str(HOP_SAMPLES),
        "window_length": str(WINDOW_SAMPLES),
        "window_type": WINDOW_TYPES[graph.window],
        **{f"{cache.name}_shape": ",".join(map(str, cache.shape)) for cache in found},
        "maintainer": "edge-denoise",
    }


def _state(node: Node) -> State:
    assert node.state is not None
    return node.state


def _size(state: State) -> int:
    return prod(state[1:])


class _OfficialFile(OnnxFile):
    """Its states are parts of the caches."""

    def __init__(self, found: Sequence[Held]) -> None:
        super().__init__()
        self.found = found
        self.flat = {state.name for cache in found if cache.layout == "flat" for state in cache.states}
        self.parts: dict[str, str] = {}  # state -> the float value of its part of a cache
        self.grids: dict[str, QParams | None] = {}  # state -> its own grid, once the model reads it

    def input(self, name: str, shape: Sequence[int], kind: int = TensorProto.FLOAT) -> str:
        """The spectrum; the caches come with it, split into states."""
        made = super().input(RENAMED[name], shape, kind)
        self.read_caches()
        return made

    def output(self, name: str, shape: Sequence[int], kind: int = TensorProto.FLOAT) -> str:
        """The enhanced spectrum."""
        return super().output(RENAMED[name], shape, kind)

    def state_in(self, name: str, shape: Sequence[int], q: QParams | None) -> str:
        """A part of a cache; quantized, and channels last, where the model keeps the state in 8 bits."""
        self.grids[name] = q
        part = self.parts[name]
        if name in self.flat:
            first = shape if q is None else (1, shape[3], *shape[1:3])
            part = self.op("Reshape", [part, self.ints(*first)])
        if q is None:
            return part
        return str(self.op("Transpose", [self.quantized(part, q)], perm=CHANNELS_LAST))

    def state_out(self, name: str, shape: Sequence[int], q: QParams | None) -> str:
        """What `write_caches` puts into a cache."""
        return f"{name}_out"

    def read_caches(self) -> None:
        """Caches -> states."""
        inputs = [OnnxFile.input(self, cache.name, cache.shape) for cache in self.found]
        for cache, source in zip(self.found, inputs, strict=True):
            if cache.layout == "flat":
                self._split(source, cache.states, [_size(state) for state in cache.states], 1)
            elif cache.layout == "convolutions":
                self._split_sides(cache, source)
            else:
                rows = self.ints(len(cache.states), cache.states[0].bands, cache.states[0].channels)
                self._split(self.op("Reshape", [source, rows]), cache.states, [1] * len(cache.states), 0)

    def _split_sides(self, cache: Held, source: str) -> None:
        n_sides = len(cache.sides)
        whole = self.op("Reshape", [source, self.ints(n_sides, *cache.shape[2:])])
        sides = self.op("Split", [whole, self.ints(*[1] * n_sides)], n_out=n_sides, axis=0)
        for side, nodes in zip(sides, cache.sides, strict=True):
            states = [_state(node) for node in nodes]
            self._split(side, states, [state.frames for state in states], 2)

    def write_caches(self) -> None:
        """States -> caches."""
        for cache in self.found:
            if cache.layout == "flat":
                rows = [self.op("Reshape", [value, self.ints(1, -1)]) for value in self._floats(cache.states)]
                self._write(cache, self.op("Concat", rows, axis=1))
            elif cache.layout == "convolutions":
                states = ([_state(node) for node in side] for side in cache.sides)
                sides = [self.op("Concat", self._floats(side), axis=2) for side in states]
                self._write(cache, self.op("Concat", sides, axis=0))
            else:
                self._write(cache, self.op("Concat", self._floats(cache.states), axis=0))

    def _split(self, source: str, states: Sequence[State], sizes: Sequence[int], axis: int) -> None:
        parts: Any = [source]
        if len(states) > 1:
            parts = self.op("Split", [source, self.ints(*sizes)], n_out=len(states), axis=axis)
        self.parts |= {state.name: part for state, part in zip(states, parts, strict=True)}

    def _floats(self, states: Sequence[State]) -> list[str]:
        return [self._float(f"{state.name}_out", self.grids[state.name]) for state in states]

    def _float(self, value: str, q: QParams | None) -> str:
        if q is None:
            return value
        return str(self.op("Transpose", [self.dequantized(value, q)], perm=CHANNELS_FIRST))

    def _write(self, cache: Held, value: str) -> None:
        self.op("Reshape", [value, self.ints(*cache.shape)], out=super().output(f"{cache.name}_out", cache.shape))
