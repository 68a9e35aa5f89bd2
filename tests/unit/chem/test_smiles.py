import pytest

from chembench.chem.smiles import canonical, canonical_many
from chembench.errors import ConfigError


@pytest.mark.parametrize(
    ("smiles", "expected"),
    [
        ("OCC", "CCO"),
        ("C(C)O", "CCO"),
        ("N[C@@H](C)C(=O)O", "C[C@H](N)C(=O)O"),
        ("[13CH3]C", "C[13CH3]"),
        ("[CH3:2]C", "C[CH3:2]"),
        (" OCC ", "CCO"),
    ],
)
def test_a_molecule_has_one_spelling(smiles, expected):
    assert canonical(smiles) == expected


@pytest.mark.parametrize("smiles", ["", " ", "C1CC", "CC(", "xyz", "C[N](C)(C)(C)C", "CCO ethanol", "CCO\tethanol"])
def test_what_is_no_molecule_is_none(smiles):
    assert canonical(smiles) is None


def test_rdkit_keeps_silent_about_bad_smiles(capfd):
    canonical("C1CC")
    assert capfd.readouterr().err == ""


def test_rdkits_log_is_left_on_for_others(capfd):
    from rdkit import Chem

    canonical("C1CC")
    Chem.MolFromSmiles("C1CC")
    assert "unclosed ring" in capfd.readouterr().err


def test_two_processes_give_what_one_gives():
    smiles = [text for i in range(1, 1100) for text in ("C" * (i % 9) + "O", f"N{'c' * (i % 3)}")]
    seen = []
    found = canonical_many(smiles, processes=2, progress=lambda done, total: seen.append((done, total)))
    assert found == [canonical(text) for text in smiles]
    assert seen == [(2000, 2198), (2198, 2198)]


def test_no_process_is_refused():
    with pytest.raises(ConfigError, match="processes must be >= 1, got 0"):
        canonical_many(["C"], processes=0)
