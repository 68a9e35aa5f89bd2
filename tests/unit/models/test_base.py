import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from chembench.errors import ConfigError, DataError
from chembench.models.base import build_pretraining_model, load_tensors, set_dropout, tensors_to_save
from chembench.models.sizes import count_parameters

from .conftest import BOS, EOS, OUTPUTS, PAD, batch_of, model_of, spec_of

POOLINGS = ("default", "mean")


def test_outputs_are_one_row_a_molecule_and_every_used_weight_learns(architecture):
    model = model_of(architecture)
    predicted_BK = model(*batch_of([4, 9, 6]))
    assert predicted_BK.shape == (3, OUTPUTS)
    predicted_BK.square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # A key's bias adds the same to every score of a query, so softmax takes it away: gradients are rounding or zero.
    assert [name for name in without if not name.endswith(("key.bias", "k_proj.bias"))] == []


@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_never_changes_a_result(architecture, pooling):
    model = model_of(architecture, pooling).eval()
    lengths = [3, 24, 9, 17]
    ids_BT, mask_BT = batch_of(lengths)
    with torch.no_grad():
        together_BK = model(ids_BT, mask_BT)
        for row, length in enumerate(lengths):
            alone_1K = model(ids_BT[row : row + 1, :length], mask_BT[row : row + 1, :length])
            torch.testing.assert_close(alone_1K[0], together_BK[row], atol=1e-5, rtol=0)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_what_stands_in_the_padding_does_not_matter(architecture, pooling):
    model = model_of(architecture, pooling).eval()
    ids_BT, mask_BT = batch_of([5, 12])
    with torch.no_grad():
        torch.testing.assert_close(
            model(ids_BT, mask_BT), model(ids_BT.masked_fill(~mask_BT, EOS), mask_BT), atol=1e-5, rtol=0
        )


def test_default_pooling_takes_the_token_of_the_paper(architecture):
    backbone = model_of(architecture).backbone.eval()
    lengths = [4, 9]
    ids_BT, mask_BT = batch_of(lengths)
    with torch.no_grad():
        for row, length in enumerate(lengths):
            ids_1T = ids_BT[row : row + 1, :length]
            if architecture == "bart":
                shifted_1T = torch.cat([torch.tensor([[EOS]]), ids_1T[:, :-1]], dim=1)
                states_1TD = backbone.model(ids_1T, decoder_input_ids=shifted_1T).last_hidden_state
            elif architecture == "llama":
                states_1TD = backbone.model(ids_1T).last_hidden_state
            else:
                positions_1T = torch.arange(1, length + 1)[None]
                states_1TD = backbone.model(ids_1T, position_ids=positions_1T).last_hidden_state
            place = 0 if architecture == "roberta" else length - 1
            torch.testing.assert_close(backbone(ids_BT, mask_BT)[row], states_1TD[0, place], atol=1e-5, rtol=0)


def test_mean_pooling_averages_real_tokens_alone(architecture):
    backbone = model_of(architecture, "mean").backbone.eval()
    ids_BT, mask_BT = batch_of([4, 9])
    with torch.no_grad():
        states_BTD = backbone.states(ids_BT, mask_BT)
        by_hand_BD = torch.stack([states_BTD[0, :4].mean(0), states_BTD[1].mean(0)])
        torch.testing.assert_close(backbone(ids_BT, mask_BT), by_hand_BD)


def test_bart_pools_at_the_last_of_several_ends():
    backbone = model_of("bart").backbone.eval()
    ids_BT = torch.tensor([[BOS, 9, EOS, 8, EOS, PAD], [BOS, EOS, 5, 6, 7, 8]])
    assert backbone.summary_index(ids_BT, ids_BT != PAD).tolist() == [4, 1]


def test_the_order_of_tokens_matters(architecture):
    model = model_of(architecture, "mean").eval()
    ids_BT, mask_BT = torch.tensor([[BOS, 9, 8, 7, EOS], [BOS, 7, 8, 9, EOS]]), torch.ones(2, 5, dtype=torch.bool)
    with torch.no_grad():
        one_K, other_K = model(ids_BT, mask_BT)
    assert (one_K - other_K).abs().max() > 1e-4


def test_a_model_reads_as_many_tokens_as_it_was_built_for_and_no_more(architecture):
    model = model_of(architecture).eval()
    assert torch.isfinite(model(*batch_of([24]))).all()
    with pytest.raises(DataError, match="at most 24 tokens, got 25; truncate it"):
        model(*batch_of([25]))


def test_a_mask_of_another_type_or_shape_is_refused(architecture):
    model = model_of(architecture)
    ids_BT, mask_BT = batch_of([5])
    with pytest.raises(DataError, match=r"mask must be bool and shaped like the ids \(1, 5\), got torch.int64"):
        model(ids_BT, mask_BT.long())
    with pytest.raises(DataError, match=r"shaped like the ids \(1, 5\), got torch.bool \(1, 4\)"):
        model(ids_BT, mask_BT[:, :4])


@pytest.mark.parametrize("mask", [[False, True, True], [True, False, True], [False, False, False]])
def test_left_padding_gaps_and_empty_rows_are_refused(architecture, mask):
    with pytest.raises(DataError, match="padding on the right only"):
        model_of(architecture)(torch.tensor([[BOS, 5, EOS]]), torch.tensor([mask]))


