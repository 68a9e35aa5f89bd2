"""Verbs that carry items out: begin a sweep, go on with it, retry what failed, repeat one item."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chembench.cli.options import (
    EXIT_ERROR,
    EXIT_FAILED_ITEMS,
    cache_option,
    concurrent_option,
    data_option,
    format_option,
    keep_option,
    out_option,
    quiet_option,
    runner_options,
    set_option,
    space_options,
    storage_option,
    tracking_option,
)
from chembench.cli.printed import print_boards, print_failures
from chembench.errors import CAUSES, Cause

if TYPE_CHECKING:
    from chembench.handles import Sweep


@click.command()
@space_options
@click.option("--name", help="Name of the sweep; the space's when not given.")
@out_option
@runner_options("ray", "local")
@data_option
@cache_option
@tracking_option
@concurrent_option
@storage_option
@keep_option
@click.option("--shard", metavar="I/N", help="Only part I of N, for a machine of its own; see chembench merge.")
@quiet_option
@click.pass_obj
def sweep(arguments: Sequence[str], /, space: str, overrides: tuple[str, ...], quiet: bool, **options: Any) -> int:
    """Run a space, or go on where the same command stopped; then print the leaderboards."""
    from chembench import api

    asked = api.load_space(space, overrides)
    return ended(api.run_sweep(asked, show_progress=not quiet, command=["chembench", *arguments], **options), quiet)


@click.command()
@click.argument("sweep")
@out_option
@click.option("--trials", type=click.IntRange(min=1), help="Search trials of each study from now on.")
@click.option("--seeds", type=click.IntRange(min=1), help="Head seeds of each confirmed recipe from now on.")
@set_option
@runner_options(None, None)
@data_option
@cache_option
@tracking_option
@concurrent_option
@storage_option
@keep_option
@quiet_option
def resume(sweep: str, out: Path, overrides: tuple[str, ...], quiet: bool, **options: Any) -> int:
    """Go on with SWEEP as it was begun, from any folder; what is not given is taken from its record."""
    from chembench import api

    return ended(api.resume(sweep, out=out, overrides=overrides, show_progress=not quiet, **options), quiet)


@click.command()
@click.argument("sweep")
@click.option("--failed", is_flag=True, help="Every item that failed.")
@click.option("--cause", type=click.Choice(CAUSES), help="The items that failed of this.")
@click.option("--uid", "uids", multiple=True, metavar="PREFIX", help="The failed item whose uid starts so.")
@out_option
@quiet_option
def retry(sweep: str, failed: bool, cause: Cause | None, uids: tuple[str, ...], out: Path, quiet: bool) -> int:
    """Have failed items of SWEEP carried out again, and go on until it is done."""
    from chembench import api

    if not failed and cause is None and not uids:
        raise click.UsageError("retry needs --failed, --cause or --uid; chembench status SWEEP says what failed")
    view = api.open_sweep(sweep, out=out)
    if not uids and not view.failed(cause):
        click.echo(f"nothing to retry: no item of sweep '{view.name}' has failed" + (f" of {cause}" if cause else ""))
        return 0
    return ended(view.retry(cause, uids, show_progress=not quiet), quiet)


@click.command()
@click.argument("sweep")
@click.option("--top", type=click.IntRange(min=1), required=True, help="Methods of each task, the best means first.")
@click.option("--seeds", type=click.IntRange(min=1), required=True, help="Head seeds that each is to have in all.")
@click.option("--task", "tasks", multiple=True, help="Of this task alone; may be given again.")
@out_option
@quiet_option
def confirm(sweep: str, top: int, seeds: int, tasks: tuple[str, ...], out: Path, quiet: bool) -> int:
    """Confirm the best recipes of SWEEP on more head seeds, to part what the board could not."""
    from chembench import api

    view = api.open_sweep(sweep, out=out)
    raised = view.confirm(top, seeds, tasks, show_progress=not quiet)
    if not raised:
        click.echo(f"nothing to confirm: the {top} best of each task have {seeds} head seeds or more already")
        return 0
    click.echo(f"confirmed on {seeds} head seeds: {', '.join(raised)}")
    return ended(view, quiet)


def ended(done: Sweep, quiet: bool) -> int:
    """Print what came out of a sweep; its exit status is given back."""
    if not quiet:
        print_boards(done, "table")
    print_failures(done)
    click.echo(f"boards: {done.root / 'leaderboards'}")
    if "recorded" not in done.begun().header or done.paths.sent.is_file():  # a replay is sent when that is asked for
        click.echo(f"MLflow: {shlex.join(['chembench', 'ui', str(done.root)])}")
    return done.exit_code


@click.command()
@click.argument("sweep")
@click.argument("uid")
@click.option("--check", is_flag=True, help="Hold it against the record; 1 if it is different.")
@out_option
@format_option("table", "json")
def rerun(sweep: str, uid: str, check: bool, out: Path, form: str) -> int:
    """Carry out one finished item of SWEEP once more, by its UID or the start of it; it counts as no result."""
    from chembench import api, printing

    done = api.open_sweep(sweep, out=out).trial(uid).rerun(check=check)
    click.echo(printing.as_json(done.as_data()) if form == "json" else done.text)
    if done.verdict == "different":
        return EXIT_ERROR
    return EXIT_FAILED_ITEMS if done.outcome.status == "failed" else 0


VERBS = (sweep, resume, retry, confirm, rerun)
