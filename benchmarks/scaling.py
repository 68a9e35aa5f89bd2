"""What grows with what: preparation with molecules, a pre-training step with its corpus, boards and resuming with rows.

Every point is a process of its own, which tells the CPU time of the part and the most memory that it ever had; three
points each, and the exponent of the power law that comes nearest. 1 is linear. The sweep is made up (`made_up.py`), and
its ledger cut where so many items were over.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from corpora import exponent, megabytes, pairs, where, write
from tables import publish, table

from chembench.paths import CachePaths, SweepPaths
from chembench.sweep.ledger import read_events

NAME = "made_up"
STEPS = 40
"""Optimiser steps of a pre-training, of 64 molecules each."""
BATCH = 64
TRIALS = 46
"""Of each search, so that the whole sweep has more than 10,000 items."""
GOALS = {"--help": 0.3, "spaces": 0.3, "leaderboard": 3.0}
"""Seconds."""


class Stopwatch:
    """CPU seconds of this process since it was made, and how much memory it had in all."""

    def __init__(self) -> None:
        self.base, self.began = megabytes(), time.process_time()

    def told(self, **more: Any) -> dict[str, Any]:
        return {"seconds": time.process_time() - self.began, "peak": megabytes(), "base": self.base, **more}


# ---------------------------------------------------------------------------------------------------------- the points


def preparation(size: int, folder: Path) -> dict[str, Any]:
    """From a file of so many lines to ordered molecules, token ids and labels."""
    from chembench.chem.tokens import SmilesTokenizer
    from chembench.data.corpora import prepare_corpus
    from chembench.data.shards import build_shards
    from chembench.data.specs import CorpusSpec, LabelSpec

    def prepared(name: str) -> int:
        cache = CachePaths(folder / name)
        corpus = prepare_corpus(CorpusSpec(files=(f"{name}.smi",), validation=50), cache, folder)
        labels = LabelSpec(descriptors="paper105", statistics_molecules=200)
        build_shards(corpus, SmilesTokenizer(), labels, corpus.train, cache)
        return corpus.train

    write(folder / "first.smi", pairs(), 300)
    write(folder / "all.smi", pairs(), size)
    prepared("first")  # imports, and the memory of descriptors that lasts for a process
    watch = Stopwatch()
    return watch.told(molecules=prepared("all"))


def step(size: int, folder: Path) -> dict[str, Any]:
    """So many steps of a pre-training on a corpus of this size, from opening it to the checkpoint."""
    from gpu import Effort, World

    from chembench.training.attempt import Attempt
    from chembench.training.device import CPU
    from chembench.training.pretrain import pretrain

    def trained(molecules: int, name: str, steps: int) -> tuple[dict[str, Any], float]:
        world = _made(molecules, folder / name)
        spec = world.spec("roberta", "w32x1", Effort(BATCH, BATCH, steps, 0, 0))
        spec = spec.model_copy(update={"molecules": molecules, "epochs": None, "steps": steps, "precision": "fp32"})
        inputs = world.inputs.model_copy(update={"checkpoint": str(folder / name / "checkpoint")})
        watch, own, looks = Stopwatch(), [0.0], [time.process_time()]

        def look() -> bool:
            own.append(anonymous())
            looks.append(time.process_time())
            return False

        pretrain(spec, inputs, lambda *_: False, device=CPU, attempt=Attempt(stop=look))
        return watch.told(peak=max(own)), (looks[-1] - looks[2]) / (steps - 1)

    def _made(molecules: int, root: Path) -> World:
        if not root.is_dir():  # in a process of its own: what it holds in memory is not meant
            root.mkdir()
            code = f"import gpu, pathlib; gpu.World.make({molecules}, pathlib.Path({str(root)!r}))"
            subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)
        made = World.make(16, folder / f"{root.name}_facts")
        inputs = {name: str(root / name) for name in ("tokenizer", "statistics")}
        shards = {"shards": (str(root / "train"),), "validation_shards": (str(root / "validation"),)}
        return World(made.tokenizer, made.inputs.model_copy(update=inputs | shards), made.mean_length)

    trained(256, "first", 3)
    told, seconds = trained(size, "all", STEPS)
    return {**told, "molecules_per_second": BATCH / seconds}


def anonymous() -> float:
    """Memory of this process now that is no page of a file, in MiB."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


def resuming(size: int, folder: Path) -> dict[str, Any]:
    """From the start of the fold until what is left is known, of a sweep with so many items over."""
    from made_up import space_in

    from chembench.api import open_engine

    def taken_up(items: int) -> int:
        space = space_in(folder, TRIALS)
        with open_engine(space, name=NAME, out=cut(folder, items), cache_dir=folder / "cache") as engine:
            return sum(not item.is_final for item in engine.state.items.values())

    taken_up(10)
    cut(folder, size)
    watch = Stopwatch()
    return watch.told(left=taken_up(size))


def boards(size: int, folder: Path) -> dict[str, Any]:
    """From the ledger to the text of all boards."""
    from chembench.api import open_sweep
    from chembench.report.render import boards_text

    def shown(items: int) -> int:
        view = open_sweep(NAME, out=cut(folder, items))
        boards_text(view.boards(), "md")
        return len(view.state().items)

    shown(400)
    cut(folder, size)
    watch = Stopwatch()
    view = open_sweep(NAME, out=cut(folder, size))
    text = boards_text(view.boards(), "md")
    return watch.told(lines=text.count("\n"))


