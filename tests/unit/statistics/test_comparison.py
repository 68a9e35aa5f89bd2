import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import f_oneway, ttest_ind, ttest_rel, tukey_hsd
from statsmodels.stats.anova import AnovaRM

from chembench.errors import ConfigError, DataError, UnknownNameError
from chembench.statistics.comparison import compare
from chembench.statistics.estimates import Key
from chembench.statistics.regions import region_of
from chembench.statistics.replicates import scores_from


def seeds(*scores):
    return {Key(0, 0, at): score for at, score in enumerate(scores)}


def splits(*scores):
    return {Key(0, at, 0): score for at, score in enumerate(scores)}


def folds(*scores):
    return {Key(0, 0, 0, at): score for at, score in enumerate(scores)}


def checkpoints(*scores):
    return {Key(at, 0, 0): score for at, score in enumerate(scores)}


CLOSE = {"a": seeds(1.0, 1.2, 1.1), "b": seeds(1.4, 1.1, 1.3), "c": seeds(2.0, 2.2, 2.3)}


def pair_of(found, first, second):
    return next(pair for pair in found.pairs if (pair.first, pair.second) == (first, second))


def test_seeds_of_one_checkpoint_are_compared_as_tukey_does():
    own = [list(scores.values()) for scores in CLOSE.values()]
    found, scipys = compare(CLOSE, better="lower"), tukey_hsd(*own)
    assert found.omnibus_p == pytest.approx(f_oneway(*own).pvalue)
    assert pair_of(found, "a", "c").p == pytest.approx(scipys.pvalue[0, 2], abs=1e-8)
    low, high = scipys.confidence_interval().low[0, 2], scipys.confidence_interval().high[0, 2]
    assert (pair_of(found, "a", "c").low, pair_of(found, "a", "c").high) == (pytest.approx(low), pytest.approx(high))
    assert found.test == "one-way ANOVA over head seeds, Tukey-Kramer, a pair's own variance where larger"


def test_common_splits_are_taken_out_as_in_a_repeated_measures_anova():
    rows = {"a": [1.0, 2.0, 3.1, 4.0], "b": [1.3, 2.2, 3.3, 4.4], "c": [1.1, 2.3, 3.0, 4.1]}
    found = compare({name: splits(*own) for name, own in rows.items()}, better="lower")
    table = pd.DataFrame([(n, at, s) for n, own in rows.items() for at, s in enumerate(own)], columns=["m", "b", "s"])
    theirs = AnovaRM(table, "s", "b", within=["m"]).fit().anova_table
    assert found.omnibus_p == pytest.approx(float(theirs["Pr > F"].iloc[0]))
    assert found.test == "repeated-measures ANOVA over 4 splits, Tukey HSD, a pair's own variance where larger"


def test_the_better_mean_stands_first_whichever_way_is_better():
    assert compare(CLOSE, better="lower").methods == ("a", "b", "c")
    assert compare(CLOSE, better="higher").methods == ("c", "b", "a")
    assert compare(CLOSE, better="higher").pairs[0].difference > 0


def test_the_tie_group_is_the_best_and_all_that_are_not_shown_to_be_worse():
    found = compare(CLOSE, better="lower")
    assert found.tie_group == ("a", "b")
    assert found.letters == {"a": "a", "b": "a", "c": "b"}
    assert found.needed["c"] is None
    assert found.needed["b"] > 0 and found.needed_axis == {"b": "head seed"}
    assert sum(found.p_best.values()) == pytest.approx(1)


def test_one_replicate_each_says_nothing_but_the_way_out():
    found = compare({"a": seeds(1.0), "b": seeds(2.0)}, better="lower")
    assert found.pairs[0].verdict == "undecided"
    assert (found.pairs[0].low, found.pairs[0].p) == (None, None)
    assert found.tie_group == ("a", "b") and found.p_best == {}
    assert "add head seeds, splits or pre-training seeds" in found.notes[0]


