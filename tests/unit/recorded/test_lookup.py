"""What was recorded is given back as it is; what was not is told, never made up."""

import json

import pytest

from chembench.errors import DataError, RunError
from chembench.recorded.archive import Head, ItemRecord, SplitRecord, TaskRecord, archive_bytes, read_archive
from chembench.recorded.lookup import look_up
from chembench.recorded.source import Recording
from chembench.specs import EarlierTrial, FinetuneSpec, Inputs, ModelSpec, Rungs, TrialSpec, Work

MODEL = ModelSpec(
    architecture="bart", hidden=8, ffn=16, layers=1, heads=1, vocabulary=9, pad_id=1, bos_id=0, eos_id=2
)  # fmt: skip
HEAD = Head(
    sweep="old",
    space={},
    tokenizer="tok",
    tasks={"t": TaskRecord(kind="regression", targets=("y",), unit="", note="", content="c", rows=3)},
    splits=(SplitRecord(task="t", index=0, data="d", test_rows="r", sealed="s", whole="w"),),
)
CURVE = tuple({"objective": value, "valid/loss": value / 2, "valid/rmse": value * 2} for value in (0.9, 0.5, 0.6, 0.4))
FINISHED = ItemRecord(
    uid="a", kind="search", status="finished", metrics={"objective": 0.4, "epochs": 4.0},
    objectives=(0.9, 0.5, 0.6, 0.4), curve=CURVE, measured={"wall_seconds": 9.0},
)  # fmt: skip
PRUNED = FINISHED.model_copy(update={"uid": "b", "status": "pruned", "objectives": (0.9, 0.5), "curve": CURVE[:2]})
FAILED = ItemRecord(uid="c", kind="search", status="failed", cause="oom", message="memory ran out")


class Recorded:
    """A file with recorded results, and items that are looked up in it."""

    def __init__(self, folder, form: str, content: bytes) -> None:
        self.file = folder / f"recorded.{form}"
        self.file.write_bytes(content)
        self.recording = Recording("old", form, content)

    def work(self, key: str, kind: str = "search", rungs: Rungs | None = None) -> Work:
        spec = TrialSpec(
            kind=kind, model=MODEL, pretrained=None, descriptors=1, tokenizer="tok", task="delaney",
            task_kind="regression", targets=1, data="d", test_rows="r", head_seed=0,
            finetune=FinetuneSpec(learning_rate=1e-3), recorded=self.recording.place(key),
        )  # fmt: skip
        inputs = Inputs(recorded=str(self.file))
        return Work(uid="u", attempt=1, spec=spec, inputs=inputs, folder="f", sweep="new", rungs=rungs)


@pytest.fixture
def sweep(tmp_path) -> Recorded:
    return Recorded(tmp_path, "jsonl", archive_bytes(HEAD, [FAILED, PRUNED, FINISHED]))


@pytest.fixture
def scores(tmp_path) -> Recorded:
    header = "architecture,size,corpus,task,task_type,repeat,validation_loss,test_score,metric"
    lines = (
        "bart,13M,10m,delaney,regression,0,0.5,0.9,rmse_normalised\nbart,13M,10m,hiv,classification,0,0.4,0.7,roc_auc"
    )
    return Recorded(tmp_path, "csv", f"{header}\n{lines}\n".encode())


def threshold(upper: float) -> Rungs:
    return Rungs(pruner="threshold", options={"upper": upper}, study="s")


def test_a_search_trial_is_not_told_the_test(scores):
    key = "bart-13M-10000000/delaney/0/0/0"
    assert look_up(scores.work(key)).metrics == {"objective": 0.5, "valid/loss": 0.5}
    confirmed = look_up(scores.work(key, "confirm")).metrics
    assert confirmed == {"objective": 0.5, "valid/loss": 0.5, "test/rmse": 0.9, "test/rmse_normalised": 0.9}


def test_a_class_score_has_one_name(scores):
    found = look_up(scores.work("bart-13M-10000000/hiv/0/0/0", "confirm"))
    assert found.metrics == {"objective": 0.4, "valid/loss": 0.4, "test/roc_auc": 0.7}
    assert found.measured == {} and found.status == "finished"


