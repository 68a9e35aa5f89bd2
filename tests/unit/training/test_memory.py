"""Where memory runs out micro-batches shrink, and nothing else changes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from chembench.data.batches import Packing
from chembench.errors import RunError
from chembench.models.base import Backbone
from chembench.training import memory as module
from chembench.training.attempt import Attempt
from chembench.training.device import CPU, Device
from chembench.training.features import KEPT
from chembench.training.finetune import finetune
from chembench.training.fitted import FittedModel
from chembench.training.loop import Lesson, OptimiserSettings, Stepper, element_loss, labels_on
from chembench.training.memory import MicroBatches, memory_faults_told
from chembench.training.pretrain import pretrain

WHOLE = Device("cpu", Packing(token_budget=10**6, pass_cost=10**6), check_every=1)
"""Everything in one micro-batch."""


def quiet(epoch, values):
    return False


@pytest.fixture
def holds(monkeypatch):
    """Gives models room for so many tokens at once; tells what they were given."""
    given, forward = [], Backbone.forward

    def set_room(tokens):
        def limited(backbone, ids_BT, mask_BT):
            given.append(ids_BT.numel())
            if ids_BT.numel() > tokens:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return forward(backbone, ids_BT, mask_BT)

        monkeypatch.setattr(Backbone, "forward", limited)
        return given

    return set_room


# ---- one step ----


class Noisy(torch.nn.Module):
    """A linear layer with dropout; it draws from the generator, and fails above so many rows."""

    def __init__(self, rows, dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.dropout, self.rows = torch.nn.Linear(4, 1), torch.nn.Dropout(dropout), rows

    def forward(self, features):
        hidden = self.dropout(features)
        if len(features) > self.rows:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory")
        return self.layer(hidden)


def stepper_of(model, lengths):
    generator = np.random.default_rng(0)
    features = torch.tensor(generator.normal(size=(len(lengths), 4)), dtype=torch.float32)
    labels = generator.normal(size=(len(lengths), 1)).astype(np.float32)
    labels[::3] = np.nan
    lesson = Lesson(
        lengths, lambda at: model(features[at]), lambda at: labels_on(labels[at], WHOLE), element_loss("mse")
    )
    settings = OptimiserSettings(0.1, 0.01, 0.0, None, 10)
    return Stepper(model.parameters(), settings, lesson, MicroBatches(WHOLE))


def gradients_of_a_step(stepper, monkeypatch):
    """The gradients that a step follows; it starts from the same generators each time."""
    seen = []
    parameters = stepper.optimiser.param_groups[0]["params"]
    monkeypatch.setattr(stepper.optimiser, "step", lambda: seen.extend(p.grad.clone() for p in parameters))
    torch.manual_seed(7)
    stepper.step(np.arange(32))
    return seen


def test_a_step_that_ran_out_of_memory_has_the_gradients_of_one_that_did_not(monkeypatch):
    lengths = np.full(32, 10)
    whole = gradients_of_a_step(stepper_of(Noisy(32), lengths), monkeypatch)
    stepper = stepper_of(Noisy(9), lengths)
    split = gradients_of_a_step(stepper, monkeypatch)
    assert stepper._micro.halvings == 2 and stepper._micro.packing.token_budget == 80
    for gradient, other in zip(whole, split, strict=True):
        assert gradient.abs().max() > 0.01
        assert torch.allclose(gradient, other, rtol=1e-5, atol=1e-7)


def test_a_step_is_repeated_with_the_generators_of_its_start(monkeypatch):
    lengths = np.full(32, 10)
    failed_first = gradients_of_a_step(stepper_of(Noisy(16, dropout=0.5), lengths), monkeypatch)
    stepper = stepper_of(Noisy(32, dropout=0.5), lengths)
    stepper._micro.go_on_from(1, 160)
    halved_from_the_start = gradients_of_a_step(stepper, monkeypatch)
    assert all(map(torch.equal, failed_first, halved_from_the_start))


def test_a_fault_in_the_last_micro_batch_leaves_no_gradient_of_the_first(monkeypatch):
    # the two long molecules go first and fit, the many short ones do not
    lengths = np.array([100] * 2 + [10] * 30)
    whole = gradients_of_a_step(stepper_of(Noisy(32), lengths), monkeypatch)
    stepper = stepper_of(Noisy(20), lengths)
    stepper._micro.packing = Packing(300, 10)
    split = gradients_of_a_step(stepper, monkeypatch)
    assert stepper._micro.halvings == 1
    for gradient, other in zip(whole, split, strict=True):
        assert torch.allclose(gradient, other, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("made", range(4))
def test_memory_may_run_out_while_the_optimiser_makes_its_state(monkeypatch, made):
    def weights(fails):
        lengths, zeros_like, left = np.full(32, 10), torch.zeros_like, iter(range(made))
        model = Noisy(32)
        stepper = stepper_of(model, lengths)

        def limited(*args, **kwargs):
            if next(left, None) is None and not stepper._micro.halvings:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return zeros_like(*args, **kwargs)

        with monkeypatch.context() as patched:
            if fails:
                patched.setattr(torch, "zeros_like", limited)
            for _ in range(3):
                stepper.step(np.arange(32))
        return stepper._micro.halvings, [parameter.detach().clone() for parameter in model.parameters()]

    (none, plain), (once, halved) = weights(False), weights(True)
    assert (none, once) == (0, 1)
    for one, other in zip(plain, halved, strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-6)


LIMITED = """
import resource, sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from test_memory import Hungry, stepper_of

