"""A small world to train in: real SMILES, shards and splits on disk, in the form that `prepare` gives them."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chembench.chem.tokens import SmilesTokenizer
from chembench.data.shards import write_shard
from chembench.data.splits import Rows
from chembench.data.statistics import label_statistics, save_statistics
from chembench.models.sizes import resolve
from chembench.paths import built_whole, write_json
from chembench.specs import FinetuneSpec, Inputs, PretrainSpec, TrialSpec

CHAINS = ("C", "CC", "CCC", "CCCC", "CC(C)C", "C1CCCCC1", "c1ccccc1", "c1ccncc1")
LINKS = ("", "O", "N", "C(=O)", "C(=O)N", "S", "C=C", "OCC")
ENDS = ("C", "CC", "O", "N", "F", "Cl", "Br", "C#N", "C(=O)O", "c1ccccc1")
DESCRIPTORS = ("carbons", "oxygens", "nitrogens", "length", "rings", "sometimes")


def molecules(count):
    """The first ``count`` of 640 molecules in a fixed mixed order."""
    every = [head + link + tail for head, link, tail in itertools.product(CHAINS, LINKS, ENDS)]
    order = np.random.default_rng(0).permutation(len(every))
    return [every[index] for index in order[:count]]


def descriptors(smiles):
    """Raw labels; the last one is unknown for every third molecule and infinite for one."""
    rows = [
        (
            text.upper().count("C") - text.count("Cl"),
            text.count("O"),
            text.upper().count("N"),
            len(text),
            text.count("1") / 2,
            np.nan if k % 3 == 0 else text.count("="),
        )
        for k, text in enumerate(smiles)
    ]
    labels = np.array(rows, np.float32)
    labels[1, 5] = np.inf
    return labels


def make_shard(folder, smiles, tokenizer, part):
    flat, offsets = tokenizer.encode_many(smiles)
    manifest = {"corpus": "made", "part": part, "start": 0, "stop": len(smiles), "names": list(DESCRIPTORS)}
    with built_whole(folder) as whole:
        write_shard(whole, flat, offsets, descriptors(smiles), {**manifest, "tokenizer": tokenizer.digest})


def write_part(folder, part, rows):
    (folder / f"{part}.txt").write_text("".join(f"{text}\n" for text in rows.smiles))
    np.savez(folder / f"{part}.npz", ids=rows.ids_N, labels=rows.labels_NM)


@dataclass(frozen=True)
class World:
    """Folders with everything a small item reads."""

    root: Path
    tokenizer: SmilesTokenizer

    @classmethod
    def build(cls, root):
        tokenizer = SmilesTokenizer()
        tokenizer.save(root / "tokenizer")
        smiles = molecules(260)
        make_shard(root / "shard", smiles[:200], tokenizer, "train")
        make_shard(root / "validation", smiles[200:], tokenizer, "validation")
        save_statistics(label_statistics(descriptors(smiles[:200]), DESCRIPTORS, "none", 10.0), root / "statistics")
        return cls(root, tokenizer)

    def model(self, architecture="roberta", size="w32x1", **changes):
        ids = {"pad_id": self.tokenizer.pad_id, "bos_id": self.tokenizer.bos_id, "eos_id": self.tokenizer.eos_id}
        options = {
            "vocabulary": len(self.tokenizer.vocabulary),
            "max_length": 64,
            "pooling": "default",
            **ids,
            **changes,
        }
        return resolve(architecture, size, **options)

    def pretrain_spec(self, architecture="roberta", **changes):
        fields = {
            "model": self.model(architecture),
            "outputs": len(DESCRIPTORS),
            "molecules": 200,
            "corpus": "made",
            "labels": "made",
            "tokenizer": self.tokenizer.digest,
            "learning_rate": 3e-3,
            "epochs": 3,
            "batch_size": 32,
        }
        return PretrainSpec(**{**fields, **changes})

    def pretrain_inputs(self, checkpoint):
        return Inputs(
            tokenizer=str(self.root / "tokenizer"),
            shards=(str(self.root / "shard"),),
            validation_shards=(str(self.root / "validation"),),
            statistics=str(self.root / "statistics"),
            checkpoint=str(checkpoint),
        )

    def write_split(self, name, labels, *, train=48, valid=24, test=24):
        """A split of the first molecules; ``labels`` gives the (N, M) labels of a list of SMILES."""
        smiles = molecules(train + valid + test)
        values = np.asarray(labels(smiles), np.float32)
        folder, sealed = self.root / f"split-{name}", self.root / f"sealed-{name}" / "sealed"
        bounds = {"train": (0, train), "valid": (train, train + valid), "test": (train + valid, len(smiles))}
        parts = {
            part: Rows(np.arange(start, stop), tuple(smiles[start:stop]), values[start:stop])
            for part, (start, stop) in bounds.items()
        }
        manifest = {"targets": [f"target{target}" for target in range(values.shape[1])], "unit": "log mol/L"}
        manifest |= {
            "data": "made",
            "test_rows": "made",
            "digests": {part: rows.digest for part, rows in parts.items()},
        }
        with built_whole(folder) as whole, built_whole(sealed) as hidden:
            for part, rows in parts.items():
                write_part(hidden if part == "test" else whole, part, rows)
            write_json(whole / "manifest.json", manifest)
            write_json(hidden / "manifest.json", manifest)
        return Inputs(tokenizer=str(self.root / "tokenizer"), split=str(folder)), str(sealed)

    def trial_spec(self, kind="search", task_kind="regression", targets=1, recipe=None, **changes):
        fields = {
            "kind": kind,
            "model": self.model(),
            "pretrained": None,
            "descriptors": len(DESCRIPTORS),
            "tokenizer": self.tokenizer.digest,
            "task": "made",
            "task_kind": task_kind,
            "targets": targets,
            "data": "made",
            "test_rows": "made",
            "sealed": "sealed" if kind == "confirm" else None,
            "finetune": FinetuneSpec(**{"learning_rate": 3e-3, "batch_size": 16, "max_epochs": 3, **(recipe or {})}),
            "head_seed": 0,
        }
        return TrialSpec(**{**fields, **changes})
