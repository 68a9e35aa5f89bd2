"""What a board is: frozen values that every renderer reads and none computes anew."""

from __future__ import annotations

import itertools
from typing import Literal

from chembench.data.audit import Facts
from chembench.report.spent import Spent
from chembench.specs import TaskKind
from chembench.statistics.aggregate import Aggregate
from chembench.statistics.comparison import Comparison
from chembench.statistics.estimates import OVERLAP, Difference, Estimate, Key, Value

PRIMARY: dict[TaskKind, str] = {"regression": "rmse", "classification": "roc_auc"}
SECONDARY: dict[TaskKind, tuple[str, ...]] = {
    "regression": ("rmse_normalised", "mae", "r2"),
    "classification": ("pr_auc", "mcc"),
}
FOREST = "forest_ecfp4"
VALID_SHARE = 0.1
"""Of all molecules, inside the training part of an outer fold (see docs/splits.md)."""
Better = Literal["higher", "lower"]
BETTER: dict[TaskKind, Better] = {"regression": "lower", "classification": "higher"}


class TaskFacts(Value):
    """What a board says of a task."""

    kind: TaskKind
    unit: str = ""
    note: str = ""
    targets: int = 1


class Design(Value):
    """What a sweep promises: its tasks, its cells, and the crossed replicates of every cell."""

    sweep: str
    space_digest: str = ""
    tasks: dict[str, TaskFacts]
    pretrain_seeds: int = 1
    splits: int = 1
    head_seeds: int = 1
    outers: int = 0
    """Outer folds of all repeats; 0: one test set, that of the named split."""
    outer_folds: int = 0
    """Folds of one repeat."""
    cells: tuple[str, ...] = ()
    """Names of grid and control cells; empty in an adaptive space, where the sampler chooses."""

    @property
    def overlap(self) -> float:
        """Test over training rows of an outer fold, of which a tenth of all molecules validates."""
        if self.outer_folds < 2:
            return OVERLAP
        return 1 / self.outer_folds / (1 - 1 / self.outer_folds - VALID_SHARE)

    @property
    def replicates(self) -> set[Key]:
        axes = (self.pretrain_seeds, self.splits, self.head_seeds)
        outers = range(1, self.outers + 1) if self.outers else (0,)
        return {Key(*indices) for indices in itertools.product(*map(range, axes), outers)}


class Entry(Value):
    """One method on one task, all replicates finished."""

    method: str
    group: Literal["cell", "from scratch", "baseline"]
    architecture: str | None = None
    size: str | None = None
    molecules: int | None = None
    control: str = ""
    """What a cell and its control from scratch have in common, in words that differ from those of other cells."""
    parameters: int | None = None
    pretrain_flops: float | None = None
    """Estimated operations of the pre-training behind it, of one seed."""
    score: Estimate
    """Primary test metric: RMSE in the task's unit, or ROC-AUC."""
    expected: int
    varies: str
    """What differs between the replicates; ``-`` for one replicate."""
    scope: str
    """What the line speaks for."""
    validation: float | None = None
    """Primary metric on validation, mean over the same runs."""
    secondary: dict[str, float] = {}
    vs_forest: Difference | None = None
    spent: Spent
    recipe: str | None = None
    recipe_text: str = ""
    untuned: bool = False
    rank: int | None = None
    """1 + how many methods are shown to be better; none where nothing was replicated."""
    ties: str = ""
    """Letters: methods that share one are not shown to differ."""
    p_best: float | None = None
    """Share of bootstrap draws in which it has the best mean."""
    more_runs: int | None = None
    """Further replicates, of it and of the best mean, that would separate the two; none where they are separated, or
    where nothing can."""
    more_of: str = ""
    """What ``more_runs`` counts."""
    in_corpus: float | None = None
    """Share of test rows whose molecule its pre-training saw, without a label; none where no audit knows."""
    pareto: bool | None = None
    """Whether no other method is better for the same device-hours; none where they were not measured."""
    badges: tuple[str, ...] = ()
    """What must be told with the score: names of `chembench.report.badges.NOTES`."""


class Incomplete(Value):
    """A method that has no score, and why."""

    method: str
    done: int
    expected: int
    reason: str
    badges: tuple[str, ...] = ()


class TaskSection(Value):
    """All methods on one task, best score first."""

    task: str
    kind: TaskKind
    unit: str
    metric: str
    better: Better
    note: str
    targets: int
    entries: tuple[Entry, ...]
    incomplete: tuple[Incomplete, ...]
    comparison: Comparison | None = None
    """Of the complete methods; none where none is complete."""
    audit: Facts | None = None
    """What the sweep's audit found of the task's test; none where there was none."""


class Leaderboard(Value):
    """One board: every task of one type."""

    schema_version: Literal[1] = 1
    sweep: str
    space_digest: str
    kind: TaskKind
    sections: tuple[TaskSection, ...]
    overall: Aggregate | None = None
    """One order of the methods that are complete on every task; none for one task, or fewer than two such methods."""

    @property
    def name(self) -> str:
        return self.kind
