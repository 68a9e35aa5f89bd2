"""The benchmark for GPU machines runs where nothing but the training core's packages is installed."""

import subprocess
import sys
from pathlib import Path

GPU = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
ALONE = """
import os, runpy, sys
for name in ("rdkit", "deepchem", "ray", "optuna", "mlflow", "sklearn", "pandas", "peft", "click", "rich"):
    sys.modules[name] = None  # whoever imports it fails
del sys.argv[0]
sys.path.insert(0, os.path.dirname(sys.argv[0]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(*options):
    return subprocess.run(
        [sys.executable, "-c", ALONE, str(GPU), *options], capture_output=True, text=True, timeout=300
    )


def test_the_table_comes_without_rdkit_or_a_gpu():
    done = run("--device", "cpu", "--quick", "--architecture", "roberta")
    assert done.returncode == 0, done.stderr
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if "w32x1" in line]
    assert [row[1] for row in cells] == ["chembench", "Trainer, bf16, padded to 128", "Trainer, bf16, dynamic padding"]
    assert all(int(row[2].replace(",", "")) > 0 and row[3].endswith("%") for row in cells)
    assert cells[0][4] == "1.00" and "TFLOP/s" in done.stdout
    assert "3 fine-tunings of roberta 32 x 1" in done.stdout and "times as fast; losses" in done.stdout
