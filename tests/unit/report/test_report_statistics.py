"""Factor effects, tasks together and scaling in a report: made of the counted runs, refused where there are too few."""

import itertools

import pytest
from report_folder import folder, gathered
from report_rows import TASKS

from chembench.report.board import Entry, TaskSection
from chembench.report.page.blocks import Figure, Table, Text
from chembench.report.page.factors import effect_blocks, mixed_blocks, runs_of
from chembench.report.page.fits import error, fits
from chembench.report.page.scaling import _score_fits, _scores
from chembench.report.page.source import Source
from chembench.report.render import boards_from_state
from chembench.report.spent import Spent
from chembench.statistics.estimates import estimate
from chembench.statistics.factors import Run, effects
from chembench.statistics.mixed import mixed
from chembench.statistics.scaling import Point


@pytest.fixture(scope="module")
def sections(tmp_path_factory):
    report = gathered(tmp_path_factory.mktemp("statistics"))
    return {section.name: section for section in report.sections}


def texts(section):
    blocks = [block for block in section.blocks if isinstance(block, Text)]
    return " ".join(cell.text for block in blocks for line in block.lines for cell in line)


def tables(section):
    found = [block for block in section.blocks if isinstance(block, Table)]
    return {block.columns[0].title: [[cell.text for cell in line.cells] for line in block.lines] for block in found}


def test_what_scores_vary_by_is_told_with_the_axes_that_no_interval_holds(sections):
    said, own = texts(sections["comparisons"]), tables(sections["comparisons"])["varies with"]
    assert "Intervals hold the variance of head seed; there is one level of " in said
    assert "and whatever more would add is missing from them" in said
    (line,) = own
    assert (line[0], line[2], line[4]) == ("head seed", "100 %", "yes") and float(line[1]) > 0


def test_effects_stand_on_every_counted_run_of_the_cells_that_are_complete_on_all_tasks(tmp_path):
    paths, state = folder(tmp_path)
    found = runs_of(Source(state, paths, boards_from_state(state)))
    assert len(found) == 3 * 3 * len(TASKS)  # of four cells one lost a replicate
    assert {run.levels["molecules"] for run in found} == {"4000", "0"}
    assert all(set(run.levels) == {"architecture", "size", "molecules"} for run in found)


def test_factors_are_refused_where_nothing_is_left_to_be_the_error(sections):
    assert "No factor effects: " in texts(sections["factors"])


def runs(noise=(0.01, 0.03, 0.02, 0.05)):
    """Two architectures x two counts of molecules, two checkpoints each, on a task of either type."""
    found = []
    for n, (architecture, molecules, checkpoint) in enumerate(itertools.product("ab", ("0", "9"), range(2))):
        for task, kind, better in (("t", "regression", "lower"), ("u", "classification", "higher")):
            score = (0.5 if architecture == "a" else 0.2) + noise[n % 4] + 0.001 * n
            levels = {"architecture": architecture, "molecules": molecules}
            key = (checkpoint, 0, 0, 0)
            found.append(Run(task=task, task_type=kind, better=better, levels=levels, key=key, score=score))
    return found


def test_factors_that_can_be_told_apart_are_shown():
    figure, table = effect_blocks(effects(runs()))[1:3]
    terms = [line.cells[0].text for line in table.lines]
    assert terms[:3] == ["architecture", "molecules", "architecture x molecules"]
    assert "architecture x task type" in terms
    marks = {bar.label: bar.mark for bar in figure.plot.bars}
    assert marks["architecture x task type"] == "strong" and marks["molecules"] == "open"


def test_the_mixed_model_names_what_each_level_is_held_against():
    said, coefficients, *_ = mixed_blocks(mixed(runs()))
    assert said.lines[0][0].text.startswith("score ~ architecture + molecules")
    assert [line.cells[1].text for line in coefficients.lines] == ["b against a", "9 against 0"]


def test_several_tasks_have_one_order_and_what_hangs_on_the_choice(sections):
    said = texts(sections["together"])
    assert "the order is that of the mean rank, chosen before any result; Kendall's tau is " in said
    assert "One classification task alone" in said
    names = [block.name for block in sections["together"].blocks if isinstance(block, Figure)]
    assert names == ["ranks-regression", "wins-regression"]


def test_a_fit_needs_three_scales():
    two, three = [Point(1, 1.0), Point(2, 0.9)], [Point(1, 1.0), Point(2, 0.5), Point(4, 0.25)]
    table, refused = fits([("a", two), ("b", three)], "molecules", "loss")
    (line,) = table.lines
    assert [cell.text for cell in line.cells][:2] == ["b", "-1.000 (-1.000 to -1.000)"]
    assert line.cells[3].text == "-50.0%"
    assert refused.lines[0][0].text == (
        "No fit of loss against molecules for a: a scaling fit needs 3 distinct molecules, got 2 (1, 2); add scales."
    )


def test_a_fit_of_an_error_of_nothing_says_that_and_not_that_scales_are_missing():
    (refused,) = fits([("a", [Point(1, 0.1), Point(2, 0.0), Point(4, 0.2)])], "molecules", "1 - ROC-AUC")
    assert "needs positive finite numbers, got molecules 2: 0.0" in refused.lines[0][0].text


def test_a_fit_falls_with_the_error():
    assert error(0.9, "higher") == pytest.approx(0.1) and error(0.9, "lower") == 0.9


def test_too_few_pre_trainings_have_no_correlation(sections):
    assert "No correlation of pre-training loss and score: " in texts(sections["scaling"])


def test_losses_and_scores_stand_against_molecules_parameters_and_operations():
    known = dict(architecture="roberta", size="w64x2", score=estimate([1.0, 1.2]), expected=2, varies="head seed")
    known |= dict(group="cell", scope="", spent=Spent(items=1))
    entries = tuple(
        Entry(method=f"roberta-w64x2-{n}", molecules=n, parameters=10, pretrain_flops=1e6 * n, **known)
        for n in (100, 200, 400)
    )
    section = TaskSection(
        task="t",
        kind="regression",
        unit="u",
        metric="rmse",
        better="lower",
        note="",
        targets=1,
        entries=entries,
        incomplete=(),
    )
    figure = _scores(section)
    panels = {panel.x_label: panel.series[0] for panel in figure.plot.panels}
    assert panels["pre-training molecules"].x == (100, 200, 400)
    assert panels["pre-training FLOPs"].x == (1e8, 2e8, 4e8) and panels["pre-training FLOPs"].label == "roberta"
    assert "parameters" not in panels  # one size alone
    assert [block.columns[0].title for block in _score_fits(section) if isinstance(block, Table)] == [
        "RMSE against pre-training molecules",
        "RMSE against pre-training FLOPs",
    ]


def test_settings_of_the_same_name_in_two_tables_are_two_factors():
    from report_rows import scored

    from chembench.report.page.factors import _levels

    row = scored("a", 1.0, settings={"finetune.dropout": 0.1, "pretrain.dropout": 0.2, "finetune.method": "full"})
    assert {"finetune.dropout", "pretrain.dropout", "method"} <= set(_levels(row))
