"""Fine-tuning: a pre-trained or random backbone is fitted to one task.

Axes: N molecules of a part, B of a micro-batch, F features, M targets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chembench.config import stable_seed
from chembench.data.batches import epoch_steps, steps_per_epoch
from chembench.errors import ConfigError, RunError
from chembench.metrics import objective, scores
from chembench.models.heads import FinetuneModel
from chembench.specs import Inputs, TrialSpec
from chembench.training.attempt import Attempt, State
from chembench.training.candidates import Candidates
from chembench.training.device import CPU, Device, generator_states, restore_generators, seeded, threads_set
from chembench.training.features import FeatureKey
from chembench.training.loop import (
    ElementLoss,
    Lesson,
    OptimiserSettings,
    Report,
    Stepper,
    labels_on,
    summed_loss,
    task_loss,
    to_device,
)
from chembench.training.memory import MicroBatches, memory_faults_told
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
    """Those of earlier attempts counted in."""
    model: FinetuneModel
    """With the weights of the best epoch."""
    scaling: Scaling
    weights_file: Path | None
    """The pre-trained weights it began with; none if they were random."""


def finetune(
    spec: TrialSpec, inputs: Inputs, report: Report, *, device: Device = CPU, attempt: Attempt | None = None
) -> FinetuneOutcome:
    """Fit the model of ``spec`` to the training rows and score it on validation; a confirm trial also on the test.

    Args:
        spec: what to fit.
        inputs: tokenizer, split, checkpoint (unless the trial starts from random weights), sealed rows (confirm only).
        report: called after each epoch with its number and values, those of earlier attempts first; true stops the
            trial, which is then pruned, unless an earlier attempt went on there.
        device: where to train.
        attempt: what it goes on from, where it keeps its state, who asks it to stop.

    Raises:
        ConfigError: if inputs are given that the trial must not see, or some are missing.
        DataError: if an input is not what the specification names, or the objective is undefined on validation.
        RunError: with cause ``nan``, ``oom`` or ``preempted``.
    """
    _require_seal(spec, inputs)
    with threads_set(spec.threads), memory_faults_told():
        fit = _Fit.begin(spec, inputs, report, device, attempt or Attempt())
        fit.run()
        return fit.outcome(inputs)


def _require_seal(spec: TrialSpec, inputs: Inputs) -> None:
    if spec.kind != "confirm" and (inputs.sealed is not None or spec.sealed is not None):
        raise ConfigError(
            f"only confirm trials may read sealed test labels, this is a {spec.kind} trial; leave inputs.sealed out"
        )
    if spec.kind == "confirm" and (inputs.sealed is None or spec.sealed is None):
        raise ConfigError("a confirm trial scores the test, but inputs.sealed or its digest is missing; give both")


@dataclass(slots=True)
class _Best:
    """The best epoch so far."""

    rank: tuple[float, float] = (math.inf, math.inf)
    epoch: int = 0
    candidate: int = 0
    values: dict[str, float] = field(default_factory=dict)
    predicted_NM: Floats = field(default_factory=lambda: np.empty((0, 0)))
    learnt: dict[str, Tensor] = field(default_factory=dict)


@dataclass(slots=True)
class _Going:
    """One candidate on its way."""

    number: int
    model: FinetuneModel
    train: Source
    valid: Source
    stepper: Stepper
    epoch: int = 0
    """Epochs done."""
    best_objective: float = math.inf
    waited: int = 0
    """Epochs since then."""


@dataclass(slots=True, kw_only=True)
class FinetuneState(State):
    """Everything a stopped fine-tuning needs to go on as if it had not been stopped."""

    candidate: int
    epoch: int
    """Epochs that this candidate has done."""
    steps_before: int
    """Optimiser steps of earlier candidates."""
    best_objective: float
    waited: int
    loss_sum: float
    """Running training loss of the epoch, and the number of labels in it."""
    labels: int
    rng: list[Tensor]
    """Of the generators: the CPU's, then the GPU's."""
    learnt: dict[str, Tensor]
    optimiser: dict[str, Any]
    curve: list[dict[str, float]]
    best: dict[str, Any]
    """Fields of `_Best`."""
    seen: int
    halvings: int
    token_budget: int

    def bring_back(self, going: _Going, device: Device) -> None:
        """Put the candidate where it was stopped."""
        going.model.take_learnt(self.learnt)
        going.stepper.optimiser.load_state_dict(self.optimiser)
        going.stepper.go_on_from(self.step - self.steps_before, (self.loss_sum, self.labels))
        going.epoch, going.best_objective, going.waited = self.epoch, self.best_objective, self.waited
        restore_generators(self.rng, device)


@dataclass(slots=True)
class _Fit:
    """A fine-tuning on its way."""

    spec: TrialSpec
    micro: MicroBatches
    report: Report
    attempt: Attempt
    candidates: Candidates
    split: str
    """Folder of the rows."""
    train: TaskPart
    valid: TaskPart
    scaling: Scaling
    train_labels_NM: NDArray[np.float32]
    """Scaled."""
    loss: ElementLoss
    best: _Best = field(default_factory=_Best)
    curve: list[dict[str, float]] = field(default_factory=list)
    """Values after each epoch, over all candidates."""
    undefined: tuple[str, ...] = ()
    pruned: bool = False
    seen: int = 0
    steps_before: int = 0
    """Optimiser steps of earlier candidates."""
    going: _Going | None = None
    """The latest candidate."""

    @classmethod
    def begin(cls, spec: TrialSpec, inputs: Inputs, report: Report, device: Device, attempt: Attempt) -> _Fit:
        if inputs.split is None or inputs.tokenizer is None:
            raise ConfigError("a trial reads inputs.split and inputs.tokenizer, one is not given; give both")
        target_facts(Path(inputs.split), spec)
        shared = (inputs.tokenizer, spec.model, spec.tokenizer)
        train = load_part(inputs.split, spec.data, "train", *shared)
        valid = load_part(inputs.split, spec.data, "valid", *shared)
        labels_NM = known_labels(spec, train.rows.labels_NM)
        scaling = Scaling.of(spec.task_kind, labels_NM)
        loss = task_loss(spec, labels_NM, device)
        micro = MicroBatches.of(spec.model, device, attempt.measured)
        candidates = Candidates.of(spec, inputs, device)
        parts = (inputs.split, train, valid, scaling, scaling.applied(labels_NM), loss)
        fit = cls(spec, micro, report, attempt, candidates, *parts)
        fit._scored(np.zeros(valid.rows.labels_NM.shape))  # an undefined objective is told before anything is trained
        return fit

    def run(self) -> None:
        """Train one candidate after the other, from where an earlier attempt was stopped."""
        state = self.attempt.newest(FinetuneState, self.spec.digest)
        if state is not None:
            self._go_on_from(state)
        for number in range(state.candidate if state else 1, self.candidates.count + 1):
            self._run_candidate(number, state if state and number == state.candidate else None)
            if self.pruned:
                return

    def _run_candidate(self, number: int, state: FinetuneState | None) -> None:
        """Train one model until its last epoch, its patience's end or a pruner's word."""
        recipe = self.spec.finetune
        self.going = None  # two models at once might not fit
        model = self.candidates.build(number)
        with seeded(stable_seed("finetune", self.spec.head_seed, number)):
            self.going = going = self._begin_candidate(number, model)
            if state is not None:
                state.bring_back(going, self.micro.device)
            while going.epoch < recipe.max_epochs:
                values = self._evaluated(going, self._train_epoch(going))
                going.waited = 0 if values["objective"] < going.best_objective else going.waited + 1
                going.best_objective = min(going.best_objective, values["objective"])
                going.epoch += 1
                self.pruned = self.report(len(self.curve), values)
                if self.pruned or (recipe.patience is not None and going.waited >= recipe.patience):
                    break
        self.steps_before += going.stepper.steps_done

    def _begin_candidate(self, number: int, model: FinetuneModel) -> _Going:
        train, valid = self._source(number, model, "train"), self._source(number, model, "valid")
        if train.features_NF is not None:
            model.learn_scale(train.features_NF)
        recipe = self.spec.finetune
        settings = OptimiserSettings(
            learning_rate=recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            warmup_fraction=recipe.warmup_fraction,
            max_grad_norm=recipe.max_grad_norm,
            total_steps=recipe.max_epochs * self._steps_per_epoch,
        )
        labels_NM = self.train_labels_NM
        lesson = Lesson(
            train.lengths_N,
            train.outputs,
            lambda indices_B: labels_on(labels_NM[indices_B], self.micro.device),
            self.loss,
        )
        return _Going(number, model, train, valid, Stepper(model.trainable_parameters(), settings, lesson, self.micro))

    def _source(self, number: int, model: FinetuneModel, part: Literal["train", "valid"]) -> Source:
        key = FeatureKey.of(self.spec, self.split, part, self.candidates.weights_file(number), self.micro)
        tokens = self.train.tokens if part == "train" else self.valid.tokens
        return source_of(model, tokens, self.spec.precision, self.micro, key)

    @property
    def _steps_per_epoch(self) -> int:
        return steps_per_epoch(len(self.train.tokens), self.spec.finetune.batch_size)

    def _train_epoch(self, going: _Going) -> float:
        stepper, epoch = going.stepper, going.epoch
        going.model.train()
        skip = stepper.steps_done - epoch * self._steps_per_epoch
        steps = epoch_steps(
            len(self.train.tokens), self.spec.finetune.batch_size, self.spec.head_seed, epoch, skip=skip
        )
        for place, indices_B in enumerate(steps, start=skip):
            done = self.steps_before + stepper.steps_done
            self.attempt.border(done, len(self.curve) + 1, partial(self._state, going), starts_epoch=place == 0)
            stepper.step(indices_B)
            self.seen += len(indices_B)
        return stepper.take_mean_loss()

    def _state(self, going: _Going) -> FinetuneState:
        loss_sum, labels = going.stepper.running
        best = {part.name: getattr(self.best, part.name) for part in fields(_Best)}
        return FinetuneState(
            digest=self.spec.digest,
            step=self.steps_before + going.stepper.steps_done,
            candidate=going.number,
            epoch=going.epoch,
            steps_before=self.steps_before,
            best_objective=going.best_objective,
            waited=going.waited,
            loss_sum=loss_sum,
            labels=labels,
            rng=generator_states(self.micro.device),
            learnt={name: tensor.detach() for name, tensor in going.model.learnt().items()},
            optimiser=going.stepper.optimiser.state_dict(),
            curve=self.curve,
            best={**best, "predicted_NM": torch.from_numpy(self.best.predicted_NM)},
            seen=self.seen,
            halvings=self.micro.halvings,
            token_budget=self.micro.packing.token_budget,
        )

    def _go_on_from(self, state: FinetuneState) -> None:
        self.best = _Best(**{**state.best, "predicted_NM": state.best["predicted_NM"].numpy()})
        self.curve, self.seen, self.steps_before = state.curve, state.seen, state.steps_before
        self.micro.go_on_from(state.halvings, state.token_budget)
        for number, values in enumerate(self.curve, start=1):
            self.report(number, values)  # it was answered when the epoch ended, and the trial went on

    def _evaluated(self, going: _Going, train_loss: float) -> dict[str, float]:
        outputs_NM = all_outputs(going.valid, self.spec.targets)
        predicted_NM = self.scaling.undone(outputs_NM)
        values = {"train/loss": train_loss, "valid/loss": self._loss_of(outputs_NM), **self._scored(predicted_NM)}
        self.curve.append(values)
        by_loss = self.spec.finetune.select_by == "loss" or self.spec.finetune.checkpoints == "every_epoch"
        # many epochs may share one ROC-AUC on a small validation set: the lower loss decides among them
        rank = (0.0 if by_loss else values["objective"], values["valid/loss"])
        if rank < self.best.rank:
            learnt = {name: tensor.detach().clone() for name, tensor in going.model.learnt().items()}
            self.best = _Best(rank, len(self.curve), going.number, values, predicted_NM, learnt)
        return values

    def _loss_of(self, outputs_NM: Floats) -> float:
        labels_NM = self.scaling.applied(known_labels(self.spec, self.valid.rows.labels_NM))
        known = int(np.count_nonzero(~np.isnan(labels_NM)))
        outputs, labels = (
            to_device(values.astype(np.float32), self.micro.device) for values in (outputs_NM, labels_NM)
        )
        loss = float(summed_loss(self.loss, outputs, labels)) / known
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
        best, going = self.best, cast(_Going, self.going)
        model = going.model if going.number == best.candidate else self.candidates.build(best.candidate)
        model.take_learnt(best.learnt)
        metrics = {**best.values, "best_epoch": float(best.epoch), "epochs": float(len(self.curve))}
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
            objectives=tuple(values["objective"] for values in self.curve),
            predictions=tuple(predictions),
            facts=facts,
            molecules_seen=self.seen,
            model=model.eval(),
            scaling=self.scaling,
            weights_file=self.candidates.weights_file(best.candidate),
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
        source = source_of(model, tokens, self.spec.precision, self.micro)
        predicted_NM = self.scaling.undone(all_outputs(source, self.spec.targets))
        measured_NM = known_labels(self.spec, rows.labels_NM)
        found = scores(self.spec.task_kind, measured_NM, predicted_NM, self.scaling.sd_M)
        self.undefined += tuple(f"test/{name}" for name in found.undefined)
        named = {f"test/{name}": value for name, value in found.values.items()}
        return Predicted("test", rows, measured_NM, predicted_NM), named, tokens.truncated
