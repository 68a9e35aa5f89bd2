import json

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import Descriptors

from chembench.chem import descriptor_blocks, descriptors
from chembench.chem.descriptor_counts import molecular_weight
from chembench.chem.descriptor_groups import Group
from chembench.chem.descriptors import _is_sampled, compute, descriptor_names, rdkit_version
from chembench.errors import ConfigError, DataError, UnknownNameError

ODD = ["[Na+].[Cl-]", "[H][H]", "*", "C", "[Fe]", "N[Pt](Cl)(Cl)N", "O=[U]=O", "CCCC[Sn](CCCC)(CCCC)CCCC", "[2H]O[2H]"]
ORDINARY = [
    "CC(=O)Oc1ccccc1C(=O)O",
    "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
    "C[C@H](N)C(=O)O",
    "O=C(O)c1ccc(cc1)S(=O)(=O)N(CCC)CCC",
    "C1CC2CCC1CC2",
    "OCC1OC(O)C(O)C(O)C1O",
]
RDKIT = descriptor_names("rdkit")


def reference(smiles: list[str]) -> np.ndarray:
    """RDKit's own calculator."""
    rows = [Descriptors.CalcMolDescriptors(Chem.MolFromSmiles(text), missingVal=np.nan) for text in smiles]
    return np.array([[row[name] for name in RDKIT] for row in rows], float)


def test_rdkits_list_is_whole():
    assert RDKIT == tuple(name for name, _ in Descriptors.descList)
    assert len(RDKIT) >= 217


def test_the_papers_list_is_the_authors(shared_data):
    written = json.loads((shared_data / "paper_2405.00949" / "mtr_105_descriptors.json").read_text())
    assert list(descriptor_names("paper105")) == written["105_descriptors"]


def test_the_papers_list_has_105_names_of_rdkit():
    names = descriptor_names("paper105")
    assert len(names) == 105
    assert set(names) < set(RDKIT)


def test_values_are_rdkits_also_for_odd_molecules():
    smiles = [*ORDINARY, *ODD]
    found, expected = compute(smiles, RDKIT), reference(smiles)
    assert found.dtype == np.float64
    assert np.isnan(expected).any()
    np.testing.assert_allclose(found, expected, rtol=1e-9, equal_nan=True)


def test_a_value_does_not_hang_on_which_others_are_asked_for():
    names = ("MinEStateIndex", "BCUT2D_MWHI", "Ipc", "MolLogP", "qed")
    whole = compute(ORDINARY, RDKIT)
    np.testing.assert_array_equal(compute(ORDINARY, names), whole[:, [RDKIT.index(name) for name in names]])


def test_a_value_that_is_not_rdkits_stops_with_its_place_and_the_way_out(monkeypatch):
    broken = Group(("MolWt",), lambda block: 1.01 * molecular_weight(block))
    monkeypatch.setattr(descriptor_blocks, "GROUPS", [broken])
    text = r"MolWt of 'CCO' came out as 46\.5\d* where RDKit \S+ says 46\.0\d*; .* CHEMBENCH_PLAIN_DESCRIPTORS=1"
    with pytest.raises(DataError, match=text):
        compute(["CCO", "CC"], ["MolWt"])


