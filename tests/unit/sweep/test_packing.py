"""Items share a GPU as their measured memory allows; what does not fit into its share gets a whole one."""

import pytest
from sweep_fakes import drive, engine_on, failed, finished, grid_space, of_kind, opened

from chembench.specs import Outcome
from chembench.sweep.packing import SHARES, gpu_share, make_of, peaks_of
from chembench.sweep.space import ResourceShape

DEVICE_MIB = 80_000.0
PACKED = {"cpus": 1, "gpus": 1, "pack": True, "precision": "bf16"}


def space(**changes):
    few = {"tasks": ["freewilson_pic50"], "grid__molecules": [20], "controls__from_scratch": False}
    return grid_space(**{**few, "resources": PACKED, **changes})


def measured(outcome, peak_mib, device="cuda"):
    told = {"device": device, "peak_memory_mib": peak_mib, "device_memory_mib": DEVICE_MIB}
    return outcome.model_copy(update={"measured": {**outcome.measured, **told}})


def needing(peak_mib):
    """Runs items that need so much, if their share holds it; else they run out of memory."""

    def run(work):
        holds = work.memory_fraction is None or peak_mib <= work.memory_fraction * DEVICE_MIB
        return measured(finished(work) if holds else failed(work, "oom"), peak_mib)

    return run


@pytest.fixture
def engine(tmp_path):
    with opened(space(), tmp_path) as ledger:
        yield engine_on(space(), ledger)


def shares_of(works):
    """Make -> the shares of its items, in the order in which they were handed out."""
    found = {}
    for work in works:
        found.setdefault(make_of(work.spec), []).append(work.memory_fraction)
    return found


@pytest.mark.parametrize(
    ("peak_mib", "share"),
    [(7_000.0, 0.125), (8_000.0, 0.25), (15_000.0, 0.25), (16_000.0, 0.5), (40_000.0, 1.0), (79_000.0, 1.0)],
)
def test_later_items_get_the_smallest_share_that_holds_the_peak_with_a_margin(engine, peak_mib, share):
    found = shares_of(of_kind(drive(engine, needing(peak_mib)), "search", "rescore", "confirm")).values()
    assert {shares[0] for shares in found} == {1.0}, "nothing of their make was measured before"
    assert {later for shares in found for later in shares[1:]} == {share}


def test_an_item_is_measured_by_those_of_its_own_make_alone(engine):
    def run(work):
        return needing(30_000.0 if work.spec.finetune.method == "full" else 1_000.0)(work)

    works = drive(engine, lambda work: run(work) if work.kind in ("search", "rescore", "confirm") else finished(work))
    assert len({make[1] for make in shares_of(of_kind(works, "search"))}) == 2, "two architectures"
    for make, shares in shares_of(of_kind(works, "search", "rescore", "confirm")).items():
        assert set(shares[1:]) <= {0.5 if make[4] == "full" else 0.125}


def test_the_largest_peak_of_a_make_decides(engine):
    first, second = [item for item in engine.state.items.values() if item.kind == "pretrain"][:2]
    make = make_of(first.spec)
    second.spec = first.spec
    for item, peak in ((first, 20_000.0), (second, 10_000.0)):
        item.outcome = measured(finished_like(item), peak)
    assert peaks_of(engine.state) == {make: (1.25 * 20_000.0 + 512.0) / DEVICE_MIB}


def finished_like(item):
    return Outcome(uid=item.uid, attempt=1, kind=item.kind, status="finished")


def test_what_ran_out_of_memory_in_its_share_gets_a_whole_gpu_and_does_not_fail(engine):
    sizes = {}

    def run(work):
        peak = sizes.setdefault(work.uid, 1_000.0 if len(sizes) % 3 else 30_000.0)
        return needing(peak)(work) if work.kind != "baseline" else finished(work)

    works = drive(engine, run)
    assert {item.status for item in engine.state.items.values()} == {"finished"}
    short = [
        work
        for work in works
        if work.memory_fraction is not None and sizes.get(work.uid, 0) > work.memory_fraction * DEVICE_MIB
    ]
    assert short, "some items were given too small a share"
    for work in short:
        again = next(w for w in works if w.uid == work.uid and w.attempt == work.attempt + 1)
        assert again.memory_fraction == 1.0
        assert engine.state.items[work.uid].losses == 0


def test_what_runs_out_of_memory_on_a_whole_gpu_fails(engine):
    works = drive(
        engine, lambda work: measured(failed(work, "oom"), 80_000.0) if work.kind == "pretrain" else finished(work)
    )
    pretrains = of_kind(works, "pretrain")
    assert {work.memory_fraction for work in pretrains} == {1.0} and {work.attempt for work in pretrains} == {1}
    assert {i.status for i in engine.state.items.values() if i.kind == "pretrain"} == {"failed"}


def test_the_shape_in_flight_is_the_one_that_was_handed_out(engine):
    work = engine.ask()
    assert engine.shape_of(work) == ResourceShape(cpus=1, gpus=1)
    assert engine.shape_of(work.model_copy(update={"memory_fraction": 0.25})) == ResourceShape(cpus=1, gpus=0.25)


def test_room_is_asked_for_with_the_share_of_the_item(engine):
    asked = set()

    def fits(shape):
        asked.add(shape.gpus)
        return True

    while (work := engine.ask(fits)) is not None:
        assert engine.shape_of(work).gpus in asked
        engine.tell(needing(1_000.0)(work))
    assert engine.done and asked == {0.125, 1.0}


@pytest.mark.parametrize("resources", [{"cpus": 1, "gpus": 1}, {"cpus": 1, "pack": True}, {"gpus": 2, "pack": True}])
def test_without_pack_or_with_none_or_several_gpus_nothing_is_shared(tmp_path, resources):
    with opened(space(resources=resources), tmp_path) as ledger:
        works = drive(engine_on(space(resources=resources), ledger), needing(1_000.0))
    assert {work.memory_fraction for work in works} == {None}


def test_what_was_measured_on_a_processor_says_nothing_of_a_gpu(engine):
    works = drive(engine, lambda work: measured(finished(work), 1_000.0, device="cpu"))
    assert {work.memory_fraction for work in works if work.kind != "baseline"} == {1.0}
    assert {work.memory_fraction for work in works if work.kind == "baseline"} == {None}


def test_packing_is_no_part_of_what_a_space_is():
    assert space().identity() == space(resources={**PACKED, "pack": False, "gpus": 0}).identity()
    assert space().digest == space(resources={**PACKED, "pack": False}).digest


def test_a_share_is_one_of_few_so_that_actors_are_used_again(engine):
    item = next(item for item in engine.state.items.values() if item.kind == "pretrain")
    peaks = {make_of(item.spec): 0.3}
    assert gpu_share(peaks, item, ResourceShape(gpus=0.5)) in SHARES
    assert gpu_share({}, item, ResourceShape(gpus=0.5)) == 0.5
    assert gpu_share(peaks, item, ResourceShape(gpus=0)) == 0
    assert gpu_share(peaks, item, ResourceShape(gpus=2)) == 2
