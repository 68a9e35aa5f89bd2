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
    with pytest.raises(AttributeError, match="has no attribute 'resum'; it offers Sweep, Trial, load_space"):
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
