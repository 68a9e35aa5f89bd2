"""Blocks of molecules give what RDKit's calculator gives."""

import math
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem, RDConfig, rdBase
from rdkit.Chem import QED, Descriptors
from rdkit.Chem.rdMolDescriptors import CalcNumRotatableBonds, NumRotatableBondsOptions

from chembench.chem import descriptor_drug
from chembench.chem.descriptor_blocks import block_values, shared_memory
from chembench.chem.descriptor_graph import Block
from chembench.chem.descriptor_groups import GROUPS
from chembench.chem.descriptor_memory import Memory
from chembench.chem.descriptors import TOLERANCE, descriptor_names

RDKIT = descriptor_names("rdkit")
NCI = [line.split()[0] for line in (Path(RDConfig.RDDataDir) / "NCI" / "first_5K.smi").read_text().splitlines() if line]
ALONE = {
    "HallKierAlpha",
    "LabuteASA",
    "NumAmideBonds",
    "NumAtomStereoCenters",
    "NumBridgeheadAtoms",
    "NumHAcceptors",
    "NumSpiroAtoms",
    "NumUnspecifiedAtomStereoCenters",
}
"""Computed by RDKit's function, one molecule after the other: it is fast."""

LEFT_TO_RDKIT = """
    [Na+].[Cl-] CC(=O)[O-].[Na+] [K+].[O-]C(=O)C [H][H] * C [Fe] N[Pt](Cl)(Cl)N O=[U]=O CCCC[Sn](CCCC)(CCCC)CCCC O.O.O
    [2H]O[2H] [13CH3]C(=O)O [12CH3]C [Li]CCCC C[Mg]Br [Fe+2].[cH-]1cccc1.[cH-]1cccc1 c1cc[se]c1 C[As](C)C [#6]C
    [H]C([H])([H])[H] [H]O[H] CN->B C~C CC* [CH3:1][CH2:2]O C$C [BH4-] FP(F)(F)(F)F ClI(Cl)Cl [OH] [O]
    [NH4+].[Cl-] [C-]#[O+] CI(C)C
""".split()
SMALL_RINGS = """
    C1CC1 C1CCC1 C1CC12CC2 C1CC2CC12 C12C3C4C1C5C2C3C45 C1CC1C(C1CC1)(C1CC1)C1CC1 C12CC1C2 C1C2C3CC1C23 CN1CC1C
    C1N2CC1C2 N1CC1C C1CC2CN1C2 CC1(C)SC2C(N)C(=O)N2C1C(=O)O O1CC1C1CO1 C1=CC1 C1CC1=C1CC1 FC1CC1C1CC(Cl)C1
""".split()
RINGS = """
    C1CC2CCC1CC2 C1CC2CCC1C2 C1C2CC3CC1CC(C2)C3 C1CN2CCN1CC2 C1CC2(C1)CCC2 C1CCC2(CC1)OCCO2 C1CCCCCCCCCCCCCC1
    O=C1CCCCCCCCCCCCCCO1 C1COCCOCCOCCOCCOCCO1 c1ccc2ccccc2c1 c1cc2ccc3cccc4ccc(c1)c2c34 C1=CC2=CC=CC2=C1
    c1ccc2cccc-2cc1 C1=CC=C1 C1=CC=CC=CC=C1 [cH-]1cccc1 [cH+]1cccccc1 c1ccc2[nH]c3ccccc3c2c1 S1SSSSSSS1
    COc1ccc2nccc(C(O)C3CC4CCN3CC4C=C)c2c1 CN1CCC23C4Oc5c2c(CC1C3C=CC4O)ccc5O C1CC2CC1C1C2C2CC1C1CC21
    CC12CCC3C(CCC4=CC(=O)CCC34C)C1CCC2O C1CCC2(CC1)CCC1(CC2)CCCCC1 C1=CC2C=CC1C2
""".split()
STEREO = """
    F/C=C/F F/C=C\\F FC=CF CC=NO CC(C)=NO C/N=N/C N=C(N)N C[S@](=O)CC CS(=O)CC CS(=O)(=O)C C[S+]([O-])CC CP(CC)CCC
    CP(C)(=O)O CPCC OC1CC(O)C1 CC1CCC(C)CC1 CC1CC(C)CC(C)C1 OC(C)C(O)C(O)C FC(Cl)(Br)I CC(C)(C)C C1CCC/C=C/CCC1
    CC1CCC=CCCCC1 CC1CC=CCCCC1 C/C=C1/CCC(C)C1 CC=C1CCC(=CC)CC1 C/C=C/C=C/C CC(F)=C(C)Cl CS(C)(=N)=O CCS(C)(=N)=O
    [SiH3][SiH3] C[SiH2]C C[SiH](C)CC CS(F)(F)(F)(F)F ClS(F)(F)(F)(F)F O[PH](=O)O CCOP(OCC)OCC
    C[N@@+](CC)(CCC)CCCC C[C@@]12CC[C@H](C1)C(C)(C)C2=O C=C=C CC=C=CC CC=C=C(C)F C=C=C=C
""".split()
CHARGES = """
    C[N+](C)(C)C.[Cl-] [O-][N+](=O)c1ccccc1 O=N(=O)c1ccccc1 C#[N+][O-] [C-]#[N+]C [N-]=[N+]=NC C=[N+]=[N-] N#N O=O
    C[CH2] C[CH]C C[C]C [O]N=O C[N]C CC(C)(C)N(C)[O] C[BH3-] OB(O)c1ccccc1 BB C[Si](C)(C)O[Si](C)(C)C [CH2-][CH2+]
    [NH3+]CC([O-])=O [O-]C(=O)C(=O)[O-] NC(=[NH2+])c1ccccc1 C[O+](C)C c1cc[n+]([O-])cc1 [O-]Cl(=O)(=O)=O.C[NH3+]
    FS(F)(F)(F)(F)F PP FF II NN OO O=C=O S=C=S O=C=C=C=O CSC#N CN(C)N=O OS(=O)(=O)O [S-]c1ccccc1 CCO.O CC(=O)O.CC(=O)O
""".split()
LARGE = [
    *("C" * atoms for atoms in (60, 61, 80, 101, 128, 129, 150)),
    "C(F)(F)" * 35 + "F",
    "CC(C)(C)" * 20 + "C",
    "N1CCN(C)CC1" + "C1CCC(CC1)" * 10,
    Chem.MolToSmiles(Chem.MolFromSequence("ACDEFGHIKLMNPQ")),
    Chem.MolToSmiles(Chem.MolFromSequence("GAGSGAGSGAVLLL")),
    "OCC1OC(OC2C(CO)OC(OC3C(CO)OC(OC4C(CO)OC(O)C(O)C4O)C(O)C3O)C(O)C2O)C(O)C(O)C1O",
]


