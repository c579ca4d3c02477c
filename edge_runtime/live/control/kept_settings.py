"""Settings that outlive a killed service: systemd keeps its run-time folder over a restart, and empties it at a stop.

So a service that was killed, or hung, goes on as it was set; one that is stopped and started is as its unit says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from edge_runtime.errors import Failure
from edge_runtime.live.control.controls import Settings, of_plain, plain
from edge_runtime.live.control.systemd import runtime_folder
from edge_runtime.whole_file import written_whole

FILE: Final = "settings.json"


class _Kept(msgspec.Struct, forbid_unknown_fields=True):
    """What `controls.plain` tells: None is off."""

    strength: float
    limit_db: float | None
    bypass: bool
    gate_dbfs: float | None


def service_file() -> Path | None:
    """Where a service of systemd keeps them; None where this is none."""
    folder = runtime_folder()
    return folder / FILE if folder else None


def recall(path: Path | None) -> Settings | None:
    """What was kept; None when nothing was, or it is damaged: a start must not fail for it."""
    if path is None:
        return None
    try:
        return of_plain(msgspec.structs.asdict(msgspec.json.decode(path.read_bytes(), type=_Kept)))
    except (OSError, ValueError):  # msgspec's errors are ValueErrors
        return None


class Keeper:
    """Writes settings when they change. Call `keep` often, from any thread but the audio thread."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._kept: Settings | None = None

    def keep(self, settings: Settings) -> None:
        """A folder that cannot be written to ends the keeping, not the sound."""
        if self._path is None or settings == self._kept:
            return
        try:
            with written_whole(self._path) as part:
                part.write_bytes(msgspec.json.encode(plain(settings)))
        except Failure:
            self._path = None
        self._kept = settings
