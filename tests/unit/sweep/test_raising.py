"""What may grow under a sweep, and what a sweep does with it."""

from sweep_fakes import grid_space

from chembench.sweep.space import raised


def between(before, now):
    return raised(before.identity(), now.identity())


def test_shares_of_the_machine_words_and_the_patience_with_failures_are_no_difference():
    now = grid_space(
        resources={"cpus": 4, "gpus": 0.5, "pretrain": {"cpus": 2, "gpus": 1}},
        description="x",
        name="y",
        search__give_up_after=3,
    )
    assert between(grid_space(), now) == ([], [])
    assert now.digest == grid_space().digest and "give_up_after" not in str(now.identity())


def test_trials_and_replicates_may_grow_and_both_values_are_told():
    now = grid_space(search__trials=5, confirm__head_seeds=3, confirm__pretrain_seeds=2, confirm__splits=4)
    assert between(grid_space(), now) == (
        [
            "confirm.head_seeds: 2 there, 3 here",
            "confirm.pretrain_seeds: 1 there, 2 here",
            "confirm.splits: 1 there, 4 here",
            "search.trials: 3 there, 5 here",
        ],
        [],
    )


def test_what_shrinks_is_refused():
    now = grid_space(search__trials=2, confirm__head_seeds=1)
    told = ["confirm.head_seeds: 2 there, 1 here", "search.trials: 3 there, 2 here"]
    assert between(grid_space(), now) == ([], told)


def test_every_other_difference_is_refused_also_beside_one_that_is_not():
    now = grid_space(search__trials=9, finetune__patience=2, grid__molecules=[20], resources={"threads": 2})
    grown, refused = between(grid_space(), now)
    assert grown == ["search.trials: 3 there, 9 here"]
    assert {
        "finetune.patience: (not set) there, 2 here",
        "grid.molecules: [20, 40] there, [20] here",
        "resources.pretrain.threads: 1 there, 2 here",
    } <= set(refused)
    assert len(refused) == 2 + 5, "threads of the five kinds"
    assert between(grid_space(), grid_space(confirm__rescore_top=3))[0] == []
