"""Several ledgers of one sweep become one: shards driven apart, or copies that went on by themselves.

::

    sources ─ read, compared ─> events in one order ─> ledger, trial folders beside the target ─ renamed ─> target

What was asked, chosen and opened is united; of every item one source is kept, with its attempts and its folder: the
first in which it finished, else the first in which it failed, else the one that tried most often. The order of the
events follows the order of the sources, not the clock, so the same sources give the same ledger. A merge makes a new
sweep and leaves its sources as they are; a source that went on later is merged again, into another folder.
"""

from __future__ import annotations

import copy
import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chembench.errors import ConfigError, DataError
from chembench.paths import SweepPaths, built_whole
from chembench.sweep.ledger import folded, line_of, read_state
from chembench.sweep.locking import at_rest
from chembench.sweep.plan import make_plan
from chembench.sweep.reading import space_from
from chembench.sweep.results import read_outcome, result_event, waits_again
from chembench.sweep.shard import Shard
from chembench.sweep.space import RAISABLE, raised
from chembench.sweep.state import SweepState
from chembench.sweep.units import Event

SHOWN = 10
"""Differences that are told."""

OF_ONE_SOURCE = ("started", "lost", "result", "retried")
"""Events that tell what became of an item."""


def merge_sweeps(sources: Sequence[SweepPaths], target: SweepPaths, say: Callable[[str], None]) -> SweepState:
    """Unite sweeps of one space into a new one, which goes on, is shown and is synced like any other.

    Two results of one item are one result, measured twice: the one that is kept counts, the header tells how many
    there were. What still ran when a source was left waits again, unless its result is found in its folder.

    Args:
        sources: folders of sweeps; their order decides between two results of one item.
        target: the folder to make; nothing is left of it if the merge fails.
        say: told one line per step.

    Returns:
        The state of the new sweep.

    Raises:
        ConfigError: if the target exists, a source is driven by a process or has another space, or two sources asked
            for different trials at one place.
        DataError: if a source has other inputs, or its ledger is damaged.
        DiskFullError: if no space is left.
    """
    _require_free(sources, target)
    with ExitStack() as resting:
        for paths in sources:
            resting.enter_context(at_rest(paths))
        found = [_read(paths) for paths in sources]
        _require_alike(found)
        _require_same_asks(found)
        events, kept = _united(found, target.root.name)
        ledger = b"".join(map(line_of, events))
        with built_whole(target.root) as part:
            made = SweepPaths(part)
            missing = _copy_folders(found, kept, made)
            for file in (found[0].paths.space, found[0].paths.environment):
                if file.is_file():
                    shutil.copyfile(file, part / file.name)
            made.ledger.write_bytes(ledger)
    if target.ledger.read_bytes() != ledger:
        raise _exists(target)
    state = read_state(target)
    say(f"{len(sources)} sweeps merged: {len(state.items)} items, {state.header['remeasured']} of them measured twice")
    if missing:
        say(f"{missing} items that were started have no folder in their sweep; their results are in the ledger")
    return state


@dataclass(slots=True)
class _Source:
    """One sweep as it lies on disk."""

    paths: SweepPaths
    state: SweepState = field(default_factory=SweepState)
    events: list[Event] = field(default_factory=list)


def _read(paths: SweepPaths) -> _Source:
    """A sweep with its events; every choice tells the basis it was made from, also where its ledger does not."""
    source = _Source(paths)
    for _, event in folded(paths, source.state):
        basis = {"basis": source.state.choices[event["unit"]]["basis"]} if event["event"] == "chosen" else {}
        source.events.append({**event, **basis})
    if not source.state.name:
        raise ConfigError(f"a sweep that is merged must have begun, {paths.root} has not; leave it out")
    return source


# ------------------------------------------------------------------------------------------------ what cannot be merged


