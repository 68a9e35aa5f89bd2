import pytest
import torch

from chembench.errors import ConfigError
from chembench.training.device import precision_set, resolve_device, seeded, threads_set
from chembench.training.hardware import measured_cost, peak_memory_mib, set_memory_share, start_peak_memory


def test_a_gpu_that_is_not_there_is_an_error_that_names_a_cpu_space(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="asks for a gpu, none is visible; choose a CPU space: quickstart"):
        resolve_device("cuda")
    assert resolve_device("cpu").torch == torch.device("cpu")


def test_a_seeded_block_repeats_and_leaves_no_trace():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with seeded(3):
        first = torch.randn(4)
    assert torch.equal(torch.get_rng_state(), before)
    with seeded(3):
        assert torch.equal(torch.randn(4), first)


def test_threads_are_set_for_the_block_alone():
    before = torch.get_num_threads()
    with threads_set(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_bf16_holds_inside_its_block_alone():
    device, layer, one = resolve_device("cpu"), torch.nn.Linear(2, 2), torch.ones(1, 2)
    with precision_set("bf16", device):
        assert layer(one).dtype == torch.bfloat16
    with precision_set("fp32", device):
        assert layer(one).dtype == torch.float32


def test_cost_counts_each_thread_as_a_device():
    start_peak_memory("cpu")
    cost = measured_cost("cpu", threads=2, wall_seconds=1800.0)
    assert cost["device_hours"] == 1.0
    assert cost["device_name"] and cost["host"]
    assert 10 < peak_memory_mib("cpu") < 10**6
    assert "device_memory_mib" not in cost


def test_what_earlier_attempts_spent_is_part_of_the_cost():
    cost = measured_cost("cpu", threads=1, wall_seconds=1800.0, earlier_seconds=3600.0)
    assert cost["device_hours"] == 1.5 and cost["wall_seconds"] == 1800.0


def test_a_gpu_tells_its_memory_and_gives_a_share_of_it(monkeypatch):
    shares = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", shares.append)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a gpu")
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 2**20)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    gpu = type("Properties", (), {"total_memory": 80 * 2**30})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: gpu)
    assert measured_cost("cuda", threads=4, wall_seconds=1.0)["device_memory_mib"] == 81920.0
    for fraction in (0.25, None):
        set_memory_share("cuda", fraction)
    set_memory_share("cpu", 0.5)
    assert shares == [0.25, 1.0]
