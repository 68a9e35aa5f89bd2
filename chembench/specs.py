"""What the items of a sweep are, as values: a pre-training, a trial, a baseline, and what comes out.

A specification holds everything that decides the digits of a result, and nothing else: its digest is the item's uid.
Where the inputs lie (`Inputs`), what the item is called (`Cell`) and how it is scheduled stand beside it in `Work`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from chembench.config import Spec
from chembench.errors import Cause

Precision = Literal["fp32", "bf16"]
TaskKind = Literal["regression", "classification"]
Pooling = Literal["default", "mean"]
Schedule = Literal["cosine", "wsd"]
TrialKind = Literal["search", "rescore", "confirm"]
Kind = Literal["pretrain", "search", "rescore", "confirm", "baseline"]
Status = Literal["finished", "pruned", "failed"]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]

CODE_SCHEMA = 2
"""Raised when the same specification gives other digits than before; part of every uid."""


class Cell(Spec):
    """One combination of the axes that are compared; ``molecules = 0`` is the from-scratch control."""

    architecture: str
    size: str
    molecules: NonNegativeInt
    settings: dict[str, str | bool | int | float] = {}
    """Further axes of the grid, such as ``finetune.method``."""

    @property
    def name(self) -> str:
        base = f"{self.architecture}-{self.size}-{self.molecules or 'scratch'}"
        return "+".join([base, *(f"{key.split('.')[-1]}={value}" for key, value in sorted(self.settings.items()))])

    @property
    def is_control(self) -> bool:
        return self.molecules == 0


class ModelSpec(Spec):
    """A backbone, resolved to its dimensions."""

    architecture: str
    hidden: PositiveInt
    ffn: PositiveInt
    layers: PositiveInt
    """Encoder layers of BART, all layers of the others."""
    decoder_layers: NonNegativeInt = 0
    heads: PositiveInt
    vocabulary: PositiveInt
    max_length: PositiveInt = 512
    """Longest token sequence, start and end tokens included."""
    pad_id: NonNegativeInt
    bos_id: NonNegativeInt
    eos_id: NonNegativeInt
    pooling: Pooling = "default"
    """``default``: first token (RoBERTa), decoder state at the last ``</s>`` (BART), last real token (LLaMA)."""


class PretrainSpec(Spec):
    """Multi-task regression of descriptors on SMILES, from random weights."""

    kind: Literal["pretrain"] = "pretrain"
    code_schema: PositiveInt = CODE_SCHEMA
    model: ModelSpec
    outputs: PositiveInt
    """Number of descriptors predicted."""
    molecules: PositiveInt
    """Training molecules: the first of the corpus' hash order; validation is extra."""
    corpus: str
    """Digest of the prepared corpus (order and validation membership)."""
    labels: str
    """Digest of the descriptor list, RDKit version, statistics and clip bounds."""
    tokenizer: str
    objective: Literal["mtr"] = "mtr"
    loss: Literal["l1", "huber"] = "l1"
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat = 0.01
    warmup_fraction: Fraction = 0.06
    schedule: Schedule = "cosine"
    """How the rate falls: half a cosine, or warm-up, stable and decay, see `chembench.training.schedule`."""
    decay_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """Share of the steps in which the rate of ``wsd`` falls."""
    share_trunk: bool = False
    """Keep the state before the decay, from which the next scale continues; one epoch of ``wsd``."""
    warmup_steps: NonNegativeInt | None = None
    """Of ``wsd``, instead of ``warmup_fraction``: all scales on a trunk have the warm-up of the smallest."""
    continues: str | None = None
    """Digest of the next smaller scale, whose state before the decay this pre-training begins with."""
    epochs: PositiveFloat | None = None
    """Passes over the training molecules; exactly one of ``epochs`` and ``steps`` is given."""
    steps: PositiveInt | None = None
    batch_size: PositiveInt = 256
    """Molecules per optimiser step."""
    dropout: Fraction = 0.1
    attention_dropout: Fraction = 0.0
    max_grad_norm: PositiveFloat | None = 1.0
    keep_every_epoch: bool = False
    """Keep the weights after each epoch (paper mode selects among them)."""
    precision: Precision = "fp32"
    threads: PositiveInt = 1
    seed: NonNegativeInt = 0
    recorded: str | None = None
    """Of a replay: which recorded result stands for it, and the SHA-256 of the file; none: it is carried out."""

    born_later: ClassVar[Mapping[str, Any]] = {
        "schedule": "cosine",
        "decay_fraction": 0.1,
        "share_trunk": False,
        "warmup_steps": None,
        "continues": None,
        "recorded": None,
    }

    @property
    def starts_from(self) -> str | None:
        """Digest of the pre-training whose weights it begins with."""
        return self.continues

    @model_validator(mode="after")
    def _trunks_can_be_shared(self) -> PretrainSpec:
        if self.share_trunk:
            problem = sharing_problem(self.schedule, self.epochs, self.steps, self.keep_every_epoch)
            if problem:
                raise ValueError(problem)
        elif self.continues is not None:
            raise ValueError("only a pre-training that shares its trunk continues another; set share_trunk = true")
        return self


