"""What the system grants to sound in real time: priority and locked memory, or the line that says how to get them."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

AUDIO_PRIORITY: Final = 60  # above the kernel's interrupt threads (50), below a sound server (88)
OTHER_PRIORITY: Final = 20
RUNAWAY_US: Final = 500_000
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
    is_fifo = set_priority(OTHER_PRIORITY)
    if not is_fifo:
        lines.append("no real-time priority; set `@audio - rtprio 95` in /etc/security/limits.d, or LimitRTPRIO=95")
    is_locked = _lock_memory()
    if not is_locked:
        lines.append("memory is not locked; set `@audio - memlock unlimited` in limits.d, or LimitMEMLOCK=infinity")
    return Granted(is_fifo, is_locked, tuple(lines))


def set_priority(priority: int) -> bool:
    """SCHED_FIFO for the calling thread and those it starts; False: not permitted."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except OSError:
        return False
    return True


@contextmanager
def at_priority(priority: int) -> Iterator[None]:
    """`set_priority` meanwhile, where it is permitted."""
    is_set = set_priority(priority)
    try:
        yield
    finally:
        if is_set:
            give_back_priority()


def give_back_priority(thread_id: int = 0) -> None:
    """The thread, 0 for the calling one, is an ordinary one again."""
    os.sched_setscheduler(thread_id, os.SCHED_OTHER, os.sched_param(0))


@contextmanager
def no_runaway() -> Iterator[None]:
    """A real-time thread that computes for RUNAWAY_US without once waiting would lock everybody out: the kernel tells
    of it (SIGXCPU), and every thread becomes an ordinary one."""
    before = resource.getrlimit(resource.RLIMIT_RTTIME)
    handler = signal.signal(signal.SIGXCPU, _all_ordinary)
    limit_us = RUNAWAY_US if before[1] == _UNLIMITED else min(RUNAWAY_US, before[1])
    resource.setrlimit(resource.RLIMIT_RTTIME, (limit_us, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_RTTIME, before)
        signal.signal(signal.SIGXCPU, handler)


def _all_ordinary(_number: int, _frame: object) -> None:
    for thread_id in os.listdir("/proc/self/task"):
        try:
            give_back_priority(int(thread_id))
        except OSError:
            continue  # it ended meanwhile


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