def test_what_was_never_recorded_is_told(scores, sweep):
    with pytest.raises(DataError, match=r"bart-13M-10000000/hiv/0/0/7 .* is not in recorded.csv; add it to your table"):
        look_up(scores.work("bart-13M-10000000/hiv/0/0/7"))
    with pytest.raises(DataError, match=r"search d is not in recorded.jsonl; sweep 'old' never carried it out"):
        look_up(sweep.work("d"))


def test_another_file_than_the_item_names_is_refused(sweep):
    work = sweep.work("a")
    sweep.file.write_bytes(archive_bytes(HEAD, [FINISHED]))
    with pytest.raises(DataError, match=r"must be the file that the replay began with .* put the first one back"):
        look_up(work)
    sweep.file.unlink()
    with pytest.raises(DataError, match=r"the recorded file of a replay must be there"):
        look_up(work)


def test_a_finished_trial_is_given_back_with_curve_and_cost(sweep):
    found = look_up(sweep.work("a", rungs=threshold(1.0)))
    assert (found.status, found.metrics, found.objectives) == ("finished", FINISHED.metrics, FINISHED.objectives)
    assert found.curve == CURVE and found.measured == {"wall_seconds": 9.0}


def test_a_failure_is_repeated_with_its_cause(sweep):
    with pytest.raises(RunError, match=r"memory ran out") as raised:
        look_up(sweep.work("c"))
    assert raised.value.cause == "oom"


def test_another_pruner_stops_a_recorded_curve_where_it_would_have(sweep):
    # better than its median so far in epoch 1 and 2, worse in epoch 3
    earlier = EarlierTrial(ordinal=0, status="finished", objectives=(1.0, 0.8, 0.55, 0.3))
    rungs = Rungs(pruner="median", options={"n_startup_trials": 1, "n_warmup_steps": 0}, study="s", earlier=(earlier,))
    shifted = FINISHED.model_copy(update={"objectives": (0.9, 0.9, 0.9, 0.4)})
    file = Recorded(sweep.file.parent, "jsonl", archive_bytes(HEAD, [shifted]))
    found = look_up(file.work("a", rungs=rungs))
    assert found.status == "pruned" and len(found.objectives) == 2 and len(found.curve) == 2
    assert found.metrics["epochs"] == 2.0 and found.metrics["best_epoch"] == 2.0
    assert found.metrics["valid/rmse"] == 1.0
    assert found.message == "stopped by pruner 'median' after epoch 2"
    assert found.measured == {}


def test_a_trial_pruned_by_the_same_rung_is_given_back_whole(sweep):
    earlier = EarlierTrial(ordinal=0, status="finished", objectives=(1.0, 0.4))
    rungs = Rungs(pruner="median", options={"n_startup_trials": 1}, study="s", earlier=(earlier,))
    found = look_up(sweep.work("b", rungs=rungs))
    assert (found.status, found.metrics, found.measured) == ("pruned", PRUNED.metrics, PRUNED.measured)


def test_a_pruner_that_lets_a_pruned_trial_go_on_asks_for_what_was_never_recorded(sweep):
    with pytest.raises(DataError, match=r"ends after epoch 2, where it was pruned, and pruner 'threshold' lets it go"):
        look_up(sweep.work("b", rungs=threshold(1.0)))
    with pytest.raises(DataError, match=r"pruner 'none' lets it go on"):
        look_up(sweep.work("b"))


def archive(*lines: str):
    return read_archive(Recording("old.jsonl", "jsonl", "\n".join(lines).encode()))


def test_an_archive_is_read_as_it_was_written(sweep):
    read = read_archive(sweep.recording)
    assert read.head == HEAD and read.items == {"a": FINISHED, "b": PRUNED, "c": FAILED}
    assert archive_bytes(read.head, reversed(read.items.values())) == sweep.recording.content


def test_a_malformed_archive_is_refused_with_its_line():
    head = HEAD.model_dump_json()
    with pytest.raises(DataError, match=r"old.jsonl, line 1: a recorded sweep says what it was, the file is empty"):
        archive()
    with pytest.raises(DataError, match=r"old.jsonl, line 1: .*give the sweep itself"):
        archive("{}")
    with pytest.raises(DataError, match=r"old.jsonl, line 2: .*status"):
        archive(head, json.dumps({"uid": "a", "kind": "search", "status": "well"}))
    with pytest.raises(DataError, match=r"old.jsonl, line 3: an item is recorded once, c is there twice"):
        archive(head, FAILED.model_dump_json(), FAILED.model_dump_json())
