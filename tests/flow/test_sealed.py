"""Test labels are sealed: with others in their place every search, rescore and choice stays as it was, to the byte."""

import csv
import json

import numpy as np
import pytest
from flow_sweeps import SMALL, asks, choices, without

from chembench.api import Sweep, load_space, open_engine
from chembench.data.tasks import TASKS, prepare_task
from chembench.paths import CachePaths
from chembench.trial import run_item


def write(file, rows, labels):
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("smiles", "value", "active"))
        writer.writerows((smiles, value, int(value >= 6.5)) for smiles, value in zip(rows, labels, strict=True))


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The same space before and after the labels of the test rows were changed in the raw file."""
    folder = tmp_path_factory.mktemp("sealed")
    file, cache = folder / "assay.csv", folder / "cache"
    known = prepare_task(TASKS["freewilson_pic50"].model_copy(update={"max_rows": 160}), folder, CachePaths(cache))
    labels = known.labels_NM[:, 0].astype(float)
    write(file, known.molecules, labels)
    own = f"file='{file}', split='random'"
    space = load_space(
        "full_grid_tiny",
        [
            *SMALL,
            "tasks=['value', 'active']",
            f"task={{value={{kind='regression', targets=['value'], {own}}}, "
            f"active={{kind='classification', targets=['active'], {own}}}}}",
        ],
    )
    drive(space, folder / "clean", cache)
    poison(file, known.molecules, labels, test_ids(Sweep(folder / "clean" / "assay")))
    drive(space, folder / "poisoned", cache)
    return Sweep(folder / "clean" / "assay"), Sweep(folder / "poisoned" / "assay")


@pytest.fixture(scope="module")
def nested(tmp_path_factory):
    """A search in each of two outer folds, before and after the labels of the first fold's test were changed."""
    folder = tmp_path_factory.mktemp("nested")
    file, cache = folder / "assay.csv", folder / "cache"
    known = prepare_task(TASKS["freewilson_pic50"].model_copy(update={"max_rows": 160}), folder, CachePaths(cache))
    labels = known.labels_NM[:, 0].astype(float)
    write(file, known.molecules, labels)
    space = load_space(
        "full_grid_tiny",
        [
            *SMALL,
            "tasks=['value']",
            f"task={{value={{kind='regression', targets=['value'], file='{file}'}}}}",
            "confirm.outer_folds=2",
            "confirm.outer_groups='random'",
            "confirm.outer_search='nested'",
        ],
    )
    drive(space, folder / "clean", cache)
    clean = Sweep(folder / "clean" / "assay")
    (place,) = {spec["inputs"]["split"] for spec in specs(clean, "search") if spec["spec"]["outer"] == 1}
    poison(file, known.molecules, labels, np.load(f"{place}/test_ids.npy", allow_pickle=False))
    drive(space, folder / "poisoned", cache)
    return clean, Sweep(folder / "poisoned" / "assay")


def poison(file, molecules, labels, rows):
    changed = labels.copy()
    changed[rows] = np.where(labels[rows] >= 6.5, -50.0, 50.0)
    write(file, molecules, changed)


def drive(space, out, cache):
    with open_engine(space, name="assay", out=out, cache_dir=cache) as engine:
        while not engine.done:
            outcome = run_item(engine.ask())
            assert outcome.status in ("finished", "pruned"), outcome.message
            engine.tell(outcome)


def test_ids(sweep):
    """Rows of the test, which both tasks share: they are divided by molecule."""
    ids = set()
    for folder in {spec["inputs"]["split"] for spec in specs(sweep, "search")}:
        ids.add(tuple(np.load(f"{folder}/test_ids.npy", allow_pickle=False)))
    (found,) = ids
    return np.array(found)


test_ids.__test__ = False


def specs(sweep, *kinds):
    items = [item for item in sweep.state().items.values() if item.kind in kinds]
    assert items
    return [json.loads(sweep.paths.run(item.uid, 1).spec.read_text()) for item in items]


def left_behind(sweep, *kinds):
    """Uid -> bytes of everything that an item wrote, but for times and places."""
    found = {}
    for item in sweep.state().items.values():
        if item.kind in kinds:
            run = sweep.paths.run(item.uid, 1)
            curves = [without(json.loads(line), "at") for line in run.curves.read_text().splitlines()]
            found[item.uid] = (
                json.dumps(without(json.loads(run.result.read_text()), "measured")),
                json.dumps(curves),
                run.predictions.read_bytes() if run.predictions.is_file() else None,
            )
    return found


