"""What a board does with a bundle: `python3 FILE install --root DIR`, before anything else of this project is there.

    ROOT/releases/ID/    artifact/, wheels/, units/, venv/; ID is the start of the bundle's SHA-256
    ROOT/releases/ID.1/  the same bundle once more, where ID is in use and damaged
    ROOT/current         -> releases/ID      switched by one rename, after the new release reached its golden vectors
    ROOT/previous        -> the one before   `rollback` goes back to it
    ROOT/history, trusted  see edge_runtime/install/trust.py
    ROOT/lock            one at a time

What is verified is what is unpacked, from one read; a release is synced before it becomes current. Standard library
only. It reports in lines of JSON: a step that begins, a step that is done, and at last what is so now; a failure names
its step, and the release before stays current.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
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
from edge_runtime.install import DEFAULT_ROOT, bundle, ed25519, trust
from edge_runtime.install.environment import PACKAGE, install_wheels, last_line, run
from edge_runtime.install.trust import PLAIN, Wish
from edge_runtime.install.units import restart, restart_quietly, running_from, units_of
from edge_runtime.whole_file import sync, undisturbed
from edge_runtime.whole_folder import SCAFFOLD

PROTOCOL: Final = 1
ID_CHARACTERS: Final = 16
_ID: Final = re.compile(rf"[0-9a-f]{{{ID_CHARACTERS}}}(\.\d+)?")
_ARRIVED: Final = re.compile(rf"[0-9a-f]{{{ID_CHARACTERS}}}\.bundle(\.part)?")
ARRIVING_S: Final = 3600.0  # longer than one takes to send
READY_FILE: Final = "ready"  # written when the release had reached its golden vectors

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
        new = self.root / f".{link}{SCAFFOLD}"
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
        with (self.root / "lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise Failure("another deployment is at work", where=self.root, remedy="wait for it") from None
            for link in ("current", "previous"):
                self._check_ours(self.root / link)
            yield

    def _check_ours(self, link: Path) -> None:
        """Failure: something that no deployment made is in its place."""
        target = Path(os.readlink(link)) if link.is_symlink() else Path()
        is_one = target.parent == Path("releases") and (not link.exists() or is_ours(link.resolve()))
        if os.path.lexists(link) and not is_one:
            raise Failure("is not ours to replace", where=link, remedy="name another --root, or move it away")


def is_ours(release: Path) -> bool:
    """Whether a folder is a release of ours, damaged perhaps."""
    was_ready = _ID.fullmatch(release.name) is not None and (release / READY_FILE).is_file()
    return was_ready or bundle.is_of_a_bundle(release)


def install(site: Site, path: Path, wish: Wish = PLAIN) -> None:
    """Put the bundle in place and make it current, if and only if it reaches its golden vectors here.

    A release that lies here already is looked at, file by file: one that is damaged is made once more, under another
    name where it is in use.
    """
    with bundle.snapshot(path, site.root) as taken:
        if trust.is_asked(site.root, wish):
            with site.doing("signature"):
                site.details["signature"] = {"key": trust.check_signature(site.root, taken, wish)}
        found = bundle.check(taken)
        bundle_id, before = taken.sha256[:ID_CHARACTERS], site.linked("current")
        if not wish.allow_older:
            trust.check_order(site.root, before or "", bundle_id, found.number)
        name = _standing(site, taken, bundle_id)
        if name is None:
            name = _free_name(site, bundle_id)
            _make(site, taken, found, site.release(name), wish.extras)
    with trust.remembered(site.root, bundle_id, found.number, wish.key):
        _switch(site, name, None if before and before.startswith(bundle_id) else before)
    with site.doing("tidy"), undisturbed():
        path.unlink(missing_ok=True)
        _remove_arrived(site.root / "incoming")
        site.details["tidy"] = {"removed": _remove_others(site)}


def _standing(site: Site, taken: bundle.Snapshot, bundle_id: str) -> str | None:
    """A release of this bundle that is whole and reaches its golden vectors; the current one before others."""
    found = sorted(path.name for path in site.release("").glob(f"{bundle_id}*"))
    for name in sorted(found, key=lambda name: name != site.linked("current")):
        release = site.release(name)
        if (release / READY_FILE).is_file() and bundle.is_unpacked(taken, release):
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


def _make(site: Site, taken: bundle.Snapshot, found: bundle.Bundle, release: Path, extras: Sequence[str]) -> None:
    """Unpack, install, prove, sync; nothing is left of a release that fails."""
    try:
        with site.doing("unpack"):
            bundle.extract(taken, found, release)
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
    """Make it current, and `before` the one to go back to; restart its units, and those that run from here already.
    Where they do not stay up, all is as it was."""
    current, previous = site.linked("current"), site.linked("previous")
    with site.doing("switch"), undisturbed():
        if before is not None and before != name:
            site.link("previous", before)
        site.link("current", name)
    others = running_from(site.root)
    if not (units_of(site.release(name)) or others):
        return
    try:
        with site.doing("service"):
            site.details["service"] = restart(site.release(name), others)
    except BaseException:
        with undisturbed():
            site.link("current", current)
            site.link("previous", previous)
        if current is not None:
            restart_quietly(site.release(current), others)
        raise


def _remove_arrived(folder: Path) -> None:
    """Bundles of deployments that failed or were cut off; not one that is arriving now."""
    for path in folder.glob("*.bundle*"):
        with suppress(OSError):
            if _ARRIVED.fullmatch(path.name) and path.lstat().st_mtime < time.time() - ARRIVING_S:
                path.unlink()


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


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Put a release of edge-denoise in place.", allow_abbrev=False)
    add = parser.add_argument
    add("action", choices=("install", "rollback"))
    add("--root", type=Path, default=Path.home() / DEFAULT_ROOT)
    add("--bundle", type=Path, default=Path(sys.argv[0]), help="the release to install; default: this very file")
    add("--extra", action="append", default=[], help="a pip extra to install, as litert")
    add("--key", type=_hex(ed25519.KEY_BYTES), help="public key that must have signed it, in hex")
    add("--signature", type=_hex(ed25519.SIGNATURE_BYTES), help="of the bundle by that key, in hex")
    add("--allow-older", action="store_true", help="also a release that was replaced here")
    return parser.parse_args(argv)


def _hex(n_bytes: int) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if len(bytes.fromhex(text)) != n_bytes:
            raise argparse.ArgumentTypeError(f"{text!r} has not {n_bytes} bytes")
        return text.lower()

    return parse


def main(argv: Sequence[str] | None = None) -> int:
    """Do it, one JSON line a step; exit status 1 with a last line that names step, failure and what is current."""
    args = _arguments(argv)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a connection that is lost does not stop it halfway
    site = Site(args.root.absolute(), _tell)
    try:
        with site.locked():
            if args.action == "install":
                wish = Wish(args.extra, args.key or "", args.signature or "", args.allow_older)
                install(site, args.bundle.absolute(), wish)
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
