"""A search over fine-tunings from one checkpoint, end to end: `chembench sweep`, and Tune + OptunaSearch + Trainer.

Both sides run as commands of their own and take turns: wall time from their start to their end, Ray's start included.
On a machine that others use too they had better run at once, so that what these do falls on all sides alike; the
slower side then has the machine for itself in the end, which favours it.
They are given the same rows, tokenizer, checkpoint, ranges, trials, epochs and number of processes. chembench also
keeps a ledger and predictions, sends everything to MLflow, trains the chosen recipe anew and opens its test, within
its time.
The task is delaney where its file lies in CHEMBENCH_DATA_DIR, otherwise the one that comes with RDKit.
The recipes that chembench drew are trained by both sides once more, each from a head seed of its own, which parts what
training makes of a recipe from where a sampler looked and from the luck of the one seed that a search has. Further
tables tell what one trial costs either side in a warm process, in turn, and what a probe of the same frozen checkpoint
costs in a process that has seen it before. --trials 0 leaves the searches out.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from processes import Command, carried_out
from tables import machine, publish, table
from trainer_sweep import SEARCHED, train_one

from chembench.paths import SweepPaths, read_json
from chembench.specs import Work
from chembench.sweep.ledger import read_state
from chembench.trial import run_item

EPOCHS = 5
FIRST_SEED = 1000
"""Of the heads of recipes that both sides train anew."""
WARM = 5
SPACE = """
name = "finetuning"
seed = {seed}
tasks = ["{task}"]
[corpus]
files = ["rdkit:NCI/first_5K.smi"]
validation = 100
[labels]
statistics_molecules = 1000
[grid]
architecture = ["roberta"]
size = ["w64x2"]
molecules = [1000]
[controls]
from_scratch = false
baselines = []
[pretrain]
objective = "mtr"
epochs = 2
learning_rate = 1e-3
batch_size = 32
[finetune]
method = "full"
learning_rate = {{ low = {rate[0]}, high = {rate[1]}, log = true }}
dropout = {{ low = {dropout[0]}, high = {dropout[1]} }}
batch_size = 32
max_epochs = {epochs}
[search]
sampler = "tpe"
trials = {trials}
ask_window = 4
[confirm]
rescore_top = 1
rescore_seeds = 0
pretrain_seeds = 1
splits = 1
head_seeds = 1
"""
OTHER_SIDE = Path(__file__).resolve().with_name("trainer_sweep.py")
OURS = "`chembench sweep`"
OTHERS = {
    "Tune + OptunaSearch + Trainer, `reuse_actors=True`": ("--reuse-actors",),
    "the same without it, as by default": (),
}


@dataclass(frozen=True, slots=True)
class Ended:
    """One search, carried out."""

    seconds: float
    cpu_seconds: float
    objectives: list[float]
    """Best epoch of each trial: root mean square error on validation in standard deviations."""
    epochs: list[int]


@dataclass(frozen=True, slots=True)
class Place:
    """What all runs of chembench share."""

    root: Path
    task: str
    slots: int

    def sweep(self, name: str, trials: int, seed: int = 0) -> tuple[SweepPaths, Command]:
        """One sweep of so many trials, with the command."""
        file = self.root / f"{name}.toml"
        rate, dropout = SEARCHED["learning_rate"], SEARCHED["dropout"]
        settings = {"task": self.task, "trials": trials, "seed": seed, "epochs": EPOCHS}
        file.write_text(SPACE.format(**settings, rate=rate, dropout=dropout))
        command = [sys.executable, "-c", "from chembench.cli import main; main()", "sweep", "--space", str(file)]
        command += ["--name", name, "--out", str(self.root / name / "sweeps"), "--cache-dir", str(self.root / "cache")]
        done = carried_out([*command, "--max-concurrent", str(self.slots), "--quiet"])
        return self.paths(name), done

    def paths(self, name: str) -> SweepPaths:
        """Where a sweep of this name lies."""
        return SweepPaths(self.root / name / "sweeps" / name)

    def prepared(self, seed: int) -> SweepPaths:
        """A sweep of one trial: data, splits and the checkpoint of a seed, which are not measured."""
        paths = self.paths(f"first{seed}")
        return paths if paths.ledger.is_file() else self.sweep(f"first{seed}", 1, seed)[0]


def task_here() -> str:
    """``delaney`` if its file is there; DeepChem would download it, which nobody asked for."""
    file = Path(os.environ.get("CHEMBENCH_DATA_DIR", "")) / "delaney-processed.csv"
    return "delaney" if file.is_file() else "freewilson_pic50"


def trial_file(paths: SweepPaths) -> Path:
    """The specification of a search trial, with the places of all it reads."""
    items = read_state(paths).items.values()
    return next(paths.run(item.uid, item.attempt).spec for item in items if item.kind == "search")


def by_chembench(place: Place, name: str, trials: int, seed: int) -> Ended:
    paths, done = place.sweep(name, trials, seed)
    outcomes = [item.outcome for item in read_state(paths).items.values() if item.kind == "search"]
    metrics = [outcome.metrics for outcome in outcomes if outcome is not None and outcome.status == "finished"]
    objectives, epochs = [one["objective"] for one in metrics], [int(one["epochs"]) for one in metrics]
    return Ended(done.seconds, done.cpu_seconds, objectives, epochs)


def by_tune(work: Path, trials: int, slots: int, seed: int, options: tuple[str, ...]) -> Ended:
    command = [sys.executable, str(OTHER_SIDE), "--work", str(work), "--trials", str(trials), "--slots", str(slots)]
    command += ["--seed", str(seed)]
    done = carried_out([*command, *options])
    return Ended(done.seconds, done.cpu_seconds, **json.loads(done.output.splitlines()[-1]))


def warm(work: Path, rounds: int) -> tuple[list[float], list[float]]:
    """CPU seconds of one trial of ours and of `Trainer`'s in turn, with the same recipe, all of it imported before."""
    whole = Work.model_validate(read_json(work))
    recipe = {"learning_rate": whole.spec.finetune.learning_rate, "dropout": whole.spec.finetune.dropout}
    found: tuple[list[float], list[float]] = [], []
    told: list[dict[str, Any]] = []
    for number in range(rounds + 1):
        folder = work.parents[2] / "warm" / str(number) / "1"
        began = time.process_time()
        outcome = run_item(whole.model_copy(update={"folder": str(folder)}))
        found[0].append(time.process_time() - began)
        began = time.process_time()
        with contextlib.redirect_stdout(sys.stderr):
            train_one(recipe, whole.model_dump(mode="json"), told.append)
        found[1].append(time.process_time() - began)
        epochs = [int(outcome.metrics.get("epochs", 0)), told[-1]["epochs"]]
        if epochs != [EPOCHS, EPOCHS]:
            raise click.ClickException(f"both must carry out {EPOCHS} epochs, got {epochs}; {outcome.message}")
    return found[0][1:], found[1][1:]


