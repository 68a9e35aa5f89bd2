"""How many molecules a second get their labels: descriptors by blocks, and RDKit's own calculator.

Both read the SMILES, on one core and one BLAS thread, and take turns on the same molecules; CPU time is counted, so
that a busy machine does little harm. Every value of the run is compared. Cold: nothing is remembered of atoms. New:
other molecules came before. Known: these molecules came before.
"""

from __future__ import annotations

import gzip
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, RDConfig, rdBase
from rdkit.Chem import Descriptors
from tables import machine, publish, table
from threadpoolctl import threadpool_limits

from chembench.chem import descriptor_blocks, descriptor_counts, descriptor_drug, descriptor_smarts
from chembench.chem.descriptors import TOLERANCE, compute, descriptor_names
from chembench.header import environment_now
from chembench.paths import write_json

OWN = Path(RDConfig.RDDataDir) / "NCI" / "first_5K.smi"
REMEMBERED = (
    descriptor_blocks.shared_memory,
    descriptor_counts._fragment_queries,
    descriptor_drug._queries,
    descriptor_smarts.environment,
    descriptor_smarts.atom_query,
)

Values = NDArray[np.float64]
Calculator = Callable[[list[str]], Values]


@dataclass(slots=True)
class Turns:
    """Microseconds of CPU for a molecule, of both ways in each round."""

    blocks: list[float] = field(default_factory=list)
    rdkit: list[float] = field(default_factory=list)

    def row(self, name: str) -> list[str]:
        ratios = [theirs / ours for ours, theirs in zip(self.blocks, self.rdkit, strict=True)]
        ours, theirs = statistics.median(self.blocks), statistics.median(self.rdkit)
        return [
            name,
            f"{ours:,.0f}",
            f"{theirs:,.0f}",
            f"{1e6 / ours:,.0f}",
            f"{statistics.median(ratios):.1f}",
            f"{min(ratios):.1f} to {max(ratios):.1f}",
        ]


def read(file: Path) -> list[str]:
    """First words of the lines that RDKit can read, each once."""
    text = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    words = dict.fromkeys(line.split()[0] for line in text.decode().splitlines() if line.strip())
    return [word for word in words if (molecule := Chem.MolFromSmiles(word)) is not None and molecule.GetNumAtoms()]


def by_rdkit(smiles: list[str], names: tuple[str, ...]) -> Values:
    """RDKit's calculator; it always computes all that it knows."""
    rows = [Descriptors.CalcMolDescriptors(Chem.MolFromSmiles(text), missingVal=np.nan) for text in smiles]
    return np.array([[row[name] for name in names] for row in rows], float)


def timed(calculator: Calculator, smiles: list[str]) -> tuple[float, Values]:
    started = time.process_time()
    values = calculator(smiles)
    return 1e6 * (time.process_time() - started) / len(smiles), values


def take_turns(smiles: list[str], names: tuple[str, ...], turns: Turns) -> int:
    """One round.

    Returns:
        Values that differ.
    """
    microseconds, found = timed(lambda texts: compute(texts, names), smiles)
    turns.blocks.append(microseconds)
    microseconds, expected = timed(lambda texts: by_rdkit(texts, names), smiles)
    turns.rdkit.append(microseconds)
    with np.errstate(invalid="ignore"):
        is_close = np.abs(found - expected) <= TOLERANCE * np.maximum(1, np.abs(expected))
    return int((~(is_close | (found == expected) | np.isnan(found) & np.isnan(expected))).sum())


def forget() -> None:
    for remembered in REMEMBERED:
        remembered.cache_clear()


def measure(
    measured: list[str], others: list[str], names: tuple[str, ...], rounds: int
) -> tuple[dict[str, Turns], int]:
    """Turns of each state, and how many values differ."""
    cold, new, known = Turns(), Turns(), Turns()
    wrong = 0
    for _ in range(rounds):
        forget()
        wrong += take_turns(measured, names, cold)
        wrong += take_turns(measured, names, known)
        forget()
        compute(others, names)
        wrong += take_turns(measured, names, new)
    return {"cold": cold, f"new, {len(others):,} others before": new, "known": known}, wrong


def where() -> str:
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "environment.json", environment_now())
        return machine(Path(folder) / "environment.json", ("rdkit", "numpy"))


@click.command()
@click.option("--file", type=click.Path(exists=True, dir_okay=False, path_type=Path), default=OWN, help="SMILES.")
@click.option("--molecules", default=1024, help="In each round.")
@click.option("--before", default=3000, help="Others that come before the new ones.")
@click.option("--rounds", default=5)
@click.option("--list", "list_name", default="rdkit", help="Of descriptors.")
@click.option("--write", is_flag=True, help="Put the table into reports/benchmarks.md.")
def main(file: Path, molecules: int, before: int, rounds: int, list_name: str, write: bool) -> None:
    """Compare the two ways of computing descriptors."""
    names = descriptor_names(list_name)
    with rdBase.BlockLogs(), threadpool_limits(1, "blas"):
        smiles = np.random.default_rng(0).permutation(read(file)).tolist()
        by_rdkit(smiles[-50:], names)
        states, wrong = measure(smiles[:molecules], smiles[molecules : molecules + before], names, rounds)
    measured = len(smiles[:molecules])
    text = (
        f"{len(names)} descriptors of {measured:,} molecules of `{file.name}`, {rounds} rounds, CPU time of one core, "
        f"reading the SMILES included. {wrong:,} of {len(states) * rounds * measured * len(names):,} values differ by "
        f"more than {TOLERANCE:g}.\n\n"
    )
    head = ["state", "blocks, µs", "RDKit, µs", "blocks, molecules/s", "ratio, median", "of the rounds"]
    text += table(head, (turns.row(name) for name, turns in states.items())) + "\n" + where()
    options = f"--file {file.name} --molecules {molecules} --before {before} --rounds {rounds} --list {list_name}"
    publish("Descriptors", f"python benchmarks/descriptors.py {options}", text, write=write)


if __name__ == "__main__":
    main()
