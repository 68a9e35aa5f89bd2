import gzip
import io
import os
import sys
import tarfile
import tomllib
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from web_files import WebFiles, served

from chembench.data import sources
from chembench.data.catalog import CORPORA
from chembench.data.sources import (
    brought,
    open_bytes,
    open_parquet,
    resolve,
    resolve_file,
    sha256_of,
    smiles_cells,
)
from chembench.errors import ConfigError, DataError, DiskFullError


def cells(tmp_path, name, column=None):
    return list(smiles_cells(resolve_file(name, tmp_path), column))


def test_an_rdkit_name_is_a_file_inside_its_data_folder(tmp_path):
    assert cells(tmp_path, "rdkit:NCI/first_5K.smi")[0] == "CC1=CC(=O)C=CC1=O"


def test_an_rdkit_name_cannot_leave_the_data_folder(tmp_path):
    with pytest.raises(ConfigError, match=r"stays inside RDKit's data folder, got 'rdkit:../Contrib/x.smi'"):
        resolve(["rdkit:../Contrib/x.smi"], tmp_path)
    with pytest.raises(ConfigError, match="stays inside"):
        resolve(["rdkit:/etc/passwd"], tmp_path)


def test_an_rdkit_name_without_file_is_told(tmp_path):
    with pytest.raises(DataError, match=r"no file 'rdkit:NCI/none.smi' comes with this RDKit"):
        resolve(["rdkit:NCI/none.smi"], tmp_path)


def test_a_missing_file_is_told_with_the_folder_it_was_looked_for_in(tmp_path):
    with pytest.raises(DataError, match=f"no file 'none.smi' in {tmp_path}; correct the name"):
        resolve(["none.smi"], tmp_path)


def test_an_unknown_ending_is_told_before_anything_is_read(tmp_path):
    (tmp_path / "a.sdf.gz").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"ends in .smi, .* got 'a.sdf.gz'; convert it"):
        resolve(["a.sdf.gz"], tmp_path)


def test_a_glob_names_its_files_in_order(tmp_path):
    for name in ("b.smi", "a.smi", "c.csv"):
        (tmp_path / name).write_text("C\n")
    assert [s.name for s in resolve(["*.smi"], tmp_path)] == ["a.smi", "b.smi"]
    assert [s.name for s in resolve([str(tmp_path / "*.smi")], tmp_path / "elsewhere")] == ["a.smi", "b.smi"]
    with pytest.raises(DataError, match=r"a task is one file, '\*.smi' matches 2"):
        resolve_file("*.smi", tmp_path)


def test_a_url_is_read_through_fsspec(tmp_path):
    import fsspec

    with fsspec.open("memory://molecules/a.smi", "w") as file:
        file.write("CCO ethanol\n")
    assert cells(tmp_path, "memory://molecules/a.smi") == ["CCO"]
    assert [s.name for s in resolve(["memory://molecules/*.smi"], tmp_path)] == ["a.smi"]
    assert len(resolve_file("memory://molecules/a.smi", tmp_path).stamp(tmp_path)) > 1
    with pytest.raises(DataError, match=r"no file at 'memory://molecules/b.smi'"):
        cells(tmp_path, "memory://molecules/b.smi")
    with pytest.raises(DataError, match="no file matches"):
        resolve(["memory://molecules/x*.smi"], tmp_path)


def test_an_unknown_protocol_is_told(tmp_path):
    with pytest.raises(DataError, match=r"'nosuch://a.smi' cannot be read"):
        cells(tmp_path, "nosuch://a.smi")


def test_a_smi_file_gives_the_first_word_of_each_line(tmp_path):
    (tmp_path / "a.smi").write_text("CCO\tethanol\n\n  CC ethane\n")
    assert cells(tmp_path, "a.smi") == ["CCO", "CC"]


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_packed_files_are_unpacked(tmp_path, ending):
    content = b"CCO\nCC\n"
    path = tmp_path / f"a.smi.{ending}"
    if ending == "gz":
        path.write_bytes(gzip.compress(content))
    else:
        path.write_bytes(pyarrow.compress(content, "zstd", asbytes=True))
    assert cells(tmp_path, path.name) == ["CCO", "CC"]
    with open_bytes(resolve_file(path.name, tmp_path)) as file:
        assert file.read() == content
    assert len(sha256_of(resolve_file(path.name, tmp_path))) == 64


def test_a_damaged_file_is_told(tmp_path):
    (tmp_path / "a.smi.gz").write_bytes(gzip.compress(b"CCO\n" * 1000)[:30])
    with pytest.raises(DataError, match=r"'a.smi.gz' cannot be read: "):
        cells(tmp_path, "a.smi.gz")


def test_a_csv_is_read_by_the_column_named(tmp_path):
    (tmp_path / "a.csv").write_text('id,Structure\n1,"CCO"\n2,\n')
    assert cells(tmp_path, "a.csv", "Structure") == ["CCO", ""]


def test_a_missing_column_is_told_with_the_nearest(tmp_path):
    (tmp_path / "a.csv").write_text("id,Structure\n1,CCO\n")
    with pytest.raises(DataError, match=r"'a.csv' has no column 'structure'; did you mean 'Structure'\? it has: id, S"):
        cells(tmp_path, "a.csv", "structure")


