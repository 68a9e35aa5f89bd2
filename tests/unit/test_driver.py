"""What a driver holds against the ledger before it goes on."""

from types import SimpleNamespace

import pytest

from chembench.driver import _require_same_inputs
from chembench.errors import DataError
from chembench.sweep.ledger import SweepState


def prepared(**changed):
    return SimpleNamespace(digests=lambda: {"tokenizer": "t", "task delaney": "a", "labels": "l", **changed})


def begun():
    return SweepState(name="s", header={"inputs": prepared().digests()})


def test_a_sweep_goes_on_with_the_files_it_began_with():
    _require_same_inputs(prepared(), begun())


def test_a_file_that_changed_under_a_sweep_is_refused_by_name():
    with pytest.raises(DataError, match=r"inputs of sweep 's' have changed since it began: labels, task delaney; put"):
        _require_same_inputs(prepared(**{"task delaney": "b", "labels": "m"}), begun())
