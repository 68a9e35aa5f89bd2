"""What figures are made of: curves worked by hand, molecules missed most, drawings that cannot be misread."""

import re

import pytest
from report_rows import scored, three

from chembench.report.page.blocks import Figure, anchor, said
from chembench.report.page.comparisons import cliques, win_rate
from chembench.report.page.drawing import draw
from chembench.report.page.plots import (
    Bar,
    CriticalPlot,
    IntervalsPlot,
    LinesPlot,
    MatrixPlot,
    Molecule,
    MoleculesPlot,
    Panel,
    ParetoPlot,
    ParetoPoint,
    Placed,
    Series,
)
from chembench.report.page.source import Prediction, file_part, thinned
from chembench.report.page.winners import classifier_curves, worst_of

SERIES = Series(label="a $x$ <b>", x=(1.0, 2.0), y=(3.0, 4.0), low=(2.5, 3.5), high=(3.5, 4.5))
PLOTS = {
    "lines": LinesPlot(panels=(Panel(series=(SERIES,), title="<i>"),), x_label="x", y_label="y", log_x=True),
    "intervals": IntervalsPlot(
        bars=(Bar(label="<b>", value=1.0, low=0.5, high=1.5, anchor="line-1"), Bar(label="$y$", value=2.0)),
        x_label="x",
        zero=0.0,
        region=0.1,
    ),
    "critical": CriticalPlot(
        methods=tuple(Placed(label=f"<m{n}>", value=float(n), anchor=f"line-{n}") for n in range(5)),
        groups=((0, 2), (1, 3)),
        x_label="RMSE",
        better="lower",
    ),
    "matrix": MatrixPlot(
        names=("<a>", "b"), values=((None, 0.75), (0.25, None)), low=0.0, high=1.0, label="share of wins"
    ),
    "pareto": ParetoPlot(
        points=(ParetoPoint(label="<a>", cost=0.1, score=1.0, is_front=True), ParetoPoint(label="b", cost=1, score=2)),
        looks=("x",),
        x_label="cost",
        y_label="score",
        better="lower",
    ),
    "molecules": MoleculesPlot(molecules=(Molecule(smiles="CCO", legend="<b>"), Molecule(smiles="no", legend="2"))),
}


@pytest.mark.parametrize("kind", PLOTS)
def test_a_drawing_is_one_element_whose_ids_are_its_own(kind):
    drawn = draw(Figure(name=f"f-{kind}", caption="", plot=PLOTS[kind]))
    assert drawn.svg.startswith("<svg") and drawn.svg.rstrip().endswith("</svg>")
    assert drawn.png.startswith(b"\x89PNG")
    assert all(found.startswith(f"f-{kind}-") for found in re.findall(r' id="([^"]+)"', drawn.svg))
    inner = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', drawn.svg)
    assert {a or b for a, b in inner if not (a or b).startswith("line-")} <= set(
        re.findall(r' id="([^"]+)"', drawn.svg)
    )
    assert not re.search(r"<(b|i|a|m\d)>", drawn.svg) and "<metadata" not in drawn.svg


def test_a_label_is_text_that_links_to_its_line_and_never_mathematics():
    svg = draw(Figure(name="f", caption="", plot=PLOTS["intervals"])).svg
    assert '<a xlink:href="#line-1">' in svg and "$y$" in svg and "&lt;b&gt;" in svg


def test_nothing_a_user_set_in_matplotlib_changes_a_drawing():
    import matplotlib

    before = draw(Figure(name="f", caption="", plot=PLOTS["lines"]))
    with matplotlib.rc_context({"svg.fonttype": "path", "axes.facecolor": "red", "lines.linewidth": 9}):
        assert draw(Figure(name="f", caption="", plot=PLOTS["lines"])) == before


def test_names_of_figures_are_those_of_tasks_and_never_the_same_for_two():
    assert file_part("bace_regression") == "bace_regression"
    assert re.fullmatch(r"a-b-[0-9a-f]{4}", file_part("a/b"))
    assert file_part("a/b") != file_part("a.b")


def labels(pairs):
    return [Prediction(str(n), f"C{n}", "y", float(m), p) for n, (m, p) in enumerate(pairs)]