def test_every_search_and_rescore_result_is_byte_equal(swept):
    clean, poisoned = (left_behind(sweep, "search", "rescore") for sweep in swept)
    assert len(clean) == 16
    assert clean == poisoned


def test_asks_and_choices_are_equal(swept):
    clean, poisoned = swept
    assert asks(clean) == asks(poisoned)
    assert choices(clean) == choices(poisoned)


def test_only_the_sealed_digest_of_the_specifications_differs(swept):
    clean, poisoned = (specs(sweep, "confirm") for sweep in swept)
    for before, after in zip(clean, poisoned, strict=True):
        assert before["spec"]["sealed"] != after["spec"]["sealed"]
        assert without(before["spec"], "sealed") == without(after["spec"], "sealed")
        assert before["inputs"]["split"] == after["inputs"]["split"]


def opened(sweep):
    """What saw the test -> its scores."""
    found = {}
    for item in sweep.state().items.values():
        if item.kind in ("confirm", "baseline"):
            method = item.cell.name if item.cell else item.spec.baseline
            found[method, item.labels["task"], item.labels["head_seed"]] = item.outcome.metrics
    return found


def test_the_poison_reached_the_test_scores_and_nothing_else(swept):
    clean, poisoned = map(opened, swept)
    assert set(clean) == set(poisoned)
    for key, before in clean.items():
        after = poisoned[key]
        differing = {name for name in before if before[name] != after.get(name)}
        assert all(name.startswith("test/") for name in differing), (key, differing)
    rmse = [key for key, metrics in clean.items() if "test/rmse" in metrics]
    assert rmse and all(poisoned[key]["test/rmse"] > 10 * clean[key]["test/rmse"] for key in rmse)


def test_no_search_or_rescore_item_is_told_where_the_labels_are(swept):
    for sweep in swept:
        sealed = {spec["inputs"]["sealed"] for spec in specs(sweep, "confirm")}
        assert len(sealed) == 2 and None not in sealed
        for told in specs(sweep, "search", "rescore", "pretrain"):
            text = json.dumps(told)
            assert not any(place in text for place in sealed)
            assert told["inputs"]["sealed"] is None


def of_fold(sweep, outer, *kinds):
    """What was left behind by the items of one outer fold."""
    uids = {item.uid for item in sweep.state().items.values() if getattr(item.spec, "outer", None) == outer}
    return {uid: left for uid, left in left_behind(sweep, *kinds).items() if uid in uids}


def test_a_nested_search_is_byte_equal_whatever_the_labels_of_its_own_test_are(nested):
    clean, poisoned = nested
    before, after = (of_fold(sweep, 1, "search", "rescore") for sweep in nested)
    assert before == after and len(before) == 2 * (2 + 2)
    for study, points in asks(clean).items():
        assert not study.endswith("/outer-1") or points == asks(poisoned)[study]
    for unit, choice in choices(clean).items():
        assert not unit.endswith("/outer-1") or choice == choices(poisoned)[unit]
    tests = [
        {
            item.labels["head_seed"]: item.outcome.metrics["test/rmse"]
            for item in sweep.state().items.values()
            if item.kind == "confirm" and item.spec.outer == 1 and item.cell.is_control
        }
        for sweep in nested
    ]
    assert all(tests[1][seed] > 10 * tests[0][seed] for seed in tests[0])


def test_what_is_test_in_one_fold_is_learnt_from_in_the_other(nested):
    before, after = (of_fold(sweep, 2, "search") for sweep in nested)
    assert len(before) == len(after) == 2 * 2 and not set(before) & set(after)


def test_the_folds_of_a_nested_sweep_are_told_by_what_shows_it(nested):
    clean, _ = nested
    item = next(item for item in clean.state().items.values() if item.kind == "confirm" and item.spec.outer == 2)
    shown = clean.show(item.uid)
    assert shown["labels"]["outer"] == shown["spec"]["outer"] == 2
    assert clean.status().outer == "2 outer folds x 1 by random, each searched in its training part alone"
    (board,) = clean.leaderboards().values()
    assert {entry.score.n for entry in board.sections[0].entries} == {2} and not board.sections[0].incomplete
