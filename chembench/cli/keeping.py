"""Verbs that keep house: this machine, the folders of sweeps, and MLflow."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from chembench.cli.options import EXIT_ERROR, cache_option, data_option, format_option, out_option, tracking_option
from chembench.errors import ConfigError


@click.command()
@click.argument("sweep", required=False)
@out_option
@tracking_option
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
def ui(sweep: str | None, out: Path, tracking_uri: str | None, port: int) -> None:
    """Open MLflow's pages on the runs of SWEEP, or of all sweeps under --out."""
    from chembench import api
    from chembench.tracking import mlflow_sync

    uri = tracking_uri or (api.open_sweep(sweep, out=out).tracking_uri if sweep else mlflow_sync.default_uri(out))
    database = uri.removeprefix("sqlite:///")
    if database != uri and not Path(database).is_file():
        raise ConfigError(f"MLflow's database must exist, {database} does not; run a sweep first, or name its --out")
    command = [*mlflow_sync.ui_command(uri), "--port", str(port)]
    click.echo(f"MLflow on http://127.0.0.1:{port} - stop it with Ctrl-C")
    sys.stdout.flush()
    os.execvp(command[0], command)


@click.command()
@click.argument("sweep", required=False)
@out_option
@data_option
@cache_option
@format_option("table", "json")
def doctor(sweep: str | None, out: Path, data_dir: Path | None, cache_dir: Path | None, form: str) -> int:
    """Check that this machine can run sweeps, and that SWEEP's ledger reads."""
    from chembench import doctor as doctoring
    from chembench import printing

    checks = doctoring.examine(doctoring.Places(cache_dir, data_dir, sweep, out))
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


VERBS = (ui, doctor)
