"""Whether the real libasound is here, for tests that open its `null` and `file` devices."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from edge_runtime.alsa.library import LIBRARY


def libasound_is_here() -> bool:
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return Path("/usr/share/alsa/alsa.conf").is_file()


needs_libasound = pytest.mark.skipif(not libasound_is_here(), reason=f"no {LIBRARY} with its configuration")
