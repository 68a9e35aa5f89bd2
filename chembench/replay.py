"""Recorded results as a backend: a sweep in which every item is looked up, in seconds and on any machine."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from chembench.errors import ConfigError
from chembench.handles import Sweep
from chembench.opening import open_sweep
from chembench.paths import SweepPaths, default_cache, default_data_dir, safe_name
from chembench.recorded.source import Recording, read_recording
from chembench.registry import RUNNERS
from chembench.sweep.space import Space


def replay(  # noqa: PLR0913 - the options of the command, each by keyword
    recorded: str | Path,
    *,
    space: str | None = None,
    overrides: Sequence[str] = (),
    name: str | None = None,
    out: str | Path = "sweeps",
    runner: str = "serial",
    ray_address: str = "local",
    max_concurrent: int | None = None,
    cache_dir: str | Path | None = None,
    tracking_uri: str | None = None,
    show_progress: bool = True,
    command: Sequence[str] | None = None,
) -> Sweep:
    """Run the whole machinery - plan, ledger, runners, boards - on recorded results.

    Args:
        recorded: a table of scores (``.csv``), or a sweep: its folder, its name under ``out``, or the
            ``recorded.jsonl`` of an earlier replay of it.
        space: of a table: the space that it is restricted to; a sweep brings its own.
        overrides: ``key=value`` as for a sweep; what was never recorded fails.
        name: of the replay; that of the space, or of the sweep, with ``-replay`` when not given.
        out: folder that holds sweeps.
        runner: ``serial`` or ``ray``; both give the same results.
        ray_address: ``local``, or the address of a running cluster.
        max_concurrent: items in flight at most.
        cache_dir: where the replay is noted; nothing is prepared there.
        tracking_uri: of MLflow; SQLite beside the sweep by default.
        show_progress: draw progress on the terminal.
        command: how it was called, for the record.

    Returns:
        The replay, a sweep like any other, whose boards say what it is.

    Raises:
        ConfigError: if the folder holds another sweep, or the space does not compare what was recorded.
        DataError: if the file is malformed; the line is named.
        InterruptedSweepError: after a signal; the same command, or `resume`, goes on.
    """
    from chembench.driver import Drive, drive
    from chembench.header import places_from

    RUNNERS.require(runner)
    recording = _recording(recorded, out)
    asked = _space(recording, space, overrides)
    own = asked.name if recording.form == "csv" else recording.name
    paths = SweepPaths((Path(out) / safe_name("sweep", name or f"{own}-replay")).resolve())
    settings = Drive(
        space=asked,
        paths=paths,
        places=places_from(
            cache_dir=str(Path(cache_dir or default_cache()).resolve()),
            data_dir=str(default_data_dir().resolve()),
            runner=runner,
            ray_address=ray_address,
            max_concurrent=max_concurrent,
            tracking_uri=tracking_uri,
        ),
        show_progress=show_progress,
        command=tuple(command or (Path(sys.argv[0]).name, *sys.argv[1:])),
        recording=recording,
    )
    drive(settings)
    return Sweep(paths.root)


def _recording(recorded: str | Path, out: str | Path) -> Recording:
    from chembench.recorded.archive import read_archive
    from chembench.sweep.recording import record

    path = Path(recorded)
    if not path.is_file():
        if path.suffix.lower() in (".csv", ".jsonl"):
            raise ConfigError(f"no recorded file {path}; correct the path, or give a sweep")
        sweep = open_sweep(recorded, out)
        return record(sweep.paths, sweep.begun())
    found = read_recording(path)
    if found.form == "csv":
        return found
    return Recording(read_archive(found).head.sweep, found.form, found.content)


def _space(recording: Recording, space: str | None, overrides: Sequence[str]) -> Space:
    """The space of the replay; what the file holds is read and checked here."""
    from chembench.recorded.archive import read_archive
    from chembench.recorded.table import read_table
    from chembench.sweep.reading import read_space
    from chembench.sweep.replaying import space_of_archive, space_of_table

    if recording.form == "csv":
        if space is None:
            raise ConfigError(f"a table does not say what it compares, {recording.name}; give --space, e.g. full_grid")
        return space_of_table(read_space(space, overrides), read_table(recording))
    if space is not None:
        raise ConfigError(
            f"a recorded sweep brings its own space, --space {space} was given for {recording.name}; leave it out, "
            "and change single values by --set"
        )
    return space_of_archive(read_archive(recording), overrides)
