"""Cosine and warm-up/stable/decay at three scales: validation loss, molecule passes and CPU time of both.

Each schedule is tried at three learning rates with one seed. The best rate of each, by the mean loss over its scales,
is then trained with two more seeds, and so is the cosine of each scale at the best rate of its own. A cosine is one
pre-training a scale; warm-up/stable/decay is one trunk from which each scale branches off. Every pre-training is named
by what it is and kept in ``--cache-dir``: started again, or several times at once, the script goes on with what is
missing; ``--write`` then writes ``reports/schedules.md``.
"""

from __future__ import annotations

import fcntl
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click
from tables import machine, table

from chembench.chem.tokens import SmilesTokenizer
from chembench.config import stable_seed
from chembench.data.corpora import prepare_corpus
from chembench.data.shards import build_shards
from chembench.data.specs import CorpusSpec, LabelSpec
from chembench.header import environment_now
from chembench.models.sizes import count_parameters, resolve
from chembench.paths import CachePaths, read_json, write_json, written_whole
from chembench.specs import Inputs, PretrainSpec
from chembench.training.pretrain import pretrain
from chembench.training.schedule import total_steps, warmup_steps

REPORT = Path(__file__).resolve().parents[1] / "reports" / "schedules.md"
Name = Literal["cosine", "wsd"]
SCHEDULES: tuple[Name, ...] = ("cosine", "wsd")
RATES = (2e-3, 4e-3, 8e-3)
SEEDS = (0, 1, 2)
SCALES = (32_000, 64_000, 96_000)
VALIDATION = 4_000
SIZE, BATCH, DECAY = "w96x2", 64, 0.1
STUDENT_2 = 4.303
"""97.5 % point of Student's t with 2 degrees of freedom: of an interval over three seeds."""


@dataclass(frozen=True, slots=True)
class World:
    """What every pre-training reads, and where it is kept."""

    cache: CachePaths
    inputs: Inputs
    fields: dict[str, Any]
    parameters: int

    @classmethod
    def prepare(cls, file: Path, cache: CachePaths) -> World:
        tokenizer = SmilesTokenizer()
        folder = cache.tokenizer(tokenizer.digest)
        tokenizer.save(folder)
        corpus = prepare_corpus(CorpusSpec(files=(str(file),), validation=VALIDATION), cache)
        shards = build_shards(corpus, tokenizer, LabelSpec(descriptors="paper105"), SCALES[-1], cache)
        ids = {"pad_id": tokenizer.pad_id, "bos_id": tokenizer.bos_id, "eos_id": tokenizer.eos_id}
        model = resolve("roberta", SIZE, vocabulary=len(tokenizer.vocabulary), max_length=512, **ids)
        named = {"corpus": corpus.digest, "labels": shards.labels_digest, "tokenizer": tokenizer.digest}
        inputs = Inputs(
            tokenizer=str(folder),
            shards=tuple(map(str, shards.train)),
            validation_shards=tuple(map(str, shards.validation)),
            statistics=str(shards.statistics),
        )
        fields = {"model": model, "outputs": shards.outputs, "batch_size": BATCH, "epochs": 1, **named}
        return cls(cache, inputs, fields, count_parameters(model, shards.outputs))

    def chain(self, schedule: Name, rate: float, seed: int) -> tuple[PretrainSpec, ...]:
        """The pre-trainings of all scales, the smallest first."""
        found: list[PretrainSpec] = []
        for molecules in SCALES:
            own: dict[str, Any] = {"molecules": molecules, "learning_rate": rate}
            own["seed"] = stable_seed(0, "pretrain", seed)
            spec = PretrainSpec(**self.fields, **own)
            if schedule == "wsd":
                warmup = found[0].warmup_steps if found else warmup_steps(spec)
                sharing = {"share_trunk": True, "continues": found[-1].digest if found else None}
                spec = PretrainSpec(
                    **self.fields, **own, schedule="wsd", decay_fraction=DECAY, warmup_steps=warmup, **sharing
                )
            found.append(spec)
        return tuple(found)

    def jobs(self, schedule: Name, rate: float, seed: int) -> list[tuple[PretrainSpec, ...]]:
        """What has to be trained in order: each cosine by itself, a trunk with its branches one after the other."""
        chain = self.chain(schedule, rate, seed)
        return [chain] if schedule == "wsd" else [(spec,) for spec in reversed(chain)]

    def record(self, spec: PretrainSpec) -> Path:
        return self.cache.root / "schedules" / f"{spec.digest}.json"

    def result(self, spec: PretrainSpec) -> dict[str, Any]:
        return dict(read_json(self.record(spec)))

    def is_done(self, job: Sequence[PretrainSpec]) -> bool:
        return all(self.record(spec).is_file() for spec in job)

    def train(self, spec: PretrainSpec) -> None:
        """One pre-training and what came out of it; nothing where that is written down already."""
        if self.is_done([spec]):
            return
        trunk = str(self.cache.pretrained(spec.continues)) if spec.continues else None
        places = {"checkpoint": str(self.cache.pretrained(spec.digest)), "trunk": trunk}
        began = time.process_time()
        outcome = pretrain(spec, self.inputs.model_copy(update=places), lambda epoch, values: False)
        told = {"loss": outcome.metrics["valid/loss"], "passes": outcome.molecules_seen, "reused": outcome.reused}
        told |= {"cpu_seconds": time.process_time() - began}
        write_json(self.record(spec), told)
        click.echo(f"{spec.schedule} {spec.molecules} rate {spec.learning_rate:g} seed {spec.seed}: {told}")

    def require_same(self, spec: PretrainSpec) -> None:
        """Train once more, and hold the loss against the one that is kept: it may be of other code."""
        with tempfile.TemporaryDirectory() as folder:
            inputs = self.inputs.model_copy(update={"checkpoint": f"{folder}/again"})
            loss = pretrain(spec, inputs, lambda epoch, values: False).metrics["valid/loss"]
        if loss != self.result(spec)["loss"]:
            raise click.ClickException(f"{spec.digest} gave {self.result(spec)['loss']}, now {loss}; use a new cache")