def test_a_column_called_smiles_is_found_in_any_case(tmp_path):
    (tmp_path / "a.csv").write_text("id,SMILES\n1,CCO\n")
    assert cells(tmp_path, "a.csv") == ["CCO"]


def test_a_csv_without_header_is_told_by_its_first_cell(tmp_path):
    (tmp_path / "a.csv").write_text('"CCO","one"\n"CC","two"\n')
    assert cells(tmp_path, "a.csv") == ["CCO", "CC"]
    assert len(cells(tmp_path, "rdkit:Pains/test_data/wehi_mols.csv")) == 10_000


def test_a_csv_whose_column_cannot_be_told_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("structure,id\nCCO,1\n")
    with pytest.raises(DataError, match=r"no column 'smiles' and its first row is no molecule .* corpus.smiles_column"):
        cells(tmp_path, "a.csv")


def test_a_parquet_file_is_read_by_column(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"id": [1, 2], "smiles": ["CCO", None]}), tmp_path / "a.parquet")
    assert cells(tmp_path, "a.parquet") == ["CCO", ""]
    packed = gzip.compress((tmp_path / "a.parquet").read_bytes())
    (tmp_path / "b.parquet.gz").write_bytes(packed)
    assert cells(tmp_path, "b.parquet.gz", "smiles") == ["CCO", ""]


def test_a_parquet_file_without_smiles_column_is_refused(tmp_path):
    pyarrow.parquet.write_table(pyarrow.table({"mol": ["CCO"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"'a.parquet' has no column 'smiles'; name the column .*\['mol'\]"):
        cells(tmp_path, "a.parquet")


def test_a_header_line_of_a_smi_file_is_no_molecule(tmp_path):
    (tmp_path / "CDAA.smi").write_text("smiles zinc_id\nCCO ZINC1\n")
    assert cells(tmp_path, "CDAA.smi") == ["CCO"]


def test_the_file_of_pubchem_is_read_by_its_second_word(tmp_path):
    (tmp_path / "CID-SMILES.gz").write_bytes(gzip.compress(b"1\tCC(=O)O\n2\tC[N+](C)(C)C\n3\n"))
    assert cells(tmp_path, "CID-SMILES.gz") == ["CC(=O)O", "C[N+](C)(C)C", ""]


def tar_of(path, members, mode):
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize(("name", "mode"), [("zinc.tar.gz", "w:gz"), ("zinc.tgz", "w:gz"), ("zinc.tar", "w")])
def test_the_files_in_a_tar_file_are_read_one_after_the_other(tmp_path, name, mode):
    parquet = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"smiles": ["N"]}), parquet)
    members = {
        "._a.csv": b"\x00\x05",
        "README": b"see ZINC",
        "zinc/a.csv": b"zinc_id,smiles\n1,CCO\n",
        "zinc/b.smi.gz": gzip.compress(b"CC\n"),
        "zinc/c.parquet": parquet.getvalue(),
    }
    tar_of(tmp_path / name, members, mode)
    assert cells(tmp_path, name) == ["CCO", "CC", "N"]


def test_a_tar_file_without_molecules_is_refused(tmp_path):
    tar_of(tmp_path / "a.tar.gz", {"README": b"nothing"}, "w:gz")
    with pytest.raises(DataError, match=r"a tar file holds .smi, .*'a.tar.gz' holds none of them; unpack and convert"):
        cells(tmp_path, "a.tar.gz")


def test_a_damaged_tar_file_is_told(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"no tar file at all")
    with pytest.raises(DataError, match=r"'a.tar' cannot be read: "):
        cells(tmp_path, "a.tar")


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_file_that_is_cut_off_or_damaged_between_its_files_is_told(tmp_path, format):
    second = ("a-name-that-is-too-long-for-the-header-itself/" * 3) + "b.smi"
    with tarfile.open(tmp_path / "a.tar", "w", format=format) as archive:
        for name in ("a.smi", second, "c.smi"):
            member = tarfile.TarInfo(name)
            member.size = 2
            archive.addfile(member, io.BytesIO(b"C\n"))
    whole = (tmp_path / "a.tar").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as archive:
        _, _, third = archive.getmembers()
    assert cells(tmp_path, "a.tar") == ["C"] * 3
    header, after_third = 1024, third.offset_data + 512
    flipped = bytearray(whole)
    flipped[header] ^= 1
    cuts = [header, header + 100, third.offset, third.offset + 100, after_third, after_third + 100]
    for damaged in (bytes(flipped), *(whole[:cut] for cut in cuts)):
        (tmp_path / "a.tar").write_bytes(damaged)
        with pytest.raises(DataError, match=r"'a.tar' cannot be read: .* at byte [\d,]+, where a file or the end is"):
            cells(tmp_path, "a.tar")
    for end in (512, 1024):  # the end is two blocks of zeros, one of them tells it
        (tmp_path / "a.tar").write_bytes(whole[: after_third + end])
        assert cells(tmp_path, "a.tar") == ["C"] * 3


