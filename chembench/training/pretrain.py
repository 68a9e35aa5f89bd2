"""Pre-training: a model learns to predict the descriptors of molecules from their SMILES, from random weights on.

Axes: N molecules of the set, B of a micro-batch, T tokens, K descriptors.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chembench.config import stable_seed
from chembench.data.batches import epoch_steps, length_batches, steps_per_epoch
from chembench.data.shards import Shards, open_shards
from chembench.errors import DataError, RunError
from chembench.models.base import PretrainingModel, build_pretraining_model, load_tensors, tensors_to_save
from chembench.specs import Inputs, PretrainSpec
from chembench.training.checkpoint import (
    Checkpoint,
    ResumeState,
    load_resume,
    read_checkpoint,
    save_checkpoint,
    save_resume,
)
from chembench.training.device import (
    CPU,
    Device,
    generator_states,
    memory_faults_told,
    precision_set,
    restore_generators,
    seeded,
    threads_set,
)
from chembench.training.hardware import measured_cost
from chembench.training.loop import OptimiserSettings, Report, Stepper, as_batch, element_loss, to_device

SAVE_EVERY_SECONDS = 300.0
"""Longest time between two states to go on from; one is also written after each epoch."""


@dataclass(frozen=True, slots=True)
class PretrainOutcome:
    """What came out of a pre-training; the weights lie in ``checkpoint``."""

    checkpoint: Checkpoint
    reused: bool
    """True where the folder existed already and nothing was trained."""
    resumed_at_step: int
    molecules_seen: int
    """By this attempt."""

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


def total_steps(spec: PretrainSpec) -> int:
    """Optimiser steps of the whole pre-training: at least one."""
    if spec.steps is not None:
        return spec.steps
    if spec.epochs is None:
        raise DataError("a pre-training needs epochs or steps, got neither; give exactly one of them")
    return max(1, round(spec.epochs * steps_per_epoch(spec.molecules, spec.batch_size)))


def pretrain(
    spec: PretrainSpec,
    inputs: Inputs,
    report: Report,
    *,
    device: Device = CPU,
    resume: Path | None = None,
    resume_from: Sequence[Path] = (),
) -> PretrainOutcome:
    """Train the model of ``spec`` and write it to ``inputs.checkpoint``; a folder that exists is used as it is.

    Args:
        spec: what to train.
        inputs: shards, validation shards, statistics, tokenizer, and the folder to write.
        report: called after each epoch; what it returns is not used.
        device: where to train.
        resume: file in which the state is kept from time to time; removed at the end.
        resume_from: files of this and earlier attempts; the first that exists is gone on from.

    Raises:
        DataError: if an input is missing or is not what the specification names.
        RunError: with cause ``nan`` or ``oom``.
    """
    folder = Path(_required(inputs.checkpoint, "checkpoint"))
    if folder.is_dir():
        return _told(PretrainOutcome(read_checkpoint(folder, spec.digest), True, 0, 0), report)
    started = time.monotonic()
    with threads_set(spec.threads), memory_faults_told(), seeded(stable_seed("pretrain", spec.seed)):
        run = _Run.begin(spec, inputs, device)
        found = next((file for file in resume_from if file.is_file()), None)
        if found is not None:
            run.go_on_from(load_resume(found, spec.digest))
        resumed_at = run.stepper.steps_done
        for values in run.curve:
            report(int(values["epoch"]), values)
        _train(run, report, resume)
        training: dict[str, Any] = {"metrics": run.metrics(), "facts": run.facts(), "curve": run.curve}
        training["built"] = {
            **measured_cost(device.name, spec.threads, time.monotonic() - started),
            "resumed_at": resumed_at,
        }
        weights = [*run.kept, tensors_to_save(run.model)]
    tokenizer = Path(_required(inputs.tokenizer, "tokenizer"))
    save_checkpoint(folder, spec, run.train.names, weights, training, tokenizer)
    if resume is not None:
        resume.unlink(missing_ok=True)
    return PretrainOutcome(read_checkpoint(folder, spec.digest), False, resumed_at, run.seen)


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
    device: Device
    train: Shards
    valid: Shards
    lengths_N: NDArray[np.int64]
    model: PretrainingModel
    stepper: Stepper
    curve: list[dict[str, float]] = field(default_factory=list)
    kept: list[dict[str, Tensor]] = field(default_factory=list)
    seen: int = 0

    @classmethod
    def begin(cls, spec: PretrainSpec, inputs: Inputs, device: Device) -> _Run:
        train, valid = _open(spec, inputs)
        model = build_pretraining_model(spec.model, spec.outputs, spec.seed, spec.dropout, spec.attention_dropout)
        model.to(device.torch)
        settings = OptimiserSettings(
            learning_rate=spec.learning_rate,
            weight_decay=spec.weight_decay,
            warmup_fraction=spec.warmup_fraction,
            max_grad_norm=spec.max_grad_norm,
            total_steps=total_steps(spec),
        )
        lengths_N = np.minimum(train.lengths_N, spec.model.max_length).astype(np.int64)
        return cls(spec, device, train, valid, lengths_N, model, Stepper(model.parameters(), settings, device))

    def step(self, micro: tuple[NDArray[np.int64], ...]) -> None:
        labels = [self.train.labels(indices_B) for indices_B in micro]
        forwards = [partial(self.predicted, self.train, indices_B) for indices_B in micro]
        self.stepper.step(forwards, labels, element_loss(self.spec.loss))
        self.seen += sum(map(len, micro))

    def predicted(self, shards: Shards, indices_B: NDArray[np.int64]) -> Tensor:
        ids_BT, lengths_B = shards.tokens(indices_B, self.spec.model.pad_id, self.spec.model.max_length)
        with precision_set(self.spec.precision, self.device):
            output_BK: Tensor = self.model(*as_batch(ids_BT, lengths_B, self.device.torch))
        return output_BK

    def state(self) -> ResumeState:
        loss_sum, labels = self.stepper.running
        return ResumeState(
            digest=self.spec.digest,
            step=self.stepper.steps_done,
            loss_sum=loss_sum,
            labels=labels,
            rng=generator_states(),
            model=tensors_to_save(self.model),
            optimiser=self.stepper.optimiser.state_dict(),
            curve=self.curve,
            kept=self.kept,
        )

    def go_on_from(self, state: ResumeState) -> None:
        load_tensors(self.model, state.model)
        self.stepper.optimiser.load_state_dict(state.optimiser)
        self.stepper.go_on_from(state.step, (state.loss_sum, state.labels))
        self.curve, self.kept = state.curve, state.kept
        restore_generators(state.rng)

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
        }


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


def _train(run: _Run, report: Report, resume: Path | None) -> None:
    """Carry ``run`` to its last step; an epoch is done when its values stand in the curve."""
    spec, stepper, device = run.spec, run.stepper, run.device
    per_epoch, total = steps_per_epoch(len(run.train), spec.batch_size), total_steps(spec)
    saved_at = time.monotonic()
    while len(run.curve) * per_epoch < total:
        epoch = len(run.curve)
        skip = stepper.steps_done - epoch * per_epoch
        steps = epoch_steps(run.lengths_N, spec.batch_size, spec.seed, epoch, device.packing, skip=skip)
        for micro in islice(steps, total - stepper.steps_done):
            run.step(micro)
            if resume is not None and time.monotonic() - saved_at > SAVE_EVERY_SECONDS:
                save_resume(resume, run.state())
                saved_at = time.monotonic()
        values = _close_epoch(run)
        report(epoch + 1, values)
        if resume is not None and stepper.steps_done < total:
            save_resume(resume, run.state())
            saved_at = time.monotonic()


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
    loss, molecules = torch.zeros((), dtype=torch.float64, device=run.device.torch), 0
    run.model.eval()
    with torch.no_grad():
        for indices_B in length_batches(lengths_N, run.device.packing):
            labels_BK = run.valid.labels(indices_B)
            known_B = np.count_nonzero(~np.isnan(labels_BK), axis=1)
            wanted_BK = to_device(labels_BK, run.device)
            error_BK = (run.predicted(run.valid, indices_B).float() - wanted_BK).abs()
            error_B = torch.where(torch.isnan(wanted_BK), 0.0, error_BK).sum(1, dtype=torch.float64)
            loss += (error_B / torch.from_numpy(np.maximum(known_B, 1)).to(error_B)).sum()
            molecules += int((known_B > 0).sum())
    run.model.train()
    value = float(loss) / max(1, molecules)
    if not math.isfinite(value):
        raise RunError(f"the validation loss must stay finite, it is {value}; lower the learning rate", "nan")
    return value
