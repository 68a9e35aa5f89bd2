import csv
import gzip
import io
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

_SMILES_COLUMNS = ("smiles", "mol")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the real corpus and task files; tests that need it say so when it is absent."""
    beside = Path(__file__).parents[3].parent / "shared" / "data"
    root = Path(os.environ.get("CHEMBENCH_TEST_DATA", beside))
    if not (root / "corpus").is_dir():
        pytest.skip(f"no corpus under {root}; set CHEMBENCH_TEST_DATA")
    return root


def lines(file: Path, count: int | None = None) -> Iterator[str]:
    with gzip.open(file, "rt", encoding="ascii") as stream:
        yield from (line.rstrip("\n") for line in islice(stream, count))


@pytest.fixture(scope="session")
def corpus_100k(shared_data: Path) -> list[str]:
    return list(lines(shared_data / "corpus" / "corpus.smi.gz", 100_000))


@pytest.fixture(scope="session")
def corpus_stream(shared_data: Path) -> Iterator[str]:
    return lines(shared_data / "corpus" / "corpus.smi.gz")


@pytest.fixture(scope="session")
def task_smiles(shared_data: Path) -> list[str]:
    """Every SMILES of the MoleculeNet files as it is written there, without repeats and blanks at the ends."""
    found: dict[str, None] = {}
    for file in sorted((shared_data / "moleculenet").glob("*.csv*")):
        raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        rows = csv.DictReader(io.StringIO(raw.decode("utf-8")))
        column = next(name for name in _SMILES_COLUMNS if name in (rows.fieldnames or ()))
        found.update(dict.fromkeys(row[column].strip() for row in rows))
    return list(found)
