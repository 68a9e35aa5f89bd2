"""Molecules as token streams: cut to the model's length, padded only to the longest of a batch.

Axes: N molecules of the set, B of one batch, T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from chembench.chem.tokens import load_tokenizer
from chembench.data.splits import Rows, load_rows
from chembench.errors import DataError
from chembench.specs import ModelSpec


@dataclass(frozen=True, slots=True)
class TokenRows:
    """Token ids of many molecules, one after the other."""

    flat: NDArray[np.unsignedinteger]
    starts_N: NDArray[np.int64]
    ends_N: NDArray[np.int64]
    lengths_N: NDArray[np.int64]
    """Tokens that the model sees: at most its longest sequence."""
    pad_id: int

    def __len__(self) -> int:
        return len(self.lengths_N)

    @property
    def truncated(self) -> int:
        """Molecules that are longer than the model reads."""
        return int((self.ends_N - self.starts_N > self.lengths_N).sum())

    def padded(self, indices_B: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ids of some molecules, padded on the right to the longest of them, and their lengths.

        A molecule that is cut keeps its last token, which ends a sequence.
        """
        lengths_B = self.lengths_N[indices_B]
        places_T = np.arange(int(lengths_B.max()))
        real_BT = places_T < lengths_B[:, None]
        ids_BT = np.full(real_BT.shape, self.pad_id, np.int64)
        ids_BT[real_BT] = self.flat[(self.starts_N[indices_B, None] + places_T)[real_BT]]
        ids_BT[np.arange(len(indices_B)), lengths_B - 1] = self.flat[self.ends_N[indices_B] - 1]
        return ids_BT, lengths_B


def tokenise(smiles: Sequence[str], tokenizer_folder: Path, model: ModelSpec, digest: str) -> TokenRows:
    """Token ids of ``smiles`` as ``model`` reads them.

    Raises:
        DataError: if the folder holds another tokenizer than ``digest`` names, or one the model was not built for.
    """
    tokenizer = load_tokenizer(tokenizer_folder)
    if tokenizer.digest != digest:
        raise DataError(
            f"the item names tokenizer {digest}, {tokenizer_folder} holds {tokenizer.digest}; "
            "prepare the inputs again with the tokenizer of the space"
        )
    if tokenizer.pad_id != model.pad_id or len(tokenizer.vocabulary) > model.vocabulary:
        raise DataError(
            f"the model reads {model.vocabulary} tokens with pad id {model.pad_id}, the tokenizer in "
            f"{tokenizer_folder} has {len(tokenizer.vocabulary)} with pad id {tokenizer.pad_id}; "
            "resolve the model with this tokenizer"
        )
    flat, offsets = tokenizer.encode_many(list(smiles))
    starts_N, ends_N = offsets[:-1].astype(np.int64), offsets[1:].astype(np.int64)
    return TokenRows(flat, starts_N, ends_N, np.minimum(ends_N - starts_N, model.max_length), model.pad_id)


@dataclass(frozen=True, slots=True)
class TaskPart:
    """One part of a split: its rows, and their tokens."""

    rows: Rows
    tokens: TokenRows


@lru_cache(maxsize=16)
def load_part(
    split_folder: str, data: str, part: Literal["train", "valid"], tokenizer_folder: str, model: ModelSpec, digest: str
) -> TaskPart:
    """Training or validation rows with their tokens; the last few are kept in memory, as trials share them.

    Args:
        split_folder: where the rows lie.
        data: their digest, which names what is kept.
        part: ``train`` or ``valid``; sealed rows are never kept.
        tokenizer_folder: where the tokenizer lies.
        model: who reads the tokens; its largest length counts.
        digest: of the tokenizer.
    """
    rows = load_rows(Path(split_folder), part)
    return TaskPart(rows, tokenise(rows.smiles, Path(tokenizer_folder), model, digest))
