"""From cells, recipes and seed indices to the exact specifications of items, and what each item reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from chembench.config import stable_seed
from chembench.paths import CachePaths
from chembench.recorded.table import row_key
from chembench.specs import (
    BaselineSpec,
    Cell,
    FinetuneSpec,
    Inputs,
    ModelSpec,
    PretrainSpec,
    TrialKind,
    TrialSpec,
)
from chembench.sweep.cells import model_of, pretraining_fields, pretraining_name, scales_below, settings_of
from chembench.sweep.inputs import Prepared
from chembench.sweep.parameters import Scalar
from chembench.sweep.space import Space
from chembench.training.schedule import warmup_steps

Item = TypeVar("Item", PretrainSpec, TrialSpec, BaselineSpec)


@dataclass(frozen=True, slots=True)
class Replicate:
    """Indices of one replicate; the same for every cell, so that comparisons are paired."""

    pretrain_seed: int = 0
    split: int = 0
    head_seed: int = 0
    outer: int = 0
    """Which outer test set; 0 is that of the named split."""


@dataclass(slots=True)
class Resolver:
    """Writes specifications for one space and its prepared inputs."""

    space: Space
    prepared: Prepared
    cache: CachePaths
    _models: dict[str, ModelSpec] = field(default_factory=dict)
    _chains: dict[tuple[str, int], tuple[PretrainSpec, ...]] = field(default_factory=dict)

    def model(self, cell: Cell) -> ModelSpec:
        key = f"{cell.architecture} {cell.size}"
        if key not in self._models:
            self._models[key] = model_of(self.space, cell, self.prepared.vocabulary)
        return self._models[key]

    def recipe(self, cell: Cell, params: Mapping[str, Scalar]) -> FinetuneSpec:
        """Fixed values, the cell's own settings and the drawn ``params``; inactive fields stand at their defaults."""
        values: dict[str, Scalar | None] = {}
        fixed = settings_of(cell, "finetune")
        known: dict[str, Scalar | None] = {**fixed, **params}
        for name, parameter in self.space.parameters.items():
            if not parameter.is_searched:
                known.setdefault(name, parameter.fixed)
        for name, parameter in self.space.parameters.items():
            if parameter.is_active(known):
                values[name] = known.get(name, parameter.fixed)
        return FinetuneSpec.model_validate({**values, **fixed})

    def pretrain(self, cell: Cell, pretrain_seed: int) -> PretrainSpec:
        """The pre-training a cell with molecules stands on."""
        return self.lineage(cell, pretrain_seed)[-1]

    def lineage(self, cell: Cell, pretrain_seed: int) -> tuple[PretrainSpec, ...]:
        """That pre-training as the last one, after those of smaller scale that it continues one after the other."""
        plain = self._plain_lineage(cell, pretrain_seed)
        if self.prepared.replayed is None:
            return plain
        chain: list[PretrainSpec] = []
        for spec in plain:
            own = {"continues": chain[-1].digest if spec.continues else None}
            chain.append(self._replayed(spec.model_copy(update=own), spec.digest))
        return tuple(chain)

    def _plain_lineage(self, cell: Cell, pretrain_seed: int) -> tuple[PretrainSpec, ...]:
        key = (pretraining_name(cell), pretrain_seed)
        if key not in self._chains:
            chain: list[PretrainSpec] = []
            for scale in (*scales_below(self.space, cell), cell):
                spec = self._alone(scale, pretrain_seed)
                if spec.share_trunk:
                    warmup = chain[0].warmup_steps if chain else warmup_steps(spec)
                    continued = {"warmup_steps": warmup, "continues": chain[-1].digest if chain else None}
                    spec = spec.model_copy(update=continued)
                chain.append(spec)
            self._chains[key] = tuple(chain)
        return self._chains[key]

    def _alone(self, cell: Cell, pretrain_seed: int) -> PretrainSpec:
        """The pre-training of a cell as if there were no smaller scale."""
        shards, corpus = self.prepared.shards, self.prepared.corpus
        assert shards is not None and corpus is not None
        shape = self.space.resources.shape("pretrain")
        model = self.model(cell)
        fields = pretraining_fields(self.space, cell)
        return PretrainSpec.model_validate(
            {
                **fields,
                "model": model,
                "outputs": shards.outputs,
                "molecules": cell.molecules,
                "corpus": corpus.digest,
                "labels": shards.labels_digest,
                "tokenizer": self.prepared.tokenizer_digest,
                "precision": self.space.resources.precision_for(model.hidden),
                "threads": shape.threads,
                "seed": stable_seed(self.space.seed, "pretrain", pretrain_seed),
            }
        )

    def trial(self, kind: TrialKind, cell: Cell, task: str, recipe: FinetuneSpec, at: Replicate) -> TrialSpec:
        """One fine-tuning; the sealed labels' digest stands in confirm trials only."""
        plain = self._plain_trial(kind, cell, task, recipe, at)
        replayed = self.prepared.replayed
        if replayed is None:
            return plain
        if replayed.recording.form == "csv":
            return self._replayed(plain, row_key(cell, task, at.pretrain_seed, at.split, at.head_seed))
        stands_on = None if plain.pretrained is None else self.pretrain(cell, at.pretrain_seed).digest
        return self._replayed(plain.model_copy(update={"pretrained": stands_on}), plain.digest)

    def _plain_trial(self, kind: TrialKind, cell: Cell, task: str, recipe: FinetuneSpec, at: Replicate) -> TrialSpec:
        prepared_task, split = self.prepared.tasks[task], self.prepared.splits[task, at.outer, at.split]
        model = self.model(cell)
        # a table of recorded scores knows no pre-trainings
        has_none = cell.is_control or self.prepared.shards is None
        pretrained = None if has_none else self._plain_lineage(cell, at.pretrain_seed)[-1].digest
        return TrialSpec(
            kind=kind,
            model=model,
            pretrained=pretrained,
            descriptors=self.prepared.shards.outputs if self.prepared.shards else 1,
            init_seed=stable_seed(self.space.seed, "pretrain", at.pretrain_seed) if cell.is_control else 0,
            tokenizer=self.prepared.tokenizer_digest,
            task=task,
            task_kind=prepared_task.kind,
            targets=len(prepared_task.targets),
            data=split.data,
            test_rows=split.test_rows,
            sealed=split.sealed if kind == "confirm" else None,
            split=at.split,
            outer=at.outer,
            finetune=recipe,
            head_seed=stable_seed(self.space.seed, "head", kind, at.head_seed),
            mask_missing=self.space.task_def(task).mask_missing,
            precision=self.space.resources.precision_for(model.hidden),
            threads=self.space.resources.shape(kind).threads,
        )

    def baseline(self, name: str, task: str, at: Replicate) -> BaselineSpec:
        """One baseline on the rows that the trials of this split use."""
        prepared_task, split = self.prepared.tasks[task], self.prepared.splits[task, at.outer, at.split]
        plain = BaselineSpec(
            baseline=name,
            descriptors=self.space.labels.descriptors,
            task=task,
            task_kind=prepared_task.kind,
            targets=len(prepared_task.targets),
            data=split.data,
            test_rows=split.test_rows,
            sealed=split.sealed,
            split=at.split,
            outer=at.outer,
            seed=stable_seed(self.space.seed, "baseline", at.head_seed),
            threads=self.space.resources.shape("baseline").threads,
        )
        return self._replayed(plain, plain.digest)

    def _replayed(self, spec: Item, key: str) -> Item:
        """``spec``, or in a replay the same with the place of its recorded result, which gives it a uid of its own.

        Args:
            spec: an item as a sweep carries it out.
            key: what its result is recorded under.
        """
        replayed = self.prepared.replayed
        return spec if replayed is None else spec.model_copy(update={"recorded": replayed.recording.place(key)})

    def inputs(self, spec: PretrainSpec | TrialSpec | BaselineSpec) -> Inputs:
        """The folders an item reads; a search or rescore item is not told where the sealed labels are."""
        if self.prepared.replayed is not None:
            return Inputs(recorded=str(self.prepared.replayed.file))
        tokenizer = str(self.prepared.tokenizer_folder)
        if isinstance(spec, PretrainSpec):
            shards = self.prepared.shards
            assert shards is not None
            return Inputs(
                tokenizer=tokenizer,
                shards=tuple(map(str, shards.train)),
                validation_shards=tuple(map(str, shards.validation)),
                statistics=str(shards.statistics),
                checkpoint=str(self.cache.pretrained(spec.digest)),
                trunk=str(self.cache.pretrained(spec.continues)) if spec.continues else None,
            )
        split = self.prepared.splits[spec.task, spec.outer, spec.split]
        sealed = str(split.sealed_folder) if spec.sealed else None
        if isinstance(spec, BaselineSpec):
            return Inputs(split=str(split.folder), sealed=sealed)
        checkpoint = str(self.cache.pretrained(spec.pretrained)) if spec.pretrained else None
        return Inputs(tokenizer=tokenizer, checkpoint=checkpoint, split=str(split.folder), sealed=sealed)
