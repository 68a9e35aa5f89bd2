import numpy as np
import pytest
import torch

from chembench.errors import ConfigError, DataError, RunError
from chembench.metrics import objective, scores
from chembench.models.base import tensors_to_save
from chembench.training.device import CPU
from chembench.training.features import KEPT, KeptFeatures
from chembench.training.finetune import finetune
from chembench.training.memory import MicroBatches
from chembench.training.pretrain import pretrain
from chembench.training.source import Source, all_outputs, source_of
from chembench.training.targets import Scaling, known_labels


def quiet(epoch, values):
    return False


def heavy(smiles):
    """A regression target: mean 100, far from 0, as a unit may be."""
    return [[100.0 + 3.0 * text.count("O") - 2.0 * len(text)] for text in smiles]


def has_oxygen(smiles):
    return [[float("O" in text), float("N" in text) if "C" in text else np.nan] for text in smiles]


def has_oxygen_with_gaps(smiles):
    labels = np.array(has_oxygen(smiles))
    labels[::5, 0] = np.nan
    return labels


@pytest.fixture(scope="module")
def regression(world):
    return world.write_split("heavy", heavy)


@pytest.fixture(scope="module")
def classification(world):
    return world.write_split("oxygen", has_oxygen_with_gaps)


@pytest.fixture(scope="module")
def checkpoint(world, tmp_path_factory):
    spec, folder = world.pretrain_spec(keep_every_epoch=True), tmp_path_factory.mktemp("cache") / "made"
    pretrain(spec, world.pretrain_inputs(folder), quiet)
    return spec.digest, str(folder)


def confirm(spec_of, inputs, sealed, **changes):
    return spec_of("confirm", **changes), inputs.model_copy(update={"sealed": sealed})


def test_a_search_trial_learns_and_gives_validation_scores_alone(world, regression):
    told = []
    spec = world.trial_spec(recipe={"max_epochs": 8, "dropout": 0.0})
    fit = finetune(spec, regression[0], lambda epoch, values: told.append((epoch, dict(values))) or False)
    assert [epoch for epoch, _ in told] == list(range(1, 9))
    assert fit.objectives == tuple(values["objective"] for _, values in told)
    assert fit.objectives[-1] < 0.7 * fit.objectives[0]
    assert not any(name.startswith("test/") for name in fit.metrics)
    assert [found.part for found in fit.predictions] == ["valid"]
    assert fit.metrics["epochs"] == 8
    assert fit.metrics["objective"] == min(fit.objectives) == fit.objectives[int(fit.metrics["best_epoch"]) - 1]
    assert fit.molecules_seen == 8 * 48


def test_scores_are_in_the_unit_of_the_task(world, regression):
    fit = finetune(world.trial_spec(recipe={"max_epochs": 8}), regression[0], quiet)
    (valid,) = fit.predictions
    assert abs(valid.predicted_NM.mean() - valid.measured_NM.mean()) < valid.measured_NM.std()
    by_hand = scores("regression", valid.measured_NM, valid.predicted_NM, fit.scaling.sd_M).values
    assert {f"valid/{name}": value for name, value in by_hand.items()}.items() <= fit.metrics.items()
    assert fit.metrics["valid/rmse"] == pytest.approx(fit.metrics["valid/rmse_normalised"] * fit.scaling.sd_M[0])
    assert fit.metrics["objective"] == objective("regression", by_hand)


def test_a_confirm_trial_scores_the_sealed_test(world, regression):
    spec, inputs = confirm(world.trial_spec, *regression)
    fit = finetune(spec, inputs, quiet)
    valid, test = fit.predictions
    assert test.part == "test" and len(test.rows.smiles) == 24
    assert not set(test.rows.smiles) & set(valid.rows.smiles)
    by_hand = scores("regression", test.measured_NM, test.predicted_NM, fit.scaling.sd_M).values
    assert {f"test/{name}": value for name, value in by_hand.items()}.items() <= fit.metrics.items()


def test_classification_with_unmeasured_labels_learns(world, classification):
    spec, inputs = confirm(
        world.trial_spec, *classification, task_kind="classification", targets=2, recipe={"max_epochs": 25}
    )
    fit = finetune(spec, inputs, quiet)
    assert fit.metrics["valid/roc_auc"] > 0.8
    assert fit.metrics["objective"] == pytest.approx(1 - fit.metrics["valid/roc_auc"])
    for found in fit.predictions:
        assert np.isnan(found.measured_NM).any()
        assert ((found.predicted_NM >= 0) & (found.predicted_NM <= 1)).all()


