"""Molecules a second in pre-training on one CPU core: chembench's own loop, and `transformers.Trainer`.

All ways are given the same molecules, labels, initial weights, batch size and optimiser, and take turns; CPU time of
one thread is counted, from before the first optimiser step until after the last. Before that, fp32 on both sides must
take the same steps: the losses of three full-batch steps and the validation loss after them are compared.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import click
import hf_trainer
from hf_trainer import PADDED, Timer, Trained, TrainerWay
from tables import machine, publish, table
from transformers.utils import logging as hf_logging

from chembench.chem.tokens import SmilesTokenizer
from chembench.data.corpora import prepare_corpus
from chembench.data.shards import build_shards, open_shards
from chembench.data.specs import CorpusSpec, LabelSpec
from chembench.header import environment_now
from chembench.models.sizes import resolve
from chembench.paths import CachePaths, write_json
from chembench.specs import Inputs, Precision, PretrainSpec
from chembench.sweep.space import ResourcesTable
from chembench.training.attempt import Attempt
from chembench.training.device import threads_set
from chembench.training.pretrain import pretrain

FILES = ("rdkit:NCI/first_5K.smi",)
OURS: dict[Precision, str] = {"bf16": "chembench, bf16", "fp32": "chembench, fp32"}
TRAINERS = (
    TrainerWay("Trainer, dynamic padding"),
    TrainerWay(f"Trainer, padded to {PADDED}", padded_to=PADDED),
    TrainerWay("Trainer, bf16, grouped by length", precision="bf16", by_length=True),
)
TOLERANCE = 1e-4
BF16_TOLERANCE = 2e-2
"""Of the losses in bf16 against those in fp32: the weights are the same, the products are rounded."""
CHECKED = 64
"""Molecules of the steps that are compared."""
LEARNING_RATE = 1e-3
SEEDS = (0, 1, 2)
STUDENT_2 = 4.303
"""97.5 % point of Student's t with 2 degrees of freedom: of an interval over three seeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is trained, and how often."""

    architectures: tuple[str, ...] = ()
    size: str
    molecules: int
    batch_size: int
    device_batch: int = 32
    rounds: int = 1

    @property
    def options(self) -> str:
        named = "".join(f"--architecture {name} " for name in self.architectures)
        return (
            f"{named}--size {self.size} --molecules {self.molecules} --batch-size {self.batch_size} "
            f"--device-batch {self.device_batch} --rounds {self.rounds}"
        )


@dataclass(frozen=True, slots=True)
class World:
    """What both sides read, prepared by the package as for a sweep."""

    tokenizer: SmilesTokenizer
    inputs: Inputs
    outputs: int
    corpus: str
    labels: str

    @classmethod
    def prepare(cls, molecules: int, validation: int, cache: CachePaths) -> World:
        """Tokens and descriptor labels of molecules that come with RDKit."""
        tokenizer = SmilesTokenizer()
        folder = cache.tokenizer(tokenizer.digest)
        tokenizer.save(folder)
        corpus = prepare_corpus(CorpusSpec(files=FILES, validation=validation), cache)
        shards = build_shards(corpus, tokenizer, LabelSpec(statistics_molecules=molecules), molecules, cache)
        inputs = Inputs(
            tokenizer=str(folder),
            shards=tuple(map(str, shards.train)),
            validation_shards=tuple(map(str, shards.validation)),
            statistics=str(shards.statistics),
        )
        return cls(tokenizer, inputs, shards.outputs, corpus.digest, shards.labels_digest)

    def spec(self, architecture: str, setting: Setting, **fields: Any) -> PretrainSpec:
        ids = {"pad_id": self.tokenizer.pad_id, "bos_id": self.tokenizer.bos_id, "eos_id": self.tokenizer.eos_id}
        vocabulary = len(self.tokenizer.vocabulary)
        given: dict[str, Any] = {
            "model": resolve(architecture, setting.size, vocabulary=vocabulary, max_length=512, **ids),
            "outputs": self.outputs,
            "corpus": self.corpus,
            "labels": self.labels,
            "tokenizer": self.tokenizer.digest,
            "learning_rate": LEARNING_RATE,
            "molecules": setting.molecules,
            "batch_size": setting.batch_size,
            "epochs": 1,
        }
        return PretrainSpec(**{**given, **fields})

    def rows(self, spec: PretrainSpec, way: TrainerWay) -> list[dict[str, Any]]:
        """Training molecules as `Trainer` reads them."""
        shards = open_shards(self.inputs.shards, str(self.inputs.statistics), spec.molecules)
        return hf_trainer.rows_of(shards, spec.model.pad_id, way.padded_to or spec.model.max_length)

    def validation_rows(self, spec: PretrainSpec) -> list[dict[str, Any]]:
        shards = open_shards(self.inputs.validation_shards, str(self.inputs.statistics))
        return hf_trainer.rows_of(shards, spec.model.pad_id, spec.model.max_length)


