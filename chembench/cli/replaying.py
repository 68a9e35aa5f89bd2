"""Verbs that work on recorded results."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from chembench.cli.driving import ended
from chembench.cli.options import (
    cache_option,
    concurrent_option,
    data_option,
    format_option,
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


@click.command("reproduce-paper")
@click.option(
    "--rows",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Recorded scores; the authors' own, from their repository, when not given.",
)
@click.option("--sweep", help="A sweep whose cells are put beside the published ones.")
@data_option
@out_option
@format_option("md", "json")
def reproduce_paper(rows: Path | None, sweep: str | None, data_dir: Path | None, out: Path, form: str) -> None:
    """Judge each claim of arXiv 2405.00949 by recorded scores: the test, the figure, the verdict."""
    from chembench import api
    from chembench.paper.authors import authors_rows
    from chembench.paper.beside import beside, called
    from chembench.paper.told import as_markdown, tell
    from chembench.paths import default_data_dir
    from chembench.recorded.source import read_recording

    view = None if sweep is None else api.open_sweep(sweep, out=out)
    ours = () if view is None else beside(view.begun())
    say = partial(click.echo, err=True)
    recording = read_recording(rows) if rows is not None else authors_rows(data_dir or default_data_dir(), say)
    told = tell(recording, None if view is None else called(view.begun()), ours)
    click.echo(told.as_json() if form == "json" else as_markdown(told), nl=False)


VERBS = (replay, reproduce_paper)
