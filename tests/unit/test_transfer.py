"""What crosses between driver and worker: all of it, whole, to those entitled, with not one folder in common."""

import threading
from pathlib import Path

import pytest

from chembench import transfer
from chembench.errors import ConfigError, DiskFullError, StorageError
from chembench.paths import CachePaths, RunPaths, SweepPaths, read_json, write_json
from chembench.specs import FinetuneSpec, Inputs, ModelSpec, Outcome, PretrainSpec, TrialSpec, Work
from chembench.storage import Storage
from chembench.sweep import ray_worker
from chembench.sweep.stopping import ask_to_stop
from chembench.transfer import Exchange, attempt_key, carried_out, carry_out_away, not_carried_out, open_exchange

MODEL = ModelSpec(
    architecture="roberta", hidden=8, ffn=16, layers=1, heads=1, vocabulary=9, pad_id=1, bos_id=0, eos_id=2
)
PRETRAIN = PretrainSpec(
    model=MODEL, outputs=3, molecules=4, corpus="c", labels="l", tokenizer="tok", learning_rate=1e-3, epochs=1
)
RECIPE = FinetuneSpec(learning_rate=1e-3)
GENEROUS = 60.0
"""Seconds after which a thing that must happen has not."""


def trial(kind: str = "search", pretrained: str | None = PRETRAIN.digest) -> TrialSpec:
    return TrialSpec(
        kind=kind, model=MODEL, pretrained=pretrained, descriptors=3, tokenizer="tok", task="t", task_kind="regression",
        targets=1, data="d", test_rows="r", sealed="seal" if kind == "confirm" else None, finetune=RECIPE, head_seed=0,
    )  # fmt: skip


class World:
    """A driver and a worker, each with a cache of its own, and what lies between them."""

    def __init__(self, folder: Path) -> None:
        self.driver, self.worker = CachePaths(folder / "driver"), CachePaths(folder / "worker")
        self.paths = SweepPaths(folder / "sweeps" / "one")
        self.paths.root.mkdir(parents=True)
        self.url = str(folder / "between")
        self.exchange = open_exchange(self.url, self.paths, self.driver)
        self.exchange.begin("one", self.prepared(), [], lambda line: None)
        self.storage = self.exchange.storage

    def prepared(self) -> list[Path]:
        """Prepared inputs in the driver's cache; each holds its own name."""
        places = [self.driver.tokenizer("tok"), self.driver.shard("s0"), self.driver.shard("v0")]
        places += [self.driver.labels("l"), self.driver.split("d0"), self.driver.sealed("seal")]
        for place in places:
            place.mkdir(parents=True, exist_ok=True)
            (place / "name").write_text(place.name)
        return places

    def work(self, spec, attempt: int = 1) -> Work:
        cache, is_pretrain = self.driver, spec.kind == "pretrain"
        inputs = Inputs(
            tokenizer=str(cache.tokenizer("tok")),
            shards=(str(cache.shard("s0")),) if is_pretrain else (),
            validation_shards=(str(cache.shard("v0")),) if is_pretrain else (),
            statistics=str(cache.labels("l")) if is_pretrain else None,
            checkpoint=str(cache.pretrained(PRETRAIN.digest)) if is_pretrain or spec.pretrained else None,
            split=None if is_pretrain else str(cache.split("d0")),
            sealed=str(cache.sealed("seal")) if spec.kind == "confirm" else None,
        )
        folder = self.paths.run(spec.digest, attempt).root
        return Work(uid=spec.digest, attempt=attempt, spec=spec, inputs=inputs, folder=str(folder), sweep="one")

    def carried(self, spec, run, attempt: int = 1, **options) -> Outcome:
        work = self.exchange.hand_out(self.work(spec, attempt))
        return carry_out_away(work, run, self.worker, **options)


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def finished(work: Work, status: str = "finished", **more) -> Outcome:
    """Leave what an item leaves, and say so."""
    paths = RunPaths(Path(work.folder))
    paths.root.mkdir(parents=True, exist_ok=True)
    write_json(paths.spec, work.model_dump(mode="json"))
    paths.curves.write_text("{}\n")
    if work.kind == "pretrain" and status == "finished":
        Path(work.inputs.checkpoint).mkdir(parents=True)
        (Path(work.inputs.checkpoint) / "weights").write_text("of a worker")
    outcome = Outcome(uid=work.uid, attempt=work.attempt, kind=work.kind, status=status, **more)
    write_json(paths.result, outcome.model_dump(mode="json"))
    return outcome


