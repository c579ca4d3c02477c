"""TensorFlow Lite, by whichever interpreter is installed; states are copied from outputs back to inputs."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

import numpy as np

from edge_runtime.engines.interface import (
    ENHANCED,
    SPECTRUM,
    Port,
    StateArray,
    StatefulModel,
    check_ports,
    state_out,
)
from edge_runtime.errors import Failure
from edge_runtime.extras import pip_install
from edge_runtime.manifest import ModelEntry
from edge_runtime.quiet import quiet_stderr
from edge_runtime.stft import N_BINS, Float32Array

# Package -> its module with `Interpreter`; lightest and newest first.
_INTERPRETERS: Final = {
    "ai_edge_litert": "ai_edge_litert.interpreter",
    "tflite_runtime": "tflite_runtime.interpreter",
    "tensorflow": "tensorflow.lite",
}


class TfliteEngine(StatefulModel):
    """The interpreter keeps the states in its input tensors between steps.

    `set_tensor` and `get_tensor` cost as much as a sixth of a step, so tensors are read and written in place. Their
    memory moves only in `allocate_tensors` and `resize_tensor_input`, which this class, the interpreter's only owner,
    never calls; `_memory` checks what it hands out.
    """

    name = "tflite"

    def __init__(self, interpreter: Any, entry: ModelEntry, precision: str, package: str) -> None:
        super().__init__(entry, precision, package)
        self._interpreter = interpreter
        inputs = _by_name(interpreter.get_input_details())
        outputs = _by_name(interpreter.get_output_details())
        check_ports(entry, _ports(inputs), _ports(outputs))
        interpreter.invoke()  # delegates settle their memory in the first run
        self._spectrum = _memory(interpreter, inputs[SPECTRUM]).reshape(N_BINS, 2)
        self._enhanced = _memory(interpreter, outputs[ENHANCED]).reshape(N_BINS, 2)
        self._states = {state.name: _memory(interpreter, inputs[state.name]) for state in entry.states}
        made = {name: _memory(interpreter, outputs[state_out(name)]) for name in self._states}
        self._feedback = [(_as_bytes(self._states[name]), _as_bytes(made[name])) for name in self._states]
        self.reset()

    def step(self, spectrum: Float32Array, enhanced: Float32Array) -> None:
        self._spectrum[:] = spectrum
        self._interpreter.invoke()
        enhanced[:] = self._enhanced
        for state, made in self._feedback:
            state[:] = made

    def _current(self) -> Mapping[str, StateArray]:
        return self._states


def _as_bytes(memory: StateArray) -> memoryview:
    """To be copied: NumPy decides at every assignment anew how to make it, for 2,700 instructions on a Cortex-A72."""
    return memory.reshape(-1).view(np.uint8).data


def _memory(interpreter: Any, detail: dict[str, Any]) -> StateArray:
    """The memory of a tensor, without the reference that makes the interpreter refuse to run."""
    view = interpreter.tensor(detail["index"])()
    pointer, shape, dtype = view.ctypes.data, view.shape, view.dtype
    raw = (ctypes.c_uint8 * view.nbytes).from_address(pointer)
    del view
    memory: StateArray = np.frombuffer(raw, dtype).reshape(shape)
    if memory.tobytes() != interpreter.get_tensor(detail["index"]).tobytes():  # bytes: NaN is not equal to itself
        raise RuntimeError(f"tensor {detail['name']} does not lie where the interpreter says")
    return memory


def open_model(model: bytes, entry: ModelEntry, precision: str, n_threads: int) -> TfliteEngine:
    """Load a model for one stream. Failure: the interpreter refuses it, or the manifest says otherwise."""
    package = next(name for name in _INTERPRETERS if find_spec(name))
    with quiet_stderr():  # it announces its delegate, and NumPy its opinion of old modules
        module = import_module(_INTERPRETERS[package])
        label = f"{package} {import_module(package).__version__}"
        try:
            interpreter = module.Interpreter(model_content=model, num_threads=n_threads)
            interpreter.allocate_tensors()
        except Exception as error:  # RuntimeError, ValueError or SystemError, by package and version
            raise _refused(error, label, entry) from error
    return TfliteEngine(interpreter, entry, precision, label)


def _refused(error: Exception, label: str, entry: ModelEntry) -> Failure:
    if isinstance(error, SystemError):  # tflite-runtime 2.14 with NumPy 2: "_ARRAY_API not found"
        return Failure(
            f"{label} does not work with NumPy {np.__version__}",
            remedy=f"{pip_install('numpy<2')}, or {pip_install('ai-edge-litert')} in its place",
        )
    reason = str(error).partition("\n")[0] or type(error).__name__
    remedy = "build it again with `quant build`, or update the interpreter"
    return Failure(f"{label} cannot load it ({reason})", where=entry.file, remedy=remedy)


def _by_name(details: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Tensor details by the name in the graph, without what converters put around it."""
    return {d["name"].removeprefix("serving_default_").removesuffix(":0"): d for d in details}


def _ports(details: dict[str, dict[str, Any]]) -> dict[str, Port]:
    return {name: Port(tuple(int(n) for n in d["shape"]), np.dtype(d["dtype"]).name) for name, d in details.items()}
