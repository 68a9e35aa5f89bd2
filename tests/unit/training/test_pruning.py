import sys

import pytest

from chembench.errors import ConfigError, UnknownNameError
from chembench.specs import EarlierTrial, Rungs
from chembench.training.pruning import Judge, should_prune


def table(
    pruner, options=None, curves=((0.5, 0.4, 0.3), (0.6, 0.5, 0.4), (0.7, 0.6, 0.5)), study="s", status="finished"
):
    earlier = tuple(EarlierTrial(ordinal=k, status=status, objectives=tuple(curve)) for k, curve in enumerate(curves))
    return Rungs(pruner=pruner, options=options or {}, study=study, earlier=earlier)


def test_none_never_stops():
    assert not should_prune(table("none"), [9.0, 9.0, 9.0])


def test_median_stops_what_is_worse_than_half_of_the_finished_trials():
    rungs = table("median", {"n_startup_trials": 2})
    assert should_prune(rungs, [0.61])
    assert not should_prune(rungs, [0.59])
    assert not should_prune(rungs, [0.59, 0.49])
    assert should_prune(rungs, [0.59, 0.59])


def test_median_waits_for_its_start_up_trials_and_warm_up_epochs():
    assert not should_prune(table("median", {"n_startup_trials": 4}), [9.0])
    rungs = table("median", {"n_startup_trials": 1, "n_warmup_steps": 2})
    assert not should_prune(rungs, [9.0])
    assert should_prune(rungs, [9.0, 9.0])


def test_trials_that_failed_do_not_count():
    assert not should_prune(table("median", {"n_startup_trials": 1}, status="failed"), [9.0])


def test_percentile_stops_more_when_it_asks_for_more():
    assert should_prune(table("percentile", {"percentile": 25.0, "n_startup_trials": 1}), [0.58])
    assert not should_prune(table("percentile", {"percentile": 75.0, "n_startup_trials": 1}), [0.58])


@pytest.mark.parametrize("pruner", ["successive_halving", "hyperband"])
def test_halving_reads_the_rungs_that_replay_wrote(pruner):
    options = {"min_resource": 1, "reduction_factor": 3}
    if pruner == "hyperband":
        options["max_resource"] = 3
    curves = [(0.1 * k, 0.1 * k, 0.1 * k) for k in range(1, 9)]
    rungs = table(pruner, options, curves)
    assert not should_prune(rungs, [0.01])
    if pruner == "successive_halving":
        assert should_prune(rungs, [0.95])


def test_the_same_table_and_objectives_give_the_same_decision_epoch_by_epoch():
    options = {"min_resource": 1, "reduction_factor": 2}
    rungs = table("successive_halving", options, [(0.1 * k, 0.2, 0.05 * k) for k in range(1, 7)])
    for curve in ([0.35, 0.1, 0.1], [0.05, 0.5, 0.3], [0.15, 0.15, 0.2]):
        judge = Judge(rungs)
        said = [judge.says_stop(value) for value in curve]
        assert any(said) == should_prune(rungs, curve)
        assert [should_prune(rungs, curve[:n]) for n in (1, 2, 3)] == [any(said[:n]) for n in (1, 2, 3)]


def test_the_order_of_the_table_does_not_matter():
    rungs = table("successive_halving", {"min_resource": 1}, [(0.1 * k,) * 3 for k in range(1, 9)])
    turned = rungs.model_copy(update={"earlier": rungs.earlier[::-1]})
    assert [should_prune(rungs, [v]) for v in (0.05, 0.45, 0.9)] == [
        should_prune(turned, [v]) for v in (0.05, 0.45, 0.9)
    ]


def test_a_threshold_needs_no_earlier_trial():
    assert should_prune(table("threshold", {"upper": 1.0}, curves=()), [1.5])


def test_an_unknown_pruner_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError, match=r"unknown pruner 'mediann'. Did you mean 'median'"):
        should_prune(table("mediann"), [1.0])


def test_options_that_a_pruner_does_not_take_are_refused():
    with pytest.raises(ConfigError, match=r"pruner 'median' cannot be made of .*patience.*its options are: n_startup"):
        should_prune(table("median", {"patience": 3}), [1.0])


def test_optuna_is_imported_only_when_a_pruner_is_named():
    import subprocess

    code = (
        "import sys\nfrom chembench.training.pruning import should_prune\nfrom chembench.specs import Rungs\n"
        "should_prune(Rungs(pruner='none', study='s'), [1.0])\nprint('optuna' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
