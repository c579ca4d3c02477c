"""Who speaks while work goes on: progress goes to whom the caller names, what native libraries write to nobody.

What matters of theirs comes back as an exception.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
