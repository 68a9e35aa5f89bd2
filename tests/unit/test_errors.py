import pytest

from chembench.errors import (
    CAUSES,
    ChembenchError,
    ConfigError,
    DataError,
    DiskFullError,
    InterruptedSweepError,
    RunError,
    StorageError,
    UnknownNameError,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ChembenchError("x"), 1),
        (ConfigError("x"), 2),
        (UnknownNameError("task", "x", ["y"]), 2),
        (DataError("x"), 1),
        (RunError("x"), 1),
        (InterruptedSweepError("x"), 4),
        (DiskFullError("x"), 4),
        (StorageError("x"), 4),
    ],
)
def test_each_kind_has_its_exit_code(error, code):
    assert error.exit_code == code
    assert isinstance(error, ChembenchError)


def test_several_problems_are_told_one_a_line():
    error = ConfigError(["grid.size: a", "search.trials: b"])
    assert error.problems == ("grid.size: a", "search.trials: b")
    assert str(error) == "grid.size: a\nsearch.trials: b"


def test_one_problem_is_a_tuple_of_one():
    assert ConfigError("only this").problems == ("only this",)


def test_an_unknown_name_lists_the_known_ones_sorted():
    error = UnknownNameError("task", "delany", ["lipo", "delaney"])
    assert str(error) == "unknown task 'delany'. Did you mean 'delaney'? Known: delaney, lipo."
    assert error.known == ["delaney", "lipo"]


def test_a_failed_item_carries_its_cause():
    assert RunError("out of memory", cause="oom").cause == "oom"
    assert RunError("surprise").cause == "bug"
    assert set(CAUSES) >= {"oom", "nan", "bug", "worker-lost"}
