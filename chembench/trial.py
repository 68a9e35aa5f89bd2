"""The whole experiment on one page: one item of a sweep is carried out in one folder.

::

    Work ─ spec.json ─> pretrain | fine-tune | baseline ─ curves.jsonl, predictions.csv, model/ ─> result.json

`run_item` is the same under every runner. What it returns is what ``result.json`` holds, which is written last and
whole: where that file exists the attempt is over, and it is never repeated.
"""

from __future__ import annotations

import contextlib
import csv
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chembench.appended import append_line
from chembench.errors import Cause, ChembenchError, ConfigError, DataError, DiskFullError, RunError
from chembench.paths import (
    RunPaths,
    is_disk_full,
    no_space_left,
    read_json,
    write_json,
    written_whole,
)
from chembench.registry import BASELINES
from chembench.specs import BaselineSpec, Kind, Outcome, PretrainSpec, Status, TrialSpec, Work
from chembench.training.hardware import (
    DeviceName,
    is_out_of_memory,
    measured_cost,
    set_memory_share,
    start_peak_memory,
)

if TYPE_CHECKING:
    from chembench.training.attempt import Attempt
    from chembench.training.device import Device
    from chembench.training.pruning import Judge
    from chembench.training.targets import Predicted


@dataclass(slots=True)
class Result:
    """What one kind of item gives back."""

    status: Status = "finished"
    message: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    objectives: tuple[float, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


Measured = dict[str, Any]
"""Filled while an item is carried out, so that a failed one tells it too."""


def run_item(work: Work) -> Outcome:
    """Carry out one attempt at one item.

    Nothing that goes wrong inside it is raised: the outcome is then *failed*, with a cause, and the traceback stands in
    ``error.txt``. After cause ``oom`` or ``nan`` a runner had better not use the process again. Where the attempt's
    folder holds the file ``stop``, or the disk is full, the cause is ``preempted``: a later attempt goes on from the
    newest state of this and earlier ones.

    Args:
        work: what to do, and the folder to do it in.

    Returns:
        The content of ``result.json``; if that file existed already, it is returned unchanged. If the disk is too full
        for that file, there is none, and ``measured`` says ``disk_full``.
    """
    paths = RunPaths(Path(work.folder))
    if paths.result.exists():
        return Outcome.model_validate(read_json(paths.result))
    started, started_at = time.monotonic(), time.time()
    cause: Cause | None = None
    measured: Measured = {}
    try:
        _begin(work, paths)
        carry_out = CARRY_OUT[work.kind] if work.spec.recorded is None else run_recorded
        result = carry_out(work, paths, measured)
        result.message = "; ".join(filter(None, (result.message, _halved(measured))))
    except Exception as error:  # noqa: BLE001 - the one place: an item that raised is failed, the sweep goes on
        cause, result = cause_of(error), Result("failed", _one_line(error, paths))
        measured |= {"disk_full": True} if is_disk_full(error) else {}
        with contextlib.suppress(DiskFullError), written_whole(paths.error) as part:
            part.write_text("".join(traceback.format_exception(error)))
    seconds = time.monotonic() - started
    cost = _cost(work, seconds, measured.get("earlier_seconds", 0.0)) if work.spec.recorded is None else {}
    outcome = Outcome(
        uid=work.uid,
        attempt=work.attempt,
        kind=work.kind,
        status=result.status,
        cause=cause,
        message=result.message,
        metrics=result.metrics,
        objectives=result.objectives,
        facts=result.facts,
        measured={**cost, "started_at": started_at, "ended_at": time.time(), **measured},
    )
    return _written(outcome, paths)


def _begin(work: Work, paths: RunPaths) -> None:
    """Forget what a killed process of the same attempt left; its resume state stays."""
    paths.root.mkdir(parents=True, exist_ok=True)
    for file in (paths.curves, paths.error, paths.predictions):
        file.unlink(missing_ok=True)
    write_json(paths.spec, work.model_dump(mode="json"))
    if paths.stop.exists():
        raise RunError("stopped as asked before anything was done; the next attempt does it", "preempted")


def _written(outcome: Outcome, paths: RunPaths) -> Outcome:
    """The outcome once it stands in ``result.json``; states to go on from are then of no use, unless it failed."""
    try:
        write_json(paths.result, outcome.model_dump(mode="json"))
    except DiskFullError as error:
        return Outcome(
            uid=outcome.uid,
            attempt=outcome.attempt,
            kind=outcome.kind,
            status="failed",
            cause="preempted",
            message=str(error),
            measured={**outcome.measured, "disk_full": True},
        )
    if outcome.status != "failed":
        for attempt in paths.attempts_so_far():
            attempt.resume.unlink(missing_ok=True)
    return outcome


def cause_of(error: BaseException) -> Cause:
    """Why an item failed, in one word."""
    if isinstance(error, RunError):
        return error.cause
    if is_disk_full(error):
        return "preempted"
    if is_out_of_memory(error):
        return "oom"
    return "data" if isinstance(error, DataError) else "bug"


def _one_line(error: BaseException, paths: RunPaths) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, ChembenchError):
        return text
    return str(no_space_left(paths.root)) if is_disk_full(error) else f"{type(error).__name__}: {text}"


