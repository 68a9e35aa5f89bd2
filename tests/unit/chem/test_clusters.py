from pathlib import Path

import numpy as np
import pytest

from chembench.chem.clusters import butina
from chembench.chem.fingerprints import ecfp4
from chembench.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def screened():
    """400 molecules of the NCI, one of them twice in other words."""
    from rdkit import Chem, RDConfig, rdBase

    lines = (Path(RDConfig.RDDataDir) / "NCI" / "first_5K.smi").read_text().splitlines()
    with rdBase.BlockLogs():
        found = [text for text in (line.split()[0] for line in lines[:420]) if Chem.MolFromSmiles(text) is not None]
    return [*found[:399], Chem.MolToRandomSmilesVect(Chem.MolFromSmiles(found[40]), 1, randomSeed=1)[0]]


def similarities(smiles):
    bits_NK = ecfp4(smiles).astype(float)
    shared_NN = bits_NK @ bits_NK.T
    sizes_N = bits_NK.sum(axis=1)
    return shared_NN / (sizes_N[:, None] + sizes_N[None, :] - shared_NN)


@pytest.mark.parametrize("similarity", [0.3, 0.4, 0.6])
def test_clusters_are_those_of_rdkit(screened, similarity):
    from rdkit.ML.Cluster import Butina

    distances_NN = 1 - similarities(screened)
    lower = distances_NN[np.tril_indices(len(screened), -1)]
    expected = Butina.ClusterData(lower, len(screened), 1 - similarity + 1e-9, isDistData=True)
    found = butina(screened, similarity)
    groups = {}
    for row, cluster in enumerate(found):
        groups.setdefault(cluster, set()).add(row)
    assert {frozenset(rows) for rows in groups.values()} == {frozenset(rows) for rows in expected}
    assert len(groups) == len(expected) > 50


def test_every_member_is_near_one_centre(screened):
    found, near_NN = np.array(butina(screened, 0.4)), similarities(screened) >= 0.4
    for cluster in np.unique(found):
        rows = np.flatnonzero(found == cluster)
        assert near_NN[np.ix_(rows, rows)].all(axis=1).any()


def test_the_largest_neighbourhood_comes_first(screened):
    counts = np.bincount(butina(screened, 0.4))
    assert counts[0] == (similarities(screened) >= 0.4).sum(axis=1).max()


def test_the_same_molecule_in_other_words_is_in_the_same_cluster(screened):
    found = butina(screened, 1.0)
    assert screened[40] != screened[399] and found[40] == found[399]


def test_no_molecules_make_no_cluster():
    assert butina([], 0.4) == [] and butina(["C"], 0.4) == [0]


@pytest.mark.parametrize("similarity", [0, -0.1, 1.1])
def test_a_similarity_out_of_its_range_is_refused(similarity):
    with pytest.raises(ConfigError, match=r"above 0 and at most 1, got -?[01.]+; try 0.4"):
        butina(["C"], similarity)


def test_an_unreadable_molecule_is_named():
    with pytest.raises(DataError, match="row 1 is 'C1'"):
        butina(["C", "C1"], 0.4)
