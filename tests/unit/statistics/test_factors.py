import itertools

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from statsmodels.stats.anova import anova_lm

from chembench.errors import ConfigError, DataError
from chembench.statistics.factors import Run, effects, standardised
from chembench.statistics.mixed import mixed

TASKS = {"bace": ("classification", "higher"), "hiv": ("classification", "higher"), "lipo": ("regression", "lower")}


def sweep(seed=0, checkpoints=1, seeds=3, tasks=TASKS, shift=lambda a, s, m, t: 0.0):
    draw = np.random.default_rng(seed)
    return [
        Run(
            task=task,
            task_type=kind,
            better=better,
            levels={"architecture": a, "size": s, "molecules": m},
            key=(p, 0, h, 0),
            score=0.7 + shift(a, s, m, task) + 0.02 * own + 0.01 * float(draw.normal()),
        )
        for a, s, m in itertools.product(("bart", "llama", "roberta"), ("small", "medium"), ("1", "2", "3"))
        for task, (kind, better) in tasks.items()
        for p in range(checkpoints)
        for own in [float(draw.normal())]
        for h in range(seeds)
    ]


def frame(runs):
    table = pd.DataFrame(
        [{"z": z, **run.levels, **run.model_dump()} for run, z in zip(runs, standardised(runs), strict=True)]
    )
    by = ["architecture", "size", "molecules"]
    per_task = table.groupby([*by, "task_type", "task"], as_index=False)["z"].mean()
    per_type = per_task.groupby([*by, "task_type"], as_index=False)["z"].mean()
    return per_type.pivot_table(index=by, columns="task_type", values="z").reset_index()


@pytest.mark.parametrize("response", ["mean", "difference"])
def test_sums_of_squares_are_those_of_statsmodels(response):
    runs = sweep()
    table, found = frame(runs), {effect.term: effect for effect in effects(runs).effects}
    sign = 1 if response == "mean" else -1
    table["y"] = (table["classification"] + sign * table["regression"]) / (2 if response == "mean" else 1)
    model = "y ~ (C(architecture, Sum) + C(size, Sum) + C(molecules, Sum)) ** 2"
    theirs = anova_lm(smf.ols(model, table).fit(), typ=2)
    suffix = "" if response == "mean" else " x task type"
    pairs = {
        "architecture": "C(architecture, Sum)",
        "size": "C(size, Sum)",
        "architecture x molecules": "C(architecture, Sum):C(molecules, Sum)",
    }
    for ours, label in pairs.items():
        effect = found[ours + suffix]
        assert effect.sum_of_squares == pytest.approx(theirs.loc[label, "sum_sq"])
        assert effect.p == pytest.approx(theirs.loc[label, "PR(>F)"])
        assert (effect.freedom, effect.error_freedom) == (theirs.loc[label, "df"], theirs.loc["Residual", "df"])
        eta = theirs.loc[label, "sum_sq"] / theirs["sum_sq"].sum()
        partial = theirs.loc[label, "sum_sq"] / (theirs.loc[label, "sum_sq"] + theirs.loc["Residual", "sum_sq"])
        assert (effect.eta2, effect.partial_eta2) == (pytest.approx(eta), pytest.approx(partial))
        assert 0 <= effect.eta2_low <= effect.eta2_high <= 1


def test_checkpoints_are_the_unit_where_a_configuration_has_several():
    found = effects(sweep(checkpoints=3))
    assert (found.unit, found.units) == ("checkpoint", 54)
    assert effects(sweep()).unit == "configuration"


def test_runs_as_units_are_shown_with_what_is_wrong_with_them():
    found = effects(sweep(), unit="run")
    assert (found.unit, found.units) == ("run", 54)
    assert "too sure" in found.notes[-1]


def test_counting_runs_finds_factors_where_checkpoints_differ_by_chance_alone():
    false = {"run": 0, "configuration": 0}
    for seed, unit in itertools.product(range(10), false):
        found = effects(sweep(seed, seeds=5, tasks={"bace": TASKS["bace"]}), unit).effects
        false[unit] += sum(effect.p < 0.05 for effect in found if " x " not in effect.term)
    assert false["configuration"] <= 5 < 12 <= false["run"]  # of 30, at 5 %


def test_an_architecture_that_is_better_on_one_task_type_shows_as_an_interaction():
    runs = sweep(shift=lambda a, s, m, t: 0.1 * (a == "bart"))  # more is better on two tasks, worse on the third
    by = {effect.term: effect for effect in effects(runs).effects}
    assert by["architecture x task type"].p < 0.01
    assert by["architecture x task type"].partial_eta2 > 0.7


def test_level_means_point_up_whichever_way_a_task_is_better():
    runs = sweep(shift=lambda a, s, m, t: (0.2 if t != "lipo" else -0.2) * (s == "medium"))
    means = effects(runs).means["size"]
    assert means["medium"] > 0.5 > means["small"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda runs: [], "need runs, got none"),
        (lambda runs: [*runs, runs[0]], "a replicate has one score, bart 1 small on bace has two"),
        (lambda runs: [*runs[1:], runs[0].model_copy(update={"levels": {"size": "small"}})], "the same factors"),
        (lambda runs: [r.model_copy(update={"score": 1.0}) for r in runs], "all have one score on bace"),
        (lambda runs: [r for r in runs if r.levels["size"] == "small" or r.task != "hiv"], "every configuration needs"),
        (
            lambda runs: [
                r.model_copy(update={"key": (0, 0, i, 0), "levels": {"size": "s"}}) for i, r in enumerate(runs)
            ],
            "one score on",
        ),
    ],
)
def test_malformed_runs_are_refused(change, says):
    with pytest.raises(DataError, match=says):
        effects(change(sweep()))