def _require_free(sources: Sequence[SweepPaths], target: SweepPaths) -> None:
    roots = [paths.root.resolve() for paths in sources]
    twice = sorted({str(root) for root in roots if roots.count(root) > 1})
    if twice or not roots:
        got = f"{twice[0]} twice" if twice else "none"
        raise ConfigError(f"a merge takes different sweeps, got {got}; name each folder once")
    if target.root.exists() and (not target.root.is_dir() or any(target.root.iterdir())):
        raise _exists(target)


def _exists(target: SweepPaths) -> ConfigError:
    return ConfigError(
        f"a merge makes a new sweep, {target.root} exists; give it another --name, or remove that folder"
    )


def _require_alike(sources: Sequence[_Source]) -> None:
    first = sources[0].state
    for other in (source.state for source in sources[1:]):
        grown, refused = raised(first.header["identity"], other.header["identity"])
        if grown or refused:
            differences = [*refused, *grown]
            may_be_raised = all(line.partition(":")[0] in RAISABLE for line in differences)
            way_out = "raise both to the same by chembench resume --set, or " if may_be_raised else ""
            told = f"only sweeps of one space can be merged, '{first.name}' (there) and '{other.name}' (here) differ; "
            raise ConfigError(_shortened([f"{told}{way_out}leave one of them out", *differences]))
        before, now = first.header["inputs"], other.header["inputs"]
        changed = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
        if changed:
            raise DataError(
                f"only sweeps on the same inputs can be merged, '{first.name}' and '{other.name}' differ in "
                f"{', '.join(changed)}; leave one of them out"
            )


def _require_same_asks(sources: Sequence[_Source]) -> None:
    conflicts = []
    for one, other in itertools.combinations(sources, 2):
        for study in sorted(one.state.asked.keys() & other.state.asked.keys()):
            first, second = one.state.asked[study], other.state.asked[study]
            for ordinal in sorted(first.keys() & second.keys()):
                if first[ordinal].uid != second[ordinal].uid:
                    conflicts.append(
                        f"trial {ordinal} of {study}: {first[ordinal].uid} in {one.paths.root.name}, "
                        f"{second[ordinal].uid} in {other.paths.root.name}"
                    )
    if conflicts:
        told = "sweeps that asked for different trials at one place cannot be merged; leave one of them out"
        raise ConfigError(_shortened([told, *conflicts]))


def _shortened(problems: list[str]) -> list[str]:
    more = len(problems) - 1 - SHOWN
    return [*problems[: 1 + SHOWN], *([f"and {more} more"] if more > 0 else [])]


# -------------------------------------------------------------------------------------------------------- what is kept


def _kept_sources(sources: Sequence[_Source]) -> dict[str, int]:
    """Uid -> the source whose attempts and outcome count."""
    best: dict[str, tuple[int, int, int]] = {}
    for number, source in enumerate(sources):
        for uid, item in source.state.items.items():
            rank = {"finished": 0, "pruned": 0, "failed": 1}.get(item.status, 2)
            tries = 0 if item.is_final else -item.attempt
            best[uid] = min(best.get(uid, (3, 0, 0)), (rank, tries, number))
    return {uid: number for uid, (_, _, number) in best.items()}


def _united(sources: Sequence[_Source], name: str) -> tuple[list[Event], dict[str, int]]:
    """Every event of the new sweep, and the source that each item is kept from."""
    kept = _kept_sources(sources)
    at = max(event["at"] for source in sources for event in source.events)
    header = _header(sources, _remeasured(sources))
    begun = {"event": "sweep", "name": name, "space_digest": sources[0].state.space_digest, "header": header, "at": at}
    events = [begun]
    seen: set[tuple[Any, ...]] = set()
    for number, source in enumerate(sources):
        for event in source.events:
            if event["event"] in OF_ONE_SOURCE:
                if kept[event["uid"]] == number:
                    events.append(event)
            elif (identity := _identity(event)) is not None and identity not in seen:
                seen.add(identity)
                events.append(event)
    events += [{**event, "at": at} for event in _ends_of_running(sources, kept)]
    if _is_whole(sources, events):
        events.append({"event": "finished", "at": at})
    return events, kept


