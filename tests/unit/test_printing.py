import json

import pytest

from chembench import printing

ROWS = [{"name": "a", "count": 1, "note": "first | one"}, {"name": "longer", "count": None, "note": "x, y"}]
COLUMNS = ("name", "count", "note")


def test_plain_columns_stand_under_their_names():
    assert printing.table(ROWS, COLUMNS, width=80).splitlines() == [
        "name    count  note",
        "a       1      first | one",
        "longer         x, y",
    ]


def test_the_last_column_is_wrapped_between_words():
    rows = [{"name": "a", "note": "one two three four five six seven eight nine ten"}]
    lines = printing.table(rows, ("name", "note"), width=30).splitlines()
    assert lines[1:] == ["a     one two three four five", "      six seven eight nine ten"]
    assert max(map(len, lines)) <= 30


def test_a_word_longer_than_the_line_is_not_broken():
    word = "/a/very/long/path-with-hyphens/" * 3
    assert word in printing.table([{"name": "a", "note": word}], ("name", "note"), width=30)


def test_csv_quotes_what_has_a_comma():
    assert printing.table(ROWS, COLUMNS, "csv").splitlines() == [
        "name,count,note",
        "a,1,first | one",
        'longer,,"x, y"',
    ]


def test_markdown_keeps_a_bar_inside_its_cell():
    assert printing.table(ROWS, COLUMNS, "md").splitlines()[2] == r"| a | 1 | first \| one |"


def test_json_keeps_types_and_keys_that_are_not_shown():
    assert json.loads(printing.table(ROWS, ("name",), "json")) == ROWS


def test_no_row_leaves_the_header():
    assert printing.table([], COLUMNS, width=80) == "name  count  note"


def test_nan_is_no_json():
    with pytest.raises(ValueError, match="not JSON compliant"):
        printing.as_json({"a": float("nan")})


def test_a_mapping_inside_a_mapping_is_indented():
    value = {"uid": "abc", "spec": {"rate": 0.1, "model": {"layers": 2}}, "objectives": [0.5, 0.25], "cell": None}
    assert printing.nested(value).splitlines() == [
        "uid: abc",
        "spec:",
        "  rate: 0.1",
        "  model:",
        "    layers: 2",
        "objectives: [0.5, 0.25]",
        "cell:",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (7500, "2 h 05 min")]
)
def test_a_length_of_time_is_told_in_words(seconds, text):
    assert printing.duration(seconds) == text