def test_roc_and_precision_recall_by_hand():
    roc, precision = classifier_curves(labels([(1, 0.9), (0, 0.8), (1, 0.8), (0, 0.1)]))
    assert roc == [(0.0, 0.0), (0.0, 0.5), (0.5, 1.0), (1.0, 1.0)]
    assert precision == [(0.0, 1.0), (0.5, 1.0), (1.0, 2 / 3), (1.0, 0.5)]


def test_the_area_under_the_curve_is_the_recorded_score():
    import numpy as np

    from chembench.metrics import roc_auc

    random = np.random.default_rng(0)
    measured, predicted = random.integers(0, 2, 60).astype(float), random.integers(0, 9, 60) / 9.0
    roc, _ = classifier_curves(labels(zip(measured, predicted, strict=True)))
    area = np.trapezoid([y for _, y in roc], [x for x, _ in roc])
    assert area == pytest.approx(roc_auc(measured, predicted))


@pytest.mark.parametrize("measured", [0, 1])
def test_one_class_alone_has_no_curve(measured):
    assert classifier_curves(labels([(measured, 0.5), (measured, 0.7)])) is None


def test_the_worst_molecules_are_those_that_all_runs_together_miss():
    runs = [labels([(1, 1), (5, 2), (3, 9)]), labels([(1, 1), (5, 2), (3, -3)])]
    worst = worst_of(runs)
    assert [one.smiles for one in worst] == ["C1", "C0", "C2"]
    assert worst[0].error == -3 and worst[2].predicted == (9, -3)


def test_thinned_keeps_both_ends():
    assert thinned(list(range(100)), 4) == [0, 33, 66, 99]
    assert thinned([1, 2], 4) == [1, 2]


def test_words_link_whole_and_the_longest_first():
    pieces = said("bart-w8-10 and bart-w8-100, not xbart-w8-10", {n: anchor(n) for n in ("bart-w8-10", "bart-w8-100")})
    assert [(p.text, p.link.to) for p in pieces if p.link] == [("bart-w8-10",) * 2, ("bart-w8-100",) * 2]
    assert "".join(piece.text for piece in pieces) == "bart-w8-10 and bart-w8-100, not xbart-w8-10"


def test_bars_join_what_shares_a_letter():
    assert cliques("abcd", {"a": "x", "b": "xy", "c": "y", "d": "z"}) == ([(0, 1), (1, 2)], True)


def test_a_bar_inside_another_is_left_out():
    assert cliques("abcd", {"a": "x", "b": "xy", "c": "xy", "d": "z"}) == ([(0, 2)], True)


def test_a_group_that_is_parted_is_told():
    assert cliques("abcd", {"a": "x", "b": "y", "c": "x", "d": "x"}) == ([(2, 3)], False)


def test_win_rates_count_pairs_of_runs_on_the_same_split():
    one = three("a", (1.0, 2.0, 3.0), method="a")
    other = [scored("b0", 2.0, method="b"), scored("b1", 9.0, 0, method="b", split=1)]
    tasks = [({"a": one, "b": other}, "test_rmse", True)]
    assert win_rate(tasks, "a", "b") == win_rate(tasks, "b", "a") == 0.5
    assert win_rate([({"a": one, "b": other}, "test_rmse", False)], "a", "b") == 0.5
    assert win_rate([({"a": one[:1], "b": other[:1]}, "test_rmse", False)], "a", "b") == 0.0
    assert win_rate([({"a": one, "b": other[1:]}, "test_rmse", True)], "a", "b") is None


def test_a_png_keeps_the_colours_that_tell_series_apart():
    import io

    from PIL import Image

    from chembench.report.page.looks import COLOURS

    bars = tuple(Bar(label=mark, value=1.0, mark=mark) for mark in ("plain", "strong"))
    drawn = draw(Figure(name="f", caption="", plot=IntervalsPlot(bars=bars, x_label="x")))
    found = [pixel for _, pixel in Image.open(io.BytesIO(drawn.png)).convert("RGB").getcolors(100_000)]
    for colour in COLOURS[:2]:
        wanted = tuple(int(colour[place : place + 2], 16) for place in (1, 3, 5))
        assert min(max(abs(a - b) for a, b in zip(pixel, wanted, strict=True)) for pixel in found) <= 8
