"""Fine-tuning methods that need torch alone, and the model they all make.

Axes: B molecules, T tokens, D hidden units, K descriptors, F features of a head, N targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self, cast

import torch
from torch import Tensor, nn

from chembench.errors import ConfigError
from chembench.models.base import (
    Backbone,
    PretrainingModel,
    build_pretraining_model,
    copy_tensors,
    load_tensors,
    own_tensors,
    seeded,
    set_dropout,
    tensors_to_save,
)
from chembench.registry import METHODS
from chembench.specs import TrialSpec

PAPER_HEAD_WIDTH = 64
CONSTANT_BELOW = 1e-6
"""A feature that varies less than this over the training molecules says nothing; it is centred, not blown up."""


class FinetuneModel(nn.Module):
    """A backbone, what lies between it and the head, and a new head for one task.

    Attributes:
        backbone: gives pooled states, shape (B, D).
        readout: the frozen pre-training head of ``descriptor_probe``, otherwise nothing.
        head: from features (B, F) to logits or scaled values (B, N).
        frozen: true when features need no gradient: they can be computed once and the head trained alone. They are
            then computed without dropout, in training mode too.
    """

    def __init__(self, backbone: Backbone, readout: nn.Module, head: nn.Module, *, frozen: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.readout = readout
        self.head = head
        self.frozen = frozen
        if frozen:
            backbone.requires_grad_(False)
            readout.requires_grad_(False)
        self.train()

    def features(self, ids_BT: Tensor, mask_BT: Tensor | None) -> Tensor:
        """What the head reads: pooled states, or predicted descriptors, shape (B, F)."""
        return cast(Tensor, self.readout(self.backbone(ids_BT, mask_BT)))

    def forward(self, ids_BT: Tensor, mask_BT: Tensor | None) -> Tensor:
        """Logits of a classification, scaled values of a regression, shape (B, N)."""
        return cast(Tensor, self.head(self.features(ids_BT, mask_BT)))

    def trainable_parameters(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
            self.readout.eval()
        return self

    def learn_scale(self, features_NF: Tensor) -> None:
        """Let the head standardise its features by those of the training molecules, where it does so."""
        for module in self.head.modules():
            if isinstance(module, Standardise):
                module.learn(features_NF)

    def learnt(self) -> dict[str, Tensor]:
        """What training makes: the trained weights, and the head with the scale of its features.

        Everything else is what the pre-trained model holds, so that this and its checkpoint are the whole model.
        """
        own = own_tensors(self).items()
        return {name: tensor for name, tensor in own if tensor.requires_grad or name.startswith("head.")}

    def take_learnt(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy in what `learnt` gave of such a model.

        Raises:
            DataError: if the tensors are not those of this model.
        """
        copy_tensors(self.learnt(), tensors)

    def state_for_saving(self) -> dict[str, Tensor]:
        """Copies of the weights on the CPU, as safetensors takes them and `load_finetuned` reads them."""
        return tensors_to_save(self)


class Standardise(nn.Module):
    """Features of the training molecules to mean 0 and variance 1, unit by unit; a constant unit becomes 0."""

    mean_F: Tensor
    sd_F: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean_F", torch.zeros(features))
        self.register_buffer("sd_F", torch.ones(features))

    def learn(self, features_NF: Tensor) -> None:
        self.mean_F.copy_(features_NF.mean(0))
        sd_F = features_NF.std(0, correction=0)
        self.sd_F.copy_(torch.where(sd_F > CONSTANT_BELOW, sd_F, torch.ones_like(sd_F)))

    def forward(self, features_BF: Tensor) -> Tensor:
        return (features_BF - self.mean_F) / self.sd_F


def full(model: PretrainingModel, trial: TrialSpec) -> FinetuneModel:
    """Every weight of the backbone is trained, under a new head with one hidden layer.

    Args:
        model: the pre-trained model; it is taken over, load it anew for the next trial.
        trial: gives dropout (of the backbone and in the head), targets and the seed of the head.

    Raises:
        ConfigError: if ``model`` is not what the trial asks for.
    """
    require_same_model(model, trial)
    set_dropout(model, trial.finetune.dropout)
    with seeded(trial.head_seed):
        head = hidden_layer_head(model.backbone.hidden, trial)
    return FinetuneModel(model.backbone, nn.Identity(), head, frozen=False)


