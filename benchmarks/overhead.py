"""What a trial costs beyond itself: the Ray runner, Optuna's own loop, and OptunaSearch in Tune, on trials of nothing.

All three are given the same points and must return the same objectives. Each run has a process of its own, and the ways
take turns. Warm: from the end of the tenth trial to the end of the last, so that starting Ray is left out.
"""

from __future__ import annotations

import json
import logging
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import optuna
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from tables import machine, publish, table

from chembench.api import load_space, open_engine
from chembench.paths import RunPaths, SweepPaths, read_json, write_json
from chembench.specs import TrialSpec, Work
from chembench.sweep.space import Space
from chembench.sweep.study import distribution
from chembench.trial import Result

SLOTS = 2
COLD = 10
"""Trials at the start that are not counted."""

Point = Mapping[str, Any]


@dataclass(slots=True)
class Ended:
    """The trials in the order in which they ended."""

    values: dict[int, float] = field(default_factory=dict)
    """Ordinal -> objective."""
    moments: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    """Of this process, which drives them, at those moments."""

    def note(self, ordinal: int, value: float) -> None:
        self.values[ordinal] = value
        self.moments.append(time.perf_counter())
        self.cpu_seconds.append(time.process_time())

    def warm_ms(self, clock: list[float]) -> float:
        return 1e3 * (clock[-1] - clock[COLD - 1]) / (len(clock) - COLD)


def space_of(trials: int) -> Space:
    """One study of so many random points, on one small task; one confirm item follows."""
    return load_space(
        "full_adaptive_tiny",
        [
            "tasks=['freewilson_pic50']",
            "task={freewilson_pic50={max_rows=128}}",
            "model={architecture='roberta', size='w16x1', molecules=0}",
            "controls={from_scratch=false, baselines=[]}",
            "finetune={learning_rate={low=1e-4, high=1e-2, log=true}, dropout={low=0.0, high=0.2}}",
            f"search={{sampler='random', trials={trials}, ask_window={trials}}}",
            "confirm={rescore_top=1, rescore_seeds=0, head_seeds=1}",
        ],
    )


def objective(point: Point) -> float:
    return float((math.log10(point["learning_rate"]) + 3) ** 2 + (10 * point["dropout"] - 1) ** 2)


# ------------------------------------------------------------------------------------------------- the Ray runner


def nothing(work: Work, paths: RunPaths, measured: dict[str, Any]) -> Result:
    """In the place of a fine-tuning."""
    assert isinstance(work.spec, TrialSpec)
    value = objective(work.spec.finetune.model_dump())
    return Result(metrics={"objective": value}, objectives=(value,))


def runner(points: list[Point], folder: Path) -> Ended:
    """The runner of ``chembench sweep``, its ledger and its journal; items are carried out by `run_item` as always."""
    from chembench.sweep import ray_worker
    from chembench.sweep.ray_runner import run_with_ray
    from chembench.sweep.running import RunnerOptions
    from chembench.tracking.optuna_journal import OptunaJournal

    real = ray_worker.carry_out

    def carry_out(item: Mapping[str, Any]) -> dict[str, Any]:
        from chembench import trial  # the worker's own; what stands above is sent to it as a copy

        trial.CARRY_OUT.update({"search": nothing, "confirm": nothing})
        return real(item)

    ray_worker.carry_out = carry_out  # Ray takes it to its workers
    space, ended = space_of(len(points)), Ended()
    with open_engine(space, name="one", out=folder, cache_dir=folder / "cache") as engine:
        journal = OptunaJournal(SweepPaths(folder / "one"), space)
        (asked,) = engine.state.asked.values()
        waiting = {ordinal: engine.state.items[point.uid] for ordinal, point in asked.items()}

        def on_change() -> None:
            journal.update(engine.state)
            for ordinal in [ordinal for ordinal, item in waiting.items() if item.outcome is not None]:
                outcome = waiting.pop(ordinal).outcome
                assert outcome is not None and outcome.status == "finished", outcome
                ended.note(ordinal, outcome.metrics["objective"])

        run_with_ray(engine, RunnerOptions(max_concurrent=SLOTS), on_change)
    return ended


# ------------------------------------------------------------------------------------------ Optuna alone, and in Tune


def points_of(trials: int, folder: Path) -> list[Point]:
    """What the engine asks for."""
    with open_engine(space_of(trials), name="asked", out=folder, cache_dir=folder / "cache") as engine:
        (asked,) = engine.state.asked.values()
        return [asked[ordinal].params for ordinal in range(trials)]


class Listed(BaseSampler):
    """Suggests ``points`` in their order, at no cost."""

    def __init__(self, points: list[Point]) -> None:
        self.points = points

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
        return {}

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        return {}

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        return self.points[trial.number][param_name]


def ranges(space: Space) -> dict[str, Any]:
    """Optuna's distribution of each searched parameter."""
    return {name: distribution(parameter) for name, parameter in space.parameters.items() if parameter.is_searched}


def storage_in(folder: Path) -> Any:
    return JournalStorage(JournalFileBackend(str(folder / "journal")))


