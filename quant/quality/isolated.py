"""Jobs in processes that may die: a metric in C that crashes, an engine with an instruction that the processor lacks,
a machine out of memory. What dies is one job; another process takes the place, and the others go on.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cache
from queue import SimpleQueue
from typing import Any, Final, Protocol, TypeVar

from edge_runtime.engines.apart import death
from edge_runtime.machine import check_semaphores

IDLE_S: Final = 60.0  # a process that nobody needs ends after so long
LOOK_S: Final = 1.0  # between looks whether the program that asked is still there
_EXIT: Final = re.compile(r"\{(\w+)\((-?\d+)\)")  # loky: "The exit codes of the workers are {SIGSEGV(-11)}"
_ALONE: Final = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)

Result = TypeVar("Result")


class Died(Exception):
    """A process ended in the middle of a job; the text says of what."""


class Call(Protocol):
    """Run task(*job) in a process of its own. Died: it took the process with it."""

    def __call__(self, task: Callable[..., Result], *job: Any) -> Result: ...


AfterDeath = Callable[[Call, tuple[Any, ...], str], Result]
"""(a way to try again, the job, what its process died of) -> what stands for its result."""


class Worker:
    """A process for one job after the other, in turn with those that take its place when it dies."""

    def __init__(self) -> None:
        self._executor: Any = None

    def call(self, task: Callable[..., Result], *job: Any) -> Result:
        """task(*job). Died: the process ended."""
        from joblib.externals.loky import ProcessPoolExecutor
        from joblib.externals.loky.process_executor import BrokenProcessPool, ShutdownExecutorError

        if self._executor is None:
            env = {**_ALONE, "PYTHONFAULTHANDLER": ""}  # which keeps a crash from printing a traceback of C
            self._executor = ProcessPoolExecutor(
                1, timeout=IDLE_S, initializer=_start, initargs=(os.getpid(),), env=env
            )
        try:
            result: Result = self._executor.submit(task, *job).result()
        except (BrokenProcessPool, ShutdownExecutorError) as error:
            self.stop()
            raise Died(_how(error)) from error
        return result

    def stop(self) -> None:
        """End the process, whatever it does."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False, kill_workers=True)


def each(
    task: Callable[..., Result], jobs: Sequence[tuple[Any, ...]], n_jobs: int, after_death: AfterDeath[Result]
) -> Iterator[tuple[int, Result]]:
    """(its place among the jobs, task(*job)) for every job as it is done, in `n_jobs` processes (-1: one a core)."""
    check_semaphores()
    n_workers = max(1, min((os.cpu_count() or 1) if n_jobs < 0 else n_jobs, len(jobs)))
    workers = [_worker(number) for number in range(n_workers)]
    idle: SimpleQueue[Worker] = SimpleQueue()
    for worker in workers:
        idle.put(worker)
    ends = threading.Event()

    def one(job: tuple[Any, ...]) -> Result:
        worker = idle.get()
        try:
            return worker.call(task, *job)
        except Died as died:
            if ends.is_set():
                raise
            return after_death(worker.call, job, str(died))
        finally:
            idle.put(worker)

    threads = ThreadPoolExecutor(n_workers)
    try:
        places = {threads.submit(one, job): place for place, job in enumerate(jobs)}
        for done in as_completed(places):
            yield places.pop(done), done.result()
    except BaseException:  # interrupted, or nobody wants the rest: nothing may go on behind the user's back
        ends.set()
        threads.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.stop()
        raise
    threads.shutdown()


@cache
def _worker(number: int) -> Worker:
    """Kept: a search runs jobs a thousand times, and what a process has opened stays open."""
    return Worker()


def _start(asked: int) -> None:
    """Ctrl-C reaches every process of a terminal: the one that was asked ends the others. Killed, it cannot: then they
    end by themselves, and after them what unlinks their semaphores.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(asked,), daemon=True).start()


def _end_with(asked: int) -> None:
    """The system's own signal would come at the end of the thread that started this process, not of the program."""
    while os.getppid() == asked:
        time.sleep(LOOK_S)
    os._exit(1)


def _how(error: Exception) -> str:
    found = _EXIT.search(str(error))
    if found is None:
        return str(error).splitlines()[0]
    return death(-int(found[2])) if int(found[2]) < 0 else f"exit status {found[2]} without a word"
