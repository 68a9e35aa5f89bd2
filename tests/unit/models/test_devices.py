"""What a model does with a batch that lies on a GPU: the same, and the host never waits for it.

Meta tensors stand for a GPU's: they have no values, so whoever looks at one fails.
"""

import pytest
import torch

from chembench.errors import DataError
from chembench.models import bart, llama, roberta
from chembench.models.base import causal_for_attention, for_attention

from .conftest import BOS, batch_of, model_of

MODULES = {"roberta": roberta, "bart": bart, "llama": llama}


@pytest.mark.parametrize("pooling", ["default", "mean"])
@pytest.mark.parametrize("lengths", [[5, 9], [7, 7]])
def test_nobody_looks_at_a_batch_on_a_device(architecture, pooling, lengths):
    model = model_of(architecture, pooling).to("meta")
    ids_BT, mask_BT = batch_of(lengths)
    for mask in (mask_BT.to("meta"), None):
        model(ids_BT.to("meta"), mask).sum().backward()


def test_masks_of_four_dimensions_say_what_those_of_two_say(architecture, monkeypatch):
    model = model_of(architecture).eval()
    ids_BT, mask_BT = batch_of([5, 9, 24])
    spread = for_attention(mask_BT.to("meta"))
    causal = causal_for_attention(ids_BT.to("meta"))
    assert spread.shape == causal.shape == (3, 1, 24, 24)
    with torch.no_grad():
        due_BK = model(ids_BT, mask_BT)
        module, tril = MODULES[architecture], torch.ones(24, 24, dtype=torch.bool).tril()
        monkeypatch.setattr(
            module, "for_attention", lambda mask: mask[:, None, None].expand(-1, 1, 24, -1), raising=False
        )
        monkeypatch.setattr(module, "causal_for_attention", lambda ids: tril.expand(3, 1, -1, -1), raising=False)
        torch.testing.assert_close(model(ids_BT, mask_BT), due_BK, atol=1e-5, rtol=0)


@pytest.mark.parametrize("pooling", ["default", "mean"])
def test_a_batch_of_one_length_needs_no_mask(architecture, pooling):
    model = model_of(architecture, pooling).eval()
    ids_BT, mask_BT = batch_of([9, 9, 9])
    with torch.no_grad():
        assert torch.equal(model(ids_BT, None), model(ids_BT, mask_BT))


def test_without_a_mask_the_length_and_the_end_are_checked_too(architecture):
    model = model_of(architecture)
    ids_BT, _ = batch_of([25])
    with pytest.raises(DataError, match="at most 24 tokens, got 25; truncate it"):
        model(ids_BT, None)
    if architecture == "bart":
        with pytest.raises(DataError, match=r"pools at the last </s> \(id 2\), sequence 1 of the batch has none"):
            model(torch.tensor([[BOS, 5, 2], [BOS, 5, 6]]), None)
