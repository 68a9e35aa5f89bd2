"""A report of a sweep that lacks something says what and why, and holds the rest."""

import shutil
from pathlib import Path

import pytest
from report_folder import folder
from report_rows import TASKS, whole_state

from chembench.errors import ConfigError
from chembench.report.page.blocks import Figure, Text
from chembench.report.page.drawing import Drawn
from chembench.report.page.gather import gather
from chembench.report.page.html import to_html
from chembench.report.page.markdown import to_markdown
from chembench.report.page.write import report_sweep
from chembench.report.render import boards_from_state
from chembench.sweep.state import SweepState


def gathered(state, paths):
    report = gather(state, paths, boards_from_state(state))
    to_html(report, {figure.name: Drawn("<svg></svg>", b"") for figure in report.figures})
    to_markdown(report)
    return {section.name: section for section in report.sections}


def reasons(section):
    blocks = [block for block in section.blocks if isinstance(block, Text) and block.style == "absent"]
    return " ".join(cell.text for block in blocks for line in block.lines for cell in line)


def figures(section):
    return [block.name for block in section.blocks if isinstance(block, Figure)]


@pytest.fixture
def swept(tmp_path):
    return folder(tmp_path)


def test_without_the_runs_folders_only_what_stands_in_them_is_missing(swept):
    paths, state = swept
    shutil.rmtree(paths.root)
    found = gathered(state, paths)
    assert "recorded" in reasons(found["learning-curves"]) and not figures(found["learning-curves"])
    assert "No predictions of delaney can be read from the folders of its runs" in reasons(found["predictions"])
    assert "No pre-training of this sweep left a curve" in reasons(found["pretraining"])
    assert "no environment.json" in reasons(found["environment"])
    assert "no space.toml" in reasons(found["again"])
    assert figures(found["boards"]) == ["scores-delaney", "scores-freewilson_pic50", "scores-bace_classification"]


def test_nothing_has_begun(tmp_path):
    paths, _ = folder(tmp_path)
    header = {"tasks": TASKS, "cells": [], "confirm": {"pretrain_seeds": 1, "splits": 1, "head_seeds": 3}}
    found = gathered(SweepState(name="demo", space_digest="d", header=header), paths)
    assert "No method has all its runs yet, so nothing can be said." in reasons(found["answer"])
    assert "No method has all its runs on delaney yet" in reasons(found["boards"])
    assert "pre-trained no model" in reasons(found["pretraining"])
    assert "Nothing has begun" in reasons(found["signatures"])
    assert "No item of the sweep is known yet" in reasons(found["runs"])
    assert "so there is no winner" in reasons(found["predictions"])
    assert "nothing scales" in reasons(found["scaling"])


def test_a_space_that_is_not_recorded_has_no_forecast(swept):
    paths, state = swept
    assert "There is no forecast: the sweep's record holds no space" in reasons(gathered(state, paths)["costs"])
    state.header |= {"space": {"name": "x"}, "shard": "1/2"}
    assert "the sweep is a shard" in reasons(gathered(state, paths)["costs"])


def test_a_space_that_this_version_cannot_plan_is_told(swept):
    paths, state = swept
    state.header["space"] = {"name": "x", "unknown": 1}
    assert "as this version cannot plan the sweep's space" in reasons(gathered(state, paths)["costs"])


def test_one_method_alone_has_nothing_to_be_compared_with(tmp_path):
    state = whole_state()
    name = "roberta-w64x2-4000"
    kept = {
        uid: item
        for uid, item in state.items.items()
        if item.cell is not None and item.cell.name == name and getattr(item.spec, "task", "delaney") == "delaney"
    }
    state.items.clear()
    state.items.update(kept)
    state.header |= {"cells": [name], "tasks": {"delaney": TASKS["delaney"]}}
    found = gathered(state, folder(tmp_path, state)[0])
    assert f"One method alone, {name}, has all its runs" in reasons(found["answer"])
    assert figures(found["predictions"]) == ["parity-delaney", "worst-delaney"]


def test_damaged_files_are_gaps(swept):
    paths, state = swept
    for run in paths.trials.glob("*/1"):
        (run / "curves.jsonl").write_text("not json\n")
        (run / "predictions.csv").write_bytes(b"part,row\n\xff\xfe")
    paths.environment.write_text("[")
    found = gathered(state, paths)
    assert not figures(found["predictions"]) and not figures(found["learning-curves"])


def test_failed_items_are_told_with_their_cause(swept):
    paths, state = swept
    report = gather(state, paths, boards_from_state(state))
    text = to_markdown(report)
    assert "Failed items" in text and "out of memory" in text


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    paths, state = folder(tmp_path)
    (tmp_path / "file").touch()
    for output in (tmp_path / "file" / "below", Path("/proc/nothing")):
        with pytest.raises(ConfigError, match=f"must be one that can be made, '{output}' is not .*; name another"):
            report_sweep(state, paths, output)