@contextmanager
def claimed(file: Path) -> Iterator[bool]:
    """Whether no other process of this script is at this job now; none takes it within the block."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def carry_out(world: World, jobs: Sequence[tuple[PretrainSpec, ...]]) -> None:
    """Do what is missing, beside other processes that do the same; returns when all is done."""
    while not all(map(world.is_done, jobs)):
        for job in jobs:
            with claimed(world.cache.root / "schedules" / f"{job[-1].digest}.lock") as is_mine:
                if is_mine:
                    for spec in job:
                        world.train(spec)
        time.sleep(5)


def losses(world: World, schedule: Name, rate: float, seed: int) -> list[float]:
    return [world.result(spec)["loss"] for spec in world.chain(schedule, rate, seed)]


def best_rate(world: World, schedule: Name) -> float:
    """The rate with the lowest mean loss over the scales, by the first seed."""
    return min(RATES, key=lambda rate: statistics.mean(losses(world, schedule, rate, SEEDS[0])))


def own_rates(world: World) -> list[float]:
    """The best rate of the cosine of each scale by itself, by the first seed."""
    found = {rate: losses(world, "cosine", rate, SEEDS[0]) for rate in RATES}
    return [min(RATES, key=lambda rate: found[rate][place]) for place in range(len(SCALES))]


def own_losses(world: World, seed: int) -> list[float]:
    """Of the cosine of each scale at the best rate of its own."""
    specs = [world.chain("cosine", rate, seed)[place] for place, rate in enumerate(own_rates(world))]
    return [world.result(spec)["loss"] for spec in specs]


def interval(values: Sequence[float]) -> str:
    """Mean and 95 % interval over three seeds."""
    half = STUDENT_2 * statistics.stdev(values) / len(values) ** 0.5
    mean = statistics.mean(values)
    return f"{mean:+.4f} [{mean - half:+.4f}, {mean + half:+.4f}]"


def verdict(values: Sequence[float]) -> str:
    half, mean = STUDENT_2 * statistics.stdev(values) / len(values) ** 0.5, statistics.mean(values)
    if mean + half < 0:
        return "wsd lower"
    return "cosine lower" if mean - half > 0 else "not separated"


def rates_table(world: World) -> str:
    rows = [
        [schedule, f"{rate:g}", *(f"{loss:.4f}" for loss in losses(world, schedule, rate, SEEDS[0]))]
        for schedule in SCHEDULES
        for rate in RATES
    ]
    return table(["schedule", "rate", *(f"{scale:,}" for scale in SCALES)], rows)


def seeds_table(cosines: Sequence[Sequence[float]], trunks: Sequence[Sequence[float]]) -> str:
    """The comparison, scale by scale, of losses by seed and scale."""
    rows = []
    for scale, cosine, wsd in zip(SCALES, zip(*cosines, strict=True), zip(*trunks, strict=True), strict=True):
        paired = [one - other for one, other in zip(wsd, cosine, strict=True)]
        shown = [", ".join(f"{loss:.4f}" for loss in own) for own in (cosine, wsd)]
        rows.append([f"{scale:,}", *shown, interval(paired), verdict(paired)])
    return table(["molecules", "cosine, by seed", "wsd, by seed", "wsd - cosine, 95 %", "reading"], rows)


def cost_table(world: World, best: dict[Name, float]) -> str:
    rows = []
    for name in SCHEDULES:
        told = [[world.result(spec) for spec in world.chain(name, best[name], seed)] for seed in SEEDS]
        passes = [one["passes"] for one in told[0]]
        seconds = [statistics.mean(run[place]["cpu_seconds"] for run in told) for place in range(len(SCALES))]
        rows.append([name, *(f"{n:,}" for n in passes), f"{sum(passes):,}", f"{sum(seconds):,.0f} s"])
    head = ["schedule", *(f"passes for {scale:,}" for scale in SCALES), "all passes", "CPU time, mean of seeds"]
    return table(head, rows)


def report(world: World, command: str) -> str:
    """The whole report as Markdown."""
    best: dict[Name, float] = {name: best_rate(world, name) for name in SCHEDULES}
    environment = world.cache.root / "schedules" / "environment.json"
    write_json(environment, environment_now())
    steps, *_, longest = (total_steps(spec) for spec in world.chain("cosine", RATES[0], SEEDS[0]))
    for name in SCHEDULES:
        world.require_same(world.chain(name, best[name], SEEDS[0])[0])
    cosines, trunks = ([losses(world, name, best[name], seed) for seed in SEEDS] for name in SCHEDULES)
    own = ", ".join(f"{rate:g} for {scale:,}" for rate, scale in zip(own_rates(world), SCALES, strict=True))
    edges = [f"{name} {best[name]:g}" for name in SCHEDULES if best[name] in (RATES[0], RATES[-1])]
    chosen = zip(own_rates(world), SCALES, strict=True)
    edges += [f"cosine {rate:g} for {scale:,}" for rate, scale in chosen if rate in (RATES[0], RATES[-1])]
    at_edge = f" At the edge of the rates that were tried: {', '.join(edges)}." if edges else ""
    return f"""# Cosine and warm-up/stable/decay

