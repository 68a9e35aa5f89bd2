"""Words of a board: what a line is, what it speaks for, and why a score is missing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from chembench.report.rows import ResultRow
from chembench.specs import FinetuneSpec

Group = Literal["cell", "from scratch", "baseline"]
_SHORT = {"learning_rate": "lr", "batch_size": "batch", "max_epochs": "epochs"}
_ALWAYS = ("learning_rate", "batch_size", "max_epochs")
_LORA = ("lora_rank", "lora_alpha")


def group_of(row: ResultRow) -> Group:
    """Whether a line is a pre-trained cell, its from-scratch control or a baseline."""
    if row.kind == "baseline":
        return "baseline"
    return "cell" if row.pretrain_uid or row.molecules else "from scratch"


def control_of(row: ResultRow) -> str:
    """What a cell and its control from scratch have in common: all but what is said of pre-training."""
    kept = {key: value for key, value in row.settings.items() if not key.startswith("pretrain.")}
    return json.dumps([row.architecture, row.size, kept], sort_keys=True)


def scope_of(rows: Sequence[ResultRow]) -> str:
    """What replicates speak for: those of one checkpoint say nothing about its architecture."""
    group = group_of(rows[0])
    if group == "baseline":
        return "this method"
    if group == "cell":
        checkpoints = {(row.pretrain_uid, row.pretrain_seed) for row in rows}
        return "this checkpoint" if len(checkpoints) == 1 else "this architecture"
    return "these initial weights" if len({row.pretrain_seed for row in rows}) == 1 else "this architecture"


def recipe_text(recipe: FinetuneSpec | None) -> str:
    """A recipe in few words: the method, what is always chosen, and what differs from the defaults."""
    if recipe is None:
        return ""
    words: list[str] = [recipe.method]
    for name, field in FinetuneSpec.model_fields.items():
        value = getattr(recipe, name)
        asked = name in _ALWAYS or (name in _LORA and recipe.method == "lora")
        if asked or (name not in ("method", *_LORA) and value != field.default):
            words.append(f"{_SHORT.get(name, name)}={_plain(value)}")
    return " ".join(words)


def recipes_text(rows: Sequence[ResultRow]) -> str:
    """The recipe of a line, or how many it has: one for each outer fold where searches are nested."""
    recipes = {row.recipe for row in rows}
    return recipe_text(rows[0].finetune) if len(recipes) == 1 else f"{len(recipes)} recipes in different outer folds"


def _plain(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def why_incomplete(group: Sequence[ResultRow], trials: Sequence[ResultRow], without_score: int = 0) -> str:
    """Why a method has no score.

    Args:
        group: its confirm or baseline rows.
        trials: all its rows on the task, search included.
        without_score: how many rows of ``group`` have no test score.
    """
    if not group:
        return f"no confirm run; {_states('search', trials)}" if trials else "not started"
    finished = sum(row.status == "finished" for row in group)
    undefined = without_score - (len(group) - finished)
    words = _states(group[0].kind, group)
    return f"{words}; test score undefined in {undefined}" if undefined > 0 else words


def _states(kind: str, rows: Sequence[ResultRow]) -> str:
    return f"{kind}: {states_in_words([row for row in rows if row.kind == kind]) or 'none started'}"


def states_in_words(rows: Sequence[ResultRow]) -> str:
    """What became of items, such as ``1 failed (oom), 2 finished``."""
    counts = Counter(f"failed ({row.cause})" if row.status == "failed" and row.cause else row.status for row in rows)
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
