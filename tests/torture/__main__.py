"""``python -m torture --kills 100``: sweeps are tortured one after the other until so many kills were carried out.

What is done is kept under ``--out`` by commit and seed, so that the same command goes on. The first violation ends it,
and the folder of that sweep stays.
"""

import argparse
import json
import shutil
import signal
import sys
import time
from pathlib import Path

import flow_sweeps

from chembench.api import open_sweep
from chembench.config import stable_seed
from chembench.header import environment_now
from torture import report
from torture.kills import drawn
from torture.tormented import Stuck, torment
from torture.verdict import finished_again, hidden, violations

SPACES = ("full_grid_tiny", "full_adaptive_tiny")
OVERRIDES = flow_sweeps.options("pretrain.epochs=2")
"""A pre-training of one epoch keeps no state to go on from."""
KILLS_PER_SWEEP = 10
EVERY_NODES = 3
"""One sweep in so many runs on several nodes."""


def main() -> int:
    given = _arguments()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # what runs for a sweep is ended before this process
    out = given.out.resolve() / f"{environment_now()['commit']}-{given.seed}"
    out.mkdir(parents=True, exist_ok=True)
    records, number = [], 0
    while (carried_out := sum(sum(record["kills"].values()) for record in records)) < given.kills:
        count = min(KILLS_PER_SWEEP, given.kills - carried_out)
        record = _one(out, given.spaces[number % len(given.spaces)], given.seed, number, count)
        records.append(record)
        _say(f"sweep {number}: {record['kills']}, {record['starts']} starts, {record['seconds']:.0f} s")
        if record["violations"]:
            _say("\n".join([f"violations, the sweep is kept in {record['folder']}:", *record["violations"]]))
            return 1
        number += 1
    command = f"make torture KILLS={given.kills} SEED={given.seed}"
    report.write(given.report, records, command)
    _say(f"{carried_out} kills, no violation; see {given.report}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--spaces", nargs="+", default=SPACES, choices=SPACES)
    parser.add_argument("--out", type=Path, default=Path(".torture"))
    parser.add_argument("--report", type=Path, default=Path("reports/torture.md"))
    return parser.parse_args()


def _one(out: Path, space: str, base_seed: int, number: int, count: int) -> report.Record:
    """Torture one sweep, unless that was done before."""
    file = out / f"sweep-{number}-{count}.json"
    if file.is_file():
        record = json.loads(file.read_text())
        if not record["violations"]:
            return record
    record = _tortured(out, space, stable_seed(base_seed, "torture", number), number, count)
    file.write_text(json.dumps(record, indent=1))
    return record


def _tortured(out: Path, space: str, seed: int, number: int, count: int) -> report.Record:
    undisturbed, folder = _undisturbed(out, space), out / f"sweep-{number}"
    shutil.rmtree(folder, ignore_errors=True)
    cache = folder / "cache"
    _copy_inputs(undisturbed.cache, cache)
    with_nodes = number % EVERY_NODES == EVERY_NODES - 1
    results = len(undisturbed.view.state().items)
    kills = drawn(count, results, seed, with_nodes=with_nodes)
    _say(f"sweep {number}: {space}, seed {seed}, {count} kills" + (", on several nodes" if with_nodes else ""))
    started, found, parts = time.monotonic(), [], 0
    arguments = ["--space", space, *OVERRIDES]
    with torment(folder, cache, space, arguments, with_nodes=with_nodes) as sweep:
        try:
            sweep.suffer(kills)
            sweep.finish()
            parts = len(hidden(sweep.root, cache))
            found = violations(open_sweep(sweep.root), undisturbed.view, cache)
        except Stuck as stuck:
            found = [str(stuck)]
    record = {
        "space": space,
        "seed": seed,
        "kills": {kind: sweep.done.count(kind) for kind in sorted(set(sweep.done))},
        "missed": sweep.missed,
        "starts": sweep.starts,
        "items": results,
        "finished_again": finished_again(open_sweep(sweep.root).paths),
        "parts": parts,
        "seconds": time.monotonic() - started,
        "violations": found,
        "folder": str(folder),
    }
    if not found:
        shutil.rmtree(folder)
    return record


def _undisturbed(out: Path, space: str) -> flow_sweeps.Swept:
    def make(place: Path) -> dict[str, flow_sweeps.Swept]:
        _say(f"{space}: one undisturbed sweep to compare with")
        return {space: flow_sweeps.sweep(place, place / "cache", space, ["--space", space, *OVERRIDES])}

    swept = flow_sweeps.shared(out, f"undisturbed-{space}", make)[space]
    if swept.status != 0:
        raise SystemExit(f"the undisturbed sweep must be finished, it ended with {swept.status}\n{swept.err}")
    return swept


def _copy_inputs(source: Path, target: Path) -> None:
    """Prepared inputs without the checkpoints: those are to be trained, and their writers killed."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("pretrained"))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
