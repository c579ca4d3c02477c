"""Another way to the same file: the float graph through TensorFlow and its TFLiteConverter, against our own writer.

Slow (half a minute), and tensorflow is an extra: `pip install -e .[tensorflow]`, then `pytest -m slow`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_runtime.engines.golden import snr_db, stream
from edge_runtime.engines.tflite import open_model
from edge_runtime.manifest import ModelEntry
from edge_runtime.stft import Float32Array
from quant.emit.emitted import Emitted
from quant.emit.tflite.emitter import emit_tflite
from quant.network.graph import Graph, Node
from quant.network.gru_weights import GruWeights, merged

pytestmark = pytest.mark.slow
tf = pytest.importorskip("tensorflow")

# Two compilers, two orders of float32 sums: 136 dB was measured.
FLOOR_DB = 100
# Ours shares constants and leaves names out: 0.69 was measured.
OURS_AT_MOST = 0.8  # of the converter's bytes


class TensorflowGraph:
    """Runs one frame of a graph in TensorFlow; values are (1, 1, bands, channels), one method a node kind."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def __call__(self, spectrum: Any, states: dict[str, Any]) -> dict[str, Any]:
        """(1, 257, 1, 2) and the states by name -> `enhanced` and `<state>_out`."""
        self.states, self.made = states, dict[str, Any]()
        values = {name: tf.transpose(spectrum, (0, 2, 1, 3)) for name in self.graph.inputs}
        for node in self.graph.nodes:
            values[node.name] = getattr(self, node.kind)(node, *(values[i] for i in node.inputs))
        return {"enhanced": tf.transpose(values[self.graph.output], (0, 2, 1, 3)), **self.made}

    def param(self, node: Node, role: str) -> Any:
        return self.graph.params[node.param(role)]

    def features(self, node: Node, x: Any) -> Any:
        return tf.concat([tf.sqrt(tf.reduce_sum(x * x, 3, keepdims=True) + 1e-12), x], 3)

    def merge_bands(self, node: Node, x: Any) -> Any:
        n_low = node.attrs["n_low"]
        return tf.concat([x[:, :, :n_low], tf.einsum("atbc,ob->atoc", x[:, :, n_low:], self.param(node, "weight"))], 2)

    split_bands = merge_bands

    def edge_bands(self, node: Node, x: Any, source: Any) -> Any:
        low, high = (source[:, :, i] @ w.T for i, w in zip((0, -1), self.param(node, "weight"), strict=True))
        return tf.concat([x[:, :, :1] + low[:, :, None], x[:, :, 1:-1], x[:, :, -1:] + high[:, :, None]], 2)

    def conv(self, node: Node, x: Any) -> Any:
        a = node.attrs
        if node.state is not None:
            x = tf.concat([self.states[node.state.name], x], 1)
            self.made[f"{node.state.name}_out"] = x[:, 1:]
        x = tf.pad(x, ((0, 0), (0, 0), (a["pad"], a["pad"]), (0, 0)))
        weight = self.param(node, "weight").transpose(2, 3, 1, 0)
        options = {"strides": (1, a["stride"]), "dilations": (a["dilation"], 1), "padding": "VALID"}
        parts = zip(tf.split(x, a["groups"], 3), np.split(weight, a["groups"], 3), strict=True)
        return tf.concat([tf.nn.conv2d(part, w, **options) for part, w in parts], 3) + self.param(node, "bias")

    def leaky_relu(self, node: Node, x: Any) -> Any:
        return tf.nn.leaky_relu(x, node.attrs["slope"])

    def slice(self, node: Node, x: Any) -> Any:
        return x[..., node.attrs["start"] : node.attrs["stop"]]

    def shuffle(self, node: Node, x: Any, y: Any) -> Any:
        return tf.reshape(tf.stack([x, y], 4), (1, 1, x.shape[2], -1))

    def interleave(self, node: Node, x: Any) -> Any:
        n_bands, groups = x.shape[2], node.attrs["groups"]
        y = tf.transpose(tf.reshape(x, (n_bands, groups, 2, -1)), (0, 2, 1, 3))
        return tf.reshape(y, (1, 1, 2 * n_bands, -1))[:, :, : node.attrs["n_bands"]]

    def mean_square(self, node: Node, x: Any) -> Any:
        return tf.reduce_mean(x * x, 2, keepdims=True)

    def sigmoid(self, node: Node, x: Any) -> Any:
        return tf.sigmoid(x)

    def tanh(self, node: Node, x: Any) -> Any:
        return tf.tanh(x)

    def gate(self, node: Node, x: Any, gate: Any) -> Any:
        return x * gate

    def add(self, node: Node, x: Any, y: Any) -> Any:
        return x + y

    def layer_norm(self, node: Node, x: Any) -> Any:
        centred = x - tf.reduce_mean(x)
        scaled = centred * tf.math.rsqrt(tf.reduce_mean(centred * centred) + node.attrs["eps"])
        return scaled * self.param(node, "weight") + self.param(node, "bias")

    def mask(self, node: Node, x: Any, m: Any) -> Any:
        (re, im), (m_re, m_im) = tf.unstack(x, axis=3), tf.unstack(m, axis=3)
        return tf.stack([re * m_re - im * m_im, im * m_re + re * m_im], 3)

    def gru(self, node: Node, x: Any) -> Any:
        assert node.state is not None
        h = step(merged(self.graph, node), x[0, 0], self.states[node.state.name][0, 0])[None, None]
        self.made[f"{node.state.name}_out"] = h
        return h

    def bigru(self, node: Node, x: Any) -> Any:
        w = merged(self.graph, node)
        both = tf.concat([x, x[:, :, ::-1]], 3)[0, 0]
        h, ys = tf.zeros((1, w.hidden)), []
        for band in range(both.shape[0]):
            h = step(w, both[band : band + 1], h)
            ys.append(h)
        forward, backward = tf.split(tf.concat(ys, 0), 2, 1)
        return tf.concat([forward, backward[::-1]], 1)[None, None]