`{command}`

{machine(environment, ("torch", "transformers", "numpy", "rdkit"))}
RoBERTa {SIZE}, {world.parameters:,} parameters, fp32, one thread; one pass over {SCALES[0]:,}, {SCALES[1]:,} and
{SCALES[2]:,} molecules in steps of {BATCH}; the 105 descriptors of the paper; loss: mean absolute error of
standardised labels on {VALIDATION:,} molecules set aside. Decay over the last {DECAY:.0%} of the steps of each
scale (wsd); warm-up over 6 % of its steps (cosine) or of the smallest scale's, {round(0.06 * steps)} steps (wsd).
At this commit the smallest scale of each was trained once more at its best rate, and gave the same losses to the
last digit.

## Every rate, one seed

{rates_table(world)}
Best mean over the scales: cosine {best["cosine"]:g}, wsd {best["wsd"]:g}.{at_edge}

## The best rate of each, three seeds

{seeds_table(cosines, trunks)}
## Each cosine at the best rate of its own scale, three seeds

Cosines are separate trainings, so each scale may have a rate of its own: {own}. A trunk has one, {best["wsd"]:g}.

{seeds_table([own_losses(world, seed) for seed in SEEDS], trunks)}
## What it cost

{cost_table(world, best)}
## How to read it

- Differences are paired by seed: initial weights are equal. Besides the shape of the rate two things differ: the order
  of molecules (a cosine permutes all of its scale, a trunk permutes within blocks) and, above the smallest scale, the
  warm-up. What the table shows is of all three together. The interval is Student's with 2 degrees of freedom, for each
  scale by itself: three intervals are not corrected for being three, and the scales of one seed share a trunk, so they
  are not independent of each other.
- The first seed chose the rates and is among the three, which flatters whichever had more to choose from: the cosines
  with a rate for each scale most. Three rates a factor of two apart say little about the optimum of either.
- A training that breaks at its rate stands in the table like any other. A trunk that breaks takes all its scales along,
  and one broken seed of three makes an interval wide.
- How the difference changes from scale to scale matters more than its size at one: runs this short favour whichever
  schedule holds a high rate for longer.
- `not separated` is no proof of equality: the interval says how large a difference may still be.
- This is one small model, one corpus, one pass and runs of {steps:,} to {longest:,} steps.
  Nothing here says how the two compare at tens of millions of molecules.
- CPU time was taken on a machine that did other work too, and varies with it; passes do not.
"""


@click.command(help=__doc__)
@click.option(
    "--file", required=True, type=click.Path(exists=True, path_type=Path), help="SMILES of 100,000 molecules."
)
@click.option("--cache-dir", required=True, type=click.Path(path_type=Path), help="Where pre-trainings are kept.")
@click.option("--write", is_flag=True, help="Write reports/schedules.md.")
def main(file: Path, cache_dir: Path, write: bool) -> None:
    world = World.prepare(file, CachePaths(cache_dir))
    carry_out(world, [job for rate in RATES for name in SCHEDULES for job in world.jobs(name, rate, SEEDS[0])])
    best = {name: best_rate(world, name) for name in SCHEDULES}
    own = list(enumerate(own_rates(world)))
    carry_out(world, [(world.chain("cosine", rate, seed)[place],) for seed in SEEDS for place, rate in reversed(own)])
    carry_out(world, [job for seed in SEEDS for name in SCHEDULES for job in world.jobs(name, best[name], seed)])
    text = report(world, f"python benchmarks/schedules.py --file {file.name} --cache-dir CACHE --write")
    click.echo(text)
    if write:
        with written_whole(REPORT) as part:
            part.write_text(text)


if __name__ == "__main__":
    main()
