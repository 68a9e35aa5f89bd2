"""Which recipe of a chemical language model is worth its cost, and is the difference real?

::

    import chembench

    space = chembench.load_space("quickstart", ["search.trials=2"])
    print(chembench.make_plan(space).total_items)
    sweep = chembench.run_sweep(space)
    sweep.leaderboards()["regression"]
    sweep.predictor("freewilson_pic50").predict(["CCO"])
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

OFFERED = (
    "Sweep",
    "Trial",
    "audit",
    "load_space",
    "make_plan",
    "merge",
    "open_engine",
    "open_sweep",
    "resume",
    "run_sweep",
    "space_text",
    "spaces",
)
"""Names of `chembench.api` that stand here too; the module is imported when one is first used."""


def __getattr__(name: str) -> Any:
    if name not in OFFERED:
        raise AttributeError(f"module 'chembench' has no attribute '{name}'; it offers {', '.join(OFFERED)}")
    return getattr(import_module("chembench.api"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *OFFERED])
