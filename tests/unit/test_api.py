"""What `import chembench` offers, and that it costs nothing until it is used."""

import subprocess
import sys

import pytest

import chembench
from chembench import api
from chembench.errors import ConfigError


@pytest.mark.parametrize("name", chembench.OFFERED)
def test_the_package_offers_its_interface(name):
    assert getattr(chembench, name) is getattr(api, name)
    assert name in api.__all__


def test_an_unknown_name_tells_what_there_is():
    with pytest.raises(AttributeError, match="has no attribute 'resum'; it offers Sweep, Trial, audit, load_space"):
        _ = chembench.resum


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, chembench; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "ray", "mlflow", "rdkit", "numpy", "pydantic"} & set(loaded)


def test_a_sweep_killed_before_its_first_line_is_told(tmp_path):
    (tmp_path / "early").mkdir()
    (tmp_path / "early" / "ledger.jsonl").touch()
    sweep = api.open_sweep("early", out=tmp_path)
    with pytest.raises(ConfigError, match=r"sweep 'early' has not begun.*give its `chembench sweep` command again"):
        sweep.leaderboards()
    with pytest.raises(ConfigError, match="sweep 'early' has not begun"):
        sweep.predictor("any")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"keep": "0.0000001B"},
            "a sweep cannot be driven so: keep_bytes: input should be greater than 0, got 0; corr",
        ),
        ({"keep": 20}, "a size is a number and one of B, .*, got '20'"),
        ({"max_concurrent": 0}, "driven so: max_concurrent: input should be greater than 0, got 0; correct it"),
        (
            {"tracking_uri": 5, "max_concurrent": "x"},
            "max_concurrent: .*, got 'x', tracking_uri: .*, got 5; correct it",
        ),
        ({"shard": 1}, "a shard is written as i/n with 1 <= i <= n, got '1'"),
        ({"name": 5}, "sweep name must be 1-80 letters, .*, got 5"),
    ],
)
def test_an_option_that_cannot_be_is_told_in_one_sentence(tmp_path, options, told):
    with pytest.raises(ConfigError, match=told) as caught:
        api.run_sweep(api.load_space("quickstart"), out=tmp_path / "sweeps", show_progress=False, **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "sweeps").exists()


@pytest.mark.parametrize("name", ["n" * 300, "there/" + "n" * 300, "\0", "no-such-sweep"])
def test_a_sweep_that_there_is_not_is_told_whatever_its_name(tmp_path, name):
    with pytest.raises(ConfigError, match=r"no sweep '.*', neither as a folder nor under .*; see the folders there"):
        api.open_sweep(name, tmp_path)
