"""What a sweep stands on, carried out or a replay: prepared data, or a recorded file in its own folder."""

from __future__ import annotations

from pathlib import Path

from chembench.chem.pool import Pool, Processes
from chembench.errors import ConfigError, DataError
from chembench.header import Places
from chembench.paths import SweepPaths, written_whole
from chembench.recorded.source import SHORT, Recording, read_recording
from chembench.sweep.inputs import Prepared, Say, prepare
from chembench.sweep.replaying import replayed_inputs
from chembench.sweep.space import Space
from chembench.sweep.state import SweepState


def recording_of(paths: SweepPaths, state: SweepState) -> Recording | None:
    """What a replay gives back, from its own folder; none for a sweep that is carried out.

    Raises:
        DataError: if the file is gone, or another than the replay began with.
    """
    told = state.header.get("recorded")
    if told is None:
        return None
    file = paths.recorded(told["form"])
    found = read_recording(file, told["name"])
    if found.sha256 != told["sha256"]:
        raise DataError(
            f"{file} must be the file that the replay began with (SHA-256 {told['sha256']}), it has {found.sha256}; "
            "put the first one back, or replay this one under another --name"
        )
    return found


def require_same_recording(recording: Recording | None, state: SweepState) -> None:
    """Refuse to go on with a replay of something else, to measure where a replay is, or the other way round.

    Raises:
        ConfigError: naming both.
    """
    told = state.header.get("recorded")
    there = "is carried out" if told is None else f"is a replay of {told['name']} (SHA-256 {told['sha256'][:SHORT]})"
    here = "this one is carried out" if recording is None else f"this one is {recording.words}"
    if (told and told["sha256"]) != (recording and recording.sha256):
        raise ConfigError(f"sweep '{state.name}' {there}, {here}; give it a --name of its own")


def inputs_of(
    space: Space,
    places: Places,
    paths: SweepPaths,
    recording: Recording | None = None,
    say: Say = lambda line: None,
    pool: Pool | None = None,
) -> Prepared:
    """What the items of a sweep read: prepared data, or the results that a replay gives back.

    Args:
        space: of the sweep.
        places: of the sweep.
        paths: of the sweep.
        recording: what a replay gives back.
        say: told one line per step.
        pool: who reads and labels molecules; none: processes of this machine.

    Raises:
        DataError: if a file, a task or a recorded line cannot be used.
    """
    if recording is None:
        return prepare(space, places.cache, Path(places.data_dir), pool or Processes(places.workers), say)
    file = paths.recorded(recording.form).resolve()
    prepared = replayed_inputs(space, recording, file)
    if not file.exists():
        with written_whole(file) as part:
            part.write_bytes(recording.content)
    return prepared


def needs_none(digest: str) -> bool:
    """Whether the pre-trained model of ``digest`` is there as far as a replay needs it, which reads none."""
    return True
