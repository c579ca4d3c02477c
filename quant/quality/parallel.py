"""Many independent jobs, on this machine's cores (`isolated`) or on a Dask cluster (joblib), with progress.

Results come in the order of the jobs (`run`) or as they are done (`completed`), and are the same numbers wherever they
were computed. What several jobs share goes as bytes (`packed`), which a worker opens once and keeps (`opened`).
"""

from __future__ import annotations

import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Final, TypeVar

from edge_runtime.errors import Failure
from edge_runtime.extras import how_to_install
from edge_runtime.quiet import ticking
from quant.quality import isolated
from quant.quality.isolated import AfterDeath

BAR: Final = "{percentage:3.0f} % |{bar}| {n:.0f} of {total_fmt} {unit}, {remaining} left"
LINE_EVERY_S: Final = 4.0  # where stderr is not a terminal: nobody should wonder whether it still runs
TICK_S: Final = 0.5
CONNECT_S: Final = 10
N_OPEN: Final = 64  # a process keeps at most so many: a few MB each

Job = TypeVar("Job")
Result = TypeVar("Result")


def run(
    task: Callable[..., Result],
    jobs: Sequence[tuple[Any, ...]],
    *,
    unit: str,
    n_jobs: int = -1,
    quiet: bool = False,
) -> Iterator[Result]:
    """task(*job) for every job, in order, in `n_jobs` processes (-1: one a core). Failure: a process dies."""
    waiting: dict[int, Result] = {}
    following = 0
    for place, result in completed(task, jobs, unit=unit, n_jobs=n_jobs, quiet=quiet):
        waiting[place] = result
        while following in waiting:
            yield waiting.pop(following)
            following += 1


def completed(
    task: Callable[..., Result],
    jobs: Sequence[tuple[Any, ...]],
    *,
    unit: str,
    sizes: Sequence[float] | None = None,
    n_jobs: int = -1,
    scheduler: str | None = None,
    quiet: bool = False,
    after_death: AfterDeath[Result] | None = None,
) -> Iterator[tuple[int, Result]]:
    """(place, task(*job)) for every job as it is done, the largest first, lest it runs alone at the end.

    In `n_jobs` processes here (-1: one a core), or by a scheduler's workers. Progress counts `sizes` in `unit`s: what
    each job costs, one if not given. A job that takes its process with it gets the result of `after_death`.
    Failure: no scheduler answers, or without `after_death` a process dies.
    """
    costs = [float(size) for size in sizes] if sizes else [1.0] * len(jobs)
    order = sorted(range(len(jobs)), key=lambda place: -costs[place])
    sorted_jobs = [jobs[place] for place in order]
    if scheduler is None:
        done = isolated.each(task, sorted_jobs, n_jobs, after_death or _refuse_death)
        found = ((order[place], result) for place, result in done)
        yield from watched(found, costs, unit, quiet)
        return
    from joblib import Parallel, delayed

    with _cluster(scheduler):
        results = Parallel(return_as="generator")(delayed(task)(*job) for job in sorted_jobs)
        yield from watched(zip(order, results, strict=True), costs, unit, quiet)


def _refuse_death(call: isolated.Call, job: tuple[Any, ...], of: str) -> Any:
    raise Failure(f"a worker process died: {of}", remedy="close other programs, or look at what dies with `quant eval`")


@contextmanager
def _cluster(scheduler: str) -> Iterator[None]:
    from joblib import parallel_config

    with _connected(scheduler) as client, parallel_config("dask", client=client):
        from distributed import KilledWorker

        try:
            yield
        except KilledWorker as error:
            remedy = "run it without --scheduler to learn which clip does it, or give workers more memory"
            raise Failure("a worker died again and again", where=scheduler, remedy=remedy) from error


def _connected(scheduler: str) -> AbstractContextManager[Any]:
    """A Dask client whose workers have this package. Failure: nobody answers, no worker, not there."""
    from distributed import Client, TimeoutError

    try:
        client = Client(scheduler, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        remedy = "start one with `dask scheduler` and name its tcp:// address"
        raise Failure("no scheduler answers", where=scheduler, remedy=remedy) from error
    try:
        client.wait_for_workers(1, timeout=CONNECT_S)
        lacking = [worker for worker, spec in client.run(find_spec, "quant").items() if spec is None]
    except TimeoutError as error:
        client.close()
        remedy = f"start some: `dask worker {scheduler}`"
        raise Failure("the scheduler has no workers", where=scheduler, remedy=remedy) from error
    if lacking:
        client.close()
        remedy = (
            f"install the same there, with the extras build, eval and cluster, as here by {how_to_install('cluster')}"
        )
        raise Failure("edge-denoise is not installed", where=lacking[0], remedy=remedy)
    return client


def watched(
    results: Iterable[tuple[int, Result]], sizes: Sequence[float], unit: str, quiet: bool = False
) -> Iterator[tuple[int, Result]]:
    """The results; meanwhile a bar with an estimate on a terminal, or now and then a line, on standard error."""
    if quiet:
        yield from results
        return
    from tqdm import tqdm

    is_terminal, total, n_done = sys.stderr.isatty(), sum(sizes), 0.0
    bar = tqdm(total=round(total), unit=unit, bar_format=BAR, file=sys.stderr, leave=False, disable=not is_terminal)
    start = last = time.monotonic()

    def look() -> None:
        nonlocal last
        if is_terminal:
            bar.refresh()
        elif (now := time.monotonic()) - last >= LINE_EVERY_S:
            last = now
            _say(n_done, total, unit, now - start)

    with bar, ticking(look, TICK_S):
        for place, result in results:
            n_done += sizes[place]
            bar.update(sizes[place])
            yield place, result


def _say(n_done: float, n_total: float, unit: str, elapsed_s: float) -> None:
    left = f", about {elapsed_s / n_done * (n_total - n_done):.0f} s left" if n_done else ""
    print(f"{n_done:.0f} of {n_total:.0f} {unit}{left}", file=sys.stderr, flush=True)


def packed(shared: Any) -> bytes:
    """Anything picklable, functions of a script too, as bytes: equal bytes are opened once."""
    import cloudpickle

    return bytes(cloudpickle.dumps(shared))


def opened(opener: bytes) -> Any:
    """What calling the packed `opener` gave, made once a process and thread: engines are not for two threads."""
    return _opened(opener, threading.get_ident())


@lru_cache(maxsize=N_OPEN)
def _opened(opener: bytes, thread: int) -> Any:
    return pickle.loads(opener)()
