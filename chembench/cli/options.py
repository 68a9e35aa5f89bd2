"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from chembench.registry import RUNNERS

Command = TypeVar("Command", bound=Callable[..., Any])
Option = Callable[[Command], Command]
Folder = click.Path(file_okay=False, path_type=Path)

EXIT_ERROR = 1
EXIT_FAILED_ITEMS = 3


def format_option(*forms: str) -> Callable[[Command], Command]:
    """``-f/--format``, offering ``forms``; the first is the default."""
    return click.option("-f", "--format", "form", type=click.Choice(forms), default=forms[0], show_default=True)


set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one field, e.g. search.trials=6."
)


def space_options(command: Command) -> Command:
    """``--space`` and ``--set``."""
    return click.option("--space", required=True, help="Name of a space, or a TOML file.")(set_option(command))


out_option = click.option(
    "--out", type=Folder, default=Path("sweeps"), show_default=True, help="Folder that holds the sweeps."
)
data_option = click.option("--data-dir", type=Folder, help="Folder with raw task files [env: CHEMBENCH_DATA_DIR].")
cache_option = click.option("--cache-dir", type=Folder, help="Folder shared by all sweeps [env: CHEMBENCH_CACHE_DIR].")
tracking_option = click.option(
    "--tracking-uri", help="MLflow's; when not given, where the sweep is tracked: at first a SQLite file beside it."
)
concurrent_option = click.option(
    "--max-concurrent", type=click.IntRange(min=1), help="Items at a time; what the machine has by default."
)
storage_option = click.option(
    "--storage", metavar="URL", help="Where workers without a folder in common get and leave files."
)
keep_option = click.option(
    "--keep", metavar="SIZE", help="What the sweep and its checkpoints may take on the disk, such as 20GB."
)
quiet_option = click.option("--quiet", is_flag=True, help="No progress display and no boards in the terminal.")


def runner_options(runner: str | None, address: str | None) -> Callable[[Command], Command]:
    """``--runner`` and ``--ray-address``, with these defaults."""

    def add(command: Command) -> Command:
        where = click.option("--ray-address", default=address, show_default=True, help="Ray cluster to join.")
        how = click.option(
            "--runner",
            type=click.Choice(list(RUNNERS)),
            default=runner,
            show_default=True,
            help="What carries items out.",
        )
        return how(where(command))

    return add