def test_a_method_with_one_replicate_beside_others_stays_undecided():
    found = compare({"a": seeds(1.0, 1.1, 1.2), "b": seeds(1.5, 1.6, 1.4), "lone": seeds(9.0)}, better="lower")
    assert pair_of(found, "a", "lone").verdict == "undecided"
    assert pair_of(found, "a", "b").p == pytest.approx(tukey_hsd([1.0, 1.1, 1.2], [1.5, 1.6, 1.4]).pvalue[0, 1])
    assert any("lone" in note for note in found.notes)


def test_a_fixed_baseline_is_a_value_that_an_interval_is_held_against():
    found = compare({"a": seeds(1.0, 1.1, 1.2), "forest": seeds(1.5)}, better="lower", fixed={"forest"})
    from scipy.stats import ttest_1samp

    theirs = ttest_1samp([1.0, 1.1, 1.2], 1.5)
    assert found.pairs[0].p == pytest.approx(theirs.pvalue)
    assert found.pairs[0].basis == "independent head seeds of one checkpoint against a fixed value"


def test_two_fixed_values_differ_by_nothing_that_can_be_judged():
    own = {"a": seeds(1.0, 1.1), "one": seeds(2.0), "two": seeds(2.5)}
    found = compare(own, better="lower", fixed={"one", "two"})
    assert pair_of(found, "one", "two").p is None
    assert pair_of(found, "one", "two").verdict == "undecided"


def test_seeds_of_one_checkpoint_do_not_stand_in_for_checkpoints():
    near = {
        name: {Key(p, 0, s): at + own + 0.001 * s for p, own in enumerate((-0.2, 0.0, 0.2)) for s in range(5)}
        for name, at in (("a", 1.0), ("b", 1.15))
    }
    assert compare(near, better="lower").pairs[0].verdict == "undecided"
    flat = [[score for _, score in sorted(own.items())] for own in near.values()]
    assert f_oneway(*flat).pvalue < 0.05  # fifteen seeds taken as independent


def test_overlapping_folds_widen_the_interval_as_nadeau_and_bengio_do():
    own = {"a": folds(1.0, 1.2, 1.1, 1.3, 1.0), "b": folds(1.2, 1.3, 1.4, 1.4, 1.1)}
    apart, lapped = compare(own, better="lower", overlap=0.0), compare(own, better="lower", overlap=0.25)
    ratio = (lapped.pairs[0].high - lapped.pairs[0].low) / (apart.pairs[0].high - apart.pairs[0].low)
    assert ratio == pytest.approx(math.sqrt((1 / 5 + 0.25) / (1 / 5)))


def test_a_difference_within_the_region_is_equivalent():
    near = {"a": seeds(1.0, 1.001, 1.002), "b": seeds(1.001, 1.002, 1.003)}
    assert compare(near, better="lower").pairs[0].verdict == "undecided"
    found = compare(near, better="lower", region=0.1).pairs[0]
    assert (found.verdict, found.material) == ("equivalent", False)
    far = compare({"a": seeds(1.0, 1.001, 1.002), "b": seeds(2.0, 2.1, 2.05)}, better="lower", region=0.1).pairs[0]
    assert (far.verdict, far.material) == ("first", True)


def test_methods_are_compared_on_the_splits_that_all_were_run_on():
    found = compare({"a": splits(1.0, 2.0, 3.0), "b": splits(1.1, 2.3)}, better="lower")
    assert found.pairs[0].difference == pytest.approx(-0.2)
    assert any("2 of 3 splits" in note for note in found.notes)


def test_ranks_are_compared_when_asked_for():
    own = {"a": splits(1, 2, 3, 4, 5), "b": splits(2, 3, 4, 5, 6), "c": splits(9, 8, 7, 9, 8)}
    found = compare(own, better="lower", test="rank")
    from scipy.stats import friedmanchisquare

    assert found.omnibus_p == pytest.approx(friedmanchisquare(*[list(x.values()) for x in own.values()]).pvalue)
    assert found.test == "Friedman over 5 splits, Nemenyi"
    assert pair_of(found, "a", "c").verdict == "first"


