import subprocess
import sys

import pytest

from chembench import registry
from chembench.errors import UnknownNameError
from chembench.registry import Registry

TABLES = {name: value for name, value in vars(registry).items() if isinstance(value, Registry)}


def test_a_name_loads_what_its_row_says():
    assert Registry("thing", {"dumps": "json:dumps"}).load("dumps")([1]) == "[1]"


def test_an_unknown_name_is_refused_with_the_nearest_one():
    with pytest.raises(
        UnknownNameError,
        match=r"unknown architecture 'robert'\. Did you mean 'roberta'\? Known: bart, llama, roberta\.",
    ):
        registry.ARCHITECTURES.require("robert")


def test_a_name_far_from_all_gets_no_suggestion():
    with pytest.raises(UnknownNameError, match=r"^unknown runner 'zzz'\. Known: ray, serial\.$"):
        registry.RUNNERS.load("zzz")


def test_names_are_listed_in_the_order_of_the_table():
    table = Registry("thing", {"b": "x:y", "a": "x:z"})
    assert list(table) == ["b", "a"]
    assert "a" in table and "c" not in table


def test_listing_names_imports_nothing():
    code = (
        "import sys, chembench.registry as r; [list(t) for t in vars(r).values() if isinstance(t, r.Registry)]; "
        "print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    ours = {name for name in loaded if name.startswith("chembench.")}
    assert ours == {"chembench.registry", "chembench.errors"}


@pytest.mark.parametrize(
    ("table", "name"), [(table, name) for table, registered in TABLES.items() for name in registered]
)
def test_every_row_of_the_tables_loads(table, name):
    assert callable(TABLES[table].load(name))
