import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from chembench.chem.descriptors import compute
from chembench.chem.pool import Processes
from chembench.chem.tokens import SmilesTokenizer
from chembench.data.corpora import prepare_corpus
from chembench.data.shards import build_shards, open_shards
from chembench.data.specs import CorpusSpec, LabelSpec
from chembench.errors import DataError
from chembench.paths import CachePaths

NAMES = ("MolWt", "MolLogP", "fr_azide", "MaxPartialCharge")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("shards")


@pytest.fixture(scope="module")
def cache(place):
    return CachePaths(place / "cache")


@pytest.fixture(scope="module")
def corpus(place, cache):
    lines = [f"{'C' * a}N{'C' * b}O{'C' * c}" for a in range(1, 12) for b in range(1, 12) for c in range(1, 12)]
    (place / "a.smi").write_text("\n".join([*lines, "[Na+].[Cl-]"]))
    return prepare_corpus(CorpusSpec(files=("a.smi",), validation=20), cache, place)


@pytest.fixture(scope="module")
def labels(place):
    (place / "names.json").write_text(json.dumps(NAMES))
    return LabelSpec(descriptors=str(place / "names.json"), statistics_molecules=300, clip=3.0)


@pytest.fixture(scope="module")
def built(corpus, labels, cache):
    return build_shards(corpus, SmilesTokenizer(), labels, 300, cache)


@pytest.fixture(scope="module")
def shards(built):
    return open_shards(built.train, built.statistics, 300)


def test_what_is_built_is_named(built):
    assert built.names == NAMES and built.outputs == 4
    assert [len(built.train), len(built.validation)] == [2, 1]
    assert built.labels_digest == built.statistics.name


def test_a_larger_scale_adds_shards_and_keeps_the_statistics(built, corpus, labels, cache):
    times = {folder: folder.stat().st_mtime_ns for folder in built.train}
    larger = build_shards(corpus, SmilesTokenizer(), labels, 600, cache)
    assert larger.train[:2] == built.train and len(larger.train) == 3
    assert larger.labels_digest == built.labels_digest
    assert {folder: folder.stat().st_mtime_ns for folder in built.train} == times


def test_several_processes_build_the_same(built, corpus, labels, tmp_path):
    told = []
    other = build_shards(corpus, SmilesTokenizer(), labels, 300, CachePaths(tmp_path), Processes(2), told.append)
    assert [f.name for f in other.train] == [f.name for f in built.train]
    assert other.labels_digest == built.labels_digest
    for mine, theirs in zip(built.train, other.train, strict=True):
        for name in ("tokens.npy", "offsets.npy", "labels.npy"):
            assert (mine / name).read_bytes() == (theirs / name).read_bytes()
    assert len(told) == 3 and told[-1].startswith("labels: 3 of 3 shards")


def test_a_missing_shard_alone_is_built_again(corpus, labels, tmp_path):
    cache, told = CachePaths(tmp_path), []
    built = build_shards(corpus, SmilesTokenizer(), labels, 300, cache)
    gone = built.train[1]
    gone.rename(tmp_path / "gone")
    again = build_shards(corpus, SmilesTokenizer(), labels, 300, cache, progress=told.append)
    assert again == built and gone.is_dir() and len(told) == 1