def sharing_problem(schedule: Schedule, epochs: float | None, steps: int | None, keep_every_epoch: bool) -> str:
    """Why pre-trainings with these settings cannot share a trunk; empty if they can."""
    if schedule != "wsd":
        return (
            f'a trunk is shared before its decay, which a {schedule} has not; set schedule = "wsd" or drop share_trunk'
        )
    if steps is not None or epochs != 1:
        got = f"steps = {steps}" if steps is not None else f"epochs = {epochs or 'none'}"
        return f"scales share a trunk in one pass over nested molecules, got {got}; set epochs = 1 or drop share_trunk"
    if keep_every_epoch:
        return "one pass over a shared trunk has no earlier epoch to keep; drop keep_every_epoch or share_trunk"
    return ""


class FinetuneSpec(Spec):
    """A recipe: how one checkpoint is fitted to one task. A space may fix or search each field."""

    method: Literal["full", "lora", "linear_probe", "descriptor_probe"] = "full"
    learning_rate: PositiveFloat
    """Peak rate after warm-up."""
    batch_size: PositiveInt = 32
    """Molecules per optimiser step."""
    max_epochs: PositiveInt = 50
    patience: PositiveInt | None = None
    """Epochs without a better validation objective before training stops; none: all epochs are run."""
    weight_decay: NonNegativeFloat = 0.01
    warmup_fraction: Fraction = 0.1
    dropout: Fraction = 0.1
    """Of the backbone and before the head; probes apply it before the head only."""
    loss: Literal["mse", "l1", "huber"] = "mse"
    """Of regression tasks, on scaled targets; classification uses binary cross entropy."""
    lora_rank: PositiveInt = 8
    lora_alpha: PositiveFloat = 16.0
    max_grad_norm: PositiveFloat | None = 1.0
    class_weights: bool = False
    """Weight the positive class by the ratio of negatives to positives."""
    checkpoints: Literal["last", "every_epoch"] = "last"
    """``every_epoch``: fit one head per kept pre-training epoch, keep the best by validation loss (paper mode)."""
    select_by: Literal["objective", "loss"] = "objective"
    """What picks the best epoch on validation."""


class TrialSpec(Spec):
    """One fine-tuning: a recipe on a checkpoint (or random weights), for one task, split and head seed."""

    born_later: ClassVar[Mapping[str, Any]] = {"recorded": None}

    kind: TrialKind
    code_schema: PositiveInt = CODE_SCHEMA
    model: ModelSpec
    pretrained: str | None
    """Digest of the `PretrainSpec`; none for a from-scratch control."""
    descriptors: PositiveInt
    """Outputs of the pre-training head, which ``descriptor_probe`` reads."""
    init_seed: NonNegativeInt = 0
    """Initial weights of a from-scratch control."""
    tokenizer: str
    task: str
    task_kind: TaskKind
    targets: PositiveInt
    data: str
    """Digest of the training and validation rows with their labels."""
    test_rows: str
    """Digest of the test molecules' row ids, which says what may not be learnt from."""
    sealed: str | None = None
    """Digest of the sealed test labels; confirm trials only."""
    split: NonNegativeInt = 0
    """0 is the named split's own train/valid; i > 0 re-divides them."""
    outer: NonNegativeInt = 0
    finetune: FinetuneSpec
    head_seed: NonNegativeInt
    mask_missing: bool = True
    """Leave unmeasured labels out; paper mode reads them as 0."""
    precision: Precision = "fp32"
    threads: PositiveInt = 1
    recorded: str | None = None
    """As in `PretrainSpec`."""

    @property
    def starts_from(self) -> str | None:
        """Digest of the pre-training whose weights it begins with."""
        return self.pretrained


