"""A fitted model on disk, and back: from SMILES to predictions, without rdkit or the sweep it came from.

The folder holds ``model.safetensors`` (LoRA merged), ``settings.json`` and ``tokenizer/``.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors.torch import save_file

from chembench.errors import DataError
from chembench.models.heads import FinetuneModel, load_finetuned
from chembench.paths import built_whole, write_json
from chembench.specs import TaskKind, TrialSpec
from chembench.training.checkpoint import FORMAT, SETTINGS, TOKENIZER, WEIGHTS, read_settings, read_tensors
from chembench.training.device import CPU, Device, threads_set
from chembench.training.source import all_outputs, source_of
from chembench.training.targets import Scaling
from chembench.training.tokenised import tokenise


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
    device: Device = CPU

    @property
    def kind(self) -> TaskKind:
        return self.spec.task_kind

    @property
    def task(self) -> str:
        return self.spec.task

    def save(self, folder: Path) -> None:
        """Write everything needed to predict, whole."""
        with built_whole(folder) as part:
            save_file(self.model.state_for_saving(), part / WEIGHTS)
            shutil.copytree(self.tokenizer_folder, part / TOKENIZER)
            write_json(part / SETTINGS, self._settings())

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
    def load(cls, folder: Path | str) -> FittedModel:
        """The model in ``folder``, on the CPU.

        Raises:
            DataError: if a file is missing, malformed or does not belong to the others.
        """
        folder = Path(folder)
        settings = read_settings(folder, "fitted")
        try:
            spec = TrialSpec.model_validate(settings["trial"])
            mean_M, sd_M = (np.array(settings["scaling"][name], np.float64) for name in ("mean", "sd"))
            names, unit = tuple(map(str, settings["targets"])), str(settings["unit"])
        except (KeyError, TypeError, ValueError, ValidationError) as error:
            raise DataError(
                f"{folder / SETTINGS} must describe a fitted model ({error}); save the model again"
            ) from error
        if not len(mean_M) == len(sd_M) == len(names) == spec.targets:
            raise DataError(
                f"{folder / SETTINGS} must give a name, mean and sd for each of {spec.targets} targets, "
                f"it gives {len(names)}, {len(mean_M)} and {len(sd_M)}; save the model again"
            )
        model = load_finetuned(spec, read_tensors(folder / WEIGHTS))
        return cls(spec, names, unit, Scaling(spec.task_kind, mean_M, sd_M), model, folder / TOKENIZER)

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
            source = source_of(self.model, tokens, self.spec.precision, self.device)
            return self.scaling.undone(all_outputs(source, self.spec.targets))
