"""Engines: one step of the model for one spectrum, behind one small protocol.

native    C of this project, compiled when the package is installed
onnx      ONNX Runtime                                             pip install 'edge-denoise[onnx]'
tflite    ai-edge-litert, tflite-runtime or tensorflow             pip install 'edge-denoise[litert]'
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, cast, runtime_checkable

from edge_runtime.engines.choice import Choice, fastest_measured
from edge_runtime.errors import Failure

if TYPE_CHECKING:
    from edge_runtime.engines.interface import StateArray
    from edge_runtime.manifest import Artifact, ModelEntry
    from edge_runtime.stft import Float32Array, Repairs


class Engine(Protocol):
    """A loaded model with its states, ready for the next frame. One stream; not for two threads at once."""

    name: str
    precision: str
    package: str  # name and version of what runs the model

    def step(self, spectrum: Float32Array, enhanced: Float32Array) -> None:
        """Enhance one frame, (257, 2) into (257, 2), float32 and C-contiguous, and advance the states."""

    def reset(self) -> None:
        """Every state back to its start."""

    def states(self) -> dict[str, StateArray]:
        """Copies of the current states as stored."""

    def set_states(self, states: dict[str, StateArray]) -> None:
        """Continue from `states`. ValueError: a name, shape or dtype is not the model's."""


@runtime_checkable
class HopEngine(Protocol):
    """An engine that does the Fourier transforms too."""

    def process(self, hop: Float32Array, hop_out: Float32Array) -> Repairs:
        """One hop in, (256,), one hop out, (256,), LATENCY_SAMPLES behind; input repaired as `denoiser.repair` does."""


class _Kind(NamedTuple):
    """How an engine is found: any one of `packages` will do; `extra` installs the first, None is compiled with us."""

    module: str
    packages: tuple[str, ...]
    extra: str | None

    def remedy(self, option: str = "") -> str:
        """What brings the engine; `option` goes to pip."""
        if self.extra is None:
            return "install a C compiler (Debian: apt install gcc libc6-dev) and edge-denoise again"
        return f"`pip install {option}'edge-denoise[{self.extra}]'`"


ENGINES: Final = {
    "native": _Kind("edge_runtime.engines.native", ("edge_runtime.native.libedge_denoise",), None),
    "onnx": _Kind("edge_runtime.engines.onnx", ("onnxruntime",), "onnx"),
    "tflite": _Kind("edge_runtime.engines.tflite", ("ai_edge_litert", "tflite_runtime", "tensorflow"), "litert"),
}
AUTO: Final = "auto"


def available() -> list[str]:
    """Engines whose package is installed; nothing heavy is imported."""
    return [name for name, kind in ENGINES.items() if any(find_spec(package) for package in kind.packages)]


def open_engine(artifact: Artifact, engine: str = AUTO, precision: str = "int8", n_threads: int = 1) -> Engine:
    """Load one model of the artifact; `auto` is as `choose` says.

    Failure: no such model in the artifact, no package to run it, or a file that is not what was built.
    """
    name = choose(artifact, engine, precision).engine
    _check_usable(name)
    entry = artifact.model(name, precision)
    return open_model(artifact.read(entry.file), entry, name, precision, n_threads)


def open_model(model: bytes, entry: ModelEntry, engine: str, precision: str, n_threads: int = 1) -> Engine:
    """Load a model from its bytes. Failure: no package to run it, or it is not what its entry says."""
    _check_usable(engine)
    try:
        module = import_module(ENGINES[engine].module)
        return cast(Engine, module.open_model(model, entry, precision, n_threads))
    except ImportError as error:
        remedy = f"reinstall it: {ENGINES[engine].remedy('--force-reinstall ')}"
        raise Failure(f"the {engine} engine is installed but broken ({error})", remedy=remedy) from error


def _check_usable(name: str) -> None:
    if name not in ENGINES:
        raise Failure(f"unknown engine {name!r}", remedy=f"choose one of: {', '.join((AUTO, *ENGINES))}")
    if name not in available():
        raise _not_installed([name])


def choose(artifact: Artifact, engine: str = AUTO, precision: str = "int8") -> Choice:
    """The engine to open, and why: as asked; else the fastest that was measured here, the board's, or what there is.

    Failure: `auto` and nothing that could run the artifact is installed.
    """
    if engine != AUTO:
        return Choice(engine, "as asked")
    manifest = artifact.manifest
    built = [name for name in ENGINES if precision in manifest.models.get(name, {})]
    built.sort(key=lambda name: name != manifest.preferred_engine)
    if not built:
        return Choice(manifest.preferred_engine, "the board's")  # Artifact.model says what there is instead
    usable = [name for name in built if name in available()]
    if not usable:
        raise _not_installed(built)
    return fastest_measured(artifact, precision, usable) or _unmeasured(usable[0], manifest.preferred_engine)


def _unmeasured(name: str, preferred: str) -> Choice:
    if name == preferred:
        return Choice(name, "the board's, not measured here")
    return Choice(name, f"the board's, {preferred}, is not here or not in the model")


def _not_installed(names: list[str]) -> Failure:
    packages = " or ".join(package for name in names for package in ENGINES[name].packages)
    remedy = " or ".join(ENGINES[name].remedy() for name in names)
    return Failure(f"the {' or '.join(names)} engine needs {packages}, not installed", remedy=remedy)