def pretrained(world: World) -> None:
    world.carried(PRETRAIN, finished)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


# --------------------------------------------------------------------------------------------- what a worker sees


def test_a_pretraining_reads_what_was_prepared_from_its_own_machine(world):
    seen = {}

    def look(work):
        places = [work.inputs.tokenizer, *work.inputs.shards, *work.inputs.validation_shards, work.inputs.statistics]
        seen.update({place: (Path(place) / "name").read_text() for place in places})
        assert work.storage is None
        assert Path(work.folder).is_relative_to(world.worker.root)
        return finished(work)

    assert world.carried(PRETRAIN, look).status == "finished"
    cache = world.worker
    assert seen == {
        str(cache.tokenizer("tok")): "tok",
        str(cache.shard("s0")): "s0",
        str(cache.shard("v0")): "v0",
        str(cache.labels("l")): "l",
    }


def test_sealed_labels_reach_the_machines_of_the_entitled_alone(world):
    pretrained(world)
    for kind in ("search", "rescore"):
        world.carried(trial(kind), finished)
        assert not world.worker.sealed("seal").exists()
    world.carried(trial("confirm"), finished)
    assert (world.worker.sealed("seal") / "name").read_text() == "seal"


def test_a_checkpoint_crosses_from_the_worker_that_made_it_to_the_one_that_reads_it(world, tmp_path):
    pretrained(world)
    work = world.exchange.hand_out(world.work(trial()))
    elsewhere = CachePaths(tmp_path / "other worker")

    def look(work):
        assert work.inputs.checkpoint == str(elsewhere.pretrained(PRETRAIN.digest))
        assert (Path(work.inputs.checkpoint) / "weights").read_text() == "of a worker"
        return finished(work)

    assert carry_out_away(work, look, elsewhere).status == "finished"


def test_a_checkpoint_that_the_driver_has_is_not_made_again(world):
    folder = world.driver.pretrained(PRETRAIN.digest)
    folder.mkdir(parents=True)
    (folder / "weights").write_text("of an earlier sweep")

    def look(work):
        assert (Path(work.inputs.checkpoint) / "weights").read_text() == "of an earlier sweep"
        return Outcome(uid=work.uid, attempt=work.attempt, kind=work.kind, status="finished")

    world.carried(PRETRAIN, look)


def test_a_checkpoint_that_was_removed_from_the_storage_is_sent_again_if_the_driver_has_it(world, tmp_path):
    pretrained(world)
    key = f"pretrained/{PRETRAIN.digest}"
    world.storage.pull_folder(key, world.driver.pretrained(PRETRAIN.digest))
    world.storage.remove(key)
    assert world.exchange.has_checkpoint(PRETRAIN.digest)
    work = world.exchange.hand_out(world.work(trial()))
    assert carry_out_away(work, finished, CachePaths(tmp_path / "other worker")).status == "finished"


def test_a_trunk_crosses_to_the_worker_that_continues_it(world, tmp_path):
    pretrained(world)
    sharing = {"schedule": "wsd", "epochs": 1, "steps": None, "share_trunk": True, "continues": PRETRAIN.digest}
    spec = PRETRAIN.model_copy(update=sharing)
    work = world.work(spec)
    places = {"checkpoint": str(world.driver.pretrained(spec.digest)), "trunk": work.inputs.checkpoint}
    work = world.exchange.hand_out(work.model_copy(update={"inputs": work.inputs.model_copy(update=places)}))
    elsewhere = CachePaths(tmp_path / "other worker")

    def look(work):
        assert work.inputs.trunk == str(elsewhere.pretrained(PRETRAIN.digest))
        assert (Path(work.inputs.trunk) / "weights").read_text() == "of a worker"
        return finished(work)

    assert carry_out_away(work, look, elsewhere).status == "finished"
    assert world.exchange.has_checkpoint(spec.digest)


def test_a_checkpoint_that_is_nowhere_is_told(world):
    assert not world.exchange.has_checkpoint(PRETRAIN.digest)
    with pytest.raises(StorageError, match=f"must hold pretrained/{PRETRAIN.digest}, it does not"):
        world.carried(trial(), finished)
    pretrained(world)
    assert world.exchange.has_checkpoint(PRETRAIN.digest)


def test_a_worker_leaves_no_folder_of_work_behind(world):
    def dies(work):
        raise KeyboardInterrupt

    pretrained(world)
    with pytest.raises(KeyboardInterrupt):
        world.carried(trial(), dies)
    assert list(world.worker.work.iterdir()) == []


