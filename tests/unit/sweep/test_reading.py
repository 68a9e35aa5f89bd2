"""From a name or a file to a checked space: shipped files, tables of tasks, --set, identity."""

import tomllib

import pytest
import tomli_w
from space_files import only_problem, problems_of, written
from sweep_fakes import GRID, changed, grid_space

from chembench.errors import ConfigError, UnknownNameError
from chembench.paths import spaces_dir
from chembench.sweep.plan import make_plan
from chembench.sweep.reading import read_space, shipped_spaces, space_file, space_from

SHIPPED = [info.name for info in shipped_spaces()]


def test_the_spaces_of_the_issue_are_shipped():
    assert {"quickstart", "full_grid", "full_adaptive", "paper_2405_00949", "full_grid_tiny"} <= set(SHIPPED)
    assert "full_adaptive_tiny" in SHIPPED and all(info.description for info in shipped_spaces())


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_space_reads_plans_and_is_called_like_its_file(name):
    space = read_space(name)
    plan = make_plan(space)
    assert space.name == name and not plan.infeasible and plan.total_items > 0
    assert plan.adaptive == (not plan.cells)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_resolved_space_reads_back_as_the_same_sweep(name, tmp_path):
    space = read_space(name)
    path = tmp_path / "space.toml"
    path.write_text(tomli_w.dumps(space.as_data()))
    again = read_space(str(path))
    assert again.digest == space.digest
    assert again.as_data() == space.as_data()


def test_axes_nones_and_conditions_read_back_too(tmp_path):
    settings = [
        'grid.finetune.patience=["none", 3]',
        'finetune.max_grad_norm="none"',
        "grid.pretrain.dropout=[0.0, 0.1]",
    ]
    path = tmp_path / "full.toml"
    text = space_file("full_grid").read_text().replace("\npatience = 8", "")
    path.write_text(text)
    space = read_space(str(path), settings)
    saved = tmp_path / "space.toml"
    saved.write_text(tomli_w.dumps(space.as_data()))
    assert read_space(str(saved)).digest == space.digest
    assert len(make_plan(space).cells) == 18 * 4 and space.parameters["dropout"].when == (("method", "full"),)


def test_an_unknown_space_names_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown space 'full_gird'. Did you mean 'full_grid'\? Known: full_ad"):
        read_space("full_gird")


def test_a_missing_file_says_where_the_shipped_ones_are(tmp_path):
    with pytest.raises(ConfigError, match=r"space file \S+gone.toml does not exist; see `chembench spaces`"):
        read_space(str(tmp_path / "gone.toml"))


@pytest.mark.parametrize("content", [b"a = \n", b"a = 1\na = 2\n", b"\xff\xfe"])
def test_what_is_no_toml_is_told_with_the_file(tmp_path, content):
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"^broken.toml: not valid TOML: "):
        read_space(str(path))


def test_relative_paths_start_from_the_file(tmp_path):
    assert read_space(written(tmp_path)).base == str(tmp_path)


@pytest.mark.parametrize(
    "relative",
    [
        {"corpus__files": ["rdkit:NCI/first_5K.smi", "mine.smi"]},
        {"tokenizer": {"file": "tok.json"}},
        {"tasks": ["mine"], "task": {"mine": {"file": "mine.csv", "kind": "regression", "targets": ["y"]}}},
    ],
)
def test_a_saved_space_finds_its_files_from_anywhere_and_is_the_same_space(tmp_path, relative, monkeypatch):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    home.mkdir(), elsewhere.mkdir()
    monkeypatch.chdir(home)
    for space in (read_space(written(home, **relative)), space_from(changed(GRID, **relative))):
        saved = elsewhere / "saved.toml"
        saved.write_text(tomli_w.dumps(space.as_data()))
        with monkeypatch.context() as patch:
            patch.chdir(elsewhere)
            again = read_space(str(saved))
            assert again.base == str(home)
            assert again.identity() == space.identity() and "base" not in space.identity()
            assert space_from(space.as_data()).as_data() == again.as_data()


def test_a_base_is_a_folder_beside_the_file_and_can_be_set(tmp_path):
    path = written(tmp_path, base="data", corpus__files=["mine.smi"])
    assert read_space(path).base == str(tmp_path / "data")
    assert read_space(path, ["base=/elsewhere"]).base == "/elsewhere"


def test_a_space_without_files_of_its_own_is_saved_without_a_place(tmp_path):
    absolute = {"corpus__files": [str(tmp_path / "mine.smi"), "rdkit:NCI/first_5K.smi", "https://x.org/a.smi"]}
    assert "base" not in read_space(written(tmp_path, **absolute)).as_data()


def test_a_file_without_a_name_is_called_like_the_file(tmp_path):
    assert read_space(written(tmp_path, "mine.toml")).name == "mine"


def test_a_table_of_a_built_in_task_changes_single_fields_of_it(tmp_path):
    space = read_space(written(tmp_path, tasks=["delaney"], task={"delaney": {"max_rows": 64, "split": "random"}}))
    changed_task, known = space.task_def("delaney"), grid_space(tasks=["delaney"]).task_def("delaney")
    assert changed_task == known.model_copy(update={"max_rows": 64, "split": "random"})


