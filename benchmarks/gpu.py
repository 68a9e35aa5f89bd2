"""Pre-training on a GPU: molecules a second, and their share of what matrix products reach, beside `Trainer`.

Needs torch, transformers with accelerate, numpy, pydantic and this package; no rdkit, no data, no network. Molecules
are made up: random tokens with the lengths of real SMILES, random labels. The first steps of a run are not counted.
The share is that of the operations which the real tokens need, as `chembench.models.sizes.flops_per_token` counts them,
in the rate of a large bf16 matrix product that is measured here. RoBERTa and LLaMA leave out of their last layer what
no pooled token reads, so that chembench carries out fewer than are counted: at 13M about seven eighths. Last lines tell
what small fine-tunings cost together (`joint.py`). Axes: N molecules, K labels.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import hf_trainer
import joint
import numpy as np
import torch
import transformers
from hf_trainer import PADDED, Timer, Trained, TrainerWay

from chembench.chem.tokens import SmilesTokenizer
from chembench.data.batches import Packing
from chembench.data.shards import open_shards, write_shard
from chembench.data.statistics import label_statistics, save_statistics
from chembench.errors import ConfigError
from chembench.models.sizes import flops_per_token, resolve
from chembench.paths import built_whole
from chembench.specs import Inputs, PretrainSpec
from chembench.training.attempt import Attempt
from chembench.training.device import CUDA, Device, resolve_device
from chembench.training.hardware import DeviceName
from chembench.training.pretrain import pretrain

LENGTHS = {0.0: 4, 0.01: 9, 0.05: 13, 0.1: 16, 0.25: 22, 0.5: 29, 0.75: 39, 0.9: 51, 0.95: 59, 0.99: 89, 1.0: 278}
"""Quantile -> tokens, start and end included, of the 4,991 molecules in RDKit's NCI/first_5K.smi."""
ON_GPU = "Pre-training on a GPU"
ABSENT = """Not measured: no GPU was at hand. The goals for 30M are 35 % of the rate of a large bf16 matrix product and
five times `Trainer` padded to 128. `tests/flow/test_gpu_benchmark.py` carries the script out on a CPU at toy size.

Until it has been measured, sweeps on a GPU run uncompiled, as lengths differ from step to step; the script times the
same with `torch.compile`.

Small fine-tunings are not trained together in sweeps: on a CPU, which launches nothing, that is 6 to 11 % slower
(`benchmarks/joint.py`), and whether it pays on a GPU is what the last lines of this script would tell.
"""
LABELS = 200
UNKNOWN = 0.01
"""Share of the labels that are NaN."""
OURS = "chembench"


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is run."""

    batch_size: int
    device_batch: int
    """Molecules of one pass of `Trainer`."""
    steps: int
    first: int
    """Steps before the clock starts."""
    matmul: int
    """Rows of the square matrices whose product is measured."""

    @property
    def molecules(self) -> int:
        return self.batch_size * self.steps

    @property
    def timed(self) -> int:
        """Molecules of the steps that count."""
        return self.batch_size * (self.steps - self.first)


FULL = Effort(batch_size=2048, device_batch=512, steps=24, first=8, matmul=8192)
QUICK = Effort(batch_size=32, device_batch=16, steps=3, first=1, matmul=256)


class Clock:
    """Seconds, once the device has done all that it was told."""

    def __init__(self, device: Device) -> None:
        self.device = device

    def __call__(self) -> float:
        if self.device.name == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


# ---------------------------------------------------------------------------------------------------- made-up molecules


@dataclass(frozen=True, slots=True)
class World:
    """Shards, statistics and tokenizer on disk, as a sweep prepares them."""

    tokenizer: SmilesTokenizer
    inputs: Inputs
    mean_length: float

    @classmethod
    def make(cls, molecules: int, root: Path) -> World:
        tokenizer = SmilesTokenizer()
        tokenizer.save(root / "tokenizer")
        generator = np.random.default_rng(0)
        mean_length = write(root / "train", tokenizer, molecules, generator)
        write(root / "validation", tokenizer, 16, generator)
        names = [f"label{number}" for number in range(LABELS)]
        statistics = label_statistics(generator.standard_normal((1000, LABELS)).astype(np.float32), names, "none", 10.0)
        save_statistics(statistics, root / "statistics")
        inputs = Inputs(
            tokenizer=str(root / "tokenizer"),
            shards=(str(root / "train"),),
            validation_shards=(str(root / "validation"),),
            statistics=str(root / "statistics"),
        )
        return cls(tokenizer, inputs, mean_length)

    def spec(self, architecture: str, size: str, effort: Effort) -> PretrainSpec:
        tokenizer = self.tokenizer
        return PretrainSpec(
            model=resolve(
                architecture,
                size,
                vocabulary=len(tokenizer.vocabulary),
                max_length=512,
                pad_id=tokenizer.pad_id,
                bos_id=tokenizer.bos_id,
                eos_id=tokenizer.eos_id,
            ),
            outputs=LABELS,
            corpus="made up",
            labels="made up",
            tokenizer=tokenizer.digest,
            learning_rate=1e-4,
            molecules=effort.molecules,
            batch_size=effort.batch_size,
            epochs=1,
            precision="bf16",
        )


def write(folder: Path, tokenizer: SmilesTokenizer, molecules: int, generator: np.random.Generator) -> float:
    """Write one shard of made-up molecules; their mean length."""
    lengths_N = np.interp(generator.random(molecules), list(LENGTHS), list(LENGTHS.values())).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths_N)])
    special = {tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id}
    ordinary = np.array([token for token in range(len(tokenizer.vocabulary)) if token not in special], np.uint16)
    stream = generator.choice(ordinary, int(offsets[-1]))
    stream[offsets[:-1]], stream[offsets[1:] - 1] = tokenizer.bos_id, tokenizer.eos_id
    labels_NK = generator.standard_normal((molecules, LABELS)).astype(np.float32)
    labels_NK[generator.random(labels_NK.shape) < UNKNOWN] = np.nan
    names = [f"label{number}" for number in range(LABELS)]
    manifest = {"corpus": "made up", "part": folder.name, "start": 0, "stop": molecules, "names": names}
    with built_whole(folder) as part:
        write_shard(part, stream, offsets, labels_NK, {**manifest, "tokenizer": tokenizer.digest})
    return float(lengths_N.mean())


# ------------------------------------------------------------------------------------------------------------- the ways


def matmul_rate(device: Device, size: int, clock: Clock) -> float:
    """Operations a second of bf16 matrix products: the best of five turns."""
    one, other = (torch.randn(size, size, device=device.torch, dtype=torch.bfloat16) for _ in range(2))
    best = math.inf
    for _ in range(6):  # the first one chooses a kernel
        started = clock()
        for _ in range(20):
            torch.mm(one, other)
        best = min(best, clock() - started)
    return 20 * 2 * size**3 / best


def by_chembench(spec: PretrainSpec, world: World, effort: Effort, device: Device) -> float:
    """Molecules a second of the loop that sweeps use."""
    clock, moments, asked = Clock(device), [], iter(range(effort.steps))

    def before_a_step() -> bool:
        if next(asked) == effort.first:
            moments.append(clock())
        return False

    def report(epoch: int, values: Mapping[str, float]) -> bool:
        moments.append(clock())
        return False

    with tempfile.TemporaryDirectory() as folder:
        inputs = world.inputs.model_copy(update={"checkpoint": str(Path(folder) / "checkpoint")})
        pretrain(spec, inputs, report, device=device, attempt=Attempt(stop=before_a_step))
    began, ended = moments
    return effort.timed / (ended - began)


def by_trainer(spec: PretrainSpec, world: World, effort: Effort, way: TrainerWay, device: Device) -> float:
    """Molecules a second of `Trainer`."""
    shards = open_shards(world.inputs.shards, str(world.inputs.statistics), spec.molecules)
    rows = hf_trainer.rows_of(shards, spec.model.pad_id, way.padded_to or spec.model.max_length)
    done: Trained
    done, _ = hf_trainer.train(spec, rows, way, effort.device_batch, Timer(Clock(device), effort.first))
    if done.molecules != effort.molecules:
        sys.exit(f"'{way.name}' must see {effort.molecules} molecules, it saw {done.molecules}")
    return effort.timed / done.seconds


def ways(spec: PretrainSpec, world: World, effort: Effort, device: Device) -> dict[str, Callable[[], float]]:
    """What is compared; on a GPU also the variants of chembench that only a measurement can choose between."""
    own = partial(by_chembench, spec, world, effort)
    found: dict[str, Callable[[], float]] = {OURS: partial(own, device)}
    if device is CUDA:
        one_length = replace(CUDA, packing=Packing(CUDA.packing.token_budget, pass_cost=0))
        found["chembench, one length a pass, no masks"] = partial(own, one_length)
        found["chembench, compiled"] = partial(own, replace(CUDA, compiled=True))
    for way in (
        TrainerWay(f"Trainer, bf16, padded to {PADDED}", PADDED, "bf16", device=device.name),
        TrainerWay("Trainer, bf16, dynamic padding", None, "bf16", device=device.name),
    ):
        found[way.name] = partial(by_trainer, spec, world, effort, way, device)
    return found


def measure(models: Sequence[tuple[str, str]], effort: Effort, device: Device) -> str:
    """The table, as Markdown."""
    rate = matmul_rate(device, effort.matmul, Clock(device))
    lines = ["| model | way | molecules/s | of the matmul rate | chembench: times as fast |", "|" + " --- |" * 5]
    with tempfile.TemporaryDirectory() as root:
        world = World.make(effort.molecules, Path(root))
        for architecture, size in models:
            spec = world.spec(architecture, size, effort)
            operations = flops_per_token(spec.model, LABELS, world.mean_length) * world.mean_length
            found = {name: carry_out() for name, carry_out in ways(spec, world, effort, device).items()}
            for name, speed in found.items():
                share, times = operations * speed / rate, found[OURS] / speed
                lines.append(f"| {architecture} {size} | {name} | {speed:,.0f} | {share:.1%} | {times:.2f} |")
    where = torch.cuda.get_device_name() if device.name == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    return (
        f"{effort.batch_size:,} molecules in each optimiser step (`Trainer`: in passes of {effort.device_batch}), "
        f"{world.mean_length:.1f} tokens each, steps {effort.first + 1} to {effort.steps}, bf16.\n"
        f"Matrix products of {effort.matmul} x {effort.matmul} in bf16: {rate / 1e12:,.2f} TFLOP/s.\n\n"
        + "\n".join(lines)
        + f"\n\n{where}; torch {torch.__version__}, transformers {transformers.__version__}.\n"
    )


def joint_lines(architectures: Sequence[str], quick: bool, device: Device) -> str:
    """A line for each architecture: fine-tunings of small models together, and one after the other."""
    tokenizer, effort = SmilesTokenizer(), joint.QUICK if quick else joint.FULL
    lines = []
    for architecture in architectures:
        spec = resolve(
            architecture,
            "w32x1" if quick else "w64x2",
            vocabulary=len(tokenizer.vocabulary),
            max_length=512,
            pad_id=tokenizer.pad_id,
            bos_id=tokenizer.bos_id,
            eos_id=tokenizer.eos_id,
        )
        lines.append(joint.compared(spec, effort, device.torch, Clock(device)))
    return "\n".join(lines) + "\n"


def arguments_of(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny models and few steps, to see that it works")
    parser.add_argument("--architecture", nargs="+", default=["roberta", "bart", "llama"])
    parser.add_argument("--size", nargs="+", help="13M and 30M; with --quick w32x1")
    parser.add_argument("--batch-size", type=int, help="molecules of an optimiser step")
    parser.add_argument("--device-batch", type=int, help="molecules of one pass of Trainer")
    parser.add_argument("--write", action="store_true", help="put the table into reports/benchmarks.md")
    parser.add_argument("--none-here", action="store_true", help="say there that no GPU was, unless it holds figures")
    return parser.parse_args(argv)


def say_that_none_was() -> None:
    """Put into the report that nothing was measured, where it holds no figures of a GPU."""
    from tables import REPORT, publish

    report = REPORT.read_text() if REPORT.is_file() else ""
    if f"## {ON_GPU}\n" not in report or ABSENT.splitlines()[0] in report:
        publish(ON_GPU, "python benchmarks/gpu.py", ABSENT, write=True)


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments_of(argv)
    if given.none_here:
        say_that_none_was()
        return
    warnings.filterwarnings("ignore")
    transformers.utils.logging.set_verbosity_error()
    name: DeviceName = given.device
    effort = QUICK if given.quick else FULL
    effort = replace(
        effort,
        batch_size=given.batch_size or effort.batch_size,
        device_batch=given.device_batch or effort.device_batch,
    )
    models = [
        (one, size)
        for size in given.size or (["w32x1"] if given.quick else ["13M", "30M"])
        for one in given.architecture
    ]
    try:
        device = resolve_device(name)
    except ConfigError as error:
        sys.exit(f"{error}, or --device cpu --quick here")
    text = measure(models, effort, device) + "\n" + joint_lines(given.architecture, given.quick, device)
    if given.write:
        from tables import publish

        command = " ".join(["python benchmarks/gpu.py", *(sys.argv[1:] if argv is None else argv)])
        publish(ON_GPU if name == "cuda" else "Pre-training on a CPU, as on a GPU", command, text, write=True)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
