"""A search space: what a TOML file may say, checked whole, every mistake told at once with its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from chembench.config import Spec, digest_of
from chembench.data.catalog import TASKS, TaskDef
from chembench.data.specs import CorpusSpec, Groups, LabelSpec
from chembench.errors import UnknownNameError
from chembench.registry import ARCHITECTURES, BASELINES, PRUNERS, SAMPLERS, Registry
from chembench.specs import Kind, Precision
from chembench.sweep.parameters import Parameter, Scalar, as_toml, parse_parameter

GRID_AXES = ("architecture", "size", "molecules")
PRETRAIN_FIELDS = (
    "objective",
    "loss",
    "learning_rate",
    "weight_decay",
    "warmup_fraction",
    "schedule",
    "decay_fraction",
    "share_trunk",
    "epochs",
    "steps",
    "batch_size",
    "dropout",
    "attention_dropout",
    "max_grad_norm",
    "keep_every_epoch",
)
"""Fields of `PretrainSpec` that a space sets; the others follow from the cell and the data."""


RAISABLE = (
    "search.trials",
    "confirm.head_seeds",
    "confirm.pretrain_seeds",
    "confirm.splits",
    "confirm.outer_repeats",
)
"""What may grow under a sweep that has begun: more of the same, which leaves everything done as it is."""


def _require(names: Registry, name: str) -> str:
    """``name``, if it is known; pydantic gathers nothing but a ValueError."""
    try:
        return names.require(name)
    except UnknownNameError as error:
        raise ValueError(str(error)) from error


class TokenizerTable(Spec):
    """``[tokenizer]``: which closed vocabulary spells the SMILES."""

    name: Literal["opensmiles", "paper_substitute"] = "opensmiles"
    file: str | None = None
    """A Hugging Face ``tokenizer.json`` instead of ours; it must be lossless."""
    allow_lossy: bool = False
    """Legal in paper mode alone."""
    max_length: PositiveInt = 512


class SearchTable(Spec):
    """``[search]``: what each study may spend."""

    sampler: str = "tpe"
    trials: PositiveInt
    """Trials started per study: cell x task in a grid, task in an adaptive space."""
    ask_window: PositiveInt = 4
    """Asks of one window see the results of earlier windows only; parallelism inside a study is at most this."""
    pruner: str = "none"
    pruner_options: dict[str, Scalar] = {}
    replacements: NonNegativeInt = 2
    """Failed trials that a study may replace by new ones."""
    give_up_after: PositiveInt = 10
    """Items that may fail one after the other before the sweep ends; decides no result."""

    @field_validator("sampler")
    @classmethod
    def _known_sampler(cls, value: str) -> str:
        return _require(SAMPLERS, value)

    @field_validator("pruner")
    @classmethod
    def _known_pruner(cls, value: str) -> str:
        return _require(PRUNERS, value)


class ConfirmTable(Spec):
    """``[confirm]``: how the recipe is chosen, and the crossed replicates that open the test."""

    rescore_top: PositiveInt = 2
    rescore_seeds: NonNegativeInt = 1
    """0: the best search trial is the recipe."""
    pretrain_seeds: PositiveInt = 1
    splits: PositiveInt = 1
    head_seeds: PositiveInt = 3
    outer_folds: NonNegativeInt = 0
    """Outer folds of one repeat, each the test of the others; 0: the one test of each task's named split."""
    outer_repeats: PositiveInt = 1
    """How often the molecules are divided into folds anew."""
    outer_groups: Groups = "scaffold"
    """What no fold may part."""
    outer_search: Literal["reuse", "nested"] = "reuse"
    """``reuse``: the recipe is chosen once, on the named split, and its lines are badged, because that search saw
    molecules of every test; ``nested``: each fold has a search of its own, on its training part alone."""

    @field_validator("outer_folds")
    @classmethod
    def _no_single_fold(cls, value: int) -> int:
        if value == 1:
            raise ValueError("outer_folds is at least 2, or 0 for the test of the named split, got 1; try 5")
        return value

    @property
    def outers(self) -> tuple[int, ...]:
        """Indices of the outer test sets that confirm runs and baselines are scored on."""
        return tuple(range(1, self.outer_folds * self.outer_repeats + 1)) if self.outer_folds else (0,)

    @property
    def baseline_seeds(self) -> int:
        """Of a baseline that follows one: as many as a cell has independent runs, else nothing says how sure it is."""
        return max(self.head_seeds, self.pretrain_seeds)

    @property
    def is_nested(self) -> bool:
        return bool(self.outer_folds) and self.outer_search == "nested"

    @property
    def searched(self) -> tuple[int, ...]:
        """Indices of the outer test sets whose training parts are searched on, a study for each."""
        return self.outers if self.is_nested else (0,)

    @property
    def outer_text(self) -> str:
        """What the outer folds are, and where the recipe comes from; empty without them."""
        if not self.outer_folds:
            return ""
        told = f"{self.outer_folds} outer folds x {self.outer_repeats} by {self.outer_groups}"
        if self.is_nested:
            return f"{told}, each searched in its training part alone"
        return f"{told}, recipe reused: chosen once on the named split, whose search sees molecules of each test"