def warm_rows(ours: list[float], theirs: list[float]) -> str:
    """Medians, and the ratios of the turns."""
    ratios = sorted(other / own for own, other in zip(ours, theirs, strict=True))
    text = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    lines = [
        ["chembench", f"{statistics.median(ours):.2f}", "1"],
        ["Trainer", f"{statistics.median(theirs):.2f}", text],
    ]
    return table(["one trial, warm", "CPU s, median", "times as much (of the turns)"], lines)


def same_points(paths: SweepPaths) -> str:
    """Every recipe of a search of ours, trained by both sides anew: what remains is not due to where a sampler looked.

    All trials of a search share one head seed, and so its luck; here each recipe has its own, the same on both sides.
    """
    from scipy import stats

    ours, theirs = [], []
    searched = [item for item in read_state(paths).items.values() if item.kind == "search"]
    for number, item in enumerate(searched):
        whole = Work.model_validate(read_json(paths.run(item.uid, item.attempt).spec))
        spec = whole.spec.model_copy(update={"head_seed": FIRST_SEED + number})
        folder = str(paths.root.parent / "same recipes" / str(number) / "1")
        work = whole.model_copy(update={"spec": spec, "uid": spec.digest, "folder": folder})
        told: list[dict[str, Any]] = []
        recipe = {"learning_rate": spec.finetune.learning_rate, "dropout": spec.finetune.dropout}
        with contextlib.redirect_stdout(sys.stderr):
            train_one(recipe, work.model_dump(mode="json"), told.append)
        ours.append(run_item(work).metrics["objective"])
        theirs.append(told[-1]["objective"])
    apart = stats.ttest_rel(ours, theirs)
    low, high = apart.confidence_interval(0.95)
    lines = [
        [way, f"{min(all_):.4f}", f"{statistics.median(all_):.4f}", f"{statistics.mean(all_):.4f}"]
        for way, all_ in (("chembench", ours), ("Trainer", theirs))
    ]
    mean = statistics.mean(ours) - statistics.mean(theirs)
    return (
        f"{table(['same recipes', 'best score', 'median score', 'mean score'], lines)}\n"
        f"Difference of the means, ours less theirs: {mean:+.4f}, 95 % t interval {low:+.4f} to {high:+.4f} over "
        f"{len(ours)} pairs (p = {apart.pvalue:.2g}).\n"
    )


