"""The same work on many molecules: in this process, in several, or wherever else a `Pool` puts it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import chain, islice
from multiprocessing import get_context
from typing import Protocol, TypeVar

from chembench.errors import ConfigError, RunError

Item = TypeVar("Item")
Begun = TypeVar("Begun")
Result = TypeVar("Result")
Progress = Callable[[int, int], None]
"""Called with the molecules done and the molecules in all."""
AHEAD = 3
"""Items for each worker that are handed out before their turn."""


class Pool(Protocol):
    """Who carries out the same work on many items."""

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Generator[tuple[Item, Result]]:
        """Each of ``items`` and ``work`` on it, in order; no more are taken than are needed to keep all at work.

        Args:
            work: what can cross a process border, such as a function of a module.
            items: each crosses a process border, and so does what comes of it.

        Raises:
            RunError: if a worker dies.
        """


@dataclass(frozen=True, slots=True)
class Processes:
    """Processes of this machine; one alone is the process that asks.

    They are spawned, because a fork of a process with threads (Ray, torch) can hang.

    Raises:
        ConfigError: if ``count`` is below 1.
    """

    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError(f"processes must be >= 1, got {self.count}")

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> Generator[tuple[Item, Result]]:
        """See `Pool.map`; a single item is worked on here."""
        is_one, items = only_one(items)
        if self.count == 1 or is_one:
            yield from ((item, work(item)) for item in items)
            return
        with ProcessPoolExecutor(self.count, mp_context=get_context("spawn")) as pool:

            def begin(item: Item) -> Future[Result]:
                return pool.submit(work, item)

            def end(begun: Future[Result]) -> Result:
                return begun.result()

            try:
                yield from in_order(items, begin, end, lambda: AHEAD * self.count)
            except BrokenProcessPool as error:
                raise RunError(
                    "a worker process died, most often for want of memory; "
                    f"use fewer processes than {self.count} and start again, what is finished is kept",
                    cause="worker-lost",
                ) from error
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


HERE = Processes(1)
"""The process that asks."""


def only_one(items: Iterable[Item]) -> tuple[bool, Iterator[Item]]:
    """Whether there is one item at most, which is not worth starting workers for; and all of them."""
    rest = iter(items)
    first = list(islice(rest, 2))
    return len(first) < 2, chain(first, rest)


def in_order(
    items: Iterable[Item], begin: Callable[[Item], Begun], end: Callable[[Begun], Result], ahead: Callable[[], int]
) -> Iterator[tuple[Item, Result]]:
    """Each item and its result, while so many as ``ahead`` says are begun before their turn."""
    waiting: deque[tuple[Item, Begun]] = deque()

    def first() -> tuple[Item, Result]:
        item, begun = waiting.popleft()
        return item, end(begun)

    for item in items:
        waiting.append((item, begin(item)))
        if len(waiting) > ahead():
            yield first()
    while waiting:
        yield first()


def map_chunks(
    work: Callable[[list[str]], Result], smiles: Sequence[str], chunk: int, processes: int, progress: Progress | None
) -> Iterator[Result]:
    """``work`` on every ``chunk`` molecules, in order.

    Raises:
        ConfigError: if ``processes`` is below 1.
        RunError: if a worker process dies.
    """
    chunks = (list(smiles[start : start + chunk]) for start in range(0, len(smiles), chunk))
    done = 0
    for part, result in Processes(processes).map(work, chunks):
        done += len(part)
        if progress is not None:
            progress(done, len(smiles))
        yield result
