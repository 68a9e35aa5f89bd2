"""The code of a logged model: MLflow copies this file and runs it when the model is loaded, so nothing is pickled."""

from mlflow.models import set_model

from chembench.tracking.pyfunc import SmilesModel

set_model(SmilesModel())