def test_the_same_trial_gives_the_same_digits_whatever_ran_before(world, classification, checkpoint):
    digest, folder = checkpoint
    inputs = classification[0].model_copy(update={"checkpoint": folder})
    for method in ("full", "lora", "linear_probe", "descriptor_probe"):
        spec = world.trial_spec(
            task_kind="classification", targets=2, pretrained=digest, recipe={"method": method, "dropout": 0.3}
        )
        first = finetune(spec, inputs, quiet)
        torch.manual_seed(5)
        torch.randn(3)
        before = torch.get_rng_state()
        finetune(world.trial_spec(task_kind="classification", targets=2, head_seed=9), inputs, quiet)
        second = finetune(spec, inputs, quiet)
        assert torch.equal(torch.get_rng_state(), before)
        assert (first.metrics, first.objectives, first.facts) == (second.metrics, second.objectives, second.facts)
        assert np.array_equal(first.predictions[0].predicted_NM, second.predictions[0].predicted_NM)
        other = finetune(spec.model_copy(update={"head_seed": 1}), inputs, quiet)
        assert other.objectives != first.objectives


def test_the_best_epoch_is_restored(world, regression):
    # a rate so high that later epochs are worse
    spec, inputs = confirm(
        world.trial_spec, *regression, recipe={"max_epochs": 6, "learning_rate": 0.05, "warmup_fraction": 0.0}
    )
    states = []
    fit = finetune(spec, inputs, lambda epoch, values: states.append(values["objective"]) or False)
    best = int(fit.metrics["best_epoch"])
    assert best < 6 and states[best - 1] == min(states)
    (valid, _) = fit.predictions
    from chembench.training.tokenised import load_part

    part = load_part(inputs.split, spec.data, "valid", inputs.tokenizer, spec.model, spec.tokenizer)
    again = fit.scaling.undone(all_outputs(source_of(fit.model, part.tokens, "fp32", MicroBatches(CPU)), 1))
    assert np.array_equal(again, valid.predicted_NM)


def test_patience_ends_a_trial_that_gets_no_better(world, regression):
    recipe = {"max_epochs": 30, "patience": 2, "learning_rate": 0.05, "warmup_fraction": 0.0}
    fit = finetune(world.trial_spec(recipe=recipe), regression[0], quiet)
    epochs = int(fit.metrics["epochs"])
    assert epochs < 30
    best = int(np.argmin(fit.objectives)) + 1
    assert epochs == best + 2


def test_the_loss_may_choose_the_epoch(world, classification):
    told = []
    recipe = {"max_epochs": 10, "select_by": "loss", "learning_rate": 0.02}
    spec = world.trial_spec(task_kind="classification", targets=2, recipe=recipe)
    fit = finetune(spec, classification[0], lambda epoch, values: told.append(dict(values)) or False)
    losses = [values["valid/loss"] for values in told]
    assert fit.metrics["best_epoch"] == int(np.argmin(losses)) + 1
    assert fit.metrics["valid/loss"] == min(losses)
    assert fit.metrics["objective"] == told[int(np.argmin(losses))]["objective"]


def test_a_word_from_outside_stops_and_prunes(world, regression):
    spec, inputs = confirm(world.trial_spec, *regression, recipe={"max_epochs": 5})
    fit = finetune(spec, inputs, lambda epoch, values: epoch == 2)
    assert fit.pruned
    assert len(fit.objectives) == 2
    assert [found.part for found in fit.predictions] == ["valid"]


@pytest.mark.parametrize("method", ["linear_probe", "descriptor_probe"])
def test_one_head_per_kept_epoch_is_fitted_and_the_lowest_loss_kept(world, regression, checkpoint, method):
    digest, folder = checkpoint
    told = []
    spec = world.trial_spec(pretrained=digest, recipe={"method": method, "checkpoints": "every_epoch", "max_epochs": 2})
    inputs = regression[0].model_copy(update={"checkpoint": folder})
    fit = finetune(spec, inputs, lambda epoch, values: told.append((epoch, dict(values))) or False)
    assert [epoch for epoch, _ in told] == [1, 2, 3, 4, 5, 6]
    losses = [values["valid/loss"] for _, values in told]
    assert fit.metrics["best_epoch"] == int(np.argmin(losses)) + 1
    assert len(set(losses)) == 6
    last = finetune(world.trial_spec(pretrained=digest, recipe={"method": method, "max_epochs": 2}), inputs, quiet)
    assert last.objectives[1] != fit.objectives[1]


