"""The door to tokenizers: ours, one from a file, the paper's substitute; and the audit that keeps lossy ones out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from chembench.chem.encoders import OWN_KIND, SETTINGS_FILE, TOKENIZER_FILE, Offsets, SmilesTokenizer, Stream, Tokenizer
from chembench.chem.foreign import ForeignTokenizer
from chembench.chem.vocabulary import VOCABULARY
from chembench.errors import ConfigError, DataError
from chembench.paths import read_json

__all__ = [
    "ForeignTokenizer",
    "SmilesTokenizer",
    "TokenAudit",
    "Tokenizer",
    "audit",
    "load_tokenizer",
    "paper_substitute",
    "require_lossless",
]

PAPER_VOCABULARY = 591
PROBES = (
    *("CC", "CCl", "CB", "CBr", "CI", "C", "Cl", "Br"),
    *("C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O", "CC(N)C(=O)O", "F/C=C/F", "F/C=C\\F", "FC=CF"),
    *("C[N+](=O)[O-]", "CN(=O)O", "CN=O", "C[NH3+]", "CN", "CC(=O)[O-]", "CC(=O)O"),
    *("[Na+].[Cl-]", "[K+].[Cl-]", "[Na+].[Br-]", "N.C", "[Na]Cl", "NCl"),
    *("[13CH4]", "[14CH4]", "[2H]C", "[3H]C", "C[18F]", "CF"),
    *("C1CCCCC1", "C%10CCCCC%10", "C%11CCCCC%11", "C%(100)CCCCC%(100)"),
    *("CSc1ccccc1", "C[Sc]", "[Co]", "CO", "[Cn]", "Cn1cccc1", "[Sn]", "[Fe+2]", "[Fe+3]", "[Pt]", "[Os]", "OS"),
    *(
        "c1cc[nH]c1",
        "C1CCNC1",
        "[se]1cccc1",
        "s1cccc1",
        "C[Se]C",
        "CSC",
        "[Si]",
        "CS(C)=O",
        "C[S@](=O)CC",
        "C[S@@](=O)CC",
    ),
    *("CC=C", "CC#C", "C$C", "C~C", "N->[Cu]", "N<-[Cu]", "*C", "[*:1]C"),
)
"""Molecules that a careless tokenizer makes alike, always among those that `require_lossless` tries."""

_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class TokenAudit:
    """What a tokenizer loses. Counts are of different SMILES; examples are the first few."""

    molecules: int
    colliding: int
    """SMILES that share their ids with another one."""
    merged: int
    """How many fewer sequences of ids there are than SMILES."""
    altered: int
    """SMILES that do not come back from their ids."""
    unknown: int
    """SMILES with an unknown token."""
    collisions: tuple[tuple[str, str], ...]
    alterations: tuple[tuple[str, str], ...]
    """SMILES, and what comes back."""
    unknowns: tuple[str, ...]

    @property
    def is_lossless(self) -> bool:
        return not (self.colliding or self.altered or self.unknown)


def audit(tokenizer: Tokenizer, smiles: Iterable[str]) -> TokenAudit:
    """Encode and decode every different SMILES.

    Raises:
        DataError: if one holds a blank or a character outside ASCII.
    """
    texts = list(dict.fromkeys(smiles))
    stream, offsets = tokenizer.encode_many(texts)
    back = [tokenizer.decode(stream[a:b].tolist()) for a, b in pairwise(offsets)]
    altered = [i for i, text in enumerate(texts) if back[i] != text]
    unknown = _rows_with(tokenizer.unk_id, stream, offsets)
    groups = _groups(stream, offsets, [*altered, *unknown])
    return TokenAudit(
        molecules=len(texts),
        colliding=sum(map(len, groups)),
        merged=sum(len(rows) - 1 for rows in groups),
        altered=len(altered),
        unknown=len(unknown),
        collisions=tuple((texts[rows[0]], texts[rows[1]]) for rows in groups[:_EXAMPLES]),
        alterations=tuple((texts[i], back[i]) for i in altered[:_EXAMPLES]),
        unknowns=tuple(texts[i] for i in unknown[:_EXAMPLES]),
    )


def _rows_with(token: int | None, stream: Stream, offsets: Offsets) -> list[int]:
    if token is None:
        return []
    found = np.flatnonzero(stream == token)
    return [int(row) for row in np.unique(np.searchsorted(offsets, found, side="right") - 1)]


def _groups(stream: Stream, offsets: Offsets, suspects: Sequence[int]) -> list[list[int]]:
    """Rows that have the same ids, in order of their first one.

    Of two rows with the same ids one at least does not come back, so only the ids of ``suspects`` can be shared.
    """

    def ids(row: int) -> bytes:
        return bytes(stream[offsets[row] : offsets[row + 1]].tobytes())

    rows_of: dict[bytes, list[int]] = {ids(row): [] for row in suspects}
    if rows_of:
        for row in range(len(offsets) - 1):
            if (rows := rows_of.get(ids(row))) is not None:
                rows.append(row)
    return sorted(rows for rows in rows_of.values() if len(rows) > 1)


def require_lossless(tokenizer: Tokenizer, smiles: Iterable[str] = ()) -> TokenAudit:
    """The audit of ``tokenizer`` on the built-in probes and ``smiles``, if nothing is lost.

    Raises:
        ConfigError: otherwise, naming two molecules that become one, or one that does not come back.
    """
    found = audit(tokenizer, [*PROBES, *smiles])
    if found.is_lossless:
        return found
    if found.collisions:
        one, other = found.collisions[0]
        what = f"this one gives {one!r} and {other!r} the same ids ({found.colliding} of {found.molecules} collide)"
    elif found.alterations:
        one, other = found.alterations[0]
        what = f"this one turns {one!r} into {other!r} ({found.altered} of {found.molecules} are altered)"
    else:
        what = f"this one has unknown tokens in {found.unknowns[0]!r} ({found.unknown} of {found.molecules})"
    raise ConfigError(
        f"a tokenizer must keep different molecules apart, {what}; use the built-in tokenizer, "
        "or set allow_lossy in paper mode"
    )


def paper_substitute() -> SmilesTokenizer:
    """Our vocabulary filled up to the paper's 591 entries, so that its parameter counts can be met.

    The added entries are reserved: no SMILES produces them.
    """
    reserved = (f"<reserved_{i}>" for i in range(PAPER_VOCABULARY - len(VOCABULARY)))
    return SmilesTokenizer((*VOCABULARY, *reserved))


def _kind(settings: Path) -> str | None:
    """What the settings say about themselves; none without settings."""
    if not settings.is_file():
        return None
    try:
        content = read_json(settings)
    except ValueError as error:
        raise DataError(f"tokenizer settings are JSON, reading {settings} gave: {error}; save anew") from error
    return str(content.get("kind")) if isinstance(content, dict) else None


def load_tokenizer(place: Path | str) -> Tokenizer:
    """The tokenizer saved in a folder or file: ours where the settings say so, otherwise a Hugging Face one.

    Raises:
        ConfigError: if nothing is there, or it lacks a padding, start or end token.
        DataError: if a file is malformed or was changed.
    """
    path = Path(place)
    file = path / TOKENIZER_FILE if path.is_dir() else path
    settings = file.parent / SETTINGS_FILE
    if file.name == TOKENIZER_FILE and _kind(settings) == OWN_KIND:
        return SmilesTokenizer.load(file.parent)
    if not file.is_file():
        raise ConfigError(f"a tokenizer is a tokenizer.json or a folder with one, {path} is neither; check the path")
    return ForeignTokenizer(file)