def optimize(points: list[Point], folder: Path) -> Ended:
    """``study.optimize`` in one process, with a journal."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ended, searched = Ended(), ranges(space_of(len(points)))

    def trial(trial: Any) -> float:
        return objective({name: trial._suggest(name, given) for name, given in searched.items()})

    def on_end(study: Any, trial: Any) -> None:
        ended.note(trial.number, trial.value)

    study = optuna.create_study(storage=storage_in(folder), sampler=Listed(points))
    study.optimize(trial, n_trials=len(points), callbacks=[on_end])
    return ended


def optuna_search(points: list[Point], folder: Path) -> Ended:
    """``OptunaSearch`` through Tune: class trainable, actors used again, no callbacks, the same journal."""
    from chembench.sweep.ray_cluster import SETTINGS

    os.environ.update(SETTINGS)
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ended = Ended()

    class Nothing(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.point = config

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.point = new_config
            return True

        def step(self) -> dict[str, Any]:
            return {"objective": objective(self.point), "done": True}

    class Clock(tune.Callback):
        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            ended.note(len(ended.moments), trial.last_result["objective"])

    searcher = OptunaSearch(
        space=ranges(space_of(len(points))),
        metric="objective",
        mode="min",
        sampler=Listed(points),
        storage=storage_in(folder),
        study_name="one",
    )
    ray.init(
        num_cpus=SLOTS,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _temp_dir=str(folder / "r"),
    )
    tune.Tuner(
        tune.with_resources(Nothing, {"CPU": 1}),
        tune_config=tune.TuneConfig(
            search_alg=searcher, num_samples=len(points), max_concurrent_trials=SLOTS, reuse_actors=True
        ),
        run_config=tune.RunConfig(
            storage_path=str(folder / "tune"),
            verbose=0,
            callbacks=[Clock()],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()
    study = optuna.load_study(study_name="one", storage=storage_in(folder))
    ray.shutdown()
    ended.values = {trial.number: trial.values[0] for trial in study.trials}
    return ended


WAYS: dict[str, tuple[str, Callable[[list[Point], Path], Ended]]] = {
    "runner": (f"chembench's Ray runner, {SLOTS} actors, ledger and journal", runner),
    "optimize": ("`study.optimize`, 1 process, journal", optimize),
    "optuna_search": (f"`OptunaSearch` in Tune, {SLOTS} actors, journal", optuna_search),
}


# ---------------------------------------------------------------------------------------------------------- measuring


def measured(way: str, points: Path) -> dict[str, Any]:
    """One run in a process of its own: objectives by ordinal, and its times."""
    started = time.perf_counter()
    command = [sys.executable, __file__, "--way", way, "--points", str(points)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**found, "seconds": time.perf_counter() - started}


def one_run(way: str, points: list[Point]) -> dict[str, Any]:
    """Carry out ``points`` in one way, in this process."""
    with tempfile.TemporaryDirectory(prefix="b_", ignore_cleanup_errors=True) as folder:  # short, for Ray's sockets
        ended = WAYS[way][1](points, Path(folder))
    times = {"warm_ms": ended.warm_ms(ended.moments), "cpu_ms": ended.warm_ms(ended.cpu_seconds)}
    return {"values": [value for _, value in sorted(ended.values.items())], **times}


def measure(trials: int, repeats: int, folder: Path) -> str:
    """The table, as Markdown.

    Raises:
        ClickException: if the ways did not carry out the same trials.
    """
    points = points_of(trials, folder)
    write_json(folder / "points.json", points)
    due = [objective(point) for point in points]
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for _ in range(repeats):
        for way, found in runs.items():
            found.append(measured(way, folder / "points.json"))
            if found[-1]["values"] != due:
                raise click.ClickException(f"'{way}' must return the objectives of the {trials} points, it does not")
    rows = [(WAYS[way][0], *columns(found)) for way, found in runs.items()]
    head = (
        "way",
        "ms a warm trial, median",
        "least",
        "most",
        "of it CPU of the driver",
        "s in all, start and imports too",
    )
    where = machine(SweepPaths(folder / "asked").environment, ("ray", "optuna"))
    facts = f"{trials} trials of nothing, {repeats} runs of each way in turn; all returned the same objectives."
    return f"{facts}\n\n{table(head, rows)}\n{where}"


def columns(found: list[dict[str, Any]]) -> tuple[str, ...]:
    """Of one way: median, least and most of the warm trial; medians of the driver's CPU and of the whole run."""
    warm = [run["warm_ms"] for run in found]
    cpu, whole = (statistics.median(run[name] for run in found) for name in ("cpu_ms", "seconds"))
    return tuple(f"{value:.1f}" for value in (statistics.median(warm), min(warm), max(warm), cpu, whole))


@click.command(help=__doc__)
@click.option("--trials", type=click.IntRange(min=COLD + 1), default=300, show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("--write", is_flag=True, help="Put the table into reports/benchmarks.md.")
@click.option("--way", type=click.Choice(list(WAYS)), hidden=True)
@click.option("--points", type=click.Path(exists=True, path_type=Path), hidden=True)
def main(trials: int, repeats: int, write: bool, way: str | None, points: Path | None) -> None:
    if way is not None and points is not None:
        click.echo(json.dumps(one_run(way, read_json(points))))
        return
    with tempfile.TemporaryDirectory(prefix="bench_") as folder:
        text = measure(trials, repeats, Path(folder))
    publish("Overhead of a trial", f"python benchmarks/overhead.py --trials {trials}", text, write=write)


if __name__ == "__main__":
    main()