def test_bart_refuses_a_sequence_without_end():
    ids_BT = torch.tensor([[BOS, 5, EOS], [BOS, 5, 6]])
    mask_BT = torch.ones(2, 3, dtype=torch.bool)
    with pytest.raises(DataError, match=r"last </s> \(id 2\), sequence 1 of the batch has none"):
        model_of("bart")(ids_BT, mask_BT)
    assert model_of("bart", "mean")(ids_BT, mask_BT).shape == (2, OUTPUTS)


def test_weights_depend_on_the_seed_alone(architecture):
    torch.manual_seed(1)
    one = tensors_to_save(model_of(architecture, seed=0))
    torch.manual_seed(2)
    same, other = tensors_to_save(model_of(architecture, seed=0)), tensors_to_save(model_of(architecture, seed=1))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_the_backbone_does_not_depend_on_the_number_of_outputs(architecture):
    few = build_pretraining_model(spec_of(architecture), outputs=3, seed=0).backbone
    many = build_pretraining_model(spec_of(architecture), outputs=30, seed=0).backbone
    assert all(torch.equal(a, b) for a, b in zip(few.parameters(), many.parameters(), strict=True))


def test_building_leaves_the_global_generator_alone(architecture):
    before = torch.get_rng_state()
    model_of(architecture)
    assert torch.equal(before, torch.get_rng_state())


def test_no_position_row_in_use_is_zero_or_frozen():
    backbone = model_of("roberta").backbone
    backbone(*batch_of([24])).square().sum().backward()
    positions = backbone.model.embeddings.position_embeddings.weight
    assert positions.shape[0] == 25
    assert positions[1:].abs().sum(1).min() > 0
    assert positions.grad[1:].abs().sum(1).min() > 0


def test_an_impossible_spec_is_refused_when_built():
    with pytest.raises(ConfigError, match="divisible by the number of attention heads"):
        build_pretraining_model(spec_of("roberta").model_copy(update={"heads": 5}), 3, 0)


def noise_of(model):
    torch.manual_seed(0)
    batch = batch_of([6, 8])
    with torch.no_grad():
        return (model(*batch) - model(*batch)).abs().max().item()


def test_dropout_acts_in_training_and_can_be_changed(architecture):
    model = model_of(architecture, dropout=0.2)
    assert noise_of(model) > 1e-4
    set_dropout(model, 0.0)
    assert noise_of(model) == 0.0
    set_dropout(model, 0.2)
    assert noise_of(model) > 1e-4
    assert noise_of(model.eval()) == 0.0


def test_attention_dropout_stands_apart_from_dropout(architecture):
    model = build_pretraining_model(spec_of(architecture), OUTPUTS, 0, dropout=0.0, attention_dropout=0.3)
    assert noise_of(model) > 1e-6
    set_dropout(model, 0.0)
    assert noise_of(model) > 1e-6


def test_only_llama_drops_before_the_pretraining_head(architecture):
    assert model_of(architecture, dropout=0.2).dropout.p == (0.2 if architecture == "llama" else 0.0)


def test_the_head_is_gelu_then_linear(architecture):
    model = model_of(architecture).eval()
    batch = batch_of([5, 7])
    pooled_BD = model.backbone(*batch)
    by_hand_BK = nn.functional.gelu(pooled_BD) @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(model(*batch), by_hand_BK)


def test_weights_survive_a_file_and_shared_ones_stay_shared(architecture, tmp_path):
    model, blank = model_of(architecture, seed=0).eval(), model_of(architecture, seed=1).eval()
    save_file(tensors_to_save(model), tmp_path / "model.safetensors")
    load_tensors(blank, load_file(tmp_path / "model.safetensors"))
    batch = batch_of([5, 11])
    assert torch.equal(model(*batch), blank(*batch))
    assert len(list(blank.parameters())) == len(list(model.parameters()))
    if architecture == "bart":
        inner = blank.backbone.model
        assert inner.encoder.embed_tokens.weight is inner.decoder.embed_tokens.weight is inner.shared.weight


def test_shared_tensors_are_saved_once(architecture):
    tensors = tensors_to_save(model_of(architecture))
    assert sum(tensor.numel() for tensor in tensors.values()) == count_parameters(spec_of(architecture), OUTPUTS)


def test_saved_tensors_are_copies(architecture):
    model = model_of(architecture)
    tensors = tensors_to_save(model)
    before = tensors["head.weight"].clone()
    nn.init.zeros_(model.head.weight)
    assert torch.equal(tensors["head.weight"], before)


def test_loading_is_strict_and_changes_nothing_when_it_fails(architecture):
    model = model_of(architecture, seed=1)
    before = tensors_to_save(model)
    good = tensors_to_save(model_of(architecture, seed=0))
    wrong_name = {name: tensor for name, tensor in good.items() if name != "head.bias"} | {"head.b": good["head.bias"]}
    with pytest.raises(DataError, match=r"1 missing \(first: \['head.bias'\]\) and 1 unexpected \(first: \['head.b'\]"):
        load_tensors(model, wrong_name)
    with pytest.raises(DataError, match=r"tensor head.bias must be torch.float32 \(7,\), got torch.float32 \(8,\)"):
        load_tensors(model, good | {"head.bias": torch.zeros(8)})
    with pytest.raises(DataError, match=r"tensor head.bias must be torch.float32 \(7,\), got torch.float16"):
        load_tensors(model, good | {"head.bias": torch.zeros(7, dtype=torch.float16)})
    after = tensors_to_save(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
