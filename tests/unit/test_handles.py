"""A sweep on disk and its items as objects."""

import pytest
from kept_sweeps import SPACE, begun, carried_out
from sweep_fakes import drive, engine_on, paths_in

from chembench.handles import Sweep


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Sweep:
    """A finished one."""
    folder = tmp_path_factory.mktemp("kept")
    with begun(folder) as ledger:
        drive(engine_on(SPACE, ledger), carried_out)
    return Sweep(paths_in(folder).root)


def test_an_item_is_shown_whatever_stands_in_its_files(sweep):
    item = sweep.trials(kind="confirm")[0]
    item.paths.curves.write_bytes(b"\xff\n" + item.paths.curves.read_bytes())
    item.paths.error.write_bytes(b"Traceback \xff")
    shown = sweep.show(item.uid[:6])
    assert [point["epoch"] for point in shown["curves"]] == [1, 2, 3]
    assert shown["error"] == "Traceback \ufffd"