@pytest.mark.parametrize(
    ("scores", "options", "says"),
    [
        ({}, {}, "at least one method"),
        ({"a": {}}, {}, "every method needs at least one score, 'a' has none"),
        ({"a": seeds(1.0, math.nan)}, {}, "finite numbers, 'a' has nan at pretrain seed 0, split 0, head seed 1"),
        ({"a": seeds(math.inf)}, {}, "finite numbers, 'a' has inf"),
        ({"a": splits(1.0), "b": {Key(0, 1, 0): 1.0}}, {}, "a and b share no split"),
    ],
)
def test_scores_that_cannot_be_compared_are_refused(scores, options, says):
    with pytest.raises(DataError, match=says):
        compare(scores, better="lower", **options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"better": "up"}, "better must be 'lower' or 'higher', got 'up'"),
        ({"region": 0.0}, "region must be > 0"),
        ({"alpha": 1.0}, "alpha must lie between 0 and 1"),
        ({"overlap": -1.0}, "overlap is n_test / n_train"),
        ({"test": "sign"}, "test must be 'means' or 'rank', got 'sign'"),
        ({"fixed": {"forest"}}, "fixed names methods that are compared, got 'forest'; known: a, b, c"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, says):
    with pytest.raises(ConfigError, match=says):
        compare(CLOSE, **{"better": "lower", **options})


def test_order_of_rows_names_and_units_change_no_verdict():
    draw = np.random.default_rng(3)
    own = {f"m{k}": seeds(*draw.normal(k / 4, 0.3, 4).tolist()) for k in range(6)}
    plain = compare(own, better="lower")
    turned = compare({n: dict(reversed(list(s.items()))) for n, s in reversed(list(own.items()))}, better="lower")
    assert turned == plain


def test_regions_are_in_the_unit_of_the_metric():
    assert region_of("roc_auc") == 0.01
    assert region_of("rmse", measured_sd=2.0) == pytest.approx(0.1)
    assert region_of("rmse") is None
    with pytest.raises(UnknownNameError, match="unknown metric 'auc'"):
        region_of("auc")
    with pytest.raises(DataError, match="their standard deviation is 0"):
        region_of("mae", measured_sd=0.0)


def test_ranks_inside_folds_that_overlap_are_trusted_less():
    own = {"a": folds(1, 2, 3, 4, 5), "b": folds(2, 3, 4, 5, 6), "c": folds(9, 8, 7, 9, 8)}
    apart = compare(own, better="lower", test="rank", overlap=0.0)
    lapped = compare(own, better="lower", test="rank")
    assert pair_of(apart, "a", "c").p < 0.05 < pair_of(lapped, "a", "c").p


def test_nemenyi_is_that_of_scikit_posthocs():
    from scikit_posthocs import posthoc_nemenyi_friedman

    draw = np.random.default_rng(1)
    own = {name: splits(*draw.normal(at, 1, 8).tolist()) for name, at in (("a", 0), ("b", 1), ("c", 3))}
    theirs = posthoc_nemenyi_friedman(np.array([list(x.values()) for x in own.values()]).T)
    found = compare(own, better="lower", test="rank")
    for pair in found.pairs:
        at = ["abc".index(pair.first), "abc".index(pair.second)]
        assert pair.p == pytest.approx(float(theirs.iloc[at[0], at[1]]), abs=1e-4)
        assert (pair.low, pair.verdict == "equivalent") == (None, False)


def test_without_blocks_ranks_are_those_of_kruskal_and_dunn():
    from scikit_posthocs import posthoc_dunn
    from scipy.stats import kruskal

    values = [list(own.values()) for own in CLOSE.values()]
    found = compare(CLOSE, better="lower", test="rank")
    assert found.omnibus_p == pytest.approx(kruskal(*values).pvalue)
    assert pair_of(found, "a", "c").p == pytest.approx(float(posthoc_dunn(values, p_adjust="holm").iloc[0, 2]))


