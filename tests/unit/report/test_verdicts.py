"""What a section says in sentences, and where its lines stand."""

import pytest
from report_rows import design, forest, scored, three

from chembench.report.board import TaskFacts
from chembench.report.leaderboard import leaderboards
from chembench.report.verdicts import against, cost_sentences, order_sentences, pareto, sentences
from chembench.statistics.aggregate import aggregate

BART = {"method": "bart-w64x2-1000", "architecture": "bart", "pretrain_uid": "p1"}
LLAMA = {"method": "llama-w64x2-1000", "architecture": "llama", "pretrain_uid": "p2"}
ROBERTA = "roberta-w64x2-1000"


def section(rows, **changes):
    (board,) = leaderboards(rows, design(cells=(), **changes)).values()
    return board.sections[0]


def lines(found):
    return {entry.method: entry for entry in found.entries}


FAR_APART = [*three("a", [1.0, 1.01, 0.99]), *three("b", [3.0, 3.01, 2.99], **BART), *forest((2.0, 2.01, 1.99))]
TIED = [*three("a", [1.0, 2.0, 3.0]), *three("b", [1.1, 2.2, 3.2], **BART), *forest((1.0, 2.1, 3.4))]


def test_methods_that_are_shown_to_be_worse_rank_behind_and_share_no_letter():
    found = lines(section(FAR_APART))
    assert {name: entry.rank for name, entry in found.items()} == {ROBERTA: 1, "forest_ecfp4": 2, BART["method"]: 3}
    assert len({entry.ties for entry in found.values()}) == 3
    assert found[ROBERTA].p_best == 1.0
    assert {entry.more_runs for entry in found.values()} == {None}


def test_methods_that_are_not_shown_to_differ_share_rank_and_letter():
    found = lines(section(TIED))
    assert {entry.rank for entry in found.values()} == {1} and {entry.ties for entry in found.values()} == {"a"}
    assert sum(entry.p_best for entry in found.values()) == pytest.approx(1.0)


def test_what_was_run_once_has_no_rank_and_the_way_out_is_told():
    rows = [scored("a", 1.0), scored("b", 2.0, **BART)]
    found = section(rows, head_seeds=1)
    assert {entry.rank for entry in found.entries} == {None}
    assert sentences(found) == ["every method was run once: no difference can be shown, more head seeds or splits can"]


def test_the_answer_names_who_ties_what_would_part_them_and_the_test():
    best, forest_, apart, test = sentences(section(TIED))
    assert best == f"no single best method is shown: none of 3 is shown to be worse than {ROBERTA}, the best mean"
    assert forest_ == "no recipe is shown to be better than forest_ecfp4; of 2 models, 2 are undecided"
    assert apart.startswith("to separate rows 1 and 2, ") or apart.startswith("no number of further replicates")
    assert test.startswith("test: ") and "family-wise level 0.05; no difference at all: p = " in test


def test_a_single_best_is_said_to_be_shown():
    best, forest_, _ = sentences(section(FAR_APART))
    assert best == f"a single best method is shown, better than each of the other 2: {ROBERTA}"
    assert forest_ == f"shown to be better than forest_ecfp4: {ROBERTA}; of 2 models, 1 is shown to be worse"


def test_pre_trained_models_are_held_against_the_same_ones_from_scratch():
    rows = [
        *three("a", [1.0, 1.01, 0.99]),
        *three("s", [3.0, 3.01, 2.99], method="roberta-w64x2-scratch", molecules=0, pretrain_uid=None),
    ]
    assert sentences(section(rows))[1] == (
        "pre-training against the same model from scratch: shown to help in 1 of 1 cell, to harm in 0, undecided or "
        "equivalent in 0"
    )


def test_a_power_sentence_counts_the_replicates_to_buy():
    rows = [*three("a", [1.0, 1.2, 1.4]), *three("b", [1.3, 1.5, 1.7], **BART)]
    found = section(rows)
    more = lines(found)[BART["method"]].more_runs
    assert more and more > 0
    told = f"to separate rows 1 and 2, {ROBERTA} and {BART['method']}, buy {more} more head seeds of each (80 % power)"
    assert told in sentences(found)


def test_no_complete_or_a_single_method_is_said():
    assert sentences(section([])) == ["no method has all its runs yet, so nothing can be said"]
    assert sentences(section(three("a", [1.0, 2.0, 3.0]))) == [
        f"one method alone, {ROBERTA}, has all its runs: there is nothing to compare it with"
    ]


def test_many_methods_are_counted_not_listed():
    rows = [*three("far", [9.0, 10.0, 11.0], method="far", pretrain_uid="far")] + [
        row
        for k in range(11)
        for row in three(f"m{k:02}", [1.0, 2.0, 3.0 + k / 100], method=f"m{k:02}", pretrain_uid=f"p{k}")
    ]
    said = sentences(section(rows))[0]
    assert said.startswith("no single best method is shown: 10 of the other 11 methods are not shown to be worse ")
    assert said.endswith("that of m00: m01, m02, m03, m04, m05, m06, m07, m08 and 2 more")


