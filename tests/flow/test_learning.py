"""Every architecture learns 32 molecules by heart: in pre-training, and then in every fine-tuning method.

All labels are random numbers, so nothing but the molecules' identity can be learnt. The descriptors outnumber the
molecules, so that a backbone which knows them tells all molecules apart: that is what frozen probes rest on.
"""

import itertools

import numpy as np
import pytest

from chembench.chem.tokens import SmilesTokenizer
from chembench.data.shards import write_shard
from chembench.data.splits import Rows
from chembench.data.statistics import label_statistics, save_statistics
from chembench.models.sizes import resolve
from chembench.paths import write_json
from chembench.specs import FinetuneSpec, Inputs, PretrainSpec, TrialSpec
from chembench.training.finetune import finetune
from chembench.training.pretrain import pretrain

ARCHITECTURES = ("roberta", "bart", "llama")
HEADS = ("CC", "CCO", "c1ccccc1", "C[C@H](N)", "OC(=O)", "FC", "ClCC", "C1CC1")
TAILS = ("C", "N", "CO", "C(=O)N")
SMILES = tuple(head + tail for head, tail in itertools.product(HEADS, TAILS))
DESCRIPTORS = tuple(f"random{k}" for k in range(48))

RECIPES = {
    "full": {"learning_rate": 2e-3, "max_epochs": 60},
    "lora": {"learning_rate": 5e-3, "max_epochs": 80},
    "linear_probe": {"learning_rate": 5e-2, "max_epochs": 600},
    "descriptor_probe": {"learning_rate": 1e-2, "max_epochs": 300},
}


def write_rows(folder, tokenizer):
    """The 32 molecules as shards, and as splits with one random target; validation is the training set."""
    draw = np.random.default_rng(0)
    descriptors_NK = draw.normal(size=(32, len(DESCRIPTORS))).astype(np.float32)
    save_statistics(label_statistics(descriptors_NK, DESCRIPTORS, "none", 10.0), folder / "statistics")
    flat, offsets = tokenizer.encode_many(SMILES)
    shard = {"corpus": "made", "start": 0, "stop": 32, "names": DESCRIPTORS, "tokenizer": tokenizer.digest}
    (folder / "shard").mkdir()
    write_shard(folder / "shard", flat, offsets, descriptors_NK, {**shard, "part": "train"})
    values = {"regression": draw.normal(5.0, 2.0, size=32), "classification": draw.permutation(np.arange(32) % 2)}
    for kind, values_N in values.items():
        rows = Rows(np.arange(32), SMILES, values_N[:, None].astype(np.float32))
        (folder / kind).mkdir()
        for part in ("train", "valid"):
            (folder / kind / f"{part}.txt").write_text("".join(f"{text}\n" for text in SMILES))
            np.savez(folder / kind / f"{part}.npz", ids=rows.ids_N, labels=rows.labels_NM)
        facts = {"targets": ["made"], "unit": "", "data": "made", "test_rows": "made"}
        write_json(folder / kind / "manifest.json", {**facts, "digests": {"train": rows.digest, "valid": rows.digest}})


class World:
    def __init__(self, root):
        self.root, self.tokenizer = root, SmilesTokenizer()
        self.tokenizer.save(root / "tokenizer")
        write_rows(root, self.tokenizer)
        self.pretrained = {}

    def model(self, architecture):
        ids = {"pad_id": self.tokenizer.pad_id, "bos_id": self.tokenizer.bos_id, "eos_id": self.tokenizer.eos_id}
        vocabulary = len(self.tokenizer.vocabulary)
        return resolve(architecture, "w64x2", vocabulary=vocabulary, max_length=32, pooling="default", **ids)

    def pretrain(self, architecture):
        """The outcome of learning the descriptors; each architecture is trained once."""
        if architecture not in self.pretrained:
            spec = PretrainSpec(
                model=self.model(architecture),
                outputs=len(DESCRIPTORS),
                molecules=32,
                corpus="made",
                labels="made",
                tokenizer=self.tokenizer.digest,
                learning_rate=3e-3,
                weight_decay=0.0,
                epochs=150,
                batch_size=32,
                dropout=0.0,
            )
            inputs = Inputs(
                tokenizer=str(self.root / "tokenizer"),
                shards=(str(self.root / "shard"),),
                validation_shards=(str(self.root / "shard"),),
                statistics=str(self.root / "statistics"),
                checkpoint=str(self.root / "pretrained" / spec.digest),
            )
            self.pretrained[architecture] = pretrain(spec, inputs, lambda *_: False)
        return self.pretrained[architecture]

    def finetune(self, architecture, method, kind):
        checkpoint = self.pretrain(architecture).checkpoint
        spec = TrialSpec(
            kind="search",
            model=self.model(architecture),
            pretrained=checkpoint.spec.digest,
            descriptors=len(DESCRIPTORS),
            tokenizer=self.tokenizer.digest,
            task="made",
            task_kind=kind,
            targets=1,
            data="made",
            test_rows="made",
            finetune=FinetuneSpec(method=method, batch_size=32, dropout=0.0, weight_decay=0.0, **RECIPES[method]),
            head_seed=0,
        )
        inputs = Inputs(
            tokenizer=str(self.root / "tokenizer"), split=str(self.root / kind), checkpoint=str(checkpoint.folder)
        )
        return finetune(spec, inputs, lambda *_: False)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("learning"))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_pretraining_learns_32_molecules_by_heart(world, architecture):
    # guessing the mean would leave a loss of 0.8
    assert world.pretrain(architecture).metrics["valid/loss"] < 0.2


@pytest.mark.parametrize("method", RECIPES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_finetuning_learns_32_molecules_by_heart(world, architecture, method):
    assert world.finetune(architecture, method, "regression").metrics["valid/rmse_normalised"] < 0.1
    found = world.finetune(architecture, method, "classification").metrics
    assert found["valid/roc_auc"] == found["valid/mcc"] == 1.0
