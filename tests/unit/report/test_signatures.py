"""What rules find in curves and scores, and that they find nothing where nothing is shown."""

from types import SimpleNamespace

from report_rows import design, forest, pretraining, three

from chembench.report.leaderboard import leaderboards
from chembench.report.page.signatures import (
    EQUIVALENT,
    NOT_SHOWN,
    decline_findings,
    finetuning_findings,
    pretraining_findings,
    signatures,
)
from chembench.statistics.estimates import Estimate


def scale(molecules, scores, size="w64x2", parameters=105_000, **changes):
    name = f"roberta-{size}-{molecules}"
    made_of = {"size": size, "molecules": molecules, "parameters": parameters, "pretrain_uid": f"{size}{molecules}"}
    return three(name, scores, name, **made_of, **changes)


def source_of(*rows, task="delaney", curves=(), losses=()):
    """A report's source, as far as the rules look at it."""
    (board,) = leaderboards(list(rows), design(cells=())).values() if rows else (SimpleNamespace(sections=()),)
    pretrained = [pretraining(uid, curve[-1][0] if curve else 0.5) for uid, curve in dict(curves).items()]
    return SimpleNamespace(
        sections=[section.model_copy(update={"task": task}) for section in board.sections],
        rows=[*rows, *pretrained],
        counted=lambda task, method: [row for row in rows if row.method == method],
        pretraining=SimpleNamespace(entries=losses),
        pretrain_methods={uid: uid for uid in dict(curves)},
        curves=lambda uid: [
            {"epoch": at, "valid/loss": valid, "train/loss": train}
            for at, (valid, train) in enumerate(dict(curves)[uid], 1)
        ],
        state=SimpleNamespace(items={}),
    )


def entry(method, loss, parameters, molecules):
    mean = Estimate.model_construct(mean=loss)
    return SimpleNamespace(method=method, loss=mean, parameters=parameters, molecules=molecules)


def test_a_decline_is_a_finding_where_it_is_shown():
    rows = [*scale(1000, [1.0, 1.01, 0.99]), *scale(2000, [2.0, 2.01, 1.99]), *forest()]
    (found,) = decline_findings(source_of(*rows))
    assert (found.rule, found.method) == ("decline beyond a size", "roberta-w64x2-2000")
    assert found.figures == "2.000 at 2,000 molecules; roberta-w64x2-1000 1.000 at 1,000 molecules"
    assert found.reading.startswith("the decline is shown")


def test_a_decline_of_the_larger_model_is_seen_on_its_own_axis():
    rows = [*scale(1000, [1.0, 1.01, 0.99]), *scale(1000, [2.0, 2.01, 1.99], "w128x3", 600_000), *forest()]
    (found,) = decline_findings(source_of(*rows))
    assert found.figures.startswith("2.000 at 600,000 parameters; roberta-w64x2-1000 1.000 at 105,000 parameters")


def test_what_is_not_shown_is_counted_and_is_no_finding():
    vague = [*scale(1000, [1.0, 2.0, 3.0]), *scale(2000, [1.1, 2.2, 3.2]), *forest()]
    assert [one.reading for one in decline_findings(source_of(*vague))] == [NOT_SHOWN]
    same = [*scale(1000, [1.0, 1.0001, 0.9999]), *scale(2000, [1.001, 1.0011, 1.0009]), *forest((1.0, 1.001, 0.999))]
    assert [one.reading for one in decline_findings(source_of(*same))] in ([EQUIVALENT], [NOT_SHOWN])
    told = str(signatures(source_of(*vague)).blocks)
    assert "or more molecules have the worse mean, 1 time, this is not shown to be real (1) or equivalent" in told
    assert told.count("decline beyond a size") == 1, "among the rules alone"


def test_where_more_is_better_there_is_no_decline():
    rows = [*scale(1000, [2.0, 2.01, 1.99]), *scale(2000, [1.0, 1.01, 0.99]), *forest()]
    assert decline_findings(source_of(*rows)) == []


def test_shapes_of_curves_are_told_apart():
    curves = {
        "gap": [(0.5, 0.5), (0.495, 0.3)],
        "back": [(0.4, 0.5), (0.45, 0.45)],
        "falling": [(0.6, 0.6), (0.5, 0.5)],
        "flat": [(0.5, 0.5), (0.499, 0.499)],
    }
    losses = [entry(name, curve[-1][0], 10, 10) for name, curve in curves.items()]
    found = {(one.method, one.rule) for one in pretraining_findings(source_of(curves=curves, losses=losses))}
    shapes = {pair for pair in found if pair[1] != "loss high for the size"}
    assert shapes == {("gap", "train-validation gap"), ("back", "turned back"), ("falling", "stopped early")}


def test_a_loss_is_high_for_its_size_beside_one_no_larger():
    losses = [entry("small", 0.40, 10, 100), entry("large", 0.50, 20, 200), entry("less data", 0.60, 10, 50)]
    curves = {"small": [(0.4, 0.4)], "large": [(0.5, 0.2)], "less data": [(0.6, 0.6)]}
    found = [f for f in pretraining_findings(source_of(curves=curves, losses=losses)) if f.rule.startswith("loss")]
    assert [(one.method, one.figures) for one in found] == [("large", "loss 0.500; small has 0.400")]
    assert found[0].reading.startswith("under-capacity"), "its training loss is far lower"


def test_runs_that_are_best_at_their_end_and_tests_that_are_worse_are_told_once_for_a_task():
    late = [*scale(1000, [1.5, 1.51, 1.49], best_epoch=5), *scale(2000, [1.2, 1.21, 1.19], best_epoch=3), *forest()]
    found = {one.rule: one for one in finetuning_findings(source_of(*late))}
    assert found["best at the last epoch"].figures == "1 of 2 models: roberta-w64x2-1000"
    assert found["worse on the test"].figures == "2 of 3 methods; test 1.80 times validation at most"
    assert found["worse on the test"].reading == "the test molecules differ from the training ones"
