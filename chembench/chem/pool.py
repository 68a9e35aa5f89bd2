"""Work on many molecules, cut into chunks, in this process or in several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from chembench.errors import ConfigError, RunError

Result = TypeVar("Result")
Progress = Callable[[int, int], None]
"""Called with the molecules done and the molecules in all."""


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
    if processes < 1:
        raise ConfigError(f"processes must be >= 1, got {processes}")
    chunks = [list(smiles[start : start + chunk]) for start in range(0, len(smiles), chunk)]
    done = 0
    for part, result in zip(chunks, _results(work, chunks, processes), strict=True):
        done += len(part)
        if progress is not None:
            progress(done, len(smiles))
        yield result


def _results(work: Callable[[list[str]], Result], chunks: list[list[str]], processes: int) -> Iterator[Result]:
    if processes == 1 or len(chunks) < 2:
        yield from map(work, chunks)
        return
    with ProcessPoolExecutor(min(processes, len(chunks)), mp_context=get_context("spawn")) as pool:
        try:
            yield from pool.map(work, chunks)
        except BrokenProcessPool as error:
            raise RunError(
                f"a worker process died, most often for want of memory; use fewer processes than {processes}",
                cause="worker-lost",
            ) from error
