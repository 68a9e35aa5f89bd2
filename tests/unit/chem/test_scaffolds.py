import warnings

import pytest

from chembench.chem.scaffolds import murcko
from chembench.errors import DataError


@pytest.mark.parametrize(
    ("smiles", "scaffold"),
    [
        ("CCO", ""),
        ("Cc1ccccc1", "c1ccccc1"),
        ("Cc1ccccc1CC[C@H]1CCCN1", "c1ccc(CCC2CCCN2)cc1"),
        ("O=C1CCCCC1", "O=C1CCCCC1"),
    ],
)
def test_a_scaffold_is_rings_and_linkers_without_chirality(smiles, scaffold):
    assert murcko(smiles) == scaffold


def test_what_rdkit_cannot_read_is_named(capfd):
    with pytest.raises(DataError, match="got 'C1CC'"):
        murcko("C1CC")
    assert capfd.readouterr().err == ""


def test_scaffolds_are_deepchems(corpus_100k):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        splitters = pytest.importorskip("deepchem.splits.splitters", reason="deepchem is not installed")
    for smiles in corpus_100k[:400]:
        assert murcko(smiles) == splitters._generate_scaffold(smiles)
