"""Measures a task and its split: duplicates, contradictions, labels of each part, what parts share, how far test is.

Axes: N molecules, M targets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chembench.chem.fingerprints import nearest
from chembench.chem.scaffolds import murcko
from chembench.chem.tokens import Tokenizer
from chembench.chem.tokens import audit as audit_tokens
from chembench.data.audit import (
    BINS,
    NEAR,
    PARTS,
    Conflicts,
    Duplicates,
    Overlap,
    PartFacts,
    Shared,
    Similarity,
    TargetFacts,
    Tokens,
)
from chembench.data.catalog import TaskDef
from chembench.data.overlap import SAMENESS, By, Identities, Seen, grouped
from chembench.data.splits import Split, load_rows, load_test_ids
from chembench.data.tasks import Task
from chembench.paths import read_json

CONFLICT_SHARE = 0.25
"""Labels of one molecule contradict each other if they differ by more than this share of all labels' deviation."""
PAIRS = (("train", "valid"), ("train", "test"), ("valid", "test"))
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
KEPT = "all rows are kept as they are, each with its own label; nothing is merged, averaged or dropped"


@dataclass(frozen=True)
class Subject:
    """One task with its split, and what its molecules are called."""

    task: Task
    split: Split
    definition: TaskDef
    identities: Identities = field(repr=False)

    @cached_property
    def parts(self) -> dict[str, NDArray[np.int64]]:
        """Row numbers of each part; of the test only these are read."""
        rows = {part: load_rows(self.split.folder, part).ids_N for part in ("train", "valid")}
        return {**rows, "test": load_test_ids(self.split.folder)}

    @property
    def division(self) -> dict[str, Any]:
        """Name, seed and outer fold of the split, as its manifest has them."""
        manifest: dict[str, Any] = read_json(self.split.folder / "manifest.json")
        return manifest

    def smiles(self, part: str) -> list[str]:
        """Canonical SMILES of a part."""
        return [self.task.canonical[row] for row in self.parts[part]]


# ---- the task as a whole ----


def duplicates_of(subject: Subject) -> Iterator[Duplicates]:
    """Rows that repeat a molecule, by each kind of sameness."""
    for by in SAMENESS:
        groups = grouped(subject.identities.of(by))
        first = tuple(subject.task.molecules[row] for row in groups[0][:2]) if groups else ()
        yield Duplicates(by=by, molecules=len(groups), rows=sum(map(len, groups)), first=first)


def conflicts_of(subject: Subject) -> Conflicts:
    """Molecules, by InChIKey, whose rows contradict each other; one that the test holds is counted, but not named."""
    task, test = subject.task, set(subject.parts["test"].tolist())
    rule, limit_M = _rule(task)
    groups = [rows for rows in grouped(subject.identities.of("inchikey")) if (_ranges(task, rows) > limit_M).any()]
    named = (task.canonical[rows[0]] for rows in groups if test.isdisjoint(rows))
    return Conflicts(
        rule=rule,
        policy=KEPT,
        molecules=len(groups),
        rows=sum(map(len, groups)),
        first="" if subject.division.get("outer") else next(named, ""),  # of outer folds each row is a test once
    )


def _rule(task: Task) -> tuple[str, NDArray[np.float64]]:
    if task.kind == "classification":
        return "both classes for one target", np.zeros(len(task.targets))
    limit_M = CONFLICT_SHARE * np.nanstd(task.labels_NM.astype(np.float64), axis=0)
    shown = ", ".join(f"{limit:.3g}" for limit in limit_M)
    return f"further apart than {shown} {task.unit}".rstrip() + f", {CONFLICT_SHARE:g} SD of all labels", limit_M


def _ranges(task: Task, rows: Sequence[int]) -> NDArray[np.float64]:
    """Largest less smallest label of each target in some rows; 0 where fewer than two are known, shape (M,)."""
    labels_NM = task.labels_NM[list(rows)].astype(np.float64)
    known_NM = ~np.isnan(labels_NM)
    high_M = np.where(known_NM, labels_NM, -np.inf).max(axis=0)
    low_M = np.where(known_NM, labels_NM, np.inf).min(axis=0)
    return np.where(known_NM.sum(axis=0) > 1, high_M - low_M, 0.0)


# ---- the parts of the split ----


