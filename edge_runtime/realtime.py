"""What the system grants to sound in real time: priority and locked memory, or the line that says how to get them."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

AUDIO_PRIORITY: Final = 60  # above the kernel's interrupt threads (50), below a sound server (88)
OTHER_PRIORITY: Final = 20
MOST_SPIN_S: Final = 5  # longer than any engine takes to load
_MCL_CURRENT, _MCL_FUTURE = 1, 2
_UNLIMITED: Final = resource.RLIM_INFINITY


class Granted(NamedTuple):
    """What was had. `lines` say what was not, and the remedy."""

    is_fifo: bool
    is_locked: bool
    lines: tuple[str, ...]


def take_rights() -> Granted:
    """Ask for this thread, and for those it starts. All of them run FIFO, so that none of them can be kept from giving
    the interpreter's lock back by a busy program."""
    lines: list[str] = []
    _limit_spinning()
    is_fifo = set_priority(OTHER_PRIORITY)
    if not is_fifo:
        lines.append("no real-time priority; set `@audio - rtprio 95` in /etc/security/limits.d, or LimitRTPRIO=95")
    is_locked = _lock_memory()
    if not is_locked:
        lines.append("memory is not locked; set `@audio - memlock unlimited` in limits.d, or LimitMEMLOCK=infinity")
    return Granted(is_fifo, is_locked, tuple(lines))


def _limit_spinning() -> None:
    """A thread in real time that never waits takes the machine with it; the kernel ends such a process (SIGXCPU)."""
    _, most = resource.getrlimit(resource.RLIMIT_RTTIME)
    wanted = MOST_SPIN_S * 1_000_000
    if most == _UNLIMITED or most >= wanted:
        resource.setrlimit(resource.RLIMIT_RTTIME, (wanted, most))


def set_priority(priority: int) -> bool:
    """SCHED_FIFO for the calling thread and those it starts; False: not permitted."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except OSError:
        return False
    return True


def _lock_memory() -> bool:
    """Only without a limit: at a limit, later allocations would fail."""
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] != _UNLIMITED and os.geteuid() != 0:
        return False
    status: int = ctypes.CDLL(None).mlockall(_MCL_CURRENT | _MCL_FUTURE)
    return status == 0


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """The collector stops every thread for milliseconds; what runs here makes no cycles that matter."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
