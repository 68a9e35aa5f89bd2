"""RDKit's molecular descriptors, the labels of pre-training: which, and their values.

Axis letters: N molecules, K descriptors.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chembench.chem.pool import Progress, map_chunks
from chembench.errors import ConfigError, DataError, UnknownNameError

DESCRIPTOR_LISTS = ("rdkit", "paper105")

_PAPER105 = re.compile(
    r"(Max|Min)(Abs)?(EStateIndex|PartialCharge)|qed|SPS|(HeavyAtom|Exact)?MolWt|NumValenceElectrons|"
    r"FpDensityMorgan[123]|BCUT2D_(MWHI|MWLOW|CHGHI|CHGLO|LOGPHI|LOGPLOW|MRHI|MRLOW)|(Avg)?Ipc|BalabanJ|BertzCT|"
    r"Chi[01]|Chi[0-4][nv]|HallKierAlpha|Kappa[123]|LabuteASA|TPSA|PEOE_VSA(10|[1236789])|SMR_VSA(10|[13567])|"
    r"SlogP_VSA(10|[1-6])|EState_VSA(10|[1-9])|VSA_EState[1-4678]|FractionCSP3|HeavyAtomCount|NHOHCount|NOCount|"
    r"RingCount|NumA(liphatic|romatic)Rings|NumAromatic(Carbo|Hetero)cycles|NumH(Acceptors|Donors|eteroatoms)|"
    r"NumRotatableBonds|MolLogP|MolMR|fr_C_O(_noCOO)?|fr_NH[01]|fr_benzene"
)
"""The families of RDKit's list that arXiv 2405.00949 was pre-trained on."""

PLAIN_VARIABLE = "CHEMBENCH_PLAIN_DESCRIPTORS"
TOLERANCE = 1e-6
"""Largest difference from RDKit's value, as a share of it where it is above 1."""
_CHUNK = 512
_SAMPLED = 512
"""One molecule in so many is compared with RDKit's calculator, and the first of each chunk."""


def rdkit_version() -> str:
    """Part of every label's identity: values change between releases."""
    import rdkit

    return str(rdkit.__version__)


def descriptor_names(list_name: str) -> tuple[str, ...]:
    """The names of a list, in RDKit's order for the built-in ones.

    Args:
        list_name: one of `DESCRIPTOR_LISTS`, names separated by commas, or the path of a JSON file with a list of
            names.

    Raises:
        UnknownNameError: if it is one word that is none of these.
        ConfigError: telling all names that RDKit does not know or that stand there twice; or if this RDKit lacks
            some of the paper's.
    """
    known = _known()
    if list_name == "rdkit":
        return known
    if list_name == "paper105":
        names = tuple(name for name in known if _PAPER105.fullmatch(name))
        if len(names) != 105:
            raise ConfigError(
                f"the paper's list has 105 descriptors, RDKit {rdkit_version()} offers {len(names)} of them; "
                "install the RDKit of constraints.txt or use the list 'rdkit'"
            )
        return names
    if Path(list_name).suffix == ".json":
        return _checked(_names_in(Path(list_name)), known, list_name)
    names = tuple(name.strip() for name in list_name.split(","))
    if len(names) == 1 and names[0] not in known:
        raise UnknownNameError("descriptor list", list_name, (*DESCRIPTOR_LISTS, "<file>.json", "NAME,NAME,..."))
    return _checked(names, known, "the list")


def _names_in(path: Path) -> tuple[str, ...]:
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"a descriptor list is a JSON file with a list of names, reading {path} gave: {error}"
        ) from error
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"a descriptor list is a JSON list of names with one at least, {path} holds something else")
    return tuple(names)


def _checked(names: tuple[str, ...], known: Sequence[str], place: str) -> tuple[str, ...]:
    problems = [str(UnknownNameError("descriptor", name, known)) for name in names if name not in known]
    problems += [f"descriptor {name!r} must stand once in {place}" for name in known if names.count(name) > 1]
    if problems:
        raise ConfigError(problems)
    return names