def step_of(rows):
    stepper = stepper_of(Hungry(), np.full(rows, 1))
    stepper.step(np.arange(rows))
    print(stepper._micro.halvings, *(float(p.detach().double().sum()) for p in stepper._parameters))

step_of(512)
held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
limit = held + 338 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
step_of(512)
"""


class Hungry(torch.nn.Module):
    """Forward and backward hold seven numbers of its width for each row: nearly a megabyte."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.wide, self.out = torch.nn.Linear(4, 2**15), torch.nn.Linear(2**15, 1)

    def forward(self, features):
        return self.out(torch.sin(torch.sin(torch.sin(torch.sin(self.wide(features))))))


@pytest.mark.skipif(sys.platform != "linux", reason="address space is limited by Linux alone")
def test_a_process_that_really_has_no_more_memory_goes_on_in_smaller_micro_batches():
    # 448 MiB are wanted for all rows at once, 224 MiB for half of them
    command = [sys.executable, "-c", LIMITED, str(Path(__file__).parent)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    (plain, *weights), (halved, *others) = (line.split() for line in told)
    assert (plain, halved) == ("0", "1")
    for one, other in zip(weights, others, strict=True):
        assert float(one) == pytest.approx(float(other), rel=1e-3)


# ---- whole items ----


def test_a_training_that_ran_out_of_memory_ends_as_one_that_did_not(world, tmp_path, holds):
    spec = world.pretrain_spec(epochs=1, dropout=0.0)
    plain = pretrain(spec, world.pretrain_inputs(tmp_path / "plain"), quiet, device=WHOLE)
    given, attempt = holds(150), Attempt()
    split = pretrain(spec, world.pretrain_inputs(tmp_path / "split"), quiet, device=WHOLE, attempt=attempt)
    assert 1 <= attempt.measured["micro_batch_halvings"] <= 3
    assert split.metrics == pytest.approx(plain.metrics, rel=1e-3)
    failed = [place for place, tokens in enumerate(given) if tokens > 150]
    assert len(failed) == attempt.measured["micro_batch_halvings"]
    assert max(failed) < 10, "it stays halved, for evaluation too"


def test_an_item_without_trouble_tells_no_halving(world, tmp_path):
    attempt = Attempt()
    pretrain(world.pretrain_spec(epochs=1), world.pretrain_inputs(tmp_path / "made"), quiet, attempt=attempt)
    assert "micro_batch_halvings" not in attempt.measured


@pytest.mark.parametrize("method", ["full", "lora", "linear_probe"])
def test_a_fine_tuning_and_its_evaluation_shrink_their_micro_batches(world, holds, method):
    inputs, _ = world.write_split(f"memory_{method}", lambda smiles: [[float(len(text))] for text in smiles])
    spec = world.trial_spec(recipe={"method": method, "dropout": 0.0, "max_epochs": 2})
    plain = finetune(spec, inputs, quiet, device=WHOLE)
    KEPT.clear()
    holds(200)
    attempt = Attempt()
    split = finetune(spec, inputs, quiet, device=WHOLE, attempt=attempt)
    assert attempt.measured["micro_batch_halvings"] >= 1
    assert split.metrics == pytest.approx(plain.metrics, rel=1e-3)
    assert np.allclose(split.predictions[0].predicted_NM, plain.predictions[0].predicted_NM, rtol=1e-3)


def test_predictions_for_many_molecules_shrink_their_micro_batches(world, holds):
    inputs, _ = world.write_split("memory_predict", lambda smiles: [[float(len(text))] for text in smiles])
    spec = world.trial_spec(recipe={"max_epochs": 1})
    fit = finetune(spec, inputs, quiet)
    model = FittedModel(spec, ("length",), "", fit.scaling, fit.model, world.root / "tokenizer", device=WHOLE)
    smiles = fit.predictions[0].rows.smiles
    before = model.predict(smiles)
    given = holds(100)
    assert model.predict(smiles) == pytest.approx(before, rel=1e-5)
    assert given[0] > 100


def test_what_was_found_out_outlives_the_attempt(world, tmp_path, holds):
    spec, inputs = world.pretrain_spec(epochs=1), world.pretrain_inputs(tmp_path / "made")
    given, calls = holds(150), iter(range(100))
    first = Attempt(tmp_path / "1.pt", stop=lambda: next(calls) == 3)
    with pytest.raises(RunError, match="stopped as asked"):
        pretrain(spec, inputs, quiet, device=WHOLE, attempt=first)
    assert max(given) > 150
    given.clear()
    second = Attempt(resume_from=[tmp_path / "1.pt"])
    pretrain(spec, inputs, quiet, device=WHOLE, attempt=second)
    assert max(given) <= 150
    assert second.measured["micro_batch_halvings"] == first.measured["micro_batch_halvings"]


def test_after_three_halvings_the_item_fails(world, tmp_path, holds):
    given, attempt = holds(1), Attempt()
    with pytest.raises(
        RunError,
        match=r"the model needs more memory than there is \(CUDA out of memory.*\), with micro-batches halved 3 times "
        r"to \d+ tokens too; take a smaller model or a larger device",
    ) as told:
        pretrain(world.pretrain_spec(), world.pretrain_inputs(tmp_path / "made"), quiet, attempt=attempt)
    assert told.value.cause == "oom"
    assert attempt.measured["micro_batch_halvings"] == 3
    assert len(given) == 4 and given[0] > given[3] * 7


# ---- what counts as a lack of memory ----


def test_a_real_allocation_that_fails_has_cause_oom():
    with pytest.raises(RunError, match="needs more memory than there is") as told, memory_faults_told():
        torch.empty(2**58)
    assert told.value.cause == "oom"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        torch.OutOfMemoryError("CUDA out of memory."),
    ],
    ids=str,
)
def test_each_library_says_it_in_its_own_way(error):
    with pytest.raises(RunError, match="needs more memory than there is") as told, memory_faults_told():
        raise error
    assert told.value.cause == "oom"


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), OSError(2, "No such file")], ids=str)
def test_other_errors_pass_unchanged(error):
    micro = MicroBatches(CPU)

    def fails(batches):
        raise error

    with pytest.raises(type(error), match=str(error.args[-1])), memory_faults_told():
        micro.run(np.arange(4), np.full(4, 10), fails)
    assert micro.halvings == 0


def test_a_gpus_cache_is_emptied_before_a_step_is_repeated(monkeypatch):
    emptied = []
    monkeypatch.setattr(module.torch.cuda, "empty_cache", lambda: emptied.append(True))
    micro = MicroBatches(Device("cuda", Packing(1000), check_every=1))

    def work(batches):
        if len(batches) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return len(batches)

    assert micro.run(np.arange(40), np.full(40, 10), work) == 2
    assert emptied == [True]
