"""Every mistake of a space is told at once, in our words, with its place and line."""

import pytest
from space_files import only_problem, problems_of, written
from sweep_fakes import ADAPTIVE_MODEL

from chembench.sweep.reading import read_space

MANY = """\
name = "../x"
tasks = ["delaney", "own", "delany"]
extra = 3

[corpus]
files = ["a.smi"]
validation = "12"

[grid]
architecture = ["roberta", "robert"]
size = ["w6y", "w16x1"]
molecules = 4

[grid.finetune]
methodd = ["full"]

[task.own]
kind = "regression"

[pretrain]
epochs = [1, 2]
learning_rate = 1e-3
lossy = 1

[finetune]
method = ["full", "lora"]
learning_rat = 1
dropout = { low = 0.3, high = 0.1, when = { method = "full" } }
batch_size = "x"

[search]
sampler = "tpee"
trials = 0

[tokenizer]
allow_lossy = true

[resources]
gpus = [[1]]
pretrain = 3
"""
PLACES = {
    "name": 1,
    "tasks": 2,
    "extra": 3,
    "corpus.validation": 7,
    "grid.architecture": 10,
    "grid.size": 11,
    "grid.molecules": 12,
    "grid.finetune.methodd": 15,
    "task.own.targets": 17,
    "pretrain.epochs": 21,
    "pretrain.lossy": 23,
    "finetune.learning_rate": 25,
    "finetune.method": 26,
    "finetune.learning_rat": 27,
    "finetune.dropout": 28,
    "finetune.batch_size": 29,
    "search.sampler": 32,
    "search.trials": 33,
    "tokenizer.allow_lossy": 36,
    "resources.gpus": 39,
    "resources.pretrain": 40,
}


def test_every_mistake_of_a_file_is_told_at_once_each_with_its_place_and_line(tmp_path):
    problems = problems_of(written(tmp_path, text=MANY))
    heads = [told.split(": ")[0:2] for told in problems]
    assert {place: where for where, place in heads} == {p: f"mine.toml (line {n})" for p, n in PLACES.items()}
    assert len(heads) == len(PLACES), "none of them twice, and nothing that only follows from another"


def test_a_wrong_type_hides_neither_deeper_mistakes_nor_those_of_other_tables():
    problems = problems_of("full_grid", ["search.trials=0", "finetune.learning_rat=1", 'grid.size=["w6y"]'])
    assert [told.split(": ")[0] for told in problems] == [
        "--set search.trials",
        "--set finetune.learning_rat",
        "--set grid.size",
    ]
    assert "input should be greater than 0, got 0" in problems[0]
    assert "unknown key 'learning_rat'. Did you mean 'learning_rate'?" in problems[1]
    assert "unknown size 'w6y'. Known: 13M, 30M, w{width}x{layers}" in problems[2]


def test_a_value_of_the_file_is_told_by_its_line_beside_one_from_the_command_line(tmp_path):
    path = written(tmp_path, search__trials=0, seed=3)
    line = 1 + (tmp_path / "mine.toml").read_text().splitlines().index("trials = 0")
    assert problems_of(path, ["seed=-1"]) == [
        "--set seed: input should be greater than or equal to 0, got -1",
        f"mine.toml (line {line}): search.trials: input should be greater than 0, got 0",
    ]


