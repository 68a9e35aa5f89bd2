"""The cells of a space: which combinations are compared, and in which order they are visited."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chembench.config import stable_seed
from chembench.errors import ConfigError
from chembench.models.sizes import resolve
from chembench.specs import Cell, ModelSpec
from chembench.sweep.parameters import Scalar
from chembench.sweep.shard import Shard
from chembench.sweep.space import GRID_AXES, Space

if TYPE_CHECKING:
    from chembench.chem.tokens import Tokenizer

OF_WSD = ("decay_fraction", "share_trunk")
"""Fields of [pretrain] that say nothing where the schedule of a cell is another one."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a model needs to know of the tokenizer."""

    size: int
    pad_id: int
    bos_id: int
    eos_id: int


def vocabulary_of(space: Space) -> tuple[Tokenizer, Vocabulary]:
    """The tokenizer of a space and what models need of it; reads no corpus.

    Raises:
        ConfigError: if a named file is missing.
        DataError: if the tokenizer is lossy and that is not allowed.
    """
    # imported here: numpy comes along, which a list of spaces does without
    from chembench.chem.tokens import SmilesTokenizer, load_tokenizer, paper_substitute, require_lossless

    table = space.tokenizer
    if table.file:
        path = Path(space.base) / Path(table.file).expanduser()
        if not path.is_file():
            raise ConfigError(f"tokenizer.file {table.file} does not exist; give a Hugging Face tokenizer.json")
        tokenizer = load_tokenizer(path)
    else:
        tokenizer = paper_substitute() if table.name == "paper_substitute" else SmilesTokenizer()
    if not table.allow_lossy:
        require_lossless(tokenizer, [])
    ids = Vocabulary(len(tokenizer.vocabulary), tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id)
    return tokenizer, ids


def tokenizer_notes(space: Space) -> list[str]:
    """What must be known of a tokenizer that is not the project's own choice."""
    table = space.tokenizer
    if table.file:
        return [f"tokenizer: {table.file}" + (", which may lose parts of molecules" if table.allow_lossy else "")]
    if table.name == "paper_substitute":
        return [
            "tokenizer: paper_substitute stands for the paper's own, our vocabulary filled up to its 591 entries; "
            "for the authors' own set tokenizer.file and tokenizer.allow_lossy"
        ]
    return []


def grid_cells(space: Space) -> list[Cell]:
    """Every combination of the axes, in hash-shuffled order: a grid stopped half-way is a balanced sample.

    For an adaptive space: every cell the sampler can reach, ``molecules = 0`` included.
    """
    values = dict(space.grid)
    for axis, parameter in space.axes.items():
        values[axis] = parameter.choice or (parameter.fixed if parameter.fixed is not None else 0,)
    extra = sorted(set(values) - set(GRID_AXES))
    cells = [
        Cell(
            architecture=str(architecture),
            size=str(size),
            molecules=int(molecules),
            settings=dict(zip(extra, settings, strict=True)),
        )
        for architecture, size, molecules, *settings in itertools.product(
            *(values[axis] for axis in GRID_AXES), *(values[axis] for axis in extra)
        )
    ]
    return sorted(cells, key=lambda cell: stable_seed(space.seed, "cell", cell.name))


def control_cells(space: Space) -> list[Cell]:
    """The from-scratch twins: one per architecture, size and fine-tuning setting of the grid."""
    if space.is_adaptive or not space.controls.from_scratch:
        return []
    twins = {}
    for cell in grid_cells(space):
        kept = {key: value for key, value in cell.settings.items() if not key.startswith("pretrain.")}
        twin = cell.model_copy(update={"molecules": 0, "settings": kept})
        twins[twin.name] = twin
    return sorted(twins.values(), key=lambda cell: stable_seed(space.seed, "cell", cell.name))


def pretraining_name(cell: Cell) -> str:
    """Equal for two cells that stand on the same pre-training."""
    own = {key: value for key, value in cell.settings.items() if key.startswith("pretrain.")}
    return cell.model_copy(update={"settings": own}).name


def settings_of(cell: Cell, table: str) -> dict[str, Scalar | None]:
    """The cell's own values of the fields of ``table``; ``"none"`` stands for none."""
    prefix = f"{table}."
    own = {key.removeprefix(prefix): value for key, value in cell.settings.items() if key.startswith(prefix)}
    return {key: None if value == "none" else value for key, value in own.items()}


def pretraining_fields(space: Space, cell: Cell) -> dict[str, Any]:
    """What the space says of the pre-training of a cell: its table, its architecture's, the cell's own settings."""
    fields = {**space.pretrain_fields(cell.architecture), **settings_of(cell, "pretrain")}
    is_wsd = fields.get("schedule") == "wsd"
    return {key: value for key, value in fields.items() if is_wsd or key not in OF_WSD}


def scales_of(space: Space) -> list[int]:
    """Every number of pre-training molecules in the space, rising."""
    axis = space.axes.get("molecules")
    values = space.grid.get("molecules") or (() if axis is None else axis.choice or (axis.fixed,))
    return sorted({int(value) for value in values if value})


def scales_below(space: Space, cell: Cell) -> list[Cell]:
    """The cells on the same trunk with fewer molecules, the smallest first; none where no trunk is shared."""
    if not cell.molecules or not pretraining_fields(space, cell).get("share_trunk"):
        return []
    lower = [molecules for molecules in scales_of(space) if molecules < cell.molecules]
    return [cell.model_copy(update={"molecules": molecules}) for molecules in lower]


def cells_in_shard(space: Space, cells: Sequence[Cell], shard: Shard) -> list[Cell]:
    """The part of ``cells``, which are all of a sweep, that a shard holds.

    Those on one pre-training stay together, and so do those on one trunk.
    """

    def root(cell: Cell) -> str:
        return pretraining_name(next(iter(scales_below(space, cell)), cell))

    kept = set(shard.part_of(root(cell) for cell in cells))
    return [cell for cell in cells if root(cell) in kept]


def model_of(space: Space, cell: Cell, vocabulary: Vocabulary) -> ModelSpec:
    """The backbone of a cell, resolved to its dimensions.

    Raises:
        ConfigError: if the size cannot be built for the architecture; the text says why.
    """
    return resolve(
        cell.architecture,
        cell.size,
        vocabulary=vocabulary.size,
        max_length=space.tokenizer.max_length,
        pad_id=vocabulary.pad_id,
        bos_id=vocabulary.bos_id,
        eos_id=vocabulary.eos_id,
        pooling=space.pooling,
    )


def split_feasible(
    space: Space, cells: list[Cell], vocabulary: Vocabulary
) -> tuple[list[Cell], list[tuple[Cell, str]]]:
    """The cells that can be built, and the others with the reason."""
    feasible, infeasible = [], []
    for cell in cells:
        try:
            model_of(space, cell, vocabulary)
        except ConfigError as error:
            infeasible.append((cell, str(error)))
        else:
            feasible.append(cell)
    return feasible, infeasible
