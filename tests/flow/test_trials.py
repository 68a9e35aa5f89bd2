"""Single items of a sweep as objects: looked at, carried out, retried, and repeated."""

import json
import re
from pathlib import Path

import pytest
from flow_sweeps import Copy, assert_same

import chembench
from chembench import cli, rerun
from chembench.errors import ConfigError
from chembench.specs import Outcome
from chembench.sweep import serial_runner
from chembench.trial import run_item


@pytest.fixture
def copy(small, tmp_path, monkeypatch) -> Copy:
    monkeypatch.chdir(tmp_path)
    return Copy(small, tmp_path)


def one(sweep, kind: str, needs_pretraining: bool = False):
    return next(t for t in sweep.trials(kind=kind) if not needs_pretraining or t.spec.pretrained)


# ------------------------------------------------------------------------------------------------------- looking


def test_a_trial_says_everything_that_is_known_of_it(small):
    sweep = chembench.open_sweep(small.root)
    trial = one(sweep, "confirm", needs_pretraining=True)
    assert isinstance(trial, chembench.Trial) and sweep.trial(trial.uid[:8]).uid == trial.uid
    assert (trial.kind, trial.status, trial.attempt) == ("confirm", "finished", 1)
    assert trial.spec.digest == trial.uid and trial.cell.architecture == "roberta"
    assert trial.labels["head_seed"] == 0 and trial.labels["task"] == trial.spec.task
    assert trial.outcome.metrics["objective"] == trial.curves[int(trial.outcome.metrics["best_epoch"]) - 1]["objective"]
    assert trial.checkpoint.name == trial.spec.pretrained and trial.checkpoint.is_relative_to(small.cache)
    assert trial.predictions.parent == trial.folder == sweep.paths.run(trial.uid, 1).root
    assert trial.as_data() == sweep.show(trial.uid)
    json.dumps(trial.as_data(), allow_nan=False)


def test_items_are_listed_by_status_and_kind(small):
    sweep = chembench.open_sweep(small.root)
    assert [t.uid for t in sweep.trials()] == list(sweep.state().items)
    assert {t.kind for t in sweep.trials(kind="baseline")} == {"baseline"}
    assert sweep.trials(status="failed") == [] == sweep.failed()
    baseline, pretrain = one(sweep, "baseline"), one(sweep, "pretrain")
    assert baseline.checkpoint is None and baseline.cell is None and baseline.predictions.is_file()
    assert pretrain.checkpoint.name == pretrain.uid and pretrain.predictions is None
    scratch = next(t for t in sweep.trials(kind="confirm") if t.cell.is_control)
    assert scratch.checkpoint is None


# -------------------------------------------------------------------------------------------------- carrying out


def test_a_waiting_item_is_carried_out_here_and_the_sweep_counts_it(copy, small):
    copy.cut(copy.before("confirm"))
    trial = next(t for t in copy.sweep.trials(status="waiting", kind="confirm"))
    outcome = trial.resume()
    assert isinstance(outcome, Outcome) and outcome.status == "finished"
    assert copy.sweep.trial(trial.uid).outcome == outcome
    assert copy.events()[-1]["event"] == "result"
    before = copy.files("ledger.jsonl")
    assert copy.sweep.trial(trial.uid).resume() == outcome
    assert copy.files("ledger.jsonl") == before
    assert cli.run(["resume", str(copy.sweep.root), "--quiet"]) == 0
    assert_same(copy.sweep, small.view)


def test_the_pre_training_it_stands_on_comes_first(copy, small):
    copy.cut(copy.before("pretrain"))
    trial = next(t for t in copy.sweep.trials(status="waiting", kind="search") if t.spec.pretrained)
    assert trial.resume().status in ("finished", "pruned")
    assert copy.sweep.trial(trial.spec.pretrained).status == "finished"
    assert copy.sweep.trial(trial.uid).outcome.metrics == small.view.trial(trial.uid).outcome.metrics


def test_what_the_study_has_not_come_to_is_not_carried_out(copy):
    confirm = next(e for e in copy.events() if e["event"] == "item" and e["spec"]["kind"] == "confirm")
    copy.cut(copy.before("search"))
    copy.append(confirm)
    uid = confirm["uid"]
    with pytest.raises(ConfigError, match=r"cannot be carried out alone.* go on with the sweep: chembench resume "):
        copy.sweep.trial(uid).resume()


# ------------------------------------------------------------------------------------------------------ retrying


def failing(uids: set[str]):
    """Carries items out; those of ``uids`` fail as if no memory had been left."""

    def run(work):
        if work.uid not in uids:
            return run_item(work)
        (Path(work.folder)).mkdir(parents=True, exist_ok=True)
        trace = 'Traceback\n  File "/x/chembench/training/loop.py", line 7, in step\nMemoryError\n'
        (Path(work.folder) / "error.txt").write_text(trace)
        return Outcome(
            uid=work.uid,
            attempt=work.attempt,
            kind=work.kind,
            status="failed",
            cause="oom",
            message="no memory is left",
        )

    return run


@pytest.fixture
def failed(copy, monkeypatch, capsys) -> Copy:
    """The small sweep, finished, with its confirm runs failed."""
    uids = {t.uid for t in copy.sweep.trials(kind="confirm")}
    copy.cut(copy.before("confirm"))
    with monkeypatch.context() as patch:
        patch.setattr(serial_runner, "run_item", failing(uids))
        assert cli.run(["resume", "sweeps/small", "--quiet"]) == 3
    copy.uids = uids
    copy.told = capsys.readouterr().out
    return copy


