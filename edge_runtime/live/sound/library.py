"""The native library, for what is done to every sample of live sound: filters, gain, rates and clocks."""

from __future__ import annotations

import ctypes

from edge_runtime.errors import Failure
from edge_runtime.extras import how_to_compile
from edge_runtime.native import load_library


def sound_library() -> ctypes.CDLL:
    """Failure: it is not compiled here, or cannot be loaded."""
    try:
        return load_library()
    except ImportError as error:
        raise Failure(f"live sound needs the native library ({error})", remedy=how_to_compile()) from error
