"""The README's own commands are run as they stand there; the quickstart is made smaller by ``--set``."""

import csv
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import chembench

ROOT = Path(chembench.__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()

SMALLER = [
    "--set", "grid.architecture=['roberta']", "--set", "grid.molecules=[100]", "--set", "corpus.validation=20",
    "--set", "labels.statistics_molecules=50", "--set", "labels.descriptors=paper105",
    "--set", "task.freewilson_pic50.max_rows=128", "--set", "task.freewilson_active.max_rows=128",
    "--set", "pretrain.epochs=1", "--set", "finetune.max_epochs=1", "--set", "search.trials=1",
    "--set", "confirm.rescore_top=1", "--set", "confirm.rescore_seeds=0",
]  # fmt: skip
"""Replaces nothing that the README names; the tasks stay the quickstart's."""

LEFT_OUT = {"ui": "serves until it is stopped; tests/unit/test_cli.py holds what it runs"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.DOTALL | re.MULTILINE)


def commands() -> list[list[str]]:
    """Every ``chembench`` command of the README's ``sh`` blocks, in the order they stand there, without comments."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith("chembench ")]


class Laptop:
    """A folder with the files that the README's reader would have."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "CHEMBENCH_CACHE_DIR": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
        (toml,) = blocks("toml")
        (folder / "my_assay.toml").write_text(toml)
        with (folder / "assay.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["smiles", "pIC50"])
            rings = ("c1ccccc1", "c1ccncc1", "C1CCCCC1", "c1ccc2ccccc2c1", "C1CCNCC1", "c1ccsc1", "c1ccoc1", "C1CCOCC1")
            writer.writerows((f"c1ccccc1{'C' * size}{ring}", 4 + 0.2 * size) for ring in rings for size in range(1, 9))
        (folder / "molecules.csv").write_text("id,smiles\n1,CCO\n2,nonsense\n3,c1ccccc1O\n")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "chembench.cli", *arguments]
        return subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def laptop(tmp_path_factory) -> Laptop:
    return Laptop(tmp_path_factory.mktemp("laptop"))


@pytest.fixture(scope="module")
def swept(laptop) -> Laptop:
    """The laptop after its quickstart."""
    done = laptop.run("sweep", "--space", "quickstart", *SMALLER)
    assert done.returncode == 0, done.stderr
    assert "MLflow: chembench ui" in done.stdout
    return laptop


def test_the_first_commands_are_the_makefiles():
    targets = re.findall(r"^make (\w+)", blocks("sh")[0], flags=re.MULTILINE)
    assert targets == ["quickstart", "test"]
    makefile = (ROOT / "Makefile").read_text()
    assert "quickstart: install\n\t$(BIN)/chembench sweep --space quickstart\n" in makefile
    assert re.search(r"^test: check\n\t\$\(BIN\)/python -m pytest", makefile, flags=re.MULTILINE)
    assert re.search(r"^check: install$", makefile, flags=re.MULTILINE)


@pytest.mark.parametrize(
    "command",
    [c for c in commands() if c[1] in ("spaces", "plan")],
    ids=" ".join,
)
def test_what_needs_no_sweep_runs(command, laptop):
    done = laptop.run(*command[1:])
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_doctor_runs(laptop):
    assert ["chembench", "doctor"] in commands()
    done = laptop.run("doctor")
    assert done.returncode in (0, 1)
    assert re.search(r"^\d+ ok, \d+ warn, \d+ fail$", done.stdout.splitlines()[-1])


def test_the_quickstart_is_swept_and_looked_at(swept):
    assert ["chembench", "sweep", "--space", "quickstart"] in commands()
    status = swept.run("status", "quickstart", "-f", "json")
    assert json.loads(status.stdout)["finished"] is True
    for command in commands():
        if command[1] in ("status", "leaderboard"):
            done = swept.run(*command[1:])
            assert done.returncode == 0, done.stderr
            assert "forest" in done.stdout or command[1] == "status"


def test_one_item_is_shown(swept):
    (command,) = [c for c in commands() if c[1] == "show"]
    uid = next((swept.folder / "sweeps" / "quickstart" / "trials").iterdir()).name
    done = swept.run(*[uid[:8] if word == "UID" else word for word in command[1:]])
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"uid: {uid}\n")