def _identity(event: Event) -> tuple[Any, ...] | None:
    """Equal for two events that say the same; none for those that are written anew."""
    kind = event["event"]
    fields = {
        "item": ("uid",),
        "asked": ("study", "ordinal"),
        "chosen": ("unit", "basis", "at"),
        "opened": ("unit", "cell_name", "recipe"),
        "extended": ("unit", "head_seeds"),
    }.get(kind)
    return None if fields is None else (kind, *(event[name] for name in fields))


def _remeasured(sources: Sequence[_Source]) -> int:
    """Items that came to an end in more than one source, each by itself."""
    outcomes: dict[str, list[Any]] = {}
    for source in sources:
        for uid, item in source.state.items.items():
            if item.is_final and item.outcome not in outcomes.setdefault(uid, []):
                outcomes[uid].append(item.outcome)
    return sum(len(own) > 1 for own in outcomes.values())


def _header(sources: Sequence[_Source], remeasured: int) -> dict[str, Any]:
    """The header of the first source, with the cells of all, what each of them was, and what was measured twice."""
    headers = [source.state.header for source in sources]
    merged = [
        {"name": source.state.name, "shard": header.get("shard"), "events": source.state.events}
        for source, header in zip(sources, headers, strict=True)
    ]
    whole = make_plan(space_from(copy.deepcopy(headers[0]["space"])))  # the new sweep goes on as a whole one
    return {
        **headers[0],
        "shard": None,
        "cells": list(dict.fromkeys(cell for header in headers for cell in header["cells"])),
        "expected": dict(whole.items),
        "merged": merged,
        "remeasured": remeasured,
    }


def _ends_of_running(sources: Sequence[_Source], kept: Mapping[str, int]) -> Iterator[Event]:
    """What becomes of items that ran when their source was left: as when its own driver starts again."""
    for uid, number in kept.items():
        source = sources[number]
        item = source.state.items[uid]
        if item.status != "running":
            continue
        outcome = read_outcome(source.paths.run(uid, item.attempt).result)
        if outcome is not None and (outcome.uid, outcome.attempt) == (uid, item.attempt):
            yield result_event(outcome, waits_again(item, outcome))
        else:
            yield {"event": "lost", "uid": uid, "attempt": item.attempt}


def _is_whole(sources: Sequence[_Source], events: Sequence[Event]) -> bool:
    """Whether nothing is left to do: every part has finished, and every choice stands on what is there now."""
    shards = {source.state.header.get("shard") for source in sources}
    parts = [Shard.parse(shard) for shard in shards if shard]
    if not all(source.state.finished for source in sources):
        return False
    if None not in shards and ({part.of for part in parts} != {len(parts)}):
        return False
    state = SweepState()
    for event in events:
        state.apply(event)
    stands = (state.basis(unit, made.get("rescored", {})) == made["basis"] for unit, made in state.choices.items())
    return all(stands) and not any(item.is_left for item in state.items.values())


# ------------------------------------------------------------------------------------------------------------- folders


def _copy_folders(sources: Sequence[_Source], kept: Mapping[str, int], made: SweepPaths) -> int:
    """Copy the attempts of every item that was started; how many of them have no folder."""
    missing = 0
    for uid, number in kept.items():
        source = sources[number]
        item = source.state.items[uid]
        folder = source.paths.trials / uid
        if folder.is_dir():
            _copy_folder(folder, made.trials / uid)
        elif item.attempt and not item.failed_with:
            missing += 1
    return missing


def _copy_folder(source: Path, target: Path) -> None:
    """A folder with all it holds; files are linked where the device allows, for nothing writes into them any more."""
    target.mkdir(parents=True)
    for path in sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir()
            continue
        try:
            os.link(path, place, follow_symlinks=False)
        except OSError:
            shutil.copy2(path, place, follow_symlinks=False)
