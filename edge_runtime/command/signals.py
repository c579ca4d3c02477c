"""Signals that end a program: all that cleans up after Ctrl-C cleans up after them."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

INTERRUPTED = 130
SIGNALLED = 128  # and the signal's number
_SOON_S = 0.01
_IMPORT = "<frozen importlib._bootstrap>"
_Handler = Callable[[int, "FrameType | None"], Any]


class Stopped(KeyboardInterrupt):
    """SIGTERM or SIGHUP, so that all that cleans up after Ctrl-C cleans up after them."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def signals_clean_up() -> Iterator[None]:
    """Both end the program as Ctrl-C does, where nobody decided otherwise (nohup); a second one does not disturb."""
    threads = sys.modules.get("threading")  # before anybody has asked for threads there is one
    if threads and threads.current_thread() is not threads.main_thread():
        yield
        return
    own_pid = os.getpid()
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != own_pid:  # a forked worker: its parent cleans up
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)

    reminder = _Reminder(stop)
    patient = {number: _WhenLoaded(stop) for number in numbers}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        patient[signal.SIGINT] = _WhenLoaded(signal.default_int_handler)
    before = {number: signal.signal(number, handler) for number, handler in patient.items()}
    try:
        yield
    finally:
        reminder.close()
        for handler in patient.values():
            handler.close()
        for number, handler_before in before.items():
            signal.signal(number, handler_before)


class _WhenLoaded:
    """A handler that waits for a module to have loaded: C code that loads one reports an interruption as an error of
    its own, or goes on without what it imports, and crashes. A second signal does not wait."""

    def __init__(self, handler: _Handler) -> None:
        self._handler = handler
        self._waits = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self._waits and _loads(frame):
            self._waits = True
            _thread.start_new_thread(self._remind, (_thread.get_ident(), number))
        else:
            self._waits = False
            self._handler(number, frame)

    def close(self) -> None:
        """Nobody waits for a signal any more."""
        self._waits = False

    def _remind(self, thread: int, number: int) -> None:
        while self._waits:
            time.sleep(_SOON_S)
            if self._waits and not _loads(sys._current_frames().get(thread)):
                self._waits = False
                signal.pthread_kill(thread, number)


def _loads(frame: FrameType | None) -> bool:
    """Whether this is, or was called by, the import of a module."""
    while frame is not None and frame.f_code.co_filename != _IMPORT:
        frame = frame.f_back
    return frame is not None


class _Reminder:
    """Python drops what is raised in a callback of its own, of an import's lock for one, or in its hook for what it
    drops: an interruption comes again behind them, until it has arrived."""

    def __init__(self, stop: _Handler) -> None:
        self._stop = stop
        self._told, sys.unraisablehook = sys.unraisablehook, self._look
        self._is_owed = self._is_over = False

    def close(self) -> None:
        """Nobody waits for one any more."""
        self._is_over = True
        sys.unraisablehook = self._told

    def _look(self, dropped: Any) -> None:
        if not isinstance(dropped.exc_value, KeyboardInterrupt):
            self._told(dropped)
            return
        number = status_of(dropped.exc_value) - SIGNALLED
        signal.signal(number, self._pay)
        _thread.start_new_thread(self._remind, (_thread.get_ident(), number))
        self._is_owed = True  # last: until this has returned no other thread runs, and no handler

    def _pay(self, number: int, frame: FrameType | None) -> None:
        self._is_owed = False
        handler = signal.default_int_handler if number == signal.SIGINT else self._stop
        signal.signal(number, handler)
        handler(number, frame)

    def _remind(self, thread: int, number: int) -> None:
        """More than once: a signal that comes just before a long call of the system waits for its end."""
        was_owed = False
        while not self._is_over and (self._is_owed or not was_owed):
            was_owed = self._is_owed
            time.sleep(_SOON_S)
            if self._is_owed and not self._is_over:
                signal.pthread_kill(thread, number)


def status_of(stop: BaseException) -> int:
    """The exit status of a program that this ended."""
    return SIGNALLED + stop.number if isinstance(stop, Stopped) else INTERRUPTED


def interruption_in(error: BaseException | None) -> BaseException | None:
    """Ctrl-C while a native module loads comes wrapped in that module's ImportError."""
    seen: set[BaseException] = set()  # a chain of causes may lead back into itself
    while error is not None and error not in seen and not isinstance(error, KeyboardInterrupt):
        seen.add(error)
        error = error.__cause__
    return error if isinstance(error, KeyboardInterrupt) else None
