"""The native engine: C99 sources, the library that an install compiles from them, and its face to Python.

stream = Stream(Path("build/rpi4/model.native").read_bytes())
stream.samples_in[:256] = hop           # floats at 16 kHz, no integers; a memoryview or NumPy's array shares the memory
stream.process()
clean = stream.samples_out[:256]        # one hop behind

Nothing is imported here but ctypes, so that a program of its own hears its first sample in milliseconds. With NumPy,
any chunk size and every check of an artifact: `edge_runtime.Denoiser`.
"""

from __future__ import annotations

import ctypes
import os

from edge_runtime.errors import Failure

TYPE_CHECKING = False  # typing's own would be an import at every start
if TYPE_CHECKING:
    from typing import Any

LIBRARY_FILE = "libedge_denoise.so"  # beside this file
ALIGN_BYTES = 64  # what vector loads like
N_SPECTRUM = 2 * 257  # real and imaginary parts
TOO_LARGE = 8  # ED_TOO_LARGE
TOO_LARGE_REMEDY = "train a smaller network, or ask whoever made the file"
REFUSED_REMEDY = "build it again with `quant build`, or update edge-denoise"


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


class Front(ctypes.Structure):
    """ed_front: a microphone's filters."""

    _fields_ = (("state", 10 * ctypes.c_double),)


class Phases(ctypes.Structure):
    """ed_phases: taps of sound between samples, (n_up, n_taps)."""

    _fields_ = (("taps", ctypes.c_void_p), *((name, ctypes.c_int) for name in ("n_taps", "n_up", "n_down")))


class Samples(ctypes.c_float * N_SPECTRUM):  # type: ignore[misc]  # ctypes makes its array types when it runs
    """Floats in [-1, 1], written and read by index or slice. ValueError: integers, whose full scale is another."""

    def __setitem__(self, key: Any, value: Any) -> None:
        try:
            kind = memoryview(value).format
        except TypeError:  # numbers, or a list of them
            listed = value if hasattr(value, "__iter__") else (value,)
            kind = "f" if all(-1 <= one <= 1 for one in listed if isinstance(one, int)) else "i"
        if kind not in ("f", "<f", "d", "<d"):
            raise ValueError("samples are integers, not floats in [-1, 1]; divide 16 bits by 32768")
        super().__setitem__(key, value)


class Stream:
    """One stream at 16 kHz. It owns its weights and its state; not for two threads at once.

    `samples_in`, `samples_out`: 514 floats each, fixed; a hop takes the first 256 of them, a spectrum all.
    `carried`: the bytes of everything that goes from one hop to the next; `n_bytes`: of all that a stream needs.
    """

    def __init__(self, model: bytes, *, isa: str | None = None, where: object = "the model") -> None:
        """Load a model file; `isa` takes the kernels by name, `where` names the file in an error.

        Failure: the library refuses the weights. ImportError: it is not here, or cannot be loaded.
        """
        library = load_library()
        self._weights = Block(len(model))
        ctypes.memmove(self._weights.address, model, len(model))
        n_bytes = ctypes.c_size_t()
        status = library.ed_size(self._weights.address, len(model), ctypes.byref(n_bytes))
        self._state = Block(n_bytes.value)
        state = self._state.address
        if status == 0:
            name = None if isa is None else isa.encode()
            status = library.ed_init_isa(state, n_bytes.value, self._weights.address, len(model), name)
        if status != 0:
            what = f"the native engine refuses it ({library.ed_status_text(status).decode()})"
            raise Failure(what, where=where, remedy=TOO_LARGE_REMEDY if status == TOO_LARGE else REFUSED_REMEDY)
        self.n_bytes = int(n_bytes.value)  # that a stream needs besides the model
        described: Description = library.ed_describe(state)
        self.precision, self.isa = (described.precision or b"").decode(), (described.isa or b"").decode()
        self.version: str = library.ed_version().decode()
        self.n_stream_bytes, self.n_scratch_bytes = described.n_stream_bytes, described.n_scratch_bytes
        self.carried = (ctypes.c_ubyte * self.n_stream_bytes).from_address(library.ed_stream(state))
        samples = Block(4 * N_SPECTRUM), Block(4 * N_SPECTRUM)
        self.samples_in, self.samples_out = (Samples.from_buffer(block.memory, block.start) for block in samples)
        # Pointers made once: a call hands them over and makes no object.
        self._arguments = tuple(ctypes.c_void_p(block.address) for block in (self._state, *samples))
        self._process, self._step, self._reset = library.ed_process, library.ed_step, library.ed_reset

    def process(self) -> int:
        """A hop in, a hop out. 0, or how many samples were not finite, and 65,536 times how many were beyond +-8."""
        repaired: int = self._process(*self._arguments)
        return repaired

    def step(self) -> None:
        """A spectrum in, a spectrum out: the network alone."""
        self._step(*self._arguments)

    def reset(self) -> None:
        """Forget the stream."""
        self._reset(self._arguments[0])


class Block:
    """Zeroed memory at an aligned address."""

    def __init__(self, n_bytes: int) -> None:
        self.memory = bytearray(n_bytes + ALIGN_BYTES)
        first = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.start = -first % ALIGN_BYTES
        self.address = first + self.start


def load_library() -> ctypes.CDLL:
    """The compiled library with its prototypes. ImportError: it is missing or cannot be loaded."""
    try:
        library = ctypes.CDLL(os.path.join(os.path.dirname(__file__), LIBRARY_FILE))
    except OSError as error:
        raise ImportError(str(error)) from error
    memory, size, status = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    prototypes = {  # result, arguments
        "ed_size": (status, memory, size, ctypes.POINTER(size)),
        "ed_init_isa": (status, memory, size, memory, size, ctypes.c_char_p),
        "ed_reset": (None, memory),
        "ed_process": (ctypes.c_uint32, memory, memory, memory),
        "ed_step": (None, memory, memory, memory),
        "ed_describe": (Description, memory),
        "ed_stream": (memory, memory),
        "ed_version": (ctypes.c_char_p,),
        "ed_status_text": (ctypes.c_char_p, status),
        "ed_rate_size": (size, ctypes.c_ulong),
        "ed_rate_init": (None, memory, ctypes.c_ulong),
        "ed_band_latency": (status, memory),
        "ed_band_most": (status, memory),
        "ed_band_size": (size, memory),
        "ed_band_init": (None, memory, memory),
        "ed_band_reset": (None, memory),
        "ed_band_wanted": (status, memory),
        "ed_band_push": (status, memory, memory, status),
        "ed_band_hop": (memory, memory),
        "ed_band_is_whole": (status, memory),
        "ed_band_join": (status, memory, memory, memory, memory),
        "ed_front_init": (None, memory, ctypes.c_double, ctypes.c_double),
        "ed_front_run": (ctypes.c_double, memory, memory, status, memory, memory),
        "ed_convert_rate": (None, memory, memory, status, memory, status),
        "ed_follow_clock": (None, memory, memory, ctypes.c_double, ctypes.c_double, memory, status),
        "ed_isa_name": (ctypes.c_char_p, ctypes.c_uint, ctypes.POINTER(status)),
    }
    for name, (result, *arguments) in prototypes.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def isas() -> list[str]:
    """Kernel sets that this processor can run, fastest first."""
    library, usable = load_library(), ctypes.c_int()
    found: list[tuple[str, bool]] = []
    while name := library.ed_isa_name(len(found), ctypes.byref(usable)):
        found.append((name.decode(), bool(usable.value)))
    return [name for name, runs in found if runs]