def test_failures_are_told_once_and_retried_by_one_command(failed, small, capsys):
    lines = failed.told.splitlines()
    count = len(failed.uids)
    assert lines[0] == f"failed: {count} items, 1 different cause"
    assert lines[1] == f"the first, in {count} items: oom: no memory is left"
    assert "error.txt (chembench/training/loop.py:7)" in lines[2]
    assert lines[3] == "retry what failed: chembench retry sweeps/small --failed"
    assert cli.run(["status", "small"]) == 0
    assert set(lines[:4]) <= set(capsys.readouterr().out.splitlines())
    assert {t.uid for t in failed.sweep.failed("oom")} == failed.uids and failed.sweep.failed("nan") == []
    assert cli.run(["retry", "sweeps/small", "--cause", "nan"]) == 0
    assert capsys.readouterr().out == "nothing to retry: no item of sweep 'small' has failed of nan\n"
    assert cli.run(["retry", "sweeps/small", "--failed", "--quiet"]) == 0
    assert "failed" not in capsys.readouterr().out
    assert_same(failed.sweep, small.view)
    assert {failed.sweep.trial(uid).attempt for uid in failed.uids} == {2}
    assert cli.run(["retry", "sweeps/small", "--failed"]) == 0
    assert capsys.readouterr().out == "nothing to retry: no item of sweep 'small' has failed\n"


def test_one_failed_item_is_retried_by_the_start_of_its_uid(failed):
    uid, *others = sorted(failed.uids)
    assert cli.run(["retry", "small", "--uid", uid[:10], "--quiet"]) == 3
    assert failed.sweep.trial(uid).status == "finished"
    assert {t.uid for t in failed.sweep.failed()} == set(others)
    assert failed.sweep.trial(others[0]).resume().status == "finished"
    assert failed.sweep.retry(show_progress=False).exit_code == 0
    with pytest.raises(ConfigError, match=f"only a failed item can be retried, {uid} is finished"):
        failed.sweep.retry(uids=[uid], show_progress=False)


# ----------------------------------------------------------------------------------------------------- repeating


@pytest.mark.parametrize("kind", ["pretrain", "search", "rescore", "confirm", "baseline"])
def test_every_kind_of_item_repeats_bit_for_bit(kind, small, copy, capsys):
    trial = one(copy.sweep, kind)
    before = {**copy.files("ledger.jsonl"), **copy.files("result.json")}
    cached = sorted(path for path in (small.cache / "pretrained").rglob("*"))
    again = trial.rerun()
    assert (again.verdict, again.largest) == ("equal", None)
    assert again.folder == trial.folder.parent / "rerun-1" and (again.folder / "result.json").is_file()
    assert sorted(path for path in (small.cache / "pretrained").rglob("*")) == cached
    assert not list(again.folder.rglob("*.safetensors"))
    assert cli.run(["rerun", "small", trial.uid[:10], "--check"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"item {trial.uid}, once more in {Path('sweeps/small/trials') / trial.uid / 'rerun-2'}: {trial.status}",
        "equal: every metric, epoch and prediction is the recorded one, bit for bit",
    ]
    assert {path: path.read_bytes() for path in before} == before
    assert len(copy.sweep.rows()) == len(copy.sweep.trials())


def test_something_else_than_recorded_ends_with_1(copy, monkeypatch, capsys):
    def otherwise(work):
        found = run_item(work)
        return found.model_copy(update={"metrics": {**found.metrics, "objective": found.metrics["objective"] * 1.5}})

    monkeypatch.setattr(rerun, "run_item", otherwise)
    trial = one(copy.sweep, "confirm")
    assert cli.run(["rerun", "small", trial.uid, "--check", "-f", "json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["verdict"], told["largest"]["name"]) == ("different", "objective")
    assert trial.rerun(check=False).verdict is None


def test_a_checkpoint_that_is_gone_is_made_again_for_a_rerun(copy, tmp_path):
    places = {"places": {**copy.sweep.state().header["places"], "cache_dir": str(tmp_path / "empty")}}

    def elsewhere(event):
        return {**event, "header": {**event["header"], **places}} if event["event"] == "sweep" else event

    copy.rewrite(elsewhere)
    trial = one(copy.sweep, "confirm", needs_pretraining=True)
    assert trial.checkpoint is None
    assert trial.rerun().verdict == "equal"
    assert copy.sweep.trial(trial.uid).checkpoint.is_dir()
    assert copy.sweep.trial(trial.spec.pretrained).attempt == 1


def test_the_pages_python_does_what_it_says(copy, capsys):
    page = (Path(chembench.__file__).parents[1] / "docs" / "going_on.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)
    copy.sweep.root.rename(copy.sweep.root.with_name("quickstart"))
    exec(compile(code, "going_on.md", "exec"), {})
    *shown, verdict = capsys.readouterr().out.splitlines()
    assert len(shown) == 2 * len(chembench.open_sweep("quickstart").trials(kind="confirm"))
    assert verdict == "equal every metric, epoch and prediction is the recorded one, bit for bit None"
