"""Every pattern that RDKit's descriptors use finds in blocks what RDKit finds."""

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import QED, Fragments

from chembench.chem.descriptor_graph import Block
from chembench.chem.descriptor_matching import Query
from chembench.chem.descriptor_memory import Memory
from chembench.chem.descriptor_smarts import PatternError, compile_pattern

SMILES = [
    "CC(=O)Oc1ccccc1C(=O)O",
    "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
    "OP(=O)(OC)OCC1OC(n2cnc3c(N)ncnc23)C(O)C1O",
    "CN1CCC23C4Oc5c2c(CC1C3C=CC4O)ccc5O",
    "O=C1c2ccccc2C(=O)c2c1ccc1ccccc21",
    "c1cc2ccc3cccc4ccc(c1)c2c34",
    "O=[N+]([O-])c1ccc(N=Nc2ccc(N(C)CCO)cc2)cc1",
    "CS(=O)(=O)NC(=S)NC(=N)N",
    "C#CCC(=O)C=CC(=O)OO",
    "FC(F)(F)C(F)(F)S(=O)(=O)F",
    "C1CC1C1CC1C1CCC1",
    "CC(=O)OCC(OC(C)=O)COC(C)=O",
    "CCCCCCCCNC(=O)OCC",
    "[O-][n+]1ccccc1SSc1cccc[n+]1[O-]",
    "CN=C=O.N#CCN=[N+]=[N-]",
    "C1CC2CCC1CC2",
    "C12C3C4C1C5C2C3C45",
    "CC1(C)SC2C(NC(=O)Cc3ccccc3)C(=O)N2C1C(=O)O",
    "C[Si](C)(C)C#C[B-](F)(F)F",
    "O=c1[nH]c2ccccc2o1",
]
OWN = [
    "[C,N;!$(C=O);!$([N]-C=O)]",
    "[$([CH3]),$([NH2]);!$(*C(=O))]",
    "C!@[C;R]",
    "[R2]~[R2]",
    "[O;H1,-]",
    "[H,c,C]",
    "C1CC1",
    "*~*~*~*~*",
    "[!#6;!#7]~[#6]",
    "C=,#C",
    "C.O.O",
    "C=O.C=O.c1ccccc1",
    "[r5]",
    "[$([r5]),$([r6])]C.C=O",
]
PATTERNS = {
    **{name: function.__defaults__[1] for name, function in Fragments.fns},
    **{f"alert {number}": pattern for number, pattern in enumerate(QED.StructuralAlerts)},
    **{f"acceptor {number}": pattern for number, pattern in enumerate(QED.Acceptors)},
    "aliphatic ring": QED.AliphaticRings,
    **{smarts: Chem.MolFromSmarts(smarts) for smarts in OWN},
}


@pytest.fixture(scope="module")
def block():
    return Block([Chem.MolFromSmiles(smiles) for smiles in SMILES], Memory())


@pytest.mark.parametrize("name", PATTERNS)
def test_counts_and_finds_what_rdkit_does(name, block):
    pattern = PATTERNS[name]
    expected = [len(molecule.GetSubstructMatches(pattern)) for molecule in block.molecules]
    assert Query(pattern).counts(block).tolist() == expected
    assert Query(pattern).found(block).tolist() == [count > 0 for count in expected]


def test_most_patterns_are_searched_in_blocks():
    left = [name for name, pattern in PATTERNS.items() if Query(pattern)._pattern is None]
    assert set(left) <= {"alert 91", "alert 100", *OWN[-5:]} and len(left) >= 6


def test_atoms_that_stand_first_in_a_match(block):
    first = Query(Chem.MolFromSmarts("[$([A;R][!a])]")).first_atoms(block)
    expected = np.zeros(len(first), bool)
    for start, molecule in zip(block.first_N, block.molecules, strict=True):
        expected[[start + match[0] for match in molecule.GetSubstructMatches(QED.AliphaticRings)]] = True
    np.testing.assert_array_equal(first, expected)


@pytest.mark.parametrize(
    ("smarts", "text"),
    [
        ("C.C", "has several fragments"),
        ("[r5]C", "asks for Atom"),
        ("C/C=C/C", "a bond asks for a direction"),
        ("[$([x3])]C", "asks for Atom"),
    ],
)
def test_what_a_block_cannot_answer_is_told(smarts, text):
    with pytest.raises(PatternError, match=text):
        compile_pattern(Chem.MolFromSmarts(smarts))