def test_one_cell_a_level_leaves_nothing_for_the_error():
    runs = [r for r in sweep() if (r.levels["size"], r.levels["molecules"]) == ("small", "1")]
    with pytest.raises(DataError, match="nothing is left to be the error: 3 units for 1 factors"):
        effects(runs)
    with pytest.raises(ConfigError, match="unknown unit 'task'; known: checkpoint, configuration, run"):
        effects(sweep(), unit="task")


def test_the_mixed_model_names_its_random_effects_and_whether_it_converged():
    runs = sweep(shift=lambda a, s, m, t: (0.1 if t != "lipo" else -0.1) * (s == "medium"))
    found = mixed(runs)
    assert found.formula.startswith("score ~ architecture + molecules + size; random: configuration")
    size = next(line for line in found.coefficients if line.factor == "size")
    assert (size.level, size.against) == ("small", "medium")
    assert size.value < 0 and found.joint_p["size"] < 0.05
    assert found.converged or "the fit did not converge: no coefficients are given" in found.notes


def test_the_mixed_model_is_the_same_in_other_units_and_under_other_names():
    runs = sweep(shift=lambda a, s, m, t: (0.05 if t != "lipo" else -0.02) * (s == "medium") * (1 + (t == "hiv")))
    plain = mixed(runs)
    scaled = mixed([run.model_copy(update={"score": 10 * run.score}) for run in runs])
    names = {"architecture": "z", "size": "y", "molecules": "x"}
    named = mixed([run.model_copy(update={"levels": {names[k]: v for k, v in run.levels.items()}}) for run in runs])
    assert plain.converged and scaled.converged and named.converged
    assert scaled.joint_p == pytest.approx(plain.joint_p, abs=0.01)
    assert named.joint_p == pytest.approx({names[k]: p for k, p in plain.joint_p.items()}, abs=0.01)


def test_what_a_factor_does_to_few_tasks_is_no_surer_than_those_are_many():
    """Its p comes from F with as many degrees of freedom as there are tasks, less one: 2 of 3 tasks here."""
    runs = sweep(shift=lambda a, s, m, t: {"bace": 0.2, "hiv": 0.1, "lipo": 0.0}[t] * (s == "medium"))
    found = mixed(runs)
    size = next(line for line in found.coefficients if line.factor == "size")
    assert "size x task" in found.formula and found.variances["size x task"] > 0
    assert found.joint_p["size"] == pytest.approx(size.p, rel=1e-6) and size.p > 0.01


def test_one_factor_alone_is_as_sure_as_its_checkpoints_in_the_mixed_model_too():
    tasks = {f"t{n}": ("regression", "lower") for n in range(8)}
    runs = [
        r
        for r in sweep(checkpoints=3, tasks=tasks, shift=lambda a, s, m, t: -0.05 * int(m))
        if ONE <= set(r.levels.values())
    ]
    found, plain = mixed(runs), next(e for e in effects(runs).effects if e.term == "molecules")
    assert found.converged and found.joint_p["molecules"] == pytest.approx(plain.p, rel=0.5) and plain.p < 0.01


ONE = {"bart", "small"}


def test_scores_without_variance_are_refused_in_words():
    same = [run.model_copy(update={"score": 0.7 + 0.1 * (run.levels["size"] == "medium")}) for run in sweep()]
    with pytest.raises(DataError, match="the mixed model cannot be solved"):
        mixed(same)


def test_factors_that_change_together_are_told_and_left_out():
    runs = [r for r in sweep(checkpoints=3) if (r.levels["architecture"], r.levels["size"]) in PAIRED]
    found = effects(runs)
    assert {effect.term.partition(" x ")[0] for effect in found.effects} == {"molecules"}
    assert "size goes together with other terms: left out" in found.notes


PAIRED = (("bart", "small"), ("llama", "medium"))


def test_the_interval_of_partial_eta_squared_is_that_of_the_noncentral_f():
    from scipy.stats import ncf

    found = next(e for e in effects(sweep(checkpoints=2)).effects if e.term == "size")
    left, right = found.freedom, found.error_freedom
    for end, share in ((found.partial_eta2_low, 0.975), (found.partial_eta2_high, 0.025)):
        noncentrality = end * (left + right + 1) / (1 - end)
        if noncentrality > 1e-9:
            assert ncf.cdf(found.f, left, right, noncentrality) == pytest.approx(share, abs=1e-4)
    assert found.partial_eta2_low <= found.partial_eta2 <= found.partial_eta2_high or found.f < 1


def test_a_mixed_model_needs_tasks_or_splits():
    with pytest.raises(DataError, match="needs two tasks or two splits"):
        mixed(sweep(tasks={"bace": TASKS["bace"]}))
