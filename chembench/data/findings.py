"""What a person should know of the measures of a task, the worst first; a pure function of the record."""

from __future__ import annotations

from collections.abc import Iterator

from chembench.data.audit import NEAR, SEVERITIES, Finding, PartFacts, Severity, Shared, TaskAudit

SCAFFOLD_SPLITS = ("deepchem_scaffold", "scaffold")
MANY = 0.1
"""Share of a part from which on a fact becomes a warning."""

_OWN_FILE = "clean the file and give it as a task of your own"
KEPT_SO = "each row is kept and counts on its own"
_LEAKY = f"{_OWN_FILE}, or choose a split by scaffold"


def findings_of(audit: TaskAudit, *, of_its_fold_alone: bool = False) -> tuple[Finding, ...]:
    """The findings about one task, leaks first, then warnings, then notes.

    Args:
        audit: what was measured.
        of_its_fold_alone: leave out what holds of the whole task, whichever part is the test.
    """
    found = [*_of_parts(audit), *_of_part_labels(audit), *_of_neighbours(audit), *_of_corpus(audit)]
    if not of_its_fold_alone:
        whole = (*_of_conflicts(audit), *_of_rows(audit), *_of_tokens(audit))
        found += [finding.model_copy(update={"of_the_task": True}) for finding in whole]
    return tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity)))


def _of_parts(audit: TaskAudit) -> Iterator[Finding]:
    for shared in audit.shared:
        rows = _rows(audit, shared.part)
        if same := shared.rows["inchikey"]:
            is_leak = shared.part == "test"
            yield Finding(
                severity="leak" if is_leak else "warning",
                what=f"{shared.part} molecules in {shared.other}",
                count=same,
                of=rows,
                text=f"{same:,} of {rows:,} {shared.part} rows hold a molecule (by InChIKey) of {shared.other}",
                first=_pair(shared),
                way_out=_LEAKY,
            )
        if other := shared.rows["connectivity"] - same:
            yield Finding(
                severity="note",
                what=f"{shared.part} molecules in {shared.other} but for stereo or charge",
                count=other,
                of=rows,
                text=f"{other:,} more of {rows:,} {shared.part} rows differ from a {shared.other} molecule in stereo, "
                "isotopes or charge alone",
                first="" if same else _pair(shared),
                way_out="nothing, if that is the question; else a split that keeps them together",
            )


def _of_conflicts(audit: TaskAudit) -> Iterator[Finding]:
    if conflicts := audit.conflicts.molecules:
        yield Finding(
            severity="warning",
            what="contradicting labels",
            count=conflicts,
            of=audit.rows,
            text=f"{audit.conflicts.rows:,} rows of {molecules(conflicts)} (by InChIKey) have contradicting labels: "
            f"{audit.conflicts.rule}; {audit.conflicts.policy}",
            first=audit.conflicts.first,
            way_out=_OWN_FILE,
        )


def _of_part_labels(audit: TaskAudit) -> Iterator[Finding]:
    for part in audit.parts:
        yield from _one_class(audit, part)
        yield from _beyond_training(part)


def _one_class(audit: TaskAudit, part: PartFacts) -> Iterator[Finding]:
    lacking = [t.name for t in part.targets if audit.kind == "classification" and not (t.zeros and t.ones)]
    if lacking:
        yield Finding(
            severity="warning",
            what=f"one class in {part.part}",
            count=len(lacking),
            of=len(part.targets),
            text=f"{len(lacking)} of {len(part.targets)} targets have one class alone in {part.part}, '{lacking[0]}' "
            "first: they have no score there",
            way_out="choose another split or split_seed, or leave the targets out",
        )


def _beyond_training(part: PartFacts) -> Iterator[Finding]:
    outside, labels = sum(t.outside or 0 for t in part.targets), sum(t.labels for t in part.targets)
    if part.part != "train" and outside:
        yield Finding(
            severity=_from_share(outside, labels),
            what=f"{part.part} labels beyond training",
            count=outside,
            of=labels,
            text=f"{outside:,} of {labels:,} {part.part} labels lie beyond the range of the training labels",
            way_out="none is needed: these molecules ask for extrapolation, read their errors so",
        )


