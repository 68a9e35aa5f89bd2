import gzip
import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from web_files import WebFiles, served

from chembench.chem.pool import Processes
from chembench.data import corpora, sources
from chembench.data.catalog import CorpusFile, NamedCorpus
from chembench.data.corpora import prepare_corpus
from chembench.data.specs import CorpusSpec
from chembench.errors import DataError
from chembench.paths import CachePaths


def corpus_of(tmp_path, cache, lines, name="a.smi", **fields):
    (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
    spec = CorpusSpec(**{"files": (name,), "validation": 10, **fields})
    return prepare_corpus(spec, cache, tmp_path)


def both_parts(corpus):
    return corpus.smiles("train", 0, corpus.train), corpus.smiles("validation", 0, corpus.validation)


def test_molecules_are_canonical_unique_and_divided(tmp_path, cache, molecules):
    corpus = corpus_of(tmp_path, cache, [*molecules, "OCC", "C(O)C"])
    train, validation = both_parts(corpus)
    assert (corpus.train, corpus.validation, corpus.unreadable, corpus.duplicates) == (71, 10, 0, 1)
    assert len(train) == 71 and len(validation) == 10
    assert not set(train) & set(validation)
    assert "CCO" in {*train, *validation} and "OCC" not in {*train, *validation}


def test_the_order_and_the_digest_are_frozen(tmp_path, cache, molecules):
    corpus = corpus_of(tmp_path, cache, molecules)
    assert corpus.digest == "50cf68810d67"
    assert corpus.smiles("train", 0, 2) == ["CCCCCCCCCCCCc1ccccc1", "NNNNNNNNNNNNNNC1CCCC1O"]
    assert corpus.smiles("validation", 0, 1) == ["CCCCCCCCCCCCCCCCCCCCCCCCCCC"]


def test_digest_and_parts_depend_on_the_molecules_alone(tmp_path, molecules):
    one = corpus_of(tmp_path, CachePaths(tmp_path / "1"), molecules)
    other = corpus_of(tmp_path, CachePaths(tmp_path / "2"), [*reversed(molecules), molecules[3]], "b.smi")
    assert one.digest == other.digest
    assert both_parts(one) == both_parts(other)


def test_more_molecules_change_the_membership_of_few(tmp_path, cache, molecules):
    one = corpus_of(tmp_path, cache, molecules)
    other = corpus_of(tmp_path, cache, [*molecules, "FC(F)F"], "b.smi")
    assert one.digest != other.digest
    before, after = both_parts(one)[1], both_parts(other)[1]
    assert len(set(before) ^ set(after)) <= 2
    kept = [s for s in both_parts(other)[0] if s in set(both_parts(one)[0])]
    assert kept == [s for s in both_parts(one)[0] if s in set(kept)], "the order of the others is the same"


def test_any_stretch_of_a_long_part_is_found(tmp_path, cache):
    lines = [f"{'C' * a}N{'C' * b}O{'C' * c}" for a in range(1, 15) for b in range(1, 15) for c in range(1, 13)]
    corpus = corpus_of(tmp_path, cache, lines)
    whole = corpus.smiles("train", 0, corpus.train)
    assert corpus.train > 2048
    for start, stop in ((0, 5), (1023, 1026), (2047, 2049), (corpus.train - 3, corpus.train), (2100, 2100)):
        assert corpus.smiles("train", start, stop) == whole[start:stop]


def test_unreadable_rows_are_counted_and_listed(tmp_path, cache, molecules):
    corpus = corpus_of(tmp_path, cache, ["nonsense", *molecules, "C1CC"])
    assert corpus.unreadable == 2
    assert corpus.unreadable_list.read_text() == "a.smi:1\tnonsense\na.smi:82\tC1CC\n"


def test_too_many_unreadable_rows_are_an_error_that_names_the_list(tmp_path, cache, molecules):
    with pytest.raises(DataError, match=r"10 of 90 corpus rows \(11.1%\) are no molecules .* is 5.0%; see .*txt") as e:
        corpus_of(tmp_path, cache, [*molecules, *["bad"] * 10])
    listed = str(e.value).split("see ")[1]
    assert Path(listed).read_text().count("bad") == 10
    assert corpus_of(tmp_path, cache, [*molecules, *["bad"] * 10], max_unreadable=0.2).unreadable == 10


def test_a_corpus_smaller_than_its_validation_is_refused(tmp_path, cache):
    with pytest.raises(DataError, match=r"corpus has 2 distinct molecules, corpus.validation takes 10"):
        corpus_of(tmp_path, cache, ["C", "CC"])


def test_an_empty_corpus_is_refused(tmp_path, cache):
    with pytest.raises(DataError, match=r"corpus files hold no molecule: a.smi; add files"):
        corpus_of(tmp_path, cache, [])


def test_a_corpus_smaller_than_asked_is_told(tmp_path, cache, molecules):
    corpus = corpus_of(tmp_path, cache, molecules)
    corpus.require(70)
    with pytest.raises(
        DataError,
        match=r"^corpus has 70 training molecules, the space asks for 20,000; lower grid.molecules or add files$",
    ):
        corpus.require(20_000)


def test_a_failed_build_leaves_no_corpus(tmp_path, cache):
    with pytest.raises(DataError):
        corpus_of(tmp_path, cache, ["C"])
    assert list((cache.root / "corpora").iterdir()) == []


def test_a_changed_file_is_read_again(tmp_path, cache, molecules):
    before = corpus_of(tmp_path, cache, molecules)
    after = corpus_of(tmp_path, cache, [*molecules, "FC(F)F"])
    assert after.train == before.train + 1


def test_several_processes_make_the_same_corpus(tmp_path, molecules, monkeypatch):
    (tmp_path / "a.smi").write_text("\n".join(["bad", *molecules[:50]]))
    (tmp_path / "b.smi").write_text("\n".join([*molecules[50:], "bad"]))
    monkeypatch.setattr(corpora, "_CHUNK", 20)
    monkeypatch.setattr(corpora, "_TELL_ROWS", 40)
    spec, told = CorpusSpec(files=("a.smi", "b.smi"), validation=10), []
    one = prepare_corpus(spec, CachePaths(tmp_path / "1"), tmp_path)
    two = prepare_corpus(spec, CachePaths(tmp_path / "2"), tmp_path, Processes(2), told.append)
    assert one.digest == two.digest and both_parts(one) == both_parts(two) and one.train == 70
    assert one.unreadable_list.read_text() == two.unreadable_list.read_text() == "a.smi:1\tbad\nb.smi:31\tbad\n"
    assert told == ["corpus: 40 rows read", "corpus: 82 rows read"]


def test_the_second_call_reads_no_molecule(tmp_path, cache, molecules):
    made = corpus_of(tmp_path, cache, molecules)
    code = f"""
import json, sys
from pathlib import Path
from chembench.data.corpora import prepare_corpus
from chembench.data.specs import CorpusSpec
from chembench.paths import CachePaths
cache = CachePaths(Path({str(cache.root)!r}))
corpus = prepare_corpus(CorpusSpec(files=("a.smi",), validation=10), cache, Path({str(tmp_path)!r}))
print(json.dumps([corpus.digest, corpus.train, "rdkit.Chem" in sys.modules, "torch" in sys.modules]))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout) == [made.digest, 70, False, False]


@pytest.fixture
def pubchem(monkeypatch, molecules):
    """A server that stands for PubChem's, and breaks off in the middle."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    content = gzip.compress("".join(f"{n}\t{smiles}\n" for n, smiles in enumerate(molecules)).encode())
    published = hashlib.md5(content).hexdigest() + "  CID-SMILES.gz\n"
    for web in served(WebFiles({"/CID-SMILES.gz": content, "/CID-SMILES.gz.md5": published.encode()}, [1000, 40])):
        file = CorpusFile(f"{web.url}/CID-SMILES.gz", f"{web.url}/CID-SMILES.gz.md5")
        monkeypatch.setitem(sources.CORPORA, "pubchem", NamedCorpus((file,), "80 molecules"))
        yield web


def test_a_corpus_is_named_and_downloaded_though_the_server_breaks_off(tmp_path, cache, molecules, pubchem):
    told = []
    spec = CorpusSpec(files=("pubchem",), validation=10)
    named = prepare_corpus(spec, cache, tmp_path, progress=told.append, data_dir=tmp_path / "raw")
    own = corpus_of(tmp_path, CachePaths(tmp_path / "other"), molecules)
    assert named.digest == own.digest
    assert pubchem.asked == [
        ("/CID-SMILES.gz.md5", ""),
        ("/CID-SMILES.gz", ""),
        ("/CID-SMILES.gz", "bytes=40-"),
    ]
    assert json.loads((named.folder / "manifest.json").read_text())["sources"] == ["CID-SMILES.gz"]


def test_a_prepared_corpus_is_found_when_its_download_was_deleted(tmp_path, cache, pubchem):
    spec, raw = CorpusSpec(files=("pubchem",), validation=10), tmp_path / "raw"
    made = prepare_corpus(spec, cache, tmp_path, data_dir=raw)
    (file,) = raw.rglob("CID-SMILES.gz")
    file.unlink()
    pubchem.asked.clear()
    assert prepare_corpus(spec, cache, tmp_path, data_dir=raw) == made
    assert pubchem.asked == []
    assert prepare_corpus(spec, CachePaths(tmp_path / "other"), tmp_path, data_dir=raw).digest == made.digest
    assert len(pubchem.asked) == 2


PEAK = """
import sys
from pathlib import Path
from chembench.data.corpora import prepare_corpus
from chembench.data.specs import CorpusSpec
from chembench.paths import CachePaths
folder = Path(sys.argv[1])
made = prepare_corpus(CorpusSpec(files=("a.smi",), validation=1000), CachePaths(folder / "cache"), folder)
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(made.train, peak.split()[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="Linux alone tells the peak of one process")
def test_memory_does_not_grow_with_the_corpus(tmp_path):
    lines = [f"{'C' * a}N{'C' * b}O{'C' * c}" for a in range(1, 37) for b in range(1, 37) for c in range(1, 37)]
    random.Random(0).shuffle(lines)
    peaks = {}
    for rows in (5_000, 45_000):
        folder = tmp_path / str(rows)
        folder.mkdir()
        (folder / "a.smi").write_text("\n".join(lines[:rows]))
        done = subprocess.run([sys.executable, "-c", PEAK, folder], check=True, capture_output=True, text=True)
        molecules, peaks[rows] = map(int, done.stdout.split())
        assert molecules == rows - 1000
    assert peaks[45_000] - peaks[5_000] < 8 * 1024
