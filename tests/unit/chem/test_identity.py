from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem

from chembench.chem.identity import CONNECTIVITY, Wanted, composition, inchikeys, keys_of_candidates, skeleton

SAME = [
    ("O=c1[n-]c(=O)n(Cl)c(=O)n1Cl", "O=c1nc([O-])n(Cl)c(=O)n1Cl"),  # two ways to draw one anion, both in Tox21
    ("C[N+](=O)[O-]", "CN(=O)=O"),
    ("[Na+].CC(=O)[O-]", "CC(=O)O[Na]"),
    ("OC1=CC=CC=N1", "O=C1C=CC=CN1"),
    ("[2H]C([2H])[2H]", "[2H]C([2H])[2H]"),
]
SAME_CONNECTIONS = [
    ("C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"),
    ("F/C=C/F", "F/C=C\\F"),
    ("CC(=O)O", "CC(=O)[O-]"),
    ("CN", "C[NH3+]"),
    ("C", "[13CH4]"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_a_molecule_has_one_key_however_it_is_drawn(one, other):
    first, second = inchikeys([one, other])
    assert first == second != ""


@pytest.mark.parametrize(("one", "other"), SAME_CONNECTIONS)
def test_stereo_isotopes_and_charge_stand_behind_the_connections(one, other):
    first, second = inchikeys([one, other])
    assert first != second and first[:CONNECTIVITY] == second[:CONNECTIVITY]


def test_what_inchi_cannot_name_has_no_key():
    assert inchikeys(["*C", "CCO"]) == ["", "LFQSCWFLJHTTHZ-UHFFFAOYSA-N"]


def test_the_composition_is_that_of_the_molecule(task_smiles):
    for text in task_smiles[::97]:
        molecule = Chem.MolFromSmiles(text)
        if molecule is None:
            continue
        atoms = [atom.GetSymbol() for atom in molecule.GetAtoms() if atom.GetAtomicNum() > 1]
        expected = " ".join(f"{symbol}{atoms.count(symbol)}" for symbol in sorted(set(atoms)))
        assert composition(Chem.MolToSmiles(molecule)) == expected


@pytest.mark.parametrize(("one", "other"), [*SAME, *SAME_CONNECTIONS])
def test_the_filter_lets_every_sameness_through(one, other):
    found = keys_of_candidates(Wanted.of([one]), [other, "CCCCCCCC"])
    assert [place for place, _ in found] == [0]


def test_the_filter_keeps_isomers_of_other_connections_out():
    assert composition("CCCO") == composition("CC(C)O") == "C3 O1"
    assert skeleton("CCCO") != skeleton("CC(C)O")
    assert keys_of_candidates(Wanted.of(["CCCO"]), ["CC(C)O", "CCCN", "COCC"]) == []


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_the_skeleton_does_not_hang_on_the_order_of_atoms(data):
    text = data.draw(st.sampled_from(["CC(N)C(=O)Oc1ccccc1", "[Na+].[O-]C(=O)C1CC1", "FC(F)(F)c1nc2ccccc2[nH]1"]))
    molecule = Chem.MolFromSmiles(text)
    order = data.draw(st.permutations(range(molecule.GetNumAtoms())))
    other = Chem.MolToSmiles(Chem.RenumberAtoms(molecule, list(order)), canonical=False)
    assert skeleton(other) == skeleton(text) and composition(other) == composition(text)


def test_the_filter_finds_what_comparing_every_key_finds(corpus_100k, task_smiles):
    """On real molecules, among them each wanted one without its stereo, which shares its connections."""
    readable = [molecule for text in task_smiles[::29] if (molecule := Chem.MolFromSmiles(text)) is not None]
    wanted = [Chem.MolToSmiles(molecule) for molecule in readable]
    flat = [Chem.MolToSmiles(molecule, isomericSmiles=False) for molecule in readable]
    others = [*corpus_100k[:1_500], *flat]
    names = {key[:CONNECTIVITY] for key in inchikeys(wanted) if key}
    expected = [(place, key) for place, key in enumerate(inchikeys(others)) if key and key[:CONNECTIVITY] in names]
    found = keys_of_candidates(Wanted.of(wanted), others)
    assert [(place, key) for place, key in found if key and key[:CONNECTIVITY] in names] == expected
    assert len(expected) >= 0.9 * len(flat)


def test_several_processes_give_the_same_keys():
    texts = ["C" * n for n in range(1, 1_200)]
    assert inchikeys(texts, processes=2) == inchikeys(texts)


def test_all_pairs_of_one_composition_are_told_apart_or_share_their_connections():
    isomers = ["CCOCC", "CCCCO", "CC(C)CO", "CCC(C)O", "CC(C)(C)O", "COC(C)C", "COCCC"]
    keys = [key[:CONNECTIVITY] for key in inchikeys(isomers)]
    for one, other in product(range(len(isomers)), repeat=2):
        assert (skeleton(isomers[one]) == skeleton(isomers[other])) == (keys[one] == keys[other])
