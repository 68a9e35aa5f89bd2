"""Claims are judged by the rows alone: shown where true, undecided in noise, contradicted where false."""

import itertools
import json
import random
from pathlib import Path

import pytest

from chembench.cli import run
from chembench.errors import DataError
from chembench.paper import authors
from chembench.paper.claims import NO_LOSS, judge
from chembench.paper.headline import headline
from chembench.paper.published import TASKS, configurations, groups, summaries
from chembench.paper.told import as_markdown, tell
from chembench.recorded.source import Recording
from chembench.recorded.table import read_table

CELLS = tuple(itertools.product(("roberta", "bart", "llama"), ("13M", "30M"), (10_000_000, 20_000_000, 30_000_000)))
KINDS = {task: "regression" if number < 3 else "classification" for number, task in enumerate(TASKS)}
UNTESTED = "cannot be tested with these rows"
LOSS, SCORE, SIZE, BART, LLAMA_SIZE, LLAMA = range(6)


def recorded(quality, loss=None, noise: float = 0.01) -> Recording:
    """Rows of all cells and tasks: ``quality(cell)`` and noise of each run, which is better upwards on every task."""
    random_ = random.Random(0)
    lines = ["architecture,size,molecules,task,task_type,repeat,validation_loss,test_score,metric,pretrain_loss"]
    for cell, task, repeat in itertools.product(CELLS, TASKS, range(5)):
        value = 0.1 * quality(cell) + random_.gauss(0, noise)
        kind = KINDS[task]
        score, metric = (0.6 + value, "roc_auc") if kind == "classification" else (0.9 - value, "rmse_normalised")
        told = "" if loss is None else loss(cell)
        lines.append(",".join(map(str, (*cell, task, kind, repeat, 0.5, score, metric, told))))
    return Recording("rows.csv", "csv", "\n".join(lines).encode())


def verdicts(recording: Recording) -> list[str]:
    return [judged.verdict for judged in judge(read_table(recording))]


def jitter(cell) -> float:
    """What each configuration has for itself: independent of all factors, and always the same."""
    return random.Random(str(cell)).gauss(0, 0.05)


def test_a_true_effect_of_size_is_supported_and_a_false_one_contradicted():
    larger = judge(read_table(recorded(lambda cell: (cell[1] == "30M") + jitter(cell))))
    smaller = judge(read_table(recorded(lambda cell: (cell[1] == "13M") + jitter(cell))))
    assert larger[SIZE].verdict == larger[LLAMA_SIZE].verdict == "supported"
    assert smaller[SIZE].verdict == smaller[LLAMA_SIZE].verdict == "contradicted"
    assert [figure.unit for figure in larger[SIZE].figures] == ["configuration", "run"]


def test_noise_supports_nothing():
    assert set(verdicts(recorded(jitter, noise=0.03))) == {"not distinguishable", "cannot be tested with these rows"}


def test_one_configuration_that_stands_out_is_among_the_best():
    best = recorded(lambda cell: (cell == ("bart", "30M", 10_000_000)) + jitter(cell))
    worst = recorded(lambda cell: -(cell == ("bart", "30M", 10_000_000)) + jitter(cell))
    assert verdicts(best)[BART] == "supported"
    assert verdicts(worst)[BART] == "contradicted"
    assert verdicts(best)[LLAMA] == "not distinguishable"


def test_one_that_stands_out_behind_another_is_not_the_best():
    ahead, second = ("bart", "30M", 20_000_000), ("llama", "30M", 30_000_000)
    table = recorded(lambda cell: 1.1 * (cell == ahead) + (cell == second) + 0.2 * jitter(cell))
    judged = judge(read_table(table))[LLAMA]
    assert judged.verdict == "not distinguishable" and "rank 2 of 18" in judged.reason
    alone = recorded(lambda cell: 0.9 * (cell == ahead) + 1.1 * (cell == second) + 0.2 * jitter(cell))
    assert judge(read_table(alone))[LLAMA].verdict == "supported"


