"""An ask is a pure function of seed, study, ordinal and the results of earlier blocks."""

import itertools
import json
import random
import subprocess
import sys

import pytest

from chembench.config import round_float
from chembench.sweep.parameters import Parameter, parse_parameter
from chembench.sweep.study import Study, Told, _generations, ask, grid_point, ordered

PARAMETERS = {
    "method": parse_parameter({"choice": ["full", "lora", "linear_probe"]}, "finetune", "method"),
    "learning_rate": parse_parameter({"low": 1e-5, "high": 1e-3, "log": True}, "finetune", "learning_rate"),
    "dropout": parse_parameter({"low": 0.0, "high": 0.3, "when": {"method": "full"}}, "finetune", "dropout"),
    "lora_rank": parse_parameter({"low": 2, "high": 8, "when": {"method": "lora"}}, "finetune", "lora_rank"),
    "weight_decay": parse_parameter({"low": 0.0, "high": 0.1, "step": 0.025}, "finetune", "weight_decay"),
    "max_epochs": Parameter(fixed=3),
}
CHOICES = {
    "method": Parameter(choice=("full", "linear_probe")),
    "batch_size": Parameter(choice=(16, 32, 64)),
    "dropout": Parameter(choice=(0.0, 0.1), when=(("method", "full"),)),
    "max_epochs": Parameter(fixed=3),
}
RANDOM_KINDS = ["tpe", "random", "gp", "nsgaii"]


def study(sampler="tpe", trials=12, window=3, seed=0, name="cell/task", parameters=PARAMETERS):
    return Study(name, parameters, sampler, trials, window, seed)


def history(of: Study, length: int, shift: float = 0.0) -> list[Told]:
    """Trials as the study asked for them; every fifth is pruned, every seventh failed, low rates score best."""
    told: list[Told] = []
    for ordinal in range(length):
        params = ask(of, ordinal, told)
        status = "failed" if ordinal % 7 == 6 else "pruned" if ordinal % 5 == 4 else "finished"
        value = float(params.get("learning_rate", 0.5)) + shift * ordinal
        objectives = {"failed": (), "pruned": (value + 1,), "finished": (value + 1, value)}[status]
        told.append(Told(ordinal, params, status, objectives, value if status == "finished" else None))
    return told


@pytest.mark.parametrize("sampler", RANDOM_KINDS)
def test_the_same_arguments_give_the_same_answer_in_any_order_of_calls(sampler):
    asked = study(sampler, trials=9)
    told = history(asked, 9)
    shuffled = random.Random(1).sample(range(3, 9), 6)
    again = {ordinal: ask(asked, ordinal, random.Random(ordinal).sample(told, 9)) for ordinal in shuffled}
    assert {t.ordinal: t.params for t in told[3:]} == again


