"""A replay is a sweep like any other whose results were recorded elsewhere, and says so everywhere."""

import itertools
import json
import os
from pathlib import Path

import pytest

from chembench import doctor
from chembench.api import audit, open_sweep, resume, run_sweep
from chembench.cli import run
from chembench.errors import ConfigError, DataError
from chembench.recorded.source import read_recording
from chembench.replay import replay
from chembench.specs import Work
from chembench.sweep import ray_worker
from chembench.sweep.ledger import line_of, read_events
from chembench.sweep.reading import read_space
from chembench.sweep.results import read_outcome
from chembench.tracking.spool import records

HEADER = "architecture,size,molecules,task,task_type,repeat,validation_loss,test_score,metric"
TASKS = {"freewilson_pic50": ("regression", "rmse_normalised"), "freewilson_active": ("classification", "roc_auc")}
CELLS = tuple(itertools.product(("roberta", "llama"), ("w16x1",), (64, 128)))
PUBLISHED = (
    Path(os.environ.get("CHEMBENCH_TEST_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data"))
    / "paper_2405.00949"
    / "selected_runs.csv"
)


def score(cell: int, task: int, repeat: int) -> float:
    """A score for each line that no other line has."""
    return round(0.3 + 0.1 * cell + 0.02 * repeat + 0.001 * task, 3)


def lines(repeats: int = 3) -> list[str]:
    found = [HEADER]
    for (number, cell), (place, task), repeat in itertools.product(enumerate(CELLS), enumerate(TASKS), range(repeats)):
        kind, metric = TASKS[task]
        words = (*cell, task, kind, repeat, 0.5 + 0.01 * repeat, score(number, place, repeat), metric)
        found.append(",".join(map(str, words)))
    return found


