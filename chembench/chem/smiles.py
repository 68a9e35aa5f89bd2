"""The one spelling of a molecule that everything else is keyed by."""

from __future__ import annotations

from collections.abc import Sequence

from chembench.chem.pool import Progress, map_chunks
from chembench.errors import DataError

_CHUNK = 2_000


def canonical(smiles: str) -> str | None:
    """RDKit's canonical isomeric SMILES, atom maps kept; none if there is no molecule or RDKit cannot read it.

    A text with blanks between other characters is none too: RDKit would take the first word and drop the others.
    RDKit's own messages are held back meanwhile.
    """
    return _canonical_chunk([smiles])[0]


def all_canonical(smiles: Sequence[str]) -> list[str]:
    """`canonical` of each, the spelling that models are fitted on.

    Raises:
        DataError: if RDKit cannot read one of them.
    """
    found = [canonical(text) for text in smiles]
    unreadable = [place for place, text in enumerate(found) if text is None]
    if unreadable:
        raise DataError(
            f"each molecule must be a SMILES that RDKit reads, {len(unreadable)} of {len(smiles)} are not, "
            f"first number {unreadable[0]} '{smiles[unreadable[0]]}'; leave them out"
        )
    return [text for text in found if text is not None]


def canonical_many(smiles: Sequence[str], processes: int = 1, progress: Progress | None = None) -> list[str | None]:
    """`canonical` of each, in order.

    Args:
        smiles: N strings.
        processes: how many work at it; more than one are spawned.
        progress: called with the molecules done and in all after each chunk.

    Raises:
        ConfigError: if ``processes`` is below 1.
        RunError: if a worker process dies.
    """
    chunks = map_chunks(_canonical_chunk, smiles, _CHUNK, processes, progress)
    return [found for chunk in chunks for found in chunk]


def _canonical_chunk(smiles: list[str]) -> list[str | None]:
    from rdkit import Chem, rdBase

    found: list[str | None] = []
    with rdBase.BlockLogs():
        for text in smiles:
            # one molecule in memory at a time: two thousand large ones take a hundred megabytes
            molecule = Chem.MolFromSmiles(text) if len(text.split()) == 1 else None
            found.append(None if molecule is None else Chem.MolToSmiles(molecule) or None)
    return found
