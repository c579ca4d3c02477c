"""What every engine is, the interface every model file has, and what an engine checks before its first frame.

in   spectrum (1, 257, 1, 2) float32     <state>      as the manifest says
out  enhanced (1, 257, 1, 2) float32     <state>_out  same shape, dtype, scale and zero point as its input
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from edge_runtime.errors import Failure
from edge_runtime.manifest import ModelEntry, StateEntry
from edge_runtime.stft import N_BINS, SQRT_HANN, Float32Array, Repairs, WindowName

SPECTRUM: Final = "spectrum"
ENHANCED: Final = "enhanced"
SPECTRUM_SHAPE: Final = (1, N_BINS, 1, 2)
AS_GIVEN: Final = "as given"

StateArray = npt.NDArray[np.generic]


class Engine(Protocol):
    """A loaded model with its states, ready for the next frame. One stream; not for two threads at once."""

    name: str
    precision: str
    package: str  # name and version of what runs the model
    reason: str  # why it was taken
    window: WindowName  # of the spectra that its network was trained on

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


class StatefulModel(ABC):
    """What engines share whose states are arrays by name, as the manifest lists them."""

    reason = AS_GIVEN
    window: WindowName = SQRT_HANN

    def __init__(self, entry: ModelEntry, precision: str, package: str) -> None:
        self.precision, self.package = precision, package
        self._entry = entry

    @abstractmethod
    def _current(self) -> Mapping[str, StateArray]:
        """The arrays that the next frame reads."""

    def reset(self) -> None:
        for state in self._entry.states:
            self._current()[state.name].fill(state.zero_point)

    def states(self) -> dict[str, StateArray]:
        return {name: array.copy() for name, array in self._current().items()}

    def set_states(self, states: dict[str, StateArray]) -> None:
        wanted = {state.name: Port(state.shape, state.dtype) for state in self._entry.states}
        given = {name: Port(array.shape, array.dtype.name) for name, array in states.items()}
        if given != wanted:
            raise ValueError(f"states are {given}, the model has {wanted}")
        for name, array in states.items():
            self._current()[name][:] = array


class Port(NamedTuple):
    """Shape and dtype of one input or output of a model."""

    shape: tuple[int, ...]
    dtype: str


def state_out(name: str) -> str:
    """The output that holds state `name` for the next frame."""
    return f"{name}_out"


def start_value(state: StateEntry) -> StateArray:
    """A new array that holds real zero as the state stores it."""
    return np.full(state.shape, state.zero_point, dtype=state.dtype)


def check_ports(entry: ModelEntry, inputs: dict[str, Port], outputs: dict[str, Port]) -> None:
    """Failure unless the model in hand has exactly the ports that its manifest entry promises."""
    wanted_in = {SPECTRUM: Port(SPECTRUM_SHAPE, "float32")}
    wanted_out = {ENHANCED: Port(SPECTRUM_SHAPE, "float32")}
    for state in entry.states:
        wanted_in[state.name] = wanted_out[state_out(state.name)] = Port(state.shape, state.dtype)
    _check_side(entry, "input", wanted_in, inputs)
    _check_side(entry, "output", wanted_out, outputs)


def _check_side(entry: ModelEntry, side: str, wanted: dict[str, Port], found: dict[str, Port]) -> None:
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise Failure(
                f"{side} {name} is {_words(found.get(name))}, the manifest says {_words(wanted.get(name))}",
                where=entry.file,
                remedy="build it again with `quant build`",
            )


def _words(port: Port | None) -> str:
    return f"{port.dtype} {port.shape}" if port else "absent"
