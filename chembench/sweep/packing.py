"""How many items share a GPU: as many as hold what items of the same make were measured to need.

The first item of a make runs with the space's own share; those that start after it has ended get the smallest one of
`SHARES` that holds its peak. An item may allocate its share and no more, so that a larger one harms itself alone: it is
handed out once more then, with a whole GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from chembench.specs import BaselineSpec, Kind, Outcome, TrialSpec, Work
from chembench.sweep.space import ResourceShape, ResourcesTable
from chembench.sweep.state import ItemRecord, SweepState

SHARES = (0.125, 0.25, 0.5, 1.0)
MARGIN = 1.25
"""Peaks differ from recipe to recipe and from batch to batch."""
CONTEXT_MIB = 512.0
"""What a process holds on a GPU before the first tensor; no peak shows it. An estimate."""

Make = tuple[Any, ...]
"""What items have in common whose memory is alike."""


def make_of(spec: Any) -> Make | None:
    """Kind, architecture, width x depth, batch size, method and precision; none for what needs no GPU."""
    if isinstance(spec, BaselineSpec):
        return None
    model, recipe = spec.model, spec.finetune if isinstance(spec, TrialSpec) else spec
    depth = model.layers + model.decoder_layers
    method = getattr(recipe, "method", "")
    return (spec.kind, model.architecture, model.hidden * depth, recipe.batch_size, method, spec.precision)


def peaks_of(state: SweepState) -> dict[Make, float]:
    """The largest share of a GPU that an ended item of each make was measured to need."""
    found: dict[Make, float] = {}
    for item in state.items.values():
        make, share = make_of(item.spec), _measured_share(item.outcome)
        if make is not None and share is not None:
            found[make] = max(share, found.get(make, 0.0))
    return found


def gpu_share(peaks: Mapping[Make, float], item: ItemRecord, shape: ResourceShape) -> float:
    """GPUs that an item takes.

    Args:
        peaks: what `peaks_of` gives.
        item: the item that is to be handed out.
        shape: what the space gives its kind.

    Returns:
        One of `SHARES`, or the space's own number: where nothing was measured yet, and where it is none or several.
    """
    if not 0.0 < shape.gpus <= 1.0:
        return shape.gpus
    if item.outcome is not None and item.outcome.cause == "oom":
        return 1.0
    peak = peaks.get(make_of(item.spec) or ())
    return shape.gpus if peak is None else next((share for share in SHARES if peak <= share), 1.0)


def ran_short(memory_fraction: float | None, outcome: Outcome) -> bool:
    """Whether an item lacked memory within a share of a GPU, which says nothing of the item on a whole one."""
    return outcome.cause == "oom" and memory_fraction is not None and memory_fraction < 1.0


class Packing:
    """What each item of a sweep takes of the machine, as the ledger grows."""

    def __init__(self, resources: ResourcesTable, state: SweepState) -> None:
        self._pack, self._state = resources.pack, state
        self._shapes = {kind: resources.shape(kind) for kind in get_args(Kind)}
        self._peaks: dict[Make, float] = {}
        self._events = -1

    def shape_of_kind(self, kind: Kind) -> ResourceShape:
        """What the space gives items of a kind."""
        return self._shapes[kind]

    def shape(self, item: ItemRecord) -> ResourceShape:
        """What an item takes if it is handed out now."""
        return _with(self._shapes[item.kind], self.memory_fraction(item))

    def memory_fraction(self, item: ItemRecord) -> float | None:
        """Share of its GPU that an item may allocate if it is handed out now; none where GPUs are not shared."""
        shape = self._shapes[item.kind]
        if not self._pack or not 0.0 < shape.gpus <= 1.0 or make_of(item.spec) is None:
            return None
        if self._events != self._state.events:
            self._peaks, self._events = peaks_of(self._state), self._state.events
        return gpu_share(self._peaks, item, shape)

    def shape_of(self, work: Work) -> ResourceShape:
        """What an item takes that was handed out."""
        return _with(self._shapes[work.kind], work.memory_fraction)


def _with(shape: ResourceShape, gpus: float | None) -> ResourceShape:
    return shape if gpus is None or gpus == shape.gpus else shape.model_copy(update={"gpus": gpus})


def _measured_share(outcome: Outcome | None) -> float | None:
    if outcome is None or outcome.cause == "oom" or outcome.measured.get("device") != "cuda":
        return None
    peak, device = outcome.measured.get("peak_memory_mib"), outcome.measured.get("device_memory_mib")
    return (MARGIN * peak + CONTEXT_MIB) / device if peak and device else None