def test_another_process_gives_the_same_answer():
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); from test_study import *;"
        "print(json.dumps([t.params for t in history(study(), 6)]))"
    )
    here = __file__.rpartition("/")[0]
    result = subprocess.run([sys.executable, "-c", code, here], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == json.dumps([t.params for t in history(study(), 6)])


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsgaii"])
def test_an_ask_sees_the_ordinals_below_its_block_and_no_others(sampler):
    asked = study(sampler, trials=24, window=3)
    told = history(asked, 18)
    below = [t for t in told if t.ordinal < 15]
    changed = [Told(t.ordinal, t.params, "finished", (9.0,), 9.0) if t.ordinal >= 15 else t for t in told]
    for ordinal in (15, 16, 17):
        assert ask(asked, ordinal, told) == ask(asked, ordinal, below) == ask(asked, ordinal, changed)
    worse = [Told(t.ordinal, t.params, "finished", (1 - t.objective,), 1 - t.objective) for t in below if t.objective]
    assert any(ask(asked, ordinal, told) != ask(asked, ordinal, worse) for ordinal in (15, 16, 17)), "it learns"


@pytest.mark.parametrize("sampler", RANDOM_KINDS)
def test_inactive_conditional_parameters_are_absent(sampler):
    methods = set()
    for told in history(study(sampler, trials=12), 12):
        method = told.params["method"]
        methods.add(method)
        expected = {"method", "learning_rate", "weight_decay"}
        expected |= {"full": {"dropout"}, "lora": {"lora_rank"}, "linear_probe": set()}[method]
        assert set(told.params) == expected
    assert len(methods) >= 2


@pytest.mark.parametrize("sampler", RANDOM_KINDS)
def test_drawn_values_keep_to_their_ranges_steps_and_six_digits(sampler):
    for told in history(study(sampler, trials=12), 12):
        drawn = told.params
        assert 1e-5 <= drawn["learning_rate"] <= 1e-3 and drawn["weight_decay"] in (0.0, 0.025, 0.05, 0.075, 0.1)
        assert all(value == round_float(value) for value in drawn.values() if isinstance(value, float))
        assert isinstance(drawn.get("lora_rank", 2), int) and 2 <= drawn.get("lora_rank", 2) <= 8


def test_studies_seeds_and_ordinals_draw_independently():
    first = ask(study("random"), 0, [])
    others = [
        ask(study("random", name="other"), 0, []),
        ask(study("random", seed=1), 0, []),
        ask(study("random"), 1, []),
    ]
    rates = {first["learning_rate"], *(other["learning_rate"] for other in others)}
    assert len(rates) == 4


@pytest.mark.parametrize(("trials", "startup"), [(1, 1), (3, 1), (6, 2), (12, 4), (100, 4)])
def test_start_up_trials_are_a_third_of_the_budget_between_one_and_four(trials, startup):
    assert study(trials=trials).startup_trials == startup


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsgaii"])
def test_a_sampler_that_learns_ends_nearer_to_the_optimum_than_random(sampler):
    unconditional = {name: PARAMETERS[name] for name in ("learning_rate", "weight_decay", "method")}

    def mean_of_last(kind):
        asked = study(kind, trials=30, window=1, parameters=unconditional)
        rates = [float(t.params["learning_rate"]) for t in history(asked, 30)]
        return sum(rates[-8:]) / 8

    assert mean_of_last(sampler) < 0.5 * mean_of_last("random")


def test_the_window_changes_what_is_asked():
    wide, narrow = history(study(window=12), 12), history(study(window=1), 12)
    assert [t.params for t in wide] != [t.params for t in narrow]


def test_grid_covers_every_combination_once_and_then_starts_again():
    asked = study("grid", parameters=CHOICES)
    points = [ask(asked, ordinal, []) for ordinal in range(9)]
    as_keys = [tuple(sorted(point.items())) for point in points]
    full = {("full", b, d) for b, d in itertools.product((16, 32, 64), (0.0, 0.1))}
    probes = {("linear_probe", b, None) for b in (16, 32, 64)}
    assert {(p["method"], p["batch_size"], p.get("dropout")) for p in points} == full | probes
    assert len(set(as_keys)) == 9 and ask(asked, 9, []) == points[0]


def test_grid_visits_its_points_in_an_order_that_follows_the_study():
    def order(**changes):
        return [tuple(ask(study("grid", parameters=CHOICES, **changes), k, []).items()) for k in range(9)]

    assert order() == order() and sorted(order(), key=str) == sorted(order(seed=1), key=str)
    assert order() != order(seed=1) and order() != order(name="another")


def test_grid_without_anything_to_search_has_one_empty_point():
    assert grid_point(study("grid", parameters={"max_epochs": Parameter(fixed=3)}), 5) == {}


def test_grid_refuses_a_range():
    with pytest.raises(ValueError, match="sampler 'grid' needs a choice for every searched parameter, 'learning_rate'"):
        grid_point(study("grid"), 0)


def test_a_condition_may_stand_on_a_conditional_parameter():
    chain = {
        "a": Parameter(choice=("x", "y")),
        "b": Parameter(choice=("u", "v"), when=(("a", "x"),)),
        "c": Parameter(low=0.0, high=1.0, when=(("b", "u"),)),
    }
    assert [name for name, _ in ordered(dict(reversed(chain.items())))] == ["a", "b", "c"]
    for ordinal in range(20):
        point = ask(study("random", parameters=chain), ordinal, [])
        assert ("b" in point) == (point["a"] == "x") and ("c" in point) == (point.get("b") == "u")


def test_a_ring_of_conditions_is_refused():
    ring = {"a": Parameter(choice=(1, 2), when=(("b", 1),)), "b": Parameter(choice=(1, 2), when=(("a", 1),))}
    with pytest.raises(ValueError, match="conditions of a, b form a ring; break it"):
        ordered(ring)


def test_generations_of_nsgaii_follow_what_each_ask_saw():
    def generations(window, failed=()):
        told = [Told(k, {}, "failed" if k in failed else "finished", (), 0.0) for k in range(14)]
        return [_generations(study("nsgaii", trials=24, window=window), told)[k] for k in range(14)]

    assert study(trials=24).population == 4
    assert generations(1) == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 2
    assert generations(1, failed=(1, 2)) == [0] * 6 + [1] * 4 + [2] * 4
    assert generations(3) == [0] * 6 + [1] * 6 + [2] * 2, "a block sees the results before it"
