"""What every backbone promises, the model that is pre-trained, and how weights go to and from tensors.

Axes: B molecules, T tokens, D hidden units, K descriptors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar, Protocol, Self, cast

import torch
from torch import Tensor, nn

from chembench.errors import DataError
from chembench.models.sizes import require_feasible
from chembench.registry import ARCHITECTURES
from chembench.specs import ModelSpec


class Backbone(nn.Module, ABC):
    """A transformer that turns token ids into one vector a molecule.

    Promises: padding stands on the right and never changes the result; weights come from torch's CPU generator alone.

    Attributes:
        spec: the dimensions it was built from.
        hidden: length D of the vector.
        has_inner_dropout: false where the architecture knows no dropout of hidden states.
        lora_targets: last names of every linear layer of attention and feed-forward parts.
        padding_cost: of a token of padding on a CPU, in real ones, under default pooling.
    """

    has_inner_dropout: ClassVar[bool] = True
    lora_targets: ClassVar[tuple[str, ...]]
    padding_cost: ClassVar[float] = 1.0

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.hidden = spec.hidden

    @classmethod
    @abstractmethod
    def build(cls, spec: ModelSpec, dropout: float, attention_dropout: float) -> Self:
        """A backbone with weights drawn from torch's global CPU generator."""

    @abstractmethod
    def states(self, ids_BT: Tensor, mask_BT: Tensor | None) -> Tensor:
        """Last hidden state of every token, shape (B, T, D); those of padding are meaningless."""

    @abstractmethod
    def summary_index(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Place of the token whose state stands for the molecule, shape (B,)."""

    @abstractmethod
    def set_dropout(self, probability: float) -> None:
        """Change the dropout of hidden states; dropout of attention weights stays."""

    def forward(self, ids_BT: Tensor, mask_BT: Tensor | None) -> Tensor:
        """One vector a molecule.

        Args:
            ids_BT: token ids, int64, padded on the right.
            mask_BT: bool, true at real tokens; none where all of them are real, which needs no mask in attention.

        Returns:
            Pooled states, shape (B, D).

        Raises:
            DataError: if `check` refuses the batch. One on a GPU is not looked at, because that would make the host
                wait for it; who sends it there checks it before.
        """
        if ids_BT.device.type == "cpu":
            self.check(ids_BT, mask_BT)
        return self.pooled(ids_BT, mask_BT)

    def pooled(self, ids_BT: Tensor, mask_BT: Tensor | None) -> Tensor:
        """One vector a molecule, shape (B, D), of a batch that was looked at; a backbone may have a quicker way."""
        states_BTD = self.states(ids_BT, mask_BT)
        real_BT = torch.ones_like(ids_BT, dtype=torch.bool) if mask_BT is None else mask_BT
        if self.spec.pooling == "mean":
            real_BT1 = real_BT.unsqueeze(-1).to(states_BTD.dtype)
            return (states_BTD * real_BT1).sum(1) / real_BT1.sum(1)
        rows_B = torch.arange(len(ids_BT), device=ids_BT.device)
        return states_BTD[rows_B, self.summary_index(ids_BT, real_BT)]

    def check(self, ids_BT: Tensor, mask_BT: Tensor | None) -> None:
        """See to it that the batch can be read.

        Raises:
            DataError: if a sequence is empty, longer than ``spec.max_length`` or not padded on the right.
        """
        if ids_BT.shape[1] > self.spec.max_length:
            raise DataError(
                f"a sequence holds at most {self.spec.max_length} tokens, got {ids_BT.shape[1]}; "
                "truncate it or build the model with a larger max_length"
            )
        if mask_BT is None:
            return
        if mask_BT.dtype != torch.bool or mask_BT.shape != ids_BT.shape:
            raise DataError(
                f"the mask must be bool and shaped like the ids {tuple(ids_BT.shape)}, got {mask_BT.dtype} "
                f"{tuple(mask_BT.shape)}; mark real tokens with true"
            )
        starts_real = mask_BT[:, :1].all()
        stays_padded = (mask_BT[:, :-1] >= mask_BT[:, 1:]).all()
        if not bool(starts_real & stays_padded):
            raise DataError(
                "every sequence needs a first real token and padding on the right only, got a mask with a gap or "
                "an empty row; drop empty molecules and pad on the right"
            )


def for_attention(mask_BT: Tensor | None) -> Tensor | None:
    """The mask of real tokens as Hugging Face's classes take it, on a GPU in shape (B, 1, T, T).

    They take one of four dimensions as it is; at one of two they look first, for which the host would wait for a GPU.
    """
    if mask_BT is None or mask_BT.device.type == "cpu":
        return mask_BT
    return mask_BT[:, None, None, :].expand(-1, 1, mask_BT.shape[1], -1)


def causal_for_attention(ids_BT: Tensor) -> Tensor | None:
    """The mask of a decoder that reads no padding, on a GPU in shape (B, 1, T, T); none on the CPU, where none will do.

    Where they are given none, Hugging Face's classes look at the positions or at a mask of their own.
    """
    if ids_BT.device.type == "cpu":
        return None
    size, length = ids_BT.shape
    return torch.ones(length, length, dtype=torch.bool, device=ids_BT.device).tril().expand(size, 1, -1, -1)


class Architecture(Protocol):
    """What a row of `ARCHITECTURES` is: something that builds a backbone."""

    padding_cost: float

    def build(self, spec: ModelSpec, dropout: float, attention_dropout: float) -> Backbone: ...


def padding_cost(spec: ModelSpec, device: torch.device) -> float:
    """What a token of padding costs where the model runs, in real ones."""
    if device.type != "cpu" or spec.pooling != "default":
        return 1.0
    return cast(Architecture, ARCHITECTURES.load(spec.architecture)).padding_cost


class PretrainingModel(nn.Module):
    """A backbone and the head that predicts descriptors: GELU, then one linear layer, as in arXiv 2405.00949.

    Where the backbone has no dropout of its own (LLaMA), ``dropout`` acts before the linear layer instead.
    """

    def __init__(self, backbone: Backbone, outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(0.0 if backbone.has_inner_dropout else dropout)
        self.head = nn.Linear(backbone.hidden, outputs)

    @property
    def spec(self) -> ModelSpec:
        return self.backbone.spec

    @property
    def outputs(self) -> int:
        return self.head.out_features

    def forward(self, ids_BT: Tensor, mask_BT: Tensor | None) -> Tensor:
        """Predicted descriptors, standardised, shape (B, K)."""
        return self.descriptors(self.backbone(ids_BT, mask_BT))

    def descriptors(self, pooled_BD: Tensor) -> Tensor:
        """Descriptors predicted from pooled states, shape (B, K)."""
        return cast(Tensor, self.head(self.dropout(nn.functional.gelu(pooled_BD))))


def build_pretraining_model(
    spec: ModelSpec, outputs: int, seed: int, dropout: float = 0.1, attention_dropout: float = 0.0
) -> PretrainingModel:
    """A model with random weights that depend on ``spec``, ``outputs`` and ``seed`` alone.

    Args:
        spec: the backbone.
        outputs: number of descriptors K.
        seed: of the initial weights; torch's global generators are left as they were.
        dropout: of hidden states.
        attention_dropout: of attention weights.

    Returns:
        The model in float32, in training mode; the backbone's weights do not depend on ``outputs``.

    Raises:
        ConfigError: if the dimensions cannot be built.
    """
    require_feasible(spec)
    architecture: Architecture = ARCHITECTURES.load(spec.architecture)
    with seeded(seed):
        return PretrainingModel(architecture.build(spec, dropout, attention_dropout), outputs, dropout).train()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw random weights from ``seed`` on the CPU; afterwards torch's global generators are as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def set_dropout(model: PretrainingModel, probability: float) -> None:
    """Give ``model`` another dropout of hidden states; dropout of attention weights stays."""
    model.backbone.set_dropout(probability)
    if not model.backbone.has_inner_dropout:
        model.dropout.p = probability


def tensors_to_save(module: nn.Module) -> dict[str, Tensor]:
    """The state of ``module`` as safetensors takes it: on the CPU, contiguous, each shared tensor once.

    Returns:
        Copies under the first name of each tensor (BART's three embeddings are one).
    """
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in own_tensors(module).items()
    }


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy what `tensors_to_save` gave back into ``module``; shared tensors stay shared.

    Raises:
        DataError: if a tensor is missing, unexpected or of another shape or type; ``module`` is then unchanged.
    """
    copy_tensors(own_tensors(module), tensors)


def copy_tensors(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Copy ``tensors`` into those of the same name; errors are those of `load_tensors`."""
    missing, unexpected = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or unexpected:
        raise DataError(
            f"weights must name the {len(own)} tensors of this model, got {len(missing)} missing "
            f"(first: {missing[:1] or 'none'}) and {len(unexpected)} unexpected (first: {unexpected[:1] or 'none'}); "
            "load them into the architecture and size they were saved from"
        )
    for name, tensor in own.items():
        found = tensors[name]
        if found.shape != tensor.shape or found.dtype != tensor.dtype:
            raise DataError(
                f"tensor {name} must be {tensor.dtype} {tuple(tensor.shape)}, got {found.dtype} "
                f"{tuple(found.shape)}; load it into the architecture and size it was saved from"
            )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[name])


def own_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The weights and buffers of ``module`` themselves, each shared tensor once, under its first name."""
    first: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        first.setdefault(id(tensor), (name, tensor))
    return dict(first.values())
