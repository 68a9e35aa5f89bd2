"""What is said of an item that was carried out a second time."""

import json
from pathlib import Path

import pytest
from sweep_fakes import grid_space, paths_in, prepared_for, swept

from chembench.errors import ConfigError
from chembench.paths import CachePaths, RunPaths, SweepPaths, write_json
from chembench.rerun import Rerun, _recorded, judged, rerun
from chembench.specs import Cell, FinetuneSpec, ModelSpec, Outcome, TrialSpec
from chembench.sweep.resolve import Resolver
from chembench.sweep.state import ItemRecord, SweepState

MODEL = ModelSpec(
    architecture="roberta", hidden=16, ffn=32, layers=1, heads=1, vocabulary=50, pad_id=1, bos_id=0, eos_id=2
)
CELL = Cell(architecture="roberta", size="w16x1", molecules=0)
METRICS = {"objective": 0.5, "valid/rmse": 1.0, "best_epoch": 2.0}


def trial(seed: int, split: int = 0) -> TrialSpec:
    return TrialSpec(
        kind="confirm", model=MODEL, pretrained=None, descriptors=3, tokenizer="t", task="solubility",
        task_kind="regression", targets=1, data="d", test_rows="r", sealed="s", split=split,
        finetune=FinetuneSpec(learning_rate=1e-3), head_seed=seed,
    )  # fmt: skip


def outcome(uid: str, status="finished", objectives=(0.7, 0.5), **metrics) -> Outcome:
    whole = {**METRICS, **{name.replace("__", "/"): value for name, value in metrics.items()}}
    return Outcome(
        uid=uid, attempt=1, kind="confirm", status=status, metrics=whole if status == "finished" else {},
        objectives=objectives, message="" if status != "failed" else "it broke",
    )  # fmt: skip


class Recorded:
    """A sweep with one item per objective, all replicates of one cell and recipe; the first is repeated."""

    def __init__(self, folder, *objectives: float) -> None:
        self.paths = SweepPaths(folder)
        self.state = SweepState(name="s")
        for seed, objective in enumerate(objectives):
            spec = trial(seed)
            item = ItemRecord(spec.digest, spec, CELL, {}, attempt=1, status="finished")
            item.outcome = outcome(item.uid, objective=objective)
            self.state.items[item.uid] = item
        self.uid = next(iter(self.state.items))
        self.predict(self.paths.run(self.uid, 1).root, 0.25)

    @property
    def again(self):
        return self.paths.trials / self.uid / "rerun-1"

    def predict(self, folder, value: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        rows = f"part,row,smiles,target,measured,predicted\ntest,4,C,y,1.0,{value}\ntest,9,CC,y,1.0,0.75\n"
        (folder / "predictions.csv").write_text(rows)

    def judge(self, predicted: float = 0.25, **changed) -> Rerun:
        self.predict(self.again, predicted)
        now = outcome(self.uid, **changed)
        return judged(Rerun(self.uid, self.again, now), self.state, self.paths.run(self.uid, 1))


def test_the_same_bits_are_equal(tmp_path):
    found = Recorded(tmp_path, 0.5).judge()
    assert (found.verdict, found.largest) == ("equal", None)
    assert found.text.endswith("equal: every metric, epoch and prediction is the recorded one, bit for bit")


def test_replicates_say_how_much_is_noise(tmp_path):
    recorded = Recorded(tmp_path, 0.5, 0.4, 0.55)
    found = recorded.judge(objective=0.6)
    assert found.verdict == "within noise"
    assert found.reason == "noise is how far 3 recorded replicates lie apart"
    assert found.largest.text == "objective was 0.5, is 0.6, noise is 0.15"
    assert "largest difference: objective was 0.5" in found.text
    assert recorded.judge(objective=0.66).verdict == "different"


def test_the_difference_that_is_named_is_the_largest_in_noises(tmp_path):
    recorded = Recorded(tmp_path, 0.5, 0.4)
    found = recorded.judge(objective=0.55, valid__rmse=1.01)  # no replicate differs in its RMSE
    assert (found.verdict, found.largest.name) == ("different", "valid/rmse")


def test_without_replicates_a_thousandth_is_noise(tmp_path):
    recorded = Recorded(tmp_path, 0.5)
    found = recorded.judge(objective=0.5004)
    assert found.verdict == "within noise"
    assert found.reason == "noise is 0.001 of the recorded value, as no other replicate is recorded"
    assert recorded.judge(objective=0.5006).verdict == "different"


def test_another_split_is_no_replicate(tmp_path):
    recorded = Recorded(tmp_path, 0.5)
    spec = trial(1, split=1)
    other = ItemRecord(spec.digest, spec, CELL, {}, attempt=1, status="finished")
    other.outcome = outcome(other.uid, objective=0.9)
    recorded.state.items[other.uid] = other
    assert recorded.judge(objective=0.6).verdict == "different"


def test_an_earlier_epoch_counts_as_well(tmp_path):
    found = Recorded(tmp_path, 0.5).judge(objectives=(0.8, 0.5))
    assert (found.verdict, found.largest.name) == ("different", "objective of epoch 1")


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"best_epoch": 1.0}, "best_epoch"),
        ({"predicted": 0.35}, "prediction of y (test row 4)"),
        ({"objectives": (0.7,)}, "number of epochs"),
    ],
)
def test_what_follows_from_the_scores_is_told_and_not_judged(tmp_path, changed, name):
    found = Recorded(tmp_path, 0.5).judge(**changed)
    assert (found.verdict, found.largest.name) == ("within noise", name)
    assert json.loads(json.dumps(found.as_data(), allow_nan=False))["largest"]["noise"] is None


def test_another_end_is_different(tmp_path):
    found = Recorded(tmp_path, 0.5).judge(status="failed")
    assert found.verdict == "different"
    assert found.reason == "it was finished with 3 metrics, now it is failed with 0: it broke"


@pytest.fixture(scope="module")
def handed_out(tmp_path_factory):
    """A whole sweep whose pruner reads earlier windows, and the last attempt at each of its items."""
    folder = tmp_path_factory.mktemp("swept")
    space = grid_space(search__pruner="median")
    state, works = swept(space, folder)
    for work in works:
        write_json(RunPaths(Path(work.folder)).spec, work.model_dump(mode="json"))
    return paths_in(folder), state, Resolver(space, prepared_for(space), CachePaths(Path("/cache"))), works


@pytest.mark.parametrize("content", [None, b"{", b"\xff", b"[]", b"of another"])
def test_an_item_is_repeated_as_it_was_handed_out_whatever_became_of_its_specification(handed_out, content):
    paths, state, resolver, works = handed_out
    assert {work.kind for work in works} == {"pretrain", "search", "rescore", "confirm", "baseline"}
    assert any(work.rungs and work.rungs.earlier for work in works)
    for work, other in zip(works, [*works[1:], works[0]], strict=True):
        file = paths.run(work.uid, work.attempt).spec
        if content is None:
            file.unlink(missing_ok=True)
        else:
            file.write_bytes(other.model_dump_json().encode() if content == b"of another" else content)
        assert _recorded(paths, state, state.items[work.uid], resolver) == work


def test_only_what_has_ended_well_is_repeated(tmp_path):
    recorded = Recorded(tmp_path, 0.5)
    recorded.state.items[recorded.uid].status = "failed"
    with pytest.raises(ConfigError, match=r"only an item that is finished or pruned can be repeated, \w+ is failed"):
        rerun(recorded.paths, recorded.state, recorded.uid, check=True)
