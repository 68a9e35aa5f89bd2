"""What MLflow should hold, as values: read from the ledger's fold and the trial folders. Knows no MLflow.

The workers' files are the spool: ``curves.jsonl`` grows while an item runs, the ledger says how it ended. Everything
here is a function of them, so a record made twice is the same record and may be sent twice.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from chembench.config import digest_of
from chembench.paths import RunPaths, SweepPaths, read_json
from chembench.specs import BaselineSpec, PretrainSpec, TrialSpec
from chembench.sweep.state import ItemRecord, SweepState
from chembench.sweep.winners import winners
from chembench.tracking.curves import Point, finite, points

Group = Literal["pretrain", "regression", "classification"]
"""One MLflow experiment of a sweep: ``<sweep>/<group>``."""
RunStatus = Literal["running", "finished", "pruned", "failed", "interrupted"]

MAX_PARAMS = 100
MAX_METRIC_KEYS = 20
NOTE_LENGTH = 1000
SCORES: Mapping[Group, tuple[str, ...]] = {
    "pretrain": ("loss",),
    "regression": ("rmse", "rmse_normalised", "mae", "r2"),
    "classification": ("roc_auc", "pr_auc", "mcc"),
}
"""Scores a tracker shows; what else an outcome holds stays in its ``result.json``."""
COSTS = ("wall_seconds", "device_hours", "peak_memory_mib")
SIZES = ("parameters", "trainable_parameters")
MAY_GROW = (
    "search.trials",
    "confirm.head_seeds",
    "confirm.pretrain_seeds",
    "confirm.splits",
    "confirm.outer_repeats",
)
"""Settings of a sweep that may be raised later. MLflow never changes a parameter, so they are tags."""


@dataclass(frozen=True, slots=True)
class DataInput:
    """A data set that a run read, named by its digest."""

    name: str
    digest: str
    context: Literal["training", "labels", "test"]
    profile: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run as it should stand in MLflow; times are milliseconds since 1970."""

    uid: str
    group: Group
    name: str
    attempt: int
    status: RunStatus
    started_ms: int
    ended_ms: int
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Final ones: ``best/...``, ``test/...``, ``cost/...``."""
    inputs: tuple[DataInput, ...] = ()
    artifacts: tuple[Path, ...] = ()
    boards: tuple[Path, ...] = ()
    curves: Path | None = None
    pretrained: str | None = None
    """Uid of the pre-training this run starts from."""
    is_sweep: bool = False
    """The sweep's own run, above those of its items."""

    @property
    def is_over(self) -> bool:
        return self.status != "running"

    def digest(self, links: Mapping[str, str]) -> str:
        """A name for everything that MLflow should say of this run, but for times, curves and contents of files."""
        names = [path.name for path in self.artifacts]
        return digest_of([self.status, dict(self.tags), dict(links), dict(self.params), dict(self.metrics), names])


def group_of(item: ItemRecord) -> Group:
    """The experiment an item belongs to."""
    return "pretrain" if isinstance(item.spec, PretrainSpec) else item.spec.task_kind


def groups_of(state: SweepState) -> tuple[Group, ...]:
    """The experiments of a sweep, pre-training first: runs that are linked to are sent before those that link."""
    present = {group_of(item) for item in state.items.values()}
    return tuple(group for group in SCORES if group in present)


def records(state: SweepState, paths: SweepPaths, *, final: bool) -> Iterator[RunRecord]:
    """Every item that was ever started, pre-training first.

    Args:
        state: the ledger's fold.
        paths: the sweep's folder.
        final: no driver is at work: what has not ended was interrupted.
    """
    order = {group: place for place, group in enumerate(SCORES)}
    best = {uid: task for task, uid in winners(state).items()} if state.finished else {}
    common = _sweep_tags(state, paths)
    for item in sorted(state.items.values(), key=lambda item: order[group_of(item)]):
        if item.attempt > 0:
            status = _status(item, final or state.finished)
            tags = common | _item_tags(item, status) | _choice_tags(item, best.get(item.uid, "none"))
            yield _item_record(state, item, paths, status, tags)


