"""Benchmarks keep up with what they measure; their speed is nobody's test."""

import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.mark.parametrize("name", sorted(file.stem for file in FOLDER.glob("*.py") if file.stem != "gpu"))
def test_every_script_can_be_imported(benchmark, name):
    assert benchmark(name).__doc__


def test_going_on_is_timed_in_its_parts(benchmark, tmp_path):
    resume = benchmark("resume")
    space = resume.make(tmp_path, "few", 2)
    taken = resume.take_up(tmp_path, "few", space)
    assert set(taken["parts"]) == set(resume.PARTS) and taken["trials"] >= 2 and taken["left"]
