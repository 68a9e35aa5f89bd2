"""Work on many molecules, cut into chunks, in this process or in several."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from multiprocessing import get_context
from typing import TypeVar

from chembench.errors import ConfigError, RunError

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int, int], None]
"""Called with the molecules done and the molecules in all."""
_AHEAD = 3
"""Items per process that are handed out before their turn."""


def map_chunks(
    work: Callable[[list[str]], Result], smiles: Sequence[str], chunk: int, processes: int, progress: Progress | None
) -> Iterator[Result]:
    """``work`` on every ``chunk`` molecules, in order.

    Processes are spawned, because a fork of a process with threads (Ray, torch) can hang; so ``work`` must be a
    function of a module or a partial of one.

    Raises:
        ConfigError: if ``processes`` is below 1.
        RunError: if a worker process dies.
    """
    chunks = (list(smiles[start : start + chunk]) for start in range(0, len(smiles), chunk))
    done = 0
    for part, result in map_stream(work, chunks, processes):
        done += len(part)
        if progress is not None:
            progress(done, len(smiles))
        yield result


def map_stream(work: Callable[[Item], Result], items: Iterable[Item], processes: int) -> Iterator[tuple[Item, Result]]:
    """Each of ``items`` and ``work`` on it, in order; no more are taken than are needed to keep all processes at work.

    Raises:
        ConfigError: if ``processes`` is below 1.
        RunError: if a worker process dies.
    """
    if processes < 1:
        raise ConfigError(f"processes must be >= 1, got {processes}")
    rest = iter(items)
    first = list(islice(rest, 2))
    if processes == 1 or len(first) < 2:
        yield from ((item, work(item)) for item in chain(first, rest))
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        waiting: deque[tuple[Item, Future[Result]]] = deque()
        try:
            for item in chain(first, rest):
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) > _AHEAD * processes:
                    yield _first_of(waiting)
            while waiting:
                yield _first_of(waiting)
        except BrokenProcessPool as error:
            raise RunError(
                f"a worker process died, most often for want of memory; use fewer processes than {processes}",
                cause="worker-lost",
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _first_of(waiting: deque[tuple[Item, Future[Result]]]) -> tuple[Item, Result]:
    item, future = waiting.popleft()
    return item, future.result()