def test_of_several_workers_on_a_machine_one_brings_what_all_lack(world, monkeypatch):
    fetched = []

    def counted(self, place, local):
        fetched.append(Path(place).name)
        get_file(self, place, local)

    system = type(world.storage._system)
    get_file = system.get_file
    monkeypatch.setattr(system, "get_file", counted)
    works = [world.exchange.hand_out(world.work(PRETRAIN, attempt)) for attempt in range(1, 5)]
    gate = threading.Barrier(len(works))

    def run(work):
        return Outcome(uid=work.uid, attempt=work.attempt, kind=work.kind, status="pruned")

    def carry(work):
        gate.wait(GENEROUS)
        carry_out_away(work, run, world.worker)

    threads = [threading.Thread(target=carry, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GENEROUS)
    assert fetched == ["name"] * 4, "tokenizer, two shards and statistics, each once"


# ---------------------------------------------------------------------------------------- what comes to the driver


def test_an_attempt_ends_up_in_the_folder_of_the_sweep(world):
    pretrained(world)
    assert world.exchange.take_in(PRETRAIN.digest, 1)
    run = world.paths.run(PRETRAIN.digest, 1)
    assert files(run.root) == {"spec.json", "curves.jsonl", "result.json"}
    assert list(run.root.parent.iterdir()) == [run.root]
    assert world.exchange.take_in(PRETRAIN.digest, 1)


def test_a_lost_attempt_leaves_nothing_to_take_in(world):
    assert not world.exchange.take_in(PRETRAIN.digest, 1)
    assert not world.paths.trials.exists()


def test_what_a_driver_left_that_died_while_it_took_an_attempt_in_is_replaced(world):
    pretrained(world)

    def with_model(work):
        model = RunPaths(Path(work.folder)).model
        model.mkdir(parents=True)
        (model / "weights").write_text("whole")
        write_json(model / "settings.json", {"kind": "fitted"})
        return finished(work)

    spec = trial("confirm")
    world.carried(spec, with_model)
    run = world.paths.run(spec.digest, 1)
    run.model.mkdir(parents=True)
    (run.model / "half").write_text("half")
    run.stop.touch()
    assert world.exchange.take_in(spec.digest, 1)
    left = {"spec.json", "curves.jsonl", "result.json", "model/weights", "model/settings.json", "stop"}
    assert files(run.root) == left and not world.driver.pretrained(PRETRAIN.digest).exists()


def test_the_checkpoint_that_the_head_of_a_probe_belongs_to_comes_with_it(world):
    pretrained(world)

    def with_head(work):
        model = RunPaths(Path(work.folder)).model
        write_json(model / "settings.json", {"reads": {"pretrained": PRETRAIN.digest, "folder": "/on/the/worker"}})
        return finished(work)

    spec = trial("confirm")
    world.carried(spec, with_head)
    assert world.exchange.take_in(spec.digest, 1)
    assert (world.driver.pretrained(PRETRAIN.digest) / "weights").read_text() == "of a worker"
    settings = read_json(world.paths.run(spec.digest, 1).model / "settings.json")
    assert settings["reads"]["folder"] == str(world.driver.pretrained(PRETRAIN.digest)), "no longer the worker's"


def test_an_attempt_whose_disk_was_too_full_for_a_result_is_lost_but_its_state_is_not(world):
    def full(work):
        outcome = preempted(work)
        RunPaths(Path(work.folder)).result.unlink()
        return outcome

    world.carried(PRETRAIN, full)
    assert not world.exchange.take_in(PRETRAIN.digest, 1)
    assert world.storage.has(attempt_key("one", PRETRAIN.digest, 1, "resume"))


def test_the_result_comes_last(world, monkeypatch):
    pretrained(world)
    run, moved = world.paths.run(PRETRAIN.digest, 1), []
    replace = Path.replace

    def watched(self, target):
        if target.parent == run.root:
            moved.append(target.name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    world.exchange.take_in(PRETRAIN.digest, 1)
    assert sorted(moved) == ["curves.jsonl", "result.json", "spec.json"]
    assert moved[-1] == "result.json"


def test_no_space_at_the_driver_leaves_no_result(world, monkeypatch):
    pretrained(world)

    def full(place, local):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(world.storage._system, "get_file", full)
        with pytest.raises(DiskFullError, match="no space left on the device"):
            world.exchange.take_in(PRETRAIN.digest, 1)
    assert files(world.paths.trials) == set()
    assert world.exchange.take_in(PRETRAIN.digest, 1)


# --------------------------------------------------------------------------------------------- going on, stopping


def preempted(work: Work) -> Outcome:
    RunPaths(Path(work.folder)).resume.write_text(f"state of {work.attempt}")
    return finished(work, "failed", cause="preempted")


def test_an_attempt_goes_on_from_the_newest_state_of_any_machine(world, tmp_path):
    world.carried(PRETRAIN, preempted)
    world.carried(PRETRAIN, preempted, attempt=2)
    found = []

    def look(work):
        states = [earlier.resume for earlier in RunPaths(Path(work.folder)).attempts_so_far()]
        found.append(next(state.read_text() for state in states if state.is_file()))
        return finished(work)

    elsewhere = CachePaths(tmp_path / "other worker")
    carry_out_away(world.exchange.hand_out(world.work(PRETRAIN, 3)), look, elsewhere)
    assert found == ["state of 2"]
    assert not any(world.storage.has(attempt_key("one", PRETRAIN.digest, n, "resume")) for n in (1, 2, 3))


def test_the_state_of_a_preempted_attempt_is_no_part_of_its_folder(world):
    world.carried(PRETRAIN, preempted)
    world.exchange.take_in(PRETRAIN.digest, 1)
    assert not world.paths.run(PRETRAIN.digest, 1).resume.exists()
    assert world.storage.has(attempt_key("one", PRETRAIN.digest, 1, "resume"))


def wait_for(holds) -> None:
    waited = threading.Event()
    for _ in range(int(GENEROUS / 0.02)):
        if holds():
            return
        waited.wait(0.02)
    raise AssertionError(f"it does not hold after {GENEROUS} s")


def test_a_state_is_sent_while_the_item_runs_so_that_a_killed_worker_loses_little(world, tmp_path):
    there = tmp_path / "seen"

    def killed(work):
        paths, key = RunPaths(Path(work.folder)), attempt_key("one", PRETRAIN.digest, 1, "resume")

        def arrived(text: str) -> bool:
            if world.storage.has(key):
                world.storage.pull_file(key, there)
                return there.read_text() == text
            return False

        for text in ("after epoch 1", "after epoch 2, which is longer"):
            new = paths.root / ".new"
            new.write_text(text)
            new.replace(paths.resume)
            wait_for(lambda text=text: arrived(text))
        raise SystemExit("killed")

    with pytest.raises(SystemExit):
        world.carried(PRETRAIN, killed, beat_seconds=0.01)
    assert there.read_text() == "after epoch 2, which is longer"
    assert not world.exchange.take_in(PRETRAIN.digest, 1)


def test_the_wish_to_stop_reaches_the_worker_of_that_attempt_alone(world):
    def until_stopped(work):
        ask_to_stop(world.paths.run(PRETRAIN.digest, 1).root)
        wait_for(RunPaths(Path(work.folder)).stop.exists)
        return preempted(work)

    def never_stopped(work):
        assert not world.storage.has(attempt_key("one", PRETRAIN.digest, 2, "stop"))
        assert not RunPaths(Path(work.folder)).stop.exists()
        return finished(work)

    with Exchange(world.storage, world.paths, world.driver, look_seconds=0.01) as world.exchange:
        world.carried(PRETRAIN, until_stopped, beat_seconds=0.01)
        assert world.exchange.take_in(PRETRAIN.digest, 1)
        world.carried(PRETRAIN, never_stopped, attempt=2, beat_seconds=0.01)


def test_a_wish_to_stop_is_sent_again_when_the_storage_failed(world, monkeypatch, caplog):
    failures = iter([StorageError("gone for a while")] * 2)

    def fails(self, local, key):
        for error in failures:
            raise error
        push_file(self, local, key)

    push_file = Storage.push_file
    monkeypatch.setattr(Storage, "push_file", fails)
    with Exchange(world.storage, world.paths, world.driver, look_seconds=0.01) as exchange:
        exchange.hand_out(world.work(PRETRAIN))
        ask_to_stop(world.paths.run(PRETRAIN.digest, 1).root)
        wait_for(lambda: world.storage.has(attempt_key("one", PRETRAIN.digest, 1, "stop")))
    assert caplog.text.count("gone for a while") == 2


def test_work_without_a_storage_is_carried_out_where_it_is(world):
    world.prepared()
    work = world.work(PRETRAIN)
    assert carried_out(work, finished).status == "finished"
    assert world.paths.run(PRETRAIN.digest, 1).result.is_file() and not world.worker.root.exists()


def test_a_storage_that_fails_for_a_while_does_not_end_the_item(world, monkeypatch, caplog):
    beaten = threading.Event()

    def fails(self, key):
        if key.endswith("/stop"):
            beaten.set()
            raise StorageError("storage 'x' cannot be read: gone")
        return has(self, key)

    has = Storage.has
    monkeypatch.setattr(Storage, "has", fails)

    def run(work):
        assert beaten.wait(GENEROUS)
        return finished(work)

    assert world.carried(PRETRAIN, run, beat_seconds=0.01).status == "finished"
    assert "cannot be read: gone" in caplog.text
    assert world.exchange.take_in(PRETRAIN.digest, 1)


def test_a_storage_that_fails_at_the_end_is_told_and_the_attempt_does_not_count(world, monkeypatch):
    def full(local, place):
        raise OSError("gone")

    monkeypatch.setattr(type(world.storage._system), "put_file", lambda self, *given: full(*given))
    with pytest.raises(StorageError, match="cannot be written: gone"):
        world.carried(PRETRAIN, finished)
    monkeypatch.undo()
    assert not world.exchange.take_in(PRETRAIN.digest, 1)


def test_a_worker_tells_why_an_attempt_could_not_cross(world):
    work = world.work(PRETRAIN)
    lost = not_carried_out(work, StorageError("the storage is gone"))
    assert (lost.uid, lost.attempt, lost.cause, lost.message) == (work.uid, 1, "worker-lost", "the storage is gone")
    full = not_carried_out(work, DiskFullError("no space"))
    assert (full.cause, full.measured) == ("preempted", {"disk_full": True})


def test_a_worker_of_ray_tells_a_storage_that_lacks_what_it_reads(world, monkeypatch):
    monkeypatch.setenv("CHEMBENCH_CACHE_DIR", str(world.worker.root))
    work = world.exchange.hand_out(world.work(trial()))
    told = Outcome.model_validate_json(ray_worker.carry_out({"work": work.model_dump_json()})[ray_worker.UNWRITTEN])
    assert (told.uid, told.cause) == (work.uid, "worker-lost")
    assert f"must hold pretrained/{PRETRAIN.digest}, it does not" in told.message


# ------------------------------------------------------------------------------------------------ one sweep, one place


def began(world: World, paths: SweepPaths | None = None, url: str | None = None, running=()) -> list[str]:
    """Begin with a storage, as a driver does; what it said."""
    said = []
    exchange = open_exchange(url or world.url, paths or world.paths, world.driver)
    exchange.begin("one", world.prepared(), running, said.append)
    return said


def test_a_sweep_goes_on_with_its_storage_and_sends_nothing_twice(world, tmp_path):
    assert began(world) == []
    assert began(world, url=str(tmp_path / "other")) == [
        f"storage: sending prepared input {n} of 6" for n in range(1, 7)
    ]
    assert began(world) == []


def test_what_ended_while_no_driver_was_there_is_taken_in(world):
    pretrained(world)
    spec = trial()
    began(world, running=[(PRETRAIN.digest, 1), (spec.digest, 1)])
    assert world.paths.run(PRETRAIN.digest, 1).result.is_file()
    assert not world.paths.run(spec.digest, 1).root.exists()


def test_a_sweep_whose_folder_was_renamed_keeps_its_name_in_the_storage(world):
    pretrained(world)
    renamed = SweepPaths(world.paths.root.rename(world.paths.root.with_name("renamed")))
    began(world, renamed, running=[(PRETRAIN.digest, 1)])
    assert renamed.run(PRETRAIN.digest, 1).result.is_file()


def test_another_sweep_of_the_same_name_is_refused(world, tmp_path):
    other = SweepPaths(tmp_path / "other" / "one")
    other.root.mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"holds another sweep called 'one'; give this one a --name of its own, or"):
        began(world, other)
    assert list(other.root.iterdir()) == []


def test_a_storage_that_cannot_be_used_is_told_before_anything_is_written(tmp_path):
    (tmp_path / "file").write_text("")
    paths, cache = SweepPaths(tmp_path / "sweeps" / "one"), CachePaths(tmp_path / "cache")
    with pytest.raises(ConfigError, match="correct --storage, or the credentials in the environment"):
        open_exchange(str(tmp_path / "file" / "x"), paths, cache)
    for place in (tmp_path, paths.root, cache.root):
        with pytest.raises(ConfigError, match="must lie apart from sweeps and caches"):
            open_exchange(str(place), paths, cache)
    assert not paths.root.exists()


def test_the_beat_is_short_enough_to_lose_little():
    assert 1 <= transfer.BEAT_SECONDS <= 15
