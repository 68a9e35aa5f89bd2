"""Verbs that keep house: this machine, the folders of sweeps, and MLflow."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from chembench.cli.options import (
    EXIT_ERROR,
    cache_option,
    data_option,
    format_option,
    keep_option,
    out_option,
    tracking_option,
)
from chembench.cli.printed import print_questions
from chembench.errors import ConfigError


@click.command()
@click.argument("sweep", required=False)
@out_option
@tracking_option
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
def ui(sweep: str | None, out: Path, tracking_uri: str | None, port: int) -> None:
    """Open MLflow's pages on the runs of SWEEP, with a page for each question, or of all sweeps under --out."""
    from chembench import api
    from chembench.tracking import mlflow_sync
    from chembench.tracking.questions import server_of

    view = api.open_sweep(sweep, out=out) if sweep else None
    uri = tracking_uri or (view.tracking_uri if view else mlflow_sync.default_uri(out))
    database = uri.removeprefix("sqlite:///")
    if database != uri and not Path(database).is_file():
        raise ConfigError(f"MLflow's database must exist, {database} does not; run a sweep first, or name its --out")
    if view is not None:
        print_questions(view, uri, port)
        if server_of(uri) is not None:
            return  # it shows itself
    command = [*mlflow_sync.ui_command(uri), "--port", str(port)]
    click.echo(f"MLflow on http://127.0.0.1:{port} - stop it with Ctrl-C")
    sys.stdout.flush()
    os.execvp(command[0], command)


@click.command()
@click.argument("sweep", required=False)
@out_option
@data_option
@cache_option
@click.option("--fix", is_flag=True, help="Mend in SWEEP what can be mended.")
@format_option("table", "json")
def doctor(sweep: str | None, form: str, **places: Any) -> int:
    """Check that this machine can run sweeps, and that SWEEP is as its ledger says."""
    from chembench import doctor as doctoring
    from chembench import printing

    if places["fix"] and sweep is None:
        raise click.UsageError("--fix mends a SWEEP, name one: chembench doctor SWEEP --fix")
    checks = doctoring.examine(doctoring.Places(sweep=sweep, **places))
    if form == "json":
        click.echo(printing.as_json([check.as_data() for check in checks]))
    else:
        rows = [
            {"state": c.state, "check": c.name, "found": f"{c.found}. Way out: {c.way_out}" if c.way_out else c.found}
            for c in checks
        ]
        click.echo(printing.table(rows, ("state", "check", "found")))
        click.echo(doctoring.summary(checks))
    return EXIT_ERROR if any(check.state == "fail" for check in checks) else 0


@click.command()
@click.argument("sweep", required=False)
@out_option
@cache_option
@keep_option
@click.option("--dry-run", is_flag=True, help="Delete nothing, show what would go and what stays.")
@format_option("table", "json", "csv", "md")
def gc(sweep: str | None, out: Path, cache_dir: Path | None, keep: str | None, dry_run: bool, form: str) -> None:
    """Delete what no sweep needs: of SWEEP, or of every sweep that uses the cache and of the cache itself."""
    from chembench import api, printing, retention

    plan = api.plan_gc(sweep, out=out, cache_dir=cache_dir, keep=keep)
    click.echo(printing.table(retention.as_rows(plan), ("", "what", "size", "where", "why"), form))
    if plan.warning:
        click.echo(f"warning: {plan.warning}", err=True)
    if not dry_run:
        plan = retention.collect(plan)
    if form == "table":
        click.echo(retention.summary(plan, is_done=not dry_run))


@click.command()
@click.argument("sweep")
@out_option
@tracking_option
def sync(sweep: str, out: Path, tracking_uri: str | None) -> int:
    """Make the boards, the report, MLflow's runs and Optuna's journal of SWEEP anew from its ledger and its trials."""
    from chembench import api, upkeep

    rebuilt = upkeep.sync_sweep(api.open_sweep(sweep, out=out).paths, tracking_uri, click.echo)
    for problem in rebuilt.problems:
        click.echo(problem, err=True)
    return EXIT_ERROR if rebuilt.problems else 0


@click.command()
@click.argument("sweeps", nargs=-1, required=True, metavar="SWEEP...")
@click.option("--name", required=True, help="Name of the new sweep.")
@out_option
def merge(sweeps: tuple[str, ...], name: str, out: Path) -> None:
    """Unite SWEEPs of one space, such as shards, into a new one; they stay as they are."""
    from chembench import api
    from chembench.paths import as_written
    from chembench.sweep.stopping import resume_command

    made = api.merge(sweeps, name=name, out=out, say=click.echo)
    command = resume_command(as_written(made.root))
    click.echo(f"merged into {made.root}; what is left of it, and its boards: {command}")


VERBS = (ui, doctor, gc, sync, merge)