@pytest.fixture(autouse=True)
def quiet():
    with rdBase.BlockLogs():
        yield


def read(smiles: list[str]) -> list[Chem.Mol]:
    return [Chem.MolFromSmiles(text) for text in smiles]


def reference(smiles: list[str]) -> np.ndarray:
    """RDKit's own calculator."""
    rows = [Descriptors.CalcMolDescriptors(molecule, missingVal=math.nan) for molecule in read(smiles)]
    return np.array([[row[name] for name in RDKIT] for row in rows], float)


def differences(smiles: list[str], found: np.ndarray, expected: np.ndarray) -> list[str]:
    with np.errstate(invalid="ignore"):
        is_close = np.abs(found - expected) <= TOLERANCE * np.maximum(1, np.abs(expected))
    same = is_close | (found == expected) | (np.isnan(found) & np.isnan(expected))
    return [f"{RDKIT[k]} of {smiles[n]}: {found[n, k]!r}, not {expected[n, k]!r}" for n, k in np.argwhere(~same)]


def readable(smiles: list[str]) -> list[str]:
    return [text for text, molecule in zip(smiles, read(smiles), strict=True) if molecule and molecule.GetNumAtoms()]


@pytest.mark.parametrize(
    "smiles", [SMALL_RINGS, RINGS, STEREO, CHARGES, LARGE], ids=["small rings", "rings", "stereo", "charges", "large"]
)
def test_values_are_rdkits_for_unusual_molecules(smiles):
    found, by_rdkit = block_values(smiles, read(smiles), RDKIT)
    assert not differences(smiles, found, reference(smiles))
    assert by_rdkit.sum() <= 2


def test_what_blocks_cannot_hold_is_left_to_rdkit():
    found, by_rdkit = block_values(LEFT_TO_RDKIT, read(LEFT_TO_RDKIT), RDKIT)
    assert not differences(LEFT_TO_RDKIT, found, reference(LEFT_TO_RDKIT))
    assert by_rdkit.all()


def test_values_are_rdkits_on_its_own_file():
    smiles = readable(NCI[:400])
    found, by_rdkit = block_values(smiles, read(smiles), RDKIT)
    assert not differences(smiles, found, reference(smiles))
    assert by_rdkit.mean() < 0.1


