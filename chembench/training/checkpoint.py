"""Weights on disk: the folder of a pre-trained model, and the state from which a stopped training goes on.

A pre-trained folder, named by the digest of its `PretrainSpec`::

    model.safetensors      weights after the last epoch
    epochs/01.safetensors  weights after earlier epochs, where they were asked for
    settings.json          what it is: specification, names of the descriptors
    training.json          how it went: metrics, curve, measured cost
    tokenizer/             the tokenizer it reads

Nothing found in a folder is unpickled: weights are safetensors, optimiser states load with ``weights_only=True``.
"""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from chembench.errors import DataError
from chembench.paths import built_whole, read_json, write_json, written_whole
from chembench.specs import PretrainSpec

FORMAT = 1
WEIGHTS, SETTINGS, TRAINING, TOKENIZER, EPOCHS = (
    "model.safetensors",
    "settings.json",
    "training.json",
    "tokenizer",
    "epochs",
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A pre-trained folder that was found whole."""

    folder: Path
    spec: PretrainSpec
    descriptors: tuple[str, ...]
    """Names of the outputs."""
    training: Mapping[str, Any]
    """``metrics``, ``curve`` and ``built`` (measured cost)."""

    @property
    def weight_files(self) -> tuple[Path, ...]:
        """Weights after each kept epoch; the last ones are those of the finished model."""
        return (*sorted((self.folder / EPOCHS).glob("*.safetensors")), self.folder / WEIGHTS)


def save_checkpoint(
    folder: Path,
    spec: PretrainSpec,
    descriptors: tuple[str, ...],
    weights: list[dict[str, Tensor]],
    training: Mapping[str, Any],
    tokenizer_folder: Path,
) -> None:
    """Write a pre-trained folder whole; if another process wrote it meanwhile, that one stays.

    Args:
        folder: where it will lie.
        spec: what was trained.
        descriptors: names of the outputs.
        weights: after each kept epoch, the last one last.
        training: ``metrics``, ``curve`` and ``built``.
        tokenizer_folder: copied, so that the folder can be used alone.
    """
    with built_whole(folder) as part:
        (part / EPOCHS).mkdir()
        for number, tensors in enumerate(weights[:-1], start=1):
            save_file(tensors, part / EPOCHS / f"{number:04d}.safetensors")
        save_file(weights[-1], part / WEIGHTS)
        shutil.copytree(tokenizer_folder, part / TOKENIZER)
        write_json(part / TRAINING, dict(training))
        settings = {"format": FORMAT, "kind": "pretrained", "digest": spec.digest, "spec": spec.model_dump(mode="json")}
        write_json(part / SETTINGS, {**settings, "descriptors": list(descriptors)})


def read_settings(folder: Path, kind: str) -> dict[str, Any]:
    """``settings.json`` of a folder with weights.

    Raises:
        DataError: if it is missing, malformed, of another kind or of a later format.
    """
    file = folder / SETTINGS
    try:
        settings = read_json(file)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{file} must be the settings of a {kind} model, it cannot be read ({error}); make the folder again"
        ) from error
    if not isinstance(settings, dict) or settings.get("kind") != kind or settings.get("format") != FORMAT:
        raise DataError(
            f"{file} must describe a {kind} model in format {FORMAT}, it does not; "
            "make the folder again with this version of chembench"
        )
    return settings


def read_checkpoint(folder: Path, digest: str) -> Checkpoint:
    """The pre-trained model in ``folder``; its weights are not read yet.

    Raises:
        DataError: if a file is missing or malformed, or the folder holds another model than ``digest`` names.
    """
    settings = read_settings(folder, "pretrained")
    try:
        spec = PretrainSpec.model_validate(settings["spec"])
        training = read_json(folder / TRAINING)
        found = Checkpoint(folder, spec, tuple(settings["descriptors"]), training)
    except (KeyError, ValueError, OSError, ValidationError) as error:
        raise DataError(
            f"{folder} is no whole pre-trained model ({error}); delete it, it will be made again"
        ) from error
    if spec.digest != digest or settings["digest"] != digest:
        raise DataError(
            f"{folder / SETTINGS} must describe pre-training {digest}, it describes {spec.digest}; "
            "delete the folder, it will be made again"
        )
    for file in found.weight_files:
        if not file.is_file():
            raise DataError(f"{file} is missing; delete the folder, it will be made again")
    return found


@lru_cache(maxsize=2)
def load_weights(file: Path, digest: str) -> dict[str, Tensor]:
    """Tensors of one file, on the CPU; those of the last two models are kept in memory, as trials share them.

    Args:
        file: a safetensors file.
        digest: of the pre-training, which names what is kept.

    Raises:
        DataError: if the file is no safetensors file.
    """
    return read_tensors(file)


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Tensors of one safetensors file, on the CPU.

    Raises:
        DataError: if the file is missing or no safetensors file.
    """
    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{file} must be a whole safetensors file ({error}); make its folder again") from error


@dataclass(slots=True)
class ResumeState:
    """Everything a stopped pre-training needs to go on as if it had not been stopped."""

    digest: str
    """Of the `PretrainSpec` it belongs to."""
    step: int
    """Optimiser steps done."""
    loss_sum: float
    """Running training loss of the epoch, and the number of labels in it."""
    labels: int
    rng: list[Tensor]
    """State of torch's generators: the CPU's, then each GPU's."""
    model: dict[str, Tensor]
    optimiser: dict[str, Any]
    curve: list[dict[str, float]]
    """Values of the epochs that are done."""
    kept: list[dict[str, Tensor]] = field(default_factory=list)
    """Weights after each of them, where they are asked for."""


def save_resume(file: Path, state: ResumeState) -> None:
    """Write ``state`` whole."""
    with written_whole(file) as part:
        torch.save({name: getattr(state, name) for name in ResumeState.__dataclass_fields__}, part)


def load_resume(file: Path, digest: str) -> ResumeState:
    """The state in ``file``, read without unpickling anything but tensors and plain values.

    Raises:
        DataError: if it cannot be read so, or belongs to another specification.
    """
    try:
        values = torch.load(file, map_location="cpu", weights_only=True)
        state = ResumeState(**values)
    except (OSError, RuntimeError, pickle.UnpicklingError, TypeError, EOFError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise DataError(
            f"{file} must be the state of a stopped pre-training ({first_line}); delete it to start from the beginning"
        ) from error
    if state.digest != digest:
        raise DataError(
            f"{file} must belong to pre-training {digest}, it belongs to {state.digest}; "
            "delete it to start from the beginning"
        )
    return state