class ControlsTable(Spec):
    """``[controls]``: what the cells are held against."""

    from_scratch: bool = True
    baselines: tuple[str, ...] = ("forest_ecfp4", "forest_descriptors", "constant")

    @field_validator("baselines")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_require(BASELINES, name) for name in value)


class ResourceShape(Spec):
    """What one item of a kind needs from the machine."""

    cpus: PositiveFloat = 1.0
    gpus: NonNegativeFloat = 0.0
    threads: PositiveInt = 1


class ResourcesTable(Spec):
    """``[resources]``: the default shape, with ``[resources.KIND]`` where a kind differs."""

    cpus: PositiveFloat = 1.0
    gpus: NonNegativeFloat = 0.0
    threads: PositiveInt = 1
    precision: Literal["fp32", "bf16", "auto"] = "auto"
    """``auto``: bf16 from width 256 on, fp32 below; resolved when the plan is made, never from the device."""
    pack: bool = False
    """Let items share a GPU as their measured memory allows, see `chembench.sweep.packing`."""
    pretrain: ResourceShape | None = None
    search: ResourceShape | None = None
    rescore: ResourceShape | None = None
    confirm: ResourceShape | None = None
    baseline: ResourceShape | None = None

    def shape(self, kind: Kind) -> ResourceShape:
        own: ResourceShape | None = getattr(self, kind)
        return own or ResourceShape(cpus=self.cpus, gpus=self.gpus, threads=self.threads)

    def precision_for(self, hidden: int) -> Precision:
        """bf16 pays from width 256 on (measured on CPU: 1.4x at 384, 0.8x at 128)."""
        if self.precision == "auto":
            return "bf16" if hidden >= 256 else "fp32"
        return self.precision


