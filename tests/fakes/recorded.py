"""What a runtime makes of every tensor, frame after frame. As a program it does so on another processor
(`processors.py`), with NumPy and the runtimes, nothing of the compiler: `operators.py` judges it here."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_runtime.engines import open_model
from edge_runtime.engines.golden import stream
from edge_runtime.engines.interface import Engine
from edge_runtime.engines.tflite import TfliteEngine
from edge_runtime.manifest import ModelEntry, StateEntry
from edge_runtime.native import isas
from edge_runtime.quiet import quiet_stderr
from edge_runtime.stft import Float32Array

Array = NDArray[Any]
Tensors = dict[Any, Array]  # by name in ONNX, by number in TFLite


class Shown(NamedTuple):
    """A model whose 8-bit tensors are outputs. `states`: each with what names its input and its output;
    `constants`: numbers of the tensors that stay."""

    data: bytes
    spectrum: Any
    states: tuple[tuple[StateEntry, Any, Any], ...]
    made: tuple[Any, ...]
    constants: tuple[Any, ...] = ()


class Asked(NamedTuple):
    """A model to run, `shown` over a few frames, and as it is over a second of sound."""

    data: bytes
    entry: ModelEntry
    shown: Shown | None
    few: Float32Array
    sound: Float32Array


def interpreter(data: bytes, *, builtin: bool) -> Any:
    """TFLite with XNNPACK, as boards run it, or with its plain C++ kernels."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if builtin else OpResolverType.AUTO
    with quiet_stderr():
        made = Interpreter(model_content=data, num_threads=1, experimental_op_resolver_type=resolver)
        made.allocate_tensors()
    return made


def engine(runtime: str, data: bytes, entry: ModelEntry) -> Engine:
    if runtime == "tflite_builtin":
        return TfliteEngine(interpreter(data, builtin=True), entry, "int8", runtime)
    return open_model(data, entry, runtime, "int8")


def recorded(runtime: str, shown: Shown, frames: Float32Array) -> list[Tensors]:
    """Every frame's inputs, states as they came in, and what was made; constants with the first."""
    if runtime == "onnx":
        return _onnx(shown, frames)
    return _tflite(shown, frames, builtin=runtime != "tflite")


def _onnx(shown: Shown, frames: Float32Array) -> list[Tensors]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(shown.data, options, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_outputs()]
    states = {into: np.full(entry.shape, entry.zero_point, entry.dtype) for entry, into, _ in shown.states}
    found = []
    for frame in frames:
        given = {shown.spectrum: frame[None, :, None], **states}
        made = dict(zip(names, session.run(None, given), strict=True))
        found.append({**given, **made})
        states = {into: made[out] for _, into, out in shown.states}
    return found


def _tflite(shown: Shown, frames: Float32Array, *, builtin: bool) -> list[Tensors]:
    run = interpreter(shown.data, builtin=builtin)
    for entry, into, _ in shown.states:
        run.set_tensor(into, np.full(entry.shape, entry.zero_point, entry.dtype))
    found, kept = [], (*shown.made, shown.spectrum, *(into for _, into, _ in shown.states))
    for frame in frames:
        run.set_tensor(shown.spectrum, frame[None, :, None])
        run.invoke()
        found.append({index: run.get_tensor(index) for index in kept})
        for _, into, out in shown.states:
            run.set_tensor(into, run.get_tensor(out))
    found[0].update({index: run.get_tensor(index) for index in shown.constants})
    return found


def main(folder: Path) -> None:
    """`asked.pkl`: runtime -> Asked. Writes `isas.json`, the native kernels that this processor runs, fastest first;
    RUNTIME.pkl, what was recorded; RUNTIME.npy, the sound."""
    asked: dict[str, Asked] = pickle.loads((folder / "asked.pkl").read_bytes())
    for runtime, one in asked.items():
        if one.shown is not None:
            (folder / f"{runtime}.pkl").write_bytes(pickle.dumps(recorded(runtime, one.shown, one.few)))
        np.save(folder / f"{runtime}.npy", stream(engine(runtime, one.data, one.entry), one.sound))
    (folder / "isas.json").write_text(json.dumps(list(isas())))


if __name__ == "__main__":
    from recorded import main as imported_main  # the classes in the pickle are this module's, not __main__'s

    imported_main(Path(sys.argv[1]))
