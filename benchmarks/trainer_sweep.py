"""The other side of `finetuning.py`: Tune, OptunaSearch and `transformers.Trainer`, as a competent user writes it.

It is given a trial of a chembench sweep as a file: its rows, tokenizer, checkpoint, model and fixed settings are used,
only learning rate and dropout are searched. Each trial tokenises, loads the checkpoint, trains and evaluates after
every epoch. Nothing is saved, and nothing is sent to a tracker. Axes: B molecules of a batch, T tokens.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import click

from chembench.paths import read_json
from chembench.specs import Inputs, TrialSpec, Work

SEARCHED = {"learning_rate": (3e-4, 3e-3), "dropout": (0.0, 0.2)}
"""As in the space of `finetuning.py`; the first on a logarithmic scale."""


def dataset(spec: TrialSpec, inputs: Inputs, part: str, mean: float, sd: float) -> list[dict[str, Any]]:
    """Molecules of one part, tokenised by the exported tokenizer, with standardised labels."""
    from transformers import PreTrainedTokenizerFast

    from chembench.data.splits import load_rows

    rows = load_rows(str(inputs.split), cast(Any, part))
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(Path(str(inputs.tokenizer)) / "tokenizer.json"))
    ids = tokenizer(list(rows.smiles))["input_ids"]
    labels = (rows.labels_NM - mean) / sd
    return [{"input_ids": one, "labels": row.tolist()} for one, row in zip(ids, labels, strict=True)]


def model_of(spec: TrialSpec, inputs: Inputs, dropout: float) -> Any:
    """The model that chembench fine-tunes, in the form `Trainer` wants it."""
    import torch
    from hf_trainer import plain

    from chembench.models.base import build_pretraining_model, load_tensors
    from chembench.models.heads import full
    from chembench.training.checkpoint import read_checkpoint

    class WithLoss(torch.nn.Module):
        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any, labels: Any) -> dict[str, Any]:
            logits = self.model(input_ids, attention_mask)
            return {"loss": torch.nn.functional.mse_loss(logits, labels), "logits": logits}

    trial = spec.model_copy(update={"finetune": spec.finetune.model_copy(update={"dropout": dropout})})
    pretrained = build_pretraining_model(trial.model, trial.descriptors, trial.init_seed, dropout)
    checkpoint = read_checkpoint(Path(str(inputs.checkpoint)), str(trial.pretrained))
    load_tensors(pretrained, checkpoint.tensors(checkpoint.weight_files[-1]))
    plain(pretrained)
    return WithLoss(full(pretrained, trial))


def collated(rows: list[dict[str, Any]], pad_id: int) -> dict[str, Any]:
    """Rows to tensors, padded to the longest of them."""
    import torch

    length = max(len(row["input_ids"]) for row in rows)
    ids = [row["input_ids"] + [pad_id] * (length - len(row["input_ids"])) for row in rows]
    ids_BT = torch.tensor(ids)
    return {
        "input_ids": ids_BT,
        "attention_mask": ids_BT != pad_id,
        "labels": torch.tensor([row["labels"] for row in rows], dtype=torch.float32),
    }


def train_one(
    config: Mapping[str, Any], work: Mapping[str, Any], report: Callable[[dict[str, Any]], None] | None = None
) -> None:
    """One trial: reports the best objective so far after every epoch, to Tune if nobody else is named."""
    import numpy as np
    import torch
    from ray import tune
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from chembench.data.splits import load_rows

    torch.set_num_threads(1)
    whole = Work.model_validate(work)
    spec, inputs = cast(TrialSpec, whole.spec), whole.inputs
    labels = load_rows(str(inputs.split), "train").labels_NM
    mean, sd = float(labels.mean()), float(labels.std())
    train, valid = (dataset(spec, inputs, part, mean, sd) for part in ("train", "valid"))

    class Reporter(TrainerCallback):
        best = float("inf")
        epochs = 0

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, float], **others: Any) -> None:
            self.best, self.epochs = min(self.best, metrics["eval_objective"]), self.epochs + 1
            (report or tune.report)({"objective": self.best, "epochs": self.epochs})

    def objective(found: Any) -> dict[str, float]:
        """Root mean square error in standard deviations of the training labels."""
        return {"objective": float(np.sqrt(np.mean((found.predictions - found.label_ids) ** 2)))}

    recipe = spec.finetune
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=recipe.max_epochs,
            per_device_train_batch_size=recipe.batch_size,
            per_device_eval_batch_size=recipe.batch_size,
            learning_rate=config["learning_rate"],
            weight_decay=recipe.weight_decay,
            warmup_steps=recipe.warmup_fraction,
            lr_scheduler_type="cosine",
            max_grad_norm=recipe.max_grad_norm or 0.0,
            eval_strategy="epoch",
            logging_strategy="epoch",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
            seed=spec.head_seed,
        )
        Trainer(
            model=model_of(spec, inputs, config["dropout"]),
            args=arguments,
            train_dataset=train,
            eval_dataset=valid,
            data_collator=lambda rows: collated(rows, spec.model.pad_id),
            compute_metrics=objective,
            callbacks=[Reporter()],
        ).train()


def search(
    work: Mapping[str, Any], trials: int, slots: int, seed: int, reuse_actors: bool, folder: Path
) -> dict[str, Any]:
    """The whole search: objectives of the trials in the order in which they ended, and their epochs."""
    import logging

    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    ray.init(
        num_cpus=slots,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _temp_dir=str(folder / "r"),
    )
    rate, dropout = SEARCHED["learning_rate"], SEARCHED["dropout"]
    results = tune.Tuner(
        tune.with_resources(tune.with_parameters(train_one, work=dict(work)), {"cpu": 1}),
        param_space={"learning_rate": tune.loguniform(*rate), "dropout": tune.uniform(*dropout)},
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(metric="objective", mode="min", seed=seed),
            metric="objective",
            mode="min",
            num_samples=trials,
            max_concurrent_trials=slots,
            reuse_actors=reuse_actors,
        ),
        run_config=tune.RunConfig(storage_path=str(folder / "tune"), verbose=0),
    ).fit()
    ray.shutdown()
    metrics = [result.metrics or {} for result in results]
    return {"objectives": [one["objective"] for one in metrics], "epochs": [one["epochs"] for one in metrics]}


@click.command(help=__doc__)
@click.option("--work", required=True, type=click.Path(exists=True, path_type=Path), help="spec.json of a trial.")
@click.option("--trials", required=True, type=int)
@click.option("--slots", default=2, show_default=True, help="Trials at a time.")
@click.option("--seed", default=0, show_default=True, help="Of the sampler.")
@click.option("--reuse-actors", is_flag=True, help="Let Tune keep its processes.")
def main(work: Path, trials: int, slots: int, seed: int, reuse_actors: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="b_", ignore_cleanup_errors=True) as folder:  # short, for Ray's sockets
        found = search(read_json(work), trials, slots, seed, reuse_actors, Path(folder))
    click.echo(json.dumps(found))


if __name__ == "__main__":
    main()
