"""What MLflow should hold against what is noted of it: which runs, boards and models are still to be sent."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from chembench.paths import SweepPaths
from chembench.sweep.state import SweepState
from chembench.sweep.winners import winners
from chembench.tracking import spool
from chembench.tracking.sent import Seen, SentFile


@dataclass(slots=True)
class Wanted:
    """One sweep as it should stand in one store. Knows no MLflow."""

    paths: SweepPaths
    state: SweepState
    sent: SentFile
    final: bool
    """No driver is at work."""
    items: list[spool.RunRecord] = field(init=False)
    parents: list[spool.RunRecord] = field(init=False)
    """The sweep's own run in each experiment."""

    def __post_init__(self) -> None:
        self.items = list(spool.records(self.state, self.paths, final=self.final))
        groups = spool.groups_of(self.state)
        self.parents = [spool.parent_record(self.state, self.paths, group, final=self.final) for group in groups]

    def experiment(self, group: spool.Group) -> str:
        """Name of the experiment of a group."""
        return f"{self.state.name}/{group}"

    def parent(self, group: spool.Group) -> str:
        """Id of the sweep's own run in the experiment of a group; empty while none is known."""
        seen = self.sent.find("", spool.parent_uid(self.state.name, group))
        return seen.run_id if seen else ""

    def find(self, record: spool.RunRecord) -> Seen | None:
        """How far the run of ``record`` was sent."""
        return self.sent.find(self.above(record), record.uid)

    def above(self, record: spool.RunRecord) -> str:
        """Id of the run that ``record`` is nested under; empty for the sweep's own."""
        return "" if record.is_sweep else self.parent(record.group)

    def links(self, record: spool.RunRecord) -> dict[str, str]:
        """The tags that name other runs, as far as those are known by now."""
        if record.is_sweep:
            return {}
        links = {"mlflow.parentRunId": self.parent(record.group)}
        if record.pretrained:
            seen = self.sent.find(self.parent("pretrain"), record.pretrained)
            links |= {"chembench.pretrain_run_id": seen.run_id} if seen else {}
        return links

    def is_sent(self, record: spool.RunRecord, seen: Seen | None) -> bool:
        """Whether the run ``seen`` says what ``record`` says; of a running one, epochs may be missing."""
        return seen is not None and (seen.status, seen.digest) == (record.status, record.digest(self.links(record)))

    def models(self) -> Iterator[tuple[str, spool.RunRecord, Path]]:
        """Task, run and folder of each fitted model that is served: the winners', once the sweep has ended."""
        best = {uid: task for task, uid in winners(self.state).items()} if self.state.finished else {}
        for record in self.items:
            folder = self.paths.run(record.uid, record.attempt).model
            if record.uid in best and folder.is_dir():
                yield best[record.uid], record, folder

    def unsent(self, failed: Container[str] = ()) -> int:
        """Runs and models that are not noted as sent as they are, those of the uids in ``failed`` in any case."""
        runs = [*self.items, *self.parents]
        left = sum(record.uid in failed or not self.is_sent(record, self.find(record)) for record in runs)
        return left + sum(not (seen := self.find(record)) or not seen.model for _, record, _ in self.models())