def cut(folder: Path, items: int) -> Path:
    """Folder of sweeps with the made-up one as it was when so many items were over."""
    whole, out = SweepPaths(folder / NAME), folder / f"cut{items}"
    paths = SweepPaths(out / NAME)
    if paths.root.is_dir():
        return out
    paths.root.mkdir(parents=True)
    for entry in whole.root.iterdir():
        if entry.is_dir():
            (paths.root / entry.name).symlink_to(entry)
    ends = [end for end, event in read_events(whole.ledger) if event["event"] == "result"]
    if len(ends) < items:
        raise click.ClickException(f"the sweep has {len(ends)} items that are over, {items} are asked for")
    paths.ledger.write_bytes(whole.ledger.read_bytes()[: ends[items - 1]])
    return out


# ----------------------------------------------------------------------------------------------------------- the tables


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that is measured at three sizes."""

    title: str
    of: str
    """What its sizes count."""
    sizes: tuple[int, ...]
    measure: Callable[[int, Path], dict[str, Any]]
    more: tuple[str, str] | None = None
    """Title and name of another figure."""


PARTS = {
    "preparation": Part("corpus, token ids and 105 labels", "lines", (1000, 3000, 10_000), preparation),
    "step": Part(
        f"pre-training, {STEPS} steps of {BATCH}",
        "molecules of the corpus",
        (30_000, 100_000, 300_000),
        step,
        ("molecules/s", "molecules_per_second"),
    ),
    "resuming": Part("going on with a sweep", "items over", (300, 1000, 3000), resuming),
    "boards": Part("all boards as Markdown", "items over", (1000, 3000, 10_000), boards),
}


def in_own_process(name: str, size: int, folder: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--point", name, "--size", str(size), "--folder", str(folder)]
    found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    click.echo(f"{name} {size:,}: {found}", err=True)
    return found


def rows(parts: Sequence[str], swept: Path) -> Iterator[list[str]]:
    for name in parts:
        part, found = PARTS[name], []
        for size in part.sizes:
            with tempfile.TemporaryDirectory(prefix="scaling_") as scratch:
                found.append(in_own_process(name, size, swept if name in ("resuming", "boards") else Path(scratch)))
            one = found[-1]
            extra = f"{one[part.more[1]]:,.0f}" if part.more else ""
            yield [part.title, f"{size:,} {part.of}", f"{one['seconds']:.2f}", f"{one['peak']:,.0f}", extra]
        fitted = [exponent(part.sizes, [one[key] for one in found]) for key in ("seconds", "peak")]
        extra = f"{exponent(part.sizes, [one[part.more[1]] for one in found]):.2f}" if part.more else ""
        yield ["", "**exponent**", *(f"**{value:.2f}**" for value in fitted), extra and f"**{extra}**"]


def starts(swept: Path, items: int, repeats: int) -> Iterator[list[str]]:
    """Whole commands, interpreter and imports included: least CPU time and least wall time of several turns."""
    out = cut(swept, items)
    commands = {"--help": ["--help"], "spaces": ["spaces"], "leaderboard": ["leaderboard", NAME, "--out", str(out)]}
    for name, words in commands.items():
        turns = [_turn([sys.executable, "-m", "chembench.cli", *words]) for _ in range(repeats)]
        title = f"`chembench {name}`" + (f", {items:,} items" if name == "leaderboard" else "")
        cpu, wall = (min(values) for values in zip(*turns, strict=True))
        yield [title, f"{cpu:.2f}", f"{wall:.2f}", f"{GOALS[name]:g}"]


def _turn(command: Sequence[str]) -> tuple[float, float]:
    code = (
        "import json, resource, subprocess, sys, time; began = time.perf_counter();"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); wall = time.perf_counter() - began;"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN); print(json.dumps([used.ru_utime + used.ru_stime, wall]))"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], check=True, stdout=subprocess.PIPE, text=True)
    cpu, wall = json.loads(done.stdout)
    return cpu, wall


def measure(folder: Path, repeats: int) -> str:
    """Both tables, as Markdown."""
    from made_up import driven, finished, space_in

    items = max(PARTS["boards"].sizes)
    if not SweepPaths(folder / NAME).root.is_dir():
        driven(folder, space_in(folder, TRIALS), NAME, lambda engine: finished(engine) >= items)
    head = ["part", "size", "CPU s", "peak, MiB", "also"]
    text = (
        "CPU time and peak memory of processes of their own, the interpreter's imports left out of the time; of the "
        "pre-training the memory that is no page of a file. Exponent: of the power law that comes nearest; 1 is "
        "linear, 0 is flat.\n\n"
    )
    text += table(head, rows(tuple(PARTS), folder))
    text += f"\nWhole commands, the least of {repeats} turns; the machine had other work, so CPU time counts.\n\n"
    text += table(["command", "CPU s", "wall s", "goal, s"], starts(folder, items, repeats))
    return text + "\n" + where()


@click.command(help=__doc__)
@click.option("--sweep", type=click.Path(path_type=Path), help="Folder that keeps the made-up sweep for another run.")
@click.option("--repeats", default=3, show_default=True, help="Turns of each whole command.")
@click.option("--write", "writes", is_flag=True, help="Put the tables into reports/benchmarks.md.")
@click.option("--point", type=click.Choice(list(PARTS)), hidden=True)
@click.option("--size", type=int, hidden=True)
@click.option("--folder", type=click.Path(path_type=Path), hidden=True)
def main(sweep: Path | None, repeats: int, writes: bool, point: str | None, size: int, folder: Path) -> None:
    if point is not None:
        click.echo(json.dumps(PARTS[point].measure(size, folder)))
        return
    with tempfile.TemporaryDirectory(prefix="scaling_") as scratch:
        text = measure(sweep or Path(scratch), repeats)
    publish("Scaling and start-up", "python benchmarks/scaling.py", text, write=writes)


if __name__ == "__main__":
    main()
