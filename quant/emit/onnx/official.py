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

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_runtime.manifest import StateEntry
from edge_runtime.stft import HOP_SAMPLES, SAMPLE_RATE_HZ, WINDOW_SAMPLES
from quant.emit.emitted import Emitted
from quant.emit.onnx.emitter import emit_onnx
from quant.int8.plan import Plan
from quant.network.graph import Graph, Node

RENAMED: Final = {"spectrum": "mix", "enhanced": "enh"}
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
    emitted = emit_onnx(graph, plan, "GTCRN, one frame, official signature")
    model, found = onnx.load_from_string(emitted.data), caches(graph)
    wrapped = _Wrapper(found, {state.name: state for state in emitted.states})
    wrapped.read()
    wrapped.write()
    body = model.graph
    _rename(body)
    nodes = [*wrapped.before, *body.node, *wrapped.after]
    inputs = [i for i in body.input if i.name == "mix"] + wrapped.ports("")
    outputs = [o for o in body.output if o.name == "enh"] + wrapped.ports("_out")
    made = helper.make_graph(nodes, "gtcrn", inputs, outputs, [*body.initializer, *wrapped.constants.values()])
    model.graph.CopyFrom(made)
    helper.set_model_props(model, metadata(found))
    onnx.checker.check_model(model, full_check=True)
    return Emitted(bytes(model.SerializeToString(deterministic=True)), (), emitted.constant_bytes)


def metadata(found: Caches) -> dict[str, str]:
    """What sherpa-onnx reads of a GTCRN model."""
    return {
        "model_type": "gtcrn",
        "version": "1",
        "sample_rate": str(SAMPLE_RATE_HZ),
        "n_fft": str(WINDOW_SAMPLES),
        "hop_length": str(HOP_SAMPLES),
        "window_length": str(WINDOW_SAMPLES),
        "window_type": "hann_sqrt",
        **{f"{cache}_shape": ",".join(map(str, shape)) for cache, shape in found.shapes.items()},
        "maintainer": "edge-denoise",
    }


def _state(node: Node) -> Any:
    assert node.state is not None
    return node.state


def _rename(body: Any) -> None:
    for node in body.node:
        for names in (node.input, node.output):
            names[:] = [RENAMED.get(name, name) for name in names]
    for port in (*body.input, *body.output):
        port.name = RENAMED.get(port.name, port.name)


class _Wrapper:
    """Operators before the body, which cut the caches into states, and behind it, which join them again."""

    def __init__(self, found: Caches, stored: dict[str, StateEntry]) -> None:
        self.found, self.stored = found, stored
        self.before: list[Any] = []
        self.after: list[Any] = []
        self.constants: dict[str, Any] = {}

    def ports(self, suffix: str) -> list[Any]:
        """The caches as inputs or outputs."""
        shapes = self.found.shapes
        return [helper.make_tensor_value_info(f"{c}{suffix}", TensorProto.FLOAT, shapes[c]) for c in CACHES]

    def read(self) -> None:
        """Caches -> states."""
        shape = self.found.shapes["conv_cache"]
        halves = ["conv_cache.encoder", "conv_cache.decoder"]
        self._op(self.before, "Reshape", ["conv_cache", self._ints((2, *shape[2:]))], ["conv_cache.halves"])
        self._op(self.before, "Split", ["conv_cache.halves", self._ints((1, 1))], halves, axis=0)
        for half, nodes in zip(halves, self.found.convolutions, strict=True):
            self._split(half, nodes, [_state(node).frames for node in nodes], 2)
        for cache, nodes in self._recurrent():
            rows = (len(nodes), _state(nodes[0]).bands, _state(nodes[0]).channels)
            self._op(self.before, "Reshape", [cache, self._ints(rows)], [f"{cache}.rows"])
            self._split(f"{cache}.rows", nodes, [1] * len(nodes), 0)

    def write(self) -> None:
        """States -> caches."""
        halves = []
        for half, nodes in zip(("encoder", "decoder"), self.found.convolutions, strict=True):
            halves.append(f"conv_cache_out.{half}")
            self._op(self.after, "Concat", self._dequantized(nodes), [halves[-1]], axis=2)
        self._op(self.after, "Concat", halves, ["conv_cache_out.halves"], axis=0)
        self._shaped("conv_cache_out.halves", "conv_cache")
        for cache, nodes in self._recurrent():
            self._op(self.after, "Concat", self._dequantized(nodes), [f"{cache}_out.rows"], axis=0)
            self._shaped(f"{cache}_out.rows", cache)

    def _recurrent(self) -> tuple[tuple[str, tuple[Node, ...]], ...]:
        return ("tra_cache", self.found.attention), ("inter_cache", self.found.recurrence)

    def _split(self, source: str, nodes: Sequence[Node], sizes: Sequence[int], axis: int) -> None:
        """Parts of a cache, quantized where the model keeps the state in 8 bits."""
        names = [_state(node).name for node in nodes]
        parts = [name if self.stored[name].scale is None else f"{name}.float" for name in names]
        if len(parts) == 1:
            self._op(self.before, "Identity", [source], parts)
        else:
            self._op(self.before, "Split", [source, self._ints(sizes)], parts, axis=axis)
        for name, part in zip(names, parts, strict=True):
            if part != name:
                self._op(self.before, "QuantizeLinear", [part, *self._grid(self.stored[name])], [name])

    def _dequantized(self, nodes: Sequence[Node]) -> list[str]:
        """The states behind the body, in float."""
        outs = []
        for node in nodes:
            name, out = _state(node).name, f"{_state(node).name}_out"
            if self.stored[name].scale is not None:
                self._op(self.after, "DequantizeLinear", [out, *self._grid(self.stored[name])], [f"{out}.float"])
                out = f"{out}.float"
            outs.append(out)
        return outs

    def _shaped(self, source: str, cache: str) -> None:
        self._op(self.after, "Reshape", [source, self._ints(self.found.shapes[cache])], [f"{cache}_out"])

    def _grid(self, state: StateEntry) -> tuple[str, str]:
        return self._constant([state.scale], "float32", ()), self._constant([state.zero_point], state.dtype, ())

    def _ints(self, values: Sequence[int]) -> str:
        return self._constant(values, "int64", (len(values),))

    def _constant(self, values: Sequence[Any], dtype: str, shape: tuple[int, ...]) -> str:
        array = np.asarray(values, dtype).reshape(shape)
        key = f"{dtype}{shape}{array.tobytes().hex()}"
        if key not in self.constants:
            self.constants[key] = numpy_helper.from_array(array, f"io{len(self.constants)}")
        return str(self.constants[key].name)

    def _op(self, where: list[Any], kind: str, inputs: Sequence[str], outs: Sequence[str], **attrs: Any) -> None:
        name = f"io.{len(self.before) + len(self.after)}"
        where.append(helper.make_node(kind, list(inputs), list(outs), name=name, **attrs))