@dataclass(slots=True)
class Steps:
    """Notes when the first optimiser step began and when the last epoch's values were told."""

    began: float = math.nan
    ended: float = math.nan
    train: list[float] = field(default_factory=list)
    valid: list[float] = field(default_factory=list)

    def begin(self) -> bool:
        """Asked before each step whether to stop."""
        if math.isnan(self.began):
            self.began = time.process_time()
        return False

    def report(self, epoch: int, values: Mapping[str, float]) -> bool:
        self.ended = time.process_time()
        self.train.append(values["train/loss"])
        self.valid.append(values["valid/loss"])
        return False


def by_chembench(spec: PretrainSpec, world: World) -> Trained:
    """Carry out ``spec`` as a sweep does; a validation, which `Trainer` is not asked for, counts too."""
    steps = Steps()
    with tempfile.TemporaryDirectory(prefix="bench_") as folder:
        inputs = world.inputs.model_copy(update={"checkpoint": str(Path(folder) / "checkpoint")})
        outcome = pretrain(spec, inputs, steps.report, attempt=Attempt(stop=steps.begin))
    return Trained(steps.ended - steps.began, outcome.molecules_seen, steps.train, steps.valid[-1])


def by_trainer(spec: PretrainSpec, world: World, way: TrainerWay, device_batch: int) -> Trained:
    """Carry out ``spec`` with `Trainer`; the validation comes after the clock was read."""
    rows = world.rows(spec, way)
    with threads_set(spec.threads):
        done, model = hf_trainer.train(spec, rows, way, device_batch, Timer(time.process_time))
        done.valid_loss = hf_trainer.validation_loss(model, world.validation_rows(spec), spec.model.pad_id)
    return done


def check(world: World, architecture: str, size: str) -> str:
    """One line on how far both sides are apart after the same three full-batch steps.

    Raises:
        ClickException: if they are further apart than rounding explains.
    """
    whole = Setting(size=size, molecules=CHECKED, batch_size=CHECKED)
    spec = world.spec(architecture, whole, epochs=3, dropout=0.0)
    ours = by_chembench(spec, world)
    theirs = by_trainer(spec, world, TRAINERS[0], CHECKED)
    rounded = by_chembench(spec.model_copy(update={"precision": "bf16"}), world)

    def apart(first: Trained, second: Trained) -> float:
        pairs = zip([*first.losses, first.valid_loss], [*second.losses, second.valid_loss], strict=True)
        return max(abs(one - other) / other for one, other in pairs)

    for found, bound in ((apart(ours, theirs), TOLERANCE), (apart(rounded, ours), BF16_TOLERANCE)):
        if not found <= bound:
            raise click.ClickException(f"losses of the same steps must agree to {bound:g}, they are {found:.1e} apart")
    return (
        f"{architecture}: losses of three full-batch steps, and the validation loss after them, are "
        f"{apart(ours, theirs):.0e} from `Trainer`'s in fp32, and move by {apart(rounded, ours):.0e} in bf16"
    )


def speeds(world: World, setting: Setting, architecture: str) -> dict[str, list[float]]:
    """Molecules a second of every way in each round.

    Raises:
        ClickException: if one of them did not see every molecule.
    """
    spec = world.spec(architecture, setting)
    ways: dict[str, Callable[[], Trained]] = {
        name: partial(by_chembench, spec.model_copy(update={"precision": precision}), world)
        for precision, name in OURS.items()
    }
    ways |= {way.name: partial(by_trainer, spec, world, way, setting.device_batch) for way in TRAINERS}
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(setting.rounds):
        for name, carry_out in ways.items():
            done = carry_out()
            if done.molecules != spec.molecules:
                raise click.ClickException(f"'{name}' must see {spec.molecules} molecules, it saw {done.molecules}")
            found[name].append(done.molecules / done.seconds)
            click.echo(f"{spec.model.architecture}, {name}: {found[name][-1]:.1f} molecules/s", err=True)
    return found


def speed_table(found: Mapping[str, Mapping[str, list[float]]], chosen: str) -> str:
    """Medians over the rounds, and how many times as fast as each way the ``chosen`` one is, round by round."""
    rows = []
    for architecture, ways in found.items():
        for name, rates in ways.items():
            ratios = [own / other for own, other in zip(ways[chosen], rates, strict=True)]
            of_rounds = f"{min(ratios):.2f} to {max(ratios):.2f}" if name != chosen else ""
            middles = statistics.median(rates), statistics.median(ratios)
            rows.append([architecture, name, f"{middles[0]:.1f}", f"{middles[1]:.2f}", of_rounds])
    return table(["architecture", "way", "molecules/s", f"times as fast: {chosen}", "of the rounds"], rows)