def test_values_are_rdkits_on_the_corpus(corpus_100k):
    smiles = corpus_100k[::50]
    found, by_rdkit = block_values(smiles, read(smiles), RDKIT)
    assert not differences(smiles, found, reference(smiles))
    assert by_rdkit.mean() < 0.02


@pytest.mark.slow
def test_values_are_rdkits_on_a_large_part_of_the_corpus(corpus_100k):
    smiles = [*corpus_100k[::2], *readable(NCI)]
    wrong = []
    for start in range(0, len(smiles), 512):
        part = smiles[start : start + 512]
        wrong += differences(part, block_values(part, read(part), RDKIT)[0], reference(part))
    assert not wrong


@pytest.mark.parametrize("seed", range(12))
def test_any_list_gives_the_same_columns_in_its_order(seed):
    draw = np.random.default_rng(seed)
    names = draw.permutation(RDKIT)[: draw.integers(1, 40)].tolist()
    smiles = [*CHARGES, *RINGS, *LEFT_TO_RDKIT[:5]]
    whole, _ = block_values(smiles, read(smiles), RDKIT)
    part, _ = block_values(smiles, read(smiles), names)
    np.testing.assert_array_equal(part, whole[:, [RDKIT.index(name) for name in names]])


def test_not_a_bit_hangs_on_the_other_molecules_or_on_what_is_remembered():
    smiles = [text for text in readable(NCI[400:440]) if Chem.MolFromSmiles(text).GetNumAtoms() < 70]
    together, _ = block_values(smiles, read(smiles), RDKIT)
    backwards, _ = block_values(smiles[::-1], read(smiles[::-1]), RDKIT)
    np.testing.assert_array_equal(backwards[::-1], together)
    shared_memory.cache_clear()
    alone = [block_values([text], read([text]), RDKIT)[0][0] for text in reversed(smiles)]
    np.testing.assert_array_equal(alone[::-1], together)


def test_every_descriptor_has_one_group_or_is_computed_alone():
    names = [name for group in GROUPS for name in group.names]
    assert len(names) == len(set(names))
    assert set(RDKIT) - set(names) == ALONE
    assert set(names) <= set(RDKIT)


def test_only_the_groups_that_are_needed_work(monkeypatch):
    asked = []
    monkeypatch.setattr(Chem, "CreateAtomDoublePropertyList", lambda *_: asked.append("charges"))
    block_values(["CCO"], read(["CCO"]), ["MolWt", "TPSA", "Chi0"])
    assert not asked


def test_a_descriptor_that_no_group_knows_is_rdkits(monkeypatch):
    known = [*Descriptors.descList, ("NewInRDKit", lambda molecule: 7.0 * molecule.GetNumAtoms())]
    monkeypatch.setattr(Descriptors, "descList", known)
    values, by_rdkit = block_values(["CCO", "CC"], read(["CCO", "CC"]), ["NewInRDKit", "MolWt"])
    assert values[:, 0].tolist() == [21.0, 14.0] and not by_rdkit.any()


def test_what_is_remembered_is_forgotten_before_it_grows_too_large(monkeypatch):
    monkeypatch.setattr("chembench.chem.descriptor_memory._MOST_ENVIRONMENTS", 3)
    memory = Memory()
    first = Block(read(["CCO", "CCN"]), memory).of_environment("logp")
    Block(read(["c1ccccc1O"]), memory).of_environment("logp")
    assert len(memory._environments) < 8
    np.testing.assert_array_equal(Block(read(["CCO", "CCN"]), memory).of_environment("logp"), first)


@pytest.mark.parametrize("is_strict", [True, False])
def test_drug_likeness_counts_rotatable_bonds_strictly_whatever_the_default(monkeypatch, is_strict):
    smiles = ["CCCC(=O)NC(C)(C)C", "CC(C)(C)OC(=O)NCCc1ccccc1", "FC(F)(F)CCCC#CC"]
    monkeypatch.setattr(descriptor_drug, "_default_is_strict", lambda: is_strict)
    option = NumRotatableBondsOptions.Strict if is_strict else NumRotatableBondsOptions.NonStrict
    monkeypatch.setattr(
        descriptor_drug.rdMolDescriptors,
        "CalcNumRotatableBonds",
        lambda one, which=option: CalcNumRotatableBonds(one, which),
    )
    found = descriptor_drug.drug_likeness(Block(read(smiles), Memory()))
    np.testing.assert_allclose(found, [QED.qed(molecule) for molecule in read(smiles)], rtol=1e-12)
