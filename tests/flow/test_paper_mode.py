"""Paper mode runs to boards; the authors' lossy tokenizer is refused unless paper mode allows it."""

import os
import re
from pathlib import Path

import pytest
from flow_sweeps import SMALL, options

from chembench import cli
from chembench.api import load_space, make_plan, open_engine
from chembench.trial import run_item

DATA = Path(os.environ.get("CHEMBENCH_TEST_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data"))
AUTHORS = DATA / "paper_2405.00949" / "tokenizer.json"
needs_tokenizer = pytest.mark.skipif(
    not AUTHORS.is_file(),
    reason=f"needs the authors' tokenizer, {AUTHORS}; set CHEMBENCH_TEST_DATA to the folder with paper_2405.00949",
)


def test_a_sweep_in_paper_mode_runs_to_its_boards(paper):
    view = paper.view
    assert view.exit_code == 0
    state = view.state()
    assert state.header["mode"] == "paper"
    trials = [item for item in state.items.values() if item.kind in ("search", "confirm")]
    assert {item.spec.finetune.method for item in trials} == {"descriptor_probe"}
    assert {item.spec.finetune.checkpoints for item in trials} == {"every_epoch"}
    assert not any(item.spec.mask_missing for item in trials)
    assert {item.spec.model.vocabulary for item in trials} == {591}
    for board in view.leaderboards().values():
        (section,) = board.sections
        assert not section.incomplete
        assert any(entry.group == "cell" for entry in section.entries)


def test_every_kept_checkpoint_had_its_head(paper):
    """2 checkpoints x 2 head epochs: the objective of each was looked at."""
    for item in paper.view.state().items.values():
        if item.kind == "confirm":
            assert len(item.outcome.objectives) == 4
            assert item.outcome.metrics["epochs"] == 4


def test_the_substitute_is_named_by_the_plan_and_by_the_sweep(paper, capsys):
    assert cli.run(["plan", "--space", "paper_2405_00949"]) == 0
    text = r"tokenizer: paper_substitute stands for the paper's own, .* 591 entries"
    assert re.search(text, capsys.readouterr().out)
    assert re.search(text, paper.err)


@needs_tokenizer
@pytest.mark.parametrize("verb", ["plan", "sweep"])
def test_the_authors_tokenizer_is_refused_with_two_molecules_that_become_one(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHEMBENCH_CACHE_DIR", str(tmp_path / "cache"))
    given = [verb, "--space", "full_grid_tiny", *options(*SMALL, f"tokenizer.file={str(AUTHORS)!r}")]
    assert cli.run(given) == 2
    told = capsys.readouterr().err
    assert re.search(r"keep different molecules apart, this one gives '.+' and '.+' the same ids .*allow_lossy", told)
    assert cli.run([*given, *options("tokenizer.allow_lossy=true")]) == 2
    assert "legal in paper mode alone" in capsys.readouterr().err
    assert not (tmp_path / "sweeps").exists()


@needs_tokenizer
def test_the_authors_tokenizer_is_used_in_paper_mode_where_it_is_allowed(tmp_path):
    space = load_space(
        "full_grid_tiny",
        [
            *SMALL, "mode=paper", f"tokenizer.file={str(AUTHORS)!r}", "tokenizer.allow_lossy=true",
            "controls.baselines=[]", "controls.from_scratch=false", "search.trials=1", "confirm.rescore_seeds=0",
        ],
    )  # fmt: skip
    assert make_plan(space).cells
    with open_engine(space, out=tmp_path / "sweeps", cache_dir=tmp_path / "cache") as engine:
        while not engine.done:
            outcome = run_item(engine.ask())
            assert outcome.status == "finished", outcome.message
            engine.tell(outcome)
        assert {item.spec.model.vocabulary for item in engine.state.items.values()} == {591}