def test_pretrained_weights_are_used(world, regression, checkpoint):
    digest, folder = checkpoint
    inputs = regression[0].model_copy(update={"checkpoint": folder})
    recipe = {"method": "linear_probe", "max_epochs": 1}
    from safetensors.torch import load_file

    fit = finetune(world.trial_spec(pretrained=digest, recipe=recipe), inputs, quiet)
    stored = load_file(f"{folder}/model.safetensors")
    for name, tensor in tensors_to_save(fit.model.backbone).items():
        assert torch.equal(tensor, stored[f"backbone.{name}"])
    scratch = finetune(world.trial_spec(recipe=recipe), regression[0], quiet)
    other = finetune(world.trial_spec(recipe=recipe, init_seed=1), regression[0], quiet)
    assert len({fit.objectives, scratch.objectives, other.objectives}) == 3
    assert fit.facts["checkpoint"] == digest and scratch.facts["checkpoint"] is None
    assert fit.facts["trainable_parameters"] == 33 < fit.facts["parameters"]


def test_missing_labels_are_read_as_zero_in_paper_mode_alone(world, classification):
    gaps = classification[0]
    sound = finetune(world.trial_spec(task_kind="classification", targets=2), gaps, quiet)
    paper = finetune(world.trial_spec(task_kind="classification", targets=2, mask_missing=False), gaps, quiet)
    assert np.isnan(sound.predictions[0].measured_NM).any()
    assert not np.isnan(paper.predictions[0].measured_NM).any()
    assert sound.objectives != paper.objectives


def test_class_weights_change_the_loss_of_positives(world, classification):
    plain = finetune(world.trial_spec(task_kind="classification", targets=2), classification[0], quiet)
    recipe = {"class_weights": True}
    weighted = finetune(
        world.trial_spec(task_kind="classification", targets=2, recipe=recipe), classification[0], quiet
    )
    assert plain.metrics["valid/loss"] != weighted.metrics["valid/loss"]


def test_molecules_that_are_too_long_are_cut_and_counted(world, regression):
    spec = world.trial_spec(model=world.model(max_length=8), recipe={"max_epochs": 1})
    fit = finetune(spec, regression[0], quiet)
    assert 0 < fit.facts["truncated"] < 72


def test_a_loss_that_is_not_finite_ends_the_trial(world, regression):
    recipe = {"learning_rate": 1e38, "max_grad_norm": None, "warmup_fraction": 0.0}
    with pytest.raises(RunError, match="must stay finite") as told:
        finetune(world.trial_spec(recipe=recipe), regression[0], quiet)
    assert told.value.cause == "nan"


def test_a_search_trial_that_is_handed_sealed_labels_is_refused(world, regression):
    inputs, sealed = regression
    with pytest.raises(ConfigError, match="only confirm trials may read sealed test labels, this is a search trial"):
        finetune(world.trial_spec(), inputs.model_copy(update={"sealed": sealed}), quiet)
    with pytest.raises(ConfigError, match=r"inputs\.sealed or its digest is missing; give both"):
        finetune(world.trial_spec("confirm"), inputs, quiet)


def test_inputs_that_do_not_fit_are_refused(world, regression, classification):
    with pytest.raises(DataError, match=r"the item names 1 targets, .* holds 2; prepare the inputs again"):
        finetune(world.trial_spec(), classification[0], quiet)
    with pytest.raises(DataError, match=r"names rows other and test rows made, .* holds made and made; prepare"):
        finetune(world.trial_spec(data="other"), regression[0], quiet)
    with pytest.raises(DataError, match=r"manifest\.json must describe a split .*; prepare the inputs again"):
        finetune(world.trial_spec(), regression[0].model_copy(update={"split": str(world.root)}), quiet)
    spec, inputs = confirm(world.trial_spec, *regression, recipe={"max_epochs": 1})
    spec = spec.model_copy(update={"sealed": "other"})
    with pytest.raises(DataError, match=r"the item names sealed rows other, .* holds others; prepare the inputs again"):
        finetune(spec, inputs, quiet)
    with pytest.raises(ConfigError, match=r"reads inputs\.split and inputs\.tokenizer, one is not given"):
        finetune(world.trial_spec(), regression[0].model_copy(update={"split": None}), quiet)
    with pytest.raises(ConfigError, match=r"names checkpoint abc, inputs\.checkpoint is not given"):
        finetune(world.trial_spec(pretrained="abc"), regression[0], quiet)
    with pytest.raises(DataError, match=r"the item names tokenizer abc, .* holds "):
        finetune(world.trial_spec(tokenizer="abc"), regression[0], quiet)
    with pytest.raises(DataError, match=r"the model reads 20 tokens .*; resolve the model with this tokenizer"):
        finetune(world.trial_spec(model=world.model(vocabulary=20)), regression[0], quiet)


