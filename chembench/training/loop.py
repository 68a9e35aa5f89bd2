"""What pre-training and fine-tuning share: losses over measured labels, the optimiser step, forward passes.

Axes: B molecules of a micro-batch, K labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from chembench.errors import RunError
from chembench.models.base import Backbone
from chembench.specs import TrialSpec
from chembench.training.device import Device, generator_states, restore_generators
from chembench.training.memory import MicroBatches
from chembench.training.schedule import rate_factor

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
LossName = Literal["l1", "mse", "huber", "bce"]
ElementLoss = Callable[[Tensor, Tensor], Tensor]
Report = Callable[[int, Mapping[str, float]], bool]
"""Called after each epoch with its number and values; true means: stop now, pruned."""


def element_loss(name: LossName, positive_weight_K: Tensor | None = None) -> ElementLoss:
    """The loss of each single label, shape (B, K); Huber's turns linear at 1."""
    if name == "bce":
        return lambda logits, labels: functional.binary_cross_entropy_with_logits(
            logits, labels, reduction="none", pos_weight=positive_weight_K
        )
    functions: dict[str, Callable[..., Tensor]] = {
        "l1": functional.l1_loss,
        "mse": functional.mse_loss,
        "huber": functional.huber_loss,
    }
    function = functions[name]
    return lambda predicted, labels: function(predicted, labels, reduction="none")


def task_loss(spec: TrialSpec, labels_NM: NDArray[np.floating], device: Device) -> ElementLoss:
    """The loss of each label; with ``class_weights`` a positive counts as many times as there are negatives to it."""
    if spec.task_kind == "regression":
        return element_loss(spec.finetune.loss)
    if not spec.finetune.class_weights:
        return element_loss("bce")
    positives_M, negatives_M = (labels_NM > 0.5).sum(0), (labels_NM <= 0.5).sum(0)
    weight_M = np.where((positives_M > 0) & (negatives_M > 0), negatives_M / np.maximum(positives_M, 1), 1.0)
    return element_loss("bce", torch.tensor(weight_M, dtype=torch.float32, device=device.torch))


def summed_loss(loss: ElementLoss, predicted_BK: Tensor, labels_BK: Tensor) -> Tensor:
    """Sum of the losses of all labels that are not NaN, in fp32."""
    known_BK = ~torch.isnan(labels_BK)
    loss_BK = loss(predicted_BK.float(), torch.where(known_BK, labels_BK, 0.0))
    return torch.where(known_BK, loss_BK, 0.0).sum()


class Labels(NamedTuple):
    """What is wanted of some molecules."""

    values_BK: Tensor
    """On the device; NaN where unknown."""
    known: int
    """How many are not; counted on the host, so that it need not wait for the device."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What steps are taken on: molecules by their index, what is predicted for them and what was wanted."""

    lengths_N: NDArray[np.integer]
    """What each molecule costs, in tokens."""
    predict: Callable[[Ints], Tensor]
    """Predictions for some molecules, shape (B, K)."""
    labels: Callable[[Ints], Labels]
    """Their labels, shape (B, K)."""
    loss: ElementLoss


@dataclass(frozen=True, slots=True)
class OptimiserSettings:
    """How weights follow their gradients. Weight decay holds for every weight, norms and biases included."""

    learning_rate: float
    weight_decay: float
    warmup_fraction: float
    max_grad_norm: float | None
    total_steps: int
    rate: Callable[[int], float] | None = None
    """The share of the rate that holds at a step; none: a cosine after the warm-up."""

    def factor(self, step: int) -> float:
        """The share of ``learning_rate`` that holds at a step."""
        return self.rate(step) if self.rate else rate_factor(step, self.total_steps, self.warmup_fraction)


