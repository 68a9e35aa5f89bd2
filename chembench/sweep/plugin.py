"""The interface of a sweep for whoever runs it: ask for work, carry it out, tell the outcome.

::

    while not engine.done:
        work = engine.ask()                 # the next item that is ready, or none while others run
        engine.tell(run_item(work))         # anywhere, in any order, with any number in flight

Ray Tune, the serial runner and a foreign loop use exactly this. What is asked for depends on results, never on the
order, the time or the number of calls.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from chembench.errors import Cause, ConfigError, UnknownNameError
from chembench.paths import CachePaths, SweepPaths, as_written
from chembench.specs import Kind, Outcome, TrialSpec, Work
from chembench.sweep.contents import baseline_events, units_of
from chembench.sweep.inputs import Prepared
from chembench.sweep.ledger import Ledger
from chembench.sweep.packing import Packing, ran_short
from chembench.sweep.progress import place_of
from chembench.sweep.queue import Queue
from chembench.sweep.resolve import Resolver
from chembench.sweep.results import AGAIN, read_outcome, result_event, waits_again
from chembench.sweep.retrying import require_failed, with_what_failed_together
from chembench.sweep.shard import Shard
from chembench.sweep.space import ResourceShape, Space
from chembench.sweep.state import ItemRecord, SweepState, orphan_message
from chembench.sweep.stopping import retry_command
from chembench.sweep.units import Event, Unit, first_of


class Engine:
    """One sweep: what is left to do, handed out item by item; every change goes through the ledger."""

    def __init__(
        self,
        space: Space,
        prepared: Prepared,
        cache: CachePaths,
        ledger: Ledger,
        shard: Shard | None = None,
        has_checkpoint: Callable[[str], bool] = lambda digest: True,
    ) -> None:
        """Take up the sweep where its ledger stands; results found in trial folders are folded in.

        Args:
            space: that of the sweep, or the same with more trials and replicates.
            prepared: its inputs.
            cache: where checkpoints lie.
            ledger: the sweep's, open for writing.
            shard: the part of the sweep that the ledger's header names; none for a whole one.
            has_checkpoint: whether the pre-trained model of a digest lies where trials look for it; one that was
                deleted since it was made is made again when a trial needs it.

        Raises:
            ConfigError: if the ledger holds another shard, or a cell that may be drawn cannot be built.
        """
        self.space = space
        self._ledger = ledger
        self._paths: SweepPaths = ledger.paths
        self._has_checkpoint = has_checkpoint
        require_same_shard(self.state, shard)
        self._resolver = Resolver(space, prepared, cache)
        self.units = units_of(space, self._resolver, shard)
        self._by_name = {unit.name: unit for unit in self.units}
        self._packing = Packing(space.resources, self.state)
        self._watching: dict[str, dict[str, Unit]] = {}
        self._queue = Queue({unit.name: unit.order for unit in self.units})
        for item in self.state.items.values():
            self._queue.put(item)
        self._failed_in_a_row: list[str] = []
        self._given_up: str | None = None
        self._fold_in_lost()
        self._fail_orphans()
        for event in baseline_events(self._resolver, self.state, shard):
            self._write(event)
        self._advance(self.units)
        self._finish()

    @property
    def state(self) -> SweepState:
        return self._ledger.state

    @property
    def done(self) -> bool:
        """Whether nothing waits, nothing runs and no unit can go on."""
        return self._queue.is_empty

    @property
    def given_up(self) -> str | None:
        """Why no more work is handed out although some is left: too many items failed one after the other."""
        return None if self.done else self._given_up

    def shape(self, kind: Kind) -> ResourceShape:
        """What an item of a kind needs from the machine, if it has a GPU to itself where GPUs may be shared."""
        return self._packing.shape_of_kind(kind)

    def shape_of(self, work: Work) -> ResourceShape:
        """What an item that was handed out takes of the machine."""
        return self._packing.shape_of(work)

    def ask(
        self, fits: Callable[[ResourceShape], bool] = lambda shape: True, only: Collection[str] | None = None
    ) -> Work | None:
        """The next item that is ready and fits, marked as started; none if there is none now.

        Args:
            fits: whether the caller has room for an item of this shape at the moment.
            only: uids to choose from; none for all.
        """
        if self._given_up is not None:
            return None
        has_room: dict[ResourceShape, bool] = {}
        for item in self._queue:
            if not self._is_ready(item) or (only is not None and item.uid not in only):
                continue
            shape = self._packing.shape(item)
            if shape not in has_room:
                has_room[shape] = fits(shape)
            if has_room[shape]:
                lost = self._lost_pretraining(item)
                if lost is not None and lost.status != "finished":
                    continue  # it is being made again for another item
                if lost is None or fits(self._packing.shape(lost)):
                    return self._start(lost or item)
        return None

    def tell(self, outcome: Outcome) -> bool:
        """Fold in what came out of an attempt.

        Returns:
            Whether it counted; a stale attempt and a second result of the same attempt do not.

        Raises:
            ConfigError: if a finished trial brings no objective.
        """
        item = self.state.items.get(outcome.uid)
        if item is None or item.status != "running" or item.attempt != outcome.attempt:
            return False
        if isinstance(item.spec, TrialSpec) and outcome.status == "finished" and "objective" not in outcome.metrics:
            raise ConfigError(
                f"a finished trial needs metrics['objective'], lower is better, got {sorted(outcome.metrics)} "
                f"for {item.uid}; tell it as failed if it has none"
            )
        self._record(item, outcome)
        if self.state.items[outcome.uid].status == "failed":
            self._fail_orphans()
        self._count_failures(item, outcome)
        self._advance(self._units_watching(item))
        self._finish()
        return True

    def retry(self, cause: Cause | None = None, uids: Collection[str] | None = None) -> list[str]:
        """Let failed items wait again, their losses forgotten; what was chosen without them is chosen anew.

        A pre-training takes along what failed because it did, trials and larger scales; each of those takes it along.

        Args:
            cause: items that failed of it; none for every cause.
            uids: items to choose from; none for all.

        Returns:
            Uids of the items that wait again.

        Raises:
            ConfigError: if one of ``uids`` is no failed item of this sweep, or failed of another cause.
        """
        require_failed(self.state, uids or (), cause)
        failed = [item for item in self.state.items.values() if item.status == "failed"]
        chosen = {
            item.uid
            for item in failed
            if (uids is None or item.uid in uids) and cause in (None, item.outcome and item.outcome.cause)
        }
        again = with_what_failed_together(failed, chosen)
        # a pre-training last: were the driver killed in between, its trials would fail again and nothing be lost
        for item in sorted(again, key=lambda item: (item.kind == "pretrain", -getattr(item.spec, "molecules", 0))):
            self._write({"event": "retried", "uid": item.uid})
        self._failed_in_a_row, self._given_up = [], None
        self._advance({unit.name: unit for item in again for unit in self._units_watching(item)}.values())
        return [item.uid for item in again]

    def extend(self, units: Collection[str], head_seeds: int) -> list[str]:
        """Confirm the recipes of some units on more head seeds; an event of the ledger says so, and the boards tell.

        Args:
            units: names of units whose recipe is chosen.
            head_seeds: how many each is to have in all, for every checkpoint and split of the design.

        Returns:
            Those of ``units`` that get more seeds than they had.

        Raises:
            ConfigError: if one of ``units`` is none of this sweep's, or has chosen no recipe.
        """
        for name in units:
            if name not in self._by_name:
                raise UnknownNameError("unit", name, self._by_name)
            if not self.state.choices.get(name, {}).get("recipe"):
                raise ConfigError(
                    f"only a chosen recipe can be confirmed on more seeds, {name} has none yet; go on with the sweep"
                )
        had = {name: max(self.space.confirm.head_seeds, self.state.extensions.get(name, 0)) for name in units}
        raised = [name for name in units if head_seeds > had[name]]
        for name in raised:
            self._write({"event": "extended", "unit": name, "head_seeds": head_seeds})
        self._advance([self._by_name[name] for name in raised])
        self._finish()
        return raised

    # ----------------------------------------------------------------------------------------------- handing out

    def _is_ready(self, item: ItemRecord) -> bool:
        """Whether what it starts from is there, and the recipe that a confirm run is for stands."""
        needed = self._needed(item)
        if needed is not None and needed.status != "finished":
            return False
        unit = self._by_name.get(str(item.labels.get("unit")))
        return item.kind != "confirm" or unit is None or unit.is_settled

    def _lost_pretraining(self, item: ItemRecord) -> ItemRecord | None:
        """The pre-training that has to be made again before an item can begin, as its checkpoint is gone."""
        needed = self._needed(item)
        if needed is None or self._has_checkpoint(needed.uid):
            return None
        if item.kind == "pretrain" and self._has_checkpoint(item.uid):
            return None  # another sweep has made it meanwhile
        return self._lost_pretraining(needed) or needed

    def _needed(self, item: ItemRecord) -> ItemRecord | None:
        """The pre-training that an item starts from."""
        return None if item.spec.starts_from is None else self.state.items[item.spec.starts_from]

    def _start(self, item: ItemRecord) -> Work:
        attempt = item.attempt + 1
        folder = self._paths.run(item.uid, attempt).root.resolve()
        fraction = self._packing.memory_fraction(item)
        limit = {} if fraction is None else {"memory_fraction": fraction}
        self._write({"event": "started", "uid": item.uid, "attempt": attempt, **limit})
        return work_of(item, folder, self._resolver, self.state, self._by_name)

    # ------------------------------------------------------------------------------------------------- going on

    def _write(self, event: Event) -> None:
        """Write an event, and keep the queue in step with it."""
        self._ledger.append(event)
        if event["event"] == "chosen":
            for item in self.state.confirms.get(event["unit"], ()):
                self._queue.put(item)
        elif "uid" in event:
            self._queue.put(self.state.items[event["uid"]])

    def _advance(self, units: Iterable[Unit]) -> None:
        for unit in list(units):
            while events := unit.advance(self.state):
                for event in events:
                    if event["event"] == "item" and event["uid"] in self.state.items:
                        continue  # a pre-training that two trials of one batch need
                    self._write(event)
                    if event["event"] == "item":
                        self._fail_if_orphaned(self.state.items[event["uid"]])
            for uid in unit.watched:
                self._watching.setdefault(uid, {})[unit.name] = unit

    def _units_watching(self, item: ItemRecord) -> list[Unit]:
        return list(self._watching.get(item.uid, {}).values())

    def _fail_if_orphaned(self, item: ItemRecord) -> bool:
        """Fail a waiting item if what it starts from has failed, or is gone and cannot be made again."""
        needed = self._needed(item)
        if needed is None or item.status != "waiting":
            return False
        self._fail_if_out_of_reach(needed)
        if needed.status != "failed":
            return False
        self._fail(item, needed)
        return True

    def _fail_if_out_of_reach(self, pretrain: ItemRecord) -> None:
        """Fail a finished pre-training whose checkpoint is gone, if what it continues has failed when made again."""
        needed = self._needed(pretrain)
        if needed is None or pretrain.status != "finished" or self._has_checkpoint(pretrain.uid):
            return
        self._fail_if_out_of_reach(needed)
        if needed.status == "failed":
            self._fail(pretrain, needed)

    def _fail_orphans(self) -> None:
        """Fail every item whose pre-training has failed, also one that an earlier driver left behind."""
        orphans = [item for item in list(self.state.items.values()) if self._fail_if_orphaned(item)]
        for item in orphans:
            self._advance(self._units_watching(item))
        if orphans:
            self._fail_orphans()  # what stands on them, wherever it is in the ledger

    def _fail(self, item: ItemRecord, pretrain: ItemRecord) -> None:
        assert pretrain.outcome is not None
        outcome = Outcome(
            uid=item.uid,
            attempt=item.attempt + 1,
            kind=item.kind,
            status="failed",
            cause=pretrain.outcome.cause,
            message=orphan_message(pretrain.uid, item.kind) + pretrain.outcome.message,
        )
        self._write({"event": "started", "uid": item.uid, "attempt": outcome.attempt})
        self._write(result_event(outcome, again=False))

    def _record(self, item: ItemRecord, outcome: Outcome) -> None:
        """Write a result; a preempted item waits again, one whose worker was lost `MAX_ATTEMPTS` times in all."""
        self._write(result_event(outcome, again=waits_again(item, outcome)))

    def _count_failures(self, item: ItemRecord, outcome: Outcome) -> None:
        """Give up when too many items fail one after the other; trials without their pre-training count with it."""
        if outcome.status != "failed":
            self._failed_in_a_row = []
        elif outcome.cause not in AGAIN and not ran_short(item.memory_fraction, outcome):
            self._failed_in_a_row.append(item.uid)
        limit = self.space.search.give_up_after
        if self._given_up is None and len(self._failed_in_a_row) >= limit:
            first = self.state.items[self._failed_in_a_row[0]]
            assert first.outcome is not None
            place = place_of(self._paths.run(first.uid, first.attempt))
            self._given_up = (
                f"{limit} items failed one after the other, as many as search.give_up_after allows, first the "
                f"{first.kind} {first.uid} ({first.outcome.cause}): {first.outcome.message}{place and f' at {place}'}; "
                f"mend the cause, then {retry_command(as_written(self._paths.root))}"
            )

    def _finish(self) -> None:
        if self.done and not self.state.finished:
            self._write({"event": "finished"})

    def _fold_in_lost(self) -> None:
        """Items that ran when an earlier driver ended: take their result if it is whole, else hand them out again."""
        for item in list(self.state.items.values()):
            if item.status != "running":
                continue
            outcome = read_outcome(self._paths.run(item.uid, item.attempt).result)
            if outcome is not None and outcome.uid == item.uid and outcome.attempt == item.attempt:
                self._record(item, outcome)
            else:
                self._write({"event": "lost", "uid": item.uid, "attempt": item.attempt})


def work_of(item: ItemRecord, folder: Path, resolver: Resolver, state: SweepState, units: Mapping[str, Unit]) -> Work:
    """The last attempt at an item that was started, as it is handed out.

    Args:
        item: an item of ``state``.
        folder: where the attempt writes.
        resolver: of the sweep's space and inputs.
        state: the sweep's.
        units: the sweep's, by name.
    """
    rungs = None
    if item.kind == "search":
        rungs = units[item.labels["study"]].rungs(state, int(item.labels["ordinal"]))
    return Work(
        uid=item.uid,
        attempt=item.attempt,
        spec=item.spec,
        inputs=resolver.inputs(item.spec),
        folder=str(folder),
        cell=item.cell,
        sweep=state.name,
        labels={key: value for key, value in item.labels.items() if value is not None},
        rungs=rungs,
        save_model=first_of("confirm", item),
        device="cuda" if resolver.space.resources.shape(item.kind).gpus else "cpu",
        memory_fraction=item.memory_fraction,
    )


def require_same_shard(state: SweepState, shard: Shard | None) -> None:
    """Refuse to go on with another part of a sweep than its ledger holds.

    Raises:
        ConfigError: naming both.
    """
    there, here = state.header.get("shard"), None if shard is None else str(shard)
    if there != here:
        raise ConfigError(
            f"sweep '{state.name}' is {f'shard {there}' if there else 'no shard'}, it cannot go on as "
            f"{f'shard {here}' if here else 'a whole sweep'}; give --shard as it began, or chembench merge all shards"
        )
