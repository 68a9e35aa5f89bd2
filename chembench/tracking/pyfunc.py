"""A fitted model as an MLflow model that reads SMILES. Imported only where such a model is logged or served."""

from __future__ import annotations

import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from mlflow.entities import LoggedModelOutput
from mlflow.models import Model, ModelSignature
from mlflow.pyfunc import save_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import ColSpec, Schema

from chembench.errors import DataError
from chembench.tracking.store import Store, at_the_border

REQUIREMENTS = (
    "mlflow",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
    "pandas",
    "pydantic",
    "rdkit",
)
"""What serving needs; chembench itself travels with the model as code."""
EXAMPLE = ("CCO", "c1ccccc1O")
SMILES_COLUMN = "smiles"
CODE = Path(__file__).with_name("served.py")
PACKAGE = Path(__file__).parents[1]


class SmilesModel(PythonModel):
    """Predictions from SMILES: one row per molecule, one column per target."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the model folder that was logged."""
        from chembench.training.fitted import FittedModel

        self._fitted = FittedModel.load(Path(context.artifacts["fitted"]))

    # MLflow reads the hint: with a table it leaves the input alone, with list[str] it would silently take
    # the first column of a table that has several.
    def predict(
        self, context: PythonModelContext, model_input: pandas.DataFrame, params: dict[str, Any] | None = None
    ) -> pandas.DataFrame:
        """Predict in the task's own unit, or as probabilities.

        Args:
            context: not used; `load_context` read it.
            model_input: a table with a column ``smiles``, or a list, array or series of SMILES.
            params: not used; MLflow hands it to every model.

        Raises:
            DataError: if there is no such column, or a SMILES cannot be read.
        """
        from chembench.chem.smiles import all_canonical

        predicted_NM = self._fitted.predict(all_canonical(read_smiles(model_input)))
        return pandas.DataFrame(predicted_NM, columns=list(self._fitted.target_names), dtype="float64")


def read_smiles(given: Any) -> list[str]:
    """The SMILES of a table, list, array or series.

    Raises:
        DataError: if a table has no column ``smiles``, or something is not a text.
    """
    if isinstance(given, pandas.DataFrame):
        if SMILES_COLUMN not in given.columns:
            names = ", ".join(str(name) for name in given.columns)
            raise DataError(f"molecules are read from a column '{SMILES_COLUMN}', the table has {names}; rename it")
        given = given[SMILES_COLUMN]
    smiles = [given] if isinstance(given, str) else list(np.ravel(np.asarray(given, dtype=object)))
    for place, text in enumerate(smiles):
        if not isinstance(text, str):
            raise DataError(f"each molecule must be a SMILES text, number {place} is {text!r}; leave it out")
    return [str(text) for text in smiles]


@at_the_border
def log_fitted_model(store: Store, experiment: str, run_id: str, folder: Path, *, name: str) -> str:
    """Store a fitted model on its run, once.

    Args:
        store: that has the run.
        experiment: id of the run's experiment.
        run_id: the run that fitted it.
        folder: the model's folder, as `FittedModel` writes it.
        name: of the model: its task.

    Returns:
        The URI that ``mlflow.pyfunc.load_model`` takes.

    Raises:
        TrackingError: if the folder holds no model, or MLflow fails.
    """
    from chembench.training.fitted import FittedModel

    client, fitted = store.client, FittedModel.load(folder)
    there = client.search_logged_models([experiment], filter_string=f"name = '{name}'")
    made = next((model for model in there if model.source_run_id == run_id), None)
    if made is not None and store.has_model(made.model_uri):
        return str(made.model_uri)
    if made is None:
        made = client.create_logged_model(experiment, name=name, source_run_id=run_id, model_type="chembench")
    with tempfile.TemporaryDirectory() as place:
        target, whole = Path(place) / "model", Path(place) / "fitted"
        fitted.save(whole, whole=True)  # the folder of a probe may need a pre-trained model that lies elsewhere
        _save(whole, target, fitted.target_names, Model(run_id=run_id, model_id=made.model_id))
        client.log_model_artifacts(made.model_id, str(target))
    if str(made.status) != "READY":
        client.finalize_logged_model(made.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(made.model_id, step=0)])
    return str(made.model_uri)


def _save(folder: Path, target: Path, target_names: tuple[str, ...], model: Model) -> None:
    """Write the MLflow folder. Its signature names the outputs only: an input schema would refuse lists or tables."""
    save_model(
        target,
        mlflow_model=model,
        python_model=str(CODE),
        artifacts={"fitted": str(folder)},
        code_paths=[str(PACKAGE)],
        signature=ModelSignature(outputs=Schema([ColSpec("double", name) for name in target_names])),
        input_example=pandas.DataFrame({SMILES_COLUMN: list(EXAMPLE)}),
        pip_requirements=requirements(),
    )


def requirements() -> list[str]:
    """What must be installed to serve a model, with the versions of this machine; MLflow's own search takes minutes."""
    found = []
    for name in REQUIREMENTS:
        try:
            found.append(f"{name}=={version(name).partition('+')[0]}")
        except PackageNotFoundError as error:
            raise DataError(f"serving a model needs the package '{name}', it is not installed; install it") from error
    return found
