import pytest
import torch

from chembench.models.base import build_pretraining_model
from chembench.models.sizes import resolve
from chembench.specs import FinetuneSpec, TrialSpec

PAD, BOS, EOS = 3, 1, 2
"""The pad id is not 0 on purpose: positions and embeddings must not hang on it."""
OUTPUTS = 7


@pytest.fixture(params=["roberta", "bart", "llama"])
def architecture(request):
    return request.param


def spec_of(architecture, size="w32x2", pooling="default"):
    return resolve(
        architecture, size, vocabulary=40, max_length=24, pad_id=PAD, bos_id=BOS, eos_id=EOS, pooling=pooling
    )


def model_of(architecture, pooling="default", seed=0, dropout=0.1):
    return build_pretraining_model(spec_of(architecture, pooling=pooling), OUTPUTS, seed, dropout)


def batch_of(lengths, seed=0):
    """Molecules ``<s> ... </s>`` of the given lengths, padded on the right."""
    generator = torch.Generator().manual_seed(seed)
    ids_BT = torch.full((len(lengths), max(lengths)), PAD)
    for row, length in enumerate(lengths):
        ids_BT[row, :length] = torch.randint(4, 40, (length,), generator=generator)
        ids_BT[row, 0], ids_BT[row, length - 1] = BOS, EOS
    return ids_BT, ids_BT != PAD


def trial_of(architecture, method, **changes):
    recipe = {"method": method, "learning_rate": 1e-3, "dropout": 0.0, "lora_rank": 4}
    recipe |= {name: changes.pop(name) for name in list(changes) if name in FinetuneSpec.model_fields}
    fields = {
        "kind": "search",
        "model": spec_of(architecture),
        "pretrained": None,
        "descriptors": OUTPUTS,
        "tokenizer": "t",
        "task": "a",
        "task_kind": "regression",
        "targets": 2,
        "data": "d",
        "test_rows": "r",
        "head_seed": 5,
    }
    return TrialSpec(**(fields | changes), finetune=FinetuneSpec(**recipe))
