import random

import pytest
from report_rows import RECIPE, design, forest, pretraining, row, scored, three, whole_state

from chembench.errors import DataError
from chembench.report.board import TaskFacts
from chembench.report.columns import records
from chembench.report.leaderboard import design_from_state, leaderboards
from chembench.report.lines import recipe_text
from chembench.report.rows import rows_from_state
from chembench.specs import FinetuneSpec

CELL = "roberta-w64x2-1000"
OTHER = {"method": "bart-w64x2-1000", "architecture": "bart", "pretrain_uid": "p1"}


def section(rows, **changes):
    board = leaderboards(rows, design(**changes))["regression"]
    return board.sections[0]


def entry(rows, method=CELL, **changes):
    return next(e for e in section(rows, **changes).entries if e.method == method)


def test_a_complete_method_has_a_mean_an_interval_and_says_what_varies():
    found = entry(three("a", [1.0, 2.0, 3.0]))
    assert (found.score.mean, found.score.n, found.expected) == (2.0, 3, 3)
    assert found.score.high - found.score.mean == pytest.approx(4.30265273 / 3**0.5)
    assert found.varies == "head seed"
    assert found.validation == 1.0
    assert found.secondary == {"rmse_normalised": 2.0, "mae": 1.0, "r2": 0.5}
    assert (found.parameters, found.recipe, found.recipe_text) == (
        105_000,
        RECIPE.digest,
        "full lr=0.001 batch=32 epochs=5",
    )


def test_shuffled_rows_give_the_same_board():
    state = whole_state()
    rows = rows_from_state(state)
    boards = leaderboards(rows, design_from_state(state))
    random.Random(0).shuffle(rows)
    assert leaderboards(rows, design_from_state(state)) == boards


def test_regression_is_sorted_upwards_and_classification_downwards():
    rows = three("a", [1.0, 1.0, 1.0]) + three("b", [0.5, 0.5, 0.5], **OTHER)
    assert [e.method for e in section(rows).entries] == [OTHER["method"], CELL]
    auc = [
        r.model_copy(update={"task_kind": "classification", "metrics": {"test_roc_auc": r.metrics["test_rmse"]}})
        for r in rows
    ]
    tasks = {"delaney": TaskFacts(kind="classification")}
    board = leaderboards(auc, design(tasks=tasks))["classification"]
    assert [e.method for e in board.sections[0].entries] == [CELL, OTHER["method"]]


def test_equal_scores_are_ordered_by_name():
    rows = three("a", [1.0] * 3) + three("b", [1.0] * 3, **OTHER)
    assert [e.method for e in section(rows).entries] == [OTHER["method"], CELL]


def test_a_method_that_lost_a_replicate_is_listed_apart_with_the_reason():
    lost = row("a2", head_seed=2, status="failed", cause="oom", metrics={})
    found = section([*three("a", [1.0, 2.0, 3.0])[:2], lost])
    assert found.entries == ()
    (line,) = found.incomplete
    assert (line.method, line.done, line.expected) == (CELL, 2, 3)
    assert line.reason == "confirm: 1 failed (oom), 2 finished"


def test_a_replicate_that_was_not_even_planned_is_missing_too():
    (line,) = section(three("a", [1.0, 2.0, 3.0]), head_seeds=4).incomplete
    assert (line.done, line.expected) == (3, 4)


def test_a_replicate_added_later_is_expected_once_it_is_there():
    rows = [*three("a", [1.0, 2.0, 3.0]), row("a3", head_seed=3, status="waiting")]
    (line,) = section(rows).incomplete
    assert (line.done, line.expected) == (3, 4)


def test_an_undefined_test_score_is_not_averaged_away():
    rows = [*three("a", [1.0, 2.0, 3.0])[:2], row("a2", head_seed=2, metrics={"valid_rmse": 1.0})]
    (line,) = section(rows).incomplete
    assert line.reason == "confirm: 3 finished; test score undefined in 1"


def test_a_cell_that_is_still_searched_or_not_started_says_so():
    rows = [
        row("s0", kind="search"),
        row("s1", kind="search", status="pruned"),
        row("s2", kind="search", status="waiting"),
    ]
    lines = section(rows, cells=(CELL, "bart-w64x2-1000")).incomplete
    assert [(line.method, line.reason) for line in lines] == [
        ("bart-w64x2-1000", "not started"),
        (CELL, "no confirm run; search: 1 finished, 1 pruned, 1 waiting"),
    ]


def test_one_replicate_has_no_interval_and_varies_nothing():
    found = entry([scored("a", 1.0)], head_seeds=1)
    assert (found.score.low, found.score.high, found.varies) == (None, None, "-")