class Stepper:
    """AdamW under a schedule: many micro-batches in, one optimiser step out.

    A step equals one pass over the whole batch: each micro-batch adds the sum of its losses, divided by the number of
    known labels in the step. A step without any known label changes nothing but its place in the schedule. A step that
    runs out of memory is taken again from where it began, in smaller micro-batches.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], settings: OptimiserSettings, lesson: Lesson, micro: MicroBatches
    ) -> None:
        self.settings = settings
        self.steps_done = 0
        self._lesson, self._micro, self._device = lesson, micro, micro.device
        self._parameters = list(parameters)
        self.optimiser = torch.optim.AdamW(
            self._parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )  # fused: 0.2 ms instead of 1.2 ms a step for a model of width 64 on a CPU core
        self._waiting: list[tuple[Tensor, int]] = []
        self._loss_sum, self._labels = 0.0, 0

    def step(self, indices_B: Ints) -> None:
        """Take one step on these molecules.

        Raises:
            RunError: with cause ``nan`` if the loss is not finite, ``oom`` if memory does not hold small micro-batches.
        """
        states = generator_states(self._device)

        def undo() -> None:
            self.optimiser.zero_grad(set_to_none=True)
            self._forget_half_made_state()
            restore_generators(states, self._device)

        total, known = self._micro.run(indices_B, self._lesson.lengths_N, self._learn, undo)
        if known:
            self._waiting.append((total, known))
        self.steps_done += 1
        if self.steps_done % self._device.check_every == 0:
            self._look()

    def _learn(self, batches: Sequence[Ints]) -> tuple[Tensor, int]:
        """Follow the gradients of one step; its loss, and its number of known labels."""
        lesson = self._lesson
        labels = [lesson.labels(indices_B) for indices_B in batches]
        known = sum(part.known for part in labels)
        total = torch.zeros((), device=self._device.torch)
        if known:
            for indices_B, wanted in zip(batches, labels, strict=True):
                part = summed_loss(lesson.loss, lesson.predict(indices_B), wanted.values_BK)
                torch.autograd.backward(part / known)
                total += part.detach()
            self._follow_gradients()
        return total, known

    def _forget_half_made_state(self) -> None:
        """Moments are made in the first step; where memory ran out between two of one weight, AdamW would miss one."""
        for weight, moments in list(self.optimiser.state.items()):
            if "exp_avg_sq" not in moments:  # the last one that is made
                del self.optimiser.state[weight]

    def _follow_gradients(self) -> None:
        """Change the weights; nothing is allocated after the first of them has changed."""
        if self.settings.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self._parameters, self.settings.max_grad_norm)
        factor = self.settings.factor(self.steps_done)
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.learning_rate * factor
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    def _look(self) -> None:
        for total, known in self._waiting:
            value = float(total)
            if not math.isfinite(value):
                raise RunError(
                    f"the training loss must stay finite, it is {value} at optimiser step {self.steps_done}; "
                    "lower the learning rate or set max_grad_norm",
                    "nan",
                )
            self._loss_sum += value
            self._labels += known
        self._waiting.clear()

    @property
    def running(self) -> tuple[float, int]:
        """Sum of the losses, and number of labels, since the last `take_mean_loss`."""
        self._look()
        return self._loss_sum, self._labels

    def go_on_from(self, steps_done: int, running: tuple[float, int]) -> None:
        """Take over the place of an earlier attempt; the optimiser's state is loaded apart."""
        self.steps_done = steps_done
        self._loss_sum, self._labels = running

    def take_mean_loss(self) -> float:
        """Mean loss of the labels since the last call; 0 where there were none."""
        loss_sum, labels = self.running
        self._loss_sum, self._labels = 0.0, 0
        return loss_sum / labels if labels else 0.0


def to_device(values: Floats, device: Device) -> Tensor:
    """``values`` as a float32 tensor on ``device``."""
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(device.torch, non_blocking=True)


def labels_on(values_BK: Floats, device: Device) -> Labels:
    """Labels that lie on the host, for a step."""
    return Labels(to_device(values_BK, device), int(np.count_nonzero(~np.isnan(values_BK))))


def as_batch(
    ids_BT: NDArray[np.integer], lengths_B: NDArray[np.integer], backbone: Backbone, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """Ids as int64 and the mask of real tokens, on ``device``; no mask where all molecules have one length.

    Raises:
        DataError: if ``backbone``, which does not look at what lies on a GPU, would refuse them.
    """
    ids = torch.from_numpy(ids_BT.astype(np.int64, copy=False))
    mask = None
    if lengths_B.min() < ids_BT.shape[1]:
        mask = torch.arange(ids.shape[1]) < torch.from_numpy(np.asarray(lengths_B, np.int64))[:, None]
    if device.type != "cpu":
        backbone.check(ids, mask)
    return ids.to(device, non_blocking=True), None if mask is None else mask.to(device, non_blocking=True)
