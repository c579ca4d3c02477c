"""The units of a release, of the user's own systemd. Standard library only."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from edge_runtime.errors import Failure
from edge_runtime.folders import home_folder, named_folder
from edge_runtime.install.environment import run
from edge_runtime.whole_file import written_whole

SERVICE_SETTLES_S: Final = 2.0


def units_of(release: Path) -> list[Path]:
    return sorted((release / "units").glob("*.service"))


def _user_units() -> Path:
    return (named_folder("XDG_CONFIG_HOME") or home_folder() / ".config") / "systemd" / "user"


def running_from(root: Path) -> list[str]:
    """Units of the user that run what `current` names in `root`, whoever wrote them, and are running now."""
    here = f"{root}/current/"
    found = [path.name for path in sorted(_user_units().glob("*.service")) if here in _as_read(path)]
    return [name for name in found if _says_yes("systemctl", "--user", "is-active", "--quiet", name)]


def _as_read(unit: Path) -> str:
    """As far as a path in it goes."""
    with suppress(OSError):
        text = unit.read_text(errors="replace").replace("%h", str(home_folder()))
        return text.replace("%%", "%").replace('\\"', '"').replace("\\\\", "\\")
    return ""


def restart(release: Path, others: Sequence[str] = ()) -> dict[str, Any]:
    """Put the units of a release in place, restart them and the others, and see that they stay up for a moment."""
    units = units_of(release)
    _user_units().mkdir(parents=True, exist_ok=True)
    for unit in units:
        with written_whole(_user_units() / unit.name, mode=0o644) as part:
            part.write_bytes(unit.read_bytes())
    own = [unit.name for unit in units]
    names = [*own, *(name for name in others if name not in own)]
    try:
        run("systemctl", "--user", "daemon-reload")
        if own:
            run("systemctl", "--user", "enable", *own)
        run("systemctl", "--user", "restart", *names)
        time.sleep(SERVICE_SETTLES_S)
        run("systemctl", "--user", "is-active", *names)
    except Failure as failure:
        remedy = f"see `journalctl --user -u {names[0]}` there; it needs systemd and a login session (pam_systemd)"
        raise Failure(str(failure), remedy=remedy) from None
    return {"units": names} | ({"starts_at_boot": _lingers()} if own else {})


def restart_quietly(release: Path, others: Sequence[str] = ()) -> None:
    """The release before: it ran, so one failure to tell is enough."""
    if units_of(release) or others:
        with suppress(Failure):
            restart(release, others)


def _says_yes(*command: str) -> bool:
    return shutil.which(command[0]) is not None and subprocess.run(command, capture_output=True).returncode == 0


def _lingers() -> bool:
    """Ask that the user's services start without a login; whether that was allowed."""
    return _says_yes("loginctl", "enable-linger")
