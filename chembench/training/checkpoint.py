"""Weights on disk: the folder of a pre-trained model.

A pre-trained folder, named by the digest of its `PretrainSpec`::

    model.safetensors      weights after the last epoch
    epochs/01.safetensors  weights after earlier epochs, where they were asked for
    settings.json          what it is: specification, names of the descriptors
    training.json          how it went: metrics, curve, measured cost, and the checksums of the weights
    tokenizer/             the tokenizer it reads
    trunk.state            where the next scale continues, where a trunk is shared: the state before the decay

Nothing found in a folder is unpickled: weights are safetensors.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from chembench.errors import DataError
from chembench.paths import built_whole, part_beside, read_json, write_json
from chembench.specs import PretrainSpec

FORMAT = 1
TRUNK = "trunk.state"
WEIGHTS, SETTINGS, TRAINING, TOKENIZER, EPOCHS = (
    "model.safetensors",
    "settings.json",
    "training.json",
    "tokenizer",
    "epochs",
)


class DamagedError(DataError):
    """A folder with weights lacks a file, or one of them is not what was written: it has to be made again."""


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

    def require_whole(self, file: Path) -> None:
        """Hold one of the weight files against its checksum; a process reads each file once for that.

        Raises:
            DamagedError: if it is not what was written.
            DataError: if it cannot be read now.
        """
        sums = self.training.get("sha256", {})  # folders written before there were checksums have none
        try:
            seen = file.stat()
            _require_sum(file, sums.get(str(file.relative_to(self.folder))), (seen.st_mtime_ns, seen.st_size))
        except (SafetensorError, FileNotFoundError) as error:
            raise DamagedError(f"{file} must be a whole safetensors file ({error}); {_again(self.folder)}") from error
        except OSError as error:
            raise DataError(f"{file} cannot be read ({error}); make it readable") from error

    def tensors(self, file: Path) -> dict[str, Tensor]:
        """What one of the weight files holds, on the CPU; see `require_whole`."""
        self.require_whole(file)
        return load_weights(file, self.spec.digest)


@contextmanager
def damaged_told(folder: Path) -> Iterator[None]:
    """Turn what keeps a trunk from being read into the way out: its folder is made again.

    Raises:
        DamagedError: saying so.
    """
    try:
        yield
    except DataError as error:
        raise DamagedError(f"the trunk in {folder} cannot be continued ({error}); {_again(folder)}") from error


def _again(folder: Path) -> str:
    return f"delete {folder} and retry what failed (chembench retry SWEEP --failed), it is then made again"


@cache
def _require_sum(file: Path, sha256: str | None, stamp: tuple[int, int]) -> None:
    """Nothing, if the file is as it was written; ``stamp`` tells a file from one that took its place."""
    with safe_open(file, "pt"):  # compares the length with what the header says
        pass
    if sha256 is not None and (found := sha256_of(file)) != sha256:
        raise SafetensorError(f"its sha256 is {found[:12]}..., it was written with {sha256[:12]}...")


def sha256_of(file: Path) -> str:
    """Checksum of a file's content."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def save_checkpoint(  # noqa: PLR0913 - what stands in the folder, part by part
    folder: Path,
    spec: PretrainSpec,
    descriptors: tuple[str, ...],
    weights: list[dict[str, Tensor]],
    training: Mapping[str, Any],
    tokenizer_folder: Path,
    more: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Write a pre-trained folder whole; if another process wrote it meanwhile, that one stays, unless it is damaged.

    Args:
        folder: where it will lie.
        spec: what was trained.
        descriptors: names of the outputs.
        weights: after each kept epoch, the last one last.
        training: ``metrics``, ``curve`` and ``built``.
        tokenizer_folder: copied, so that the folder can be used alone.
        more: writes what else belongs into the folder it is given.
    """
    with built_whole(folder) as part:
        (part / EPOCHS).mkdir()
        for number, tensors in enumerate(weights[:-1], start=1):
            save_file(tensors, part / EPOCHS / f"{number:04d}.safetensors")
        save_file(weights[-1], part / WEIGHTS)
        shutil.copytree(tokenizer_folder, part / TOKENIZER)
        more(part)
        summed = [*sorted(part.rglob("*.safetensors")), *part.glob(TRUNK)]
        sums = {str(file.relative_to(part)): sha256_of(file) for file in summed}
        write_json(part / TRAINING, {**training, "sha256": sums})
        settings = {"format": FORMAT, "kind": "pretrained", "digest": spec.digest, "spec": spec.model_dump(mode="json")}
        write_json(part / SETTINGS, {**settings, "descriptors": list(descriptors)})
        _remove_damaged(folder, spec.digest)


def find_whole(folder: Path, digest: str) -> Checkpoint:
    """The pre-trained model in ``folder``, with every weight file held against its checksum.

    Raises:
        DamagedError: if the folder has to be made again.
        DataError: if it holds another model, or cannot be read now.
    """
    found = read_checkpoint(folder, digest)
    for file in found.weight_files:
        found.require_whole(file)
    sums = found.training.get("sha256", {})
    if TRUNK in sums and sha256_of(folder / TRUNK) != sums[TRUNK]:
        raise DamagedError(f"{folder / TRUNK} must be as it was written, it is not; {_again(folder)}")
    return found


def _remove_damaged(folder: Path, digest: str) -> None:
    if not folder.is_dir():
        return
    try:
        find_whole(folder, digest)
    except DamagedError:
        aside = part_beside(folder)
        folder.rename(aside)  # in one step: nobody finds half a folder
        shutil.rmtree(aside)


def read_settings(folder: Path, kind: str) -> dict[str, Any]:
    """``settings.json`` of a folder with weights.

    Raises:
        DamagedError: if it is missing or malformed.
        DataError: if it cannot be read now, or is of another kind or a later format.
    """
    file = folder / SETTINGS
    try:
        settings = read_json(file)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise DamagedError(
            f"{file} must be the settings of a {kind} model, it cannot be read ({error}); make the folder again"
        ) from error
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error}); make it readable") from error
    if not isinstance(settings, dict) or settings.get("kind") != kind or settings.get("format") != FORMAT:
        raise DataError(
            f"{file} must describe a {kind} model in format {FORMAT}, it does not; "
            "make the folder again with this version of chembench"
        )
    return settings


def read_checkpoint(folder: Path, digest: str) -> Checkpoint:
    """The pre-trained model in ``folder``; its weights are not read yet.

    Raises:
        DamagedError: if a file is missing or malformed.
        DataError: if one cannot be read now, or the folder holds another model than ``digest`` names.
    """
    settings = read_settings(folder, "pretrained")
    try:
        spec, named = PretrainSpec.model_validate(settings["spec"]), settings["digest"]
        descriptors = tuple(settings["descriptors"])
    except (KeyError, TypeError, ValidationError) as error:
        raise DataError(
            f"{folder / SETTINGS} must describe a pre-training as this version of chembench does ({error}); "
            "delete the folder, it will be made again"
        ) from error
    if spec.digest != digest or named != digest:
        raise DataError(
            f"{folder / SETTINGS} must describe pre-training {digest}, it describes {spec.digest}; "
            "delete the folder, it will be made again"
        )
    try:
        found = Checkpoint(folder, spec, descriptors, read_json(folder / TRAINING))
        _require_parts(found)
    except (FileNotFoundError, KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{folder} is no whole pre-trained model ({error}); {_again(folder)}") from error
    except OSError as error:
        raise DataError(f"{folder} cannot be read ({error}); make it readable") from error
    return found


def _require_parts(found: Checkpoint) -> None:
    for name in ("metrics", "facts", "curve", "built"):
        found.training[name]
    for name in (WEIGHTS, *found.training.get("sha256", {})):
        if not (found.folder / name).is_file():
            raise FileNotFoundError(f"{name} is missing")


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
