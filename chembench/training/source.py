"""Molecules as a model takes them, and what it says of all of them.

Axes: N molecules, B of a micro-batch, T tokens, F features, M targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chembench.data.batches import length_batches
from chembench.errors import RunError
from chembench.models.heads import FinetuneModel
from chembench.specs import Precision
from chembench.training.device import Device, precision_set
from chembench.training.loop import as_batch
from chembench.training.tokenised import TokenRows

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Source:
    """Molecules as a model takes them: tokens, or features that were computed once."""

    model: FinetuneModel
    device: Device
    precision: Precision
    tokens: TokenRows
    lengths_N: NDArray[np.int64]
    """What a molecule costs: its tokens, or 1 where its features are known."""
    features_NF: Tensor | None = None

    def features(self, indices_B: NDArray[np.int64]) -> Tensor:
        ids_BT, lengths_B = self.tokens.padded(indices_B)
        with precision_set(self.precision, self.device):
            return self.model.features(*as_batch(ids_BT, lengths_B, self.device.torch))

    def outputs(self, indices_B: NDArray[np.int64]) -> Tensor:
        """Logits or scaled values, shape (B, M), in fp32."""
        if self.features_NF is not None:
            picked_BF = self.features_NF[torch.from_numpy(indices_B).to(self.device.torch)]
            return cast(Tensor, self.model.head(picked_BF))
        features_BF = self.features(indices_B)
        with precision_set(self.precision, self.device):
            return cast(Tensor, self.model.head(features_BF)).float()


def source_of(model: FinetuneModel, tokens: TokenRows, precision: Precision, device: Device) -> Source:
    """The molecules of a part; where the backbone is frozen, their features are computed here and never again."""
    source = Source(model, device, precision, tokens, tokens.lengths_N)
    if not model.frozen:
        return source
    model.eval()
    features_NF: Tensor | None = None
    with torch.no_grad():
        for indices_B in length_batches(tokens.lengths_N, device.packing):
            part_BF = source.features(indices_B).float()
            if features_NF is None:
                features_NF = torch.empty(len(tokens), part_BF.shape[1], device=device.torch)
            features_NF[torch.from_numpy(indices_B).to(device.torch)] = part_BF
    return Source(model, device, precision, tokens, np.ones(len(tokens), np.int64), features_NF)


def all_outputs(source: Source, targets: int) -> Floats:
    """Logits or scaled values of all molecules, without dropout, shape (N, M).

    Raises:
        RunError: with cause ``nan`` if one is not finite.
    """
    outputs_NM = np.empty((len(source.lengths_N), targets), np.float64)
    source.model.eval()
    with torch.no_grad():
        for indices_B in length_batches(source.lengths_N, source.device.packing):
            outputs_NM[indices_B] = source.outputs(indices_B).cpu().numpy()
    if not np.isfinite(outputs_NM).all():
        raise RunError(
            "predictions must stay finite, some are not; lower the learning rate or set max_grad_norm", "nan"
        )
    return outputs_NM
