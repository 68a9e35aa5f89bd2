import csv
import io
import json
import random

import pytest
from report_rows import design, forest, row, three, whole_state
from rich.console import Console

from chembench.report.columns import MEASURED_COLUMNS, RECORD_COLUMNS, compact, decimals_for, hours
from chembench.report.leaderboard import leaderboards
from chembench.report.pretrain_board import pretrain_board
from chembench.report.render import Boards, boards_from_state, boards_text, print_boards, to_csv, write_boards


@pytest.fixture(scope="module")
def boards():
    return boards_from_state(whole_state())


def printed(boards, width):
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    print_boards(boards, console)
    return console.file.getvalue()


def test_there_is_a_board_per_task_type_and_one_of_pretraining(boards):
    assert [board.name for board in boards.boards] == ["regression", "classification", "pretraining"]


@pytest.mark.parametrize("width", [80, 100, 120, 160, 220])
def test_no_line_is_wider_than_the_terminal_and_no_method_is_broken(boards, width):
    text = printed(boards.boards, width)
    assert max(map(len, text.splitlines())) <= width
    for method in ("roberta-w64x2-4000", "bart-w64x2-scratch", "forest_ecfp4*", "constant*"):
        assert sum(line.lstrip(" 123456").startswith(f"{method} ") for line in text.splitlines()) >= 3
    assert "…" not in text


def test_a_narrow_terminal_says_which_columns_it_left_out(boards):
    narrow, wide = printed(boards.boards, 80), printed(boards.boards, 260)
    assert "not shown at this width: more runs to part, over, valid, RMSE/SD" in " ".join(narrow.split())
    assert "full lr=0.001" not in narrow
    assert "not shown at this width" not in wide
    assert "full lr=0.001 batch=32 epochs=5" in wide


def test_what_a_board_shows_at_120_columns(boards):
    lines = printed(boards.boards, 120).splitlines()
    header = next(line for line in lines if line.startswith("rank"))
    assert header.split() == [
        "rank",
        "method",
        "RMSE",
        "runs",
        "ties",
        "P(best)",
        "to",
        "part",
        "over",
        "forest",
        "valid",
        "params",
    ]
    # scores 0.618034, 0.652517, 0.687: half interval 4.303 * 0.0345 / sqrt(3); 2 searches and 3 runs of 5 epochs
    first = next(line for line in lines if "roberta-w64x2-4000" in line)
    words = first.split()
    assert words[:7] == "1 roberta-w64x2-4000 0.653 ± 0.086 3/3 a".split()
    assert words[9:] == "head seed -0.067 ± 0.036 0.653 105k".split()


def test_incomplete_methods_notes_and_missing_statistics_are_told(boards):
    text = " ".join(printed(boards.boards, 160).split())
    assert "bart-w64x2-4000 2/3 confirm: 1 failed (oom), 2 finished" in text
    assert "(one congeneric series, demonstration)" in text
    assert "rank is 1 + how many methods are shown to be better, at a family-wise 5 %" in text
    assert "speaks for this checkpoint, not for its architecture" in text
    assert "* untuned: no setting of this baseline was searched" in text


def test_a_changed_recipe_is_marked_in_every_form_and_the_note_says_why():
    rows = three("a", [1.0, 2.0, 3.0], recipe_changed=True) + forest()
    lost = [row("b0", method="bart-w64x2-1000", status="failed", cause="oom", recipe_changed=True)]
    (board,) = leaderboards(rows + lost, design(cells=())).values()
    for text in (printed([board], 160), boards_text([board], "md")):
        words = " ".join(text.split())
        assert "roberta-w64x2-1000† " in words and "bart-w64x2-1000† " in words and "forest_ecfp4* " in words
        assert "† recipe changed after opening: the test had been opened for another recipe" in words
    lines = list(csv.DictReader(io.StringIO(to_csv([board]))))
    marked = {line["method"] for line in lines if line["badges"] == "recipe changed after opening"}
    assert marked == {"roberta-w64x2-1000", "bart-w64x2-1000"}
    (plain,) = leaderboards(forest(), design(cells=())).values()
    assert "†" not in printed([plain], 160)


def test_no_winner_is_printed_bold(boards):
    console = Console(width=120, file=io.StringIO(), force_terminal=True, color_system=None)
    print_boards(boards.boards, console)
    bold = [line for line in console.file.getvalue().splitlines() if "\x1b[1m" in line]
    assert [line for line in bold if "board of" not in line and "pre-training of" not in line] == []


def test_markdown_has_every_column_and_a_rule_per_table(boards):
    text = boards_text(boards.boards, "md")
    assert (
        "| rank | method | RMSE | runs | ties | P(best) | more runs to part | over | vs ECFP4 forest | valid |" in text
    )
    assert "| bart-w64x2-4000 | 2/3 | confirm: 1 failed (oom), 2 finished |" in text
    assert "*one congeneric series, demonstration*" in text
    tables = [line for line in text.splitlines() if line.startswith("| ---")]
    assert len(tables) == 6  # 3 tasks, 1 incomplete, 1 overall, 1 pre-training
    assert "**" not in text


