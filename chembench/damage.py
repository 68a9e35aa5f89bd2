"""What is wrong in a sweep's folder, held against its ledger; nothing is changed by looking.

Results, curves and predictions are never deleted, also not where they are damaged.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from chembench.errors import DataError
from chembench.paths import RunPaths, SweepPaths, write_json
from chembench.specs import Outcome
from chembench.sweep.ledger import read_events, read_state
from chembench.sweep.results import read_outcome
from chembench.sweep.state import ItemRecord, SweepState
from chembench.sweep.stopping import resume_command
from chembench.tracking.curves import read_curves

PREDICTIONS_HEADER = ["part", "row", "smiles", "target", "measured", "predicted"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in a sweep that is not as its ledger says."""

    what: str
    """Which part of the sweep: ``ledger``, ``results``, ``curves``, ``journal``, ``mlflow``..."""
    state: Literal["ok", "warn", "fail"]
    where: str
    """The first place, where there are several."""
    found: str
    way_out: str = ""
    """How it is mended, or why it cannot be."""
    mend: Callable[[], str] | None = field(default=None, repr=False, compare=False)
    """Mends it and says what was done; none where nothing can be mended from here."""

    @property
    def is_mendable(self) -> bool:
        return self.mend is not None


def ledger_findings(paths: SweepPaths) -> Iterator[Finding]:
    """Damage of the ledger itself; a torn last line is no harm."""
    try:
        size, end = paths.ledger.stat().st_size, _end_of_last_line(paths.ledger)
    except DataError as error:
        why = "nothing is mended: what stood there cannot be known"
        yield Finding("ledger", "fail", str(paths.ledger), str(error), why)
        return
    if end < size:
        torn = f"its last {size - end} bytes are no whole line: a driver was killed while it wrote"
        how = "cut off; what stood there had not happened, and the next start does the same"
        yield Finding("ledger", "warn", str(paths.ledger), torn, how, partial(_cut, paths.ledger))


def _end_of_last_line(ledger: Path) -> int:
    return max((offset for offset, _ in read_events(ledger)), default=0)


def _cut(ledger: Path) -> str:
    end = _end_of_last_line(ledger)  # a driver may have written since the ledger was looked at
    with ledger.open("r+b") as file:
        file.truncate(end)
    return f"{ledger} was cut back to its last whole line"


def running_findings(paths: SweepPaths, state: SweepState) -> Iterator[Finding]:
    """Items that ran when the last driver ended; only where none is at work."""
    running = [item for item in state.items.values() if item.status == "running"]
    whole = [item for item in running if _is_of(read_outcome(_run(paths, item).result), item)]
    lost = [item for item in running if item not in whole]
    go_on = resume_command(paths.root)
    if whole:
        text = f"{_count(whole, 'result')} of the last driver's items, not in the ledger yet"
        yield Finding(
            "results", "warn", str(_run(paths, whole[0]).result), text, f"folded in by the next start: {go_on}"
        )
    if lost:
        text = f"{_count(lost, 'item')} ran when the last driver ended and left no result"
        yield Finding(
            "items", "warn", str(_run(paths, lost[0]).root), text, f"handed out again by the next start: {go_on}"
        )


def _is_of(outcome: Outcome | None, item: ItemRecord) -> bool:
    return outcome is not None and (outcome.uid, outcome.attempt) == (item.uid, item.attempt)


def result_findings(paths: SweepPaths, state: SweepState) -> Iterator[Finding]:
    """Results of ended items that are missing, damaged, or say something else than the ledger."""
    found = _unlike_the_ledger(paths, state)
    if missing := found["missing"]:
        text = f"{_count(missing, 'result')} of ended items missing in trials/"
        how = "written again from the ledger, which holds all that was in it"
        again = partial(_write_results, paths, "missing")
        yield Finding("results", "warn", str(missing[0][0]), text, how, again)
    if damaged := found["damaged"]:
        text = f"{_count(damaged, 'result')} of ended items cannot be read"
        how = "written again from the ledger; the damaged file stays beside it"
        again = partial(_write_results, paths, "damaged")
        yield Finding("results", "warn", str(damaged[0][0]), text, how, again)
    if other := found["other"]:
        text = f"{_count(other, 'result')} of ended items say something else than the ledger"
        why = "the ledger counts; not mended: see which of both is right, and put the other back from a copy"
        yield Finding("results", "fail", str(other[0][0]), text, why)