def plain_is_asked() -> bool:
    """Whether RDKit's own calculator is to compute everything, by ``CHEMBENCH_PLAIN_DESCRIPTORS=1``."""
    return os.environ.get(PLAIN_VARIABLE, "0") not in ("", "0")


def compute(
    smiles: Sequence[str],
    names: Sequence[str],
    processes: int = 1,
    progress: Progress | None = None,
    *,
    plain: bool | None = None,
) -> NDArray[np.float64]:
    """RDKit's values; molecules are read afresh from their SMILES.

    Many molecules are worked on at once, which gives what RDKit's calculator gives to 1e-6; a sample is compared with
    it on the way.

    Args:
        smiles: N molecules that RDKit can read.
        names: K descriptors.
        processes: how many work at it; more than one are spawned.
        progress: called with the molecules done and in all after each chunk.
        plain: let RDKit's calculator do everything; none: as `plain_is_asked` says.

    Returns:
        Shape (N, K), in RDKit's units. NaN where RDKit raises or says NaN; infinities as RDKit gives them.

    Raises:
        UnknownNameError: if RDKit has no such descriptor.
        DataError: if a SMILES cannot be read, or a value is not RDKit's.
        RunError: if a worker process dies.
    """
    known = _known()
    if unknown := [name for name in names if name not in known]:
        raise UnknownNameError("descriptor", unknown[0], known)
    work = partial(_chunk, names=tuple(names), plain=plain_is_asked() if plain is None else plain)
    values_NK = np.empty((len(smiles), len(names)))
    first = 0
    for chunk_CK in map_chunks(work, smiles, _CHUNK, processes, progress):
        values_NK[first : first + len(chunk_CK)] = chunk_CK
        first += len(chunk_CK)
    return values_NK


def _known() -> tuple[str, ...]:
    from rdkit.Chem import Descriptors

    return tuple(name for name, _ in Descriptors.descList)


def _chunk(smiles: list[str], names: Sequence[str], plain: bool) -> NDArray[np.float64]:
    from rdkit import rdBase
    from threadpoolctl import threadpool_limits

    from chembench.chem.descriptor_blocks import block_values
    from chembench.chem.descriptor_plain import plain_values

    # several threads would add up in another order, which RDKit's Ipc of large molecules shows
    with rdBase.BlockLogs(), threadpool_limits(1, "blas"):
        molecules = [_read(text) for text in smiles]
        if plain:
            return plain_values(smiles, names)
        values_CK, by_rdkit_C = block_values(smiles, molecules, names)
        ours = np.flatnonzero(~by_rdkit_C).tolist()
        sample = [row for row in ours if row == ours[0] or _is_sampled(smiles[row])]
        _compare([smiles[row] for row in sample], values_CK[sample], names)
    return values_CK


def _read(text: str) -> Any:
    from rdkit import Chem

    molecule = Chem.MolFromSmiles(text)
    if molecule is None or molecule.GetNumAtoms() == 0:
        raise DataError(f"descriptors need a SMILES that RDKit can read, got {text!r}; drop the molecule before")
    return molecule


def _is_sampled(text: str) -> bool:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) % _SAMPLED == 0


def _compare(smiles: Sequence[str], values_SK: NDArray[np.float64], names: Sequence[str]) -> None:
    from chembench.chem.descriptor_plain import plain_values

    expected_SK = plain_values(smiles, names)
    with np.errstate(invalid="ignore"):
        is_close_SK = np.abs(values_SK - expected_SK) <= TOLERANCE * np.maximum(1.0, np.abs(expected_SK))
    is_same_SK = is_close_SK | (values_SK == expected_SK) | (np.isnan(values_SK) & np.isnan(expected_SK))
    for row, column in np.argwhere(~is_same_SK).tolist():
        found, expected = float(values_SK[row, column]), float(expected_SK[row, column])
        raise DataError(
            f"descriptors must be RDKit's, {names[column]} of {smiles[row]!r} came out as {found!r} where RDKit "
            f"{rdkit_version()} says {expected!r}; please report it, remove the shards made so far and set "
            f"{PLAIN_VARIABLE}=1, with which RDKit computes everything"
        )
