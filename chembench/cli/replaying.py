"""Verbs that work on recorded results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from chembench.cli.driving import ended
from chembench.cli.options import (
    cache_option,
    concurrent_option,
    out_option,
    quiet_option,
    runner_options,
    set_option,
    tracking_option,
)


@click.command()
@click.argument("recorded")
@click.option("--space", help="Of a table: name of the space that it is restricted to, or a TOML file.")
@set_option
@click.option("--name", help="Of the replay; that of the space or the sweep, with -replay, when not given.")
@out_option
@runner_options("serial", "local")
@cache_option
@tracking_option
@concurrent_option
@quiet_option
@click.pass_obj
def replay(arguments: Sequence[str], /, recorded: str, quiet: bool, **options: Any) -> int:
    """Run plan, ledger, runner and boards on what is RECORDED: a table of scores (.csv), or a finished sweep."""
    from chembench import replay as replaying

    done = replaying.replay(recorded, show_progress=not quiet, command=["chembench", *arguments], **options)
    return ended(done, quiet)


VERBS = (replay,)
