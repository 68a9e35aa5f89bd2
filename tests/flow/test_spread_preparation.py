"""Molecules are read and labelled on the nodes of a cluster: the same comes out, whatever becomes of the nodes."""

import contextlib
import os
import threading
from functools import partial

import pytest
from node_items import wait_until
from node_work import broken, died, doubled, refused, slow, unknown, where

from chembench.chem.descriptors import rdkit_version
from chembench.chem.encoders import SmilesTokenizer
from chembench.chem.pool import HERE
from chembench.data import corpora, shards
from chembench.data.corpora import prepare_corpus
from chembench.data.shards import build_shards
from chembench.data.specs import CorpusSpec, LabelSpec
from chembench.errors import ConfigError, DataError, DiskFullError, RunError, UnknownNameError
from chembench.paths import CachePaths
from chembench.sweep import ray_pool
from chembench.sweep.ray_pool import RayTasks


@pytest.fixture
def pool(nodes):
    while len(nodes.alive) < 2:
        nodes.add()
    return RayTasks(nodes.address)


def test_both_nodes_work_and_the_order_stays(pool):
    found = list(pool.map(where, range(40)))
    assert [number for number, _ in found] == list(range(40))
    pids = {pid for _, pid in found}
    assert len(pids) >= 2 and os.getpid() not in pids


def test_no_more_is_taken_than_keeps_the_nodes_at_work(pool):
    taken = []
    with contextlib.closing(pool.map(abs, (taken.append(n) or n for n in range(1000)))) as found:
        assert next(found) == (0, 0)
        assert len(taken) < 20


def test_a_single_item_needs_no_cluster():
    assert list(RayTasks("192.0.2.1:1").map(where, [1])) == [(1, os.getpid())]


def prepared(place, pool, tmp_path, monkeypatch):
    """The files of corpus and shards; in small parts, so that there are many."""
    monkeypatch.setattr(corpora, "_CHUNK", 100)
    monkeypatch.setattr(shards, "_PIECE", 50)
    cache = CachePaths(tmp_path)
    corpus = prepare_corpus(CorpusSpec(files=("a.smi",), validation=20), cache, place, pool)
    labels = LabelSpec(descriptors="paper105", statistics_molecules=300)
    made = build_shards(corpus, SmilesTokenizer(), labels, 600, cache, pool)
    folders = [corpus.folder, *made.train, *made.validation, made.statistics]
    return {file.relative_to(cache.root): file.read_bytes() for place in folders for file in place.iterdir()}


def test_a_corpus_and_its_labels_are_the_same_byte_for_byte(pool, tmp_path, monkeypatch):
    lines = [f"{'C' * a}N{'C' * b}O{'C' * c}" for a in range(1, 10) for b in range(1, 10) for c in range(1, 10)]
    (tmp_path / "a.smi").write_text("\n".join(lines))
    here = prepared(tmp_path, HERE, tmp_path / "here", monkeypatch)
    there = prepared(tmp_path, pool, tmp_path / "there", monkeypatch)
    assert len(here) > 15 and here == there


def test_work_of_a_node_that_dies_is_done_by_another(pool, nodes, tmp_path):
    def kill():
        wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        nodes.kill_node_of(int((tmp_path / "pid").read_text()))
        (tmp_path / "go").touch()

    thread = threading.Thread(target=kill)
    thread.start()
    found = list(pool.map(partial(doubled, folder=tmp_path), range(30)))
    thread.join()
    assert found == [(number, 2 * number) for number in range(30)]


def test_a_preparation_without_nodes_ends_with_the_way_out(nodes, pool, tmp_path):
    def kill():
        wait_until((tmp_path / "pid").exists)
        for node in nodes.alive:
            nodes.kill(node)

    thread = threading.Thread(target=kill)
    thread.start()
    said = []
    with pytest.raises(RunError, match="none is alive for 1 s; start one and give the same") as told:
        list(
            RayTasks(nodes.address, say=said.append, node_seconds=1.0).map(partial(doubled, folder=tmp_path), range(9))
        )
    thread.join()
    (tmp_path / "go").touch()
    assert told.value.cause == "worker-lost" and len(said) == 1


def test_no_more_is_out_than_is_allowed(nodes, pool):
    taken = []
    allowed = RayTasks(nodes.address, most=1)
    with contextlib.closing(allowed.map(where, (taken.append(n) or n for n in range(1000)))) as found:
        assert next(found)[0] == 0
        assert len(taken) == 2, "one is looked ahead for"


def test_other_work_on_the_cluster_is_told_and_waited_for(nodes, pool, monkeypatch):
    import ray

    monkeypatch.setattr(ray_pool, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(ray_pool, "LOOK_SECONDS", 0.1)
    said = []
    found = list(RayTasks(nodes.address, say=said.append).map(slow, range(3)))
    assert [number for number, _ in found] == [0, 1, 2] and not ray.is_initialized()
    assert said == [
        "nothing has come back from the cluster for a while: its CPUs are slow, or have other work; waiting"
    ]


def test_an_error_on_this_side_leaves_no_ray_behind(pool, tmp_path, monkeypatch):
    import ray

    def no_space(smiles):
        raise DiskFullError("no space")

    (tmp_path / "a.smi").write_text("\n".join("C" * n for n in range(1, 500)))
    monkeypatch.setattr(corpora, "_CHUNK", 50)
    monkeypatch.setattr(corpora, "_order", no_space)
    with pytest.raises(DiskFullError) as kept:
        prepare_corpus(CorpusSpec(files=("a.smi",), validation=20), CachePaths(tmp_path), tmp_path, pool)
    assert kept and not ray.is_initialized()


def test_what_is_wrong_with_a_molecule_is_told_as_it_is_here(pool):
    with pytest.raises(DataError, match=r"^0 cannot be read; drop it$"):
        list(pool.map(refused, range(9)))
    with pytest.raises(UnknownNameError, match="Did you mean 'MolWt'"):
        list(pool.map(unknown, range(9)))


@pytest.mark.parametrize(
    ("work", "told"),
    [
        (broken, r"they did not \(ZeroDivisionError: .*0 is nothing.*\); give them"),
        (died, r"they did not \(\w+Error: "),
    ],
)
def test_a_node_that_cannot_is_told_in_one_sentence(pool, work, told):
    with pytest.raises(RunError, match=told) as caught:
        list(pool.map(work, range(2)))
    assert caught.value.cause == "worker-lost" and "\n" not in str(caught.value)


def test_nodes_with_another_rdkit_are_refused(pool, monkeypatch):
    monkeypatch.setattr(ray_pool, "versions_here", lambda: (("RDKit", "1999.09.1"), ("chembench.chem", "old")))
    with pytest.raises(
        ConfigError, match=r"has RDKit 20\S+, this machine 1999\.09\.1; install the same there, or begin"
    ):
        list(pool.map(where, range(9)))


def test_nodes_with_other_code_are_refused(pool, monkeypatch):
    monkeypatch.setattr(ray_pool, "versions_here", lambda: (("RDKit", rdkit_version()), ("chembench.chem", "old")))
    with pytest.raises(ConfigError, match=r"has chembench.chem \w{12}, this machine old; install the same there"):
        list(pool.map(where, range(9)))
