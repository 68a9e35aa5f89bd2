import os

import pytest

from chembench.chem.pool import map_chunks
from chembench.errors import RunError


def die(smiles: list[str]) -> int:
    os._exit(1)


def test_chunks_are_in_order_and_whole():
    assert list(map_chunks(list, "abcdefg", 3, processes=1, progress=None)) == [["a", "b", "c"], ["d", "e", "f"], ["g"]]


def test_a_dead_worker_is_told():
    with pytest.raises(RunError, match="use fewer processes than 2") as caught:
        list(map_chunks(die, "abcd", 2, processes=2, progress=None))
    assert caught.value.cause == "worker-lost"
