"""What a tortured sweep must have in common with an undisturbed one, and what it must not hold."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flow_sweeps import asks, boards, choices, openings, results

from chembench import retention
from chembench.api import Sweep, plan_gc
from chembench.paths import SweepPaths
from chembench.sweep.ledger import read_events
from chembench.sweep.results import read_outcome

AT_ONCE_SECONDS = 0.1
"""Between looking for a result and writing down that there was none."""


def violations(tortured: Sweep, undisturbed: Sweep, cache: Path) -> list[str]:
    """Every promise that was broken, in a sentence each; empty where all were kept."""
    waiting = sorted(f"{item.uid} {item.status}" for item in tortured.state().items.values() if not item.is_final)
    if waiting or not tortured.state().finished:
        return [f"the ledger is not finished; in no final state: {waiting}"]
    return [
        *differences(tortured, undisturbed),
        *ledger_faults(tortured.paths),
        *done_twice(tortured.paths),
        *mlflow_faults(tortured),
        *journal_faults(tortured),
        *leftovers(tortured, cache),
    ]


def differences(tortured: Sweep, undisturbed: Sweep) -> Iterator[str]:
    """Uids, asks, scores, predictions, choices and boards are equal to the last bit; what is measured is left out."""
    mine, theirs = results(tortured), results(undisturbed)
    if missing := sorted(theirs.keys() - mine.keys()):
        yield f"items are missing: {missing}"
    if surplus := sorted(mine.keys() - theirs.keys()):
        yield f"items are there that an undisturbed sweep has not: {surplus}"
    for uid in mine.keys() & theirs.keys():
        if unequal := [name for name in mine[uid] if mine[uid][name] != theirs[uid][name]]:
            pairs = {name: (mine[uid][name], theirs[uid][name]) for name in unequal if name != "predictions"}
            yield f"item {uid} differs in {unequal}: {pairs}"
    for what in (asks, choices, openings, boards):
        if what(tortured) != what(undisturbed):
            yield f"the {what.__name__} differ"


def ledger_faults(paths: SweepPaths) -> Iterator[str]:
    """An item is registered once, asked for once per point, and has one final result."""
    events = [event for _, event in read_events(paths.ledger)]
    for name, key in (
        ("item", ("uid",)),
        ("asked", ("study", "ordinal")),
        ("chosen", ("unit",)),
        ("opened", ("unit",)),
    ):
        yield from _twice(f"ledger event '{name}'", (tuple(e[k] for k in key) for e in events if e["event"] == name))
    final = (event["uid"] for event in events if event["event"] == "result" and not event["again"])
    yield from _twice("final result", final)
    attempts = ((event["uid"], event["attempt"]) for event in events if event["event"] == "started")
    yield from _twice("start of an attempt", attempts)


def done_twice(paths: SweepPaths) -> Iterator[str]:
    """No item is carried out again once the ledger, or the folder of an attempt given up as lost, has its result."""
    final: set[str] = set()
    for _, event in read_events(paths.ledger):
        if event["event"] == "started" and event["uid"] in final:
            yield f"item {event['uid']} had a final result, and attempt {event['attempt']} was started after that"
        if event["event"] == "result" and not event["again"]:
            final.add(event["uid"])
        attempt = _given_up(event)
        file = paths.run(event["uid"], attempt).result if attempt else None
        if file is not None and _is_done(file) and file.stat().st_mtime < event["at"] - AT_ONCE_SECONDS:
            yield f"attempt {attempt} of item {event['uid']} was given up as lost, its result was whole before that"


def _given_up(event: dict[str, Any]) -> int | None:
    """The attempt that this event gives up as lost."""
    if event["event"] == "lost":
        return int(event["attempt"])
    if event["event"] == "result" and event["outcome"]["cause"] == "worker-lost":
        return int(event["outcome"]["attempt"])
    return None


def _is_done(file: Path) -> bool:
    outcome = read_outcome(file)
    return outcome is not None and outcome.status != "failed"


def finished_again(paths: SweepPaths) -> int:
    """Items with two whole results: a worker that had lost its driver went on to the end of what it had begun."""
    found = Counter(file.parts[-3] for file in paths.trials.glob("*/*/result.json") if _is_done(file))
    return sum(count > 1 for count in found.values())


def mlflow_faults(tortured: Sweep) -> Iterator[str]:
    """One run per item and one per experiment for the sweep itself, all of them ended."""
    from mlflow import MlflowClient

    client = MlflowClient(tortured.tracking_uri)
    experiments = [e for e in client.search_experiments() if e.name.startswith(f"{tortured.name}/")]
    runs = client.search_runs([e.experiment_id for e in experiments], max_results=50_000)
    uids = Counter(run.data.tags["chembench.trial_uid"] for run in runs)
    yield from (f"{count} runs in MLflow are of item {uid}" for uid, count in uids.items() if count > 1)
    items = {uid for uid, item in tortured.state().items.items() if item.outcome is not None}
    if missing := sorted(items - uids.keys()):
        yield f"items have no run in MLflow: {missing}"
    if len(uids) != len(items) + len(experiments):
        yield f"MLflow has {len(uids)} runs, for {len(items)} items and {len(experiments)} experiments"
    if running := sorted(run.data.tags["chembench.trial_uid"] for run in runs if run.info.status == "RUNNING"):
        yield f"runs in MLflow are still running: {running}"


def journal_faults(tortured: Sweep) -> Iterator[str]:
    """One trial per point that was asked for, all of them ended."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(tortured.paths.journal)))
    trials = [trial for study in storage.get_all_studies() for trial in storage.get_all_trials(study._study_id)]
    points = [(trial.user_attrs["study"], trial.user_attrs["ordinal"]) for trial in trials]
    yield from _twice("trial in Optuna's journal", points)
    asked = {(study, ordinal) for study, points in tortured.state().asked.items() for ordinal in points}
    if set(points) != asked:
        yield f"Optuna's journal and the ledger differ in the points {sorted(set(points) ^ asked)}"
    if running := [point for point, trial in zip(points, trials, strict=True) if not trial.state.is_finished()]:
        yield f"trials in Optuna's journal are still running: {running}"


def leftovers(tortured: Sweep, cache: Path) -> Iterator[str]:
    """Parts of files and folders whose writers were killed; `gc` knows them and clears them away."""
    retention.collect(plan_gc(cache_dir=cache))
    parts = hidden(tortured.root, cache)
    if parts:
        yield f"{len(parts)} parts of dead writers are left by `chembench gc`, such as {parts[0]}"


def hidden(*folders: Path) -> list[Path]:
    """What does not carry a name of its own in ``folders``; what lies inside such a folder is not counted."""
    found = [path for folder in folders for path in folder.rglob(".*")]
    return [path for path in found if not any(parent in found for parent in path.parents)]


def _twice(what: str, keys) -> Iterator[str]:
    yield from (f"{what} is there {count} times for {key}" for key, count in Counter(keys).items() if count > 1)