def _halved(measured: Measured) -> str:
    halvings = measured.get("micro_batch_halvings", 0)
    times = f"{halvings} time{'s' if halvings > 1 else ''}"
    return f"memory ran out, micro-batches were halved {times}" if halvings else ""


def _cost(work: Work, wall_seconds: float, earlier_seconds: float) -> dict[str, Any]:
    device: DeviceName = "cpu" if work.kind == "baseline" else work.device
    try:
        return measured_cost(device, work.spec.threads, wall_seconds, earlier_seconds)
    except (RuntimeError, AssertionError):  # there is no GPU to ask: the item failed for that reason
        return {"device": device, "wall_seconds": round(wall_seconds, 3)}


def run_pretraining(work: Work, paths: RunPaths, measured: Measured) -> Result:
    """Train a checkpoint, or find that it exists."""
    from chembench.training.pretrain import pretrain

    spec, device, attempt = _expected(work, PretrainSpec), _start(work), _attempt(paths, measured)
    found = pretrain(spec, work.inputs, Curves(paths), device=device, attempt=attempt)
    measured |= {"molecules_seen": found.molecules_seen, "reused": found.reused, "built": found.built}
    return Result(metrics=found.metrics, facts=found.facts)


def run_trial(work: Work, paths: RunPaths, measured: Measured) -> Result:
    """Fine-tune on one task; validation decides, the test is scored in confirm trials alone."""
    from chembench.training.finetune import finetune
    from chembench.training.pruning import Judge
    from chembench.training.targets import target_facts

    spec = _expected(work, TrialSpec)
    judge = Judge(work.rungs) if work.rungs is not None and work.kind == "search" else None
    device, attempt = _start(work), _attempt(paths, measured)
    fit = finetune(spec, work.inputs, Curves(paths, judge), device=device, attempt=attempt)
    measured["molecules_seen"] = fit.molecules_seen
    result = Result("finished", "", fit.metrics, fit.objectives, fit.facts)
    if fit.pruned and work.rungs is not None:
        result.status = "pruned"
        result.message = f"stopped by pruner '{work.rungs.pruner}' after epoch {len(fit.objectives)}"
        return result
    targets = target_facts(Path(_given(work.inputs.split, "split")), spec)
    write_predictions(paths.predictions, fit.predictions, targets.names)
    if work.save_model:
        from chembench.training.fitted import FittedModel

        tokenizer = Path(_given(work.inputs.tokenizer, "tokenizer"))
        fitted = FittedModel(spec, targets.names, targets.unit, fit.scaling, fit.model, tokenizer, fit.weights_file)
        fitted.save(paths.model)
    return result


def _start(work: Work) -> Device:
    """The device of an item that trains, with the memory it may use."""
    from chembench.training.device import resolve_device

    device = resolve_device(work.device, work.memory_fraction)
    set_memory_share(device.name, work.memory_fraction)
    start_peak_memory(device.name)
    return device


def _attempt(paths: RunPaths, measured: Measured) -> Attempt:
    from chembench.training.attempt import Attempt, StopFile

    earlier = [attempt.resume for attempt in paths.attempts_so_far()]
    return Attempt(paths.resume, earlier, StopFile(paths.stop), measured)


