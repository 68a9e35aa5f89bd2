"""What `import chembench` offers, and that it costs nothing until it is used."""

import subprocess
import sys

import pytest

import chembench
from chembench import api


@pytest.mark.parametrize("name", chembench.OFFERED)
def test_the_package_offers_its_interface(name):
    assert getattr(chembench, name) is getattr(api, name)
    assert name in api.__all__


def test_an_unknown_name_tells_what_there_is():
    with pytest.raises(AttributeError, match="has no attribute 'resum'; it offers Sweep, load_space"):
        _ = chembench.resum


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, chembench; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "ray", "mlflow", "rdkit", "numpy", "pydantic"} & set(loaded)