@pytest.fixture
def rows(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHEMBENCH_CACHE_DIR", str(tmp_path / "cache"))
    return written(tmp_path / "rows.csv", lines())


def written(file: Path, text: list[str]) -> Path:
    file.write_text("\n".join(text) + "\n")
    return file


def replayed(rows: Path, **options):
    return replay(rows, space="full_grid_tiny", show_progress=False, **options)


def test_the_columns_of_the_file_are_the_axes_and_nothing_is_sampled(rows):
    sweep = replayed(rows)
    state = sweep.state()
    assert sweep.name == "full_grid_tiny-replay" and state.finished
    assert {item.cell.name for item in state.items.values()} == {f"{a}-{s}-{m}" for a, s, m in CELLS}
    assert {item.kind for item in state.items.values()} == {"search", "confirm"}
    assert {point.uid for study in state.asked.values() for point in study.values()} <= set(state.items)
    assert all(point.params == {} for study in state.asked.values() for point in study.values())
    assert state.header["confirm"]["head_seeds"] == 3
    assert sum(state.header["expected"].values()) == len(state.items)


def test_boards_give_back_every_recorded_score_and_its_unit(rows):
    boards = replayed(rows).leaderboards()
    for place, (task, (kind, _)) in enumerate(TASKS.items()):
        (section,) = boards[kind].sections
        assert section.task == task and section.unit == ("normalised" if kind == "regression" else "")
        assert "replayed from rows.csv (SHA-256 " in section.note
        assert ("multiply by the standard deviation" in section.note) == (kind == "regression")
        means = {entry.method: entry.score.mean for entry in section.entries}
        for number, (architecture, size, molecules) in enumerate(CELLS):
            expected = sum(score(number, place, repeat) for repeat in range(3)) / 3
            assert means[f"{architecture}-{size}-{molecules}"] == pytest.approx(expected, abs=1e-12)


def test_a_replay_is_never_mistaken_for_a_measurement(rows):
    sweep = replayed(rows)
    found = sweep.rows()
    assert all(row.replayed and row.device_hours is None and row.wall_seconds is None for row in found)
    assert all(row.finetune is None and row.recipe is None for row in found)
    entries = [e for board in sweep.leaderboards().values() for section in board.sections for e in section.entries]
    assert all(e.badges == ("replayed",) and e.group == "cell" and e.scope == "this checkpoint" for e in entries)
    sha256 = read_recording(rows).sha256
    assert sweep.state().header["recorded"] == {"name": "rows.csv", "sha256": sha256, "form": "csv"}
    for record in records(sweep.state(), sweep.paths, final=True):
        assert record.tags["chembench.replayed"] == f"rows.csv sha256:{sha256}"
    assert all(item.spec.recorded.endswith(f"@{sha256[:16]}") for item in sweep.state().items.values())


def test_the_same_table_gives_the_same_items_and_another_one_others(rows, tmp_path):
    first, again = replayed(rows), replayed(rows, name="again")
    changed = written(tmp_path / "other.csv", [*lines()[:-1], lines()[-1].replace("0.641", "0.8")])
    other = replayed(changed, name="other")
    assert set(first.state().items) == set(again.state().items)
    assert not set(first.state().items) & set(other.state().items)


def test_every_replicate_of_every_cell_is_an_item_of_its_own(rows):
    state = replayed(rows).state()
    confirmed = [item for item in state.items.values() if item.kind == "confirm"]
    assert len(confirmed) == len(lines()) - 1
    assert len({item.spec.recorded for item in confirmed}) == len(confirmed)


def test_checkpoints_and_splits_are_replicates(rows, tmp_path):
    text = [f"{HEADER},pretrain_seed,split"]
    for seed, split, repeat in itertools.product(range(2), range(2), range(2)):
        value = 0.5 + 0.1 * seed + 0.01 * split + 0.001 * repeat
        text.append(f"bart,w16x1,64,freewilson_active,classification,{repeat},0.4,{value},roc_auc,{seed},{split}")
    board = replayed(written(tmp_path / "crossed.csv", text)).leaderboards()["classification"]
    (entry,) = board.sections[0].entries
    assert entry.score.n == 8 and entry.varies == "pre-training seed x head seed x split"
    assert entry.scope == "this architecture"


def test_a_from_scratch_control_is_one(rows, tmp_path):
    text = [*lines(), *(line.replace(",64,", ",0,") for line in lines()[1:] if ",64," in line)]
    board = replayed(written(tmp_path / "scratch.csv", text)).leaderboards()["regression"]
    groups = {entry.method: entry.group for entry in board.sections[0].entries}
    assert groups["roberta-w16x1-scratch"] == "from scratch" and groups["roberta-w16x1-64"] == "cell"


def test_what_was_never_recorded_fails_and_says_so(rows, tmp_path):
    kept = [line for line in lines() if not line.startswith("llama,w16x1,128")]
    kept = [line for line in kept if line.startswith("llama") or ",2,0.52," not in line]
    sweep = replayed(written(tmp_path / "short.csv", kept))
    assert sweep.exit_code == 3
    told = {item.outcome.message for item in sweep.state().items.values() if item.status == "failed"}
    assert any(
        "llama-w16x1-128/freewilson_pic50/0/0/0 " in text and "replay that under another --name" in text
        for text in told
    )
    incomplete = {line.method: line for line in sweep.leaderboards()["regression"].sections[0].incomplete}
    assert set(incomplete) == {"roberta-w16x1-64", "roberta-w16x1-128", "llama-w16x1-128"}
    assert (incomplete["roberta-w16x1-64"].done, incomplete["roberta-w16x1-64"].expected) == (2, 3)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("llama,w16x1", "llama,w48x1", r"short.csv, line 14: size must be one that space 'full_grid_tiny' compares"),
        (",128,", ",256,", r"line 8: molecules must be one that space .* \(64, 128, 192\), got 256; choose another"),
        ("freewilson_pic50", "solubility", "line 2: a task must be known by name .*, 'solubility' is neither; add"),
        ("freewilson_active", "delaney", "line 5: task 'delaney' is a regression, the line says classification"),
    ],
)
def test_what_the_space_does_not_compare_is_refused(rows, tmp_path, before, after, told):
    with pytest.raises(ConfigError, match=told):
        replayed(written(tmp_path / "short.csv", [line.replace(before, after) for line in lines()]))
    assert not (tmp_path / "sweeps").exists()


def test_an_index_that_is_no_small_number_is_refused_before_anything_is_planned(rows, tmp_path):
    off = [line.replace(",regression,2,", ",regression,1000000000,") for line in lines()]
    with pytest.raises(
        DataError, match=r"off.csv, line \d+: head_seed counts replicates from 0 .* got 1,000,000,000; n"
    ):
        replayed(written(tmp_path / "off.csv", off))


def test_a_table_from_scratch_alone_is_refused(rows, tmp_path):
    text = [line.replace(",64,", ",0,") for line in lines() if ",128," not in line]
    with pytest.raises(ConfigError, match=r"at least one row must have molecules above 0"):
        replayed(written(tmp_path / "scratch.csv", text))


