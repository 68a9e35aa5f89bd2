"""Keeping a sweep in order: its projections rebuilt from the ledger, its folder examined and mended.

The ledger and what workers wrote into ``trials/`` are all that is read: no space file, no cache, no training.
"""

from __future__ import annotations

import filecmp
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from chembench import damage
from chembench.damage import Finding
from chembench.data.audit import read_audit
from chembench.errors import ChembenchError, ConfigError
from chembench.header import places_of, require_readable, space_of
from chembench.holdings import Thing, cache_parts, parts_in, size_of
from chembench.paths import SweepPaths, builder_of, write_json, written_whole
from chembench.sweep.ledger import read_state
from chembench.sweep.locking import at_rest, holder_of, is_at_rest
from chembench.sweep.state import SweepState
from chembench.tracking.differences import differences
from chembench.tracking.mlflow_sync import sync, tracking_uri_of
from chembench.tracking.optuna_journal import journal_problem, write_journal
from chembench.tracking.places import network_file_system, sqlite_file
from chembench.tracking.uploader import SyncReport

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What `sync_sweep` did."""

    mlflow: SyncReport
    problems: tuple[str, ...]
    """What could not be rebuilt, one sentence each; empty when everything is as the ledger says."""


def sync_sweep(paths: SweepPaths, tracking_uri: str | None = None, say: Say = lambda line: None) -> Rebuilt:
    """Rebuild the journal, the boards, the report and MLflow's runs of a sweep from its ledger and trial folders.

    May be called while a driver is at work, who then keeps the journal.

    Args:
        paths: the sweep's folder.
        tracking_uri: any URI MLflow knows; none for where the sweep was told to be tracked.
        say: is told each step.

    Raises:
        ConfigError: if there is no sweep in the folder, or it has not begun.
        DataError: if its ledger is damaged.
    """
    state = _begun(paths)
    problems: list[str] = []
    uri = tracking_uri or tracking_uri_of(state, paths)

    def made(name: str, rebuild: Callable[[SweepPaths, SweepState], str]) -> None:
        try:
            say(f"{name}: {rebuild(paths, state)}")
        except (ChembenchError, OSError) as error:
            problems.append(f"{name}: {error}")

    made("Optuna's journal", _rebuild_journal)
    made("boards", _rebuild_boards)
    say(f"MLflow: sending to {uri}")
    report = sync(paths.root, uri, final=is_at_rest(paths))
    if state.finished:  # after its runs, which it links to; and then it is an artifact
        made("report", _rebuild_report)
        if not report.unsent:
            again = sync(paths.root, uri, final=is_at_rest(paths))
            report = replace(again, sent=report.sent + again.sent)
    if report.unsent:
        problems.append(f"MLflow: {report.message}")
    else:
        say(f"MLflow: {report.sent} runs were created or changed, everything is sent")
    return Rebuilt(report, tuple(problems))


def _begun(paths: SweepPaths) -> SweepState:
    state = read_state(paths)
    if not state.header:
        raise ConfigError(
            f"sweep '{paths.root.name}' has not begun, its ledger holds nothing; "
            "give its `chembench sweep` command again"
        )
    require_readable(state)
    return state


def _rebuild_journal(paths: SweepPaths, state: SweepState) -> str:
    if not is_at_rest(paths):
        return "left to the driver, who is at work"
    space = space_of(state)
    with at_rest(paths):
        return f"{write_journal(paths, space, state)} trials"


def _rebuild_boards(paths: SweepPaths, state: SweepState) -> str:
    from chembench.outputs import write_boards

    _restore_settings(paths, state)
    write_boards(paths)
    return f"in {paths.leaderboards} and {paths.reports}"


def _rebuild_report(paths: SweepPaths, state: SweepState) -> str:
    from chembench.report.page.write import report_sweep

    return f"in {report_sweep(state, paths)[0]}"


def _restore_settings(paths: SweepPaths, state: SweepState) -> None:
    """``space.toml`` as the ledger holds it, and of ``environment.json`` what it holds, where they are gone."""
    import tomli_w

    if not paths.space.is_file():
        with written_whole(paths.space) as part:
            part.write_text(tomli_w.dumps(state.header["space"]))
    if not paths.environment.is_file():
        known = {name: state.header[name] for name in ("versions", "command") if name in state.header}
        write_json(paths.environment, {**known, "note": "rebuilt from the ledger, which holds no more of it"})


# ---------------------------------------------------------------------------------------------------- examination


def examine_sweep(paths: SweepPaths, tracking_uri: str | None = None) -> list[Finding]:
    """What in a sweep's folder and in its projections is not as the ledger says; nothing is changed.

    While a driver is at work only what it does not touch is looked at.

    Args:
        paths: the sweep's folder.
        tracking_uri: of MLflow; none for where the sweep was told to be tracked.

    Raises:
        ConfigError: if there is no sweep in the folder.
    """
    if not paths.ledger.is_file():
        read_state(paths)
    found = list(damage.ledger_findings(paths))
    if any(finding.state == "fail" for finding in found):
        return found  # without a state nothing else can be judged
    state = read_state(paths)
    if not state.header:
        how = "give its `chembench sweep` command again"
        return [*found, Finding("ledger", "warn", str(paths.ledger), "the sweep has not begun", how)]
    require_readable(state)
    uri = tracking_uri or tracking_uri_of(state, paths)
    steady = [*damage.result_findings(paths, state), *damage.curve_findings(paths, state), *_place_findings(uri)]
    if not is_at_rest(paths):
        held = f"process {holder_of(paths)} drives the sweep"
        return [Finding("lock", "ok", str(paths.lock), held, "nothing is mended meanwhile"), *steady]
    found += [*damage.running_findings(paths, state), *steady, *damage.unknown_findings(paths, state)]
    found += [*_leftover_findings(paths, state), *_journal_findings(paths, state), *_board_findings(paths, state)]
    return [*found, *_mlflow_findings(paths, state, uri)]


@dataclass(frozen=True, slots=True)
class Mended:
    """What was done about a finding."""

    finding: Finding
    done: str


def mend(paths: SweepPaths, findings: Sequence[Finding]) -> list[Mended]:
    """Mend what can be mended of ``findings``, by what the ledger says now; what mends several of them is done once.

    Raises:
        ConfigError: if a driver is at work.
    """
    told: dict[Callable[[], str], str] = {}
    with at_rest(paths):
        for finding in findings:
            if finding.mend is not None and finding.mend not in told:
                told[finding.mend] = finding.mend()
    return [Mended(finding, told[finding.mend]) for finding in findings if finding.mend is not None]


def _place_findings(uri: str) -> Iterator[Finding]:
    database = sqlite_file(uri)
    kind = network_file_system(database.parent) if database else None
    if kind:
        text = f"MLflow's SQLite database lies on a network file system ({kind}), whose locks cannot be relied on"
        how = "give an MLflow server, or a database on a local disk: --tracking-uri"
        yield Finding("database", "warn", str(database), text, how)


def _leftover_findings(paths: SweepPaths, state: SweepState) -> Iterator[Finding]:
    """What killed processes left unfinished in the sweep, beside it, and in its cache."""
    if things := _leftovers(paths, state):
        text = (
            f"{len(things)} files and folders that killed processes left unfinished, {sum(t.bytes for t in things)} B"
        )
        how = "deleted; their processes are gone"
        yield Finding("leftovers", "warn", str(things[0].path), text, how, partial(_delete_leftovers, paths))


def _leftovers(paths: SweepPaths, state: SweepState) -> list[Thing]:
    from chembench.register import Use
    from chembench.retention import judged

    cache = cache_parts(places_of(state).cache) if "places" in state.header else ()
    beside = (path for path in paths.root.parent.iterdir() if builder_of(path))
    own = (Thing("part", part, size_of(part)) for part in (*parts_in(paths.root), *beside))
    return [thing for thing in (*own, *cache) if judged(thing, Use(paths)).goes]


def _delete_leftovers(paths: SweepPaths) -> str:
    from chembench.retention import delete

    things = _leftovers(paths, read_state(paths))
    for thing in things:
        delete(thing.path)
    return f"{len(things)} files and folders deleted"


def _journal_findings(paths: SweepPaths, state: SweepState) -> Iterator[Finding]:
    file, space = str(paths.journal), space_of(state)
    if problem := journal_problem(paths, space, state):
        text = f"Optuna's journal is not as the ledger says: {problem}"
        anew = partial(_journal_anew, paths)
        yield Finding("journal", "warn", file, text, "written anew from the ledger", anew)


def _journal_anew(paths: SweepPaths) -> str:
    state = read_state(paths)
    return f"written anew with {write_journal(paths, space_of(state), state)} trials"


def _board_findings(paths: SweepPaths, state: SweepState) -> Iterator[Finding]:
    """Boards are written when a sweep has ended; before that those that are there are of an earlier time."""
    if not state.finished:
        return
    from chembench.report import render

    with tempfile.TemporaryDirectory() as place:
        try:
            wanted = render.write_boards(render.boards_from_state(state, read_audit(paths)), Path(place))
        except ChembenchError as error:
            yield Finding("boards", "fail", str(paths.leaderboards), f"they cannot be made: {error}", "not mended")
            return
        folders = (paths.leaderboards, paths.reports)
        wrong = [folder / file.name for folder in folders for file in wanted if not _is_same(file, folder / file.name)]
    if wrong:
        text = f"{len(wrong)} of {2 * len(wanted)} files of boards are missing or not as the ledger says"
        anew = partial(_boards_anew, paths)
        yield Finding("boards", "warn", str(wrong[0]), text, "written anew from the ledger", anew)


def _boards_anew(paths: SweepPaths) -> str:
    return f"written anew {_rebuild_boards(paths, read_state(paths))}"


def _is_same(one: Path, other: Path) -> bool:
    return other.is_file() and filecmp.cmp(one, other, shallow=False)


def _mlflow_findings(paths: SweepPaths, state: SweepState, uri: str) -> Iterator[Finding]:
    send = partial(_sent_anew, paths, uri)
    for difference in differences(paths, state, uri):
        how = send if difference.is_mendable else None
        yield Finding("mlflow", "warn", uri, difference.found, difference.way_out, how)


def _sent_anew(paths: SweepPaths, uri: str) -> str:
    report = sync(paths.root, uri, final=True)
    return report.message or f"{report.sent} runs were created or changed, everything is sent"
