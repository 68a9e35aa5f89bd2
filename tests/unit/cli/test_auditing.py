"""``chembench audit``: what can be audited, in which form, and how it ends."""

import json
from pathlib import Path

import pytest
from audited import ALKANES, ANION, rows_of

from chembench import api, cli
from chembench.data.audit import Audit, audit_facts

SPACE = """
name = "mine"
tasks = ["mine"]
[task.mine]
kind = "regression"
file = "mine.csv"
targets = ["y"]
split = "random"
split_seed = SEED
[corpus]
files = ["corpus.smi"]
validation = 2
[grid]
architecture = ["llama"]
size = ["w16x1"]
molecules = [5, 20]
[pretrain]
epochs = 1
learning_rate = 1e-3
[finetune]
method = "linear_probe"
learning_rate = 1e-3
max_epochs = 1
[search]
trials = 1
"""


@pytest.fixture
def space(tmp_path):
    rows = "".join(f'"{smiles}",{label:g}\n' for smiles, label in rows_of()[:-1])
    (tmp_path / "mine.csv").write_text(f"smiles,y\n{rows}")
    (tmp_path / "corpus.smi").write_text("".join(f"{smiles}\n" for smiles in ALKANES))
    (tmp_path / "mine.toml").write_text(SPACE.replace("SEED", "0"))
    return tmp_path / "mine.toml"


def leaky_seed():
    for seed in range(100):
        shared = api.audit("mine.toml", [f"task.mine.split_seed={seed}"]).tasks[0].shared
        if any(s.part == "test" and s.rows["inchikey"] for s in shared):
            return seed
    raise AssertionError("no seed parts the anion's drawings")


@pytest.mark.usefixtures("space")
def test_a_space_is_audited_with_its_corpus(capsys):
    assert cli.run(["audit", "mine.toml"]) == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert lines[0] == "audit of space mine"
    assert lines[2].rstrip().endswith("test in 5  test in 20")
    assert "have contradicting labels" in told.out and "Way out: clean the file" in " ".join(told.out.split())
    assert "audit: mine" in told.err, "what is done goes where it does not disturb"


@pytest.mark.usefixtures("space")
def test_json_can_be_read_back(capsys):
    assert cli.run(["audit", "mine.toml", "-f", "json"]) == 0
    data = json.loads(capsys.readouterr().out)
    leaks = data.pop("leaks")
    assert Audit.model_validate(data).leaks == leaks


@pytest.mark.usefixtures("space")
@pytest.mark.parametrize(("form", "start"), [("md", "# Audit of space mine"), ("html", "<!doctype html>")])
def test_a_form_is_written_to_a_file(capsys, tmp_path, form, start):
    assert cli.run(["audit", "mine.toml", "-f", form, "--output", "audit.out"]) == 0
    told = capsys.readouterr()
    assert told.out == "" and told.err.splitlines()[-1] == "written: audit.out"
    assert (tmp_path / "audit.out").read_text().startswith(start)


@pytest.mark.usefixtures("space")
def test_strict_ends_with_1_for_a_leak_alone(capsys):
    given = ["audit", "mine.toml", "--set", f"task.mine.split_seed={leaky_seed()}"]
    assert cli.run(given) == 0
    assert cli.run([*given, "--strict"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert f"(first: {ANION[0]} = {ANION[1]})" in out or f"(first: {ANION[1]} = {ANION[0]})" in out
    assert "1 leak, " in out
    whole = "".join(f"{smiles},{n}\n" for n, smiles in enumerate(ALKANES))
    Path("mine.csv").write_text(f"smiles,y\n{whole}")
    assert cli.run(["audit", "mine.toml", "--strict"]) == 0


@pytest.mark.usefixtures("space")
@pytest.mark.parametrize(
    ("given", "text"),
    [
        (["delany"], "unknown sweep, task or space 'delany'. Did you mean 'delaney'?"),
        (
            ["mine.csv"],
            "an audit is of a sweep, a task or a space, 'mine.csv' is another file; for molecules",
        ),
        (["other.toml"], "space file other.toml does not exist; see `chembench spaces`"),
        (
            ["freewilson_active", "--set", "search.trials=2"],
            "--set changes a space, 'freewilson_active' is none and is audited as it is, got 'search.trials=2'",
        ),
        (["mine.toml", "--tokenizer", "nowhere.json"], "a tokenizer is a tokenizer.json or a folder with one, nowhere"),
    ],
)
def test_what_cannot_be_audited_is_told(capsys, given, text):
    assert cli.run(["audit", *given]) == 2
    assert text in capsys.readouterr().err


@pytest.mark.usefixtures("space")
def test_a_missing_file_is_told(capsys, tmp_path):
    (tmp_path / "corpus.smi").unlink()
    assert cli.run(["audit", "mine.toml"]) == 1
    assert "corpus.smi" in capsys.readouterr().err
    (tmp_path / "mine.csv").unlink()
    assert cli.run(["audit", "mine.toml"]) == 1
    assert "mine.csv" in capsys.readouterr().err


OUTER = ["confirm.outer_folds=3", "confirm.outer_repeats=2", "confirm.outer_groups=random"]


@pytest.mark.usefixtures("space")
def test_every_outer_fold_is_audited_and_what_holds_of_the_task_is_told_once(capsys):
    audit = api.audit("mine.toml", OUTER)
    assert [(task.name, task.outer) for task in audit.tasks] == [("mine", outer) for outer in range(1, 7)]
    tests = [next(part for part in task.parts if part.part == "test") for task in audit.tasks]
    assert sum(part.rows for part in tests) == 2 * audit.tasks[0].rows, "each row is the test once in each repeat"
    ends = [(part.targets[0].low, part.targets[0].high) for part in tests]
    assert len(set(ends)) > 1 and min(low for low, _ in ends) == 0 and max(high for _, high in ends) == 29
    whole = "contradicting labels"
    assert [sum(f.what == whole for f in task.findings) for task in audit.tasks] == [1, 0, 0, 0, 0, 0]

    assert cli.run(["audit", "mine.toml", "-f", "md", *(word for one in OUTER for word in ("--set", one))]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("### Outer folds")
    assert [line.split(" | ")[0] for line in lines[at + 4 : at + 10]] == [f"| {fold}" for fold in range(1, 7)]
    assert f"{ends[0][0]:.3g} to {ends[0][1]:.3g}" in lines[at + 4]
    assert any("fold 2: " in line or "fold 3: " in line for line in lines)


@pytest.mark.usefixtures("space")
def test_a_leak_of_any_outer_fold_is_a_fact_of_the_board(capsys):
    audit = api.audit("mine.toml", OUTER)
    leaking = [task for task in audit.tasks if task.shared_rows("test")]
    assert leaking, "the anion's two drawings are in different parts of some fold"
    facts = audit_facts(audit, "mine", 20)
    assert facts.in_training == sum(task.shared_rows("test") for task in leaking)
    assert facts.leaks == audit.leaks == len(leaking)
    seen = [o for task in audit.tasks for o in task.overlap if (o.part, o.molecules) == ("test", 20)]
    share = sum(o.seen["inchikey"] for o in seen) / (2 * audit.tasks[0].rows)
    assert facts.in_corpus == pytest.approx(share, abs=1e-6)
    assert cli.run(["audit", "mine.toml", "--strict", *(word for one in OUTER for word in ("--set", one))]) == 1
