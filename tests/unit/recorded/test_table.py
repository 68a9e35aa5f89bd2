"""A table of recorded scores is read whole, or refused with the line and the rule."""

import pytest

from chembench.errors import DataError
from chembench.recorded.source import Recording, read_recording
from chembench.recorded.table import read_table

HEADER = "architecture,size,corpus,task,task_type,repeat,validation_loss,test_score,metric"
LINE = "ChemBart,Medium,10m,delaney,regression,{repeat},0.5,{score},rmse_normalised"


def table(*lines: str, header: str = HEADER):
    return read_table(Recording("rows.csv", "csv", "\n".join([header, *lines, ""]).encode()))


def line(repeat: int = 0, score: str = "0.9") -> str:
    return LINE.format(repeat=repeat, score=score)


def test_names_of_the_paper_are_ours():
    read = table(line(), "ChemLLaMA,small,20_000_000,hiv,classification,3,0.4,0.75,roc_auc")
    first, second = read.rows.values()
    assert first.key == "bart-30M-10000000/delaney/0/0/0"
    assert (first.test, first.validation, first.metric) == (0.9, 0.5, "rmse_normalised")
    assert second.key == "llama-13M-20000000/hiv/0/0/3"


def test_indices_and_a_validation_score_are_read():
    header = (
        "architecture,size,molecules,task,task_type,head_seed,validation_score,test_score,metric,pretrain_seed,split"
    )
    read = table("roberta,w16x1,0,hiv,classification,1,0.75,0.5,roc_auc,2,3", header=header)
    (row,) = read.rows.values()
    assert (row.pretrain_seed, row.split, row.head_seed) == (2, 3, 1)
    assert row.validation == 0.25 and row.cell.is_control


def test_an_empty_line_is_no_row():
    assert len(table(line(0), "", line(1)).rows) == 2


@pytest.mark.parametrize(
    ("lines", "header", "told"),
    [
        ([], "", r"rows.csv, line 1: .*column 'architecture' is missing"),
        ([], HEADER, "line 1: .*at least one line below its header"),
        ([line()], HEADER.replace(",corpus", ""), "column 'molecules or corpus' is missing; .*add it"),
        ([line()], HEADER + ",head_seed", "of repeat and head_seed one column says all, both are given"),
        ([line()], HEADER + ",colour", "column 'colour' is not known; drop it"),
        ([line()], HEADER + ",size", "a column stands once, 'size' stands 2 times"),
        ([line(), line(1) + ",7"], HEADER, "line 3: .*one value for each of the 9 columns, this one has 10"),
        ([line(0, "")], HEADER, "line 2: test_score is empty; fill it in"),
        ([line(0, "nan")], HEADER, "line 2: test_score must be a number below 1e.100, got 'nan'"),
        ([line(0, "much")], HEADER, "line 2: test_score must be a number below 1e.100, got 'much'"),
        ([line(0, "-1")], HEADER, "line 2: test_score must be at least 0 for rmse_normalised, got -1"),
        ([line(), line()], HEADER, "line 3: a replicate is recorded once, bart-30M-10000000 on delaney .* line 2 too"),
        ([line().replace("rmse_normalised", "mcc")], HEADER, "line 2: metric must be one of .*, got 'mcc'"),
        ([line().replace("rmse_normalised", "roc_auc")], HEADER, "'roc_auc' is one of classification, the task is reg"),
        ([line().replace("regression", "ranking")], HEADER, "task_type must be regression or classification, got 'ran"),
        ([line(), line(1).replace("rmse_normalised", "rmse")], HEADER, "a task has one metric, 'delaney' has 'rmse'"),
        (
            [line(), line(1).replace("regression", "classification").replace("rmse_normalised", "roc_auc")],
            HEADER,
            "line 3: a task has one task_type, 'delaney' has 'classification' here and 'regression' in line 2",
        ),
        ([line().replace("ChemBart", "Bert")], HEADER, "line 2: unknown architecture 'bert'. Did you mean 'bart'"),
        ([line().replace("Medium", "Large")], HEADER, "line 2: unknown size 'Large'"),
        ([line().replace("10m", "many")], HEADER, "molecules must be a whole number such as .*, got 'many'"),
        ([line().replace(",0,", ",-1,")], HEADER, "repeat must be a whole number from 0 on, got '-1'"),
        ([line().replace("delaney", '"del')], HEADER, "line 2: not valid CSV: .*; mend the quotes"),
        ([line().replace("delaney", "d" * 140_000)], HEADER, "line 2: not valid CSV: .*limit.*; shorten the value"),
        (
            [f"{line()},0.1", f"{line(1)},0.2"],
            f"{HEADER},pretrain_loss",
            "line 3: a pre-training has one loss, bart-30M-10000000 has 0.2 here and 0.1 in line 2",
        ),
    ],
)
def test_a_malformed_table_is_refused_with_its_line(lines, header, told):
    with pytest.raises(DataError, match=told):
        table(*lines, header=header)


@pytest.mark.parametrize("molecules", ["_1", "1__0"])
def test_underscores_part_digits_of_molecules(molecules):
    (row,) = table(line().replace("10m", molecules)).rows.values()
    assert row.cell.molecules == int(molecules.replace("_", ""))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (line().replace(",0,", f",{'1' * 5000},"), r"line 2: repeat must have 12 digits at most, got 5000"),
        (line().replace("10m", "1" * 5000), r"line 2: molecules must have 12 digits at most, got 5000"),
    ],
    ids=["repeat", "molecules"],
)
def test_a_number_without_end_is_refused(text, told):
    with pytest.raises(DataError, match=told):
        table(text)


def test_an_empty_file_is_refused():
    with pytest.raises(DataError, match=r"rows.csv, line 1: .*the file is empty"):
        read_table(Recording("rows.csv", "csv", b""))


def test_a_score_above_one_is_no_roc_auc():
    with pytest.raises(DataError, match=r"test_score must be between 0 and 1 for roc_auc, got 75"):
        table("llama,13M,10m,hiv,classification,0,0.4,75,roc_auc")


def test_text_that_is_no_utf8_is_refused_with_its_line():
    content = f"{HEADER}\n{line()}\n".encode() + "Größe".encode("latin-1")
    with pytest.raises(DataError, match=r"rows.csv, line 3: a recorded file must be UTF-8 text, byte"):
        read_table(Recording("rows.csv", "csv", content))


def test_a_file_of_another_kind_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"ends in .csv or .jsonl, got 'rows.xlsx'"):
        read_recording(tmp_path / "rows.xlsx")
    with pytest.raises(DataError, match=r"must be readable, .* is not"):
        read_recording(tmp_path / "rows.csv")