def losses_after(world: World, setting: Setting, epochs: int) -> dict[str, list[float]]:
    """Validation losses after the same number of tokens, for three seeds of each way, all in fp32."""
    by_length = TrainerWay("Trainer, grouped by length", by_length=True)
    found: dict[str, list[float]] = {}
    for seed in SEEDS:
        spec = world.spec("roberta", setting, epochs=epochs, seed=seed)
        found.setdefault("chembench", []).append(by_chembench(spec, world).valid_loss)
        for way in (TRAINERS[0], by_length):
            found.setdefault(way.name, []).append(by_trainer(spec, world, way, spec.batch_size).valid_loss)
    return found


def interval(values: list[float]) -> str:
    """Mean of three values with its 95 % interval."""
    half = STUDENT_2 * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.mean(values):.4f} ± {half:.4f}"


def losses_table(found: Mapping[str, list[float]]) -> str:
    ours = found["chembench"]
    rows = []
    for name, values in found.items():
        apart = [other - own for own, other in zip(ours, values, strict=True)]
        each = ", ".join(f"{value:.4f}" for value in values)
        rows.append([name, each, interval(values), interval(apart) if values is not ours else ""])
    return table(["way", "of the seeds", "mean, 95 % interval", "above chembench, by pairs"], rows)


def where() -> str:
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "environment.json", environment_now())
        return machine(Path(folder) / "environment.json", ("torch", "transformers"))


def compare_speeds(setting: Setting, cache: CachePaths) -> str:
    """The table of speeds, as Markdown."""
    world = World.prepare(setting.molecules, 16, cache)
    checks, found = [], {}
    for architecture in setting.architectures:
        checks.append(check(world, architecture, setting.size))
        found[architecture] = speeds(world, setting, architecture)
    chosen = OURS[ResourcesTable().precision_for(world.spec("roberta", setting).model.hidden)]
    return (
        f"{setting.size}, {setting.molecules:,} molecules, {setting.batch_size} in each optimiser step (`Trainer`: in "
        f"passes of {setting.device_batch}), dropout 0.1, {setting.rounds} rounds in turn, CPU time of one thread. "
        f"At this width a space that says nothing gets {chosen}.\n\n"
        f"{speed_table(found, chosen)}\n{'; '.join(checks)}.\n\n{where()}"
    )


def compare_losses(setting: Setting, epochs: int, cache: CachePaths) -> str:
    """The table of validation losses, as Markdown."""
    world = World.prepare(setting.molecules, 300, cache)
    return (
        f"RoBERTa {setting.size}, {epochs} epochs of {setting.molecules:,} molecules, {setting.batch_size} in each "
        f"optimiser step, fp32, seeds 0 to {len(SEEDS) - 1}; mean absolute error of 300 other molecules.\n\n"
        f"{losses_table(losses_after(world, setting, epochs))}\n{where()}"
    )


@click.command(help=__doc__)
@click.option("--architecture", "architectures", multiple=True, default=("roberta", "bart", "llama"), show_default=True)
@click.option("--size", default="13M", show_default=True, help="With --losses better w64x2.")
@click.option("--molecules", default=512, show_default=True)
@click.option("--batch-size", default=256, show_default=True, help="Molecules of an optimiser step.")
@click.option("--device-batch", default=32, show_default=True, help="Molecules of one pass of Trainer.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--losses", is_flag=True, help="Compare validation losses of RoBERTa after equal tokens instead.")
@click.option("--epochs", default=4, show_default=True, help="Of --losses.")
@click.option("--write", is_flag=True, help="Put the table into reports/benchmarks.md.")
def main(losses: bool, epochs: int, write: bool, **effort: Any) -> None:
    warnings.filterwarnings("ignore")
    hf_logging.set_verbosity_error()
    setting = Setting(**effort)
    command = f"python benchmarks/pretraining.py {setting.options}"
    with tempfile.TemporaryDirectory(prefix="bench_") as folder:
        cache = CachePaths(Path(folder))
        if losses:
            command += f" --losses --epochs {epochs}"
            publish("Pre-training: losses", command, compare_losses(setting, epochs, cache), write=write)
        else:
            publish("Pre-training on a CPU", command, compare_speeds(setting, cache), write=write)


if __name__ == "__main__":
    main()
