"""An audit as tables of plain text, which every form of it shows: terminal, Markdown, page and report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chembench.data.audit import NEAR, SEVERITIES, Audit, Overlap, PartFacts, TargetFacts, TaskAudit
from chembench.statistics.estimates import Value

SAMENESS = {"smiles": "canonical SMILES", "inchikey": "InChIKey", "connectivity": "connections"}


class AuditTable(Value):
    """Lines of texts under titles."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    right: tuple[int, ...] = ()
    """Places of the columns that hold numbers."""
    note: str = ""


def overview(audit: Audit) -> AuditTable:
    """One line per test set, its most important numbers as columns."""
    columns = ["task", "split", "rows", "repeated", "contradicting", "test in training", "nearest", f">= {NEAR:g}"]
    scales = audit.corpus.scales if audit.corpus else ()
    columns += [f"test in {molecules:,}" for molecules in scales]
    lines = [(*_overview_line(task), *(_in_corpus(task, molecules) for molecules in scales)) for task in audit.tasks]
    note = (
        "repeated: rows that share a molecule; contradicting: molecules with different labels; test in training: test "
        "rows whose molecule training or validation has; nearest: median similarity of test to training (Tanimoto, "
        f"ECFP4), and the share of test rows at {NEAR:g} or above"
    )
    if scales:
        note += "; test in N: share of test rows among the first N molecules of the corpus. The same molecule: InChIKey"
    return AuditTable(
        title="Tasks", columns=tuple(columns), lines=tuple(lines), right=tuple(range(2, len(columns))), note=note
    )


def _overview_line(task: TaskAudit) -> tuple[str, ...]:
    repeated = next(d for d in task.duplicates if d.by == "inchikey").rows
    shared, test = task.shared_rows("test"), task.similarity_of("test")
    return (
        task.name,
        _division(task),
        f"{task.rows:,}",
        f"{repeated:,}",
        f"{task.conflicts.molecules:,}",
        f"{shared:,}",
        f"{test.median:.2f}",
        f"{test.near / sum(test.histogram):.1%}",
    )


def _division(task: TaskAudit) -> str:
    if task.outer:
        return f"{task.split}, outer fold {task.outer}"
    return f"{task.split}, seed {task.split_seed}" if task.split != "deepchem_scaffold" else task.split


def _in_corpus(task: TaskAudit, molecules: int) -> str:
    return next(f"{o.share:.1%}" for o in task.overlap if o.part == "test" and o.molecules == molecules)


def findings(tests: Sequence[TaskAudit]) -> AuditTable:
    """What a person should know of a task, the worst first; of outer folds that of each, and of the task once."""
    found = [(task.outer, finding) for task in tests for finding in task.findings]
    found.sort(key=lambda one: SEVERITIES.index(one[1].severity))
    lines = []
    for outer, one in found:
        text = f"fold {outer}: {one.text}" if len(tests) > 1 and not one.of_the_task else one.text
        lines.append((one.severity, f"{one.count:,} of {one.of:,}", text, one.first, one.way_out))
    columns = ("severity", "count", "finding", "first", "way out")
    return AuditTable(title="Findings", columns=columns, lines=tuple(lines), right=(1,))


def of_task(tests: Sequence[TaskAudit]) -> Iterator[AuditTable]:
    """Everything that was measured of one task; of outer folds the first in full, and all of them side by side."""
    if len(tests) > 1:
        yield _folds(tests)
    task = tests[0]
    yield _rows(task)
    yield _parts(task)
    yield _labels(task)
    yield _shared(task)
    yield _similarity(task)
    if task.overlap:
        yield _overlap(task)
    if task.tokens:
        yield _tokens(task)


def _rows(task: TaskAudit) -> AuditTable:
    sample = " (a sample of the source)" if task.sampled else ""
    lines = [
        ("kept" + sample, f"{task.rows:,}", ""),
        ("unreadable, left out", f"{task.unreadable:,}", ", ".join(task.unreadable_first)),
        ("without InChIKey", f"{task.without_key:,}", ""),
    ]
    lines += [
        (f"repeat a molecule, by {SAMENESS[d.by]}", f"{d.rows:,} of {d.molecules:,} molecules", " = ".join(d.first))
        for d in task.duplicates
    ]
    conflicts = task.conflicts
    told = f"{conflicts.rows:,} of {conflicts.molecules:,} molecules"
    lines.append((f"contradict each other ({conflicts.rule})", told, conflicts.first))
    note = f"duplicates and contradictions: {conflicts.policy}"
    return AuditTable(title="Rows", columns=("rows that", "", "first"), lines=tuple(lines), right=(1,), note=note)


def _folds(tests: Sequence[TaskAudit]) -> AuditTable:
    lines = []
    for task in tests:
        parts = {part.part: part for part in task.parts}
        rows = tuple(f"{part.rows:,}" for part in parts.values())
        labels = tuple(_spread(task, parts[name]) for name in ("train", "test"))
        lines.append((f"{task.outer}", *rows, *labels, *_overview_line(task)[-3:]))
    is_classes = tests[0].kind == "classification"
    what = "share of 1" if is_classes else f"labels{f' in {tests[0].unit}' if tests[0].unit else ''}"
    columns = ("fold", *(f"{part.part} rows" for part in tests[0].parts), f"{what}, train", f"{what}, test")
    return AuditTable(
        title="Outer folds",
        columns=(*columns, "test in training", "nearest", f">= {NEAR:g}"),
        lines=tuple(lines),
        right=tuple(range(1, 9)),
        note="each fold is the test once in its repeat; tables that speak of one test are of the first fold",
    )


