"""Rows as a split gives them, and a specification."""

from dataclasses import dataclass

import numpy as np

from chembench.specs import BaselineSpec


@dataclass(frozen=True)
class FakeRows:
    ids_N: np.ndarray
    smiles: list[str]
    labels_NM: np.ndarray


def rows(smiles, labels):
    labels_NM = np.asarray(labels, dtype=np.float32).reshape(len(smiles), -1)
    return FakeRows(np.arange(len(smiles)), list(smiles), labels_NM)


def spec(name, kind="regression", targets=1, **changes):
    return BaselineSpec(
        baseline=name, task="t", task_kind=kind, targets=targets, data="d", test_rows="r", sealed="s", **changes
    )