def test_part_of_a_distribution_from_the_command_line_is_told_as_such():
    assert problems_of("quickstart", ["finetune.learning_rate.low=1.0"]) == [
        "--set finetune.learning_rate: low must be below high, got low = 1.0, high = 0.003; swap them"
    ]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"search__trials": "3"}, "search.trials: input should be a valid integer, got '3'"),
        ({"search__trials": 3.0}, "search.trials: input should be a valid integer, got 3.0"),
        ({"seed": True}, "seed: input should be a valid integer, got True"),
        ({"search": 3}, "search: must be a table, got 3; write [search]"),
        ({"finetune": [1]}, "finetune: must be a table, got [1]; write [finetune]"),
        ({"grid": 3}, "grid: must be a table, got 3; write [grid]"),
        ({"tasks": []}, "tasks: tuple should have at least 1 item after validation, not 0, got []"),
        ({"tasks": "delaney"}, "tasks: input should be a valid array, got 'delaney'"),
        ({"corpus__validation": None}, "corpus.validation: 'validation' has no default and must be given"),
        ({"search": None}, "search: 'search' has no default and must be given"),
        ({"resources": {"cpus": -1}}, "resources.cpus: input should be greater than 0, got -1"),
        (
            {"resources": {"cpus": 2, "threads": 3}},
            "resources.threads: an item may have as many threads as cpus, got 3 on 2; raise cpus",
        ),
        (
            {"resources": {"cpus": 0.5, "confirm": {"threads": 2}}},
            "resources.confirm.threads: an item may have as many threads as cpus, got 2 on 1; raise cpus",
        ),
        ({"resources": {"pretrain": {"gpu": 1}}}, "resources.pretrain.gpu: unknown key 'gpu'. Did you mean 'gpus'?"),
        ({"search__trails": 3}, "search.trails: unknown key 'trails'. Did you mean 'trials'?"),
        ({"serach": {"trials": 3}}, "serach: unknown key 'serach'. Did you mean 'search'?"),
        ({"search__sampler": "tpee"}, "search.sampler: unknown sampler 'tpee'. Did you mean 'tpe'?"),
        ({"search__pruner": "medain"}, "search.pruner: unknown pruner 'medain'. Did you mean 'median'?"),
        (
            {"controls__baselines": ["forest"]},
            "controls.baselines: unknown baseline 'forest'. Did you mean 'forest_ecfp",
        ),
        ({"pretrain__epochs": "three"}, "pretrain.epochs: input should be a valid number, got 'three'"),
        ({"pretrain__epoch": 1}, "pretrain.epoch: unknown key 'epoch'. Did you mean 'epochs'?"),
        ({"pretrain__bart": 3}, "pretrain.bart: must be a table of [pretrain] fields, got 3; write [pretrain.bart]"),
        ({"pretrain__dropout": {"low": 0.0, "high": 0.1}}, "pretrain.dropout: pre-training is fixed for all trials"),
        (
            {"pretrain__steps": 5},
            "pretrain.epochs: exactly one of epochs and steps must be given, got epochs and steps",
        ),
        (
            {"pretrain__epochs": None},
            "pretrain.epochs: exactly one of epochs and steps must be given, got none of them",
        ),
        ({"pretrain__learning_rate": None}, "pretrain.learning_rate: 'learning_rate' has no default"),
        (
            {"finetune__method": "ful"},
            "finetune.method: input should be 'full', 'lora', 'linear_probe' or 'descriptor_p",
        ),
        ({"finetune__learning_rate": None}, "finetune.learning_rate: 'learning_rate' has no default and must be given"),
        ({"grid__size": ["13"]}, "grid.size: unknown size '13'. Did you mean '13M'?"),
        ({"grid__size": [13]}, "grid.size: 'size' takes names, got 13; write it in quotes"),
        ({"grid__molecules": [10, -1]}, "grid.molecules: molecules must be a whole number >= 0, got -1"),
        ({"grid__molecules": [10.5]}, "grid.molecules: molecules must be a whole number >= 0, got 10.5"),
        ({"grid__molecules": [10, 10]}, "grid.molecules: an axis must not repeat a value, got [10, 10]; drop one"),
        (
            {"grid__molecules": []},
            "grid.molecules: an axis of [grid] is a list of values, got []; give at least one value",
        ),
        (
            {"grid__molecules": [0, 10]},
            "grid.molecules: 0 molecules is the from-scratch control; set controls.from_scr",
        ),
        ({"grid__molecules": [[1]]}, "grid.molecules.0: must be text, a number, true or false, got [1]"),
        ({"grid__architecure": ["bart"]}, "grid.architecure: unknown axis 'architecure'. Did you mean 'architecture'?"),
        ({"grid__search": {"trials": [1]}}, "grid.search.trials: unknown axis 'search.trials'."),
        ({"grid__finetune": {"loss": ["l3"]}}, "grid.finetune.loss: input should be 'mse', 'l1' or 'huber', got 'l3'"),
        ({"grid__pretrain": {"dropout": [2.0]}}, "grid.pretrain.dropout: input should be less than 1, got 2.0"),
        (
            {"tokenizer": {"allow_lossy": True}},
            "tokenizer.allow_lossy: a lossy tokenizer is legal in paper mode alone; set",
        ),
        ({"tasks": ["delany"]}, "tasks: unknown task 'delany'. Did you mean 'delaney'?"),
        ({"tasks": ["../x"]}, "tasks: unknown task '../x'."),
        ({"tasks": ["delaney", "delaney"]}, "tasks: tasks must not repeat a name, got ['delaney', 'delaney']"),
        (
            {"task": {"lipo": {"max_rows": 5}}},
            "task.lipo: [task.lipo] is defined but not listed in tasks; add it there",
        ),
        ({"name": "../x"}, "name: space name must be 1-80 letters, digits, '.', '_' or '-' and start with a letter"),
    ],
)
def test_one_mistake_is_told_once_and_nothing_that_follows_from_it(tmp_path, changes, text):
    assert only_problem(tmp_path, **changes).startswith(text)


@pytest.mark.parametrize(
    ("table", "ways_out"),
    [
        ("finetune__method", "write { choice = ['full'] } for the sampler, or [grid.finetune] method = ['full']"),
        ("pretrain__epochs", "write one value, or [grid.pretrain] epochs = ['full']"),
    ],
)
def test_a_list_outside_the_grid_names_both_ways_out(tmp_path, table, ways_out):
    told = only_problem(tmp_path, **{table: ["full"]})
    assert told.endswith(f"a list makes cells, which only [grid] may do, got ['full']; {ways_out}")


