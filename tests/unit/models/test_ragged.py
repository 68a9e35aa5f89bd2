"""The quick way through a backbone gives what the class that it is made of gives, value and gradient."""

import pytest
import torch

from chembench.models.base import Backbone, padding_cost
from chembench.models.ragged import Ragged
from chembench.training.device import CPU, CUDA
from chembench.training.memory import MicroBatches

from .conftest import batch_of, model_of, spec_of


def gradients(backbone, call, batch):
    backbone.zero_grad()
    pooled_BD = call(*batch)
    pooled_BD.square().sum().backward()
    return pooled_BD.detach(), {name: weight.grad.clone() for name, weight in backbone.named_parameters()}


QUICK = ["roberta", "llama"]


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("lengths", [[4, 24, 9], [7, 7], [3]])
@pytest.mark.parametrize("masked", [True, False])
def test_the_quick_way_gives_values_and_gradients_of_the_plain_one(name, lengths, masked):
    backbone = model_of(name).backbone.eval()
    ids_BT, mask_BT = batch_of(lengths)
    batch = (ids_BT, mask_BT if masked or not mask_BT.all() else None)
    quick_BD, quick = gradients(backbone, backbone.pooled, batch)
    plain_BD, plain = gradients(backbone, lambda *given: Backbone.pooled(backbone, *given), batch)
    torch.testing.assert_close(quick_BD, plain_BD, atol=1e-5, rtol=1e-5)
    assert quick.keys() == plain.keys()
    for name, gradient in plain.items():
        atol = 1e-4 * max(
            1.0, float(gradient.abs().max())
        )  # sums in another order; how near they come is the machine's
        torch.testing.assert_close(quick[name], gradient, atol=atol, rtol=1e-4, msg=lambda text, name=name: name + text)


def test_the_quick_way_draws_dropout_in_training():
    backbone = model_of("roberta", dropout=0.5).backbone
    batch = batch_of([5, 9])
    torch.manual_seed(0)
    one_BD, other_BD = backbone(*batch), backbone(*batch)
    assert (one_BD - other_BD).abs().max() > 0.01
    torch.manual_seed(0)
    assert torch.equal(backbone(*batch), one_BD)


@pytest.mark.parametrize("name", QUICK)
def test_no_layer_passes_padding(name):
    backbone = model_of(name).backbone
    layers = backbone.model.encoder.layer if name == "roberta" else backbone.model.layers
    passed = []
    for layer in layers:
        part = layer.intermediate if name == "roberta" else layer.mlp
        part.register_forward_hook(lambda _, args, __: passed.append(len(args[0])))
    backbone(*batch_of([4, 24, 9]))
    assert passed == [4 + 24 + 9, 3], "of the last layer, one token a molecule"


def test_tokens_go_to_attention_and_back():
    ids_BT, mask_BT = batch_of([2, 4])
    tokens = Ragged.of(ids_BT, mask_BT)
    assert tokens.ids_S.tolist() == [*ids_BT[0, :2].tolist(), *ids_BT[1].tolist()]
    assert tokens.positions_S.tolist() == [0, 1, 0, 1, 2, 3] and tokens.firsts().tolist() == [0, 2]
    values_SD = torch.arange(24.0).view(6, 4).requires_grad_()
    padded_BHTd = tokens.heads(values_SD, 2)
    assert padded_BHTd.shape == (2, 2, 4, 2) and not padded_BHTd[0, :, 2:].any()
    assert torch.equal(tokens.joined(padded_BHTd), values_SD)
    torch.autograd.gradcheck(
        lambda given: tokens.joined(tokens.heads(given, 2)), values_SD.detach().double().requires_grad_()
    )


def test_fewer_cuts_pay_where_padding_is_cheap():
    usual = CPU.packing
    for name in QUICK:
        found = MicroBatches.of(spec_of(name), CPU).packing
        assert (found.pass_cost, found.token_budget) == (4 * usual.pass_cost, usual.token_budget)
        assert MicroBatches.of(spec_of(name), CUDA).packing == CUDA.packing
    for spec in (spec_of("bart"), spec_of("llama", pooling="mean"), spec_of("roberta", pooling="mean")):
        assert padding_cost(spec, torch.device("cpu")) == 1.0 and MicroBatches.of(spec, CPU).packing == usual
