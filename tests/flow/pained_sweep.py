"""A sweep on Ray whose driver is killed in mid-item and that goes on, and what Optuna and MLflow held both times."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow_sweeps import options
from mlflow_servers import within
from torture.kills import DRIVER_MID_ITEM, MID_ITEM, Kill
from torture.tormented import Tormented, torment

from chembench.api import Sweep
from chembench.specs import Work
from chembench.sweep.state import SweepState
from chembench.tracking.mlflow_sync import sync
from chembench.tracking.optuna_journal import study_name
from chembench.tracking.store import quiet_mlflow

NOBODY = "127.0.0.1:9"
"""Nothing answers there."""
SPACE = (
    "seed=3",
    "tasks=['freewilson_pic50']",
    "task={freewilson_pic50={max_rows=128}}",
    "grid.architecture=['roberta']",
    "grid.size=['w16x1']",
    "grid.molecules=[64]",
    "controls.baselines=['constant']",
    "finetune.method='full'",
    "finetune.learning_rate={choice=[1e-3, 10.0, 1e30]}",
    "search.trials=5",
    "search.ask_window=3",
    "search.pruner='threshold'",
    "search.pruner_options={upper=50.0}",
    "confirm.rescore_seeds=2",
    "resources.cpus=0.5",
)
"""Two cells on one task; of the learning rates one is fine, one is pruned and one ends in NaN.

With this seed the first window of either study holds all three. Half a CPU each."""


@dataclass(frozen=True)
class Moment:
    """What there was of the sweep at one time."""

    state: SweepState
    results: dict[Path, bytes]
    runs: dict[str, Any]
    """Uid, or what stands for the sweep itself -> run of MLflow."""
    trials: list[Any]
    """Optuna's."""
    told: str
    """What the driver had said."""


@dataclass(frozen=True)
class Resumed:
    sweep: Sweep
    cache: Path
    status: int
    killed: Moment
    """After the driver was killed and before it was started again."""
    ended: Moment


def moment(sweep: Sweep, told: str) -> Moment:
    files = {path: path.read_bytes() for path in sweep.paths.trials.glob("*/*/result.json")}
    return Moment(sweep.state(), files, runs_of(sweep), trials_of(sweep), told)


def runs_of(sweep: Sweep) -> dict[str, Any]:
    from mlflow import MlflowClient

    found: dict[str, Any] = {}
    if not (sweep.root.parent / "mlflow.db").is_file():
        return found
    with quiet_mlflow():
        client = MlflowClient(sweep.tracking_uri, registry_uri=sweep.tracking_uri)
        for run in client.search_runs([e.experiment_id for e in client.search_experiments()]):
            uid = run.data.tags["chembench.trial_uid"]
            assert uid not in found, f"{uid} has two runs"
            found[uid] = run
    return found


def trials_of(sweep: Sweep) -> list[Any]:
    """As Optuna itself reads them."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    storage = optuna.storages.JournalStorage(JournalFileBackend(str(sweep.paths.journal)))
    return optuna.load_study(study_name=study_name(sweep.state(), "freewilson_pic50"), storage=storage).trials


def is_closed(sweep: Sweep) -> bool:
    runs, started = runs_of(sweep), {uid for uid, item in sweep.state().items.items() if item.attempt}
    return started <= runs.keys() and all(run.info.status != "RUNNING" for run in runs.values())


@contextmanager
def killed_and_resumed(folder: Path) -> Iterator[Resumed]:
    """Begun on a Ray of its own although the environment names another, killed in mid-item, and gone on with."""
    arguments = ["--space", "full_grid_tiny", *options(*SPACE), "--max-concurrent", "2", "--keep", "1kB"]
    with torment(folder, folder / "cache", "pained", [*arguments, "--runner", "ray"]) as driven:
        driven.variables["RAY_ADDRESS"] = NOBODY
        driven.suffer([Kill(DRIVER_MID_ITEM, after=4, plan=MID_ITEM, kills_driver=True)])
        assert driven.missed == [], driven.told()
        sweep = Sweep(driven.root)
        assert within(lambda: is_closed(sweep)), "what the killed driver ran stays running in MLflow"
        killed = moment(sweep, driven.told())
        ended = gone_on(driven, sweep)
        assert driven.driver is not None
        yield Resumed(sweep, driven.cache, driven.driver.returncode, killed, ended)


def gone_on(driven: Tormented, sweep: Sweep) -> Moment:
    driven.start()
    driven.wait(lambda: False)
    if "not sent" in driven.told():  # the machine is slow
        assert sync(sweep.root, None, final=True).unsent == 0
    return moment(sweep, driven.told())


def work_of(resumed: Resumed, folder: Path, kind: str, from_scratch: bool = True) -> Work:
    """What a finished item of the sweep was, to be carried out in ``folder``."""
    trial = next(
        t for t in resumed.sweep.trials("finished", kind) if from_scratch == (getattr(t.spec, "pretrained", "") is None)
    )
    work = Work.model_validate_json(trial.paths.spec.read_text())
    return work.model_copy(update={"folder": str(folder), "save_model": False, "rungs": None})
