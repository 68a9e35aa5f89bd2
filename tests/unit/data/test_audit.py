"""What an audit counts, and what it never tells."""

import json

import numpy as np
import pytest
from audited import ALKANES, ANION, EVIL, inputs_of, rows_of

from chembench.data import overlap
from chembench.data.audit import LAYOUT, Audit, audit_facts, count_of, read_audit, write_audit
from chembench.errors import DataError
from chembench.paths import SweepPaths
from chembench.sweep.auditing import audit_inputs


def quiet(line):
    assert line


def audited(inputs, cache):
    return audit_inputs(inputs, cache, 1, quiet)


def only(inputs, cache):
    (task,) = audited(inputs, cache).tasks
    return task


def found(task, what):
    return next((finding for finding in task.findings if finding.what == what), None)


def seed_that_parts(tmp_path, cache, one, other):
    """A seed of the random split for which the anion's drawings lie in these parts."""
    for seed in range(100):
        inputs = inputs_of(tmp_path, cache, seed=seed)
        task, split, _ = inputs.tasks[0]
        parts = part_of(task, split)
        if {parts[ANION[0]], parts[ANION[1]]} == {one, other}:
            return inputs
    raise AssertionError("no seed parts them")


def part_of(task, split):
    ids = {part: np.load(split.folder / f"{part}.npz")["ids"] for part in ("train", "valid")}
    ids["test"] = np.load(split.folder / "test_ids.npy")
    return {task.canonical[row]: part for part, rows in ids.items() for row in rows}


def test_rows_duplicates_and_unreadable_ones_are_counted(tmp_path, cache):
    task = only(inputs_of(tmp_path, cache), cache)
    assert (task.rows, task.unreadable, task.unreadable_first, task.without_key) == (34, 1, (EVIL,), 0)
    counts = {d.by: (d.molecules, d.rows) for d in task.duplicates}
    assert counts == {"smiles": (1, 2), "inchikey": (2, 4), "connectivity": (2, 4)}
    assert task.duplicates[0].first == ("CCO", "OCC")
    assert found(task, "unreadable rows").count == 1
    assert found(task, "repeated molecules").text.endswith("each row is kept and counts on its own")


@pytest.mark.parametrize(("labels", "molecules"), [((1.0, 9.0), 1), ((1.0, 1.5), 0)])
def test_labels_contradict_each_other_beyond_a_share_of_their_deviation(tmp_path, cache, labels, molecules):
    conflicts = only(inputs_of(tmp_path, cache, rows=rows_of(*labels)), cache).conflicts
    assert conflicts.molecules == molecules and conflicts.rows == 2 * molecules
    assert conflicts.rule.endswith("mg, 0.25 SD of all labels")
    assert conflicts.policy.startswith("all rows are kept as they are")


def test_classes_contradict_each_other_where_both_are_there(tmp_path, cache):
    rows = [(smiles, n % 2) for n, smiles in enumerate(ALKANES)] + [("CCO", 0), ("OCC", 1), ("CN", 1), ("NC", 1)]
    task = only(inputs_of(tmp_path, cache, rows=rows, kind="classification"), cache)
    assert (task.conflicts.molecules, task.conflicts.rows) == (1, 2)
    assert task.conflicts.rule == "both classes for one target"
    assert sum(part.targets[0].zeros + part.targets[0].ones for part in task.parts) == 34


def test_a_test_molecule_in_training_is_a_leak_however_it_is_drawn(tmp_path, cache):
    task = only(seed_that_parts(tmp_path, cache, "train", "test"), cache)
    leak = found(task, "test molecules in train")
    assert (leak.severity, leak.count) == ("leak", 1)
    assert task.findings[0] == leak and set(leak.first.split(" = ")) == set(ANION)
    assert next(s for s in task.shared if (s.part, s.other) == ("test", "train")).rows["smiles"] == 0


def test_a_validation_molecule_in_training_is_a_warning(tmp_path, cache):
    task = only(seed_that_parts(tmp_path, cache, "train", "valid"), cache)
    assert found(task, "valid molecules in train").severity == "warning"
    assert count_of("leak", (task,)) == 0


def test_a_contradiction_that_the_test_takes_part_in_names_no_molecule(tmp_path, cache):
    for seed in range(100):
        inputs = inputs_of(tmp_path, cache, seed=seed)
        if part_of(*inputs.tasks[0][:2])["CCO"] == "test":
            break
    conflicts = only(inputs, cache).conflicts
    assert (conflicts.molecules, conflicts.first) == (1, "")


def test_labels_of_a_part_are_told_as_range_and_counts(tmp_path, cache):
    inputs = inputs_of(tmp_path, cache)
    task = only(inputs, cache)
    prepared, split, _ = inputs.tasks[0]
    test_N = prepared.labels_NM[np.load(split.folder / "test_ids.npy"), 0]
    (facts,) = task.parts[2].targets
    assert (facts.labels, facts.missing) == (len(test_N), 0)
    assert (facts.low, facts.high) == (test_N.min(), test_N.max())
    assert facts.sd == pytest.approx(test_N.std(), rel=1e-5)
    assert task.parts[0].targets[0].outside == 0