def test_replicates_of_one_checkpoint_speak_for_the_checkpoint():
    assert entry(three("a", [1.0, 2.0, 3.0])).scope == "this checkpoint"
    rows = [scored(f"a{k}", 1.0 + k, 0, pretrain_seed=k, pretrain_uid=f"p{k}") for k in range(3)]
    found = entry(rows, head_seeds=1, pretrain_seeds=3)
    assert (found.scope, found.varies) == ("this architecture", "pre-training seed")


def test_a_from_scratch_control_is_called_so():
    scratch = {"pretrain_uid": None, "molecules": 0, "method": "roberta-w64x2-scratch"}
    rows = [scored(f"a{k}", 1.0 + k, 0, pretrain_seed=k, **scratch) for k in range(2)]
    found = entry(rows, "roberta-w64x2-scratch", head_seeds=1, pretrain_seeds=2, cells=("roberta-w64x2-scratch",))
    assert (found.group, found.varies, found.scope) == ("from scratch", "initial weights", "this architecture")


def test_the_difference_to_the_forest_is_method_minus_forest():
    rows = three("a", [1.0, 2.0, 3.0]) + forest((1.5, 2.5, 3.5))
    against = entry(rows).vs_forest
    assert (against.value, against.basis, against.n) == (-0.5, "paired by seed", 3)
    assert (against.low, against.high) == (-0.5, -0.5)
    itself = entry(rows, "forest_ecfp4")
    assert (itself.vs_forest, itself.group, itself.varies, itself.scope) == (None, "baseline", "seed", "this method")
    assert itself.untuned


def test_without_a_whole_forest_there_is_no_difference():
    assert entry(three("a", [1.0, 2.0, 3.0])).vs_forest is None
    lost = forest()[:2] + [r.model_copy(update={"status": "failed", "metrics": {}}) for r in forest()[2:]]
    rows = three("a", [1.0, 2.0, 3.0]) + lost
    assert entry(rows).vs_forest is None
    assert [line.method for line in section(rows).incomplete] == ["forest_ecfp4"]


def test_a_deterministic_baseline_counts_once_however_many_seeds_it_was_run_with():
    rows = forest((2.0, 2.0, 2.0), deterministic=True)
    found = entry(rows, "forest_ecfp4")
    assert (found.score.n, found.expected, found.score.low) == (1, 1, None)


def test_everything_that_was_run_for_a_method_is_counted_as_spent():
    study = {"study": f"{CELL}/delaney"}
    rows = [
        *three("a", [1.0, 2.0, 3.0], **study),
        row("s0", kind="search", epochs=4, device_hours=0.25, **study),
        row("s1", kind="search", status="pruned", epochs=1, device_hours=0.125, **study),
        row("s2", kind="search", status="failed", epochs=None, device_hours=0.0625, **study),
        row("r0", kind="rescore", epochs=5, device_hours=0.5, **study),
        row("elsewhere", kind="search", task="lipo", epochs=100, device_hours=100),
        pretraining("p0", 0.5),
        pretraining("p9", 0.5, molecules=9),
    ]
    spent = entry(rows).spent
    assert (spent.items, spent.epochs) == (7, 25.0)
    assert (spent.device_hours, spent.pretrain_device_hours) == (2.4375, 2.0)


def test_in_an_adaptive_space_the_whole_study_is_the_price_of_the_cell_it_chose():
    study = {"study": "delaney"}
    rows = [*three("a", [1.0, 2.0, 3.0], **study), row("s0", kind="search", **OTHER, **study)]
    found = section(rows, cells=())
    assert [e.spent.items for e in found.entries] == [4]
    assert found.incomplete == ()


def test_an_adaptive_search_that_has_not_chosen_yet_is_a_line_of_its_own():
    rows = [row("s0", kind="search"), row("s1", kind="search", status="running", **OTHER), *forest()]
    found = section(rows, cells=())
    assert [e.method for e in found.entries] == ["forest_ecfp4"]
    assert [(line.method, line.reason) for line in found.incomplete] == [
        ("search", "no confirm run; search: 1 finished, 1 running")
    ]


def two_recipes(**changes):
    """Runs of a first recipe, and of the one that took its place after the test had been opened."""
    now = FinetuneSpec(learning_rate=5e-4)
    first = three("a", [1.0, 2.0, 3.0], superseded=True, **changes)
    return first, three("b", [4.0, 4.0, 4.0], recipe=now.digest, finetune=now, recipe_changed=True, **changes)


def test_a_test_opened_for_two_recipes_counts_the_one_that_stands_and_says_so():
    first, now = two_recipes()
    found = entry(first + now)
    assert (found.score.mean, found.recipe, found.spent.items) == (4.0, now[0].recipe, 6)
    assert found.badges == ("recipe changed after opening",)
    assert entry(three("a", [1.0, 2.0, 3.0])).badges == ()


def test_a_changed_recipe_that_is_not_yet_confirmed_is_no_result_and_says_so_too():
    first, now = two_recipes()
    (line,) = section([*first, *now[:2], now[2].model_copy(update={"status": "waiting", "metrics": {}})]).incomplete
    assert (line.done, line.expected, line.badges) == (2, 3, ("recipe changed after opening",))
    (gone,) = section(first).incomplete
    assert (gone.done, gone.reason) == (0, "no confirm run; search: none started")