def run_baseline(work: Work, paths: RunPaths, measured: Measured) -> Result:
    """Fit a control on the training rows and score it on validation and test; it sees no test label."""
    import dataclasses

    import numpy as np

    from chembench.data.splits import load_rows
    from chembench.metrics import objective, scores
    from chembench.training.targets import Predicted, Scaling, open_sealed, target_facts

    spec, split = _expected(work, BaselineSpec), Path(_given(work.inputs.split, "split"))
    start_peak_memory("cpu")
    targets = target_facts(split, spec)
    train, valid = load_rows(split, "train"), load_rows(split, "valid")
    test = open_sealed(Path(_given(work.inputs.sealed, "sealed")), spec.sealed)
    unlabelled = dataclasses.replace(test, labels_NM=np.full_like(test.labels_NM, np.nan))
    fit = BASELINES.load(spec.baseline)(spec, train, valid, unlabelled)
    sd_M = Scaling.of(spec.task_kind, train.labels_NM).sd_M
    metrics: dict[str, float] = {}
    undefined: list[str] = []
    parts = (
        Predicted("valid", valid, valid.labels_NM.astype(np.float64), fit.valid_predicted_NM),
        Predicted("test", test, test.labels_NM.astype(np.float64), fit.test_predicted_NM),
    )
    for part in parts:
        found = scores(spec.task_kind, part.measured_NM, part.predicted_NM, sd_M)
        metrics |= {f"{part.part}/{name}": value for name, value in found.values.items()}
        undefined += [f"{part.part}/{name}" for name in found.undefined]
        if part.part == "valid":
            metrics["objective"] = objective(spec.task_kind, found.values)
    write_predictions(paths.predictions, parts, targets.names)
    return Result(metrics=metrics, facts={**fit.facts, "undefined": undefined})


def run_recorded(work: Work, paths: RunPaths, measured: Measured) -> Result:
    """Give back what was recorded of an item; nothing is computed, what looking it up costs is no cost of it."""
    from chembench.recorded.lookup import look_up

    found = look_up(work)
    for epoch, values in enumerate(found.curve, 1):
        append_line(paths.curves, {**values, "epoch": epoch, "at": round(time.time(), 3)})
    measured |= found.measured
    return Result(found.status, found.message, found.metrics, found.objectives, found.facts)


CARRY_OUT: dict[Kind, Callable[[Work, RunPaths, Measured], Result]] = {
    "pretrain": run_pretraining,
    "search": run_trial,
    "rescore": run_trial,
    "confirm": run_trial,
    "baseline": run_baseline,
}


class Curves:
    """Writes one line per epoch, and asks the judge, if there is one, whether to stop."""

    def __init__(self, paths: RunPaths, judge: Judge | None = None) -> None:
        self._paths, self._judge = paths, judge

    def __call__(self, epoch: int, values: Mapping[str, float]) -> bool:
        append_line(self._paths.curves, {**values, "epoch": epoch, "at": round(time.time(), 3)})
        return self._judge is not None and self._judge.says_stop(values["objective"])


def write_predictions(file: Path, predictions: Iterable[Predicted], target_names: tuple[str, ...]) -> None:
    """One line per molecule and target; ``measured`` is empty where no measurement was made."""
    with written_whole(file) as whole, whole.open("w", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(("part", "row", "smiles", "target", "measured", "predicted"))
        for found in predictions:
            for row, smiles in enumerate(found.rows.smiles):
                for target, name in enumerate(target_names):
                    measured = float(found.measured_NM[row, target])
                    known = measured if measured == measured else ""
                    predicted = float(found.predicted_NM[row, target])
                    writer.writerow((found.part, int(found.rows.ids_N[row]), smiles, name, known, predicted))


def _given(place: str | None, name: str) -> str:
    if place is None:
        raise ConfigError(f"the item reads inputs.{name}, none is given; prepare the inputs of the space again")
    return place


def _expected(work: Work, kind: type[Any]) -> Any:
    assert isinstance(work.spec, kind), f"{work.kind} items carry a {kind.__name__}"
    return work.spec
