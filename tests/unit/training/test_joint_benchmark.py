"""Models that a benchmark trains together end where they end alone, or the benchmark ends."""

import sys
import time
import warnings
from pathlib import Path

import pytest
import torch

from chembench.models.sizes import resolve


@pytest.fixture
def joint(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
    warnings.filterwarnings("ignore", "There is a performance drop")  # a CPU has no vectorised attention
    yield __import__("joint")
    sys.modules.pop("joint", None)


def compared(joint, architecture):
    spec = resolve(architecture, "w16x2", vocabulary=40, max_length=16, pad_id=3, bos_id=1, eos_id=2)
    return joint.compared(spec, joint.QUICK, torch.device("cpu"), time.process_time)


@pytest.mark.parametrize("architecture", ["roberta", "bart", "llama"])
def test_models_trained_together_end_where_they_end_alone(joint, architecture):
    assert f"3 fine-tunings of {architecture} 16 x " in compared(joint, architecture)


def test_another_learning_rate_would_be_noticed(joint, monkeypatch):
    real = joint.together

    def with_others(*given):
        monkeypatch.setattr(joint, "rates", lambda effort: [2e-3] * effort.models)
        return real(*given)

    monkeypatch.setattr(joint, "together", with_others)
    with pytest.raises(SystemExit, match=r"losses after 4 equal steps must agree to 0\.001"):
        compared(joint, "roberta")
