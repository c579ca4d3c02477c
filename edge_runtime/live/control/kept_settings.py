"""What `ctl` or a key has set outlives a service that is killed or hangs, not one that is told to stop or to restart.

systemd keeps a service's run-time folder over any restart; so a service that ends as it was told removes what it kept.
Nor is anything recalled over options that have changed since: a unit's options hold.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from edge_runtime.errors import Failure
from edge_runtime.live.control.controls import Settings, of_plain, plain
from edge_runtime.live.control.systemd import runtime_folder
from edge_runtime.whole_file import written_whole

FILE: Final = "settings.json"


class _Plain(msgspec.Struct, forbid_unknown_fields=True):
    """What `controls.plain` tells: None is off."""

    strength: float
    limit_db: float | None
    bypass: bool
    gate_dbfs: float | None

    def settings(self) -> Settings:
        """ValueError: a value is out of its range."""
        return of_plain(msgspec.structs.asdict(self))


class _Kept(msgspec.Struct, forbid_unknown_fields=True):
    """`given`: by the options of the command."""

    given: _Plain
    settings: _Plain


def service_file() -> Path | None:
    """Where a service of systemd keeps them; None where this is none."""
    folder = runtime_folder()
    return folder / FILE if folder else None


class Keeper:
    """The settings of one run: what it begins with, and what is written when somebody changes them."""

    def __init__(self, path: Path | None, given: Settings) -> None:
        """`given`: by the options of the command. `path`: see `service_file`."""
        self._path, self._given = path, given
        self.first = self._recalled() or given
        self._kept = self.first

    def keep(self, settings: Settings) -> None:
        """Call it often, from any thread but the audio thread. A folder that cannot be written to ends the keeping, not
        the sound."""
        if self._path is None or settings == self._kept:
            return
        try:
            with written_whole(self._path) as part:
                part.write_bytes(msgspec.json.encode({"given": plain(self._given), "settings": plain(settings)}))
        except Failure:
            self._path = None
        self._kept = settings

    def forget(self) -> None:
        """The run ended as it was told to."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()

    def _recalled(self) -> Settings | None:
        """None when nothing was kept, or under other options, or it is damaged: a start must not fail for it."""
        if self._path is None:
            return None
        try:
            kept = msgspec.json.decode(self._path.read_bytes(), type=_Kept)
            return kept.settings.settings() if kept.given.settings() == self._given else None
        except (OSError, ValueError):  # msgspec's errors are ValueErrors
            return None
