"""How many molecules a second get their token ids: our encoding, and Hugging Face's with the same vocabulary and rule.

All run on one core and take turns on the same molecules; CPU time is counted, so that a busy machine does little harm.
The ids of every way are compared with those of our regular expression, outside the time.
"""

from __future__ import annotations

import os

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core; read when the library is first used

import gzip
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import tokenizers
from numpy.typing import NDArray
from rdkit import RDConfig
from tables import machine, publish, table
from transformers import PreTrainedTokenizerFast

from chembench.chem.encoders import SmilesTokenizer
from chembench.header import environment_now
from chembench.paths import write_json

OWN = Path(RDConfig.RDDataDir) / "NCI" / "first_5K.smi"

Encode = Callable[[list[str]], Any]
Ids = Callable[[Any], NDArray[np.integer[Any]]]


def read(file: Path, molecules: int) -> list[str]:
    """First words of the first lines."""
    text = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    return [line.split()[0] for line in text.decode().splitlines() if line.strip()][:molecules]


def joined(rows: Sequence[Sequence[int]]) -> NDArray[np.integer[Any]]:
    return np.array([i for row in rows for i in row])


def ways(folder: Path) -> dict[str, tuple[Encode, Ids]]:
    """Name -> how it encodes, and the ids in what it gives back; ours comes first."""
    ours = SmilesTokenizer()
    ours.save(folder)
    rust = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    fast = PreTrainedTokenizerFast.from_pretrained(folder)

    def of_encodings(found: Any) -> NDArray[np.integer[Any]]:
        return joined([encoding.ids for encoding in found])

    return {
        "`SmilesTokenizer.encode_many`": (ours.encode_many, lambda found: found[0]),
        "the same rule by Python's `re`": (lambda smiles: [ours.encode(text) for text in smiles], joined),
        "`tokenizers`, `encode_batch_fast`": (rust.encode_batch_fast, of_encodings),
        "`tokenizers`, `encode_batch`": (rust.encode_batch, of_encodings),
        "`PreTrainedTokenizerFast(list)`": (fast, lambda found: joined(found["input_ids"])),
    }


def measure(smiles: list[str], rounds: int, folder: Path) -> tuple[dict[str, list[float]], int]:
    """Microseconds of a molecule in each round, and how many ways give other ids than our regular expression."""
    measured = ways(folder)
    expected = joined([SmilesTokenizer().encode(text) for text in smiles])
    wrong = sum(not np.array_equal(ids(encode(smiles)), expected) for encode, ids in measured.values())
    found: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(rounds):
        for name, (encode, _ids) in measured.items():
            started = time.process_time()
            encode(smiles)
            found[name].append(1e6 * (time.process_time() - started) / len(smiles))
    return found, wrong


def rows(found: dict[str, list[float]]) -> list[list[str]]:
    ours = next(iter(found.values()))
    lines = []
    for name, theirs in found.items():
        ratios = [their / our for our, their in zip(ours, theirs, strict=True)]
        microseconds = statistics.median(theirs)
        spread = f"{min(ratios):.1f} to {max(ratios):.1f}"
        line = [f"{microseconds:,.2f}", f"{1e6 / microseconds:,.0f}", f"{statistics.median(ratios):.1f}", spread]
        lines.append([name, *line])
    return lines


def where() -> str:
    environment = environment_now()
    environment["versions"]["tokenizers"] = tokenizers.__version__
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "environment.json", environment)
        return machine(Path(folder) / "environment.json", ("tokenizers", "transformers", "numpy"))


@click.command()
@click.option("--file", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=OWN, help="SMILES.")
@click.option("--molecules", default=20_000, help="At most, from the start of the file.")
@click.option("--rounds", default=5)
@click.option("--write", is_flag=True, help="Put the table into reports/benchmarks.md.")
def main(file: Path, molecules: int, rounds: int, write: bool) -> None:
    """Compare the ways of encoding molecules."""
    smiles = read(file, molecules)
    with tempfile.TemporaryDirectory() as folder:
        found, wrong = measure(smiles, rounds, Path(folder))
    tokens = len(joined([SmilesTokenizer().encode(text) for text in smiles])) / len(smiles)
    text = (
        f"{len(smiles):,} molecules of `{file.name}`, {tokens:.1f} tokens each, {rounds} rounds, CPU time of one core. "
        f"{len(found) - wrong} of {len(found)} ways give the ids of our regular expression.\n\n"
    )
    head = ["way", "µs a molecule", "molecules/s", "ours is faster, median", "of the rounds"]
    text += table(head, rows(found)) + "\n" + where()
    options = f"--file {file.name} --molecules {molecules} --rounds {rounds}"
    publish("Tokens", f"python benchmarks/tokens.py {options}", text, write=write)


if __name__ == "__main__":
    main()
