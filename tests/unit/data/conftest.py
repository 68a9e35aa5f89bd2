import pytest

from chembench.paths import CachePaths

ALKANES = ["C" * n for n in range(1, 41)]
AROMATICS = [f"c1ccccc1{'C' * n}" for n in range(20)]
OTHERS = [f"OC1CCCC1{'N' * n}" for n in range(1, 21)]


@pytest.fixture
def cache(tmp_path):
    return CachePaths(tmp_path / "cache")


@pytest.fixture
def molecules():
    """80 different molecules."""
    return ALKANES + AROMATICS + OTHERS
