"""Molecules as a model takes them, and what it says of all of them.

Axes: N molecules, B of a micro-batch, T tokens, F features, M targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chembench.errors import RunError
from chembench.models.heads import FinetuneModel
from chembench.specs import Precision
from chembench.training.device import precision_set
from chembench.training.features import KEPT, FeatureKey
from chembench.training.loop import as_batch
from chembench.training.memory import MicroBatches
from chembench.training.tokenised import TokenRows

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Source:
    """Molecules as a model takes them: tokens, or features that were computed once."""

    model: FinetuneModel
    micro: MicroBatches
    precision: Precision
    tokens: TokenRows
    lengths_N: NDArray[np.int64]
    """What a molecule costs: its tokens, or 1 where its features are known."""
    features_NF: Tensor | None = None

    def features(self, indices_B: NDArray[np.int64]) -> Tensor:
        ids_BT, lengths_B = self.tokens.padded(indices_B)
        with precision_set(self.precision, self.micro.device):
            return self.model.features(*as_batch(ids_BT, lengths_B, self.model.backbone, self.micro.device.torch))

    def outputs(self, indices_B: NDArray[np.int64]) -> Tensor:
        """Logits or scaled values, shape (B, M), in fp32."""
        if self.features_NF is not None:
            picked_BF = self.features_NF[torch.from_numpy(indices_B).to(self.micro.device.torch)]
            return cast(Tensor, self.model.head(picked_BF))
        features_BF = self.features(indices_B)
        with precision_set(self.precision, self.micro.device):
            return cast(Tensor, self.model.head(features_BF)).float()

    def all_features(self, batches: Sequence[Ints]) -> Tensor:
        """Features of all molecules, shape (N, F), in fp32; ``batches`` hold each of them once."""
        device, features_NF = self.micro.device.torch, torch.empty(0)
        with torch.no_grad():
            for number, indices_B in enumerate(batches):
                part_BF = self.features(indices_B).float()
                if not number:
                    features_NF = torch.empty(len(self.tokens), part_BF.shape[1], device=device)
                features_NF[torch.from_numpy(indices_B).to(device)] = part_BF
        return features_NF


def source_of(
    model: FinetuneModel, tokens: TokenRows, precision: Precision, micro: MicroBatches, key: FeatureKey | None = None
) -> Source:
    """The molecules of a part; where the backbone is frozen, their features are computed here and never again.

    Args:
        model: which takes them.
        tokens: of the molecules.
        precision: of forward passes.
        micro: how much goes through the model at once.
        key: under which features are shared with other trials of this process; none: they are not.

    Raises:
        RunError: with cause ``oom`` if memory does not hold even small micro-batches.
    """
    source = Source(model, micro, precision, tokens, tokens.lengths_N)
    if not model.frozen:
        return source
    features_NF = KEPT.get(key) if key is not None else None
    if features_NF is None:
        model.eval()
        packing = micro.packing
        features_NF = micro.run(np.arange(len(tokens)), tokens.lengths_N, source.all_features)
        if key is not None and micro.packing == packing:  # other micro-batches would be other sums
            KEPT.keep(key, features_NF)
    return replace(source, lengths_N=np.ones(len(tokens), np.int64), features_NF=features_NF)


def all_outputs(source: Source, targets: int) -> Floats:
    """Logits or scaled values of all molecules, without dropout, shape (N, M).

    Raises:
        RunError: with cause ``nan`` if one is not finite, ``oom`` if memory does not hold even small micro-batches.
    """
    outputs_NM = np.empty((len(source.lengths_N), targets), np.float64)

    def fill(batches: Sequence[Ints]) -> None:
        with torch.no_grad():
            for indices_B in batches:
                outputs_NM[indices_B] = source.outputs(indices_B).cpu().numpy()

    source.model.eval()
    source.micro.run(np.arange(len(outputs_NM)), source.lengths_N, fill)
    if not np.isfinite(outputs_NM).all():
        raise RunError(
            "predictions must stay finite, some are not; lower the learning rate or set max_grad_norm", "nan"
        )
    return outputs_NM
