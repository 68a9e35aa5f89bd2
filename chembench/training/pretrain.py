"""Pre-training: a model learns to predict the descriptors of molecules from their SMILES, from random weights on.

Axes: N molecules of the set, B of a micro-batch, T tokens, K descriptors.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chembench.config import stable_seed
from chembench.data.batches import epoch_steps, prefix_steps, steps_per_epoch
from chembench.data.shards import Shards, open_shards
from chembench.errors import DataError, RunError
from chembench.models.base import PretrainingModel, build_pretraining_model, load_tensors, tensors_to_save
from chembench.specs import Inputs, PretrainSpec
from chembench.training.attempt import Attempt, State, load_state, save_state
from chembench.training.checkpoint import (
    TRUNK,
    Checkpoint,
    DamagedError,
    damaged_told,
    find_whole,
    read_checkpoint,
    save_checkpoint,
)
from chembench.training.device import (
    CPU,
    Device,
    generator_states,
    precision_set,
    restore_generators,
    seeded,
    threads_set,
)
from chembench.training.hardware import measured_cost
from chembench.training.loop import Lesson, OptimiserSettings, Report, Stepper, element_loss, to_device
from chembench.training.memory import MicroBatches, memory_faults_told
from chembench.training.resident import Hosted, Molecules, molecules_on
from chembench.training.schedule import factor_of, total_steps, trunk_steps

Ints = NDArray[np.int64]
Predictor = Callable[[Tensor, Tensor | None], Tensor]


@dataclass(frozen=True, slots=True)
class PretrainOutcome:
    """What came out of a pre-training; the weights lie in ``checkpoint``."""

    checkpoint: Checkpoint
    reused: bool
    """True where the folder existed already and nothing was trained."""
    molecules_seen: int
    """Those of earlier attempts counted in, those of a trunk left out; 0 where nothing was trained."""

    @property
    def metrics(self) -> dict[str, float]:
        return dict(self.checkpoint.training["metrics"])

    @property
    def facts(self) -> dict[str, Any]:
        return dict(self.checkpoint.training["facts"])

    @property
    def built(self) -> dict[str, Any]:
        """Measured cost of the attempt that made the weights."""
        return dict(self.checkpoint.training["built"])


@dataclass(slots=True, kw_only=True)
class PretrainState(State):
    """Everything a stopped pre-training needs to go on as if it had not been stopped."""

    loss_sum: float
    """Running training loss of the epoch, and the number of labels in it."""
    labels: int
    rng: list[Tensor]
    """Of the generators: the CPU's, then the GPU's."""
    model: dict[str, Tensor]
    optimiser: dict[str, Any]
    curve: list[dict[str, float]]
    """Values of the epochs that are done."""
    kept: list[dict[str, Tensor]]
    """Weights after each of them, where they are asked for."""
    halvings: int
    token_budget: int
    began_at: int = 0
    """Steps that were taken over from the pre-training that this one continues."""
    trunk: dict[str, Any] | None = None
    """The state before the decay, once it is reached and if it is to be kept."""


def pretrain(
    spec: PretrainSpec,
    inputs: Inputs,
    report: Report,
    *,
    device: Device = CPU,
    attempt: Attempt | None = None,
) -> PretrainOutcome:
    """Train the model of ``spec`` and write it to ``inputs.checkpoint``; a whole folder that exists is used as it is.

    Args:
        spec: what to train.
        inputs: shards, validation shards, statistics, tokenizer, and the folder to write.
        report: called after each epoch; what it returns is not used.
        device: where to train.
        attempt: what it goes on from, where it keeps its state, who asks it to stop.

    Raises:
        DataError: if an input is missing or is not what the specification names.
        RunError: with cause ``nan``, ``oom`` or ``preempted``.
    """
    attempt = attempt or Attempt()
    folder = Path(_required(inputs.checkpoint, "checkpoint"))
    there = _whole_one(folder, spec, attempt)
    if there is not None:
        return _told(PretrainOutcome(there, True, 0), report)
    started = time.monotonic()
    with threads_set(spec.threads), memory_faults_told(), seeded(stable_seed("pretrain", spec.seed)):
        run = _Run.begin(spec, inputs, MicroBatches.of(spec.model, device, attempt.measured))
        state = attempt.newest(PretrainState, spec.digest)
        if state is not None:
            run.go_on_from(state)
        elif spec.continues is not None:
            run.begin_with_trunk(Path(_required(inputs.trunk, "trunk")), spec.continues)
        resumed_at = run.stepper.steps_done
        for values in run.curve:
            report(int(values["epoch"]), values)
        _train(run, report, attempt)
        training: dict[str, Any] = {"metrics": run.metrics(), "facts": run.facts(), "curve": run.curve}
        spent = measured_cost(device.name, spec.threads, time.monotonic() - started, attempt.earlier_seconds)
        training["built"] = {**spent, "resumed_at": resumed_at}
        weights = [*run.kept, tensors_to_save(run.model)]
    tokenizer = Path(_required(inputs.tokenizer, "tokenizer"))
    save_checkpoint(folder, spec, run.train.names, weights, training, tokenizer, run.keep_trunk)
    return PretrainOutcome(read_checkpoint(folder, spec.digest), False, _molecules_at(run) - run.molecules_shared)


def _whole_one(folder: Path, spec: PretrainSpec, attempt: Attempt) -> Checkpoint | None:
    """The model that lies in ``folder``; none if it has to be made, also because what lies there is damaged."""
    if not folder.is_dir():
        return None
    try:
        return find_whole(folder, spec.digest)
    except DamagedError as error:
        attempt.measured["refused_checkpoint"] = str(error)
        return None


def _told(outcome: PretrainOutcome, report: Report) -> PretrainOutcome:
    for values in outcome.checkpoint.training["curve"]:
        report(int(values["epoch"]), values)
    return outcome


def _required(place: str | None, name: str) -> str:
    if place is None:
        raise DataError(f"a pre-training reads inputs.{name}, none is given; prepare the inputs of the space again")
    return place


@dataclass(slots=True)
class _Run:
    """A pre-training on its way."""

    spec: PretrainSpec
    micro: MicroBatches
    train: Shards
    valid: Shards
    model: PretrainingModel
    stepper: Stepper
    curve: list[dict[str, float]] = field(default_factory=list)
    kept: list[dict[str, Tensor]] = field(default_factory=list)
    began_at: int = 0
    trunk: dict[str, Any] | None = None

    @classmethod
    def begin(cls, spec: PretrainSpec, inputs: Inputs, micro: MicroBatches) -> _Run:
        train, valid = _open(spec, inputs)
        model = build_pretraining_model(spec.model, spec.outputs, spec.seed, spec.dropout, spec.attention_dropout)
        model.to(micro.device.torch)
        settings = OptimiserSettings(
            learning_rate=spec.learning_rate,
            weight_decay=spec.weight_decay,
            warmup_fraction=spec.warmup_fraction,
            max_grad_norm=spec.max_grad_norm,
            total_steps=total_steps(spec),
            rate=partial(factor_of, spec),
        )
        molecules = molecules_on(train, model.backbone, micro.device)
        called: Predictor = torch.compile(model, dynamic=True) if micro.device.compiled else model
        lesson = Lesson(
            np.minimum(train.lengths_N, spec.model.max_length),
            lambda indices_B: _predicted(spec, called, molecules, indices_B, micro.device),
            molecules.labels,
            element_loss(spec.loss),
        )
        return cls(spec, micro, train, valid, model, Stepper(model.parameters(), settings, lesson, micro))

    def state(self) -> PretrainState:
        loss_sum, labels = self.stepper.running
        return PretrainState(
            digest=self.spec.digest,
            step=self.stepper.steps_done,
            loss_sum=loss_sum,
            labels=labels,
            rng=generator_states(self.micro.device),
            model=tensors_to_save(self.model),
            optimiser=self.stepper.optimiser.state_dict(),
            curve=self.curve,
            kept=self.kept,
            halvings=self.micro.halvings,
            token_budget=self.micro.packing.token_budget,
            began_at=self.began_at,
            trunk=self.trunk,
        )

    @property
    def molecules_shared(self) -> int:
        """Molecules that were shown to the pre-training which this one continues, and not again."""
        return self.began_at * self.spec.batch_size

    def hold_trunk(self) -> None:
        """Hold on to the state as it is now: a longer pre-training continues from it."""
        state = self.state()
        self.trunk = {part.name: deepcopy(getattr(state, part.name)) for part in fields(state)}

    def keep_trunk(self, folder: Path) -> None:
        """Write what `hold_trunk` held, if there is anything, into a checkpoint."""
        if self.trunk is not None:
            save_state(folder / TRUNK, PretrainState(**self.trunk))

    def begin_with_trunk(self, folder: Path, digest: str) -> None:
        """Begin where the pre-training in ``folder`` stood before its decay.

        Raises:
            DataError: if that is not there, or is damaged.
        """
        with damaged_told(folder):
            self.go_on_from(load_state(folder / TRUNK, PretrainState, digest))
        self.began_at, self.trunk = self.stepper.steps_done, None

    def go_on_from(self, state: PretrainState) -> None:
        self.began_at, self.trunk = state.began_at, state.trunk
        load_tensors(self.model, state.model)
        self.stepper.optimiser.load_state_dict(state.optimiser)
        self.stepper.go_on_from(state.step, (state.loss_sum, state.labels))
        self.curve, self.kept = state.curve, state.kept
        self.micro.go_on_from(state.halvings, state.token_budget)
        restore_generators(state.rng, self.micro.device)

    def metrics(self) -> dict[str, float]:
        last = self.curve[-1]
        return {
            "valid/loss": last["valid/loss"],
            "train/loss": last["train/loss"],
            "epochs": self.stepper.steps_done / steps_per_epoch(len(self.train), self.spec.batch_size),
            "steps": float(self.stepper.steps_done),
        }

    def facts(self) -> dict[str, Any]:
        longest = self.spec.model.max_length
        return {
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
            "molecules": len(self.train),
            "validation_molecules": len(self.valid),
            "truncated": int((self.train.lengths_N > longest).sum() + (self.valid.lengths_N > longest).sum()),
            "checkpoint": self.spec.digest,
            **({"molecules_shared": self.molecules_shared} if self.spec.share_trunk else {}),
        }


def _predicted(spec: PretrainSpec, model: Predictor, molecules: Molecules, indices_B: Ints, device: Device) -> Tensor:
    ids_BT, mask_BT = molecules.batch(indices_B)
    with precision_set(spec.precision, device):
        return model(ids_BT, mask_BT)


def _open(spec: PretrainSpec, inputs: Inputs) -> tuple[Shards, Shards]:
    statistics = Path(_required(inputs.statistics, "statistics"))
    train = open_shards([Path(folder) for folder in inputs.shards], statistics, spec.molecules)
    valid = open_shards([Path(folder) for folder in inputs.validation_shards], statistics)
    if len(train) != spec.molecules:
        raise DataError(
            f"a pre-training reads {spec.molecules:,} molecules, its shards hold {len(train):,}; prepare more shards"
        )
    if len(train.names) != spec.outputs:
        raise DataError(
            f"a pre-training predicts {spec.outputs} descriptors, its shards hold {len(train.names)}; "
            "prepare the inputs of the space again"
        )
    return train, valid


def _train(run: _Run, report: Report, attempt: Attempt) -> None:
    """Carry ``run`` to its last step; an epoch is done when its values stand in the curve."""
    spec, stepper = run.spec, run.stepper
    per_epoch, total = steps_per_epoch(len(run.train), spec.batch_size), total_steps(spec)
    while len(run.curve) * per_epoch < total:
        epoch = len(run.curve)
        skip = stepper.steps_done - epoch * per_epoch
        for indices_B in islice(_steps(run, epoch, skip), total - stepper.steps_done):
            done = stepper.steps_done
            if spec.share_trunk and done == trunk_steps(spec):
                run.hold_trunk()
            attempt.border(done, epoch + 1, run.state, starts_epoch=done == epoch * per_epoch)
            stepper.step(indices_B)
        report(epoch + 1, _close_epoch(run))


def _steps(run: _Run, epoch: int, skip: int) -> Iterator[Ints]:
    spec, molecules = run.spec, len(run.train)
    if spec.schedule == "wsd":
        return prefix_steps(molecules, spec.batch_size, spec.seed, epoch, spec.decay_fraction, skip=skip)
    return epoch_steps(molecules, spec.batch_size, spec.seed, epoch, skip=skip)


def _close_epoch(run: _Run) -> Mapping[str, float]:
    values = {
        "epoch": float(len(run.curve) + 1),
        "train/loss": run.stepper.take_mean_loss(),
        "valid/loss": validation_loss(run),
        "molecules": float(_molecules_at(run)),
    }
    run.curve.append(values)
    if run.spec.keep_every_epoch and run.stepper.steps_done < total_steps(run.spec):
        run.kept.append(tensors_to_save(run.model))
    return values


def _molecules_at(run: _Run) -> int:
    """Molecules seen since the first step, those of earlier attempts counted in."""
    epochs, steps = divmod(run.stepper.steps_done, steps_per_epoch(len(run.train), run.spec.batch_size))
    return epochs * len(run.train) + steps * run.spec.batch_size


def validation_loss(run: _Run) -> float:
    """Mean absolute error over the known labels of a molecule, averaged over the validation molecules.

    Raises:
        RunError: with cause ``nan`` if it is not finite.
    """
    lengths_N = np.minimum(run.valid.lengths_N, run.spec.model.max_length)
    run.model.eval()
    with torch.no_grad():
        value = run.micro.run(np.arange(len(run.valid)), lengths_N, lambda batches: _mean_error(run, batches))
    run.model.train()
    if not math.isfinite(value):
        raise RunError(f"the validation loss must stay finite, it is {value}; lower the learning rate", "nan")
    return value


def _mean_error(run: _Run, batches: Sequence[Ints]) -> float:
    device = run.micro.device
    valid = Hosted(run.valid, run.model.backbone, device)
    loss, molecules = torch.zeros((), dtype=torch.float64, device=device.torch), 0
    for indices_B in batches:
        labels_BK = run.valid.labels(indices_B)
        known_B = np.count_nonzero(~np.isnan(labels_BK), axis=1)
        wanted_BK = to_device(labels_BK, device)
        error_BK = (_predicted(run.spec, run.model, valid, indices_B, device).float() - wanted_BK).abs()
        error_B = torch.where(torch.isnan(wanted_BK), 0.0, error_BK).sum(1, dtype=torch.float64)
        loss += (error_B / torch.from_numpy(np.maximum(known_B, 1)).to(error_B)).sum()
        molecules += int((known_B > 0).sum())
    return float(loss) / max(1, molecules)
