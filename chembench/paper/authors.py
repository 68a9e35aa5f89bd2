"""The rows that the authors of arXiv 2405.00949 released, brought from their public repository and put in one table.

Ninety files: 18 configurations x 5 head seeds, each with 7 pre-training checkpoints x 7 head epochs on 6 tasks. As in
the paper, of the 49 candidates of each run the one with the lowest validation loss is taken; its test metric counts.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

from chembench.data.downloads import Address, bring, downloads_in
from chembench.errors import DataError
from chembench.paper.published import RUNS
from chembench.recorded.source import Recording

COMMIT = "14f997187075d4c2f93e9c45b301546c750c2321"
SOURCE = f"https://raw.githubusercontent.com/BrightBlueCheese/transformers_and_chemistry/{COMMIT}/finetune/evaluations"
SHA256 = "ba933e30d6e2a71ef64a8cc88fe227b99be4d30ff2ae13215a8b0633cc1f03fc"
"""Of all files, one after the other in the order of `addresses`."""
NAME = "transformers_and_chemistry"
HEADER = ("architecture", "size", "corpus", "task", "task_type", "repeat", "validation_loss", "test_score", "metric")


def addresses() -> dict[tuple[str, str, str, int], Address]:
    """(architecture, size, corpus, repeat) -> where its file lies."""
    names = itertools.product(("ChemBart", "ChemBerta", "ChemLlama"), ("Small", "Medium"), ("10m", "20m", "30m"))
    places = itertools.product(names, range(RUNS))
    return {(*name, i): Address(f"{SOURCE}/ft_version_{i}/{'_'.join(name)}.csv") for name, i in places}


def authors_rows(data_dir: Path, say: Callable[[str], None]) -> Recording:
    """The rows as a recorded table; what was brought before is not brought again.

    Args:
        data_dir: the folder of raw data.
        say: told what is downloaded.

    Raises:
        DataError: if a file cannot be had, or the files are not those that the checksum is of.
    """
    files: dict[tuple[str, str, str, int], bytes] = {}
    try:
        for place, address in addresses().items():
            files[place] = bring(address, downloads_in(data_dir), say).read_bytes()
    except DataError as error:
        raise DataError(f"{error}; where there is no network, give the rows by --rows FILE") from error
    found = hashlib.sha256(b"".join(files.values())).hexdigest()
    if found != SHA256:
        raise DataError(
            f"the authors' rows must have the SHA-256 {SHA256} together, what lies in {downloads_in(data_dir)} has "
            f"{found}; delete them there and give the same command again"
        )
    return Recording(NAME, "csv", table_of(files))


def table_of(files: Mapping[tuple[str, str, str, int], bytes]) -> bytes:
    """One line for each run: its candidate with the lowest validation loss, the first of equal ones."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    for (architecture, size, corpus, repeat), content in files.items():
        best: dict[str, dict[str, str]] = {}
        for line in csv.DictReader(io.StringIO(content.decode("utf-8"), newline="")):
            task = line["dataset_name"]
            if task not in best or float(line["loss"]) < float(best[task]["loss"]):
                best[task] = line
        for task, line in sorted(best.items()):
            kind = line["dataset_type"]
            metric = "roc_auc" if kind == "classification" else "rmse_normalised"
            writer.writerow((architecture, size, corpus, task, kind, repeat, line["loss"], line["metric_1"], metric))
    return text.getvalue().encode()
