"""The units of a release, of the user's own systemd. Standard library only."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from edge_runtime.errors import Failure
from edge_runtime.install.environment import run
from edge_runtime.whole_file import written_whole

SERVICE_SETTLES_S: Final = 2.0


def units_of(release: Path) -> list[Path]:
    return sorted((release / "units").glob("*.service"))


def _user_units() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"


def restart(release: Path) -> dict[str, Any]:
    """Put the units of a release in place, restart them, and see that they stay up for a moment."""
    units = units_of(release)
    _user_units().mkdir(parents=True, exist_ok=True)
    for unit in units:
        with written_whole(_user_units() / unit.name, mode=0o644) as part:
            part.write_bytes(unit.read_bytes())
    names = [unit.name for unit in units]
    try:
        run("systemctl", "--user", "daemon-reload")
        run("systemctl", "--user", "enable", *names)
        run("systemctl", "--user", "restart", *names)
        time.sleep(SERVICE_SETTLES_S)
        run("systemctl", "--user", "is-active", *names)
    except Failure as failure:
        remedy = f"see `journalctl --user -u {names[0]}` there; it needs systemd and a login session (pam_systemd)"
        raise Failure(str(failure), remedy=remedy) from None
    return {"units": names, "starts_at_boot": _lingers()}


def restart_quietly(release: Path) -> None:
    """The release before: it ran, so one failure to tell is enough."""
    if units_of(release):
        with suppress(Failure):
            restart(release)


def _lingers() -> bool:
    """Ask that the user's services start without a login; whether that was allowed."""
    if shutil.which("loginctl") is None:
        return False
    return subprocess.run(["loginctl", "enable-linger"], capture_output=True).returncode == 0
