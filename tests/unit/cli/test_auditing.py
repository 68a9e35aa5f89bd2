"""``chembench audit``: what can be audited, in which form, and how it ends."""

import json
from pathlib import Path

import pytest
from audited import ALKANES, ANION, rows_of

from chembench import api, cli
from chembench.data.audit import Audit

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