def step(w: GruWeights, x: Any, h: Any) -> Any:
    """One step of a GRU over (rows, channels)."""
    n_rz = 2 * w.hidden
    gates_x, gates_h = x @ w.w_ih.T + w.b_ih, h @ w.w_hh.T + w.b_hh
    r, z = tf.split(tf.sigmoid(gates_x[:, :n_rz] + gates_h[:, :n_rz]), 2, 1)
    n = tf.tanh(gates_x[:, n_rz:] + r * gates_h[:, n_rz:])
    return n + z * (h - n)


def converted(graph: Graph) -> bytes:
    """The graph as TensorFlow's converter writes it."""
    run = TensorflowGraph(graph)
    shapes = {s.name: (1, s.frames, s.bands, s.channels) for s in graph.states}
    inputs = {name.replace(".", "_"): tf.TensorSpec(shape) for name, shape in shapes.items()}

    @tf.function
    def frame(**given: Any) -> dict[str, Any]:
        made = run(given["spectrum"], {name: given[name.replace(".", "_")] for name in shapes})
        return {name.replace(".", "_"): value for name, value in made.items()}

    module = tf.Module()
    concrete = frame.get_concrete_function(spectrum=tf.TensorSpec((1, 257, 1, 2)), **inputs)
    data: bytes = tf.lite.TFLiteConverter.from_concrete_functions([concrete], module).convert()
    return data


def streamed(data: bytes, frames: Float32Array) -> Float32Array:
    """Frames through the converter's file, in TensorFlow's own interpreter."""
    interpreter = tf.lite.Interpreter(model_content=data, num_threads=1)
    run = interpreter.get_signature_runner()
    inputs = run.get_input_details()
    states = {name: np.zeros(d["shape"], np.float32) for name, d in inputs.items() if name != "spectrum"}
    enhanced = np.empty_like(frames)
    for given, out in zip(frames, enhanced, strict=True):
        made = run(spectrum=given[None, :, None], **states)
        out[:] = made["enhanced"][0, :, 0]
        states = {name: made[f"{name}_out"] for name in states}
    return enhanced


@pytest.fixture(scope="module")
def ours(graph: Graph) -> Emitted:
    return emit_tflite(graph)


def test_our_writer_and_tensorflows_converter_agree(graph: Graph, ours: Emitted, spectra_3_s: Float32Array) -> None:
    theirs = converted(graph)
    entry = ModelEntry(file="ours", states=ours.states, golden_snr_floor_db=0)
    found = stream(open_model(ours.data, entry, "fp32", 1), spectra_3_s)
    assert snr_db(streamed(theirs, spectra_3_s), found) >= FLOOR_DB
    assert len(ours.data) <= OURS_AT_MOST * len(theirs)


def test_tensorflows_interpreter_takes_our_file(ours: Emitted, spectra_3_s: Float32Array) -> None:
    """The third of the interpreters a board may have."""
    interpreter = tf.lite.Interpreter(model_content=ours.data, num_threads=1)
    interpreter.allocate_tensors()
    assert {d["name"] for d in interpreter.get_input_details()} == {"spectrum", *(s.name for s in ours.states)}
