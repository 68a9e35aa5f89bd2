"""Figures of arXiv 2405.00949, for reference: means and standard errors of five head seeds, test metric of each task.

Means are those that the authors' notebook prints (`eval/Eval_Tabular.ipynb` of their repository
BrightBlueCheese/transformers_and_chemistry, MIT licence); those by molecules were recomputed from their rows. Standard
errors are SD / sqrt(n): the notebook's divide by the root of the number of groups instead, which makes them 3.3 times
too small for the 18 configurations. RMSE is in standard deviations of the training labels, as the authors' code never
undoes DeepChem's normalisation. TES is their summary, lower is better: the sum over tasks of |mean - best mean|,
unscaled.
"""

from __future__ import annotations

from dataclasses import dataclass

from chembench.statistics.estimates import CONFIDENCE

TASKS = ("bace_regression", "delaney", "lipo", "bace_classification", "hiv", "tox21_sr_p53")
"""In the order of the columns below."""
RUNS = 5
"""Head seeds of each configuration; one pre-training each."""
SPLITS = {**dict.fromkeys(TASKS, "deepchem_scaffold"), "tox21_sr_p53": "random"}
"""How the authors divided each task."""

_CONFIGURATIONS = """
roberta-13M-10000000   0.9363 0.0451  0.4849 0.0265  0.7421 0.0174  0.7962 0.0058  0.7445 0.0146  0.7820 0.0058  0.220
roberta-13M-20000000   0.8491 0.0343  0.4593 0.0109  0.7359 0.0038  0.7992 0.0062  0.7574 0.0035  0.7933 0.0117  0.074
roberta-13M-30000000   0.9625 0.0401  0.5010 0.0317  0.7425 0.0038  0.8114 0.0053  0.7682 0.0081  0.7930 0.0072  0.213
roberta-30M-10000000   0.8693 0.0297  0.4921 0.0319  0.7356 0.0068  0.8026 0.0029  0.7581 0.0135  0.7927 0.0074  0.123
roberta-30M-20000000   1.0113 0.0889  0.5022 0.0329  0.7316 0.0044  0.8024 0.0031  0.7534 0.0095  0.7726 0.0133  0.296
roberta-30M-30000000   0.9075 0.0210  0.4916 0.0116  0.7259 0.0060  0.8012 0.0061  0.7672 0.0055  0.7979 0.0084  0.138
bart-13M-10000000      0.8798 0.0460  0.4464 0.0100  0.7408 0.0041  0.7987 0.0108  0.7562 0.0088  0.7954 0.0079  0.096
bart-13M-20000000      0.9996 0.0463  0.4825 0.0096  0.7395 0.0053  0.7943 0.0149  0.7582 0.0037  0.7888 0.0176  0.260
bart-13M-30000000      0.8922 0.0282  0.4855 0.0133  0.7447 0.0020  0.7700 0.0158  0.7674 0.0047  0.8002 0.0054  0.164
bart-30M-10000000      0.8750 0.0293  0.4718 0.0144  0.7307 0.0087  0.8085 0.0047  0.7529 0.0057  0.7762 0.0065  0.119
bart-30M-20000000      0.8542 0.0232  0.5090 0.0264  0.7363 0.0091  0.7939 0.0073  0.7716 0.0063  0.7863 0.0042  0.127
bart-30M-30000000      0.8743 0.0430  0.4748 0.0142  0.7303 0.0070  0.8020 0.0031  0.7603 0.0034  0.7845 0.0114  0.112
llama-13M-10000000     0.9506 0.0737  0.5239 0.0214  0.7528 0.0075  0.7916 0.0040  0.7569 0.0209  0.7919 0.0038  0.266
llama-13M-20000000     0.9430 0.0417  0.5503 0.0817  0.7487 0.0077  0.7832 0.0084  0.7812 0.0088  0.7704 0.0165  0.287
llama-13M-30000000     0.9344 0.0231  0.5210 0.0565  0.7432 0.0083  0.7917 0.0046  0.7860 0.0014  0.7965 0.0059  0.204
llama-30M-10000000     0.8949 0.0250  0.4538 0.0108  0.7268 0.0041  0.7843 0.0096  0.7673 0.0037  0.7794 0.0112  0.124
llama-30M-20000000     0.8555 0.0264  0.4583 0.0047  0.7438 0.0060  0.8074 0.0087  0.7538 0.0092  0.7997 0.0048  0.076
llama-30M-30000000     0.9314 0.0307  0.4444 0.0053  0.7343 0.0026  0.7948 0.0034  0.7714 0.0134  0.8015 0.0047  0.122
"""
"""Cell, then mean and standard error of each task, then TES."""
_ARCHITECTURES = """
bart         0.8958 0.0164  0.4783 0.0068  0.7370 0.0026  0.7946 0.0045  0.7611 0.0024  0.7886 0.0039
roberta      0.9226 0.0207  0.4885 0.0100  0.7356 0.0033  0.8022 0.0021  0.7581 0.0040  0.7886 0.0038
llama        0.9183 0.0163  0.4919 0.0173  0.7416 0.0029  0.7922 0.0030  0.7694 0.0048  0.7899 0.0040
"""
_ARCHITECTURES_AND_SIZES = """
bart-30M     0.8678 0.0178  0.4852 0.0112  0.7324 0.0045  0.8014 0.0033  0.7616 0.0035  0.7823 0.0044
bart-13M     0.9239 0.0262  0.4715 0.0076  0.7417 0.0022  0.7877 0.0082  0.7606 0.0035  0.7948 0.0063
roberta-30M  0.9293 0.0337  0.4953 0.0146  0.7310 0.0033  0.8021 0.0023  0.7596 0.0056  0.7877 0.0061
roberta-13M  0.9159 0.0250  0.4817 0.0140  0.7402 0.0057  0.8023 0.0036  0.7567 0.0059  0.7894 0.0048
llama-30M    0.8939 0.0169  0.4522 0.0043  0.7350 0.0030  0.7955 0.0048  0.7642 0.0055  0.7936 0.0048
llama-13M    0.9426 0.0271  0.5317 0.0315  0.7482 0.0043  0.7888 0.0034  0.7747 0.0078  0.7863 0.0063
"""
_MOLECULES = """
10000000     0.9010  0.4788  0.7381  0.7970  0.7560  0.7863
20000000     0.9188  0.4936  0.7393  0.7967  0.7626  0.7852
30000000     0.9170  0.4864  0.7368  0.7952  0.7701  0.7956
"""
"""Means alone."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A published mean."""

    mean: float
    error: float
    """Standard error."""

    @property
    def band(self) -> tuple[float, float]:
        """95 % t interval of the mean over five head seeds; it knows nothing of other pre-trainings."""
        from scipy.stats import t

        half = float(t.ppf(0.5 + CONFIDENCE / 2, RUNS - 1)) * self.error
        return self.mean - half, self.mean + half


def configurations() -> dict[str, dict[str, Figure]]:
    """Cell -> task -> published figure."""
    found = {}
    for line in _CONFIGURATIONS.strip().splitlines():
        name, *numbers = line.split()
        pairs = zip(map(float, numbers[0:12:2]), map(float, numbers[1:12:2]), strict=True)
        found[name] = {task: Figure(*pair) for task, pair in zip(TASKS, pairs, strict=True)}
    return found


def summaries() -> dict[str, float]:
    """Cell -> published TES."""
    lines = (line.split() for line in _CONFIGURATIONS.strip().splitlines())
    return {name: float(numbers[-1]) for name, *numbers in lines}


def groups() -> dict[str, dict[str, dict[str, float]]]:
    """What is averaged -> its levels -> task -> published mean."""
    return {
        "architecture": _means(_ARCHITECTURES, 2),
        "architecture x size": _means(_ARCHITECTURES_AND_SIZES, 2),
        "molecules": _means(_MOLECULES, 1),
    }


def _means(text: str, step: int) -> dict[str, dict[str, float]]:
    lines = (line.split() for line in text.strip().splitlines())
    return {name: dict(zip(TASKS, map(float, numbers[::step]), strict=True)) for name, *numbers in lines}
