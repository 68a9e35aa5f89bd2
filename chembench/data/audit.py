"""What an audit of data says: counts of a task, its split, its molecules in the corpus, its tokens; and the findings.

Nothing here names the label of one test molecule: labels appear as ranges, classes and counts of a whole part.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Literal, get_args

from chembench.config import Spec
from chembench.data.overlap import By
from chembench.errors import DataError
from chembench.paths import SweepPaths, read_json, write_json
from chembench.specs import TaskKind

LAYOUT = 2
"""Raised when an audit of the same inputs says other things than before."""

Severity = Literal["leak", "warning", "note"]
"""A leak makes test scores say something else than they claim; a warning wants to be read; a note is a fact."""

SEVERITIES: tuple[Severity, ...] = get_args(Severity)
BINS = 20
"""Of the histograms of similarity, from 0 to 1."""
NEAR = 0.9
"""A test molecule that is this similar to a training molecule is hardly a new one."""
PARTS = ("train", "valid", "test")


class Finding(Spec):
    """One thing that a person should know, with its count, the first example and what can be done."""

    severity: Severity
    what: str
    """In a few words."""
    count: int
    of: int
    text: str
    """In a sentence."""
    first: str = ""
    """The first molecule it is about."""
    way_out: str
    of_the_task: bool = False
    """It holds of all rows, whichever part is the test."""


class Duplicates(Spec):
    """Rows of a task that hold a molecule which another row holds, too."""

    by: By
    molecules: int
    rows: int
    first: tuple[str, ...] = ()
    """SMILES as the source writes them, of the first such molecule's first two rows."""


class Conflicts(Spec):
    """Molecules (by InChIKey) whose rows have different labels."""

    rule: str
    """What counts as different."""
    policy: str
    """What the preparation of the task does with them."""
    molecules: int
    rows: int
    first: str = ""
    """Of those that the test does not hold: beside the other row's label it would tell a test label."""


class TargetFacts(Spec):
    """The labels of one target in one part."""

    name: str
    labels: int
    missing: int
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    sd: float | None = None
    zeros: int | None = None
    ones: int | None = None
    outside: int | None = None
    """Labels beyond the range of the training labels; of regression."""


class PartFacts(Spec):
    """One part of a split."""

    part: str
    rows: int
    molecules: int
    """Different ones, by canonical SMILES."""
    scaffolds: int
    in_training_scaffolds: int | None = None
    """Rows whose scaffold has training molecules; of validation and test."""
    targets: tuple[TargetFacts, ...]


class Shared(Spec):
    """Rows of a part whose molecule stands in another part as well."""

    part: str
    other: str
    rows: dict[By, int]
    first: tuple[str, ...] = ()
    """Canonical SMILES here and there, of the first row that shares its InChIKey, else its connections."""


class Similarity(Spec):
    """How near the molecules of a part are to training: the nearest neighbour's Tanimoto similarity on ECFP4."""

    part: str
    quantiles: tuple[float, float, float, float, float]
    """5, 25, 50, 75 and 95 %."""
    histogram: tuple[int, ...]
    near: int
    """Rows at or above `NEAR`."""

    @property
    def median(self) -> float:
        return self.quantiles[2]


class Tokens(Spec):
    """What the tokenizer loses of a task's different SMILES."""

    tokenizer: str
    molecules: int
    colliding: int
    merged: int
    """Different SMILES less different sequences of tokens."""
    altered: int
    unknown: int
    collisions: tuple[tuple[str, str], ...]
    alterations: tuple[tuple[str, str], ...]
    unknowns: tuple[str, ...]


class Overlap(Spec):
    """Rows of a part whose molecule is among the first ``molecules`` training molecules of the corpus."""

    part: str
    molecules: int
    rows: int
    seen: dict[By, int]
    first: str = ""
    """Canonical SMILES of the first row that is seen, by InChIKey."""

    @property
    def share(self) -> float:
        """By InChIKey."""
        return self.seen["inchikey"] / self.rows