def linear_probe(model: PretrainingModel, trial: TrialSpec) -> FinetuneModel:
    """One linear layer on the frozen pooled state.

    Each unit of the state is first brought to mean 0 and variance 1 over the training molecules (`learn_scale`), so
    that one learning rate means the same for every architecture. Arguments and errors are those of `full`.
    """
    require_same_model(model, trial)
    hidden = model.backbone.hidden
    with seeded(trial.head_seed):
        head = nn.Sequential(
            Standardise(hidden),
            nn.Dropout(trial.finetune.dropout),
            nn.Linear(hidden, trial.targets),
        )
    return FinetuneModel(model.backbone, nn.Identity(), head, frozen=True)


def descriptor_probe(model: PretrainingModel, trial: TrialSpec) -> FinetuneModel:
    """Three small layers on the K descriptors that the frozen backbone and frozen pre-training head predict.

    With dropout 0 it is the head of arXiv 2405.00949, except that its authors left the dropout of the frozen backbone
    on while they trained; here features are the same in every epoch. Arguments and errors are those of `full`.
    """
    require_same_model(model, trial)
    readout = nn.Sequential(nn.GELU(), model.head)
    with seeded(trial.head_seed):
        head = nn.Sequential(
            nn.GELU(),
            nn.Dropout(trial.finetune.dropout),
            nn.Linear(model.outputs, PAPER_HEAD_WIDTH),
            nn.GELU(),
            nn.Linear(PAPER_HEAD_WIDTH, PAPER_HEAD_WIDTH),
            nn.GELU(),
            nn.Linear(PAPER_HEAD_WIDTH, trial.targets),
        )
    return FinetuneModel(model.backbone, readout, head, frozen=True)


def hidden_layer_head(hidden: int, trial: TrialSpec) -> nn.Module:
    """The head of methods that train the backbone: one hidden layer, with weights from torch's CPU generator."""
    dropout = trial.finetune.dropout
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(hidden, hidden),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(hidden, trial.targets),
    )


def require_same_model(model: PretrainingModel, trial: TrialSpec) -> None:
    """Check that ``model`` is the one that ``trial`` names.

    Raises:
        ConfigError: if the backbone or the number of descriptors differs.
    """
    if model.spec != trial.model:
        ours, theirs = model.spec.model_dump(), trial.model.model_dump()
        name = next(key for key in theirs if ours[key] != theirs[key])
        raise ConfigError(
            f"a trial fine-tunes the model it names, got {name} {ours[name]!r} where the trial says {theirs[name]!r}; "
            "give the checkpoint of trial.pretrained"
        )
    if model.outputs != trial.descriptors:
        raise ConfigError(
            f"a trial fine-tunes the model it names, got a head of {model.outputs} descriptors where the trial says "
            f"{trial.descriptors}; give the checkpoint of trial.pretrained"
        )


def load_finetuned(trial: TrialSpec, tensors: Mapping[str, Tensor]) -> FinetuneModel:
    """The model whose `FinetuneModel.state_for_saving` gave ``tensors``, ready to predict; needs torch alone.

    LoRA weights were merged when saved, so a ``lora`` trial loads as ``full``.

    Raises:
        DataError: if the tensors are not those of the trial's model.
    """
    method = "full" if trial.finetune.method == "lora" else trial.finetune.method
    blank = build_pretraining_model(trial.model, trial.descriptors, seed=0, dropout=0.0)
    model = cast(FinetuneModel, METHODS.load(method)(blank, trial))
    load_tensors(model, tensors)
    return model.eval()


def join_finetuned(trial: TrialSpec, pretrained: Mapping[str, Tensor], learnt: Mapping[str, Tensor]) -> FinetuneModel:
    """The model that was fitted to ``pretrained``, and of which `FinetuneModel.learnt` gave ``learnt``; to predict.

    Raises:
        DataError: if the tensors are not those of the trial's model.
    """
    blank = build_pretraining_model(trial.model, trial.descriptors, seed=0, dropout=0.0)
    load_tensors(blank, pretrained)
    model = cast(FinetuneModel, METHODS.load(trial.finetune.method)(blank, trial))
    model.take_learnt(learnt)
    return model.eval()