def test_a_driver_that_was_killed_goes_on_from_its_own_copy(rows):
    whole = replayed(rows)
    events = [event for _, event in read_events(whole.paths.ledger)]
    expected = whole.leaderboards()
    cut = next(n for n, event in enumerate(events) if n > len(events) // 2 and event["event"] == "started")
    whole.paths.ledger.write_bytes(b"".join(map(line_of, events[: cut + 1])))
    rows.unlink()
    assert resume(whole.root, show_progress=False).leaderboards() == expected
    assert len([e for _, e in read_events(whole.paths.ledger) if e["event"] == "lost"]) <= 1


def test_a_worker_of_ray_gives_back_the_same(rows):
    sweep = replayed(rows)
    for uid in sweep.state().items:
        attempt = sweep.paths.run(uid, 1)
        work = Work.model_validate_json(attempt.spec.read_text())
        elsewhere = work.model_copy(update={"folder": str(rows.parent / "elsewhere" / uid)})
        assert ray_worker.carry_out({"work": elsewhere.model_dump_json()}) == {"done": True}
        again = read_outcome(rows.parent / "elsewhere" / uid / "result.json")
        first = read_outcome(attempt.result)
        assert again.model_copy(update={"measured": first.measured}) == first


def test_a_changed_copy_is_refused(rows):
    sweep = replayed(rows)
    copy = sweep.paths.recorded("csv")
    copy.write_text(copy.read_text().replace("0.3", "0.2"))
    with pytest.raises(DataError, match=r"must be the file that the replay began with .* put the first one back"):
        resume(sweep.root, show_progress=False)


def test_another_table_or_a_measurement_needs_another_name(rows, tmp_path):
    sweep = replayed(rows)
    other = written(tmp_path / "other.csv", lines(2))
    with pytest.raises(
        ConfigError, match=r"is a replay of rows.csv \(SHA-256 .*\), this one is replayed from other.csv"
    ):
        replayed(other)
    space = read_space(str(sweep.paths.space))
    with pytest.raises(ConfigError, match=r"is a replay of rows.csv .*, this one is carried out; give it a --name"):
        run_sweep(space, name=sweep.name, runner="serial", show_progress=False)


def test_a_replay_holds_no_more_seeds_and_no_molecules(rows):
    sweep = replayed(rows, name="kept")
    before = sweep.paths.ledger.read_bytes()
    with pytest.raises(ConfigError, match="sweep 'kept' is a replay and holds what was recorded alone"):
        sweep.confirm(1, 8)
    with pytest.raises(ConfigError, match="sweep 'kept' is a replay and holds none; audit its tasks by name"):
        audit(sweep.root)
    assert sweep.paths.ledger.read_bytes() == before


def test_a_replay_is_not_replayed(rows):
    sweep = replayed(rows)
    with pytest.raises(ConfigError, match=r"is a replay itself; replay what it was made from: rows.csv"):
        replay(sweep.root, show_progress=False)


def test_what_is_no_recorded_file_is_refused(rows):
    with pytest.raises(ConfigError, match=r"no recorded file none.csv; correct the path"):
        replayed(Path("none.csv"))
    with pytest.raises(ConfigError, match=r"a table does not say what it compares, rows.csv; give --space"):
        replay(rows)


def test_a_replay_can_be_looked_into_and_repeated(rows):
    sweep = replayed(rows)
    uid = next(iter(sweep.state().items))
    assert sweep.trial(uid).rerun().verdict == "equal"
    assert "predictions" not in {check.name for check in doctor.check_sweep(sweep.name, rows.parent / "sweeps")}


def test_the_command_prints_boards_and_sends_nothing_unasked(rows, capsys):
    assert run(["replay", "rows.csv", "--space", "full_grid_tiny"]) == 0
    told = capsys.readouterr()
    assert "rows.csv" in told.out and "roberta-w16x1-64" in told.out
    sweep = open_sweep("full_grid_tiny-replay")
    assert not sweep.paths.sent.exists()
    assert json.loads(sweep.paths.environment.read_text())["command"][:2] == ["chembench", "replay"]


@pytest.mark.skipif(
    not PUBLISHED.is_file(), reason=f"needs {PUBLISHED}; set CHEMBENCH_TEST_DATA to the folder above it"
)
def test_the_published_rows_are_18_cells_of_5_repeats(rows, tmp_path):
    kept = [line for line in PUBLISHED.read_text().splitlines() if line.split(",")[3] in ("task", "delaney", "hiv")]
    boards = replay(written(tmp_path / "two.csv", kept), space="full_grid", show_progress=False).leaderboards()
    (delaney,), (hiv,) = boards["regression"].sections, boards["classification"].sections
    for section, best, mean in ((delaney, "llama-30M-30000000", 0.4444), (hiv, "llama-13M-30000000", 0.7860)):
        assert len(section.entries) == 18 and not section.incomplete
        assert all(entry.score.n == 5 and entry.varies == "head seed" for entry in section.entries)
        assert section.entries[0].method == best and round(section.entries[0].score.mean, 4) == mean


def test_a_record_names_no_folder_of_the_machine_where_it_was_replayed(rows):
    toml = rows.with_name("named.toml")
    shipped = Path(read_space("full_grid_tiny").base, "full_grid_tiny.toml")
    toml.write_text(shipped.read_text().replace("rdkit:NCI/first_5K.smi", "corpus/mine.smi"))
    sweep = replay(rows, space=str(toml), show_progress=False)
    assert "base" not in sweep.state().header["space"]
    assert str(rows.parent) not in sweep.paths.space.read_text()
    assert resume(sweep.root, show_progress=False).state().finished