def test_ranks_over_blocks_refuse_seeds_inside_them():
    own = {name: {Key(0, k, s): k + s + at for k in range(3) for s in range(2)} for name, at in (("a", 0), ("b", 1))}
    with pytest.raises(DataError, match="give one score a block, or compare by means"):
        compare(own, better="lower", test="rank")


def test_a_method_that_varies_more_than_the_others_keeps_its_own_variance():
    wide = {**CLOSE, "d": seeds(1.0, 3.0, 5.0)}
    plain, found = pair_of(compare(CLOSE, better="lower"), "a", "b"), compare(wide, better="lower")
    pooled = float(np.sqrt(np.mean([np.var(list(own.values()), ddof=1) for own in wide.values()]) * 2 / 3))
    own = float(np.sqrt(np.var([1.0, 3.0, 5.0], ddof=1) / 3 + np.var([1.0, 1.2, 1.1], ddof=1) / 3))
    half = {pair.second: pair.high - pair.difference for pair in found.pairs if pair.first == "a"}
    assert half["d"] / half["b"] > own / pooled > 1
    assert half["b"] > plain.high - plain.difference


def test_pairs_with_many_replicates_go_by_their_own_variance():
    draw = np.random.default_rng(0)
    hard_B = draw.normal(size=20)
    near_B = hard_B + 0.1 * draw.normal(size=20)
    rows = {"a": near_B, "b": near_B + 0.03 + 0.01 * draw.normal(size=20), "c": 5 * draw.normal(size=20)}
    found = compare({name: splits(*own) for name, own in rows.items()}, better="lower")
    assert found.test == "paired t tests over 20 splits, for all pairs by Šidák"
    assert found.omnibus_p == min(pair.p for pair in found.pairs)
    for pair in found.pairs:
        theirs = ttest_rel(rows[pair.first], rows[pair.second])
        assert pair.p == pytest.approx(1 - (1 - theirs.pvalue) ** 3, abs=1e-9)
        low, high = theirs.confidence_interval(1 - (1 - 0.95 ** (1 / 3)))
        assert (pair.low, pair.high) == (pytest.approx(low, rel=0.01), pytest.approx(high, rel=0.01))
    verdict = {(pair.first, pair.second): pair.verdict for pair in found.pairs}
    assert verdict["a", "b"] == "first", "c, which varies widely, does not hide it"
    few = compare({name: splits(*own[:10]) for name, own in rows.items()}, better="lower")
    assert few.test.startswith("repeated-measures ANOVA over 10 splits, Tukey HSD, ") and pair_of(few, "a", "b").p > 0.9
    seen = compare({name: seeds(*own) for name, own in rows.items()}, better="lower")
    welch = ttest_ind(rows["a"], rows["b"], equal_var=False).pvalue
    assert pair_of(seen, "a", "b").p == pytest.approx(1 - (1 - welch) ** 3, rel=0.01)


def test_three_checkpoints_never_go_by_their_own_variance_however_many_folds_there_are():
    draw = np.random.default_rng(1)
    keys = [Key(p, 0, 0, fold) for p in range(3) for fold in range(1, 26)]
    scores = {name: {key: float(draw.normal()) for key in keys} for name in "abc"}
    assert "own variance where larger" in compare(scores, better="lower").test
    many = {name: {Key(p, 0, 0, f): float(draw.normal()) for p in range(9) for f in range(1, 26)} for name in "abc"}
    assert compare(many, better="lower").test.startswith(
        "paired t tests over 25 outer test sets with the variance of ch"
    )