def test_what_is_shown_of_one_method_beside_another():
    comparison = section(FAR_APART).comparison
    assert against(comparison, ROBERTA, BART["method"]) == "better"
    assert against(comparison, BART["method"], ROBERTA) == "worse"
    assert against(section(TIED).comparison, BART["method"], ROBERTA) == "undecided"
    with pytest.raises(KeyError, match="were not compared"):
        against(comparison, ROBERTA, "nobody")


def test_a_method_is_on_the_pareto_front_unless_another_is_no_worse_and_no_dearer():
    rows = [
        *three("a", [1.0, 1.0, 1.1], device_hours=3.0),
        *three("b", [2.0, 2.0, 2.1], device_hours=1.0, **BART),
        *three("c", [3.0, 3.0, 3.1], device_hours=2.0, **LLAMA),
    ]
    found = section(rows)
    assert pareto(found.entries, "lower") == {ROBERTA, BART["method"]}
    assert {name: entry.pareto for name, entry in lines(found).items()} == {
        ROBERTA: True, BART["method"]: True, LLAMA["method"]: False
    }  # fmt: skip
    unmeasured = section(three("a", [1.0, 1.0, 1.1], device_hours=None))
    assert unmeasured.entries[0].pareto is None


def test_the_cheapest_that_ties_is_told_with_what_it_took():
    rows = [*three("a", [1.0, 2.0, 3.0], device_hours=3.0), *three("b", [1.1, 2.2, 3.2], device_hours=1.0, **BART)]
    assert cost_sentences(section(rows)) == [
        f"the cheapest that is not shown to be worse is {BART['method']} (2.167 ± 2.609): 3 device-hours, against 9 of "
        f"{ROBERTA}; undecided, not shown to be as good"
    ]
    assert cost_sentences(section(FAR_APART)) == []
    alike = [
        *three("a", [1.0, 1.0001, 0.9999], device_hours=3.0),
        *three("b", [1.001, 1.0011, 1.0009], device_hours=1.0, **BART),
    ]
    assert cost_sentences(section(alike))[0].endswith(f"3 device-hours, against 9 of {ROBERTA}")


def test_differences_below_a_twentieth_of_the_labels_spread_are_practically_none():
    rows = [*three("a", [1.0, 1.0001, 0.9999]), *three("b", [1.001, 1.0011, 1.0009], **BART)]
    comparison = section(rows).comparison
    assert comparison.region == pytest.approx(0.05)  # RMSE and its normalised value are equal here: spread 1
    assert against(comparison, ROBERTA, BART["method"]) == "equivalent"


def test_equivalent_methods_are_called_so_and_not_undecided():
    rows = [*three("a", [1.0, 1.0001, 0.9999]), *three("b", [1.001, 1.0011, 1.0009], **BART)]
    best, apart, _ = sentences(section(rows))
    assert best.endswith(
        f"none of 2 is shown to be worse than {ROBERTA}, the best mean; 1 of them is equivalent to it in practice"
    )
    assert apart == f"rows 1 and 2, {ROBERTA} and {BART['method']}, are equivalent in practice"


def test_controls_are_found_by_all_settings_that_are_not_of_pre_training():
    rows = []
    for shift, method in enumerate(("full", "lora")):
        own = {"finetune.method": method}
        scratch = {"method": f"roberta-w64x2-scratch+method={method}", "molecules": 0, "pretrain_uid": None}
        rows += three(f"s{method}", [2.0 + 5 * shift, 2.01 + 5 * shift, 1.99 + 5 * shift], settings=own, **scratch)
        cell = {"method": f"roberta-w64x2-1000+dropout=0.1+method={method}", "pretrain_uid": f"p{method}"}
        settings = own | {"pretrain.dropout": 0.1}
        rows += three(f"c{method}", [1.0 + 5 * shift, 1.01 + 5 * shift, 0.99 + 5 * shift], settings=settings, **cell)
    assert "shown to help in 2 of 2 cells, to harm in 0, undecided or equivalent in 0" in sentences(section(rows))[1]


def test_the_order_of_classification_is_turned():
    rows = [
        r.model_copy(update={"task_kind": "classification", "metrics": {"test_roc_auc": r.metrics["test_rmse"] / 4}})
        for r in FAR_APART
    ]
    found = section(rows, tasks={"delaney": TaskFacts(kind="classification")})
    assert {e.method: e.rank for e in found.entries} == {BART["method"]: 1, "forest_ecfp4": 2, ROBERTA: 3}
    assert found.comparison.region == 0.01


def test_an_order_over_tasks_says_whether_it_hangs_on_how_it_is_reckoned():
    same = aggregate({t: {"a": 1.0, "b": 2.0} for t in ("x", "y", "z")}, dict.fromkeys("xyz", "lower"))
    assert order_sentences(same) == [
        "first by mean rank: a",
        "whichever of mean rank (or win rate), improvability and TES is taken, the same stands first",
        "3 tasks carry the order: drawn again, they agree with it by Kendall's tau of 1.00",
    ]
    torn = {"x": {"a": 1.0, "b": 1.1}, "y": {"a": 1.0, "b": 1.1}, "z": {"a": 9.0, "b": 1.0}}
    said = order_sentences(aggregate(torn, dict.fromkeys("xyz", "lower")))
    assert said[0] == "first by mean rank: a"
    assert said[1].startswith("the way to reckon it decides who is first: by improvability b; by tes b")
