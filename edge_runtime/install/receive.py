"""What a board does with a bundle: `python3 FILE install --root DIR`, before anything else of this project is there.

    ROOT/releases/ID/    artifact/, wheels/, units/, venv/; ID is the start of the bundle's SHA-256
    ROOT/releases/ID.1/  the same bundle once more, where ID is in use and damaged
    ROOT/current         -> releases/ID      switched by one rename, after the new release reached its golden vectors
    ROOT/previous        -> the one before   `rollback` goes back to it
    ROOT/lock            one at a time

A release is synced before it becomes current. Standard library only. It reports in lines of JSON: a step that begins,
a step that is done, and at last what is so now; a failure names its step, and the release before stays current.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

from edge_runtime.errors import Failure
from edge_runtime.install import bundle
from edge_runtime.install.environment import PACKAGE, install_wheels, last_line, run
from edge_runtime.whole_file import sync, undisturbed, written_whole
from edge_runtime.whole_folder import SCAFFOLD

PROTOCOL: Final = 1
DEFAULT_ROOT: Final = ".local/share/edge-denoise"  # from the home directory
ID_CHARACTERS: Final = 16
READY_FILE: Final = "ready"  # written when the release had reached its golden vectors
SERVICE_SETTLES_S: Final = 2.0

Report = Callable[[dict[str, Any]], None]


@dataclass
class Site:
    """Where releases lie on a board, and which step is being done there."""

    root: Path
    report: Report
    step: str = "start"
    details: dict[str, Any] = field(default_factory=dict)

    def release(self, name: str) -> Path:
        """The folder of one release."""
        return self.root / "releases" / name

    def linked(self, link: str) -> str | None:
        """The release that `current` or `previous` names, if it is there."""
        path = self.root / link
        return path.resolve().name if path.is_symlink() and path.exists() else None

    def link(self, link: str, name: str | None) -> None:
        """Point `current` or `previous` at a release, or None: one rename, so there is no moment without."""
        new = self.root / f".{link}.new"
        new.unlink(missing_ok=True)
        if name is None:
            (self.root / link).unlink(missing_ok=True)
        else:
            new.symlink_to(Path("releases") / name)
            os.replace(new, self.root / link)
        sync(self.root)

    @contextmanager
    def doing(self, step: str) -> Iterator[None]:
        """Report a step when it begins and when it is done."""
        self.step = step
        self.report({"step": step, "done": False})
        start = time.monotonic()
        yield
        self.report(
            {"step": step, "done": True, "s": round(time.monotonic() - start, 3), "detail": self.details.get(step)}
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Failure when another one is at work here; the lock ends with the process."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise Failure("another deployment is at work", where=self.root, remedy="wait for it") from None
            yield


def install(site: Site, path: Path, extras: Sequence[str] = ()) -> None:
    """Put the bundle in place and make it current, if and only if it reaches its golden vectors here.

    A release that lies here already is looked at, file by file: one that is damaged is made once more, under another
    name where it is in use.
    """
    bundle_id, before = bundle.file_sha256(path)[:ID_CHARACTERS], site.linked("current")
    name = _standing(site, path, bundle_id)
    if name is None:
        name = _free_name(site, bundle_id)
        _make(site, path, site.release(name), extras)
    _switch(site, name, None if before and before.startswith(bundle_id) else before)
    with site.doing("tidy"):
        path.unlink(missing_ok=True)
        site.details["tidy"] = {"removed": _remove_others(site)}


def _standing(site: Site, path: Path, bundle_id: str) -> str | None:
    """A release of this bundle that is whole and reaches its golden vectors; the current one before others."""
    found = sorted(path.name for path in site.release("").glob(f"{bundle_id}*"))
    for name in sorted(found, key=lambda name: name != site.linked("current")):
        release = site.release(name)
        if (release / READY_FILE).is_file() and bundle.is_unpacked(path, release):
            with suppress(Failure):
                _prove(site, release)
                return name
    return None


def _free_name(site: Site, bundle_id: str) -> str:
    """A name for a new release; what a killed run left under it is removed."""
    used = (site.linked("current"), site.linked("previous"))
    name, numbers = bundle_id, count(1)
    while os.path.lexists(release := site.release(name)):
        if name not in used and bundle.is_of_a_bundle(release):
            _discard(release)
        else:
            name = f"{bundle_id}.{next(numbers)}"
    return name


def _make(site: Site, path: Path, release: Path, extras: Sequence[str]) -> None:
    """Unpack, install, prove, sync; nothing is left of a release that fails."""
    try:
        with site.doing("unpack"):
            bundle.unpack(path, release)
        with site.doing("install"):
            site.details["install"] = install_wheels(release, extras)
        _prove(site, release)
        os.sync()  # the thousands of files of its environment, too
        (release / READY_FILE).touch()
        sync(release)
    except BaseException:
        if bundle.is_of_a_bundle(release):
            _discard(release)
        raise


def _discard(release: Path) -> None:
    """Out of sight first: a release that is half removed must not be taken for another's."""
    away = release.with_name(f".{release.name}-old{SCAFFOLD}")
    shutil.rmtree(away, ignore_errors=True)
    release.rename(away)
    shutil.rmtree(away, ignore_errors=True)