def test_a_table_of_another_name_defines_a_task(tmp_path):
    own = {"file": "mine.csv", "kind": "regression", "targets": ["pIC50"], "smiles": "structure"}
    space = read_space(written(tmp_path, tasks=["mine"], task={"mine": own}))
    assert space.task_def("mine").smiles == "structure" and space.task_def("mine").name == "mine"


@pytest.mark.parametrize(
    ("name", "table", "text"),
    [
        ("../x", {"file": "a.csv", "kind": "regression", "targets": ["y"]}, 'task."../x".name: task name must be 1-80'),
        (
            "mine",
            {"kind": "regression", "targets": ["y"]},
            "task.mine: task mine must say its file, got none; give file",
        ),
        (
            "mine",
            {"file": "a.csv", "kind": "regresion", "targets": ["y"]},
            "task.mine.kind: input should be 'regression'",
        ),
        (
            "mine",
            {"file": "a.csv", "kind": "regression", "targets": ["y"], "split": "scafold"},
            "unknown split 'scafold'",
        ),
        ("mine", 3, "task.mine: must be a table, got 3; write [task.mine]"),
    ],
)
def test_a_wrong_task_is_told_with_its_place(tmp_path, name, table, text):
    assert text in only_problem(tmp_path, tasks=[name], task={name: table})


def test_the_line_of_a_quoted_table_is_found(tmp_path):
    text = (
        tomli_w.dumps(changed(GRID, tasks=["../x"]))
        + '\n[task."../x"]\nkind = "regression"\ntargets = ["y"]\nfile = "f"\n'
    )
    line = 1 + text.splitlines().index('[task."../x"]')
    assert problems_of(written(tmp_path, text=text))[0].startswith(f'mine.toml (line {line}): task."../x".name: ')


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("search.trials=7", lambda s: s.search.trials == 7),
        ("grid.molecules=[1000,4000]", lambda s: s.grid["molecules"] == (1000, 4000)),
        ("grid.size=['w32x1']", lambda s: s.grid["size"] == ("w32x1",)),
        ("search.sampler=random", lambda s: s.search.sampler == "random"),
        ('search.sampler="random"', lambda s: s.search.sampler == "random"),
        ("tokenizer.file=~/data/tok-1.json", lambda s: s.tokenizer.file == "~/data/tok-1.json"),
        ("finetune.learning_rate={low=1e-5,high=1e-4}", lambda s: s.parameters["learning_rate"].high == 1e-4),
        ("finetune.learning_rate=0.001", lambda s: s.parameters["learning_rate"].fixed == 0.001),
        ("finetune.patience=none", lambda s: s.parameters["patience"].fixed is None),
        ("controls.from_scratch=false", lambda s: s.controls.from_scratch is False),
        ("resources.pretrain={gpus=1}", lambda s: s.resources.shape("pretrain").gpus == 1),
        (" search.trials = 7 ", lambda s: s.search.trials == 7),
        ("grid.finetune.loss=['l1','mse']", lambda s: s.grid["finetune.loss"] == ("l1", "mse")),
        ("task.freewilson_pic50.max_rows=9", lambda s: s.task_def("freewilson_pic50").max_rows == 9),
    ],
)
def test_a_setting_can_be_changed_from_the_command_line(override, found):
    assert found(read_space("quickstart", [override]))


def test_the_last_override_wins():
    assert read_space("quickstart", ["search.trials=7", "search.trials=9"]).search.trials == 9


def test_every_override_that_cannot_be_read_is_told():
    overrides = ["search.trials", "=3", "grid..size=['w32x1']", "seed=", "seed=a b", "seed=1\nname='x'", "seed.low=1"]
    problems = problems_of("quickstart", overrides)
    assert len(problems) == len(overrides)
    for told in problems[:3]:
        assert told.startswith("--set needs KEY=VALUE, such as grid.molecules=[1000,4000]; got ")
    for told in problems[3:6]:
        assert told.startswith("--set seed: the value must be TOML or a bare word, got ")
    assert problems[6] == "--set seed.low: 'seed' is a value, not a table; set seed itself"


def test_the_digest_follows_what_decides_results_and_nothing_else():
    base = grid_space()
    for same in ({"name": "other"}, {"description": "x"}, {"resources": {"cpus": 3, "gpus": 0.5}}):
        assert grid_space(**same).digest == base.digest
    for other in (
        {"seed": 1},
        {"search__trials": 4},
        {"search__ask_window": 3},
        {"resources": {"threads": 2, "cpus": 2}},
        {"resources": {"precision": "bf16"}},
        {"finetune__max_epochs": 4},
        {"tasks": ["freewilson_pic50"]},
    ):
        assert grid_space(**other).digest != base.digest


def test_reading_does_not_change_what_it_is_given():
    data = changed(GRID)
    space_from(data)
    assert data == GRID
    text = space_file("quickstart").read_text()
    read_space("quickstart", ["search.trials=9"])
    assert tomllib.loads(text) == tomllib.loads(space_file("quickstart").read_text())


def test_a_file_of_descriptor_names_is_found_beside_the_space_and_written_out(tmp_path):
    text = (spaces_dir() / "full_grid_tiny.toml").read_text().replace('"paper105"', '"names.json"')
    (tmp_path / "mine.toml").write_text(text)
    (tmp_path / "names.json").write_text('["MolWt", "TPSA"]')
    assert read_space(str(tmp_path / "mine.toml")).labels.descriptors == "MolWt,TPSA"
