import numpy as np
import pytest

from chembench.chem.fingerprints import ecfp4, nearest
from chembench.errors import DataError


def test_bits_are_those_of_the_molecule_however_it_is_written():
    first, second, other = ecfp4(["OCC", "CCO", "c1ccccc1"])
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_a_bit_stands_for_each_environment_up_to_two_bonds():
    # methane has one atom and one environment; ethane's two atoms share both of theirs (radius 0 and 1)
    assert ecfp4(["C", "CC"]).sum(axis=1).tolist() == [1, 2]
    assert ecfp4(["C"]).shape == (1, 2048)


def test_an_unreadable_smiles_is_named():
    with pytest.raises(DataError, match=r"row 1 is 'C\(\('; remove or correct"):
        ecfp4(["C", "C(("])
    with pytest.raises(DataError, match="row 0 is ''"):
        ecfp4([""])


def test_the_nearest_neighbour_is_the_most_similar_of_all():
    queries, references = ["CCCO", "c1ccccc1O", "C"], ["CCO", "c1ccccc1", "c1ccccc1O"]
    bits, known = ecfp4(queries).astype(int), ecfp4(references).astype(int)
    common = bits @ known.T
    all_pairs = common / (bits.sum(axis=1)[:, None] + known.sum(axis=1) - common)
    np.testing.assert_allclose(nearest(queries, references), all_pairs.max(axis=1))
    assert nearest(["OCC"], references) == 1


def test_there_must_be_something_to_be_near_to():
    with pytest.raises(DataError, match="needs a molecule to be near to, there is none; give references"):
        nearest(["C"], [])