def _spread(task: TaskAudit, part: PartFacts) -> str:
    """From the lowest to the highest label, or share of class 1; of several targets the ends of all."""
    if task.kind == "classification":
        shares = [t.ones / (t.zeros + t.ones) for t in part.targets if t.ones is not None and t.zeros]
        shares = [share for share in shares if share > 0]
        lacking = len(part.targets) - len(shares)
        ends = [f"{end:.1%}" for end in (min(shares), max(shares))] if shares else []
        told = ends[0] if len(part.targets) == 1 and ends else " to ".join(ends)
        return "; ".join([one for one in (told, f"{lacking} of one class" if lacking else "") if one])
    known = [(t.low, t.high) for t in part.targets if t.low is not None and t.high is not None]
    return f"{min(low for low, _ in known):.3g} to {max(high for _, high in known):.3g}" if known else "none"


def _parts(task: TaskAudit) -> AuditTable:
    lines = []
    for part in task.parts:
        common = part.in_training_scaffolds
        known = "" if common is None else f"{common:,} ({common / part.rows:.1%})"
        lines.append((part.part, f"{part.rows:,}", f"{part.molecules:,}", f"{part.scaffolds:,}", known))
    return AuditTable(
        title="Parts",
        columns=("part", "rows", "molecules", "scaffolds", "rows with a training scaffold"),
        lines=tuple(lines),
        right=(1, 2, 3, 4),
        note=f"split {_division(task)}; rows without any label are in no part",
    )


def _labels(task: TaskAudit) -> AuditTable:
    is_classes = task.kind == "classification"
    own = ("class 0", "class 1", "share of 1") if is_classes else ("lowest", "highest", "mean", "SD", "beyond training")
    lines = [
        (target.name, part.part, f"{target.labels:,}", _share(target.missing, part.rows), *_label_cells(target))
        for place in range(len(task.parts[0].targets))
        for part in task.parts
        for target in [part.targets[place]]
    ]
    unit = f" ({task.unit})" if task.unit else ""
    columns = ("target", "part", "labels", "missing", *own)
    return AuditTable(title=f"Labels{unit}", columns=columns, lines=tuple(lines), right=tuple(range(2, len(columns))))


def _label_cells(target: TargetFacts) -> tuple[str, ...]:
    if target.zeros is not None and target.ones is not None:
        return f"{target.zeros:,}", f"{target.ones:,}", _share(target.ones, target.zeros + target.ones)
    numbers = (target.low, target.high, target.mean, target.sd)
    outside = "" if target.outside is None else f"{target.outside:,}"
    return (*("" if n is None else f"{n:.3g}" for n in numbers), outside)


def _shared(task: TaskAudit) -> AuditTable:
    lines = [
        (f"{s.part} in {s.other}", *(f"{s.rows[by]:,}" for by in s.rows), " = ".join(dict.fromkeys(s.first)))
        for s in task.shared
    ]
    return AuditTable(
        title="Rows whose molecule another part has",
        columns=("parts", *(f"by {name}" for name in SAMENESS.values()), "first"),
        lines=tuple(lines),
        right=(1, 2, 3),
        note="connections: the first 14 characters of the InChIKey, without stereo, isotopes and charge",
    )


def _similarity(task: TaskAudit) -> AuditTable:
    lines = [
        (s.part, *(f"{q:.2f}" for q in s.quantiles), f"{s.near:,} ({s.near / sum(s.histogram):.1%})")
        for s in task.similarity
    ]
    return AuditTable(
        title="Similarity to the nearest training molecule (Tanimoto, ECFP4)",
        columns=("part", "5 %", "25 %", "median", "75 %", "95 %", f"rows at {NEAR:g} or above"),
        lines=tuple(lines),
        right=tuple(range(1, 7)),
    )


def _overlap(task: TaskAudit) -> AuditTable:
    lines = [(f"{o.molecules:,}", o.part, f"{o.rows:,}", *_overlap_cells(o), o.first) for o in task.overlap]
    return AuditTable(
        title="Rows whose molecule the pre-training saw",
        columns=("molecules", "part", "rows", *(f"by {name}" for name in SAMENESS.values()), "first"),
        lines=tuple(lines),
        right=(0, 2, 3, 4, 5),
        note="the corpus has no labels of the task",
    )


def _overlap_cells(overlap: Overlap) -> tuple[str, ...]:
    return tuple(f"{count:,} ({_share(count, overlap.rows)})" for count in overlap.seen.values())


def _tokens(task: TaskAudit) -> AuditTable:
    tokens = task.tokens
    assert tokens is not None, "of_task asks"
    lines = (
        ("share their tokens with another one", tokens.colliding, " = ".join(next(iter(tokens.collisions), ()))),
        ("are lost so (less sequences than SMILES)", tokens.merged, ""),
        ("do not come back", tokens.altered, " -> ".join(next(iter(tokens.alterations), ()))),
        ("have unknown tokens", tokens.unknown, next(iter(tokens.unknowns), "")),
    )
    return AuditTable(
        title="Tokens",
        columns=(f"of {tokens.molecules:,} different SMILES", "", "first"),
        lines=tuple((what, f"{count:,}", first) for what, count, first in lines),
        right=(1,),
        note=f"tokenizer {tokens.tokenizer}",
    )


def _share(count: int, of: int) -> str:
    return f"{count / of:.1%}" if of else ""
