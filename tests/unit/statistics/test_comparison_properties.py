"""Order of rows, names of methods and units change no verdict, tie group, letters or what is needed."""

from hypothesis import given, settings
from hypothesis import strategies as st

from chembench.statistics.comparison import compare
from chembench.statistics.estimates import Key

LAYOUTS = {
    "head seeds": [Key(0, 0, s) for s in range(4)],
    "crossed": [Key(p, 0, s) for p in range(2) for s in range(3)],
    "splits": [Key(0, k, s) for k in range(3) for s in range(2)],
    "folds": [Key(0, 0, 0, k) for k in range(5)],
}


@st.composite
def boards(draw):
    keys = draw(st.sampled_from(sorted(LAYOUTS)))
    scores = st.integers(0, 40)
    names = [f"m{k}" for k in range(draw(st.integers(2, 5)))]
    return {name: {key: draw(scores) / 8 for key in LAYOUTS[keys]} for name in names}


def told(found, names=None):
    """What a board prints of a comparison, by name."""
    of = names or {name: name for name in found.methods}
    verdicts = {
        frozenset((of[p.first], of[p.second])): of[p.first] if p.verdict == "first" else p.verdict for p in found.pairs
    }
    shared = {
        frozenset((of[a], of[b]))
        for a in found.methods
        for b in found.methods
        if set(found.letters[a]) & set(found.letters[b])
    }
    return verdicts, {of[name] for name in found.tie_group}, shared, {of[n]: v for n, v in found.needed.items()}


@settings(max_examples=15, derandomize=True, deadline=None)
@given(boards(), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(scores, random):
    def shuffled(table):
        return dict(random.sample(list(table.items()), len(table)))

    assert compare(shuffled({n: shuffled(own) for n, own in scores.items()}), better="lower") == compare(
        scores, better="lower"
    )


@settings(max_examples=15, derandomize=True, deadline=None)
@given(boards(), st.randoms(use_true_random=False))
def test_renaming_methods_changes_names_alone(scores, random):
    own = {name: own for name, own in scores.items() if list(scores.values()).count(own) == 1}
    if len(own) < 2:
        return
    new = dict(zip(own, random.sample([f"x{k}" for k in range(len(own))], len(own)), strict=True))
    back = {value: name for name, value in new.items()}
    renamed = compare({new[name]: scores for name, scores in own.items()}, better="lower", region=0.3)
    plain = compare(own, better="lower", region=0.3)
    assert told(renamed, back) == told(plain)
    assert {back[n]: v for n, v in renamed.p_best.items()} == plain.p_best


@settings(max_examples=15, derandomize=True, deadline=None)
@given(boards(), st.sampled_from([0.001, 0.1, 3.0, 1e4]), st.sampled_from([-7.0, 0.0, 0.3, 100.0]))
def test_units_change_no_verdict(scores, factor, shift):
    other = {n: {key: factor * x + shift for key, x in own.items()} for n, own in scores.items()}
    plain, turned = (compare(s, better="lower", region=r) for s, r in ((scores, 0.3), (other, 0.3 * factor)))
    assert told(turned) == told(plain)
    assert turned.methods == plain.methods


@settings(max_examples=15, derandomize=True, deadline=None)
@given(boards())
def test_turning_the_sign_and_the_direction_changes_no_verdict(scores):
    other = {n: {key: -x for key, x in own.items()} for n, own in scores.items()}
    assert told(compare(other, better="higher")) == told(compare(scores, better="lower"))


@settings(max_examples=15, derandomize=True, deadline=None)
@given(boards())
def test_letters_and_pairs_say_the_same(scores):
    found = compare(scores, better="lower", region=0.3)
    for pair in found.pairs:
        shares = bool(set(found.letters[pair.first]) & set(found.letters[pair.second]))
        assert shares == (pair.verdict not in ("first", "second"))
        if pair.p is None:  # nothing varies
            continue
        assert pair.low <= pair.difference <= pair.high
        assert (pair.p <= 0.05) == (not pair.low <= 0 <= pair.high) or abs(pair.p - 0.05) < 1e-4
    assert found.tie_group[0] == found.methods[0]