class TaskAudit(Spec):
    """Everything measured of one task and its split."""

    name: str
    kind: TaskKind
    unit: str
    task_digest: str
    split_digest: str
    split: str
    split_seed: int
    outer: int = 0
    """The outer fold that is the test here; 0: the test of the named split."""
    rows: int
    sampled: bool
    """The rows are a sample of the source's."""
    unreadable: int
    unreadable_first: tuple[str, ...]
    without_key: int
    """Rows of which InChI can make no key."""
    duplicates: tuple[Duplicates, ...]
    conflicts: Conflicts
    parts: tuple[PartFacts, ...]
    shared: tuple[Shared, ...]
    similarity: tuple[Similarity, ...]
    tokens: Tokens | None = None
    overlap: tuple[Overlap, ...] = ()
    findings: tuple[Finding, ...] = ()

    def shared_rows(self, part: str) -> int:
        """Rows of a part whose molecule (by InChIKey) an earlier part has, too."""
        return sum(shared.rows["inchikey"] for shared in self.shared if shared.part == part)

    def similarity_of(self, part: str) -> Similarity:
        return next(similarity for similarity in self.similarity if similarity.part == part)


class CorpusAudit(Spec):
    """The corpus that tasks were held against."""

    corpus_digest: str
    train: int
    validation: int
    unreadable: int
    duplicates: int
    scales: tuple[int, ...]
    """Training molecules of the pre-trainings."""


class Audit(Spec):
    """The audit of a task, of a space or of a sweep."""

    layout: int = LAYOUT
    target: str
    of: Literal["task", "space", "sweep"]
    rdkit: str
    tokenizer: str
    tasks: tuple[TaskAudit, ...]
    """One for each test set: those of outer folds follow each other."""
    corpus: CorpusAudit | None = None

    @property
    def leaks(self) -> int:
        """How many findings are leaks."""
        return count_of("leak", self.tasks)

    @property
    def by_task(self) -> dict[str, tuple[TaskAudit, ...]]:
        """Name of a task -> its audit, or those of its outer folds."""
        names = dict.fromkeys(task.name for task in self.tasks)
        return {name: tuple(task for task in self.tasks if task.name == name) for name in names}


class Facts(Spec):
    """What a line of a board shows of the audit: one task at one pre-training scale."""

    in_corpus: float | None
    """Share of test rows whose InChIKey the pre-training saw; 0 from scratch, none if the scale was not audited."""
    in_training: int
    """Test rows whose InChIKey training or validation rows have, too; of all outer folds together."""
    nearest_median: float
    """Median over test rows of the similarity to the nearest training molecule; of outer folds their median one."""
    conflicts: int
    """Molecules of the task with labels that contradict each other."""
    leaks: int


def audit_facts(audit: Audit, task: str, molecules: int) -> Facts | None:
    """The facts about one task for a model that was pre-trained on ``molecules`` molecules (0: none); none if unknown.

    Args:
        audit: of the sweep.
        task: name.
        molecules: pre-training scale of the line.
    """
    tests = audit.by_task.get(task)
    if tests is None:
        return None
    seen = [o for found in tests for o in found.overlap if o.part == "test" and o.molecules == molecules]
    share = sum(o.seen["inchikey"] for o in seen) / sum(o.rows for o in seen) if seen else None
    return Facts(
        in_corpus=share if molecules else 0.0,
        in_training=sum(found.shared_rows("test") for found in tests),
        nearest_median=statistics.median(found.similarity_of("test").median for found in tests),
        conflicts=tests[0].conflicts.molecules,
        leaks=count_of("leak", tests),
    )


def count_of(severity: Severity, audits: Sequence[TaskAudit]) -> int:
    """How many findings of a severity there are."""
    return sum(finding.severity == severity for audit in audits for finding in audit.findings)


def read_audit(paths: SweepPaths) -> Audit | None:
    """The audit that was written into a sweep's folder; none if there is none, or one of another version.

    Raises:
        DataError: if the file is damaged.
    """
    if not paths.audit.is_file():
        return None
    try:
        found = read_json(paths.audit)
        return Audit.model_validate(found) if found["layout"] == LAYOUT else None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"the audit of a sweep must be as it was written, {paths.audit} is not ({type(error).__name__}); "
            "delete it, then chembench audit makes it anew"
        ) from error


def write_audit(paths: SweepPaths, audit: Audit) -> None:
    """Keep an audit in a sweep's folder, whole."""
    write_json(paths.audit, audit.model_dump(mode="json"))
