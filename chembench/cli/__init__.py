"""The ``chembench`` command. Functions here parse, call `chembench.api` and turn errors into an exit status."""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from chembench import __version__
from chembench.cli import driving, keeping, looking, replaying
from chembench.cli.options import EXIT_ERROR
from chembench.errors import ChembenchError

EXIT_INTERRUPTED = 4


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
    except (click.Abort, KeyboardInterrupt):
        click.echo(f"interrupted; what is finished is kept. Go on with: {_command_line(arguments)}", err=True)
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the border of the program: what arrives here is a bug, and is told as one
        return _told(error, arguments, is_debugging=is_debugging)
    return status if isinstance(status, int) else 0


def _told(error: Exception, arguments: Sequence[str], *, is_debugging: bool) -> int:
    """Say what went wrong in one sentence where it was foreseen, else that it is a bug; the exit status."""
    from chembench.paths import fault_of_machine

    foreseen = error if isinstance(error, ChembenchError) else fault_of_machine(error)
    if foreseen is None:
        _tell_bug(error, arguments, is_debugging=is_debugging)
        return EXIT_ERROR
    if is_debugging:
        traceback.print_exc()
    click.echo(str(foreseen), err=True)
    return foreseen.exit_code


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


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="chembench")
@click.option("--debug", is_flag=True, expose_value=False, help="Print tracebacks [env: CHEMBENCH_DEBUG=1].")
def cli() -> None:
    """Which recipe of a chemical language model is worth its cost, and is the difference real?"""


for verb in (*looking.VERBS, *driving.VERBS, *keeping.VERBS, *replaying.VERBS):
    cli.add_command(verb)