def rollback(site: Site) -> None:
    """Make the release before current again, after it reached its golden vectors once more."""
    previous, current = site.linked("previous"), site.linked("current")
    if previous is None:
        raise Failure("no release before this one is kept", where=site.root, remedy="deploy the one that you want")
    _prove(site, site.release(previous))
    _switch(site, previous, current)


def _prove(site: Site, release: Path) -> None:
    """Golden vectors through every engine that is installed; what `doctor` says of the board is only told."""
    program = str(release / "venv" / "bin" / PACKAGE)
    model = str(release / "artifact")
    with site.doing("verify"):
        site.details["verify"] = json.loads(run(program, "verify", "--model", model, "--json"))
    if " doctor " in run(program, "--help"):
        with site.doing("doctor"):
            site.details["doctor"] = _doctor(program, model)


def _doctor(program: str, model: str) -> Any:
    """Its JSON, or the line it ended with: a microphone that is not plugged in is no fault of a release."""
    done = subprocess.run([program, "doctor", "--model", model, "--json"], capture_output=True, text=True)
    try:
        return json.loads(done.stdout)
    except ValueError:
        return {"status": done.returncode, "error": last_line(done)}


def _switch(site: Site, name: str, before: str | None) -> None:
    """Make it current, and `before` the one to go back to; restart its units, if it has any. Where they do not stay up,
    all is as it was."""
    current, previous = site.linked("current"), site.linked("previous")
    with site.doing("switch"), undisturbed():
        if before is not None and before != name:
            site.link("previous", before)
        site.link("current", name)
    if not _units(site.release(name)):
        return
    try:
        with site.doing("service"):
            site.details["service"] = _restart(site.release(name))
    except BaseException:
        with undisturbed():
            site.link("current", current)
            site.link("previous", previous)
        if current is not None:
            _restart_quietly(site.release(current))
        raise


def _remove_others(site: Site) -> list[str]:
    """Releases that nothing names, and what killed runs left; a folder that is no release of ours stays."""
    kept = {site.linked("current"), site.linked("previous")}
    others = sorted(path for path in site.release("").iterdir() if path.name not in kept)
    for left in (path for path in others if path.name.endswith(SCAFFOLD)):
        shutil.rmtree(left, ignore_errors=True)
    releases = [path for path in others if bundle.is_of_a_bundle(path)]
    for path in releases:
        _discard(path)
    return [path.name for path in releases]


def _units(release: Path) -> list[Path]:
    return sorted((release / "units").glob("*.service"))


def _user_units() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"


def _restart(release: Path) -> dict[str, Any]:
    """Put the units of a release in place, restart them, and see that they stay up for a moment."""
    units = _units(release)
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


def _restart_quietly(release: Path) -> None:
    """The release before: it ran, so one failure to tell is enough."""
    if _units(release):
        with suppress(Failure):
            _restart(release)


def _lingers() -> bool:
    """Ask that the user's services start without a login; whether that was allowed."""
    if shutil.which("loginctl") is None:
        return False
    return subprocess.run(["loginctl", "enable-linger"], capture_output=True).returncode == 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Put a release of edge-denoise in place.", allow_abbrev=False)
    parser.add_argument("action", choices=("install", "rollback"))
    parser.add_argument("--root", type=Path, default=Path.home() / DEFAULT_ROOT)
    parser.add_argument("--extra", action="append", default=[], help="a pip extra to install, as litert")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Do it, one JSON line a step; exit status 1 with a last line that names step, failure and what is current."""
    args = _arguments(argv)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a connection that is lost does not stop it halfway
    site = Site(args.root.absolute(), _tell)
    try:
        with site.locked():
            if args.action == "install":
                install(site, Path(sys.argv[0]).absolute(), args.extra)
            else:
                rollback(site)
    except (Failure, OSError) as error:
        site.report({"ok": False, "step": site.step, "error": " ".join(str(error).split()), **_state(site)})
        return 1
    site.report({"ok": True, **_state(site)})
    return 0


def _tell(line: dict[str, Any]) -> None:
    """To the one who asked; the work goes on when nobody listens any more."""
    try:
        print(json.dumps(line), flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _state(site: Site) -> dict[str, Any]:
    return {"protocol": PROTOCOL, "current": site.linked("current"), "previous": site.linked("previous")}
