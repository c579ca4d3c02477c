"""Engines: one step of the model for one spectrum, behind one small protocol.

interface  what every engine is and checks
choice     which there are, and which to take
apart      what may die, in a process of its own
trial      wheels of others, before they are used
native     C of this project, compiled when the package is installed
onnx_file  an ONNX model read without its package: files it names, kinds of its weights
onnx       ONNX Runtime                                             the extra `onnx`
tflite     ai-edge-litert, tflite-runtime or tensorflow             the extra `litert`
deviation  why an engine does not reach them on this processor
golden     the vectors that every engine must reach
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from edge_runtime.engines.choice import AUTO, ENGINES, available, check_usable, choose
from edge_runtime.errors import Failure

if TYPE_CHECKING:
    from edge_runtime.engines.interface import Engine
    from edge_runtime.manifest import Artifact, ModelEntry
    from edge_runtime.stft import WindowName

__all__ = ["AUTO", "ENGINES", "available", "choose", "open_engine", "open_model"]


def open_engine(artifact: Artifact, engine: str = AUTO, precision: str = "int8", n_threads: int = 1) -> Engine:
    """Load one model of the artifact; `auto`, of the engine or the precision, is as `choose` says, and the engine's
    `reason` why.

    Failure: no such model in the artifact, no package to run it, or a file that is not what was built.
    """
    chosen = choose(artifact, engine, precision, n_threads)
    check_usable(chosen.engine)
    entry = artifact.model(chosen.engine, chosen.precision)
    window = artifact.manifest.window
    opened = open_model(artifact.read(entry.file), entry, chosen.engine, chosen.precision, n_threads, window)
    opened.reason = chosen.reason
    return opened


def open_model(
    model: bytes,
    entry: ModelEntry,
    engine: str,
    precision: str,
    n_threads: int = 1,
    window: WindowName = "sqrt_hann",
) -> Engine:
    """Load a model from its bytes; `window`: what its network hears spectra through.

    Failure: no package to run it, or it is not what its entry says.
    """
    check_usable(engine)
    try:
        module = import_module(ENGINES[engine].module)
        opened = cast("Engine", module.open_model(model, entry, precision, n_threads))
    except ImportError as error:
        remedy = f"reinstall it: {ENGINES[engine].repair()}"
        raise Failure(f"the {engine} engine is installed but broken ({error})", remedy=remedy) from error
    opened.window = window
    return opened
