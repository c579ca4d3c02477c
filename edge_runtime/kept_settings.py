"""Settings that outlive a killed service: systemd keeps its run-time folder over a restart, and empties it at a stop.

So a service that was killed, or hung, goes on as it was set; one that is stopped and started is as its unit says.
"""

from __future__ import annotations

import os
from math import inf
from pathlib import Path
from typing import Final

import msgspec

from edge_runtime import controls
from edge_runtime.controls import Settings

FILE: Final = "settings.json"


class _Kept(msgspec.Struct, forbid_unknown_fields=True):
    """As `ctl` sets them: None is off."""

    strength: float
    limit_db: float | None
    bypass: bool
    gate_dbfs: float | None


def service_file() -> Path | None:
    """Where a service of systemd keeps them; None where this is none."""
    folder = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(folder) / FILE if folder else None


def recall(path: Path | None) -> Settings | None:
    """What was kept; None when nothing was, or it is damaged: a start must not fail for it."""
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=_Kept) if path is not None else None
        if kept is None:
            return None
        limit_db = inf if kept.limit_db is None else kept.limit_db
        settings = Settings(kept.strength, limit_db, kept.bypass, -inf if kept.gate_dbfs is None else kept.gate_dbfs)
        controls.check(settings)
    except (OSError, ValueError):  # msgspec's errors are ValueErrors
        return None
    return settings


class Keeper:
    """Writes settings when they change. Call `keep` often, from any thread but the audio thread."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._kept: Settings | None = None

    def keep(self, settings: Settings) -> None:
        """A folder that cannot be written to ends the keeping, not the sound."""
        if self._path is None or settings == self._kept:
            return
        limit_db, gate_dbfs = (None if abs(x) == inf else x for x in (settings.limit_db, settings.gate_dbfs))
        part = self._path.with_name(f"{FILE}.part")
        try:
            part.write_bytes(msgspec.json.encode(_Kept(settings.strength, limit_db, settings.bypass, gate_dbfs)))
            part.replace(self._path)
        except OSError:
            self._path = None
        self._kept = settings