def sweep_id(paths: SweepPaths) -> str:
    """Tells a sweep from others of its name, such as an earlier one in the same folder: its ledger's first line."""
    with paths.ledger.open("rb") as file:
        return hashlib.sha256(file.readline()).hexdigest()[:12]


def folder_name(paths: SweepPaths) -> str:
    """Tells the sweep's folder from all others, also on other machines."""
    return digest_of([platform.node(), str(paths.root)])


def parent_uid(sweep: str, group: Group) -> str:
    """Identity of the run that stands for the whole sweep in one experiment."""
    return f"sweep:{sweep}/{group}"


def parent_record(state: SweepState, paths: SweepPaths, group: Group, *, final: bool) -> RunRecord:
    """The sweep itself, as the run under which the items of ``group`` are nested."""
    status: RunStatus = "finished" if state.finished else "interrupted" if final else "running"
    settings = _text(flat(state.header.get("space", {})), MAX_PARAMS + len(MAY_GROW))
    begun, files, added = _begun_ms(state), boards(paths, group), extras(paths)
    tags = _sweep_tags(state, paths) | {
        "chembench.trial_uid": parent_uid(state.name, group),
        "chembench.kind": "sweep",
        "chembench.status": status,
        "chembench.attempt": "1",
        "chembench.folder": folder_name(paths),
        "chembench.boards": digest_of_files(files),
        **({"chembench.extras": digest_of_files(added)} if added else {}),
        **{f"chembench.version.{name}": str(v) for name, v in state.header.get("versions", {}).items()},
        **{f"chembench.{name}": settings.pop(name) for name in MAY_GROW if name in settings},
    }
    if state.header.get("command"):
        tags["chembench.command"] = shlex.join(state.header["command"])[:NOTE_LENGTH]
    return RunRecord(
        uid=parent_uid(state.name, group),
        group=group,
        name=state.name,
        attempt=1,
        status=status,
        started_ms=begun,
        ended_ms=max(begun, _mtime_ms(paths.ledger, begun)),
        tags=tags,
        params=dict(list(settings.items())[:MAX_PARAMS]),
        artifacts=(*(path for path in (paths.space, paths.environment) if path.is_file()), *added),
        boards=files,
        is_sweep=True,
    )


def boards(paths: SweepPaths, group: Group) -> tuple[Path, ...]:
    """The leaderboard files that belong to one experiment: those named after it, and the rows of all."""
    names = {"pretrain": ("pretraining", "pretrain")}.get(group, (group,))
    files = paths.leaderboards.glob("*") if paths.leaderboards.is_dir() else iter(())
    return tuple(sorted(f for f in files if f.suffix in (".md", ".csv") and f.stem in (*names, "rows")))


def extras(paths: SweepPaths) -> tuple[Path, ...]:
    """The report and the audit of a sweep, as far as they were made."""
    return tuple(file for file in (paths.report, paths.report.with_suffix(".md"), paths.audit) if file.is_file())