def test_csv_is_one_table_of_all_boards_with_all_digits(boards):
    lines = list(csv.DictReader(io.StringIO(boards_text(boards.boards, "csv"))))
    assert {line["board"] for line in lines} == {"regression", "classification", "pretraining"}
    assert {tuple(line) for line in lines} == {RECORD_COLUMNS}
    lost = next(line for line in lines if line["status"] == "incomplete")
    assert (lost["method"], lost["score"], lost["replicates"]) == ("bart-w64x2-4000", "", "2")
    third = leaderboards(three("a", [1 / 3] * 3), design())["regression"]
    assert next(csv.DictReader(io.StringIO(to_csv([third]))))["score"] == repr(1 / 3)


def test_json_marks_what_was_measured_and_nothing_else(boards):
    document = json.loads(boards_text([boards.boards[0]], "json"))
    marked = {column["name"] for column in document["columns"] if column["measured"]}
    assert marked == set(MEASURED_COLUMNS) == {"device_hours", "trunk_device_hours", "pretrain_device_hours", "pareto"}
    assert document["schema_version"] == 1
    assert [task["task"] for task in document["tasks"]] == ["delaney", "freewilson_pic50"]
    assert all(set(line) == set(RECORD_COLUMNS) for line in document["lines"])
    assert set(json.loads(boards_text(boards.boards, "json"))["boards"]) == {
        "regression",
        "classification",
        "pretraining",
    }


def test_an_unknown_form_is_refused(boards):
    with pytest.raises(ValueError, match="one of md, csv, json, latex, got 'html'"):
        boards_text(boards.boards, "html")


def test_files_are_the_same_for_shuffled_items(tmp_path):
    state = whole_state()
    first = write_boards(boards_from_state(state), tmp_path / "one")
    items = list(state.items.items())
    random.Random(1).shuffle(items)
    state.items = dict(items)
    second = write_boards(boards_from_state(state), tmp_path / "two")
    assert sorted(path.name for path in first) == sorted(
        [f"{b}.{f}" for b in ("regression", "classification", "pretraining") for f in ("md", "csv", "json")]
        + ["rows.csv"]
    )
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_only_measured_columns_differ_between_two_runs_of_one_sweep():
    def documents(hours):
        state = whole_state()
        for record in state.items.values():
            measured = record.outcome.measured | {
                "device_hours": hours,
                "wall_seconds": hours,
                "device_name": str(hours),
            }
            record.outcome = record.outcome.model_copy(update={"measured": measured})
        found = boards_from_state(state)
        return [json.loads(boards_text([board], "json")) for board in found.boards]

    def without_measured(document):
        marked = {column["name"] for column in document["columns"] if column["measured"]}
        document["lines"] = [{k: v for k, v in line.items() if k not in marked} for line in document["lines"]]
        return document

    one, two = documents(0.25), documents(7.5)
    assert one != two
    assert list(map(without_measured, one)) == list(map(without_measured, two))


def test_a_sweep_that_has_just_begun_has_boards_too(tmp_path):
    rows = [row("s0", kind="search", status="waiting")]
    board = leaderboards(rows, design())["regression"]
    empty = Boards((board, pretrain_board(rows, "s")), tuple(rows))
    assert "roberta-w64x2-1000   0/3  no confirm run; search: 1 waiting" in printed(empty.boards, 80)
    write_boards(empty, tmp_path)
    assert "No lines yet." in (tmp_path / "pretraining.md").read_text()
    assert "pre-training of" not in printed(empty.boards, 80)


def test_one_run_each_has_no_word_on_ranks_ties_and_chances():
    rows = [three("a", [1.0])[0], forest([1.8])[0]]
    board = leaderboards(rows, design(head_seeds=1))["regression"]
    text = printed([board], 200)
    assert "lines stand in the order of their mean test score" in text
    assert not any(word in text for word in ("rank is", "P(best)", "± is half"))
    assert all(word in printed([replicated()], 200) for word in ("rank is", "P(best)", "± is half"))


def replicated():
    return leaderboards([*three("a", [1.0, 1.1, 1.2]), *forest()], design())["regression"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(None, "-"), (0, "0"), (9_999, "9,999"), (104_999, "105k"), (12_872_995, "12.9M"), (30_000_000, "30M")],
)
def test_counts_are_short(count, text):
    assert compact(count) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.0, "0.000"), (0.0004, "<0.001"), (1.5, "1.500"), (12.34, "12.3")]
)
def test_hours_never_hide_that_something_was_spent(value, text):
    assert hours(value) == text


@pytest.mark.parametrize(("values", "decimals"), [([], 3), ([0.7, 9.9], 3), ([10.0], 2), ([-250.0], 1), ([4000.0], 0)])
def test_decimals_follow_the_largest_score(values, decimals):
    assert decimals_for(values) == decimals
