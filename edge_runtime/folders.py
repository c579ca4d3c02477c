"""Folders of the user, as the environment names them. Standard library only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

PIPEWIRE_FILE: Final = "pipewire/pipewire.conf.d/60-edge-denoise.conf"  # of the virtual microphone


def home_folder() -> Path:
    """The user's own; relative, "~" for one, where nothing names one: no HOME, and a user of no name."""
    return Path(os.path.expanduser("~"))


def named_folder(variable: str) -> Path | None:
    """What the variable names; None for nothing, or for what depends on where one is (XDG base directory
    specification)."""
    named = Path(os.environ.get(variable, ""))
    return named if named.is_absolute() else None


def pipewire_file(home: Path) -> Path:
    """Where PipeWire looks for it: below XDG_CONFIG_HOME where that has such a folder, else below ~/.config (its
    `get_homeconf_path`). The variable is of this user's home, and of no other."""
    own, xdg = home / ".config" / PIPEWIRE_FILE, named_folder("XDG_CONFIG_HOME")
    if xdg is None or home != home_folder():
        return own
    elsewhere = Path(os.path.normpath(xdg / PIPEWIRE_FILE))
    return elsewhere if elsewhere.parent.is_dir() else own
