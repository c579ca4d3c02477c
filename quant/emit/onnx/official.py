"""The official four-input signature of the streaming GTCRN, around a model of ours, and what sherpa-onnx asks for.

    mix (1, 257, 1, 2)                                  -> enh (1, 257, 1, 2)
    conv_cache (2, 1, channels, frames, bands)          -> conv_cache_out     encoder, decoder; all dilations in a row
    tra_cache (2, blocks, 1, 1, 2 * half the channels)  -> tra_cache_out      encoder, decoder; in execution order
    inter_cache (DPGRNNs, 1, bands, channels)           -> inter_cache_out

All float32, zero at the start. States that the model keeps in 8 bits pass through their own grid on the way in and out:
a dequantized value is quantized to the number that it came from, so that the outputs are those of our own signature.

Source: names and shapes of the official `gtcrn_simple.onnx`; metadata keys of sherpa-onnx's GTCRN model loader.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from onnx import TensorProto

from edge_runtime.stft import HOP_SAMPLES, SAMPLE_RATE_HZ, WINDOW_SAMPLES, WindowName
from quant.emit.emitted import Emitted
from quant.emit.onnx.emitter import write
from quant.emit.onnx.file import OnnxFile
from quant.int8.plan import Plan
from quant.int8.qparams import QParams
from quant.network.graph import Graph, Node

RENAMED: Final = {"spectrum": "mix", "enhanced": "enh"}
WINDOW_TYPES: Final[dict[WindowName, str]] = {"sqrt_hann": "hann_sqrt", "hann": "hann"}  # as sherpa-onnx calls them
CACHES: Final = ("conv_cache", "tra_cache", "inter_cache")


@dataclass(frozen=True)
class Caches:
    """Which states lie in which cache, in the order in which they lie there."""

    convolutions: tuple[tuple[Node, ...], ...]  # of the encoder, of the decoder: by rising dilation index
    attention: tuple[Node, ...]  # of the encoder, then of the decoder
    recurrence: tuple[Node, ...]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Cache -> its shape."""
        conv, tra, inter = (_state(nodes[0]) for nodes in (self.convolutions[0], self.attention, self.recurrence))
        n_frames = sum(_state(node).frames for node in self.convolutions[0])
        return {
            "conv_cache": (2, 1, conv.channels, n_frames, conv.bands),
            "tra_cache": (2, len(self.attention) // 2, 1, 1, tra.channels),
            "inter_cache": (len(self.recurrence), 1, inter.bands, inter.channels),
        }


def caches(graph: Graph) -> Caches:
    """Sort the states of a streaming graph into the official caches."""
    with_state = [node for node in graph.nodes if node.state is not None]
    convolutions = [node for node in with_state if node.kind == "conv"]
    encoder = tuple(node for node in convolutions if node.name.startswith("encoder."))
    decoder = tuple(node for node in reversed(convolutions) if node.name.startswith("decoder."))
    attention = tuple(node for node in with_state if node.name.endswith(".att_gru"))
    recurrence = tuple(node for node in with_state if node.name.endswith(".inter_rnn"))
    found = Caches((encoder, decoder), attention, recurrence)
    if len(encoder) + len(decoder) + len(attention) + len(recurrence) != len(with_state):
        raise ValueError("the graph has states that the official signature has no place for")
    return found


def emit_official(graph: Graph, plan: Plan | None = None) -> Emitted:
    """The ONNX model of `emit_onnx` with the official signature and metadata."""
    found = caches(graph)
    file = _OfficialFile(found)
    write(graph, plan, file)
    file.write_caches()
    data = file.to_bytes("GTCRN, one frame, official signature", metadata(found, graph.window))
    return Emitted(data, (), file.constant_bytes, window=graph.window)


def metadata(found: Caches, window: WindowName) -> dict[str, str]:
    """What sherpa-onnx reads of a GTCRN model."""
    return {
        "model_type": "gtcrn",
        "version": "1",
        "sample_rate": str(SAMPLE_RATE_HZ),
        "n_fft": str(WINDOW_SAMPLES),
        "hop_length": str(HOP_SAMPLES),
        "window_length": str(WINDOW_SAMPLES),
        "window_type": WINDOW_TYPES[window],
        **{f"{cache}_shape": ",".join(map(str, shape)) for cache, shape in found.shapes.items()},
        "maintainer": "edge-denoise",
    }


def _state(node: Node) -> Any:
    assert node.state is not None
    return node.state


class _OfficialFile(OnnxFile):
    """Its states are parts of the caches."""

    def __init__(self, found: Caches) -> None:
        super().__init__()
        self.found = found
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
        """A part of a cache, quantized where the model keeps the state in 8 bits."""
        self.grids[name] = q
        return self.quantized(self.parts[name], q) if q else self.parts[name]

    def state_out(self, name: str, shape: Sequence[int], q: QParams | None) -> str:
        """What `write_caches` puts into a cache."""
        return f"{name}_out"

    def read_caches(self) -> None:
        """Caches -> states."""
        shapes = self.found.shapes
        conv, *others = [OnnxFile.input(self, cache, shapes[cache]) for cache in CACHES]
        halves = self.op("Reshape", [conv, self.ints(2, *shapes["conv_cache"][2:])])
        sides = self.op("Split", [halves, self.ints(1, 1)], n_out=2, axis=0)
        for side, nodes in zip(sides, self.found.convolutions, strict=True):
            self._split(side, nodes, [_state(node).frames for node in nodes], 2)
        for cache, nodes in zip(others, self._recurrent(), strict=True):
            rows = self.ints(len(nodes), _state(nodes[0]).bands, _state(nodes[0]).channels)
            self._split(self.op("Reshape", [cache, rows]), nodes, [1] * len(nodes), 0)

    def write_caches(self) -> None:
        """States -> caches."""
        sides = [self.op("Concat", self._floats(nodes), axis=2) for nodes in self.found.convolutions]
        self._write("conv_cache", self.op("Concat", sides, axis=0))
        for cache, nodes in zip(CACHES[1:], self._recurrent(), strict=True):
            self._write(cache, self.op("Concat", self._floats(nodes), axis=0))

    def _recurrent(self) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
        return self.found.attention, self.found.recurrence

    def _split(self, source: str, nodes: Sequence[Node], sizes: Sequence[int], axis: int) -> None:
        parts = [source]
        if len(nodes) > 1:
            parts = self.op("Split", [source, self.ints(*sizes)], n_out=len(nodes), axis=axis)
        self.parts |= {_state(node).name: part for node, part in zip(nodes, parts, strict=True)}

    def _floats(self, nodes: Sequence[Node]) -> list[str]:
        names = [_state(node).name for node in nodes]
        return [self.dequantized(f"{n}_out", q) if (q := self.grids[n]) else f"{n}_out" for n in names]

    def _write(self, cache: str, value: str) -> None:
        shape = self.found.shapes[cache]
        self.op("Reshape", [value, self.ints(*shape)], out=super().output(f"{cache}_out", shape))
