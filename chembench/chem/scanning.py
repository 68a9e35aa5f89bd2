"""Cuts many SMILES at once by numpy, as the regular expression of `vocabulary` cuts each.

Every byte gets the id of its character by a table. Then the few places are mended where a token is longer: two letters
(``Cl`` anywhere; ``Sc`` or ``@@`` only if a ``]`` is the next bracket, so that they stand inside one), and whole
bracket atoms. A token is longer than one byte only where it starts with a letter, ``@`` or ``[``, and bracket atoms
begin nowhere but at ``[``, which no pair of letters holds; so both kinds are found without reading from left to right.

Axes: P places in the text where something may be found.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chembench.chem.vocabulary import (
    AROMATIC_ELEMENTS,
    BOS_ID,
    BRACKET_ATOMS,
    CHARACTERS,
    ELEMENTS,
    EOS_ID,
    ORGANIC,
    UNK_ID,
    VOCABULARY,
)

Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]

_START, _END = "\t", "\n"
"""Stand for the start and the end of each molecule in the text."""
_MARGIN = b"\n" * 8
"""So that eight bytes can be read at every place."""
_ID_OF = {token: i for i, token in enumerate(VOCABULARY)}


def _byte_table(values: dict[str, int], default: int) -> bytes:
    return bytes(values.get(chr(i), default) for i in range(256))


_IDS = _byte_table({**{c: _ID_OF[c] for c in CHARACTERS}, _START: BOS_ID, _END: EOS_ID}, UNK_ID)
_IN_BRACKETS = (*ELEMENTS, *AROMATIC_ELEMENTS, "@@")
_PAIRS = (*ORGANIC, *_IN_BRACKETS)
_FIRST, _SECOND = 1, 2
_ROLES = _byte_table(
    {
        c: _FIRST * any(pair[0] == c for pair in _PAIRS) + _SECOND * any(pair[1] == c for pair in _PAIRS)
        for c in CHARACTERS
    },
    0,
)
"""Whether a pair can begin and whether it can end at a byte."""
_STOPS = _byte_table(dict.fromkeys(f"[]{_START}{_END}", 1), 0)


def _number(text: str) -> int:
    """Of up to eight characters, as they stand in memory."""
    return int.from_bytes(text.encode(), "little")


def _pair_table(pairs: Iterable[str]) -> Bytes:
    table = np.zeros(1 << 16, np.uint8)
    for pair in pairs:
        table[_number(pair)] = _ID_OF[pair]
    return table


_ORGANIC_IDS = _pair_table(ORGANIC)
_PAIR_IDS = _pair_table(_PAIRS)
_ATOMS = sorted(BRACKET_ATOMS, key=_number)
_ATOM_NUMBERS = np.array([_number(atom) for atom in _ATOMS], np.uint64)
_ATOM_IDS = np.array([_ID_OF[atom] for atom in _ATOMS], np.uint8)
_LONGEST = max(map(len, BRACKET_ATOMS))
_MASKS = np.array([(1 << 8 * length) - 1 for length in range(_LONGEST + 1)], np.uint64)
"""Length -> the bytes that count of a number of eight."""


def scan(smiles: Sequence[str]) -> Bytes | None:
    """The ids of many molecules, one after the other; none if one holds other than printable ASCII without blanks."""
    joined = _START + f"{_END}{_START}".join(smiles) + _END if smiles else ""
    if not joined.isascii() or joined.count(_START) != len(smiles) or joined.count(_END) != len(smiles):
        return None
    text = joined.encode("ascii")
    ids = np.frombuffer(bytearray(text).translate(_IDS), np.uint8)
    if (ids == UNK_ID).any():
        return None
    kept = np.ones(len(text), np.bool_)
    stops = np.flatnonzero(np.frombuffer(text.translate(_STOPS), np.bool_))
    padded = text + _MARGIN
    _mend_atoms(padded, stops, ids, kept)
    _mend_pairs(padded, stops, ids, kept)
    return ids[kept]


def _words(padded: bytes, size: int) -> NDArray[Any]:
    """The number of ``size`` bytes that begins at each byte."""
    return np.ndarray((len(padded) - 8,), f"<u{size}", padded, strides=(1,))


def _mend_atoms(padded: bytes, stops: Places, ids: Bytes, kept: NDArray[np.bool_]) -> None:
    """Give whole bracket atoms one id; what follows their ``[`` is not kept."""
    length_P = np.diff(stops) + 1
    is_short_P = (length_P <= _LONGEST) & (ids[stops[:-1]] == _ID_OF["["])
    start_P, length_P = stops[:-1][is_short_P], length_P[is_short_P]
    number_P = _words(padded, 8)[start_P] & _MASKS[length_P]
    found_P = np.searchsorted(_ATOM_NUMBERS, number_P).clip(max=len(_ATOMS) - 1)
    is_atom_P = _ATOM_NUMBERS[found_P] == number_P
    start_P, length_P = start_P[is_atom_P], length_P[is_atom_P]
    ids[start_P] = _ATOM_IDS[found_P[is_atom_P]]
    for place in range(1, _LONGEST):
        kept[start_P[length_P > place] + place] = False


def _mend_pairs(padded: bytes, stops: Places, ids: Bytes, kept: NDArray[np.bool_]) -> None:
    """Give tokens of two characters one id, outside the bracket atoms that were found."""
    roles = np.frombuffer(padded.translate(_ROLES), np.uint8)[: len(ids) + 1]
    start_P = np.flatnonzero((roles[:-1] & _FIRST) & (roles[1:] >> 1))
    start_P = start_P[kept[start_P]]
    pair_P = _words(padded, 2)[start_P]
    is_pair_P = _PAIR_IDS[pair_P] > 0
    start_P, pair_P = start_P[is_pair_P], pair_P[is_pair_P]
    is_pair_P = _ORGANIC_IDS[pair_P] > 0
    doubtful_P = np.flatnonzero(~is_pair_P)
    next_P = stops[np.searchsorted(stops, start_P[doubtful_P])]
    is_pair_P[doubtful_P] = np.frombuffer(padded, np.uint8)[next_P] == ord("]")
    start_P, pair_P = start_P[is_pair_P], pair_P[is_pair_P]
    chosen_P = _first_come(start_P)
    ids[start_P[chosen_P]] = _PAIR_IDS[pair_P[chosen_P]]
    kept[start_P[chosen_P] + 1] = False


def _first_come(start_P: Places) -> NDArray[np.bool_]:
    """Which pairs stand when each takes its second character from the pair that starts there: ``[Asi]`` is As and i."""
    row_P = np.arange(len(start_P))
    begins_P = np.diff(start_P, prepend=-2) > 1
    first_P = np.maximum.accumulate(np.where(begins_P, row_P, 0))
    is_even_P: NDArray[np.bool_] = (row_P - first_P) % 2 == 0
    return is_even_P