@pytest.mark.parametrize(("many", "few", "alone"), [(16, 2, False), (30, 7, False), (30, 8, True), (9, 9, True)])
def test_many_seeds_of_one_method_do_not_make_up_for_few_of_the_other(many, few, alone):
    draw = np.random.default_rng(2)
    scores = {name: seeds(*draw.normal(size=n)) for name, n in (("a", many), ("b", few), ("c", few))}
    test = compare(scores, better="lower").test
    assert ("where replicates are many" in test or test.startswith("Welch's t tests")) == alone


def test_unequal_replicates_show_no_difference_where_none_is():
    draw = np.random.default_rng(3)
    wrong = 0
    for _ in range(100):
        scores = {f"m{n}": seeds(*draw.normal(size=16 if n == 0 else 2)) for n in range(10)}
        wrong += any(pair.verdict in ("first", "second") for pair in compare(scores, better="lower").pairs)
    assert wrong <= 12


def test_a_pair_that_hardly_varies_needs_no_more_replicates_than_let_it_go_by_itself():
    rows = {"a": seeds(1.0, 1.01, 0.99), "b": seeds(1.2, 1.21, 1.19), "c": seeds(3.0, 5.0, 7.0)}
    found = compare(rows, better="lower")
    assert pair_of(found, "a", "b").verdict == "undecided" and found.needed_axis["b"] == "head seed"
    assert 6 <= found.needed["b"] <= 16, "15 degrees of freedom of its own"
    vague = compare({**rows, "b": seeds(1.2, 2.4, 0.5)}, better="lower")
    assert vague.needed["b"] is None or vague.needed["b"] > 100


def test_seeds_that_change_nothing_say_nothing():
    found = compare({"a": seeds(1.0, 1.0), "b": seeds(2.0, 2.0)}, better="lower")
    assert (found.pairs[0].verdict, found.pairs[0].p, found.pairs[0].low) == ("undecided", None, None)
    assert any("do not vary at all" in note for note in found.notes)
    beside = compare({"a": seeds(1.0, 1.0), "b": seeds(2.0, 2.0), "c": seeds(2.0, 2.1)}, better="lower")
    assert pair_of(beside, "a", "b").verdict == "first"


def test_where_nothing_varies_nothing_is_bought():
    fixed = {name: {Key(0, split, 0, 0): value for split in range(3)} for name, value in (("a", 1.0), ("b", 2.0))}
    assert compare(fixed, better="lower", fixed=("a", "b")).needed == {"b": None}
    flat = {name: {Key(0, 0, 0, k): value for k in range(1, 6)} for name, value in (("a", 1.0), ("b", 1.0), ("c", 2.0))}
    assert set(compare(flat, better="lower", test="rank").needed.values()) <= {None}


def test_a_replicate_that_is_there_twice_is_refused():
    rows = [("a", Key(0, 0, 1), 1.0), ("a", Key(0, 0, 0), 2.0)]
    assert scores_from(rows) == {"a": {Key(0, 0, 1): 1.0, Key(0, 0, 0): 2.0}}
    with pytest.raises(DataError, match=r"'a' has 1\.0 and 3\.0 at pretrain seed 0, split 0, head seed 1, outer 0"):
        scores_from([*rows, ("a", Key(0, 0, 1), 3.0)])


def test_replicates_that_are_not_crossed_are_told():
    own = {"a": {Key(0, 0, 0): 1.0, Key(0, 0, 1): 1.1, Key(0, 1, 0): 1.2}, "b": splits(2.0, 2.1)}
    assert any("not fully crossed: a" in note for note in compare(own, better="lower").notes)


def test_inner_splits_of_an_outer_test_set_are_averaged():
    own = {n: {Key(0, s, 0, o): at + s + o for s in range(2) for o in range(3)} for n, at in (("a", 0.0), ("b", 1.0))}
    found = compare(own, better="lower")
    assert found.pairs[0].n == 3 and found.pairs[0].basis == "paired by outer test set"
    assert any("2 splits inside each outer test set are averaged" in note for note in found.notes)
