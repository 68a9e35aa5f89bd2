"""What a frozen backbone says of the molecules of a task: computed once, shared by the probes that come after.

Axes: N molecules of a part, F features.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from torch import Tensor

from chembench.data.batches import Packing
from chembench.specs import ModelSpec, TrialSpec
from chembench.training.memory import MicroBatches

LARGEST_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class FeatureKey:
    """All that the features of training or validation rows hang on, to the last bit."""

    weights: tuple[str, int, int] | int
    """File of the pre-trained weights, its size and the time it was written; or the seed of random ones."""
    model: ModelSpec
    readout: tuple[str, int]
    """The method, and the outputs of the pre-training head that it may read."""
    rows: tuple[str | None, str, str, str]
    """Folder of the split, digests of its rows and of the tokenizer, and the part."""
    carried_out: tuple[str, int, str, Packing]
    """Precision, threads, device and micro-batches."""

    @classmethod
    def of(
        cls, spec: TrialSpec, split: str | None, part: Literal["train", "valid"], file: Path | None, micro: MicroBatches
    ) -> FeatureKey:
        """The key of a trial.

        Args:
            spec: of the trial.
            split: folder of its rows.
            part: which of them.
            file: pre-trained weights; none if they are random.
            micro: where, and how much at once.
        """
        stamp = file.stat() if file is not None else None
        return cls(
            weights=spec.init_seed if stamp is None else (str(file), stamp.st_size, stamp.st_mtime_ns),
            model=spec.model,
            readout=(spec.finetune.method, spec.descriptors),
            rows=(split, spec.data, spec.tokenizer, part),
            carried_out=(spec.precision, spec.threads, micro.device.name, micro.packing),
        )


@dataclass(slots=True)
class KeptFeatures:
    """The features that were used last, as many as fit."""

    largest_bytes: int = LARGEST_BYTES
    _kept: OrderedDict[FeatureKey, Tensor] = field(default_factory=OrderedDict)

    def get(self, key: FeatureKey) -> Tensor | None:
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def keep(self, key: FeatureKey, features_NF: Tensor) -> None:
        self._kept[key] = features_NF
        while sum(kept.nbytes for kept in self._kept.values()) > self.largest_bytes:
            self._kept.popitem(last=False)

    def clear(self) -> None:
        self._kept.clear()


KEPT = KeptFeatures()
"""Of this process: trials that follow each other in it share them, as they share the rows of `load_part`."""
