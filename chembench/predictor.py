"""What a sweep's winner predicts with, from Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from chembench.training.fitted import FittedModel


@dataclass(frozen=True, slots=True)
class Predictor:
    """A fitted model that reads SMILES as people write them."""

    fitted: FittedModel

    @property
    def target_names(self) -> tuple[str, ...]:
        """Names of the columns of `predict`."""
        return self.fitted.target_names

    def predict(self, smiles: Sequence[str]) -> NDArray[np.float64]:
        """Predictions for molecules, each brought to the spelling that the model was fitted on.

        Returns:
            Values in the task's unit, or probabilities of class 1, shape (molecules, targets).

        Raises:
            DataError: if RDKit cannot read a SMILES, or it holds a character that the tokenizer does not know.
            RunError: if a prediction is not finite.
        """
        from chembench.chem.smiles import all_canonical

        return self.fitted.predict(all_canonical(smiles))
