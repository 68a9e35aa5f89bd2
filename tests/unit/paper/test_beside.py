"""Ours stands beside the published figure with its band, or is not comparable for a reason that is told."""

import pytest

from chembench.paper.beside import beside, called
from chembench.paper.published import RUNS, TASKS, configurations
from chembench.replay import replay

CELL = ("llama", "30M", 30_000_000)
FIGURES = configurations()["llama-30M-30000000"]
SHIFT = {"lipo": 1.0, "hiv": -0.2}
"""These two are far off."""


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep with one published cell on five of the six tasks, which scores what was published but for the shift."""
    folder = tmp_path_factory.mktemp("beside")
    lines = ["architecture,size,molecules,task,task_type,repeat,validation_loss,test_score,metric"]
    for task in TASKS[:-1]:
        kind, metric = ("classification", "roc_auc") if task in TASKS[3:] else ("regression", "rmse_normalised")
        value = FIGURES[task].mean + SHIFT.get(task, 0.0)
        lines += [f"llama,30M,30000000,{task},{kind},{i},0.5,{value:.4f},{metric}" for i in range(RUNS)]
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    places = {"out": folder / "sweeps", "cache_dir": folder / "cache", "show_progress": False}
    return replay(folder / "rows.csv", space="full_grid", **places)


@pytest.fixture
def state(swept):
    return swept.state()


def test_every_figure_has_its_place(state):
    found = {line.task: line for line in beside(state)}
    assert set(found) == set(TASKS)
    places = {task: line.place for task, line in found.items()}
    assert places == {**dict.fromkeys(TASKS, "within band"), "lipo": "outside", "hiv": "outside"} | {
        "tox21_sr_p53": "not comparable"
    }
    assert found["tox21_sr_p53"].reason == "the sweep does not have this task"
    assert found["delaney"].low < found["delaney"].ours.mean < found["delaney"].high


def test_a_replay_is_not_called_a_sweep_of_ours(state):
    assert called(state) == "full_grid-replay, a replay of rows.csv,"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"split": "random"}, "it is divided by random, the paper's by deepchem_scaffold"),
        ({"max_rows": 128}, "max_rows is 128"),
    ],
)
def test_what_is_another_thing_is_not_compared(state, change, told):
    if "split" in change:
        state.header["tasks"]["delaney"].update(change)
    else:
        state.header["space"]["task"]["lipo"].update(change)
    task = "delaney" if "split" in change else "lipo"
    (line,) = [line for line in beside(state) if line.task == task]
    assert (line.place, line.reason) == ("not comparable", told)


def test_missing_runs_and_units_are_told(state):
    runs = [item for item in state.items.values() if item.kind == "confirm"]
    next(item for item in runs if item.spec.task == "hiv").status = "failed"
    own = next(item for item in runs if item.spec.task == "bace_regression")
    kept = {name: value for name, value in own.outcome.metrics.items() if name != "test/rmse_normalised"}
    own.outcome = own.outcome.model_copy(update={"metrics": kept})
    found = {line.task: line.reason for line in beside(state)}
    assert found["hiv"] == "its confirm runs are not all finished"
    assert found["bace_regression"] == "its rows lack RMSE in standard deviations of the training labels"