class Space(Spec):
    """Everything a sweep depends on. Read from TOML by `chembench.sweep.reading.read_space`."""

    name: str
    description: str = ""
    base: str = ""
    """Folder that relative paths start from; the folder of the file when not given."""
    mode: Literal["sound", "paper"] = "sound"
    seed: NonNegativeInt = 0
    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    task: dict[str, TaskDef] = {}
    corpus: CorpusSpec
    labels: LabelSpec = LabelSpec()
    tokenizer: TokenizerTable = TokenizerTable()
    grid: dict[str, tuple[Scalar, ...]] = {}
    """Axis -> values: ``architecture``, ``size``, ``molecules``, ``finetune.FIELD``, ``pretrain.FIELD``."""
    model: dict[str, Any] = {}
    """The axes that [grid] leaves out: a value, or a choice (which makes the space adaptive)."""
    pooling: Literal["default", "mean"] = "default"
    controls: ControlsTable = ControlsTable()
    pretrain: dict[str, Any] = {}
    """Values of `PretrainSpec` fields, and one table per architecture where they differ."""
    finetune: dict[str, Any]
    search: SearchTable
    confirm: ConfirmTable = ConfirmTable()
    resources: ResourcesTable = ResourcesTable()

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The recipe: each field of [finetune], parsed."""
        return {key: parse_parameter(raw, "finetune", key) for key, raw in self.finetune.items()}

    @property
    def axes(self) -> dict[str, Parameter]:
        """The axes under [model], parsed."""
        return {key: parse_parameter(raw, "model", key) for key, raw in self.model.items()}

    @property
    def is_adaptive(self) -> bool:
        """Whether the sampler chooses the cell, too."""
        return any(axis.is_searched for axis in self.axes.values())

    def task_def(self, name: str) -> TaskDef:
        """The definition of a task: the file's own table, or the built-in one."""
        return self.task.get(name) or TASKS[name]

    def pretrain_fields(self, architecture: str) -> dict[str, Any]:
        """Fields of [pretrain] for one architecture, its own table winning."""
        shared = {k: v for k, v in self.pretrain.items() if k not in ARCHITECTURES}
        merged = {**shared, **self.pretrain.get(architecture, {})}
        return {key: None if value == "none" else value for key, value in merged.items()}

    @property
    def relative_files(self) -> tuple[str, ...]:
        """The files it names that are looked for in `base`."""
        tasks = [self.task_def(name) for name in self.tasks]
        own = [task.file for task in tasks if task.source == "file"]
        named = [name for name in (*self.corpus.files, *own, self.tokenizer.file) if name]
        elsewhere = [name for name in named if name.startswith("rdkit:") or "://" in name]
        return tuple(n for n in named if n not in elsewhere and not Path(n).expanduser().is_absolute())

    def as_data(self) -> dict[str, Any]:
        """The resolved space as TOML-able values, every default written out; it can be read back in any folder."""
        data = self.model_dump(mode="json", exclude_none=True)
        if not (self.relative_files and self.base):
            del data["base"]
        data["finetune"] = {key: as_toml(p) for key, p in self.parameters.items()}
        data["model"] = {key: as_toml(p) for key, p in self.axes.items()}
        grid: dict[str, Any] = {}
        for axis, values in self.grid.items():
            table, _, key = axis.rpartition(".")
            (grid.setdefault(table, {}) if table else grid)[key] = list(values)
        data["grid"] = grid
        data["task"] = {name: self.task_def(name).model_dump(mode="json", exclude_none=True) for name in self.tasks}
        return {key: value for key, value in data.items() if value not in ({}, None)}

    def identity(self) -> dict[str, Any]:
        """What must be equal for a sweep to go on: all but names, descriptions, places and shares of the machine."""
        data = self.as_data()
        data.pop("base", None)
        data.pop("description", None)
        data.pop("name")
        data["search"].pop("give_up_after")
        if not self.confirm.outer_folds:
            for name in ("outer_folds", "outer_repeats", "outer_groups", "outer_search"):
                del data["confirm"][name]
        clustered = bool(self.confirm.outer_folds) and self.confirm.outer_groups == "cluster"
        for task in data["task"].values():
            if task["split"] != "cluster" and not clustered:
                del task["split_similarity"]  # decides nothing then
        resources: dict[str, str] = {"precision": self.resources.precision}
        for kind in ("pretrain", "search", "rescore", "confirm", "baseline"):
            resources[f"{kind}.threads"] = str(self.resources.shape(kind).threads)
        data["resources"] = resources
        return data

    @property
    def digest(self) -> str:
        """Of everything that decides results; see `identity`."""
        return digest_of(self.identity())


def raised(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What differs between two identities of a space, each with both values.

    Args:
        before: `Space.identity` that a sweep was begun with.
        now: that of the space it is to go on with.

    Returns:
        Fields that only grew and may, and all others: with one of these the sweep cannot go on.
    """
    there, here = _flat(before), _flat(now)
    grown: list[str] = []
    refused: list[str] = []
    for key in sorted({*there, *here}):
        if there.get(key) != here.get(key):
            may_be = key in RAISABLE and key in there and key in here and here[key] > there[key]
            told = f"{key}: {there.get(key, '(not set)')} there, {here.get(key, '(not set)')} here"
            (grown if may_be else refused).append(told)
    return grown, refused


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(data, dict):
        return {
            k: v for key, value in data.items() for k, v in _flat(value, f"{prefix}.{key}" if prefix else key).items()
        }
    return {prefix: data}
