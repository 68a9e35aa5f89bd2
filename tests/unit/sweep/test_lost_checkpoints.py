"""A checkpoint that was deleted since it was made is made again when a trial needs it, and only then."""

from pathlib import Path

from sweep_fakes import drive, essence, finished, grid_space, opened, prepared_for, swept

from chembench.paths import CachePaths
from chembench.sweep.plugin import Engine

SPACE = {"grid__architecture": ["roberta"], "grid__molecules": [20], "tasks": ["freewilson_pic50"]}


def engine_with(space, ledger, checkpoints: set[str]) -> Engine:
    return Engine(space, prepared_for(space), CachePaths(Path("/cache")), ledger, None, checkpoints.__contains__)


def keeping(checkpoints: set[str]):
    """Carries items out, and puts the checkpoints of pre-trainings among ``checkpoints``."""

    def run(work):
        if work.kind == "pretrain":
            checkpoints.add(work.uid)
        assert getattr(work.spec, "pretrained", None) in {None, *checkpoints}
        return finished(work)

    return run


def half_way(space, folder, checkpoints: set[str]) -> str:
    """Begin the sweep until its first search trial is done; the uid of its pre-training is given back."""
    with opened(space, folder) as ledger:
        engine = engine_with(space, ledger, checkpoints)
        run = keeping(checkpoints)
        while not any(i.is_final and i.kind == "search" and i.spec.pretrained for i in engine.state.items.values()):
            engine.tell(run(engine.ask()))
        return next(uid for uid, item in engine.state.items.items() if item.kind == "pretrain")


def test_the_next_trial_that_needs_it_has_it_made_again(tmp_path):
    space, checkpoints = grid_space(**SPACE), set()
    uid = half_way(space, tmp_path, checkpoints)
    checkpoints.clear()
    with opened(space, tmp_path) as ledger:
        works = drive(engine_with(space, ledger, checkpoints), keeping(checkpoints), in_flight=3)
        assert [(work.uid, work.attempt) for work in works if work.kind == "pretrain"] == [(uid, 2)]
        state = ledger.state
    undisturbed, _ = swept(space, tmp_path / "undisturbed")
    assert essence(state) == essence(undisturbed)


def test_it_waits_for_room_like_any_pre_training(tmp_path):
    space, checkpoints = grid_space(**SPACE, resources={"pretrain": {"cpus": 4}}), set()
    uid = half_way(space, tmp_path, checkpoints)
    checkpoints.clear()
    with opened(space, tmp_path) as ledger:
        engine = engine_with(space, ledger, checkpoints)
        while (work := engine.ask(lambda shape: shape.cpus < 4)) is not None:
            assert work.kind != "pretrain" and getattr(work.spec, "pretrained", None) is None
            engine.tell(finished(work))
        assert engine.ask().uid == uid


def test_one_that_no_trial_needs_any_more_stays_deleted(tmp_path):
    space = grid_space(**SPACE)
    swept(space, tmp_path)
    with opened(space, tmp_path) as ledger:
        engine = engine_with(space, ledger, set())
        assert engine.done and engine.ask() is None
        assert ledger.state.finished