def test_the_best_for_both_types_must_be_so_in_both():
    table = recorded(lambda cell: (cell == ("llama", "30M", 30_000_000)) + jitter(cell))
    assert verdicts(table)[LLAMA] == "supported"
    lines = table.text().splitlines()
    kept = [line for line in lines if "llama,30M,30000000" not in line or "regression" in line]
    usual = [line for line in lines if line.startswith("llama,30M,20000000") and "classification" in line]
    mixed = [*kept, *(line.replace("20000000", "30000000") for line in usual)]
    judged = judge(read_table(Recording("rows.csv", "csv", "\n".join(mixed).encode())))[LLAMA]
    assert judged.verdict == "not distinguishable" and "regression: rank 1 of 18" in judged.reason


def test_head_seeds_of_one_checkpoint_are_not_counted_as_models():
    # one configuration is lucky, which its five head seeds repeat five times
    lucky = recorded(lambda cell: cell == ("bart", "30M", 20_000_000), noise=0.001)
    found = judge(read_table(lucky))[SIZE]
    assert found.figures[1].p < 0.05 < found.figures[0].p
    assert found.verdict == "not distinguishable"


def test_without_a_pretraining_loss_its_claims_cannot_be_tested():
    found = judge(read_table(recorded(jitter)))
    assert found[LOSS].verdict == found[SCORE].verdict == "cannot be tested with these rows"
    assert found[LOSS].reason == found[SCORE].reason == NO_LOSS


def test_the_loss_of_llama_and_what_a_loss_foretells_are_judged_where_it_is_recorded():
    lowest = recorded(jitter, loss=lambda cell: 0.03 + 0.01 * (cell[0] != "llama") + 0.001 * jitter(cell))
    highest = recorded(jitter, loss=lambda cell: 0.03 + 0.01 * (cell[0] == "llama") + 0.001 * jitter(cell))
    assert verdicts(lowest)[LOSS] == "supported"
    assert verdicts(highest)[LOSS] == "contradicted"
    foretold = recorded(lambda cell: 20 * jitter(cell), loss=lambda cell: 0.5 - jitter(cell))
    reversed_ = recorded(lambda cell: 20 * jitter(cell), loss=lambda cell: 0.5 + jitter(cell))
    assert verdicts(foretold)[SCORE] == "contradicted"
    assert verdicts(reversed_)[SCORE] == "contradicted", "a low loss that foretells bad quality foretells it"
    assert verdicts(recorded(jitter, loss=lambda cell: float(cell[0] == "llama")))[SCORE] == "not distinguishable"


def test_rows_of_other_configurations_alone_cannot_test_a_claim():
    lines = [line for line in recorded(jitter).text().splitlines() if not line.startswith(("llama", "bart"))]
    found = judge(read_table(Recording("rows.csv", "csv", "\n".join(lines).encode())))
    assert "no row is of bart-30M-10000000" in found[BART].reason
    assert "no row is of llama" in found[LLAMA_SIZE].reason


def test_a_configuration_without_a_task_is_told():
    lines = [line for line in recorded(jitter).text().splitlines() if not line.startswith("bart,13M,10000000,hiv")]
    recording = Recording("rows.csv", "csv", "\n".join(lines).encode())
    found = judge(read_table(recording))
    assert "has no score on hiv" in found[SIZE].reason
    assert found[BART].verdict != UNTESTED and found[BART].figures, "regression has all that it needs"
    ranking = headline(read_table(recording))
    assert "llama-30M-30000000" in {name for line in ranking.tasks for name in line.tie_group} and not ranking.first_by
    assert "bart-13M-10000000 has none on hiv" in ranking.no_order


def test_a_run_that_is_missing_hinders_no_claim_about_configurations():
    lines = recorded(jitter).text().splitlines()
    found = judge(read_table(Recording("rows.csv", "csv", "\n".join(lines[:-1]).encode())))
    whole, run = found[SIZE].figures
    assert whole.verdict != UNTESTED and (run.verdict, run.test) == (UNTESTED, "none")


def test_a_claim_is_tested_with_replicates_only():
    header, *rows = recorded(jitter).text().splitlines()
    lines = [header, *(line for line in rows if line.split(",")[5] == "0")]
    found = judge(read_table(Recording("rows.csv", "csv", "\n".join(lines).encode())))
    assert [figure.verdict == UNTESTED for figure in found[BART].figures] == [False, True]
    assert "one run says nothing" in found[BART].figures[1].figure
    wholly = recorded(jitter, loss=lambda cell: {"llama": 0.1, "bart": 0.2, "roberta": 0.3}[cell[0]])
    assert "the factors explain these rows wholly" in judge(read_table(wholly))[LOSS].reason


