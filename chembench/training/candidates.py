"""The models that a trial fits, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from chembench.errors import ConfigError
from chembench.models.base import build_pretraining_model, load_tensors
from chembench.models.heads import FinetuneModel
from chembench.registry import METHODS
from chembench.specs import Inputs, TrialSpec
from chembench.training.checkpoint import Checkpoint, read_checkpoint
from chembench.training.device import Device


@dataclass(frozen=True, slots=True)
class Candidates:
    """The models to fit, numbered from 1: one, or one per kept pre-training epoch."""

    spec: TrialSpec
    device: Device
    checkpoint: Checkpoint | None
    files: tuple[Path, ...]

    @classmethod
    def of(cls, spec: TrialSpec, inputs: Inputs, device: Device) -> Candidates:
        """Those of a trial; their weights are not read yet.

        Raises:
            ConfigError: if the trial begins with a checkpoint and none is given.
            DataError: if it is damaged, or another one.
        """
        if spec.pretrained is None:
            return cls(spec, device, None, ())
        if inputs.checkpoint is None:
            raise ConfigError(f"the trial names checkpoint {spec.pretrained}, inputs.checkpoint is not given; give it")
        found = read_checkpoint(Path(inputs.checkpoint), spec.pretrained)
        files = found.weight_files if spec.finetune.checkpoints == "every_epoch" else found.weight_files[-1:]
        return cls(spec, device, found, files)

    @property
    def count(self) -> int:
        """How many there are."""
        return max(1, len(self.files))

    def weights_file(self, number: int) -> Path | None:
        """The pre-trained weights one begins with; none if they are random."""
        return self.files[number - 1] if self.files else None

    def build(self, number: int) -> FinetuneModel:
        """The model as it is before anything is trained: the same each time."""
        spec = self.spec
        blank = build_pretraining_model(
            spec.model, spec.descriptors, spec.init_seed, spec.finetune.dropout, attention_dropout=0.0
        )
        file = self.weights_file(number)
        if self.checkpoint is not None and file is not None:
            load_tensors(blank, self.checkpoint.tensors(file))
        return cast(FinetuneModel, METHODS.load(spec.finetune.method)(blank, spec)).to(self.device.torch)
