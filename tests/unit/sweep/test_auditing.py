"""A sweep's audit: of the inputs it was begun with, made when it begins if that takes seconds, kept in its folder."""

import dataclasses
from types import SimpleNamespace

import pytest
from audited import ALKANES, inputs_of

from chembench.data.audit import read_audit
from chembench.errors import ConfigError, DataError
from chembench.paths import CachePaths, SweepPaths
from chembench.sweep import auditing
from chembench.sweep.state import SweepState


@pytest.fixture
def cache(tmp_path):
    return CachePaths(tmp_path / "cache")


@pytest.fixture
def inputs(tmp_path, cache):
    return inputs_of(tmp_path, cache, corpus=ALKANES, scales=(5, 20))


@pytest.fixture
def paths(tmp_path):
    return SweepPaths(tmp_path / "sweep")


def audit_sweep(paths, inputs, cache):
    return auditing.audit_sweep(paths, inputs, cache, 1, lambda line: None)


def test_what_is_kept_is_not_measured_again(paths, inputs, cache, monkeypatch):
    first = audit_sweep(paths, inputs, cache)
    monkeypatch.setattr(auditing, "audit_inputs", lambda *_: pytest.fail("it is measured again"))
    assert audit_sweep(paths, inputs, cache) == first == read_audit(paths)


def test_an_audit_of_other_inputs_is_made_anew(tmp_path, paths, inputs, cache):
    audit_sweep(paths, inputs, cache)
    more = dataclasses.replace(inputs, scales=(5, 20, 25))
    assert audit_sweep(paths, more, cache).corpus.scales == (5, 20, 25)
    other = inputs_of(tmp_path, cache, seed=1)
    assert audit_sweep(paths, other, cache).corpus is None


def test_a_damaged_audit_is_made_anew(paths, inputs, cache):
    first = audit_sweep(paths, inputs, cache)
    paths.audit.write_text("{")
    assert audit_sweep(paths, inputs, cache) == first == read_audit(paths)


@pytest.fixture
def starting(inputs, monkeypatch):
    """Has a sweep begin with these inputs."""
    monkeypatch.setattr(auditing, "inputs_of_prepared", lambda *_: inputs)
    return lambda paths, cache: auditing.audit_at_start(paths, None, SimpleNamespace(replayed=None), cache, 1)


def test_a_small_sweep_is_audited_when_it_begins(paths, cache, starting):
    told = starting(paths, cache)
    leaks = read_audit(paths).leaks
    assert told == "" if not leaks else told.startswith(f"audit: {leaks} leaks")


def test_an_audit_that_cannot_be_made_is_told_and_keeps_no_sweep_from_beginning(paths, cache, starting, monkeypatch):
    def broken(*_):
        raise DataError("the corpus is gone")

    monkeypatch.setattr(auditing, "audit_sweep", broken)
    told = starting(paths, cache)
    assert told == (
        f"audit: left out, it cannot be made: the corpus is gone; try again with: chembench audit {paths.root}"
    )
    assert read_audit(paths) is None


def test_a_large_one_is_told_how(paths, inputs, cache, starting, monkeypatch):
    monkeypatch.setattr(auditing, "CHEAP_MOLECULES", 19)
    told = starting(paths, cache)
    assert (
        told
        == f"audit: left out, as it takes a while for data of this size; make it with: chembench audit {paths.root}"
    )
    assert read_audit(paths) is None
    audit_sweep(paths, inputs, cache)
    assert "left out" not in starting(paths, cache), "what is there is used"


def test_an_old_sweep_that_does_not_say_where_its_inputs_lie_is_told(paths):
    state = SweepState(name="old", header={"tasks": {}})
    with pytest.raises(ConfigError, match="an audit needs to know where the inputs of sweep 'old' lie"):
        auditing.audit_begun(paths, state, (), None, print)


def test_inputs_that_left_the_cache_are_named(cache):
    from chembench.data.catalog import TASKS
    from chembench.data.corpora import open_corpus
    from chembench.data.splits import open_split
    from chembench.data.tasks import open_task

    with pytest.raises(DataError, match=r"task delaney must lie in the cache, .*tasks/0 holds none .*prepares it anew"):
        open_task(TASKS["delaney"], "0", cache)
    with pytest.raises(DataError, match=r"the split must lie in the cache, .*splits/0 holds none .*prepares it anew"):
        open_split("0", "1", cache)
    with pytest.raises(DataError, match=r"the corpus must lie in the cache, .*corpora/0 holds none .*prepares it anew"):
        open_corpus("0", cache)
