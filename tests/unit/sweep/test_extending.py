"""More head seeds for chosen recipes alone: an event of the ledger, the same design otherwise, and it is told."""

from collections import Counter

import pytest
from sweep_fakes import Killed, drive, engine_on, finished, grid_space, opened, swept

from chembench.confirming import chosen
from chembench.errors import ConfigError, UnknownNameError
from chembench.report.rows import rows_from_state
from chembench.sweep.units import replicate_of

SPACE = grid_space(confirm__head_seeds=2, confirm__pretrain_seeds=2)


def extended(folder, units, seeds, run=finished):
    """The state after some units were extended, which of them were, and every attempt since."""
    with opened(SPACE, folder) as ledger:
        engine = engine_on(SPACE, ledger)
        raised = engine.extend(units, seeds)
        works = drive(engine, run)
        return ledger.state, raised, works


@pytest.fixture
def done(tmp_path):
    state, _ = swept(SPACE, tmp_path)
    return tmp_path, state, sorted(state.choices)[0]


def test_an_extended_unit_gets_the_missing_seeds_of_its_recipe_and_no_other_does(done):
    folder, before, unit = done
    state, raised, works = extended(folder, [unit], 5)
    assert raised == [unit] and state.finished
    assert {work.kind for work in works} == {"confirm"} and len(works) == 2 * 3
    assert {(w.labels["unit"], w.labels["pretrain_seed"]) for w in works} == {(unit, 0), (unit, 1)}
    assert {work.labels["head_seed"] for work in works} == {2, 3, 4}
    assert len({replicate_of(item) for item in state.confirms[unit]}) == 10
    counts = Counter(item.labels["unit"] for item in state.items.values() if item.kind == "confirm")
    assert {count for name, count in counts.items() if name != unit} == {4}
    assert state.openings == before.openings, "the recipe is the same, so its test is not opened again"


def test_the_rows_of_an_extended_unit_say_so(done):
    folder, before, unit = done
    assert not any(row.extended for row in rows_from_state(before))
    state, *_ = extended(folder, [unit], 3)
    told = {row.study for row in rows_from_state(state) if row.extended}
    assert told == {unit}


def test_seeds_that_a_unit_has_already_are_not_asked_for_again(done):
    folder, _, unit = done
    extended(folder, [unit], 4)
    events = (folder / "grid" / "ledger.jsonl").read_text() if (folder / "grid").exists() else None
    state, raised, works = extended(folder, [unit], 4)
    assert (raised, works) == ([], []) and state.extensions == {unit: 4}
    assert state.finished and (events is None or events == (folder / "grid" / "ledger.jsonl").read_text())


def test_an_extension_that_a_driver_left_half_done_goes_on_by_itself(done):
    folder, _, unit = done
    with opened(SPACE, folder) as ledger:
        engine = engine_on(SPACE, ledger)
        engine.extend([unit], 4)
        engine.tell(finished(engine.ask()))
    with opened(SPACE, folder) as ledger:
        works = drive(engine_on(SPACE, ledger))
        assert len(works) == 3 and ledger.state.finished


def scored(scores):
    """Fake runs whose test scores follow from their unit and head seed; further seeds are far worse."""

    def run(work):
        outcome = finished(work)
        if work.kind != "confirm":
            return outcome
        score = scores[work.labels["unit"]] + 10.0 * (work.labels["head_seed"] > 1)
        name = "rmse" if work.spec.task_kind == "regression" else "roc_auc"
        told = {f"{part}/{name}": score for part in ("valid", "test")}
        return outcome.model_copy(update={"metrics": {**outcome.metrics, **told}})

    return run


def test_a_confirmation_that_was_killed_chooses_the_same_when_it_is_given_again(tmp_path):
    class Scores(dict):
        def __missing__(self, unit):
            return self.setdefault(unit, 0.5 + 0.01 * len(self))

    run = scored(Scores())
    state, _ = swept(SPACE, tmp_path, run)
    units = chosen(state, 1)
    assert len(units) == len(state.header["tasks"])
    with opened(SPACE, tmp_path, left=1) as ledger, pytest.raises(Killed):
        engine_on(SPACE, ledger).extend(units, 4)
    with opened(SPACE, tmp_path) as ledger:
        engine = engine_on(SPACE, ledger)
        assert chosen(ledger.state, 1) == units, "one is extended, and none of its new seeds has run"
        engine.extend(units, 4)
        engine.tell(run(engine.ask()))
    with opened(SPACE, tmp_path) as ledger:
        assert chosen(ledger.state, 1) == units, "new seeds of one have run"
        drive(engine_on(SPACE, ledger), run)
        assert chosen(ledger.state, 1) == units and set(ledger.state.extensions) == set(units)


def test_a_unit_that_is_unknown_or_has_no_recipe_is_refused_and_nothing_is_written(tmp_path):
    with opened(SPACE, tmp_path) as ledger:
        engine = engine_on(SPACE, ledger)
        before = ledger.state.events
        with pytest.raises(UnknownNameError, match="unknown unit 'nobody'"):
            engine.extend(["nobody"], 5)
        with pytest.raises(ConfigError, match=r"only a chosen recipe can be confirmed on more seeds, .* has none yet"):
            engine.extend([engine.units[0].name], 5)
        assert ledger.state.events == before


def test_a_baseline_has_as_many_runs_as_a_cell_has_checkpoints(tmp_path):
    space = grid_space(confirm__head_seeds=1, confirm__pretrain_seeds=3, controls__baselines=["forest_ecfp4"])
    state, _ = swept(space, tmp_path)
    seeds = Counter(i.spec.task for i in state.items.values() if i.kind == "baseline")
    assert set(seeds.values()) == {3}
    assert sum(state.header["expected"].values()) == len(state.items)
