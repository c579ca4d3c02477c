"""The native engine through ctypes: weights and state live in two aligned blocks that it owns."""

from __future__ import annotations

import ctypes
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_runtime.engines.interface import StateArray
from edge_runtime.errors import Failure
from edge_runtime.manifest import ModelEntry
from edge_runtime.stft import HOP_SAMPLES, N_BINS, Float32Array, Repairs

LIBRARY: Final = "edge_runtime.native.libedge_denoise"
ALIGN_BYTES: Final = 64
STREAM: Final = "stream"  # the one state: everything that is carried, as bytes


class Description(ctypes.Structure):
    """ed_description."""

    _fields_ = (
        ("precision", ctypes.c_char_p),
        ("isa", ctypes.c_char_p),
        ("n_ops", ctypes.c_uint32),
        ("n_weight_bytes", ctypes.c_uint32),
        ("n_stream_bytes", ctypes.c_uint32),
        ("n_scratch_bytes", ctypes.c_uint32),
    )


class NativeEngine:
    """One stream. The hop goes in and out through fixed arrays, so that a call hands over pointers made once."""

    name = "native"

    def __init__(self, library: ctypes.CDLL, model: bytes, entry: ModelEntry, precision: str, isa: str | None) -> None:
        self.precision = precision
        self._weights = aligned(model)
        self._state = _state(library, self._weights, entry, isa)
        described: Description = library.ed_describe(_pointer(self._state))
        self.isa = (described.isa or b"").decode()
        self.n_stream_bytes, self.n_scratch_bytes = described.n_stream_bytes, described.n_scratch_bytes
        self.package = f"edge-denoise {library.ed_version().decode()} ({self.isa})"
        if (held := (described.precision or b"").decode()) != precision:
            raise Failure(f"holds {held} weights, not {precision}", where=entry.file, remedy="build it again")
        self._in, self._out = np.zeros(2 * N_BINS, np.float32), np.zeros(2 * N_BINS, np.float32)
        self._in_2d, self._out_2d = self._in.reshape(N_BINS, 2), self._out.reshape(N_BINS, 2)
        self._hop, self._hop_out = self._in[:HOP_SAMPLES], self._out[:HOP_SAMPLES]
        self._arguments = tuple(_pointer(array) for array in (self._state, self._in, self._out))
        self._step, self._process, self._reset = library.ed_step, library.ed_process, library.ed_reset
        start = library.ed_stream(self._arguments[0]) - self._state.ctypes.data
        self._stream = self._state[start : start + self.n_stream_bytes]

    def step(self, spectrum: Float32Array, enhanced: Float32Array) -> None:
        self._in_2d[:] = spectrum
        self._step(*self._arguments)
        enhanced[:] = self._out_2d

    def process(self, hop: Float32Array, hop_out: Float32Array) -> Repairs:
        self._hop[:] = hop
        repaired: int = self._process(*self._arguments)
        hop_out[:] = self._hop_out
        return Repairs(repaired & 0xFFFF, repaired >> 16) if repaired else _NONE

    def reset(self) -> None:
        self._reset(self._arguments[0])

    def states(self) -> dict[str, StateArray]:
        return {STREAM: self._stream.copy()}

    def set_states(self, states: dict[str, StateArray]) -> None:
        given = {name: (array.shape, array.dtype.name) for name, array in states.items()}
        if given != {STREAM: (self._stream.shape, "uint8")}:
            raise ValueError(f"states are {given}, the model has {self.n_stream_bytes} bytes of {STREAM}")
        self._stream[:] = states[STREAM]


_NONE: Final = Repairs()


def open_model(
    model: bytes, entry: ModelEntry, precision: str, n_threads: int, isa: str | None = None
) -> NativeEngine:
    """Load weights for one stream; it runs on one thread whatever `n_threads`. `isa` takes the kernels by name.

    Failure: the library refuses the weights.
    """
    return NativeEngine(load_library(), model, entry, precision, isa)


def load_library() -> ctypes.CDLL:
    """The compiled library with its prototypes. ImportError: it is missing or cannot be loaded."""
    spec = find_spec(LIBRARY)
    if spec is None or spec.origin is None:
        raise ImportError(f"no {LIBRARY}")
    try:
        library = ctypes.CDLL(spec.origin)
    except OSError as error:
        raise ImportError(str(error)) from error
    memory, size = ctypes.c_void_p, ctypes.c_size_t
    prototypes: dict[str, tuple[Any, ...]] = {  # result, arguments
        "ed_size": (ctypes.c_int, memory, size, ctypes.POINTER(size)),
        "ed_init_isa": (ctypes.c_int, memory, size, memory, size, ctypes.c_char_p),
        "ed_reset": (None, memory),
        "ed_process": (ctypes.c_uint32, memory, memory, memory),
        "ed_step": (None, memory, memory, memory),
        "ed_describe": (Description, memory),
        "ed_stream": (memory, memory),
        "ed_version": (ctypes.c_char_p,),
        "ed_status_text": (ctypes.c_char_p, ctypes.c_int),
        "ed_isa_name": (ctypes.c_char_p, ctypes.c_uint, ctypes.POINTER(ctypes.c_int)),
    }
    for name, (result, *arguments) in prototypes.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def isas(library: ctypes.CDLL | None = None) -> list[str]:
    """Kernel sets that this processor can run, fastest first."""
    library = library or load_library()
    usable = ctypes.c_int()
    names: list[tuple[str, bool]] = []
    while name := library.ed_isa_name(len(names), ctypes.byref(usable)):
        names.append((name.decode(), bool(usable.value)))
    return [name for name, runs in names if runs]


def aligned(data: bytes) -> npt.NDArray[np.uint8]:
    """A copy at an address that vector loads like; the array keeps the memory alive."""
    memory = np.zeros(len(data) + ALIGN_BYTES, np.uint8)
    start = -memory.ctypes.data % ALIGN_BYTES
    copy = memory[start : start + len(data)]
    copy[:] = np.frombuffer(data, np.uint8)
    return copy


def _pointer(array: npt.NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _state(
    library: ctypes.CDLL, weights: npt.NDArray[np.uint8], entry: ModelEntry, isa: str | None
) -> npt.NDArray[np.uint8]:
    n_bytes = ctypes.c_size_t()
    status = library.ed_size(_pointer(weights), weights.size, ctypes.byref(n_bytes))
    state = aligned(bytes(n_bytes.value))
    if status == 0:
        name = None if isa is None else isa.encode()
        status = library.ed_init_isa(_pointer(state), state.size, _pointer(weights), weights.size, name)
    if status != 0:
        raise Failure(
            f"the native engine refuses it ({library.ed_status_text(status).decode()})",
            where=entry.file,
            remedy="build it again with `quant build`, or update edge-denoise",
        )
    return state
