"""Folders of the user, as the environment names them. Standard library only."""

from __future__ import annotations

import os
from pathlib import Path


def home_folder() -> Path:
    """The user's own; relative, "~" for one, where nothing names one: no HOME, and a user of no name."""
    return Path(os.path.expanduser("~"))


def named_folder(variable: str) -> Path | None:
    """What the variable names; None for nothing, or for what depends on where one is (XDG base directory
    specification)."""
    named = Path(os.environ.get(variable, ""))
    return named if named.is_absolute() else None