def test_an_adaptive_search_whose_recipe_was_withdrawn_is_a_line_of_its_own():
    rows = [*two_recipes()[0], row("s0", kind="search")]
    assert [line.method for line in section(rows, cells=()).incomplete] == ["search"]


def test_two_results_of_one_replicate_are_refused():
    with pytest.raises(DataError, match=r"has two \(a0 and b0\) for pre-training seed 0, split 0, head seed 0"):
        section([scored("a0", 1.0), scored("b0", 2.0)])


def test_a_task_says_its_unit_and_note():
    tasks = {"fw": TaskFacts(kind="regression", unit="pIC50", note="one congeneric series, demonstration")}
    found = section([r.model_copy(update={"task": "fw"}) for r in three("a", [1.0, 2.0, 3.0])], tasks=tasks)
    assert (found.task, found.unit, found.note) == ("fw", "pIC50", "one congeneric series, demonstration")


def two_tasks(first, second):
    """Scores per method on delaney and lipo, one replicate."""
    tasks = {"delaney": TaskFacts(kind="regression"), "lipo": TaskFacts(kind="regression")}
    rows = [
        scored(f"{task}-{method}", score, method=method, task=task)
        for task, scores in (("delaney", first), ("lipo", second))
        for method, score in scores.items()
    ]
    return leaderboards(rows, design(tasks=tasks, head_seeds=1, cells=("a", "b", "c")))["regression"]


def test_the_mean_rank_is_over_methods_that_are_complete_on_every_task():
    board = two_tasks({"a": 1.0, "b": 2.0, "c": 0.5}, {"a": 5.0, "b": 4.0})
    assert [(line.method, line.mean_rank, line.win_rate) for line in board.overall.standings] == [
        ("a", 1.5, 0.5),
        ("b", 1.5, 0.5),
    ]
    assert [line.method for line in board.sections[1].incomplete] == ["c"]


def test_equal_scores_share_the_mean_of_their_ranks():
    board = two_tasks({"a": 1.0, "b": 1.0, "c": 2.0}, {"a": 1.0, "b": 2.0, "c": 3.0})
    assert {line.method: line.mean_rank for line in board.overall.standings} == {"a": 1.25, "b": 1.75, "c": 3.0}


def test_an_order_over_tasks_needs_two_methods_that_are_complete_on_all():
    assert two_tasks({"a": 1.0, "b": 2.0}, {"c": 1.0}).overall is None


def test_the_columns_of_a_line_repeat_its_standing_over_all_tasks():
    board = two_tasks({"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 2.0})
    told = {(r["task"], r["method"]): (r["mean_rank"], r["win_rate"], r["improvability"]) for r in records(board)}
    assert told["lipo", "a"] == told["delaney", "a"] == (1.0, 1.0, 0.0)
    assert told["lipo", "b"] == (2.0, 0.0, 0.5)


def test_one_task_has_no_overall_part():
    assert leaderboards(three("a", [1.0, 2.0, 3.0]), design())["regression"].overall is None


def test_folds_overlap_by_their_test_over_their_training_rows():
    assert design(outer_folds=5).overlap == pytest.approx(0.2 / 0.7)
    assert design(outer_folds=2).overlap == pytest.approx(0.5 / 0.4)
    scores = {f"a{k}": 1.0 + k / 10 for k in range(5)}
    rows = [scored(uid, score, outer=k + 1) for k, (uid, score) in enumerate(scores.items())]
    whole = {"head_seeds": 1, "outers": 5, "outer_folds": 5}
    wide, plain = entry(rows, **whole).score, entry(rows, **whole | {"outer_folds": 500}).score
    assert (wide.high - wide.mean) / (plain.high - plain.mean) == pytest.approx(
        ((1 + 5 * 0.2 / 0.7) / (1 + 5 * 0.002 / 0.898)) ** 0.5
    )


def test_the_design_is_read_from_the_header():
    found = design_from_state(whole_state())
    assert (found.pretrain_seeds, found.splits, found.head_seeds) == (1, 1, 3)
    assert found.cells == ("bart-w64x2-4000", "roberta-w64x2-4000")
    assert found.tasks["freewilson_pic50"].note == "one congeneric series, demonstration"
    assert (found.sweep, found.space_digest) == ("demo", "abc")


def test_a_recipe_in_words_names_what_was_chosen_and_what_differs():
    assert recipe_text(None) == ""
    lora = FinetuneSpec(method="lora", learning_rate=0.00012345, dropout=0.25, patience=3)
    assert recipe_text(lora) == (
        "lora lr=0.000123 batch=32 epochs=50 patience=3 dropout=0.25 lora_rank=8 lora_alpha=16"
    )