def parts_of(subject: Subject) -> Iterator[PartFacts]:
    """Rows, scaffolds and labels of each part."""
    scaffolds = {part: [murcko(text) for text in subject.smiles(part)] for part in PARTS}
    known = set(scaffolds["train"])
    train_NM = subject.task.labels_NM[subject.parts["train"]].astype(np.float64)
    for part in PARTS:
        smiles, labels_NM = subject.smiles(part), subject.task.labels_NM[subject.parts[part]].astype(np.float64)
        yield PartFacts(
            part=part,
            rows=len(smiles),
            molecules=len(set(smiles)),
            scaffolds=len(set(scaffolds[part])),
            in_training_scaffolds=None if part == "train" else sum(s in known for s in scaffolds[part]),
            targets=tuple(
                _target_facts(subject.task, place, labels_NM[:, place], train_NM[:, place])
                for place in range(len(subject.task.targets))
            ),
        )


def _target_facts(task: Task, place: int, labels_N: NDArray[np.float64], train_N: NDArray[np.float64]) -> TargetFacts:
    known_N = labels_N[~np.isnan(labels_N)]
    facts = TargetFacts(name=task.targets[place], labels=known_N.size, missing=labels_N.size - known_N.size)
    if task.kind == "classification":
        return facts.model_copy(update={"zeros": int((known_N == 0).sum()), "ones": int((known_N == 1).sum())})
    if not known_N.size:
        return facts
    low, high = np.nanmin(train_N), np.nanmax(train_N)
    return TargetFacts(
        name=facts.name,
        labels=facts.labels,
        missing=facts.missing,
        low=float(known_N.min()),
        high=float(known_N.max()),
        mean=float(known_N.mean()),
        sd=float(known_N.std()),
        outside=int(((known_N < low) | (known_N > high)).sum()),
    )


def shared_of(subject: Subject) -> Iterator[Shared]:
    """What each later part has in common with each earlier one."""
    for other, part in PAIRS:
        counts: dict[By, int] = {}
        pairs: dict[By, tuple[str, ...]] = {}
        for by in SAMENESS:
            names = subject.identities.of(by)
            there = {names[row]: row for row in reversed(subject.parts[other].tolist())}
            rows = [row for row in subject.parts[part].tolist() if names[row] in there]
            counts[by] = len(rows)
            smiles = subject.task.canonical
            pairs[by] = (smiles[rows[0]], smiles[there[names[rows[0]]]]) if rows else ()
        yield Shared(part=part, other=other, rows=counts, first=pairs["inchikey"] or pairs["connectivity"])


def similarity_of(subject: Subject) -> Iterator[Similarity]:
    """How near validation and test are to training."""
    training = list(dict.fromkeys(subject.smiles("train")))
    for part in ("valid", "test"):
        found_N = nearest(subject.smiles(part), training)
        low, lower, middle, upper, high = (float(q) for q in np.quantile(found_N, _QUANTILES))
        yield Similarity(
            part=part,
            quantiles=(low, lower, middle, upper, high),
            histogram=tuple(np.histogram(found_N, bins=BINS, range=(0.0, 1.0))[0].tolist()),
            near=int((found_N >= NEAR).sum()),
        )


# ---- against tokenizer and corpus ----


def tokens_of(subject: Subject, tokenizer: Tokenizer) -> Tokens:
    """What the tokenizer loses of the task's molecules."""
    found = audit_tokens(tokenizer, subject.task.canonical)
    return Tokens(
        tokenizer=tokenizer.digest,
        molecules=found.molecules,
        colliding=found.colliding,
        merged=found.merged,
        altered=found.altered,
        unknown=found.unknown,
        collisions=found.collisions,
        alterations=found.alterations,
        unknowns=found.unknowns,
    )


def overlaps_of(subject: Subject, seen: Seen, scales: Sequence[int]) -> Iterator[Overlap]:
    """How much of each part the pre-trainings of each scale have seen."""
    for molecules in scales:
        within = {by: seen.within(by, molecules) for by in SAMENESS}
        for part in PARTS:
            rows_N = subject.parts[part]
            hits = rows_N[within["inchikey"][rows_N]]
            yield Overlap(
                part=part,
                molecules=molecules,
                rows=len(rows_N),
                seen={by: int(within[by][rows_N].sum()) for by in SAMENESS},
                first=subject.task.canonical[hits[0]] if len(hits) else "",
            )