def _of_rows(audit: TaskAudit) -> Iterator[Finding]:
    if audit.unreadable:
        rows = audit.rows + audit.unreadable
        yield Finding(
            severity="note",
            what="unreadable rows",
            count=audit.unreadable,
            of=rows,
            text=f"{audit.unreadable:,} of {rows:,} rows hold no molecule that RDKit can read; they are left out",
            first=audit.unreadable_first[0] if audit.unreadable_first else "",
            way_out="correct them in the file, or leave it so",
        )
    by_key = next(d for d in audit.duplicates if d.by == "inchikey")
    if by_key.molecules:
        yield Finding(
            severity="note",
            what="repeated molecules",
            count=by_key.rows,
            of=audit.rows,
            text=f"{by_key.rows:,} of {audit.rows:,} rows share {molecules(by_key.molecules)} (by InChIKey); {KEPT_SO}",
            first=" = ".join(by_key.first),
            way_out=_OWN_FILE,
        )


def _of_neighbours(audit: TaskAudit) -> Iterator[Finding]:
    for similarity in audit.similarity:
        rows = _rows(audit, similarity.part)
        if similarity.part == "test" and similarity.near:
            yield Finding(
                severity=_from_share(similarity.near, rows),
                what="test molecules near training",
                count=similarity.near,
                of=rows,
                text=f"{similarity.near:,} of {rows:,} test molecules have a training molecule at Tanimoto {NEAR:g} or "
                f"above (ECFP4); the median of all is {similarity.median:.2f}",
                way_out="a split by scaffold asks for more; a random one says how well neighbours are interpolated",
            )
    for part in audit.parts:
        common = part.in_training_scaffolds
        if part.part == "test" and common and audit.split in SCAFFOLD_SPLITS:
            yield Finding(
                severity="warning",
                what="test scaffolds in training",
                count=common,
                of=part.rows,
                text=f"{common:,} of {part.rows:,} test rows have a scaffold that training has, though the split is "
                f"'{audit.split}'",
                way_out="split = 'scaffold', which reads canonical SMILES",
            )


def _of_corpus(audit: TaskAudit) -> Iterator[Finding]:
    largest = max((overlap.molecules for overlap in audit.overlap), default=0)
    for overlap in audit.overlap:
        seen = overlap.seen["inchikey"]
        if overlap.molecules == largest and overlap.part != "train" and seen:
            yield Finding(
                severity="warning" if overlap.part == "test" else "note",
                what=f"{overlap.part} molecules in the corpus",
                count=seen,
                of=overlap.rows,
                text=f"{seen:,} of {overlap.rows:,} {overlap.part} rows ({overlap.share:.1%}) hold a molecule (by "
                f"InChIKey) of the {overlap.molecules:,} pre-trained on; the corpus has no labels of the task",
                first=overlap.first,
                way_out="hold models of other corpora and from-scratch controls against it, or filter the corpus",
            )


def _of_tokens(audit: TaskAudit) -> Iterator[Finding]:
    tokens = audit.tokens
    if tokens is None:
        return
    examples = {
        "same tokens for different molecules": (tokens.colliding, " = ".join(next(iter(tokens.collisions), ()))),
        "molecules that do not come back": (tokens.altered, " -> ".join(next(iter(tokens.alterations), ()))),
        "molecules with unknown tokens": (tokens.unknown, next(iter(tokens.unknowns), "")),
    }
    for what, (count, first) in examples.items():
        if count:
            yield Finding(
                severity="warning",
                what=what,
                count=count,
                of=tokens.molecules,
                text=f"{count:,} of {tokens.molecules:,} different SMILES: {what} (tokenizer {tokens.tokenizer})",
                first=first,
                way_out="use the built-in tokenizer, which keeps all molecules apart",
            )


def molecules(count: int) -> str:
    return f"{count:,} molecule" if count == 1 else f"{count:,} molecules"


def _from_share(count: int, of: int) -> Severity:
    return "warning" if count >= MANY * of else "note"


def _rows(audit: TaskAudit, part: str) -> int:
    return next(facts.rows for facts in audit.parts if facts.part == part)


def _pair(shared: Shared) -> str:
    return " = ".join(dict.fromkeys(shared.first))
