import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from chembench.errors import ConfigError, DataError
from chembench.models.heads import load_finetuned
from chembench.registry import METHODS

from .conftest import OUTPUTS, batch_of, model_of, trial_of


@pytest.fixture(params=list(METHODS))
def method(request):
    return request.param


def tuned(architecture, method, **changes):
    trial = trial_of(architecture, method, **changes)
    return METHODS.load(method)(model_of(architecture), trial), trial


def step(model, batch):
    optimizer = torch.optim.AdamW(model.trainable_parameters(), lr=1e-2)
    for _ in range(2):  # LoRA's second factor starts at zero: the first learns from the second step on
        optimizer.zero_grad()
        (model(*batch) - 1).square().sum().backward()
        optimizer.step()


def test_logits_are_the_head_of_the_features(architecture, method):
    model, _ = tuned(architecture, method)
    batch = batch_of([4, 9, 6])
    model.eval()
    features_BF = model.features(*batch)
    assert features_BF.shape == (3, OUTPUTS if method == "descriptor_probe" else 32)
    assert torch.equal(model(*batch), model.head(features_BF))
    assert model(*batch).shape == (3, 2)


def test_training_moves_what_it_should_and_nothing_else(architecture, method):
    model, _ = tuned(architecture, method)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    step(model, batch_of([4, 9, 6]))
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    head = {name for name in before if name.startswith("head.")}
    expected = {
        "full": set(before),
        "lora": head | {name for name in before if ".lora_" in name},
        "linear_probe": head,
        "descriptor_probe": head,
    }[method]
    assert moved == expected
    assert len(model.trainable_parameters()) == len(expected)


def test_only_the_probes_are_frozen(architecture, method):
    model, _ = tuned(architecture, method)
    assert model.frozen == (method in ("linear_probe", "descriptor_probe"))


def test_frozen_features_need_no_gradient_and_never_change(architecture):
    for method in ("linear_probe", "descriptor_probe"):
        model, _ = tuned(architecture, method, dropout=0.5)
        batch = batch_of([4, 9])
        first_BF = model.train().features(*batch)
        assert not first_BF.requires_grad
        assert torch.equal(first_BF, model.train().features(*batch))
        assert torch.equal(first_BF, model.eval().features(*batch))


def test_dropout_of_the_recipe_acts_in_training(architecture, method):
    batch = batch_of([4, 9])
    noisy, _ = tuned(architecture, method, dropout=0.5)
    still, _ = tuned(architecture, method, dropout=0.0)
    assert not torch.equal(noisy(*batch), noisy(*batch))
    assert torch.equal(still(*batch), still(*batch))
    assert torch.equal(noisy.eval()(*batch), noisy(*batch))


def test_the_head_depends_on_its_seed_alone(architecture, method):
    torch.manual_seed(1)
    one = tuned(architecture, method)[0].state_dict()
    before = torch.get_rng_state()
    same = tuned(architecture, method)[0].state_dict()
    assert torch.equal(before, torch.get_rng_state())
    other = tuned(architecture, method, head_seed=6)[0].state_dict()
    assert all(torch.equal(one[name], same[name]) for name in one)
    differs = {name for name in one if not torch.equal(one[name], other[name])}
    assert any(name.startswith("head.") for name in differs)
    assert all(name.startswith("head.") or ".lora_A." in name for name in differs)


def test_a_saved_model_predicts_the_same_without_its_method(architecture, method, tmp_path):
    model, trial = tuned(architecture, method)
    batch = batch_of([4, 9, 6])
    step(model, batch)
    expected_BN = model.eval()(*batch)
    save_file(model.state_for_saving(), tmp_path / "model.safetensors")
    assert torch.equal(model(*batch), expected_BN)  # saving left the model as it was
    loaded = load_finetuned(trial, load_file(tmp_path / "model.safetensors"))
    torch.testing.assert_close(loaded(*batch), expected_BN, atol=1e-5, rtol=0)
    assert not loaded.training


def test_weights_of_another_method_are_refused(architecture):
    model, _ = tuned(architecture, "linear_probe")
    with pytest.raises(DataError, match="weights must name the"):
        load_finetuned(trial_of(architecture, "full"), model.state_for_saving())


def test_the_descriptor_probe_reads_what_pretraining_predicted(architecture):
    pretrained = model_of(architecture).eval()
    batch = batch_of([4, 9])
    predicted_BK = pretrained(*batch).detach()
    model, _ = tuned(architecture, "descriptor_probe")
    assert torch.equal(model.features(*batch), predicted_BK)
    linear = [layer for layer in model.head if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(OUTPUTS, 64), (64, 64), (64, 2)]


def test_the_linear_probe_is_linear_in_the_state_standardised_over_training_molecules(architecture):
    model, _ = tuned(architecture, "linear_probe")
    training_NF = model.eval().features(*batch_of([4, 9, 6, 5]))
    training_NF[:, 0] = 3.0  # a unit that says nothing
    model.learn_scale(training_NF)
    features_BF = model.features(*batch_of([7, 3]))
    sd_F = training_NF.std(0, correction=0)
    sd_F[0] = 1.0
    normal_BF = (features_BF - training_NF.mean(0)) / sd_F
    linear = model.head[-1]
    torch.testing.assert_close(model.head(features_BF), normal_BF @ linear.weight.T + linear.bias)


def test_what_a_probe_learnt_of_its_features_is_saved_with_it(architecture):
    model, trial = tuned(architecture, "linear_probe")
    batch = batch_of([4, 9, 6])
    model.learn_scale(model.eval().features(*batch))
    loaded = load_finetuned(trial, model.state_for_saving())
    torch.testing.assert_close(loaded(*batch), model(*batch))


def test_lora_adapts_every_linear_layer_of_the_backbone(architecture):
    linear = {name for name, part in model_of(architecture).backbone.named_modules() if isinstance(part, nn.Linear)}
    model, _ = tuned(architecture, "lora")
    adapted = {name.removesuffix(".lora_A") for name, _ in model.backbone.named_modules() if name.endswith(".lora_A")}
    assert adapted == linear


def test_lora_starts_where_the_checkpoint_stands(architecture):
    batch = batch_of([4, 9])
    full, _ = tuned(architecture, "full")
    lora, _ = tuned(architecture, "lora")
    assert torch.equal(full.eval()(*batch), lora.eval()(*batch))


def test_lora_scales_with_alpha_over_rank():
    model, _ = tuned("llama", "lora", lora_rank=2, lora_alpha=3.0)
    layer = model.backbone.model.layers[0].mlp.up_proj
    assert layer.lora_A["default"].weight.shape == (2, 32)
    assert layer.scaling["default"] == 1.5


def test_another_model_than_the_trial_names_is_refused(method):
    trial = trial_of("roberta", method)
    with pytest.raises(ConfigError, match="got architecture 'bart' where the trial says 'roberta'"):
        METHODS.load(method)(model_of("bart"), trial)
    with pytest.raises(ConfigError, match="got a head of 7 descriptors where the trial says 8"):
        METHODS.load(method)(model_of("roberta"), trial.model_copy(update={"descriptors": 8}))


def test_heads_need_no_peft():
    import subprocess
    import sys

    code = "import sys, chembench.models.heads; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"peft", "transformers"} & set(loaded.stdout.split())