def test_an_objective_that_validation_cannot_define_is_told_before_training(world):
    inputs, _ = world.write_split("one_class", lambda smiles: [[1.0]] * len(smiles))
    with pytest.raises(DataError, match="roc_auc needs a target with both classes among the validation molecules"):
        finetune(world.trial_spec(task_kind="classification"), inputs, lambda *_: pytest.fail("trained"))


def test_scaling_standardises_measured_labels_and_comes_back():
    labels = np.array([[1.0, 5.0], [3.0, np.nan], [np.nan, 5.0]])
    scaling = Scaling.of("regression", labels)
    assert scaling.mean_M.tolist() == [2.0, 5.0] and scaling.sd_M.tolist() == [1.0, 0.0]
    assert np.allclose(scaling.undone(scaling.applied(labels)), labels, equal_nan=True)
    probabilities = Scaling.of("classification", labels).undone(np.array([[-1000.0, 0.0, 1000.0]]))
    assert probabilities.tolist() == [[0.0, 0.5, 1.0]]


def test_unknown_labels_stay_unknown_or_become_zero(world):
    labels = np.array([[np.nan], [1.0]], np.float32)
    assert np.isnan(known_labels(world.trial_spec(), labels)[0, 0])
    assert known_labels(world.trial_spec(mask_missing=False), labels).tolist() == [[0.0], [1.0]]


@pytest.mark.parametrize("method", ["linear_probe", "descriptor_probe"])
def test_probes_of_one_process_share_the_features_of_a_frozen_backbone(world, regression, monkeypatch, method):
    passes = []
    real = Source.features
    monkeypatch.setattr(Source, "features", lambda self, indices_B: passes.append(1) or real(self, indices_B))
    inputs = regression[0]
    recipes = [{"method": method, "learning_rate": rate} for rate in (1e-3, 3e-3)]
    first, other = (world.trial_spec(recipe=recipe) for recipe in recipes)
    KEPT.clear()
    alone = finetune(other, inputs, quiet)
    KEPT.clear()
    passes.clear()
    finetune(first, inputs, quiet)
    assert passes
    passes.clear()
    after_another = finetune(other, inputs, quiet)
    assert not passes
    assert (after_another.metrics, after_another.objectives) == (alone.metrics, alone.objectives)
    assert np.array_equal(after_another.predictions[0].predicted_NM, alone.predictions[0].predicted_NM)


def test_features_are_shared_with_nobody_who_would_get_others(world, regression, checkpoint):
    digest, folder = checkpoint
    inputs = regression[0].model_copy(update={"checkpoint": folder})
    recipe = {"method": "linear_probe", "max_epochs": 1}
    spec = world.trial_spec(recipe=recipe)
    others = (
        spec.model_copy(update={"init_seed": 1}),
        spec.model_copy(update={"pretrained": digest}),
        spec.model_copy(update={"precision": "bf16"}),
        world.trial_spec(recipe={**recipe, "method": "descriptor_probe"}),
        world.trial_spec(recipe=recipe, model=world.model("llama")),
    )
    for other in others:
        KEPT.clear()
        alone = finetune(other, inputs, quiet).predictions[0].predicted_NM
        KEPT.clear()
        finetune(spec, inputs, quiet)
        assert np.array_equal(finetune(other, inputs, quiet).predictions[0].predicted_NM, alone)


def test_features_that_ran_out_of_memory_on_the_way_are_not_kept(world, regression, monkeypatch):
    real, faults = Source.all_features, [torch.OutOfMemoryError("CUDA out of memory.")]

    def fails_once(self, batches):
        if faults:
            raise faults.pop()
        return real(self, batches)

    monkeypatch.setattr(Source, "all_features", fails_once)
    KEPT.clear()
    spec = world.trial_spec(recipe={"method": "linear_probe"})
    finetune(spec, regression[0], quiet)
    assert not faults
    # those of the validation rows were asked for in smaller micro-batches from the start
    usual = MicroBatches.of(spec.model, CPU).packing
    assert [(key.rows[-1], key.carried_out[-1] == usual) for key in KEPT._kept] == [("valid", False)]


def test_only_the_last_features_are_kept():
    kept = KeptFeatures(largest_bytes=100)
    for key in "abc":
        kept.keep(key, torch.zeros(10))
        kept.get("a")
    assert [kept.get(key) is not None for key in "abc"] == [True, False, True]
    kept.keep("large", torch.zeros(100))
    assert not kept._kept