@pytest.mark.parametrize(
    ("verb", "told"),
    [
        ("resume", "regression board of quickstart"),
        ("retry", "nothing to retry: no item of sweep 'quickstart' has failed\n"),
        ("gc", "would delete "),
        ("sync", "boards: "),
        ("audit", "freewilson_pic50"),
        ("report", "report.html"),
        ("replay", "regression board of "),
    ],
)
def test_a_finished_sweep_is_kept_in_order(verb, told, swept):
    (command,) = [c for c in commands() if c[1] == verb]
    done = swept.run(*command[1:])
    assert done.returncode == 0, done.stderr
    assert told in done.stdout


def test_lines_are_compared_and_the_best_get_more_seeds(swept):
    (diff,), (confirm,) = ([c for c in commands() if c[1] == verb] for verb in ("diff", "confirm"))
    done = swept.run(*[word.replace("roberta-w64x2-4000", "constant") for word in diff[1:]])
    assert done.returncode == 0, done.stderr
    assert "> the first is " in done.stdout
    more = swept.run(*[word.replace("5", "4") for word in confirm[1:]])
    assert more.returncode == 0, more.stderr
    assert "confirmed on 4 head seeds: " in more.stdout and "\u2021" in more.stdout


def test_one_item_is_repeated(swept):
    (command,) = [c for c in commands() if c[1] == "rerun"]
    trials = swept.folder / "sweeps" / "quickstart" / "trials"
    uid = next(folder.parents[1].name for folder in trials.glob("*/1/predictions.csv"))
    done = swept.run(*[uid[:8] if word == "UID" else word for word in command[1:]])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].startswith("equal: ")


def test_molecules_are_predicted(swept):
    (command,) = [c for c in commands() if c[1] == "predict"]
    done = swept.run(*command[1:])
    assert done.returncode == 0, done.stderr
    with (swept.folder / "predicted.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    (column,) = [name for name in rows[0] if name.startswith("predicted_")]
    assert [row["id"] for row in rows] == ["1", "2", "3"]
    assert [bool(row[column]) for row in rows] == [True, False, True]
    assert "1 of 3 SMILES do not parse" in done.stderr


def test_own_data_is_swept(laptop):
    (command,) = [c for c in commands() if c[1] == "sweep" and "my_assay.toml" in c]
    smaller = [word.replace("search.trials=3", "search.trials=1") for word in command[1:]]
    sizes = ["grid.molecules=[100]", "grid.architecture=['llama']", "corpus.validation=20", "pretrain.epochs=1",
             "finetune.max_epochs=1", "confirm.head_seeds=1", "confirm.rescore_seeds=0", "confirm.rescore_top=1",
             "labels.statistics_molecules=50", "labels.descriptors=paper105"]  # fmt: skip
    done = laptop.run(*smaller, *(word for size in sizes for word in ("--set", size)), "--runner", "serial")
    assert done.returncode == 0, done.stderr
    assert "my_assay" in done.stdout


def test_no_command_of_the_readme_is_left_out():
    tried = {"spaces", "plan", "doctor", "status", "leaderboard", "show", "predict", "sweep"}
    tried |= {"resume", "retry", "gc", "sync", "rerun", "diff", "confirm", "audit", "report", "replay"}
    assert {command[1] for command in commands()} == tried | set(LEFT_OUT)


def test_every_file_the_readme_points_to_is_there():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert not [link for link in links if not link.startswith("http") and not (ROOT / link).exists()]


def test_every_space_and_task_is_named():
    from chembench.data.catalog import TASKS
    from chembench.paths import spaces_dir

    assert not [path.stem for path in spaces_dir().glob("*.toml") if f"`{path.stem}`" not in README]
    assert not [name for name in TASKS if f"`{name}`" not in README]