def test_labels_beyond_training_are_counted(tmp_path, cache):
    for seed in range(100):
        inputs = inputs_of(tmp_path, cache, seed=seed)
        if part_of(*inputs.tasks[0][:2])[ALKANES[29]] == "test":
            break
    beyond = found(only(inputs, cache), "test labels beyond training")
    assert beyond.count == 1 and beyond.severity == "warning", "one of four is more than a tenth"


def test_the_overlap_grows_with_the_scale(tmp_path, cache):
    corpus = [*ALKANES[::2], ANION[1], *(f"N{'C' * n}" for n in range(1, 40))]
    audit = audited(inputs_of(tmp_path, cache, corpus=corpus, scales=(5, 20, 53)), cache)
    (task,) = audit.tasks
    seen = {(o.part, o.molecules): o.seen for o in task.overlap}
    for part in ("train", "valid", "test"):
        assert seen[part, 5]["inchikey"] <= seen[part, 20]["inchikey"] <= seen[part, 53]["inchikey"]
    whole = {by: sum(seen[part, 53][by] for part in ("train", "valid", "test")) for by in overlap.SAMENESS}
    in_train = set(audit_corpus(tmp_path, cache, corpus))
    assert whole["smiles"] == len(in_train & {*ALKANES, *ANION, "CCO"})
    assert whole["inchikey"] == whole["smiles"] + (ANION[1] in in_train), "the other drawing is the same molecule"


def audit_corpus(tmp_path, cache, corpus):
    made = inputs_of(tmp_path, cache, corpus=corpus).corpus
    return made.smiles("train", 0, made.train)


def test_the_corpus_is_read_once(tmp_path, cache, monkeypatch):
    inputs = inputs_of(tmp_path, cache, corpus=ALKANES, scales=(20,))
    first = audited(inputs, cache)
    monkeypatch.setattr(overlap, "Processes", lambda *_: pytest.fail("the corpus is read again"))
    assert audited(inputs, cache) == first


def test_lost_tokens_are_found(tmp_path, cache):
    class Careless:
        """Drops what stands in brackets, as the paper's does."""

        digest, unk_id = "careless", None

        def encode_many(self, smiles):
            ids = [np.frombuffer(text.replace("Cl", "C").encode(), np.uint8) for text in smiles]
            return np.concatenate(ids), np.cumsum([0, *map(len, ids)])

        def decode(self, ids):
            return bytes(ids).decode()

    rows = [*rows_of()[:-1], ("CCl", 4.0)]
    task = only(inputs_of(tmp_path, cache, rows=rows, tokenizer=Careless()), cache)
    assert (task.tokens.colliding, task.tokens.merged, task.tokens.altered) == (2, 1, 3)
    assert found(task, "same tokens for different molecules").first == "CC = CCl"
    assert found(only(inputs_of(tmp_path, cache), cache), "same tokens for different molecules") is None


def test_similarity_is_a_histogram_of_every_row(tmp_path, cache):
    task = only(inputs_of(tmp_path, cache), cache)
    for similarity, part in zip(task.similarity, task.parts[1:], strict=True):
        assert sum(similarity.histogram) == part.rows
        assert list(similarity.quantiles) == sorted(similarity.quantiles)


def test_a_board_line_gets_its_facts(tmp_path, cache):
    audit = audited(inputs_of(tmp_path, cache, corpus=ALKANES, scales=(5, 20)), cache)
    at_20, from_scratch = audit_facts(audit, "mine", 20), audit_facts(audit, "mine", 0)
    assert at_20.in_corpus > 0 == from_scratch.in_corpus
    assert at_20.conflicts == 1 and at_20.nearest_median == audit.tasks[0].similarity_of("test").median
    assert audit_facts(audit, "mine", 7).in_corpus is None, "that scale was not looked at"
    assert audit_facts(audit, "another", 5) is None


def test_an_audit_is_kept_in_a_sweep(tmp_path, cache):
    paths = SweepPaths(tmp_path / "sweep")
    assert read_audit(paths) is None
    audit = audited(inputs_of(tmp_path, cache, corpus=ALKANES, scales=(5,)), cache)
    write_audit(paths, audit)
    assert read_audit(paths) == audit and isinstance(audit, Audit)


def test_an_audit_of_another_version_counts_as_none(tmp_path):
    paths = SweepPaths(tmp_path / "sweep")
    paths.root.mkdir()
    paths.audit.write_text(json.dumps({"layout": LAYOUT + 1, "else": 1}))
    assert read_audit(paths) is None


@pytest.mark.parametrize("content", ["{", "[]", "{}", json.dumps({"layout": LAYOUT})])
def test_a_damaged_audit_is_named(tmp_path, content):
    paths = SweepPaths(tmp_path / "sweep")
    paths.root.mkdir()
    paths.audit.write_text(content)
    with pytest.raises(DataError, match=r"must be as it was written, .*audit.json is not .*; delete it, then"):
        read_audit(paths)
