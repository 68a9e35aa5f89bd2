import pickle

import pytest
import torch

from chembench.errors import DataError
from chembench.training.checkpoint import ResumeState, load_resume, save_resume


class Trap:
    """Writes a file if anyone unpickles it."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (open, (str(self.file), "w"))


def state(digest="abc"):
    return ResumeState(
        digest=digest,
        step=3,
        loss_sum=1.5,
        labels=4,
        rng=[torch.get_rng_state()],
        model={"a": torch.ones(2)},
        optimiser={"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        curve=[{"epoch": 1.0}],
    )


def test_a_state_comes_back(tmp_path):
    save_resume(tmp_path / "resume.pt", state())
    found = load_resume(tmp_path / "resume.pt", "abc")
    assert (found.step, found.loss_sum, found.labels, found.curve) == (3, 1.5, 4, [{"epoch": 1.0}])
    assert torch.equal(found.model["a"], torch.ones(2)) and torch.equal(found.rng[0], state().rng[0])
    assert found.optimiser["param_groups"] == [{"lr": 0.1, "params": [0]}]


def test_nothing_in_a_state_is_unpickled(tmp_path):
    for name, write in {
        "torch": lambda file: torch.save({"digest": Trap(tmp_path / "sprung")}, file),
        "plain": lambda file: file.write_bytes(pickle.dumps(Trap(tmp_path / "sprung"))),
    }.items():
        write(tmp_path / name)
        with pytest.raises(DataError, match=r"must be the state of a stopped pre-training .*; delete it"):
            load_resume(tmp_path / name, "abc")
    assert not (tmp_path / "sprung").exists()


def test_a_broken_or_foreign_state_is_refused(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    torch.save({"digest": "abc"}, tmp_path / "partial")
    for name in ("empty", "partial"):
        with pytest.raises(DataError, match="must be the state of a stopped pre-training"):
            load_resume(tmp_path / name, "abc")
    save_resume(tmp_path / "other", state("def"))
    with pytest.raises(DataError, match="must belong to pre-training abc, it belongs to def"):
        load_resume(tmp_path / "other", "abc")
