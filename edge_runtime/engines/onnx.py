"""ONNX Runtime: states alternate between two banks of arrays; a step neither copies nor allocates them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edge_runtime.engines.interface import (
    ENHANCED,
    SPECTRUM,
    SPECTRUM_SHAPE,
    Port,
    StateArray,
    StatefulModel,
    check_ports,
    start_value,
    state_out,
)
from edge_runtime.engines.onnx_file import names_files
from edge_runtime.errors import Failure
from edge_runtime.manifest import ModelEntry
from edge_runtime.quiet import quiet_stderr
from edge_runtime.stft import N_BINS, Float32Array

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(int8)": "int8",
    "tensor(uint8)": "uint8",
    "tensor(int16)": "int16",
}


class OnnxEngine(StatefulModel):
    """Two bindings built once: one reads bank 0 and writes bank 1, the other the reverse."""

    name = "onnx"

    def __init__(self, session: Any, entry: ModelEntry, precision: str, package: str) -> None:
        super().__init__(entry, precision, package)
        self._run = session.run_with_iobinding
        self._spectrum = np.zeros(SPECTRUM_SHAPE, np.float32)
        self._enhanced = np.zeros(SPECTRUM_SHAPE, np.float32)
        self._banks = tuple({state.name: start_value(state) for state in entry.states} for _ in range(2))
        self._bindings = tuple(self._bind(session, now) for now in range(2))
        self._now = 0  # the bank that holds the current states
        self._spectrum_2d = self._spectrum.reshape(N_BINS, 2)
        self._enhanced_2d = self._enhanced.reshape(N_BINS, 2)

    def _bind(self, session: Any, now: int) -> Any:
        binding = session.io_binding()
        binding.bind_ortvalue_input(SPECTRUM, _shared(self._spectrum))
        binding.bind_ortvalue_output(ENHANCED, _shared(self._enhanced))
        for name in self._banks[now]:
            binding.bind_ortvalue_input(name, _shared(self._banks[now][name]))
            binding.bind_ortvalue_output(state_out(name), _shared(self._banks[1 - now][name]))
        return binding

    def step(self, spectrum: Float32Array, enhanced: Float32Array) -> None:
        self._spectrum_2d[:] = spectrum
        self._run(self._bindings[self._now])
        self._now = 1 - self._now
        enhanced[:] = self._enhanced_2d

    def _current(self) -> Mapping[str, StateArray]:
        return self._banks[self._now]


def open_model(model: bytes, entry: ModelEntry, precision: str, n_threads: int) -> OnnxEngine:
    """Load a model for one stream. Failure: ONNX Runtime refuses it, it is not what the manifest says, or it names
    other files, which no hash covers."""
    _require_whole(model, entry)
    with quiet_stderr():  # importing it warns about missing GPUs on some boards
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        session = _session(onnxruntime, model, entry, n_threads)
    check_ports(entry, _ports(session.get_inputs()), _ports(session.get_outputs()))
    return OnnxEngine(session, entry, precision, f"onnxruntime {onnxruntime.__version__}")


def _require_whole(model: bytes, entry: ModelEntry) -> None:
    remedy = "build it again with `quant build`"
    try:
        elsewhere = names_files(model)
    except ValueError as error:
        raise Failure(f"is no ONNX model ({error})", where=entry.file, remedy=remedy) from error
    if elsewhere:
        raise Failure("names other files for its weights, which are not read", where=entry.file, remedy=remedy)


def _session(onnxruntime: Any, model: bytes, entry: ModelEntry, n_threads: int) -> Any:
    try:
        return onnxruntime.InferenceSession(model, _options(onnxruntime, n_threads), providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no narrower base
        reason = str(error).partition("\n")[0]
        raise Failure(
            f"ONNX Runtime {onnxruntime.__version__} cannot load it ({reason})",
            where=entry.file,
            remedy="build it again with `quant build`, or update onnxruntime",
        ) from error


def _options(onnxruntime: Any, n_threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3  # errors only
    # A frame every 16 ms: waiting threads must sleep, not burn the board's cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _ports(nodes: list[Any]) -> dict[str, Port]:
    return {node.name: Port(tuple(node.shape), _DTYPES.get(node.type, node.type)) for node in nodes}


def _shared(array: StateArray) -> Any:
    """An OrtValue over the memory of the array, which the engine keeps alive: nothing is copied."""
    import onnxruntime

    return onnxruntime.OrtValue.ortvalue_from_numpy(array)