def probes(work: Path, count: int) -> Mapping[str, list[float]]:
    """Seconds and CPU seconds of probes of different learning rates, one after the other in this process."""
    found: dict[str, list[float]] = {"seconds": [], "cpu_seconds": []}
    whole = Work.model_validate(read_json(work))
    for number in range(count):
        recipe = {"method": "linear_probe", "learning_rate": 1e-3 * (number + 1)}
        spec = whole.spec.model_copy(update={"finetune": whole.spec.finetune.model_copy(update=recipe)})
        folder = work.parents[2] / "probes" / str(number) / "1"
        one = whole.model_copy(update={"spec": spec, "uid": spec.digest, "folder": str(folder)})
        started, cpu = time.perf_counter(), time.process_time()
        outcome = run_item(one)
        found["seconds"].append(time.perf_counter() - started)
        found["cpu_seconds"].append(time.process_time() - cpu)
        if outcome.metrics.get("epochs") != EPOCHS:
            raise click.ClickException(f"a probe must carry out {EPOCHS} epochs: {outcome.message or outcome.metrics}")
    return found


def probe_rows(found: Mapping[str, list[float]]) -> str:
    """The first, which imports torch and computes the features, and the median of those that follow."""
    lines = []
    for name, pick in (
        ("first of its process", lambda all_: all_[0]),
        ("each after it", lambda all_: statistics.median(all_[1:])),
    ):
        lines.append([name, *(f"{pick(found[key]):.2f}" for key in ("seconds", "cpu_seconds"))])
    return table(["linear probe", "s", "CPU s"], lines)


