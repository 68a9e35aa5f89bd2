"""Fine-tuning: a pre-trained or random backbone is fitted to one task.

Axes: N molecules of a part, B of a micro-batch, F features, M targets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chembench.config import stable_seed
from chembench.data.batches import epoch_steps, steps_per_epoch
from chembench.errors import ConfigError, RunError
from chembench.metrics import objective, scores
from chembench.models.base import build_pretraining_model, load_tensors
from chembench.models.heads import FinetuneModel
from chembench.registry import METHODS
from chembench.specs import Inputs, TrialSpec
from chembench.training.checkpoint import load_weights, read_checkpoint
from chembench.training.device import CPU, Device, memory_faults_told, seeded, threads_set
from chembench.training.loop import ElementLoss, OptimiserSettings, Report, Stepper, summed_loss, task_loss, to_device
from chembench.training.source import Source, all_outputs, source_of
from chembench.training.targets import Predicted, Scaling, known_labels, open_sealed, target_facts
from chembench.training.tokenised import TaskPart, load_part, tokenise

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FinetuneOutcome:
    """What came out of a fine-tuning."""

    pruned: bool
    metrics: dict[str, float]
    objectives: tuple[float, ...]
    """Validation objective after each epoch, over all candidates."""
    predictions: tuple[Predicted, ...]
    facts: dict[str, Any]
    molecules_seen: int
    model: FinetuneModel
    """With the weights of the best epoch."""
    scaling: Scaling


def finetune(spec: TrialSpec, inputs: Inputs, report: Report, *, device: Device = CPU) -> FinetuneOutcome:
    """Fit the model of ``spec`` to the training rows and score it on validation; a confirm trial also on the test.

    Args:
        spec: what to fit.
        inputs: tokenizer, split, checkpoint (unless the trial starts from random weights), sealed rows (confirm only).
        report: called after each epoch with its number and values; true stops the trial, which is then pruned.
        device: where to train.

    Raises:
        ConfigError: if inputs are given that the trial must not see, or some are missing.
        DataError: if an input is not what the specification names, or the objective is undefined on validation.
        RunError: with cause ``nan`` or ``oom``.
    """
    _require_seal(spec, inputs)
    with threads_set(spec.threads), memory_faults_told():
        fit = _Fit.begin(spec, inputs, report, device)
        for candidate, model in _candidates(spec, inputs, fit):
            fit.run(candidate, model)
            if fit.pruned:
                break
        return fit.outcome(inputs)


def _require_seal(spec: TrialSpec, inputs: Inputs) -> None:
    if spec.kind != "confirm" and (inputs.sealed is not None or spec.sealed is not None):
        raise ConfigError(
            f"only confirm trials may read sealed test labels, this is a {spec.kind} trial; leave inputs.sealed out"
        )
    if spec.kind == "confirm" and (inputs.sealed is None or spec.sealed is None):
        raise ConfigError("a confirm trial scores the test, but inputs.sealed or its digest is missing; give both")


def _candidates(spec: TrialSpec, inputs: Inputs, fit: _Fit) -> Iterator[tuple[int, FinetuneModel]]:
    """The models to fit, numbered from 1: one, or one per kept pre-training epoch."""
    files: tuple[Path, ...] = ()
    if spec.pretrained is not None:
        if inputs.checkpoint is None:
            raise ConfigError(f"the trial names checkpoint {spec.pretrained}, inputs.checkpoint is not given; give it")
        found = read_checkpoint(Path(inputs.checkpoint), spec.pretrained)
        files = found.weight_files if spec.finetune.checkpoints == "every_epoch" else found.weight_files[-1:]
    for number, file in enumerate(files or (None,), start=1):
        blank = build_pretraining_model(
            spec.model, spec.descriptors, spec.init_seed, spec.finetune.dropout, attention_dropout=0.0
        )
        if file is not None:
            load_tensors(blank, load_weights(file, cast(str, spec.pretrained)))
        model = cast(FinetuneModel, METHODS.load(spec.finetune.method)(blank, spec))
        yield number, model.to(fit.device.torch)


@dataclass(slots=True)
class _Best:
    """The best epoch so far."""

    rank: tuple[float, float] = (math.inf, math.inf)
    epoch: int = 0
    candidate: int = 0
    values: dict[str, float] = field(default_factory=dict)
    predicted_NM: Floats = field(default_factory=lambda: np.empty((0, 0)))
    weights: list[Tensor] = field(default_factory=list)
    model: FinetuneModel | None = None


@dataclass(slots=True)
class _Fit:
    """A fine-tuning on its way."""

    spec: TrialSpec
    device: Device
    report: Report
    train: TaskPart
    valid: TaskPart
    scaling: Scaling
    train_labels_NM: NDArray[np.float32]
    """Scaled."""
    loss: ElementLoss
    best: _Best = field(default_factory=_Best)
    objectives: list[float] = field(default_factory=list)
    undefined: tuple[str, ...] = ()
    pruned: bool = False
    seen: int = 0

    @classmethod
    def begin(cls, spec: TrialSpec, inputs: Inputs, report: Report, device: Device) -> _Fit:
        if inputs.split is None or inputs.tokenizer is None:
            raise ConfigError("a trial reads inputs.split and inputs.tokenizer, one is not given; give both")
        target_facts(Path(inputs.split), spec)
        shared = (inputs.tokenizer, spec.model, spec.tokenizer)
        train = load_part(inputs.split, spec.data, "train", *shared)
        valid = load_part(inputs.split, spec.data, "valid", *shared)
        labels_NM = known_labels(spec, train.rows.labels_NM)
        scaling = Scaling.of(spec.task_kind, labels_NM)
        loss = task_loss(spec, labels_NM, device)
        fit = cls(spec, device, report, train, valid, scaling, scaling.applied(labels_NM), loss)
        fit._scored(np.zeros(valid.rows.labels_NM.shape))  # an undefined objective is told before anything is trained
        return fit

    def run(self, candidate: int, model: FinetuneModel) -> None:
        """Train one model until its last epoch, its patience's end or a pruner's word."""
        recipe = self.spec.finetune
        with seeded(stable_seed("finetune", self.spec.head_seed, candidate)):
            train, valid = (
                source_of(model, part.tokens, self.spec.precision, self.device) for part in (self.train, self.valid)
            )
            if train.features_NF is not None:
                model.learn_scale(train.features_NF)
            stepper = self._stepper(model)
            best_objective, waited = math.inf, 0
            for epoch in range(recipe.max_epochs):
                train_loss = self._train_epoch(model, train, stepper, epoch)
                values = self._evaluated(candidate, model, valid, train_loss)
                waited = 0 if values["objective"] < best_objective else waited + 1
                best_objective = min(best_objective, values["objective"])
                self.pruned = self.report(len(self.objectives), values)
                if self.pruned or (recipe.patience is not None and waited >= recipe.patience):
                    return

    def _stepper(self, model: FinetuneModel) -> Stepper:
        recipe = self.spec.finetune
        settings = OptimiserSettings(
            learning_rate=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            warmup_fraction=recipe.warmup_fraction,
            max_grad_norm=recipe.max_grad_norm,
            total_steps=recipe.max_epochs * steps_per_epoch(len(self.train.tokens), recipe.batch_size),
        )
        return Stepper(model.trainable_parameters(), settings, self.device)

    def _train_epoch(self, model: FinetuneModel, source: Source, stepper: Stepper, epoch: int) -> float:
        model.train()
        steps = epoch_steps(
            source.lengths_N,
            self.spec.finetune.batch_size,
            self.spec.head_seed,
            epoch,
            self.device.packing,
        )
        for micro in steps:
            forwards = [partial(source.outputs, indices_B) for indices_B in micro]
            stepper.step(forwards, [self.train_labels_NM[indices_B] for indices_B in micro], self.loss)
            self.seen += sum(map(len, micro))
        return stepper.take_mean_loss()

    def _evaluated(self, candidate: int, model: FinetuneModel, source: Source, train_loss: float) -> dict[str, float]:
        outputs_NM = all_outputs(source, self.spec.targets)
        predicted_NM = self.scaling.undone(outputs_NM)
        values = {"train/loss": train_loss, "valid/loss": self._loss_of(outputs_NM), **self._scored(predicted_NM)}
        self.objectives.append(values["objective"])
        by_loss = self.spec.finetune.select_by == "loss" or self.spec.finetune.checkpoints == "every_epoch"
        # many epochs may share one ROC-AUC on a small validation set: the lower loss decides among them
        rank = (0.0 if by_loss else values["objective"], values["valid/loss"])
        if rank < self.best.rank:
            weights = [parameter.detach().clone() for parameter in model.trainable_parameters()]
            self.best = _Best(rank, len(self.objectives), candidate, values, predicted_NM, weights, model)
        return values

    def _loss_of(self, outputs_NM: Floats) -> float:
        labels_NM = self.scaling.applied(known_labels(self.spec, self.valid.rows.labels_NM))
        known = np.count_nonzero(~np.isnan(labels_NM))
        outputs = to_device(outputs_NM.astype(np.float32), self.device)
        loss = float(summed_loss(self.loss, outputs, to_device(labels_NM, self.device))) / known
        if not math.isfinite(loss):
            raise RunError(f"the validation loss must stay finite, it is {loss}; lower the learning rate", "nan")
        return loss

    def _scored(self, predicted_NM: Floats) -> dict[str, float]:
        measured_NM = known_labels(self.spec, self.valid.rows.labels_NM)
        found = scores(self.spec.task_kind, measured_NM, predicted_NM, self.scaling.sd_M)
        self.undefined = tuple(f"valid/{name}" for name in found.undefined)
        named = {f"valid/{name}": value for name, value in found.values.items()}
        return {**named, "objective": objective(self.spec.task_kind, found.values)}

    def outcome(self, inputs: Inputs) -> FinetuneOutcome:
        """Restore the best epoch and, in a confirm trial that ran to its end, open the sealed rows."""
        best, model = self.best, cast(FinetuneModel, self.best.model)
        with torch.no_grad():
            for parameter, weight in zip(model.trainable_parameters(), best.weights, strict=True):
                parameter.copy_(weight)
        metrics = {**best.values, "best_epoch": float(best.epoch), "epochs": float(len(self.objectives))}
        predictions = [
            Predicted("valid", self.valid.rows, known_labels(self.spec, self.valid.rows.labels_NM), best.predicted_NM)
        ]
        facts = self._facts(model)
        if self.spec.kind == "confirm" and not self.pruned:
            test, test_metrics, truncated = self._test(inputs, model)
            predictions.append(test)
            metrics |= test_metrics
            facts["truncated"] += truncated
        facts["undefined"] = list(self.undefined)
        return FinetuneOutcome(
            pruned=self.pruned,
            metrics=metrics,
            objectives=tuple(self.objectives),
            predictions=tuple(predictions),
            facts=facts,
            molecules_seen=self.seen,
            model=model.eval(),
            scaling=self.scaling,
        )

    def _facts(self, model: FinetuneModel) -> dict[str, Any]:
        facts = {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "trainable_parameters": sum(parameter.numel() for parameter in model.trainable_parameters()),
            "truncated": self.train.tokens.truncated + self.valid.tokens.truncated,
            "checkpoint": self.spec.pretrained,
        }
        return facts | ({"checkpoint_epoch": self.best.candidate} if self.best.candidate > 1 else {})

    def _test(self, inputs: Inputs, model: FinetuneModel) -> tuple[Predicted, dict[str, float], int]:
        rows = open_sealed(Path(cast(str, inputs.sealed)), cast(str, self.spec.sealed))
        tokens = tokenise(rows.smiles, Path(cast(str, inputs.tokenizer)), self.spec.model, self.spec.tokenizer)
        source = source_of(model, tokens, self.spec.precision, self.device)
        predicted_NM = self.scaling.undone(all_outputs(source, self.spec.targets))
        measured_NM = known_labels(self.spec, rows.labels_NM)
        found = scores(self.spec.task_kind, measured_NM, predicted_NM, self.scaling.sd_M)
        self.undefined += tuple(f"test/{name}" for name in found.undefined)
        named = {f"test/{name}": value for name, value in found.values.items()}
        return Predicted("test", rows, measured_NM, predicted_NM), named, tokens.truncated
