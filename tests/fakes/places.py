"""Where the things lie that tests read: the project, its tests, and the native engine's sources."""

from __future__ import annotations

from pathlib import Path
from typing import Final

TESTS: Final = Path(__file__).parents[1]
ROOT: Final = TESTS.parent
NATIVE: Final = ROOT / "edge_runtime" / "native"
INCLUDES: Final = tuple(f"-I{NATIVE / folder}" for folder in ("engine", "kernels", "band", "ladspa"))


def engine_sources() -> list[str]:
    """The C files of the engine, as setup.py compiles them."""
    return [str(path) for room in ("band", "engine", "kernels") for path in sorted(NATIVE.glob(f"{room}/*.c"))]
