"""The models that come with the runtime: artifacts like any other, each in a folder here, of native weights alone.

    gtcrn/    what `quant build` makes when nothing is named: int8 and float, licence, golden vectors of 0.26 s

`make builtin` writes them anew; a test holds them to what a build makes today. Standard library only.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent
DEFAULT: Final = "gtcrn"


def names() -> list[str]:
    """Every model that is built in."""
    return sorted(path.name for path in _HERE.iterdir() if path.is_dir() and path.name[:1] not in "_.")


def folder_of(model: str | Path | None) -> Path:
    """The folder of an artifact: as it was named; the default's for None; a built-in one's for its name, where no
    folder here is called so."""
    if model is None:
        return _HERE / DEFAULT
    if not os.path.exists(model) and str(model) in names():
        return _HERE / model
    return Path(model)


def name_of(folder: Path) -> str | None:
    """The name of a built-in model by its folder; None: it is somebody's own."""
    return folder.name if folder.parent == _HERE else None
