"""A sweep on disk and its items as objects."""

from types import SimpleNamespace

import pytest
from kept_sweeps import SPACE, begun, carried_out
from sweep_fakes import drive, engine_on, paths_in

import chembench
from chembench import upkeep
from chembench.errors import ConfigError, DataError, UnknownNameError
from chembench.handles import Sweep
from chembench.paths import SweepPaths
from chembench.predictor import Predictor


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> Sweep:
    """A finished one."""
    folder = tmp_path_factory.mktemp("kept")
    with begun(folder) as ledger:
        drive(engine_on(SPACE, ledger), carried_out)
    return Sweep(paths_in(folder).root)


def test_an_item_is_shown_whatever_stands_in_its_files(sweep):
    item = sweep.trials(kind="confirm")[0]
    item.paths.curves.write_bytes(b"\xff\n" + item.paths.curves.read_bytes())
    item.paths.error.write_bytes(b"Traceback \xff")
    shown = sweep.show(item.uid[:6])
    assert [point["epoch"] for point in shown["curves"]] == [1, 2, 3]
    assert shown["error"] == "Traceback \ufffd"


OTHER_PLACES = {"cache_dir": "/c", "data_dir": "/d", "mood": "good"}
DREAMT = {"sampler": "dream", "trials": 3}
UNKNOWN = {
    "places": ({"places": OTHER_PLACES}, r"the places of sweep 'one' must be .*, mood: is not known"),
    "space": ({"space": {**SPACE.as_data(), "mood": 1}}, r"the space of sweep 'one' must be .*unknown key 'mood'"),
    "sampler": ({"space": {**SPACE.as_data(), "search": DREAMT}}, r"the space .*unknown sampler 'dream'"),
}
USES = {
    "resume": lambda root: chembench.resume(root, show_progress=False),
    "retry": lambda root: chembench.open_sweep(root).retry(show_progress=False),
    "sync": lambda root: upkeep.sync_sweep(SweepPaths(root)),
    "doctor": lambda root: upkeep.examine_sweep(SweepPaths(root)),
    "merge": lambda root: chembench.merge([root], name="new", out=root.parent),
}


@pytest.mark.parametrize("version", ["999.1.0", "0.0.1"])
@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
@pytest.mark.parametrize(("changes", "told"), UNKNOWN.values(), ids=UNKNOWN.keys())
def test_a_sweep_with_settings_that_this_version_does_not_know_is_left_alone(tmp_path, changes, told, use, version):
    with begun(tmp_path) as ledger:
        header = {**ledger.state.header, "versions": {"chembench-sweeps": version}, **changes}
        ledger.append({"event": "sweep", "name": "one", "space_digest": SPACE.digest, "header": header})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    of_later = rf": chembench 999\.1\.0 wrote the sweep, this is {chembench.__version__}; go on with 999\.1\.0"
    way_out = of_later if version == "999.1.0" else "; restore the ledger from a copy"
    with pytest.raises(DataError, match=rf"{told}.*{way_out}") as caught:
        use(paths_in(tmp_path).root)
    assert "\n" not in str(caught.value)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_what_cannot_be_retried_is_refused_before_anything_is_begun(sweep, monkeypatch):
    monkeypatch.setattr("chembench.driver.drive", lambda *_: pytest.fail("it was driven"))
    uid = sweep.trials()[0].uid
    with pytest.raises(ConfigError, match=rf"only a failed item can be retried, {uid} is finished; see chembench stat"):
        sweep.retry(uids=[uid])
    with pytest.raises(UnknownNameError, match=r"unknown cause 'nope'\. Known: bug, data, nan"):
        sweep.retry("nope")


@pytest.mark.parametrize(
    ("look", "told"),
    [
        (lambda sweep: sweep.trials(status="finnished"), r"unknown status 'finnished'\. Did you mean 'finished'\?"),
        (lambda sweep: sweep.trials(kind="nope"), r"unknown kind 'nope'\. Known: baseline, confirm"),
        (lambda sweep: sweep.failed("nope"), r"unknown cause 'nope'\. Known: bug, data"),
    ],
)
def test_a_status_kind_or_cause_that_there_is_not_is_told(sweep, look, told):
    with pytest.raises(UnknownNameError, match=told):
        look(sweep)


@pytest.mark.parametrize("uid", [None, 5])
def test_a_uid_is_text(sweep, uid):
    with pytest.raises(ConfigError, match=rf"an item is found by its uid or the start of it, as text, got {uid}; see"):
        sweep.trial(uid)


def test_a_predictor_reads_smiles_as_people_write_them():
    seen = []
    predictor = Predictor(SimpleNamespace(target_names=("y",), predict=lambda smiles: seen.append(smiles) or "numbers"))
    assert predictor.predict(["OCC", "C1=CC=CC=C1"]) == "numbers" and predictor.target_names == ("y",)
    assert seen == [["CCO", "c1ccccc1"]]
    with pytest.raises(DataError, match=r"1 of 2 are not, first number 1 'not one'; leave them out"):
        predictor.predict(["C", "not one"])
