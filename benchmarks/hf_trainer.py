"""The other side of the pre-training benchmarks: `transformers.Trainer` as a competent user writes it.

It is given what chembench's own loop is given - model class, initial weights, token ids, standardised labels,
optimiser, schedule, clipping - and the molecules lie in memory, tokenised and labelled beforehand. Needs torch,
transformers with accelerate, and numpy. Axes: B molecules of a batch, T tokens, K descriptors.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from chembench.data.shards import Shards
from chembench.models.base import Backbone, PretrainingModel, build_pretraining_model
from chembench.specs import Precision, PretrainSpec
from chembench.training.hardware import DeviceName
from chembench.training.schedule import rate_factor, total_steps

PADDED = 128
"""The constant that users pad to: a power of two that few molecules exceed."""


@dataclass(frozen=True, slots=True)
class TrainerWay:
    """How `Trainer` is used."""

    name: str
    padded_to: int | None = None
    """Tokens of every row; none: those of the longest in its batch."""
    precision: Precision = "fp32"
    by_length: bool = False
    """Batches of molecules of like length, `LengthGroupedSampler`."""
    device: DeviceName = "cpu"


@dataclass(slots=True)
class Trained:
    """What came out of it, or of chembench's own loop."""

    seconds: float
    """From before the first optimiser step until after the last."""
    molecules: int
    """Counted where they went into the model."""
    losses: list[float]
    """Of each optimiser step."""
    valid_loss: float = float("nan")


def plain(model: nn.Module) -> None:
    """Let the backbone of ``model`` run as Hugging Face's class does, without our quicker way through it."""
    for module in model.modules():
        if isinstance(module, Backbone):
            module.pooled = partial(Backbone.pooled, module)  # type: ignore[method-assign]


class WithLoss(nn.Module):
    """A model as `Trainer` wants it: it says its loss, the mean over the known labels."""

    def __init__(self, model: PretrainingModel) -> None:
        super().__init__()
        self.model = model
        self.molecules = 0

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
        self.molecules += len(input_ids)
        known_BK = ~torch.isnan(labels)
        predicted_BK = self.model(input_ids, attention_mask).float()
        error_BK = torch.where(known_BK, predicted_BK - torch.nan_to_num(labels), 0.0).abs()
        return {"loss": error_BK.sum() / known_BK.sum(), "logits": predicted_BK}


class Timer(TrainerCallback):
    """Notes when step ``first`` began and when the last one ended."""

    def __init__(self, clock: Callable[[], float], first: int = 0) -> None:
        self.clock, self.first = clock, first
        self.began, self.ended = float("nan"), float("nan")

    def on_step_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        if state.global_step == self.first:
            self.began = self.clock()

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.ended = self.clock()


@dataclass(frozen=True, slots=True)
class Collator:
    """Rows to tensors, padded on the right."""

    pad_id: int
    padded_to: int | None

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        length = self.padded_to or max(len(row["input_ids"]) for row in rows)
        ids_BT = torch.full((len(rows), length), self.pad_id, dtype=torch.int64)
        mask_BT = torch.zeros((len(rows), length), dtype=torch.bool)
        for number, row in enumerate(rows):
            ids = torch.from_numpy(row["input_ids"])
            ids_BT[number, : len(ids)] = ids
            mask_BT[number, : len(ids)] = True
        labels_BK = torch.from_numpy(np.stack([row["labels"] for row in rows]))
        return {"input_ids": ids_BT, "attention_mask": mask_BT, "labels": labels_BK}


def rows_of(shards: Shards, pad_id: int, longest: int) -> list[dict[str, Any]]:
    """Every molecule by itself: ids, cut to ``longest``, and standardised labels."""
    rows = []
    for index in range(len(shards)):
        one_B = np.array([index])
        ids_BT, _ = shards.tokens(one_B, pad_id, longest)
        rows.append({"input_ids": ids_BT[0].astype(np.int64), "labels": shards.labels(one_B)[0]})
    return rows


@dataclass(slots=True)
class Losses(TrainerCallback):
    """The loss of each step, as `Trainer` logs it."""

    values: list[float] = field(default_factory=list)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **others: Any) -> None:
        if "loss" in logs:
            self.values.append(logs["loss"])


def train(
    spec: PretrainSpec, rows: list[dict[str, Any]], way: TrainerWay, device_batch: int, timer: Timer
) -> tuple[Trained, PretrainingModel]:
    """Carry out ``spec`` with `Trainer`.

    Args:
        spec: the pre-training.
        rows: of `rows_of`, its training molecules.
        way: padding, precision, sampling and device.
        device_batch: molecules of one pass; gradients are accumulated up to the batch size of ``spec``.
        timer: is asked for the seconds.
    """
    model = build_pretraining_model(spec.model, spec.outputs, spec.seed, spec.dropout, spec.attention_dropout)
    plain(model)
    with_loss, steps = WithLoss(model), total_steps(spec)
    optimiser = torch.optim.AdamW(model.parameters(), lr=spec.learning_rate, weight_decay=spec.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: rate_factor(min(step, steps - 1), steps, spec.warmup_fraction)
    )
    with tempfile.TemporaryDirectory() as folder:  # it insists on one
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=min(device_batch, spec.batch_size),
            gradient_accumulation_steps=max(1, spec.batch_size // device_batch),
            max_grad_norm=spec.max_grad_norm or 0.0,
            bf16=way.precision == "bf16",
            use_cpu=way.device == "cpu",
            train_sampling_strategy="group_by_length" if way.by_length else "random",
            seed=spec.seed,
            logging_steps=1 if way.device == "cpu" else 500,  # a look at the loss makes a GPU wait
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=way.device == "cuda",
            remove_unused_columns=False,
        )
        losses = Losses()
        trainer = Trainer(
            model=with_loss,
            args=arguments,
            train_dataset=rows,
            data_collator=Collator(spec.model.pad_id, way.padded_to),
            optimizers=(optimiser, schedule),
            callbacks=[timer, losses],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return Trained(timer.ended - timer.began, with_loss.molecules, losses.values), model


def validation_loss(model: PretrainingModel, rows: list[dict[str, Any]], pad_id: int) -> float:
    """Mean absolute error over the known labels of a molecule, averaged over the molecules."""
    collator, errors = Collator(pad_id, None), []
    model.eval()
    with torch.no_grad():
        for start in range(0, len(rows), 32):
            batch = collator(rows[start : start + 32])
            predicted_BK = model(batch["input_ids"], batch["attention_mask"])
            errors.append((predicted_BK - batch["labels"]).abs().nanmean(1))
    return float(torch.cat(errors).nanmean())
