import subprocess
import sys
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from chembench.config import Spec, canonical_json, digest_of, round_float, stable_seed
from chembench.specs import BaselineSpec, Cell, FinetuneSpec, ModelSpec, PretrainSpec, TrialSpec

MODEL = ModelSpec(
    architecture="roberta",
    hidden=64,
    ffn=256,
    layers=2,
    heads=2,
    vocabulary=100,
    pad_id=0,
    bos_id=1,
    eos_id=2,
)
PRETRAIN = PretrainSpec(
    model=MODEL, outputs=217, molecules=1000, corpus="c" * 12, labels="a" * 12, tokenizer="b" * 12,
    learning_rate=1e-3, epochs=3,
)  # fmt: skip
RECIPE = FinetuneSpec(learning_rate=3e-4)
TRIAL = TrialSpec(
    kind="confirm", model=MODEL, pretrained="d" * 12, descriptors=217, tokenizer="b" * 12, task="delaney",
    task_kind="regression", targets=1, data="e" * 12, test_rows="f" * 12, sealed="0" * 12, finetune=RECIPE, head_seed=7,
)  # fmt: skip
BASELINE = BaselineSpec(
    baseline="forest_ecfp4", task="delaney", task_kind="regression", targets=1, data="e" * 12, test_rows="f" * 12,
    sealed="0" * 12,
)  # fmt: skip

GOLDEN = {
    "cell": (Cell(architecture="roberta", size="w64x2", molecules=1000), "c14c4fc8bb12"),
    "model": (MODEL, "24655bad775f"),
    "pretrain": (PRETRAIN, "31d756c5c13d"),
    "recipe": (RECIPE, "886442c67430"),
    "trial": (TRIAL, "c3c82da347e2"),
    "baseline": (BASELINE, "dbca7d97bd00"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_digests_of_today_stay_the_digests_of_tomorrow(name):
    """A change here renames every stored result: give a new field its ``born_later`` value instead."""
    spec, digest = GOLDEN[name]
    assert spec.digest == digest


def test_a_digest_is_the_same_in_another_process():
    code = (
        "from chembench.specs import FinetuneSpec, Cell; "
        "print(FinetuneSpec(learning_rate=3e-4).digest); "
        "print(Cell(molecules=1000, size='w64x2', architecture='roberta').digest)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert told == [GOLDEN["recipe"][1], GOLDEN["cell"][1]]


@pytest.mark.parametrize("field", ["seed", "outputs", "molecules", "batch_size", "threads", "code_schema"])
def test_every_field_counts(field):
    changed = PRETRAIN.model_copy(update={field: getattr(PRETRAIN, field) + 1})
    assert changed.digest != PRETRAIN.digest


def test_a_field_inside_a_field_counts():
    other = TRIAL.model_copy(update={"finetune": FinetuneSpec(learning_rate=3e-4, batch_size=64)})
    assert other.digest != TRIAL.digest


class Before(Spec):
    rate: float


class After(Spec):
    """`Before`, one release later."""

    born_later: ClassVar[Mapping[str, Any]] = {"momentum": 0.0}

    rate: float
    momentum: float = 0.0


class Outer(Spec):
    inner: After | Before


class Holder(Spec):
    many: tuple[After | Before, ...]
    named: dict[str, After | Before]


def test_a_field_born_later_leaves_old_digests_as_they_were():
    assert After(rate=0.1).digest == Before(rate=0.1).digest
    assert Outer(inner=After(rate=0.1)).digest == Outer(inner=Before(rate=0.1)).digest


def test_a_field_born_later_is_left_out_inside_tuples_and_tables():
    old, new = Before(rate=0.1), After(rate=0.1)
    assert Holder(many=(new,), named={"a": new}).digest == Holder(many=(old,), named={"a": old}).digest
    used = After(rate=0.1, momentum=0.9)
    assert Holder(many=(used,), named={"a": new}).digest != Holder(many=(new,), named={"a": new}).digest
    assert Holder(many=(new,), named={"a": used}).digest != Holder(many=(new,), named={"a": new}).digest


def test_a_field_born_later_counts_once_it_is_used():
    assert After(rate=0.1, momentum=0.9).digest != Before(rate=0.1).digest
    assert Outer(inner=After(rate=0.1, momentum=0.9)).digest != Outer(inner=After(rate=0.1)).digest


@pytest.mark.parametrize(
    ("value", "rounded"),
    [(0.1 + 0.2, 0.3), (1.23456789e-5, 1.23457e-5), (123456789.0, 123457000.0), (0.0, 0.0), (-2.0000001, -2.0)],
)
def test_floats_are_rounded_to_six_digits(value, rounded):
    assert round_float(value) == rounded
    assert Before(rate=value).rate == rounded


def test_the_last_bit_of_a_float_does_not_rename_an_item():
    assert FinetuneSpec(learning_rate=3e-4).digest == FinetuneSpec(learning_rate=3e-4 * (1 + 1e-12)).digest
    assert FinetuneSpec(learning_rate=3e-4).digest != FinetuneSpec(learning_rate=3.001e-4).digest


class Series(Spec):
    values: tuple[float, ...] = ()
    named: dict[str, float] = {}


def test_floats_in_a_tuple_are_rounded():
    assert Series(values=(0.1 + 0.2, 1.0)).values == (0.3, 1.0)


def test_a_moment_in_a_table_keeps_its_digits():
    assert Series(named={"started_at": 1795370123.25}).named == {"started_at": 1795370123.25}


def test_a_spec_cannot_be_changed():
    with pytest.raises(ValidationError, match="frozen"):
        RECIPE.learning_rate = 1.0


def test_an_unknown_field_is_refused():
    with pytest.raises(ValidationError, match="learning_rat\n  Extra inputs are not permitted"):
        FinetuneSpec(learning_rate=1e-3, learning_rat=1e-3)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 0.0])
def test_a_learning_rate_that_is_no_positive_number_is_refused(value):
    with pytest.raises(ValidationError, match="learning_rate"):
        FinetuneSpec(learning_rate=value)


def test_a_spec_survives_the_way_through_json():
    for spec, _ in GOLDEN.values():
        assert type(spec).model_validate_json(spec.model_dump_json()) == spec


def test_canonical_json_does_not_depend_on_the_order_of_keys():
    assert canonical_json({"b": 1, "a": {"d": 2, "c": "ä"}}) == '{"a":{"c":"\\u00e4","d":2},"b":1}'
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


def test_seeds_are_stable_and_differ_between_streams():
    assert stable_seed("sweep", 0, "study") == 805047875
    seeds = {stable_seed(stream, index) for stream in "abc" for index in range(200)}
    assert len(seeds) == 600
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert stable_seed("a", "b") != stable_seed("ab")
