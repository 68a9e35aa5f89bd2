"""The ``chembench`` command. Functions here parse, call `chembench.api` and turn errors into an exit status."""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from chembench import __version__
from chembench.errors import ChembenchError, ConfigError
from chembench.registry import RUNNERS

if TYPE_CHECKING:
    from chembench.api import Sweep

EXIT_ERROR = 1
EXIT_INTERRUPTED = 4
SHOWN_UNREADABLE = 10

Command = TypeVar("Command", bound=Callable[..., Any])
Folder = click.Path(file_okay=False, path_type=Path)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit status."""
    sys.exit(run(sys.argv[1:] if argv is None else argv))


def run(argv: Sequence[str]) -> int:
    """Carry out one command line.

    Returns:
        0 done, 1 error, 2 usage, 3 finished with failed trials, 4 interrupted and resumable.
    """
    arguments = [argument for argument in argv if argument != "--debug"]
    is_debugging = len(arguments) < len(argv) or os.environ.get("CHEMBENCH_DEBUG", "0") not in ("", "0")
    try:
        status = cli.main(args=arguments, prog_name="chembench", standalone_mode=False, obj=arguments)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except ChembenchError as error:
        if is_debugging:
            traceback.print_exc()
        click.echo(str(error), err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo(f"interrupted; what is finished is kept. Go on with: {_command_line(arguments)}", err=True)
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the border of the program: what arrives here is a bug, and is told as one
        _tell_bug(error, arguments, is_debugging=is_debugging)
        return EXIT_ERROR
    return status if isinstance(status, int) else 0


def _command_line(arguments: Sequence[str]) -> str:
    return shlex.join(["chembench", *arguments])


def _tell_bug(error: Exception, arguments: Sequence[str], *, is_debugging: bool) -> None:
    """Say that chembench failed and keep the traceback in a file, or print it where it was asked for."""
    from chembench.paths import CachePaths, default_cache

    text = f"chembench {__version__}: {_command_line(arguments)}\n\n{traceback.format_exc()}"
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}"
    path = CachePaths(default_cache()).crash(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        place = f"the traceback is in {path}"
    except OSError as unwritable:
        place, is_debugging = f"the traceback follows, as {path} cannot be written ({unwritable.strerror})", True
    if is_debugging:
        click.echo(text, err=True)
    summary = " ".join(str(error).split())[:200]
    click.echo(f"this is a bug in chembench: {type(error).__name__}: {summary}; {place}", err=True)


def format_option(*forms: str) -> Callable[[Command], Command]:
    """``-f/--format``, offering ``forms``; the first is the default."""
    return click.option("-f", "--format", "form", type=click.Choice(forms), default=forms[0], show_default=True)


def space_options(command: Command) -> Command:
    """``--space`` and ``--set``."""
    command = click.option(
        "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change one field, e.g. search.trials=6."
    )(command)
    return click.option("--space", required=True, help="Name of a space, or a TOML file.")(command)


out_option = click.option(
    "--out", type=Folder, default=Path("sweeps"), show_default=True, help="Folder that holds the sweeps."
)
data_option = click.option("--data-dir", type=Folder, help="Folder with raw task files [env: CHEMBENCH_DATA_DIR].")
cache_option = click.option("--cache-dir", type=Folder, help="Folder shared by all sweeps [env: CHEMBENCH_CACHE_DIR].")
tracking_option = click.option("--tracking-uri", help="MLflow's; a SQLite file beside the sweep when not given.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="chembench")
@click.option("--debug", is_flag=True, expose_value=False, help="Print tracebacks [env: CHEMBENCH_DEBUG=1].")
def cli() -> None:
    """Which recipe of a chemical language model is worth its cost, and is the difference real?"""


@cli.command()
@click.argument("words", nargs=-1, metavar="[show] [NAME]")
@format_option("table", "json", "csv", "md")
def spaces(words: tuple[str, ...], form: str) -> None:
    """List the search spaces, or show the one called NAME."""
    from chembench import api, printing

    names = words[1:] if words[:1] == ("show",) else words
    if len(names) > 1 or (words and not names):
        raise click.UsageError(f"spaces takes one NAME, got {len(names)}; try: chembench spaces show quickstart")
    if not names:
        rows = [{"name": s.name, "description": s.description, "path": str(s.path)} for s in api.spaces()]
        click.echo(printing.table(rows, ("name", "description"), form))
    elif form == "json":
        click.echo(printing.as_json(api.load_space(names[0]).as_data()))
    elif form == "table":
        click.echo(api.space_text(names[0]).rstrip("\n"))
    else:
        raise click.UsageError(f"one space is shown as table (its TOML) or json, got {form}")


@cli.command()
@space_options
@format_option("table", "json")
def plan(space: str, overrides: tuple[str, ...], form: str) -> None:
    """Print what a sweep would do and cost; nothing runs, no data is needed."""
    from chembench import api, forecast, printing

    made = api.make_plan(api.load_space(space, overrides))
    click.echo(printing.as_json(made.as_data()) if form == "json" else forecast.plan_text(made))


@cli.command()
@space_options
@click.option("--name", help="Name of the sweep; the space's when not given.")
@out_option
@click.option("--runner", type=click.Choice(list(RUNNERS)), default="ray", show_default=True)
@click.option("--ray-address", default="local", show_default=True, help="Ray cluster to join.")
@data_option
@cache_option
@tracking_option
@click.option("--max-concurrent", type=click.IntRange(min=1), help="Items at a time; what the machine has by default.")
@click.option("--quiet", is_flag=True, help="No progress display and no boards in the terminal.")
@click.pass_obj
def sweep(arguments: Sequence[str], /, space: str, overrides: tuple[str, ...], quiet: bool, **options: Any) -> int:
    """Run a space, or go on where the same command stopped; then print the leaderboards."""
    from chembench import api

    asked = api.load_space(space, overrides)
    done = api.run_sweep(asked, show_progress=not quiet, command=["chembench", *arguments], **options)
    if not quiet:
        _print_boards(done, "table")
    click.echo(f"boards: {done.root / 'leaderboards'}")
    click.echo(f"MLflow: {shlex.join(['chembench', 'ui', str(done.root)])}")
    return int(done.exit_code)


def _print_boards(view: Sweep, form: str) -> None:
    """Every leaderboard and the pre-training board, in one form."""
    from chembench.report import render

    boards: list[render.Board] = [*view.leaderboards().values(), view.pretrain_board()]
    if form == "table":
        from rich.console import Console

        render.print_boards(boards, Console())
    else:
        click.echo(render.boards_text(boards, form), nl=False)


@cli.command()
@click.argument("sweep")
@out_option
@format_option("table", "json")
def status(sweep: str, out: Path, form: str) -> None:
    """Say how far SWEEP is: items by kind and state, time left, causes of failures."""
    from chembench import api, printing

    view = api.open_sweep(sweep, out=out)
    found = view.status()
    if form == "json":
        click.echo(printing.as_json(found.model_dump(mode="json")))
        return
    states = sorted({state for counts in found.counts.values() for state in counts})
    click.echo(printing.table([{"kind": kind, **counts} for kind, counts in found.counts.items()], ("kind", *states)))
    if found.failures:
        causes = ", ".join(f"{cause} {count}" for cause, count in found.failures.items())
        click.echo(f"failed: {causes}; the first: {found.first_failure}")
    known = sum(sum(counts.values()) for counts in found.counts.values())
    left = f", about {printing.duration(found.eta_seconds)} left" if found.eta_seconds is not None else ""
    state = "finished" if found.finished else "not finished"
    click.echo(f"{view.name}: {state}, {known - found.left} of {found.expected} items done{left}")


@cli.command()
@click.argument("sweep")
@out_option
@format_option("table", "json", "csv", "md")
def leaderboard(sweep: str, out: Path, form: str) -> None:
    """Print the leaderboards of SWEEP, one per task type, and the pre-training board."""
    from chembench import api

    _print_boards(api.open_sweep(sweep, out=out), form)


@cli.command()
@click.argument("sweep")
@click.argument("uid")
@out_option
@format_option("table", "json")
def show(sweep: str, uid: str, out: Path, form: str) -> None:
    """Show one item of SWEEP by its UID or the start of it: what it was, what came out, where its files lie."""
    from chembench import api, printing

    item = api.open_sweep(sweep, out=out).show(uid)
    click.echo(printing.as_json(item) if form == "json" else printing.nested(item))


@cli.command()
@click.argument("sweep", required=False)
@click.option("--task", help="Task whose winner predicts.")
@click.option(
    "--model", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Folder of a fitted model."
)
@click.option(
    "--input", "source", required=True, metavar="FILE", help="Molecules: .csv, .smi, or - for standard input."
)
@click.option("--smiles-column", default="smiles", show_default=True, help="Column of a CSV that holds the SMILES.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="CSV to write; the terminal if not given."
)
@out_option
def predict(source: str, smiles_column: str, output: Path | None, **chosen: Any) -> None:
    """Predict molecules with the winner of a task in SWEEP, or with a fitted model."""
    from chembench.inference import predict_table, read_molecules
    from chembench.paths import written_whole

    if output is not None and source != "-" and output.resolve() == Path(source).resolve():
        raise ConfigError(f"--output must be another file than --input, got '{output}' for both; choose a new name")
    molecules = read_molecules(_text_of(source), source, smiles_column)
    predictions = predict_table(_predictor(**chosen), molecules)
    if output is None:
        click.echo(predictions.as_csv(), nl=False)
    else:
        with written_whole(output) as part:
            part.write_text(predictions.as_csv())
    if not predictions.unreadable:
        return
    total = len(predictions.unreadable)
    click.echo(f"{total} of {len(predictions.rows)} SMILES do not parse; their predictions are empty:", err=True)
    for number, text in predictions.unreadable[:SHOWN_UNREADABLE]:
        click.echo(f"  row {number}: {text!r}", err=True)
    if total > SHOWN_UNREADABLE:
        click.echo(f"  and {total - SHOWN_UNREADABLE} more", err=True)


def _text_of(source: str) -> str:
    """The content of a file, or of standard input for ``-``."""
    if source == "-":
        return sys.stdin.read()
    try:
        return Path(source).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"--input must be a text file that can be read, got '{source}': {reason}") from error


def _predictor(sweep: str | None, task: str | None, model: Path | None, out: Path) -> Any:
    if model is not None:
        if sweep or task:
            raise click.UsageError("--model names the model by itself; leave SWEEP and --task out")
        from chembench.training.fitted import FittedModel

        return FittedModel.load(model)
    if sweep is None:
        raise click.UsageError("predict needs a SWEEP (with --task), or --model DIR")
    from chembench import api

    return api.open_sweep(sweep, out=out).predictor(task=task)


@cli.command()
@click.argument("sweep", required=False)
@out_option
@tracking_option
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
def ui(sweep: str | None, out: Path, tracking_uri: str | None, port: int) -> None:
    """Open MLflow's pages on the runs of SWEEP, or of all sweeps under --out."""
    from chembench import api
    from chembench.tracking import mlflow_sync

    uri = tracking_uri or (
        api.open_sweep(sweep, out=out).tracking_uri if sweep else api.default_tracking_uri(out / "any")
    )
    database = uri.removeprefix("sqlite:///")
    if database != uri and not Path(database).is_file():
        raise ConfigError(f"MLflow's database must exist, {database} does not; run a sweep first, or name its --out")
    command = [*mlflow_sync.ui_command(uri), "--port", str(port)]
    click.echo(f"MLflow on http://127.0.0.1:{port} - stop it with Ctrl-C")
    sys.stdout.flush()
    os.execvp(command[0], command)


@cli.command()
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


if __name__ == "__main__":
    main()
