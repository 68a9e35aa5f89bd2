"""A fitted model on disk, and back: from SMILES to predictions, without rdkit or the sweep it came from.

The folder holds ``model.safetensors`` (LoRA merged), ``settings.json`` and ``tokenizer/``. That of a probe holds the
head alone, and the name and place of the pre-trained model that it reads, unless it was asked to be whole.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors.torch import save_file

from chembench.errors import DataError
from chembench.models.heads import FinetuneModel, join_finetuned, load_finetuned
from chembench.paths import CachePaths, built_whole, default_cache, write_json
from chembench.specs import TaskKind, TrialSpec
from chembench.training.checkpoint import (
    EPOCHS,
    FORMAT,
    SETTINGS,
    TOKENIZER,
    WEIGHTS,
    read_checkpoint,
    read_settings,
    read_tensors,
    sha256_of,
)
from chembench.training.device import CPU, Device, threads_set
from chembench.training.memory import MicroBatches
from chembench.training.source import all_outputs, source_of
from chembench.training.targets import Scaling
from chembench.training.tokenised import tokenise

READS = ("pretrained", "folder", "file", "sha256")
"""Which pre-trained weights the head of a probe belongs to, and where they lay."""


@dataclass(frozen=True, slots=True)
class FittedModel:
    """A fine-tuned model that predicts."""

    spec: TrialSpec
    target_names: tuple[str, ...]
    unit: str
    """Of a regression's predictions; classifications predict probabilities of class 1."""
    scaling: Scaling
    model: FinetuneModel
    tokenizer_folder: Path
    weights_file: Path | None = None
    """The pre-trained weights that a probe reads; none: they are not on disk."""
    device: Device = CPU

    @property
    def kind(self) -> TaskKind:
        return self.spec.task_kind

    @property
    def task(self) -> str:
        return self.spec.task

    def save(self, folder: Path, *, whole: bool = False) -> None:
        """Write what is needed to predict.

        Args:
            folder: where it will lie.
            whole: write all weights of a probe too, so that the folder can be used anywhere; other models always are.

        Raises:
            DiskFullError: if there is no space for it.
        """
        alone = whole or not self.model.frozen or self.weights_file is None
        tensors = self.model.state_for_saving()
        if not alone:
            tensors = {name: tensors[name] for name in self.model.learnt()}
        with built_whole(folder) as part:
            save_file(tensors, part / WEIGHTS)
            shutil.copytree(self.tokenizer_folder, part / TOKENIZER)
            settings = self._settings() | {"sha256": sha256_of(part / WEIGHTS)}
            write_json(part / SETTINGS, settings | ({} if alone else {"reads": self._reads()}))

    def _reads(self) -> dict[str, str]:
        file = cast(Path, self.weights_file).resolve()
        folder = file.parent.parent if file.parent.name == EPOCHS else file.parent
        values = (cast(str, self.spec.pretrained), str(folder), str(file.relative_to(folder)), sha256_of(file))
        return dict(zip(READS, values, strict=True))

    def _settings(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "kind": "fitted",
            "trial": self.spec.model_dump(mode="json"),
            "targets": list(self.target_names),
            "task_kind": self.spec.task_kind,
            "unit": self.unit,
            "scaling": {"mean": self.scaling.mean_M.tolist(), "sd": self.scaling.sd_M.tolist()},
        }

    @classmethod
    def load(cls, folder: Path | str, checkpoint: Path | str | None = None) -> FittedModel:
        """The model in ``folder``, on the CPU.

        Args:
            folder: as `save` writes it.
            checkpoint: folder of the pre-trained model that a probe reads; none: where it lay when it was saved, else
                the cache of this machine.

        Raises:
            DataError: if a file is missing, malformed or does not belong to the others, or the pre-trained model of a
                probe is gone.
        """
        folder = Path(folder)
        settings = read_settings(folder, "fitted")
        try:
            spec = TrialSpec.model_validate(settings["trial"])
            mean_M, sd_M = (np.array(settings["scaling"][name], np.float64) for name in ("mean", "sd"))
            names, unit = tuple(map(str, settings["targets"])), str(settings["unit"])
            reads = {name: str(settings["reads"][name]) for name in READS} if "reads" in settings else None
        except (KeyError, TypeError, ValueError, ValidationError) as error:
            raise DataError(
                f"{folder / SETTINGS} must describe a fitted model ({error}); save the model again"
            ) from error
        if not len(mean_M) == len(sd_M) == len(names) == spec.targets:
            raise DataError(
                f"{folder / SETTINGS} must give a name, mean and sd for each of {spec.targets} targets, "
                f"it gives {len(names)}, {len(mean_M)} and {len(sd_M)}; save the model again"
            )
        tensors, scaling = read_tensors(folder / WEIGHTS), Scaling(spec.task_kind, mean_M, sd_M)
        _require_weights(folder / WEIGHTS, settings.get("sha256"))
        if reads is None:
            return cls(spec, names, unit, scaling, load_finetuned(spec, tensors), folder / TOKENIZER)
        file = _weights_of_probe(folder, reads, checkpoint)
        model = join_finetuned(spec, read_tensors(file), tensors)
        return cls(spec, names, unit, scaling, model, folder / TOKENIZER, file)

    def predict(self, smiles: Sequence[str]) -> NDArray[np.float64]:
        """Predictions for SMILES, which are read as they are: give canonical ones, as the model was fitted on.

        Returns:
            Values in the task's unit, or probabilities of class 1, shape (molecules, targets).

        Raises:
            DataError: if a SMILES holds a character that the tokenizer does not know.
            RunError: if a prediction is not finite.
        """
        if not len(smiles):
            return np.empty((0, self.spec.targets))
        tokens = tokenise(smiles, self.tokenizer_folder, self.spec.model, self.spec.tokenizer)
        with threads_set(self.spec.threads):
            source = source_of(self.model, tokens, self.spec.precision, MicroBatches.of(self.spec.model, self.device))
            return self.scaling.undone(all_outputs(source, self.spec.targets))


def _require_weights(file: Path, wanted: str | None) -> None:
    """Nothing, if the weights are those that were written; folders written before there were checksums have none."""
    if wanted is not None and (found := sha256_of(file)) != wanted:
        raise DataError(
            f"{file} must have sha256 {str(wanted)[:12]}... as it was written, it has {found[:12]}...; fit the model "
            "again (chembench rerun SWEEP UID) or put the file back"
        )


def _weights_of_probe(folder: Path, reads: dict[str, str], checkpoint: Path | str | None) -> Path:
    """The pre-trained weights that the head in ``folder`` was fitted on."""
    place = Path(checkpoint or reads["folder"])
    here = CachePaths(default_cache()).pretrained(reads["pretrained"])
    if checkpoint is None and not place.is_dir() and here.is_dir():  # fitted elsewhere
        place = here
    file = place / reads["file"]
    try:
        read_checkpoint(place, reads["pretrained"])
        if (found := sha256_of(file)) != reads["sha256"]:
            raise DataError(f"{file} has sha256 {found[:12]}..., the head was fitted on {reads['sha256'][:12]}...")
    except (DataError, OSError) as error:
        raise DataError(
            f"{folder} holds the head of a probe alone, pre-trained model {reads['pretrained']} must lie in {place} "
            f"({error}); put it back, or give its folder as checkpoint"
        ) from error
    return file
