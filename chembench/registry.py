"""Names that users may write, each with the place of its implementation.

The tables are literal; a module is imported when its name is first loaded. Listing names imports nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from chembench.errors import UnknownNameError


class Registry:
    """Implementations of one kind, each written as ``"module:attribute"``."""

    def __init__(self, kind: str, targets: Mapping[str, str]) -> None:
        self._kind = kind
        self._targets = dict(targets)

    def __iter__(self) -> Iterator[str]:
        return iter(self._targets)

    def __contains__(self, name: object) -> bool:
        return name in self._targets

    def require(self, name: str) -> str:
        """``name`` itself.

        Raises:
            UnknownNameError: if no implementation is called so.
        """
        if name not in self._targets:
            raise UnknownNameError(self._kind, name, self._targets)
        return name

    def load(self, name: str) -> Any:
        """The implementation called ``name``; its module is imported now."""
        module, _, attribute = self._targets[self.require(name)].partition(":")
        return getattr(import_module(module), attribute)


ARCHITECTURES = Registry(
    "architecture",
    {
        "roberta": "chembench.models.roberta:Roberta",
        "bart": "chembench.models.bart:Bart",
        "llama": "chembench.models.llama:Llama",
    },
)

METHODS = Registry(
    "fine-tuning method",
    {
        "full": "chembench.models.heads:full",
        "lora": "chembench.models.adapters:lora",
        "linear_probe": "chembench.models.heads:linear_probe",
        "descriptor_probe": "chembench.models.heads:descriptor_probe",
    },
)

BASELINES = Registry(
    "baseline",
    {
        "forest_ecfp4": "chembench.baselines.forest:forest_ecfp4",
        "forest_descriptors": "chembench.baselines.forest:forest_descriptors",
        "constant": "chembench.baselines.constant:constant",
    },
)

RUNNERS = Registry(
    "runner",
    {
        "ray": "chembench.sweep.ray_runner:run_with_ray",
        "serial": "chembench.sweep.serial_runner:run_serially",
    },
)

SPLITTERS = Registry(
    "split",
    {
        "deepchem_scaffold": "chembench.data.divisions:deepchem_scaffold",
        "scaffold": "chembench.data.divisions:seeded_scaffold",
        "cluster": "chembench.data.divisions:cluster_split",
        "random": "chembench.data.divisions:random_split",
    },
)

SAMPLERS = Registry(
    "sampler",
    {
        "tpe": "optuna.samplers:TPESampler",
        "random": "optuna.samplers:RandomSampler",
        "gp": "optuna.samplers:GPSampler",
        "nsgaii": "optuna.samplers:NSGAIISampler",
        "grid": "chembench.sweep.study:grid_point",
    },
)

PRUNERS = Registry(
    "pruner",
    {
        "none": "optuna.pruners:NopPruner",
        "median": "optuna.pruners:MedianPruner",
        "percentile": "optuna.pruners:PercentilePruner",
        "successive_halving": "optuna.pruners:SuccessiveHalvingPruner",
        "hyperband": "optuna.pruners:HyperbandPruner",
        "threshold": "optuna.pruners:ThresholdPruner",
    },
)
