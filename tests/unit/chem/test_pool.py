import os

import pytest

from chembench.chem.pool import Processes, map_chunks
from chembench.errors import ConfigError, RunError


def die(smiles: list[str]) -> int:
    os._exit(1)


def test_chunks_are_in_order_and_whole():
    assert list(map_chunks(list, "abcdefg", 3, processes=1, progress=None)) == [["a", "b", "c"], ["d", "e", "f"], ["g"]]


def test_a_dead_worker_is_told():
    with pytest.raises(RunError, match="use fewer processes than 2") as caught:
        list(map_chunks(die, "abcd", 2, processes=2, progress=None))
    assert caught.value.cause == "worker-lost"


@pytest.mark.parametrize("processes", [1, 2])
def test_a_stream_is_taken_as_it_is_needed_and_keeps_its_order(processes):
    taken = []
    stream = Processes(processes).map(abs, (taken.append(n) or -n for n in range(1000)))
    assert next(stream) == (0, 0)
    assert len(taken) < 20
    assert list(stream) == [(-n, n) for n in range(1, 1000)]


def test_no_processes_are_refused():
    with pytest.raises(ConfigError, match="processes must be >= 1, got 0"):
        Processes(0)
