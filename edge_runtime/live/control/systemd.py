"""What systemd and its service tell each other: READY, WATCHDOG, STOPPING over the datagram socket that it names
(sd_notify(3)), the run-time folder that it made, and whether a stream is its journal's."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TextIO


def notify(state: str) -> bool:
    """Send "READY=1" and the like. False: nobody asked, or nobody listens; a service must not fail of it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.connect("\0" + address[1:] if address.startswith("@") else address)
            to.sendall(state.encode())
    except OSError:
        return False
    return True


def runtime_folder() -> Path | None:
    """The service's folder below /run. None: this is no service, or it has none."""
    folder = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(folder) if folder else None


def is_journal(stream: TextIO) -> bool:
    """Whether what is printed there is kept in the journal, on an SD card perhaps (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # none, or none of the system's
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def watchdog_s() -> float | None:
    """How often systemd wants to hear WATCHDOG=1: half its limit. None: it does not."""
    limit_us = os.environ.get("WATCHDOG_USEC", "")
    if not limit_us.isdecimal() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(limit_us) / 2e6