def _unlike_the_ledger(paths: SweepPaths, state: SweepState) -> dict[str, list[tuple[Path, Outcome]]]:
    """How a result differs -> the files of ended items that do, with what the ledger says."""
    unlike: dict[str, list[tuple[Path, Outcome]]] = {"missing": [], "damaged": [], "other": []}
    for outcome in (item.outcome for item in state.items.values() if item.is_final and item.outcome):
        file = paths.run(outcome.uid, outcome.attempt).result
        found = read_outcome(file)
        if found is None and file.exists():
            unlike["damaged"].append((file, outcome))
        elif found is None and outcome.status != "failed":
            unlike["missing"].append((file, outcome))
        elif found is not None and _essence(found) != _essence(outcome):
            unlike["other"].append((file, outcome))
    return unlike


def _essence(outcome: Outcome) -> tuple[object, ...]:
    """What the item's specification determines, and how it ended."""
    return outcome.status, outcome.cause, outcome.metrics, outcome.objectives


def _write_results(paths: SweepPaths, how: str) -> str:
    lost = _unlike_the_ledger(paths, read_state(paths))[how]
    for file, outcome in lost:
        if file.exists():
            number = sum(1 for _ in file.parent.glob(f"{file.name}.damaged*")) + 1
            file.rename(file.with_name(f"{file.name}.damaged{number}"))
        write_json(file, outcome.model_dump(mode="json"))
    return f"{_count(lost, 'result')} written again from the ledger"


def unknown_findings(paths: SweepPaths, state: SweepState) -> Iterator[Finding]:
    """Attempts in trials/ that the ledger does not know; only where no driver is at work."""
    unknown = [folder for folder in _attempts(paths) if _is_unknown(state, folder)]
    if unknown:
        text = f"{_count(unknown, 'attempt')} in trials/ that the ledger does not know"
        why = "nothing is mended: was an older ledger put back? Then restore the newest; they are left where they are"
        yield Finding("results", "warn", str(unknown[0]), text, why)


def _attempts(paths: SweepPaths) -> list[Path]:
    return sorted(folder for folder in paths.trials.glob("*/*") if folder.name.isdecimal() and folder.is_dir())


def _is_unknown(state: SweepState, folder: Path) -> bool:
    item = state.items.get(folder.parent.name)
    return item is None or int(folder.name) > item.attempt


def curve_findings(paths: SweepPaths, state: SweepState) -> Iterator[Finding]:
    """Curves and predictions of ended items with lines that cannot be read, and predictions that are gone."""
    ended = [(item, _run(paths, item)) for item in state.items.values() if item.is_final and item.failed_with is None]
    curves = [run.curves for _, run in ended if run.curves.is_file() and _has_damaged_curves(run.curves)]
    if curves:
        text = f"{_count(curves, 'curve')} with lines that cannot be read"
        yield Finding(
            "curves", "warn", str(curves[0]), text, "not mended: the other lines are used; the scores are whole"
        )
    trained = [
        run
        for item, run in ended
        if item.status == "finished" and item.kind != "pretrain" and item.spec.recorded is None
    ]
    hurt = [run.predictions for run in trained if not _are_whole(run)]
    if hurt:
        text = f"{_count(hurt, 'file')} of predictions missing or damaged"
        yield Finding("predictions", "warn", str(hurt[0]), text, "not mended: the scores are whole, in the ledger")


def _has_damaged_curves(file: Path) -> bool:
    return bool(read_curves(file)[1]) or not file.read_bytes().endswith(b"\n")


def _are_whole(run: RunPaths) -> bool:
    """Whether every line of the predictions has all its fields; how many there must be is not known here."""
    try:
        text = run.predictions.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    header, *lines = csv.reader(io.StringIO(text, newline="")) if text else [[]]
    return header == PREDICTIONS_HEADER and text.endswith("\n") and all(map(_is_prediction, lines))


def _is_prediction(line: list[str]) -> bool:
    try:
        return len(line) == len(PREDICTIONS_HEADER) and float(line[-1]) is not None
    except ValueError:
        return False


def _run(paths: SweepPaths, item: ItemRecord) -> RunPaths:
    return paths.run(item.uid, item.attempt)


def _count(things: Iterable[object], name: str) -> str:
    number = sum(1 for _ in things)
    return f"{number} {name}" if number == 1 else f"{number} {name}s"
