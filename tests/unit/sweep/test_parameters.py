"""What a space may say about one setting."""

import pytest

from chembench.specs import FinetuneSpec, PretrainSpec
from chembench.sweep.parameters import Parameter, as_toml, check_values, parse_parameter

SETTINGS = [
    "full",
    "none",
    3,
    1e-4,
    True,
    {"choice": [16, 32]},
    {"choice": ["full", "lora"]},
    {"low": 1e-5, "high": 1e-3, "log": True},
    {"low": 0.0, "high": 0.5, "step": 0.125},
    {"low": 2, "high": 8, "step": 2, "when": {"method": "lora"}},
    {"choice": [0.1, 0.2], "when": {"class_weights": True, "method": "full"}},
]


@pytest.mark.parametrize("raw", SETTINGS)
def test_a_setting_comes_back_as_it_was_written(raw):
    parameter = parse_parameter(raw, "finetune", "x")
    assert as_toml(parameter) == raw
    assert parse_parameter(as_toml(parameter), "finetune", "x") == parameter


def test_numbers_are_rounded_to_six_digits():
    assert parse_parameter(0.123456789, "finetune", "x").fixed == 0.123457
    assert parse_parameter({"choice": [1.00000049]}, "finetune", "x").choice == (1.0,)
    assert parse_parameter({"low": 0.12345678, "high": 1.0}, "finetune", "x").low == 0.123457


def test_none_is_a_value_and_is_not_searched():
    assert parse_parameter("none", "finetune", "patience") == Parameter()
    assert not Parameter().is_searched


WRONG = [
    ({"low": 1.0, "high": 0.1}, "low must be below high, got low = 1.0, high = 0.1; swap them"),
    ({"low": 1.0, "high": 1.0000001}, "low must be below high"),
    ({"low": "a", "high": 1.0}, "low must be a finite number, got 'a'"),
    ({"low": True, "high": 1.0}, "low must be a finite number, got True"),
    ({"low": 0.0, "high": float("inf")}, "high must be a finite number, got inf"),
    ({"low": 1.0}, "a distribution needs low and high, or choice"),
    ({"low": 0.0, "high": 1.0, "log": True}, "log needs low > 0, got low = 0.0"),
    ({"low": 0.1, "high": 1.0, "log": 1}, "log must be true or false, got 1"),
    ({"low": 0.1, "high": 1.0, "log": True, "step": 0.1}, "log and step exclude each other"),
    ({"low": 0.0, "high": 1.0, "step": -0.1}, "step must be a number > 0, got -0.1"),
    ({"low": 1, "high": 9, "step": 0.5}, "step must be a whole number when low and high are, got 0.5"),
    ({"low": 0.0, "high": 1.0, "step": 0.3}, "step must divide high - low = 1.0, got step = 0.3"),
    ({"low": 0.000001, "high": 5.000001, "step": 0.5}, "must fit into 6 digits together"),
    ({"low": 0.1, "hihg": 1.0}, r"unknown key 'hihg' in a distribution \(did you mean 'high'\?\); known: choice"),
    ({"choice": []}, r"choice must be a list with at least one value, got \[\]"),
    ({"choice": "full"}, "choice must be a list with at least one value, got 'full'"),
    ({"choice": [1, 1]}, r"choice must not repeat a value, got \[1, 1\]"),
    ({"choice": [0.12345678, 0.12345679]}, "choice must not repeat a value"),
    ({"choice": [[1], 2]}, r"choice must hold single values, got \[1\]"),
    ({"choice": [1, 2], "low": 1}, "choice stands alone, without low"),
    ({"choice": [1, 2], "when": "lora"}, "when must be a table of single values such as .*, got 'lora'"),
    ({"choice": [1, 2], "when": {"method": ["lora"]}}, "when must be a table of single values"),
]


@pytest.mark.parametrize(("raw", "text"), WRONG)
def test_a_setting_that_makes_no_sense_is_refused(raw, text):
    with pytest.raises(ValueError, match=text):
        parse_parameter(raw, "finetune", "x")


@pytest.mark.parametrize(
    ("table", "ways_out"),
    [
        ("finetune", r"write \{ choice = \[1, 2\] \} for the sampler, or \[grid.finetune\] x = \[1, 2\]"),
        ("model", r"write \{ choice = \[1, 2\] \} for the sampler, or \[grid\] x = \[1, 2\]"),
        ("pretrain", r"write one value, or \[grid.pretrain\] x = \[1, 2\]"),
        ("pretrain.bart", r"write one value, or \[grid.pretrain\] x = \[1, 2\]"),
    ],
)
def test_a_list_outside_the_grid_names_the_ways_out_that_exist(table, ways_out):
    with pytest.raises(ValueError, match=rf"only \[grid\] may do, got \[1, 2\]; {ways_out}$"):
        parse_parameter([1, 2], table, "x")


REFUSED = [
    ("batch_size", 32.0, "valid integer, got 32.0"),
    ("batch_size", "32", "valid integer, got '32'"),
    ("batch_size", True, "valid integer, got True"),
    ("batch_size", {"choice": [16, 0]}, "greater than 0, got 0"),
    ("batch_size", {"low": 0.5, "high": 8.0}, "valid integer, got 0.5"),
    ("learning_rate", float("inf"), "finite number, got inf"),
    ("learning_rate", "1e-4", "valid number, got '1e-4'"),
    ("learning_rate", "none", "valid number, got None"),
    ("class_weights", 1, "valid boolean, got 1"),
    ("method", "ful", "input should be 'full', 'lora', .* got 'ful'"),
    ("dropout", {"low": 0.0, "high": 1.0}, "less than 1, got 1.0"),
    (
        "weight_decay",
        {"low": 0, "high": 1},
        "draw whole numbers only, got low = 0, high = 1; write low = 0.0, high = 1.0",
    ),
]


@pytest.mark.parametrize(("key", "raw", "text"), REFUSED)
def test_every_value_that_can_be_drawn_fits_its_field(key, raw, text):
    with pytest.raises(ValueError, match=text):
        check_values(parse_parameter(raw, "finetune", key), FinetuneSpec, key)


@pytest.mark.parametrize(
    ("key", "raw"),
    [
        ("learning_rate", 1),
        ("patience", "none"),
        ("lora_rank", {"low": 2, "high": 8}),
        ("weight_decay", {"choice": [0, 0.1]}),
        ("max_grad_norm", "none"),
    ],
)
def test_values_that_fit_pass(key, raw):
    check_values(parse_parameter(raw, "finetune", key), FinetuneSpec, key)


def test_pre_training_fields_are_held_to_their_own_specification():
    with pytest.raises(ValueError, match="input should be 'mtr', got 'mlm'"):
        check_values(Parameter(fixed="mlm"), PretrainSpec, "objective")
