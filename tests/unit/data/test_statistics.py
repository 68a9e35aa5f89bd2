import numpy as np
import pytest

from chembench.data.statistics import label_statistics, load_statistics, save_statistics
from chembench.errors import DataError


@pytest.fixture
def labels_NK():
    rng = np.random.default_rng(0)
    labels_NK = np.empty((5000, 5), np.float32)
    labels_NK[:, 0] = rng.normal(100, 5, 5000)
    labels_NK[:, 1] = labels_NK[:, 0]
    labels_NK[7, 1] = 4e20
    labels_NK[:, 2] = 3.0
    labels_NK[:, 3] = np.nan
    labels_NK[:, 4] = rng.normal(0, 1, 5000)
    labels_NK[:10, 4] = np.nan
    labels_NK[10:12, 4] = np.inf
    return labels_NK


@pytest.fixture
def statistics(labels_NK):
    return label_statistics(labels_NK, ("plain", "outlier", "flat", "absent", "gaps"), "1", 10.0)


def test_one_outlier_moves_neither_mean_nor_spread(statistics):
    assert statistics.mean_K[1] == pytest.approx(statistics.mean_K[0], rel=1e-3)
    assert statistics.sd_K[1] == pytest.approx(statistics.sd_K[0], rel=1e-2)
    assert statistics.sd_K[0] == pytest.approx(5, rel=0.03)


def test_descriptors_that_do_not_vary_are_listed_and_left_at_their_scale(statistics):
    assert statistics.constant == ("flat", "absent")
    assert statistics.sd_K[2] == statistics.sd_K[3] == 1
    assert (statistics.mean_K[2], statistics.mean_K[3]) == (3, 0)


def test_a_group_that_hardly_any_molecule_has_is_no_spread():
    labels_NK = np.zeros((5000, 1), np.float32)
    labels_NK[:3] = 1
    assert label_statistics(labels_NK, ("fr_azide",), "1", 10.0).constant == ("fr_azide",)


def test_undefined_labels_are_masked_and_extreme_ones_clipped_and_both_counted(statistics, labels_NK):
    scaled_NK = statistics.standardise(labels_NK)
    assert scaled_NK.dtype == np.float32
    assert np.isnan(scaled_NK).sum(axis=0).tolist() == [0, 0, 0, 5000, 12]
    assert scaled_NK[7, 1] == 10.0
    assert np.nanmax(np.abs(scaled_NK)) == 10.0
    assert statistics.count_faults(labels_NK) == (1, 5012)
    assert float(np.nanstd(scaled_NK[:, 4])) == pytest.approx(1, rel=0.02)


def test_statistics_come_back_from_disk_with_their_digest(statistics, tmp_path):
    save_statistics(statistics, tmp_path / "s")
    found = load_statistics(tmp_path / "s")
    assert found.digest == statistics.digest
    np.testing.assert_array_equal(found.mean_K, statistics.mean_K)


def test_the_digest_covers_clip_version_and_names(labels_NK, statistics):
    names = statistics.names
    others = [
        label_statistics(labels_NK, names, "1", 5.0),
        label_statistics(labels_NK, names, "2", 10.0),
        label_statistics(labels_NK, names[::-1], "1", 10.0),
        label_statistics(labels_NK[:100], names, "1", 10.0),
    ]
    assert len({statistics.digest, *(other.digest for other in others)}) == 5


def test_a_folder_without_statistics_is_told(tmp_path):
    with pytest.raises(DataError, match=r"statistics.json holds no label statistics .*; prepare the inputs again"):
        load_statistics(tmp_path)