def test_a_ranking_that_the_rows_show_is_told_as_one():
    found = headline(read_table(recorded(lambda cell: CELLS.index(cell) / 10, noise=0.001)))
    for line in found.tasks:
        assert line.best == "llama-30M-30000000" and line.tie_group == (line.best,)
        assert line.separated_pairs == line.pairs == 153
    assert set(found.first_by.values()) == {("llama-30M-30000000",)}


def test_published_figures_hold_together():
    cells = configurations()
    assert len(cells) == 18 == len(summaries())
    for name, tes in summaries().items():
        best = {t: (max if KINDS[t] == "classification" else min)(own[t].mean for own in cells.values()) for t in TASKS}
        assert sum(abs(cells[name][task].mean - best[task]) for task in TASKS) == pytest.approx(tes, abs=1e-3)
    for what, levels in groups().items():
        for level, own in levels.items():
            part = [c for n, c in cells.items() if level in (n, n.split("-")[0], n.rpartition("-")[0], n.split("-")[2])]
            for task, value in own.items():
                assert sum(cell[task].mean for cell in part) / len(part) == pytest.approx(value, abs=2e-4), what


def test_a_published_band_is_the_t_interval_of_five():
    low, high = configurations()["llama-30M-30000000"]["delaney"].band
    assert (low, high) == (pytest.approx(0.4444 - 2.7764 * 0.0053, abs=1e-5), pytest.approx(0.4591, abs=1e-4))


def test_it_is_told_as_text_and_as_json(tmp_path, capsys):
    file = tmp_path / "rows.csv"
    file.write_bytes(recorded(lambda cell: (cell[1] == "30M") + jitter(cell)).content)
    assert run(["reproduce-paper", "--rows", str(file)]) == 0
    text = capsys.readouterr().out
    assert "3. **model size matters: the larger is better**: supported" in text
    assert "cannot be tested with these rows" in text and "18 of" not in text.partition("## Ranking")[0]
    assert run(["reproduce-paper", "--rows", str(file), "-f", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [claim["verdict"] for claim in told["claims"]] == verdicts(recorded(lambda c: (c[1] == "30M") + jitter(c)))
    assert told["rows"].startswith("rows.csv (SHA-256 ")
    assert as_markdown(tell(Recording("rows.csv", "csv", file.read_bytes()))) == text


RAW = "model_mtr_name,dataset_name,dataset_type,metric_1,loss\n"


def test_of_each_run_the_candidate_with_the_lowest_validation_loss_counts():
    first = RAW + "a,hiv,classification,0.7,0.5\na,hiv,classification,0.6,0.4\na,delaney,regression,0.9,0.3\n"
    table = read_table(Recording("r.csv", "csv", authors.table_of({("ChemBart", "Small", "10m", 2): first.encode()})))
    assert {key: (row.test, row.validation) for key, row in table.rows.items()} == {
        "bart-13M-10000000/delaney/0/0/2": (0.9, 0.3),
        "bart-13M-10000000/hiv/0/0/2": (0.6, 0.4),
    }


def test_the_authors_rows_are_ninety_files_with_a_checksum(tmp_path, monkeypatch):
    assert len({address.url for address in authors.addresses().values()}) == 90
    file = tmp_path / "file.csv"
    file.write_text(RAW)
    monkeypatch.setattr(authors, "bring", lambda address, folder, say: file)
    with pytest.raises(DataError, match=r"the authors' rows must have the SHA-256 .* together, .* delete them there"):
        authors.authors_rows(tmp_path, lambda line: None)


def test_without_a_network_a_file_is_asked_for(tmp_path, monkeypatch):
    def unreachable(address, folder, say) -> Path:
        raise DataError("no network")

    monkeypatch.setattr(authors, "bring", unreachable)
    with pytest.raises(DataError, match=r"no network; where there is no network, give the rows by --rows FILE"):
        authors.authors_rows(tmp_path, lambda line: None)