class BaselineSpec(Spec):
    """One baseline on one task, split and seed."""

    born_later: ClassVar[Mapping[str, Any]] = {"recorded": None}

    kind: Literal["baseline"] = "baseline"
    code_schema: PositiveInt = CODE_SCHEMA
    baseline: str
    descriptors: str = "rdkit"
    """Descriptor list of ``forest_descriptors``, the labels of pre-training: its name, or names separated by commas."""
    task: str
    task_kind: TaskKind
    targets: PositiveInt
    data: str
    test_rows: str
    sealed: str
    split: NonNegativeInt = 0
    outer: NonNegativeInt = 0
    seed: NonNegativeInt = 0
    threads: PositiveInt = 1
    recorded: str | None = None
    """As in `PretrainSpec`."""

    @property
    def starts_from(self) -> None:
        """No pre-training."""


ItemSpec = Annotated[PretrainSpec | TrialSpec | BaselineSpec, Field(discriminator="kind")]


class Inputs(Spec):
    """Folders an item reads. Not part of its uid: their digests stand in the specification."""

    tokenizer: str | None = None
    """Folder with ``tokenizer.json``."""
    shards: tuple[str, ...] = ()
    """Training shards in corpus order; the first `PretrainSpec.molecules` rows are used."""
    validation_shards: tuple[str, ...] = ()
    statistics: str | None = None
    """Folder with the label statistics."""
    checkpoint: str | None = None
    """Folder of the pre-trained model: written by a pre-training, read by a trial."""
    trunk: str | None = None
    """Folder of the pre-training that this one continues."""
    split: str | None = None
    """Folder with ``train`` and ``valid`` rows and the test row ids."""
    sealed: str | None = None
    """Folder with the sealed test rows; confirm and baseline items only."""
    recorded: str | None = None
    """File with recorded results, which an item of a replay reads alone."""


class EarlierTrial(Spec):
    """One line of the rung table: what an earlier trial of the same study scored after each epoch."""

    ordinal: NonNegativeInt
    status: Status
    objectives: tuple[float, ...]
    """Lower is better, one per epoch."""


class Rungs(Spec):
    """What a pruner may know: the trials of earlier windows of the same study. Not part of a uid."""

    pruner: str
    options: dict[str, Any] = {}
    study: str
    earlier: tuple[EarlierTrial, ...] = ()


class Work(Spec):
    """One attempt at one item, ready to be carried out anywhere: it crosses process borders as JSON."""

    uid: str
    attempt: PositiveInt
    spec: ItemSpec
    inputs: Inputs
    folder: str
    """Folder of this attempt; the item writes there and nowhere else (a pre-training also its checkpoint)."""
    cell: Cell | None = None
    sweep: str
    labels: dict[str, str | int | float] = {}
    """For people and trackers: study, ordinal, seed indices."""
    rungs: Rungs | None = None
    save_model: bool = False
    """Keep the fitted weights in the attempt's folder."""
    device: Literal["cpu", "cuda"] = "cpu"
    memory_fraction: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Share of the GPU that the item may allocate; none: no limit."""
    storage: str | None = None
    """URL by which the item's inputs and results cross; none: worker and driver see the same folders."""

    @property
    def kind(self) -> Kind:
        return self.spec.kind


class Outcome(Spec):
    """What came out of one attempt: the content of ``result.json``."""

    uid: str
    attempt: PositiveInt
    kind: Kind
    status: Status
    cause: Cause | None = None
    message: str = ""
    metrics: dict[str, float] = {}
    """Determined by the specification: ``valid/rmse``, ``test/roc_auc``, ``objective``, ``best_epoch``, ``epochs``."""
    objectives: tuple[float, ...] = ()
    """Validation objective after each epoch, lower is better (normalised RMSE or 1 - ROC-AUC)."""
    facts: dict[str, Any] = {}
    """Determined too, not scores: parameters, truncated molecules, undefined metrics."""
    measured: dict[str, Any] = {}
    """Times, memory, device, host: differ from run to run."""
