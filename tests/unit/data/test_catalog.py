from pathlib import Path

import pytest
from pydantic import ValidationError

from chembench.data.catalog import CORPORA, TASKS, TaskDef

OWN = {"name": "mine", "kind": "regression", "targets": ["y"], "file": "mine.csv"}


def test_the_tasks_of_the_paper_and_the_embedded_ones_are_known():
    paper = {"bace_regression", "delaney", "lipo", "bace_classification", "hiv", "tox21", "tox21_sr_p53"}
    others = {"bbbp", "clintox", "freesolv", "sider", "freewilson_pic50", "freewilson_active"}
    assert set(TASKS) == paper | others
    assert all(name == definition.name for name, definition in TASKS.items())


def test_the_embedded_tasks_say_what_they_are():
    assert TASKS["freewilson_pic50"].note == TASKS["freewilson_active"].note == "one congeneric series, demonstration"
    assert TASKS["freewilson_active"].cut == 6.5


def test_a_definition_comes_back_from_its_own_values():
    for definition in TASKS.values():
        assert TaskDef(**definition.model_dump(exclude_none=True)) == definition


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": "../x"}, "task name must be 1-80 letters"),
        ({"split": "scafold"}, "unknown split 'scafold'. Did you mean 'scaffold'?"),
        ({"targets": ["y", "y"]}, "targets must be different columns, got \\['y', 'y'\\]"),
        ({"targets": []}, "at least 1 item"),
        ({"file": None}, "task mine must say its file, got none"),
        ({"source": "sdf"}, "source of task mine must be 'file', .* got 'sdf'"),
        ({"cut": 5.0}, "cut makes classes, task mine is a regression"),
        ({"kind": "ranking"}, "Input should be 'regression' or 'classification'"),
        ({"smile": "x"}, "Extra inputs are not permitted"),
    ],
)
def test_mistakes_are_told(change, text):
    with pytest.raises(ValidationError, match=text):
        TaskDef(**{**OWN, **change})


def test_the_docs_name_every_corpus_and_its_address():
    text = (Path(__file__).parents[3] / "docs" / "corpora.md").read_text()
    for name, corpus in CORPORA.items():
        assert f"`{name}`" in text and corpus.note
    for corpus in (CORPORA["pubchem"], CORPORA["zinc"]):
        assert all(f"`{file.url}`" in text for file in corpus.files)