def test_the_first_molecule_of_a_chunk_and_a_sample_of_all_are_compared(monkeypatch):
    compared = []
    smiles = ["[Na+].[Cl-]", *("C" * (i % 90 + 2) + "O" * (i // 90) for i in range(1000))]
    monkeypatch.setattr(descriptors, "_compare", lambda smiles, values, names: compared.append(smiles))
    monkeypatch.setattr(descriptors, "_is_sampled", lambda text: text == smiles[7])
    compute(smiles, ["MolWt"])
    assert compared == [[smiles[1], smiles[7]], [smiles[512]]]


def test_one_molecule_in_512_is_sampled_by_its_text():
    sampled = [text for text in (f"{'C' * (i % 100)}{'N' * (i // 100)}" for i in range(20_000)) if _is_sampled(text)]
    assert 20 < len(sampled) < 60


def test_a_group_that_is_wrong_for_a_sampled_molecule_alone_is_found(monkeypatch):
    chains = (f"{'C' * carbons}{'N' * nitrogens}O" for nitrogens in range(1, 60) for carbons in range(1, 60))
    wrong = next(filter(_is_sampled, chains))
    smiles = ["CCO", "CCN", wrong]
    last = Group(("MolWt",), lambda block: molecular_weight(block) + 0.1 * (np.arange(len(block)) == 2))
    monkeypatch.setattr(descriptor_blocks, "GROUPS", [last])
    with pytest.raises(DataError, match=f"MolWt of '{wrong}'"):
        compute(smiles, ["MolWt"])


def test_rdkit_computes_everything_where_it_is_told_to(monkeypatch):
    monkeypatch.setenv("CHEMBENCH_PLAIN_DESCRIPTORS", "1")
    monkeypatch.setattr(descriptor_blocks, "GROUPS", [Group(("MolWt", "qed"), lambda block: np.zeros((len(block), 2)))])
    expected = reference(["CCO"])[:, [RDKIT.index("MolWt"), RDKIT.index("qed")]]
    np.testing.assert_array_equal(compute(["CCO"], ["MolWt", "qed"]), expected)


def test_infinite_values_are_kept(monkeypatch):
    monkeypatch.setattr(Descriptors, "descList", [("endless", lambda molecule: -np.inf)])
    assert compute(["C"], ["endless"]).tolist() == [[-np.inf]]


def test_two_processes_give_what_one_gives_in_order():
    smiles = ["C" * (i % 50 + 1) for i in range(600)]
    seen = []
    found = compute(smiles, ["MolWt"], processes=2, progress=lambda done, total: seen.append((done, total)))
    np.testing.assert_array_equal(found, compute(smiles, ["MolWt"]))
    assert seen == [(512, 600), (600, 600)]


def test_nothing_gives_an_empty_table():
    assert compute([], ["MolWt", "qed"]).shape == (0, 2)


@pytest.mark.parametrize("smiles", ["C1CC", ""])
def test_an_unreadable_smiles_is_named(smiles):
    with pytest.raises(DataError, match=f"got '{smiles}'"):
        compute(["C", smiles], ["MolWt"])


def test_an_unknown_descriptor_is_told_with_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown descriptor 'MolWeight'"):
        compute(["C"], ["MolWeight"])


def test_an_unknown_list_is_told_with_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'paper105'"):
        descriptor_names("paper10")


def test_a_file_gives_its_own_list(tmp_path):
    (tmp_path / "mine.json").write_text('["qed", "MolWt"]')
    assert descriptor_names(str(tmp_path / "mine.json")) == ("qed", "MolWt")


def test_all_wrong_names_of_a_file_are_told_at_once(tmp_path):
    (tmp_path / "mine.json").write_text('["qedd", "MolWt", "MolWt", "TPSAA"]')
    with pytest.raises(ConfigError) as caught:
        descriptor_names(str(tmp_path / "mine.json"))
    assert len(caught.value.problems) == 3
    assert "Did you mean 'qed'" in str(caught.value)
    assert "'MolWt' must stand once" in str(caught.value)
    assert "Did you mean 'TPSA'" in str(caught.value)


@pytest.mark.parametrize("content", ["{}", "[]", "[1]", '{"a": ["qed"]}'])
def test_a_file_with_something_else_is_refused(tmp_path, content):
    (tmp_path / "mine.json").write_text(content)
    with pytest.raises(ConfigError, match="JSON list of names"):
        descriptor_names(str(tmp_path / "mine.json"))


def test_a_missing_or_broken_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"reading .* gave"):
        descriptor_names(str(tmp_path / "none.json"))
    (tmp_path / "mine.json").write_text("[")
    with pytest.raises(ConfigError, match=r"reading .* gave"):
        descriptor_names(str(tmp_path / "mine.json"))


def test_the_release_of_rdkit_is_told():
    assert rdkit_version().split(".")[0] >= "2025"


def test_names_separated_by_commas_are_a_list():
    assert descriptor_names("MolWt, TPSA") == ("MolWt", "TPSA")
    with pytest.raises(ConfigError, match=r"unknown descriptor 'TPSB'\. Did you mean 'TPSA'\?"):
        descriptor_names("MolWt,TPSB")
