"""A systemd of a user, private to a test: runtime folder, units and control group are its own, none this machine's.

It runs without any capability, so what it may forbid its services is what an ordinary user's may.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

SYSTEMD = Path("/usr/lib/systemd/systemd")
GROUPS = [Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup/systemd"), Path("/sys/fs/cgroup")]
RUNS = ("SystemState=running", "SystemState=degraded")  # is-system-running looks at the machine first
STARTS_S, ENDS_S = 60.0, 60.0  # on a busy machine
# It goes no further where /run does not say that the machine was booted with systemd, as containers are not.
ENTER = f"""
for group; do echo $$ >$group/cgroup.procs; done
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system
exec setpriv --bounding-set=-all --inh-caps=-all --ambient-caps=-all {SYSTEMD} --user --log-target=null
"""


def missing() -> str:
    """Why there can be none here, or ""."""
    programs = [name for name in ("unshare", "setpriv", "systemctl") if not shutil.which(name)]
    if programs or not SYSTEMD.exists():
        return "needs systemd and util-linux"
    if os.geteuid() != 0 or not _hierarchies():
        return "needs root and control groups"
    tried = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/run"], capture_output=True)
    return "" if tried.returncode == 0 else "needs a namespace of mounts"


def _hierarchies() -> list[Path]:
    """Of control groups: systemd's own, as it is mounted here."""
    found = [path for path in GROUPS if (path / "cgroup.procs").exists() and os.access(path, os.W_OK)]
    return found[:2] if found[:1] == GROUPS[:1] else found[:1]


@contextmanager
def user_manager(environment: Mapping[str, str], journal: Path) -> Iterator[None]:
    """Runs while the context lasts. Its services get this environment, which names XDG_RUNTIME_DIR and XDG_CONFIG_HOME;
    what they print is added to `journal`."""
    if why := missing():
        pytest.skip(why)
    groups = [path / f"edge-denoise-{os.getpid()}" for path in _hierarchies()]
    for group in groups:
        group.mkdir(exist_ok=True)
    command = ["unshare", "-m", "sh", "-c", ENTER, "sh", *map(str, groups)]
    of_all = Path(environment["XDG_CONFIG_HOME"]) / "systemd/user/service.d"
    of_all.mkdir(parents=True, exist_ok=True)
    lines = (f"Standard{stream}=append:{journal}\n" for stream in ("Output", "Error"))
    (of_all / "journal.conf").write_text("".join(["[Service]\n", *lines]))
    manager = subprocess.Popen(command, env=dict(environment))
    try:
        _wait_until_it_runs(manager, environment)
        yield
    finally:
        manager.send_signal(signal.SIGTERM)
        manager.wait(ENDS_S)
        for group in groups:
            for folder, _, _ in os.walk(group, topdown=False):
                os.rmdir(folder)


def _wait_until_it_runs(manager: subprocess.Popen[bytes], environment: Mapping[str, str]) -> None:
    deadline_s = time.monotonic() + STARTS_S
    while (said := systemctl(environment, "show", "--property=SystemState")) not in RUNS:
        assert manager.poll() is None, "it ended"
        assert time.monotonic() < deadline_s, said
        time.sleep(0.1)


def systemctl(environment: Mapping[str, str], *words: str) -> str:
    """What it prints."""
    done = subprocess.run(["systemctl", "--user", *words], env=dict(environment), capture_output=True, text=True)
    return done.stdout.strip()


def properties(environment: Mapping[str, str], unit: str, *names: str) -> dict[str, str]:
    """Of a unit."""
    lines = systemctl(environment, "show", unit, f"--property={','.join(names)}").splitlines()
    return dict(line.split("=", 1) for line in lines)
