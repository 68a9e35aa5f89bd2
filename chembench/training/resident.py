"""The molecules of a pre-training as its steps take them: from the host, or from the memory of the GPU itself.

A batch made on the host costs some microseconds a molecule, more than a GPU needs to learn from it. One that is cut on
the GPU costs a few launches, and the host never waits.

Axes: N molecules of the set, B of a micro-batch, T tokens, K descriptors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chembench.data.shards import Shards
from chembench.models.base import Backbone
from chembench.training.device import CPU, Device
from chembench.training.loop import Labels, as_batch, labels_on, to_device

Ints = NDArray[np.int64]

LARGEST_SHARE = 0.25
"""Of the GPU's free memory: the rest is for the model, what it computes, and other items."""
_CHUNK = 8192


class Molecules(Protocol):
    """What steps are taken on."""

    def batch(self, indices_B: Ints) -> tuple[Tensor, Tensor | None]:
        """Ids of some molecules, padded on the right to the longest, and the mask of real tokens, as `as_batch`."""

    def labels(self, indices_B: Ints) -> Labels:
        """Their standardised labels, on the device."""


@dataclass(frozen=True, slots=True)
class Hosted:
    """Molecules that are read from `Shards` step by step."""

    shards: Shards
    backbone: Backbone
    device: Device

    def batch(self, indices_B: Ints) -> tuple[Tensor, Tensor | None]:
        spec = self.backbone.spec
        ids_BT, lengths_B = self.shards.tokens(indices_B, spec.pad_id, spec.max_length)
        return as_batch(ids_BT, lengths_B, self.backbone, self.device.torch)

    def labels(self, indices_B: Ints) -> Labels:
        return labels_on(self.shards.labels(indices_B), self.device)


@dataclass(frozen=True, slots=True)
class Resident:
    """Tokens and standardised labels of N molecules on a device, those of `Shards` to the last bit."""

    flat: Tensor
    """Ids, one molecule after the other, cut to what the model reads."""
    starts_N: Tensor
    lengths_N: NDArray[np.integer]
    labels_NK: Tensor
    known_N: Ints
    """Labels of each molecule that are not NaN; on the host, where a step's are counted."""
    pad_id: int

    @classmethod
    def of(cls, shards: Shards, backbone: Backbone, device: Device) -> Resident:
        """Copy ``shards`` to ``device``, as ``backbone`` reads them.

        Raises:
            DataError: if it cannot read one of them.
        """
        lengths_N = np.minimum(shards.lengths_N, backbone.spec.max_length)
        here = Hosted(shards, backbone, CPU)
        ends_N = np.cumsum(lengths_N, dtype=np.int64)
        flat = torch.empty(int(ends_N[-1]), dtype=torch.int32, device=device.torch)
        labels_NK = torch.empty((len(shards), len(shards.names)), device=device.torch)
        known_N = np.empty(len(shards), np.int64)
        for start in range(0, len(shards), _CHUNK):
            indices_B = np.arange(start, min(start + _CHUNK, len(shards)))
            ids, mask = here.batch(indices_B)
            backbone.check(ids, mask)
            real = ids.flatten() if mask is None else ids[mask]
            first = int(ends_N[start] - lengths_N[start])
            flat[first : first + len(real)] = real.to(device.torch, torch.int32)
            labels_BK = shards.labels(indices_B)
            known_N[indices_B] = np.count_nonzero(~np.isnan(labels_BK), axis=1)
            labels_NK[start : start + len(indices_B)] = to_device(labels_BK, device)
        starts_N = torch.from_numpy(ends_N - lengths_N).to(device.torch)
        return cls(flat, starts_N, lengths_N, labels_NK, known_N, backbone.spec.pad_id)

    def batch(self, indices_B: Ints) -> tuple[Tensor, Tensor | None]:
        lengths_B = self.lengths_N[indices_B]
        longest = int(lengths_B.max())
        places_T = torch.arange(longest, device=self.flat.device)
        starts_B1 = self.starts_N[self._sent(indices_B)][:, None]
        if int(lengths_B.min()) == longest:
            return self.flat[starts_B1 + places_T].long(), None
        mask_BT = places_T < self._sent(lengths_B)[:, None]
        places_BT = torch.where(mask_BT, starts_B1 + places_T, 0)
        return torch.where(mask_BT, self.flat[places_BT].long(), self.pad_id), mask_BT

    def labels(self, indices_B: Ints) -> Labels:
        return Labels(self.labels_NK[self._sent(indices_B)], int(self.known_N[indices_B].sum()))

    def _sent(self, values_B: NDArray[np.integer]) -> Tensor:
        """On the device; from pinned memory, from where it is fetched while the host goes on."""
        values = torch.from_numpy(np.asarray(values_B, np.int64))
        return values.pin_memory().to(self.flat.device, non_blocking=True) if self.flat.is_cuda else values


def molecules_on(shards: Shards, backbone: Backbone, device: Device) -> Molecules:
    """``shards`` for steps on ``device``: a GPU that the item has alone, and that has room for them, keeps them.

    An item with a share of a GPU reads them from the host: its share was cut to what items of its make were measured
    to need, and those may have had fewer molecules (`sweep.packing.make_of` leaves their number out).
    """
    if device.name == "cuda" and device.memory_share == 1.0:
        free_bytes, _ = torch.cuda.mem_get_info()
        if bytes_of(shards) <= LARGEST_SHARE * free_bytes:
            return Resident.of(shards, backbone, device)
    return Hosted(shards, backbone, device)


def bytes_of(shards: Shards) -> int:
    """What `Resident` takes on the device."""
    return 4 * int(shards.lengths_N.sum()) + len(shards) * (4 * len(shards.names) + 8)
