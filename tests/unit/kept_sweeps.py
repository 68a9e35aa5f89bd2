"""A sweep of fake items whose folders hold everything that workers leave."""

from pathlib import Path

from sweep_fakes import MortalLedger, finished, grid_space, header_of, leave_result, paths_in

from chembench.appended import append_line
from chembench.damage import PREDICTIONS_HEADER

SPACE = grid_space(grid={"architecture": ["roberta"], "size": ["w32x1"], "molecules": [20]}, confirm__rescore_seeds=1)
SCORES = {"regression": ("rmse", "mae", "r2", "rmse_normalised"), "classification": ("roc_auc", "pr_auc", "mcc")}


def carried_out(work):
    """A fake outcome with everything a worker leaves in its folder."""
    outcome = finished(work)
    if work.kind not in ("pretrain", "baseline") and outcome.status == "finished":
        parts = ("valid", "test") if work.kind == "confirm" else ("valid",)
        scores = {f"{part}/{name}": 0.5 for part in parts for name in SCORES[work.spec.task_kind]}
        outcome = outcome.model_copy(update={"metrics": {**outcome.metrics, **scores}})
    run = paths_of(work)
    for epoch, objective in enumerate(outcome.objectives, 1):
        append_line(run.curves, {"epoch": epoch, "at": 1.7e9 + epoch, "objective": objective})
    if work.kind != "pretrain" and outcome.status == "finished":
        run.predictions.write_text(",".join(PREDICTIONS_HEADER) + "\nvalid,0,CCO,y,,0.5\n")
    leave_result(work, outcome)
    return outcome


def paths_of(work):
    return paths_in(Path(work.folder).parents[4]).run(work.uid, work.attempt)


def begun(folder):
    ledger = MortalLedger(paths_in(folder))
    places = {"cache_dir": str(folder / "cache"), "data_dir": str(folder / "raw")}
    header = header_of(SPACE) | {"places": places, "at": 1.7e9, "versions": {"torch": "2"}}
    ledger.append({"event": "sweep", "name": "one", "space_digest": SPACE.digest, "header": header})
    return ledger
