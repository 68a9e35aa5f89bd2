"""A sweep's folder for reports: the state of `report_rows.whole_state`, with curves and predictions of its runs."""

import csv
import json

from report_rows import whole_state

from chembench.paths import SweepPaths, write_json
from chembench.report.page.gather import gather
from chembench.report.render import boards_from_state

SMILES = ("CCO", "c1ccccc1O", "CC(=O)Oc1ccccc1C(=O)O", "CCN", "C1CCCCC1", "CC(C)O", "Clc1ccccc1", "OC=O")


def folder(root, state=None):
    """Write what workers of ``state`` would have left; give its paths and the state."""
    state, paths = state or whole_state(), SweepPaths(root / "sweeps" / "demo")
    for item in state.items.values():
        run = paths.run(item.uid, 1)
        run.root.mkdir(parents=True)
        task_kind = getattr(item.spec, "task_kind", None)
        if item.status == "finished" and item.kind != "baseline":
            name = {"regression": "valid/rmse", "classification": "valid/roc_auc", None: "valid/loss"}[task_kind]
            lines = [
                {
                    "epoch": n,
                    "at": 100.0 + n,
                    "objective": 0.5,
                    "train/loss": 0.6 / n,
                    name: 0.7 / n,
                    "valid/loss": 0.7 / n,
                }
                for n in (1, 2, 3)
            ]
            run.curves.write_text("".join(json.dumps(line) + "\n" for line in lines))
        if item.status == "finished" and item.kind in ("confirm", "baseline"):
            write_predictions(run.predictions, task_kind, seed=item.labels["head_seed"])
    paths.space.write_text('name = "demo"\n')
    write_json(paths.environment, {"cpus": 2, "python": "3.11", "processor": "abacus"})
    return paths, state


def write_predictions(file, task_kind, smiles=SMILES, target="y", seed=0):
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(("part", "row", "smiles", "target", "measured", "predicted"))
        writer.writerow(("valid", 99, "C", target, 1, 0.9))
        for row, text in enumerate(smiles):
            measured = float(row % 2) if task_kind == "classification" else float(row)
            predicted = 0.1 * row if task_kind == "classification" else row / 2 + seed / 10
            writer.writerow(("test", row, text, target, measured, predicted))


def gathered(root, state=None):
    paths, state = folder(root, state)
    return gather(state, paths, boards_from_state(state))
