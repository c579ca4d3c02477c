"""Who speaks while work goes on: progress goes to whom the caller names, what native libraries write to nobody.

What matters of theirs comes back as an exception. Nor is anybody left to wonder whether work goes on at all.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from typing import Any

MOST_SILENT_S = 4.6  # a look later it is said that work goes on: within 5 s
LOOK_S = 0.1

Progress = Callable[[str], None]  # takes a line that says what is done now


def silent(message: str) -> None:
    """Progress that nobody reads."""


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Send file descriptor 2 to nowhere: for the whole process, so for short moments such as loading."""
    try:
        kept = os.dup(2)
    except OSError:  # started with standard error closed
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class Heard:
    """A text stream that knows for how long nothing was written to it."""

    def __init__(self, stream: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock, self._last_s = stream, clock, clock()

    def write(self, text: str) -> int:
        """As the stream does it."""
        self.note()
        return int(self._stream.write(text))

    def note(self) -> None:
        """Something was said elsewhere."""
        self._last_s = self._clock()

    @property
    def silent_s(self) -> float:
        """Since the last that was written."""
        return self._clock() - self._last_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def ticking(look: Callable[[], None], look_s: float = LOOK_S) -> Iterator[None]:
    """`look` is called again and again, by a thread of its own, until the work below is done."""
    from threading import Event, Thread  # which no `--help` waits for

    has_ended = Event()

    def watch() -> None:
        with suppress(OSError, ValueError):  # nobody reads it any more
            while not has_ended.wait(look_s):
                look()

    watching = Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    finally:
        has_ended.set()
        watching.join()


@contextmanager
def never_silent(look: Callable[[float], None], look_s: float = LOOK_S) -> Iterator[Callable[[], None]]:
    """`look` is called again and again with the seconds since anything was written to standard error, and may speak.
    Given is what to call when something was said elsewhere."""
    heard = Heard(sys.stderr)
    with redirect_stderr(heard), ticking(lambda: look(heard.silent_s), look_s):
        yield heard.note
