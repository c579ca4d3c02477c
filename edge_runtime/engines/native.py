"""The native engine behind the protocol of engines: NumPy's views of what `edge_runtime.native.Stream` owns."""

from __future__ import annotations

from typing import Final

import numpy as np

from edge_runtime.engines.interface import AS_GIVEN, StateArray
from edge_runtime.errors import Failure
from edge_runtime.manifest import ModelEntry
from edge_runtime.native import Stream
from edge_runtime.stft import HOP_SAMPLES, N_BINS, SQRT_HANN, Float32Array, Repairs, WindowName

STREAM: Final = "stream"  # the one state: everything that is carried, as bytes


class NativeEngine:
    """One stream."""

    name = "native"
    reason = AS_GIVEN
    window: WindowName = SQRT_HANN  # for who asks; a hop goes through the one that the weights name

    def __init__(self, stream: Stream, entry: ModelEntry, precision: str) -> None:
        if stream.precision != precision:
            what = f"holds {stream.precision} weights, not {precision}"
            raise Failure(what, where=entry.file, remedy="build it again")
        self.precision, self.isa = precision, stream.isa
        self.n_stream_bytes, self.n_scratch_bytes = stream.n_stream_bytes, stream.n_scratch_bytes
        self.package = f"edge-denoise {stream.version} ({stream.isa})"
        shared = memoryview(stream.samples_in), memoryview(stream.samples_out)
        samples_in, samples_out = (np.frombuffer(floats, np.float32) for floats in shared)
        self._spectrum, self._enhanced = samples_in.reshape(N_BINS, 2), samples_out.reshape(N_BINS, 2)
        self._hop, self._hop_out = samples_in[:HOP_SAMPLES], samples_out[:HOP_SAMPLES]
        self._carried = np.frombuffer(memoryview(stream.carried), np.uint8)
        self._stream = stream

    def step(self, spectrum: Float32Array, enhanced: Float32Array) -> None:
        self._spectrum[:] = spectrum
        self._stream.step()
        enhanced[:] = self._enhanced

    def process(self, hop: Float32Array, hop_out: Float32Array) -> Repairs:
        self._hop[:] = hop
        repaired = self._stream.process()
        hop_out[:] = self._hop_out
        return Repairs(repaired & 0xFFFF, repaired >> 16) if repaired else _NONE

    def reset(self) -> None:
        self._stream.reset()

    def states(self) -> dict[str, StateArray]:
        return {STREAM: self._carried.copy()}

    def set_states(self, states: dict[str, StateArray]) -> None:
        given = {name: (array.shape, array.dtype.name) for name, array in states.items()}
        if given != {STREAM: (self._carried.shape, "uint8")}:
            raise ValueError(f"states are {given}, the model has {self.n_stream_bytes} bytes of {STREAM}")
        self._carried[:] = states[STREAM]


_NONE: Final = Repairs()


def open_model(model: bytes, entry: ModelEntry, precision: str, n_threads: int, isa: str | None = None) -> NativeEngine:
    """Load weights for one stream; it runs on one thread whatever `n_threads`. `isa` takes the kernels by name.

    Failure: the library refuses the weights.
    """
    return NativeEngine(Stream(model, isa=isa, where=entry.file), entry, precision)