def digest_of_files(files: tuple[Path, ...]) -> str:
    """A name for the contents of ``files``; empty if there is none."""
    if not files:
        return ""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def points_of(record: RunRecord) -> list[Point]:
    """The epochs that stand in the spool of one item."""
    shown = {"train/loss", "valid/loss", "valid/objective", *(f"valid/{name}" for name in SCORES[record.group])}
    return points(record.curves, shown, record.started_ms) if record.curves else []


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one: ``{"model": {"hidden": 64}}`` is ``{"model.hidden": 64}``; empty fields are left out."""
    found: dict[str, Any] = {}
    for key, part in value.items():
        if isinstance(part, Mapping):
            found |= flat(part, f"{prefix}{key}.")
        elif part is not None:
            found[f"{prefix}{key}"] = part
    return found


def _item_record(
    state: SweepState, item: ItemRecord, paths: SweepPaths, status: RunStatus, tags: Mapping[str, str]
) -> RunRecord:
    folder, group = paths.run(item.uid, item.attempt), group_of(item)
    started_ms, ended_ms = _interval(item, paths, _begun_ms(state))
    return RunRecord(
        uid=item.uid,
        group=group,
        name=_name(item),
        attempt=item.attempt,
        status=status,
        started_ms=started_ms,
        ended_ms=ended_ms,
        tags=tags,
        params=_text(_params(item)),
        metrics=_final_metrics(item, group) if item.is_final else {},
        inputs=_inputs(state, item),
        artifacts=_artifacts(item, folder),
        curves=folder.curves,
        pretrained=item.spec.starts_from,
    )


def _status(item: ItemRecord, final: bool) -> RunStatus:
    if item.is_final:
        return item.status  # type: ignore[return-value]  # one of finished, pruned, failed
    return "interrupted" if final or item.superseded else "running"


def _sweep_tags(state: SweepState, paths: SweepPaths) -> dict[str, str]:
    own = {"chembench.sweep": state.name, "chembench.sweep_id": sweep_id(paths), "chembench.space": state.space_digest}
    if "recorded" in state.header:
        told = state.header["recorded"]
        own["chembench.replayed"] = f"{told['name']} sha256:{told['sha256']}"
    return own | {"mlflow.source.name": "chembench sweep", "mlflow.source.type": "LOCAL"}


def _choice_tags(item: ItemRecord, winner_of: str) -> dict[str, str]:
    """Of confirm runs: whether their recipe stands no longer, and for which task they win."""
    if item.kind != "confirm":
        return {}
    return {"chembench.superseded": str(item.superseded).lower(), "chembench.winner_of": winner_of}


def _item_tags(item: ItemRecord, status: RunStatus) -> dict[str, str]:
    spec, outcome = item.spec, item.outcome if item.is_final else None
    measured = outcome.measured if outcome else {}
    tags = {
        "trial_uid": item.uid,
        "kind": item.kind,
        "status": status,
        "cause": (outcome.cause if outcome else None) or "none",
        "attempt": item.attempt,
        "architecture": getattr(getattr(spec, "model", None), "architecture", None),
        "size": item.cell.size if item.cell else None,
        "molecules": spec.molecules if isinstance(spec, PretrainSpec) else item.cell.molecules if item.cell else None,
        "continues": getattr(spec, "continues", None),
        "baseline": getattr(spec, "baseline", None),
        "task": getattr(spec, "task", None),
        "task_type": getattr(spec, "task_kind", None),
        "split": getattr(spec, "split", None),
        "outer": getattr(spec, "outer", 0) or None,
        "seed": _seed(item),
        "study": item.labels.get("study"),
        "ordinal": item.labels.get("ordinal"),
        "pretrain_seed": item.labels.get("pretrain_seed"),
        "device": measured.get("device_name") or measured.get("device"),
        "host": measured.get("host"),
    }
    named = {f"chembench.{key}": str(value) for key, value in tags.items() if value is not None}
    return named | {"mlflow.note.content": outcome.message[:NOTE_LENGTH] if outcome else ""}


def _seed(item: ItemRecord) -> int:
    """The index of the seed, by which replicates are paired; the seed itself where there is no index."""
    spec = item.spec
    index = item.labels.get("pretrain_seed" if isinstance(spec, PretrainSpec) else "head_seed")
    if index is not None:
        return int(index)
    return spec.head_seed if isinstance(spec, TrialSpec) else int(spec.seed)


def _name(item: ItemRecord) -> str:
    spec = item.spec
    if isinstance(spec, BaselineSpec):
        place = f"{spec.baseline}/{spec.task}/baseline"
    else:
        cell = item.cell.name if item.cell else f"{spec.model.architecture}-{spec.model.hidden}x{spec.model.layers}"
        place = f"{cell}/pretrain" if isinstance(spec, PretrainSpec) else f"{cell}/{spec.task}/{spec.kind}"
    ordinal = f" #{item.labels['ordinal']}" if item.kind == "search" and "ordinal" in item.labels else ""
    outer = f" o{spec.outer}" if getattr(spec, "outer", 0) else ""
    return f"{place}{outer} s{_seed(item)}{ordinal}"


def _params(item: ItemRecord) -> dict[str, Any]:
    facts = item.outcome.facts if item.outcome and item.is_final else {}
    spec = flat(item.spec.model_dump(mode="json", exclude={"kind", "code_schema"}))
    return spec | {key: facts[key] for key in SIZES if facts.get(key) is not None}


def _text(params: Mapping[str, Any], most: int = MAX_PARAMS) -> dict[str, str]:
    """Parameters as MLflow keeps them; the first hundred, in order, which only a very large space exceeds."""
    texts = {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in params.items() if value != {}
    }
    return {key: text[:6000] for key, text in list(texts.items())[:most] if text}


def _final_metrics(item: ItemRecord, group: Group) -> dict[str, float]:
    outcome = item.outcome
    if outcome is None:
        return {}
    found: dict[str, Any] = {f"best/{name}": outcome.metrics.get(f"valid/{name}") for name in SCORES[group]}
    found |= {"best/objective": outcome.metrics.get("objective"), "best/epoch": outcome.metrics.get("best_epoch")}
    if item.kind in ("confirm", "baseline"):
        found |= {f"test/{name}": outcome.metrics.get(f"test/{name}") for name in SCORES[group]}
    found |= {f"cost/{name}": outcome.measured.get(name) for name in COSTS}
    return finite(found)


def _inputs(state: SweepState, item: ItemRecord) -> tuple[DataInput, ...]:
    spec = item.spec
    if isinstance(spec, PretrainSpec):
        return (
            DataInput("corpus", spec.corpus, "training", {"molecules": spec.molecules}),
            DataInput("descriptors", spec.labels, "labels", {"outputs": spec.outputs}),
        )
    told = state.header.get("tasks", {}).get(spec.task, {})
    profile = {key: told[key] for key in ("kind", "unit", "targets", "note") if told.get(key)}
    place = {"split": spec.split, **({"outer": spec.outer} if spec.outer else {})}
    rows = (DataInput(spec.task, spec.data, "training", profile | place),)
    return (*rows, DataInput(f"{spec.task}/test", spec.sealed, "test", profile)) if spec.sealed else rows


def _artifacts(item: ItemRecord, folder: RunPaths) -> tuple[Path, ...]:
    wanted = [folder.spec]
    if item.status == "failed":
        wanted.append(folder.error)
    if item.kind in ("confirm", "baseline"):
        wanted.append(folder.predictions)
    return tuple(path for path in wanted if path.is_file())


def _interval(item: ItemRecord, paths: SweepPaths, begun_ms: int) -> tuple[int, int]:
    """Start of the first attempt and end of the last one in milliseconds; a clock set back leaves them in order."""
    folder = paths.run(item.uid, item.attempt)
    measured = item.outcome.measured if item.outcome and item.outcome.attempt == item.attempt else {}
    first = measured if item.attempt == 1 else _measured(paths.run(item.uid, 1))
    started = _measured_ms(first, "started_at")
    if started is None:
        started = _mtime_ms(paths.run(item.uid, 1).spec, begun_ms)
    ended = _measured_ms(measured, "ended_at")
    if ended is None:
        ended = max(_mtime_ms(path, started) for path in (folder.result, folder.error, folder.curves))
    return started, max(started, ended)


def _measured(folder: RunPaths) -> Mapping[str, Any]:
    """What an earlier attempt measured, if it left a result."""
    try:
        result = read_json(folder.result)
    except (OSError, ValueError):
        return {}
    measured = result.get("measured") if isinstance(result, dict) else None
    return measured if isinstance(measured, dict) else {}


def _measured_ms(measured: Mapping[str, Any], name: str) -> int | None:
    value = measured.get(name)
    return round(float(value) * 1000) if isinstance(value, int | float) and math.isfinite(value) else None


def _begun_ms(state: SweepState) -> int:
    return round(float(state.header.get("at", 0.0)) * 1000)


def _mtime_ms(path: Path, otherwise: int) -> int:
    """When ``path`` was written; ``otherwise`` if it is not there."""
    try:
        return round(path.stat().st_mtime * 1000)
    except FileNotFoundError:
        return otherwise
