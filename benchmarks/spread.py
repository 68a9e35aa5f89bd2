"""What a preparation takes in one process, in two, and as tasks of a Ray cluster: two nodes of one CPU on this machine.

The ways take turns on the same molecules, each with an empty cache: canonical SMILES, order, token ids and the 217
labels. Wall time, with the start of processes and the way into the cluster and out; that the nodes run is not counted.
Every way must leave the same files.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
from corpora import molecules, write
from tables import machine, publish, table

from chembench.chem.encoders import SmilesTokenizer
from chembench.chem.pool import HERE, Pool, Processes
from chembench.data.corpora import prepare_corpus
from chembench.data.shards import build_shards
from chembench.data.specs import CorpusSpec, LabelSpec
from chembench.header import environment_now
from chembench.paths import CachePaths, write_json
from chembench.sweep.ray_pool import RayTasks

VALIDATION = 100


@contextlib.contextmanager
def nodes() -> Iterator[str]:
    """The address of a cluster of two nodes beside a head that carries nothing out."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "RAY_AUTH_MODE": "disabled"}
    folder = tempfile.mkdtemp(prefix="cb_")  # short, for the sockets in it
    os.environ["RAY_TMPDIR"] = folder
    temp_dir = Path(folder) / "ray"
    temp_dir.mkdir()
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "temp_dir": str(temp_dir), "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=False)
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        yield cluster.address
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def prepared(folder: Path, cache: Path, pool: Pool) -> tuple[float, str]:
    """Seconds, and a digest of every file of corpus, shards and statistics."""
    began, at = time.perf_counter(), CachePaths(cache)
    corpus = prepare_corpus(CorpusSpec(files=("a.smi",), validation=VALIDATION), at, folder, pool)
    labels = LabelSpec(statistics_molecules=min(1000, corpus.train))
    made = build_shards(corpus, SmilesTokenizer(), labels, corpus.train, at, pool)
    seconds, content = time.perf_counter() - began, hashlib.sha256()
    for place in (corpus.folder, *made.train, *made.validation, made.statistics):
        for file in sorted(place.iterdir()):
            content.update(f"{place.name}/{file.name}".encode() + file.read_bytes())
    shutil.rmtree(cache)
    return seconds, content.hexdigest()


def measured(file: Path | None, count: int, rounds: int) -> dict[str, list[float]]:
    """Way -> seconds of each round."""
    found: dict[str, list[float]] = {}
    contents = set()
    with tempfile.TemporaryDirectory() as scratch, nodes() as address:
        folder = Path(scratch)
        write(folder / "a.smi", molecules(file), count)
        ways: dict[str, Callable[[], Pool]] = {
            "one process": lambda: HERE,
            "two processes": lambda: Processes(2),
            "Ray, two nodes of one CPU": lambda: RayTasks(address, folder / "ray.log"),
        }
        for number in range(rounds):
            for name, pool in ways.items():
                seconds, content = prepared(folder, folder / f"cache {number}", pool())
                found.setdefault(name, []).append(seconds)
                contents.add(content)
    if len(contents) > 1:
        raise click.ClickException("every way must leave the same files, they differ; please report it")
    return found


def rows(found: dict[str, list[float]]) -> Iterator[list[str]]:
    alone = found["one process"]
    for name, seconds in found.items():
        ratios = sorted(one / other for one, other in zip(alone, seconds, strict=True))
        of_rounds = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        yield [name, f"{statistics.median(seconds):.1f}", f"{statistics.median(ratios):.2f}", of_rounds]


@click.command()
@click.option("--file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="SMILES, one a line.")
@click.option("--molecules", "count", default=16_384, show_default=True, help="Lines that are read.")
@click.option("--rounds", default=2, show_default=True)
@click.option("--write", "is_written", is_flag=True, help="Put the table into reports/benchmarks.md.")
def main(file: Path | None, count: int, rounds: int, is_written: bool) -> None:
    """Measure the preparation of one corpus by each way."""
    found = measured(file, count, rounds)
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / "environment.json", environment_now())
        where = machine(Path(folder) / "environment.json", ("rdkit", "ray", "numpy"))
    words = f"python benchmarks/spread.py --molecules {count} --rounds {rounds}"
    of = f"lines of {file.name}" if file else "pairs of the molecules that come with RDKit"
    text = (
        f"{count:,} {of}: canonical SMILES, order, token ids and 217 labels, {rounds} rounds in turn, wall time on "
        "this machine's cores with all starts. Every way left the same files, byte for byte.\n\n"
        f"{table(['way', 's, median', 'times as fast as one process', 'of the rounds'], rows(found))}\n{where}"
    )
    publish("Preparation spread over processes and nodes", words + (f" --file {file.name}" if file else ""), text,
            write=is_written)  # fmt: skip


if __name__ == "__main__":
    main()
