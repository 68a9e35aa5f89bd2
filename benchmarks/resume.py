"""How long a sweep with many finished trials takes to go on: from the start of the fold until what is left is known.

A sweep is driven by the engine itself, with a run function that makes an outcome at once, until so many trials are
finished. Then it is taken up again as a new driver would. Imports and Ray's start are left out: a small sweep is taken
up first, in the same process.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from tables import machine, publish, table

from chembench import driver
from chembench.api import load_space, open_engine
from chembench.config import stable_seed
from chembench.paths import RunPaths, SweepPaths, write_json
from chembench.specs import Outcome, Work
from chembench.sweep.plugin import Engine
from chembench.sweep.space import Space
from chembench.tracking.optuna_journal import OptunaJournal

GOAL_SECONDS = 2.0
PARTS = {"Ledger": "lock and fold of the ledger", "inputs_of": "inputs, all prepared before", "Engine": "engine"}
"""Name in `chembench.driver` -> what it is."""


def space_of(trials: int) -> Space:
    """The cells and tasks of ``full_grid_tiny``, with at least so many trials."""
    per_unit = trials // 48 + 1  # 24 cells and controls, 2 tasks
    return load_space("full_grid_tiny", [f"search.trials={per_unit}", "search.ask_window=4", "search.pruner=none"])


def instant(work: Work) -> Outcome:
    """An outcome that the specification alone decides, with the files that a worker leaves."""
    objective = stable_seed(work.spec.digest) / 2**31
    paths = RunPaths(Path(work.folder))
    if work.inputs.checkpoint:  # one that is missing would be made again, for ever
        Path(work.inputs.checkpoint).mkdir(parents=True, exist_ok=True)
    metrics = {"objective": objective, "valid/rmse": objective, "epochs": 2.0}
    outcome = Outcome(
        uid=work.uid,
        attempt=work.attempt,
        kind=work.kind,
        status="finished",
        metrics=metrics,
        objectives=(objective + 0.1, objective),
        measured={"wall_seconds": 1.0, "device_hours": 1 / 3600},
    )
    write_json(paths.spec, work.model_dump(mode="json"))
    write_json(paths.result, outcome.model_dump(mode="json"))
    return outcome


def make(folder: Path, name: str, trials: int) -> Space:
    """A sweep that was left when so many trials were finished."""
    space = space_of(trials)
    with open_engine(space, name=name, out=folder, cache_dir=folder / "cache") as engine:
        while finished_trials(engine) < trials and (work := engine.ask()) is not None:
            engine.tell(instant(work))
        if engine.done:
            raise click.ClickException(f"the sweep must be left with work, all of its {trials} trials are done")
    return space


def finished_trials(engine: Engine) -> int:
    return sum(item.is_final and item.kind not in ("pretrain", "baseline") for item in engine.state.items.values())


@contextmanager
def timed(spent: dict[str, float]) -> Iterator[None]:
    """Within the block the parts of `chembench.driver.opened` are timed."""

    def clocked(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                spent[name] = spent.get(name, 0.0) + time.perf_counter() - started

        return run

    before = {name: getattr(driver, name) for name in PARTS}
    for name, call in before.items():
        setattr(driver, name, clocked(name, call))
    try:
        yield
    finally:
        for name, call in before.items():
            setattr(driver, name, call)


def take_up(folder: Path, name: str, space: Space) -> dict[str, Any]:
    """Seconds of each part, the sum of them, and what was found."""
    spent: dict[str, float] = {}
    started = time.perf_counter()
    with timed(spent), open_engine(space, name=name, out=folder, cache_dir=folder / "cache") as engine:
        left = sum(not item.is_final for item in engine.state.items.values())
        total = time.perf_counter() - started
        at = time.perf_counter()
        OptunaJournal(SweepPaths(folder / name), space).update(engine.state)
        journal = time.perf_counter() - at
        facts = {"items": len(engine.state.items), "trials": finished_trials(engine), "left": left}
    return {**facts, "parts": spent, "total": total, "journal": journal}


def measure(trials: int, repeats: int, folder: Path) -> str:
    """The table, as Markdown."""
    space = make(folder, "many", trials)
    take_up(folder, "few", make(folder, "few", 2))  # imports
    runs = [take_up(folder, "many", space) for _ in range(repeats)]
    ledger = SweepPaths(folder / "many").ledger
    rows = [(text, *seconds(run["parts"][name] for run in runs)) for name, text in PARTS.items()]
    rows.append(("other", *seconds(run["total"] - sum(run["parts"].values()) for run in runs)))
    rows.append(("**what is left is known**", *seconds(run["total"] for run in runs)))
    rows.append(("then: Optuna's journal written anew", *seconds(run["journal"] for run in runs)))
    facts = (
        f"{runs[0]['trials']:,} finished trials, {runs[0]['items']:,} items of which {runs[0]['left']} are left, "
        f"ledger of {ledger.stat().st_size / 1e6:.1f} MB; seconds of {repeats} runs in one process, imports and "
        f"Ray's start left out; the goal is {GOAL_SECONDS:g} s.\n"
    )
    where = machine(SweepPaths(folder / "many").environment, ("numpy", "optuna"))
    return f"{facts}\n{table(('part', 'median', 'least', 'most'), rows)}\n{where}"


def seconds(values: Iterator[float]) -> tuple[str, str, str]:
    """Median, least and most."""
    found = sorted(values)
    return f"{found[len(found) // 2]:.2f}", f"{found[0]:.2f}", f"{found[-1]:.2f}"


@click.command(help=__doc__)
@click.option("--trials", default=1000, show_default=True)
@click.option("--repeats", default=5, show_default=True)
@click.option("--write", is_flag=True, help="Put the table into reports/benchmarks.md.")
def main(trials: int, repeats: int, write: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="bench_") as folder:
        text = measure(trials, repeats, Path(folder))
    publish("Going on with a sweep", f"python benchmarks/resume.py --trials {trials}", text, write=write)


if __name__ == "__main__":
    main()
