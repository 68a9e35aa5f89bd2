"""Verbs that look: at spaces and plans, at what a sweep did, and at molecules through its winners."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from chembench.cli.options import (
    EXIT_ERROR,
    cache_option,
    data_option,
    format_option,
    out_option,
    set_option,
    space_options,
)
from chembench.cli.printed import audit_text, print_boards, print_differences, print_failures
from chembench.errors import ConfigError

SHOWN_UNREADABLE = 10


@click.command()
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


@click.command()
@space_options
@format_option("table", "json")
def plan(space: str, overrides: tuple[str, ...], form: str) -> None:
    """Print what a sweep would do and cost; nothing runs, no data is needed."""
    from chembench import api, forecast, printing

    made = api.make_plan(api.load_space(space, overrides))
    click.echo(printing.as_json(made.as_data()) if form == "json" else forecast.plan_text(made))


@click.command()
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
    if found.outer:
        click.echo(found.outer)
    print_failures(view)
    known = sum(sum(counts.values()) for counts in found.counts.values())
    left = f", about {printing.duration(found.eta_seconds)} left" if found.eta_seconds is not None else ""
    state = "finished" if found.finished else "not finished"
    click.echo(f"{view.name}: {state}, {known - found.left} of {found.expected} items done{left}")


@click.command()
@click.argument("sweep")
@out_option
@format_option("table", "json", "csv", "md", "latex")
def leaderboard(sweep: str, out: Path, form: str) -> None:
    """Print the leaderboards of SWEEP, one per task type, and the pre-training board."""
    from chembench import api

    print_boards(api.open_sweep(sweep, out=out), form)


@click.command()
@click.argument("first")
@click.argument("second")
@click.option("--sweep", help="FIRST and SECOND are lines of this sweep's boards; without it they are sweeps.")
@click.option("--task", "tasks", multiple=True, help="On this task alone; may be given again.")
@out_option
@format_option("table", "json", "csv", "md")
def diff(first: str, second: str, sweep: str | None, tasks: tuple[str, ...], out: Path, form: str) -> None:
    """Compare two sweeps, or two lines of one sweep (also: smallest largest, scratch pretrained)."""
    from chembench import api, printing

    found = api.diff(first, second, sweep=sweep, tasks=tasks, out=out)
    if form == "json":
        click.echo(printing.as_json(found.model_dump(mode="json")))
    elif form == "table":
        print_differences(found)
    else:
        click.echo(printing.table(found.as_rows(), found.COLUMNS, form))


@click.command()
@click.argument("sweep")
@out_option
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), help="Folder to write to, and no other.")
@click.option("--without-runs", is_flag=True, help="Leave single runs out, of records that may not be passed on.")
@click.option("--open", "shows", is_flag=True, help="Show the page in the browser.")
def report(sweep: str, out: Path, output: Path | None, without_runs: bool, shows: bool) -> None:
    """Write the report of SWEEP as one HTML page and as Markdown, with every figure as SVG and PNG."""
    from chembench import api
    from chembench.paths import as_written

    written = api.open_sweep(sweep, out=out).report(output, with_runs=not without_runs)
    for file in written:
        click.echo(as_written(file))
    if shows:
        click.launch(str(written[0]))


@click.command()
@click.argument("sweep")
@click.argument("uid")
@out_option
@format_option("table", "json")
def show(sweep: str, uid: str, out: Path, form: str) -> None:
    """Show one item of SWEEP by its UID or the start of it: what it was, what came out, where its files lie."""
    from chembench import api, printing

    item = api.open_sweep(sweep, out=out).show(uid)
    click.echo(printing.as_json(item) if form == "json" else printing.nested(item))


@click.command()
@click.argument("target")
@set_option
@click.option(
    "--tokenizer", type=click.Path(path_type=Path), metavar="FILE", help="A tokenizer.json to try in place of its own."
)
@click.option("--strict", is_flag=True, help="End with 1 if a leak between training and test is found.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="File to write; the terminal if not given."
)
@out_option
@data_option
@cache_option
@format_option("table", "json", "md", "html")
def audit(target: str, strict: bool, output: Path | None, form: str, **options: Any) -> int:
    """Say what is known of the data of TARGET - a sweep, a task or a space - before anything is trained on it."""
    from chembench import api
    from chembench.paths import written_whole

    found = api.audit(target, say=lambda line: click.echo(line, err=True), **options)
    text = audit_text(found, form)
    if output is None:
        click.echo(text, nl=False)
    else:
        with written_whole(output) as part:
            part.write_text(text)
        click.echo(f"written: {output}", err=True)
    return EXIT_ERROR if strict and found.leaks else 0


@click.command()
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


VERBS = (spaces, plan, status, audit, leaderboard, report, diff, show, predict)
