"""What preparing a corpus costs with its size: seconds and peak memory, from a file to ordered molecules and token ids.

Every size has a process of its own. The smallest corpus is made in memory as well, and must hold the same molecules.
Without a file of molecules, pairs of those that come with RDKit are written, as salts are: as many as are asked for.
"""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import click
import numpy as np
from rdkit import RDConfig
from tables import machine, publish, table

from chembench.chem.encoders import SmilesTokenizer
from chembench.chem.smiles import canonical_many
from chembench.data.corpora import Corpus, prepare_corpus
from chembench.data.specs import CorpusSpec
from chembench.header import environment_now
from chembench.paths import CachePaths, write_json

VALIDATION = 1000
SHARD = 131_072
"""Molecules whose token ids are made at once, as in the largest shards."""


def molecules(file: Path | None) -> Iterator[str]:
    if file is None:
        yield from pairs()
        return
    with gzip.open(file, "rt") if file.suffix == ".gz" else file.open() as lines:
        yield from (line.split()[0] for line in lines if line.strip())


def pairs() -> Iterator[str]:
    own = (Path(RDConfig.RDDataDir) / "NCI" / "first_5K.smi").read_text().splitlines()
    parts = [words[0] for words in map(str.split, own) if words and len(words[0]) < 40]
    draw = np.random.default_rng(0)
    while True:
        for one, other in draw.integers(len(parts), size=(1000, 2)):
            yield f"{parts[one]}.{parts[other]}"


def write(file: Path, lines: Iterator[str], count: int) -> None:
    with file.open("w") as written:
        found = sum(1 for line in islice(lines, count) if written.write(f"{line}\n"))
    if found < count:
        raise click.UsageError(f"the file holds {found:,} molecules, {count:,} are asked for; ask for fewer")


def megabytes() -> float:
    """The most that this process ever had in memory; Linux alone tells it."""
    # what getrusage tells begins at the size of the process that started this one
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def encode(corpus: Corpus, folder: Path) -> int:
    """Write the token ids of the training molecules as shards do; return how many there are."""
    tokenizer, tokens = SmilesTokenizer(), 0
    for start in range(0, corpus.train, SHARD):
        smiles = corpus.smiles("train", start, min(start + SHARD, corpus.train))
        stream, offsets = tokenizer.encode_many(smiles)
        np.save(folder / f"{start}.tokens.npy", stream)
        np.save(folder / f"{start}.offsets.npy", offsets)
        tokens += len(stream)
    return tokens


def prepare(folder: Path) -> dict[str, Any]:
    """Prepare the molecules in ``folder``; this is what the process of one size does."""
    canonical_many(["C"])
    base, began = megabytes(), time.process_time()
    corpus = prepare_corpus(CorpusSpec(files=("a.smi",), validation=VALIDATION), CachePaths(folder / "cache"), folder)
    ordered = time.process_time()
    tokens = encode(corpus, folder)
    return {
        "base": base,
        "peak": megabytes(),
        "seconds": ordered - began,
        "token_seconds": time.process_time() - ordered,
        "molecules": corpus.train + corpus.validation,
        "tokens": tokens,
    }


def measured(file: Path | None, count: int, scratch: Path, check: bool) -> dict[str, Any]:
    """What one size costs, and whether it holds what it must, as far as that is looked at."""
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        folder = Path(name)
        write(folder / "a.smi", molecules(file), count)
        done = subprocess.run(
            [sys.executable, __file__, "--prepare", name], check=True, stdout=subprocess.PIPE, text=True
        )
        found: dict[str, Any] = json.loads(done.stdout)
        click.echo(f"{count:,} lines: {found}", err=True)
        if check:
            (train,) = (folder / "cache").rglob("train.smi")
            lines = (train.read_text() + train.with_name("validation.smi").read_text()).splitlines()
            expected = set(canonical_many((folder / "a.smi").read_text().splitlines())) - {None}
            found["is_right"] = len(lines) == len(expected) and set(lines) == expected
    return found


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """Of the power law that comes nearest."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def rows(sizes: Sequence[int], found: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    for size, one in zip(sizes, found, strict=True):
        yield [
            f"{size:,}",
            f"{one['molecules']:,}",
            f"{one['seconds']:,.1f}",
            f"{one['token_seconds']:,.2f}",
            f"{one['base']:,.0f}",
            f"{one['peak']:,.0f}",
        ]
    if len(sizes) > 1:
        fitted = [exponent(sizes, [one[key] for one in found]) for key in ("seconds", "token_seconds", "peak")]
        yield ["exponent", "", f"{fitted[0]:.2f}", f"{fitted[1]:.2f}", "", f"{fitted[2]:.2f}"]


def where() -> str:
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "environment.json", environment_now())
        return machine(Path(folder) / "environment.json", ("rdkit", "numpy"))


@click.command()
@click.option("--file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="SMILES, one a line.")
@click.option("--sizes", default="10000,30000,100000", help="Lines that are read.")
@click.option("--scratch", type=click.Path(path_type=Path), help="Folder on a disk; none: the system's own.")
@click.option("--write", is_flag=True, help="Put the table into reports/benchmarks.md.")
@click.option("--prepare", "folder", type=click.Path(path_type=Path), hidden=True)
def main(file: Path | None, sizes: str, scratch: Path | None, write: bool, folder: Path | None) -> None:
    """Measure the preparation of corpora of several sizes."""
    if folder is not None:
        click.echo(json.dumps(prepare(folder)))
        return
    counts = sorted(int(size) for size in sizes.split(","))
    found = [measured(file, count, scratch or Path(tempfile.gettempdir()), count == counts[0]) for count in counts]
    same = "the same molecules as" if found[0]["is_right"] else "OTHER molecules than"
    name = file.name if file else "pairs of the molecules that come with RDKit"
    text = (
        f"Lines of {name}, one process; CPU time, and the most memory that the process had, before and in all. "
        f"The smallest corpus holds {same} a set made in memory.\n\n"
    )
    head = ["lines", "different molecules", "canonical and ordered, s", "token ids, s", "before, MiB", "peak, MiB"]
    text += table(head, rows(counts, found)) + "\n" + where()
    options = f"--sizes {sizes}" + (f" --file {file.name}" if file else "")
    publish("Corpora", f"python benchmarks/corpora.py {options}", text, write=write)


if __name__ == "__main__":
    main()
