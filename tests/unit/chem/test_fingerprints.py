import numpy as np
import pytest

from chembench.chem.fingerprints import ecfp4
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