def test_a_missing_package_is_told_with_the_extra_that_brings_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    monkeypatch.setitem(sys.modules, "adlfs", None)
    for url, way_out in (
        ("s3://bucket/*.smi", r"pip install 'chembench-sweeps\[s3\]'"),
        ("gs://bucket/a.smi", r"pip install 'chembench-sweeps\[gs\]'"),
        ("az://bucket/a.smi", "install it"),
    ):
        with pytest.raises(DataError, match=rf"needs a package that is not installed here \(.*\); {way_out}$"):
            cells(tmp_path, url)


def test_every_extra_named_is_one_of_ours():
    file = Path(__file__).parents[3] / "pyproject.toml"
    known = tomllib.loads(file.read_text())["project"]["optional-dependencies"]
    assert set(sources._EXTRAS.values()) <= set(known)


def test_named_corpora_stand_for_addresses(tmp_path):
    (pubchem,) = resolve(["pubchem"], tmp_path)
    assert pubchem.location == "https://ftp.ncbi.nlm.nih.gov/pubchem/Compound/Extras/CID-SMILES.gz"
    assert pubchem.md5_url == f"{pubchem.location}.md5" and pubchem.format == "cid"
    for name in CORPORA:
        for source in resolve([name], tmp_path):
            assert source.address is not None and source.format in ("cid", "tar")


def test_an_address_may_name_its_checksum(tmp_path):
    pin = "0123456789abcdef" * 4
    (source,) = resolve([f"https://host/a.smi.gz#sha256={pin}"], tmp_path)
    assert (source.location, source.sha256, source.format) == ("https://host/a.smi.gz", pin, "smi")
    with pytest.raises(ConfigError, match=r"#sha256= stands behind http and https addresses, got 's3://b/a.smi#sha"):
        resolve([f"s3://b/a.smi#sha256={pin}"], tmp_path)


@pytest.fixture
def web(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield from served(WebFiles({"/a.smi.gz": gzip.compress(b"CCO\nCC\n")}))


def test_a_file_of_the_web_is_brought_before_it_is_read(tmp_path, web):
    web.breaks_after = [10]
    (source,) = resolve([f"{web.url}/a.smi.gz"], tmp_path)
    assert source.stamp(tmp_path) is None
    here = brought(source, tmp_path)
    assert list(smiles_cells(here, None)) == ["CCO", "CC"]
    assert [asked for _, asked in web.asked] == ["", "bytes=10-"]
    assert len(source.stamp(tmp_path)) == 2
    assert brought(here, tmp_path) == here


def test_a_remote_parquet_file_is_not_held_in_memory(tmp_path):
    import fsspec

    content = io.BytesIO()
    table = pyarrow.table({"smiles": ["CCO"] * 100, "other": [os.urandom(10_000) for _ in range(100)]})
    pyarrow.parquet.write_table(table, content)
    with fsspec.open("memory://molecules/large.parquet", "wb") as file:
        file.write(content.getvalue())
    source = resolve_file("memory://molecules/large.parquet", tmp_path)
    read = []
    with open_bytes(source) as file:
        original = file.read
        file.read = lambda size=-1: read.append(got := original(size)) or got
        with open_parquet(file) as opened:
            assert [str(cell) for batch in opened.iter_batches(columns=["smiles"]) for cell in batch[0]] == [
                "CCO"
            ] * 100
    assert sum(map(len, read)) < 200_000 < len(content.getvalue())


def test_a_pattern_of_web_addresses_is_looked_up_in_the_folders_pages(tmp_path, web):
    pytest.importorskip("aiohttp")
    web.files |= {
        "/2D/": b'<a href="CA/">CA</a> <a href="CB/">CB</a> <a href="DA/">DA</a>',
        "/2D/CA/": b'<a href="CAAA.smi">CAAA.smi</a> <a href="CAAB.smi">CAAB.smi</a>',
        "/2D/CB/": b'<a href="CBAA.smi">CBAA.smi</a>',
        "/2D/DA/": b'<a href="DAAA.smi">DAAA.smi</a>',
        "/2D/CA/CAAA.smi": b"smiles zinc_id\nCCO 1\n",
        "/2D/CB/CBAA.smi": b"smiles zinc_id\nCC 2\n",
    }
    found = resolve([f"{web.url}/2D/C[A-K]/C[A-K]AA.smi"], tmp_path)
    assert [source.name for source in found] == ["CAAA.smi", "CBAA.smi"]
    assert [cell for source in found for cell in smiles_cells(brought(source, tmp_path), None)] == ["CCO", "CC"]


def test_a_misspelt_corpus_is_told_with_the_nearest(tmp_path):
    with pytest.raises(DataError, match=r"no file 'pubchen' in .*; did you mean the corpus 'pubchem'\?"):
        resolve(["pubchen"], tmp_path)


def test_a_disk_without_room_to_unpack_is_told(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    (tmp_path / "a.parquet.gz").write_bytes(gzip.compress(b"PAR1"))
    monkeypatch.setattr(sources.shutil, "copyfileobj", full)
    with pytest.raises(DiskFullError, match="no space left on the device that holds"):
        cells(tmp_path, "a.parquet.gz")