def test_a_range_upside_down_says_so(tmp_path):
    told = only_problem(tmp_path, finetune__learning_rate={"low": 1e-2, "high": 1e-4})
    assert told == "finetune.learning_rate: low must be below high, got low = 0.01, high = 0.0001; swap them"


def test_the_grid_sampler_needs_choices(tmp_path):
    told = only_problem(tmp_path, search__sampler="grid")
    assert told.startswith("search.sampler: 'grid' needs a choice for every searched parameter; dropout is a range")


def test_a_condition_on_what_is_not_there_or_never_holds_is_refused(tmp_path):
    dropout = {"low": 0.0, "high": 0.1}
    told = only_problem(tmp_path, finetune__dropout=dropout | {"when": {"metod": "full"}})
    assert told.startswith(
        "finetune.dropout: condition on 'metod', which is no fixed value or choice of the recipe; give"
    )
    told = only_problem(tmp_path, finetune__dropout=dropout | {"when": {"learning_rate": 1e-3}})
    assert told.startswith("finetune.dropout: condition on 'learning_rate', which is no fixed value or choice")
    told = only_problem(tmp_path, finetune__dropout=dropout | {"when": {"method": "lora"}})
    assert told == (
        "finetune.dropout: condition method = 'lora' can never hold; method is one of ['full', 'linear_probe']"
    )


def test_a_condition_may_stand_on_an_axis_of_the_grid(tmp_path):
    path = written(tmp_path, finetune__method=None, grid__finetune={"method": ["full", "lora"]})
    assert read_space(path).grid["finetune.method"] == ("full", "lora")


def test_a_field_without_default_cannot_stand_under_a_condition(tmp_path):
    rate = {"low": 1e-4, "high": 1e-2, "when": {"method": "full"}}
    assert "has no default, so it cannot stand under a condition" in only_problem(
        tmp_path, finetune__learning_rate=rate
    )


def test_a_ring_of_conditions_is_refused(tmp_path):
    ring = {
        "finetune__lora_rank": {"choice": [4, 8], "when": {"batch_size": 16}},
        "finetune__batch_size": {"choice": [16, 32], "when": {"lora_rank": 4}},
    }
    assert only_problem(tmp_path, **ring) == "finetune: conditions of batch_size, lora_rank form a ring; break it"


def test_an_axis_stands_in_the_grid_or_in_the_model_and_not_in_both(tmp_path):
    both = only_problem(tmp_path, model={"size": "w32x1"})
    assert both == "grid.size: the axis 'size' stands both under [grid] and [model]; keep one"
    neither = only_problem(tmp_path, grid__size=None)
    assert neither.startswith(
        "grid.size: the axis 'size' stands nowhere; give a list under [grid], or a value or choice"
    )
    assert not read_space(written(tmp_path, grid__size=None, model={"size": "w32x1"})).is_adaptive


def test_a_field_stands_in_the_grid_or_in_its_table_and_not_in_both(tmp_path):
    told = only_problem(tmp_path, grid__finetune={"max_epochs": [1, 2]})
    assert told == "finetune.max_epochs: 'max_epochs' stands both under [grid.finetune] and [finetune]; keep one"
    told = only_problem(tmp_path, grid__pretrain={"dropout": [0.0, 0.1]}, pretrain__llama={"dropout": 0.2})
    assert told == "pretrain.llama.dropout: 'dropout' stands both under [grid.pretrain] and [pretrain.llama]; keep one"


def test_a_choice_in_the_model_allows_no_grid(tmp_path):
    told = only_problem(tmp_path, grid__size=None, model={"size": {"choice": ["w32x1", "w64x1"]}})
    assert told.startswith("grid: a choice under [model] makes the space adaptive, which has no [grid]; write fixed")


@pytest.mark.parametrize(
    ("axis", "value", "text"),
    [
        ("size", ["w32x1"], "write { choice = ['w32x1'] } for the sampler, or [grid] size = ['w32x1']"),
        ("molecules", {"low": 1, "high": 9}, "an axis takes a value or a choice, not a range or a condition"),
        ("size", {"choise": ["w32x1"]}, "unknown key 'choise' in a distribution (did you mean 'choice'?)"),
        ("archtecture", "bart", "unknown key 'archtecture'. Did you mean 'architecture'?"),
        ("architecture", {"choice": ["bart", "bert"]}, "unknown architecture 'bert'. Did you mean 'bart'?"),
    ],
)
def test_a_wrong_axis_of_an_adaptive_space_is_told(tmp_path, axis, value, text):
    told = only_problem(tmp_path, grid=None, model=ADAPTIVE_MODEL | {axis: value})
    assert told.startswith(f"model.{axis}: ") and text in told


def test_from_scratch_alone_needs_no_pre_training(tmp_path):
    model = ADAPTIVE_MODEL | {"molecules": 0}
    assert read_space(written(tmp_path, grid=None, model=model, pretrain=None)).pretrain == {}