def test_the_second_call_needs_no_chemistry(built, corpus, labels, cache, place):
    code = f"""
import json, sys
from pathlib import Path
from chembench.chem.tokens import SmilesTokenizer
from chembench.data.corpora import prepare_corpus
from chembench.data.specs import CorpusSpec
from chembench.data.shards import build_shards
from chembench.data.specs import LabelSpec
from chembench.paths import CachePaths
cache = CachePaths(Path({str(cache.root)!r}))
corpus = prepare_corpus(CorpusSpec(files=("a.smi",), validation=20), cache, Path({str(place)!r}))
labels = LabelSpec(descriptors={labels.descriptors!r}, statistics_molecules=300, clip=3.0)
built = build_shards(corpus, SmilesTokenizer(), labels, 300, cache)
print(json.dumps([built.labels_digest, "rdkit.Chem" in sys.modules]))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == [built.labels_digest, False]


def test_tokens_are_those_of_the_corpus_padded_to_the_longest(shards, corpus):
    tokenizer = SmilesTokenizer()
    indices_B = np.array([299, 0, 256, 255])
    ids_BT, lengths_B = shards.tokens(indices_B, tokenizer.pad_id, 512)
    smiles = corpus.smiles("train", 0, 300)
    assert ids_BT.dtype == np.uint16 and ids_BT.shape == (4, lengths_B.max())
    for row, index in enumerate(indices_B):
        expected = tokenizer.encode(smiles[index])
        assert ids_BT[row, : lengths_B[row]].tolist() == expected
        assert (ids_BT[row, lengths_B[row] :] == tokenizer.pad_id).all()
        assert shards.lengths_N[index] == len(expected)
    assert shards.truncated == 0


def test_tokens_offsets_and_labels_stay_on_disk(shards):
    arrays = [*shards._tokens, *shards._offsets, *shards._labels]
    assert len(arrays) == 6 and all(isinstance(array.base, np.memmap) for array in arrays)
    assert {array.dtype for array in shards._tokens} == {np.dtype(np.uint8)}


def test_a_long_molecule_is_cut_keeps_its_end_and_is_counted(built, corpus):
    shards, tokenizer = open_shards(built.train, built.statistics, 300), SmilesTokenizer()
    ids_BT, _ = shards.tokens(np.arange(300), tokenizer.pad_id, 15)
    assert ids_BT.shape == (300, 15)
    long = int(np.argmax(shards.lengths_N))
    whole = tokenizer.encode(corpus.smiles("train", long, long + 1)[0])
    assert ids_BT[long].tolist() == [*whole[:14], tokenizer.eos_id]
    assert shards.truncated == (shards.lengths_N > 15).sum() > 0


def test_labels_are_standardised_clipped_and_masked(shards, corpus):
    indices_B = np.array([3, 260, 7])
    raw_BK = compute([corpus.smiles("train", i, i + 1)[0] for i in indices_B], NAMES)
    statistics = shards.statistics
    expected_BK = np.clip((raw_BK - statistics.mean_K) / statistics.sd_K, -3, 3)
    found_BK = shards.labels(indices_B)
    assert found_BK.dtype == np.float32
    np.testing.assert_allclose(found_BK, expected_BK, atol=1e-4)
    assert statistics.constant == ("fr_azide",)
    assert abs(np.nanmean(shards.labels(np.arange(300))[:, 0])) < 0.05


def test_faults_of_the_whole_set_are_counted(corpus, labels, cache):
    built = build_shards(corpus, SmilesTokenizer(), labels, corpus.train, cache)
    shards = open_shards(built.train, built.statistics)
    raw_NK = np.concatenate([np.load(folder / "labels.npy") for folder in built.train])
    scaled_NK = (raw_NK.astype(float) - shards.statistics.mean_K) / shards.statistics.sd_K
    assert shards.masked == (~np.isfinite(raw_NK)).sum()
    assert shards.clipped == (np.abs(scaled_NK) > 3).sum() > 0


def test_more_molecules_than_the_corpus_has_are_refused(corpus, labels, cache):
    with pytest.raises(DataError, match="corpus has 1,312 training molecules, the space asks for 2,000"):
        build_shards(corpus, SmilesTokenizer(), labels, 2000, cache)


def test_more_rows_than_shards_hold_are_refused(built):
    with pytest.raises(DataError, match="shards hold 512 molecules, 600 are asked for; build more shards"):
        open_shards(built.train, built.statistics, 600)


def test_shards_that_do_not_follow_each_other_are_refused(built):
    with pytest.raises(DataError, match=r"follow each other from row 0 in one corpus, .* starts at row 256"):
        open_shards(built.train[1:], built.statistics)
    with pytest.raises(DataError, match="starts at row 0 where row 256 is due"):
        open_shards([built.train[0], built.validation[0]], built.statistics)


def test_shards_of_other_labels_are_refused(built, corpus, cache):
    other = build_shards(corpus, SmilesTokenizer(), LabelSpec(descriptors="paper105", statistics_molecules=5), 5, cache)
    with pytest.raises(DataError, match="hold other descriptors; prepare the inputs again"):
        open_shards(built.train, other.statistics)


def test_a_folder_without_shard_is_told(built, tmp_path):
    with pytest.raises(DataError, match=r"holds no shard .*; prepare the inputs again"):
        open_shards([tmp_path], built.statistics)


def damaged(folder, name, where=-1):
    """One byte of a file of a shard is another; the file is as long as before."""
    file = folder / name
    data = bytearray(file.read_bytes())
    data[where] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("name", ["tokens.npy", "offsets.npy", "labels.npy"])
def test_a_byte_that_changed_is_told_and_a_deleted_shard_is_built_again(corpus, labels, tmp_path, name):
    cache = CachePaths(tmp_path)
    built = build_shards(corpus, SmilesTokenizer(), labels, 300, cache)
    whole = (built.train[1] / name).read_bytes()
    damaged(built.train[1], name)
    text = (
        rf"{built.train[1] / name} must be as it was built, CRC-32 \w{{8}}, it has \w{{8}}; delete the folder, it will"
    )
    with pytest.raises(DataError, match=text):
        open_shards(built.train, built.statistics)
    shutil.rmtree(built.train[1])
    build_shards(corpus, SmilesTokenizer(), labels, 300, cache)
    assert (built.train[1] / name).read_bytes() == whole
    assert len(open_shards(built.train, built.statistics)) == 512


def test_a_cut_file_is_told(corpus, labels, tmp_path):
    built = build_shards(corpus, SmilesTokenizer(), labels, 300, CachePaths(tmp_path))
    file = built.train[0] / "labels.npy"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"labels.npy must be as it was built"):
        open_shards(built.train, built.statistics)


def test_statistics_are_not_made_of_damaged_labels(corpus, labels, tmp_path):
    cache = CachePaths(tmp_path)
    built = build_shards(corpus, SmilesTokenizer(), labels, 300, cache)
    damaged(built.train[0], "labels.npy")
    with pytest.raises(DataError, match=r"labels.npy must be as it was built"):
        build_shards(corpus, SmilesTokenizer(), labels, 600, cache)


def test_reading_needs_numpy_alone():
    code = "import sys, chembench.data.shards, chembench.data.splits; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "rdkit", "deepchem", "pandas", "pyarrow", "fsspec", "transformers"} & set(loaded)
