"""Bad input ends the command with one clear sentence and a status that is not 0, before anything is trained."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from flow_sweeps import SMALL, options

from chembench import cli

BASE = ["sweep", "--space", "full_grid_tiny", *options(*SMALL), "--name", "bad", "--runner", "serial"]
MOLECULES = [f"{'C' * size}{end}" for size in range(1, 31) for end in ("O", "N")]


def table(name, rows, header="smiles,y"):
    Path(name).write_text("\n".join([header, *rows]) + "\n")


def own(file, kind="regression", **more):
    """A task of one's own instead of the embedded ones."""
    extra = "".join(f", {key}={value!r}" for key, value in more.items())
    where = f"file='{Path(file).resolve()}', targets=['y'], kind='{kind}'"
    return options("tasks=['own']", f"task={{own={{{where}{extra}}}}}")


def no_column():
    table("assay.csv", ["CCO,1"], header="smiles,x")
    return own("assay.csv"), 1, r"'.*assay.csv' has no column 'y'; it has: smiles, x"


def unreadable_smiles():
    table("assay.csv", [f"{smiles},{row}" for row, smiles in enumerate([*MOLECULES, *["nonsense"] * 20])])
    text = r"20 of 80 rows of task own \(25.0%\) hold no molecule .* max_unreadable is 5.0%; see (.*unreadable.txt)"
    return own("assay.csv"), 1, text


def one_class_in_a_part():
    table("assay.csv", [*(f"{smiles},1" for smiles in MOLECULES), "c1ccccc1,0"])
    text = r"(train|valid|test) must hold both classes, target 'y' has .* use another split_seed or split = 'random'"
    return own("assay.csv", "classification", split="random"), 1, text


def empty_part():
    table("assay.csv", [f"{smiles},{row}" for row, smiles in enumerate(MOLECULES[:3])])
    text = r"(train|valid|test) has no labelled molecule \(task own, split random.*; use .*, or give more molecules"
    return own("assay.csv", split="random"), 1, text


def no_file():
    return own("nowhere.csv"), 1, r"no file '.*nowhere.csv' in .*; correct the name or write an absolute path"


def small_corpus():
    Path("corpus.smi").write_text("\n".join(MOLECULES) + "\n")
    where = options(f"corpus.files=['{Path('corpus.smi').resolve()}']", "corpus.validation=10")
    text = r"corpus has 50 training molecules, the space asks for 64; lower grid.molecules or add files"
    return where, 1, text


def gpus():
    return (
        options("resources.gpus=64"),
        2,
        r"(space asks for 64 GPU per item, none is visible|no node can hold .* 64 GPU)",
    )


def cpus():
    return options("resources.cpus=640"), 2, r"no node can hold an item of 640 CPU and 0 GPU, .*; lower \[resources\]"


def name_that_leaves_its_folder():
    return ["--name", "../x"], 2, r"sweep name must be 1-80 letters, .* got '../x'"


def empty_name():
    return ["--name", ""], 2, r"sweep name must be 1-80 letters, .* got ''"


def unknown_name():
    return options("grid.architecture=['robert']"), 2, r"unknown architecture 'robert'\. Did you mean 'roberta'\?"


def task_that_leaves_its_folder():
    table("assay.csv", [f"{smiles},{row}" for row, smiles in enumerate(MOLECULES)])
    where = f"file='{Path('assay.csv').resolve()}', targets=['y'], kind='regression'"
    return (
        options("tasks=['../x']", f"task={{'../x'={{{where}}}}}"),
        2,
        r"task name must be 1-80 letters, .* got '../x'",
    )


def no_cluster():
    return ["--runner", "ray", "--ray-address", "127.0.0.1:9"], 2, r"ray must let this machine in at '127.0.0.1:9', it"


def ray_client():
    text = r"a ray cluster must be given as auto or host:port, got 'ray://127.0.0.1:9'; make this machine a node of it"
    return ["--runner", "ray", "--ray-address", "ray://127.0.0.1:9"], 2, text


def no_download():
    where = [*options("tasks=['delaney']", "task={}"), "--data-dir", "empty"]
    text = r"DeepChem cannot get delaney-processed.csv of task delaney .*put the file into the data folder \(--data-dir"
    return where, 1, text


CASES = [
    no_column,
    unreadable_smiles,
    one_class_in_a_part,
    empty_part,
    no_file,
    small_corpus,
    gpus,
    cpus,
    name_that_leaves_its_folder,
    empty_name,
    unknown_name,
    task_that_leaves_its_folder,
    no_cluster,
    ray_client,
    no_download,
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHEMBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("CHEMBENCH_DATA_DIR", raising=False)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing answers there: no network
    return tmp_path


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_one_sentence_and_nothing_is_trained(case, place, capsys, monkeypatch):
    if case is no_download and find_spec("deepchem") is None:
        pytest.skip("DeepChem has no release for this Python")
    given, status, text = case()
    monkeypatch.setattr("chembench.trial.run_item", never)
    assert cli.run([*BASE, *given]) == status
    told = capsys.readouterr()
    last = told.err.splitlines()[-1]
    assert re.search(text, last), told.err
    assert told.out == ""
    assert "Traceback" not in told.err and "bug" not in last
    assert not list(place.rglob("trials")) and not list(place.rglob("ledger.jsonl"))
    assert not (place.parent / "x").exists()
    assert not list(place.rglob("pretrained"))


def never(work):
    raise AssertionError(f"{work.kind} was begun")


def test_what_does_not_parse_is_listed_in_the_file_that_is_named(place, capsys):
    given, _, text = unreadable_smiles()
    assert cli.run([*BASE, *given]) == 1
    listed = re.search(text, capsys.readouterr().err)
    assert listed and Path(listed[1]).read_text().splitlines() == ["nonsense"] * 20


def test_a_bad_second_command_loses_nothing(small, monkeypatch, capsys):
    monkeypatch.chdir(small.root.parents[1])
    before = {path: path.stat().st_mtime_ns for path in small.root.rglob("*") if path.is_file()}
    assert cli.run([*small.command, *options("corpus.files=['nowhere.smi']")]) == 2
    assert "was started with another space" in capsys.readouterr().err
    assert cli.run([*small.command, *options("finetune.learning_rate={low=1, high=0.1}")]) == 2
    assert "learning_rate" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in small.root.rglob("*") if path.is_file()} == before