def measure(settings: Settings, root: Path) -> str:
    """The table, as Markdown.

    Raises:
        ClickException: if a way did not carry out all trials and all their epochs.
    """
    trials, slots = settings.trials, settings.slots
    place = Place(root, task_here(), slots)
    others = {way: options for way, options in OTHERS.items() if options or not settings.reused_only}
    found: dict[str, list[Ended]] = {way: [] for way in (OURS, *others)}
    for number in range(settings.rounds if trials else 0):
        seed = settings.seed + number
        first = place.prepared(seed)
        with ThreadPoolExecutor(len(found) if settings.at_once else 1) as pool:
            ended = {OURS: pool.submit(by_chembench, place, f"round{number}", trials, seed)}
            for way, options in others.items():
                ended[way] = pool.submit(by_tune, trial_file(first), trials, slots, seed, options)
        for way, runs in found.items():
            runs.append(ended[way].result())
            click.echo(f"{way}: {runs[-1].seconds:.0f} s, {runs[-1].cpu_seconds:.0f} CPU s", err=True)
            if runs[-1].epochs != [EPOCHS] * trials:
                raise click.ClickException(f"{way} must carry out {trials} x {EPOCHS} epochs, got {runs[-1].epochs}")
    first = place.prepared(settings.seed)
    task = place.task if place.task == "delaney" else f"{place.task} (delaney-processed.csv is not here)"
    how = "all ways at once" if settings.at_once else "one way after the other"
    seeds = f"seed {settings.seed}" if settings.rounds == 1 else f"one seed a round, from {settings.seed} on"
    searched = (
        f"{trials} trials of {EPOCHS} epochs on {task}, full fine-tuning of one RoBERTa w64x2, {slots} processes, "
        f"{settings.rounds} rounds, {how}, {seeds}; wall time from start to end of the command, and CPU time of all "
        "its processes. Scores: root mean square error on validation in standard deviations, lower is better; medians "
        f"of the rounds.\n\n{rows(found)}\n"
        "The recipes of our first round, each trained once more by both sides in one process, from a head seed of its "
        "own that both were given (trials of one search share theirs, and so its luck); scores as above:\n\n"
        f"{same_points(place.paths('round0'))}\n"
        if trials
        else ""
    )
    trial = trial_file(first)
    return (
        f"{searched}The same recipe in one process, ours and `Trainer`'s in turn, {WARM} turns, CPU time:\n\n"
        f"{warm_rows(*warm(trial, WARM))}\n"
        f"Probes of the frozen checkpoint, {EPOCHS} epochs too, one after the other in one process:\n\n"
        f"{probe_rows(probes(trial, 12))}\n"
        f"{machine(first.environment, ('ray', 'optuna', 'torch', 'transformers'))}"
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command was told."""

    trials: int
    rounds: int
    slots: int
    seed: int
    at_once: bool
    reused_only: bool

    @property
    def words(self) -> str:
        """The command, without ``--write``."""
        flags = " --at-once" * self.at_once + " --reused-only" * self.reused_only
        words = f"python benchmarks/finetuning.py --trials {self.trials} --rounds {self.rounds} --slots {self.slots}"
        return f"{words} --seed {self.seed}{flags}"


def rows(found: dict[str, list[Ended]]) -> str:
    """A line for each way."""
    lines = []
    for way, runs in found.items():
        seconds = [run.seconds for run in runs]
        cpu = [run.cpu_seconds for run in runs]
        ratios = [run.seconds / own.seconds for own, run in zip(found[OURS], runs, strict=True)]
        cpu_ratios = [run.cpu_seconds / own.cpu_seconds for own, run in zip(found[OURS], runs, strict=True)]
        best = statistics.median(min(run.objectives) for run in runs)
        middle = statistics.median(statistics.median(run.objectives) for run in runs)
        line = [way, f"{statistics.median(seconds):.0f}", f"{statistics.median(ratios):.2f}"]
        line += [f"{statistics.median(cpu):.0f}", f"{statistics.median(cpu_ratios):.2f}"]
        lines.append([*line, f"{best:.4f}", f"{middle:.4f}"])
    return table(["way", "s", "times as long", "CPU s", "times as much", "best score", "median score"], lines)


@click.command(help=__doc__)
@click.option("--trials", default=60, show_default=True)
@click.option("--rounds", default=1, show_default=True)
@click.option("--slots", default=2, show_default=True, help="Trials at a time.")
@click.option("--at-once", is_flag=True, help="Run all ways at the same time, where the machine has other work too.")
@click.option(
    "--seed", default=0, show_default=True, help="Of both samplers in the first round; the next has the next."
)
@click.option("--reused-only", is_flag=True, help="Of the other side only the way that keeps its processes.")
@click.option("--write", is_flag=True, help="Put the table into reports/benchmarks.md.")
def main(write: bool, **told: Any) -> None:
    settings = Settings(**told)
    with tempfile.TemporaryDirectory(prefix="b_", ignore_cleanup_errors=True) as root:
        text = measure(settings, Path(root))
    title = "Fine-tuning, a whole search" + (", further seeds" if settings.seed else "")
    publish(title, settings.words, text, write=write)


if __name__ == "__main__":
    main()
