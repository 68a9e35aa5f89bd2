"""A report on disk: ``report.html``, ``report.md`` and ``figures/``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from chembench.data.audit import read_audit
from chembench.errors import ConfigError
from chembench.paths import SweepPaths, written_whole
from chembench.report.page.blocks import without_runs
from chembench.report.page.drawing import Drawn, draw
from chembench.report.page.gather import gather
from chembench.report.page.html import to_html
from chembench.report.page.markdown import to_markdown
from chembench.report.render import Boards, boards_from_state
from chembench.sweep.state import SweepState

TEXT, FIGURES = "report.md", "figures"


def report_sweep(
    state: SweepState, paths: SweepPaths, output: Path | None = None, *, with_runs: bool = True
) -> list[Path]:
    """Write the report of a sweep into ``output``; by default into its folder and beside the copies of its boards.

    Args:
        state: the fold of the ledger.
        paths: the sweep's folder.
        output: the one folder to write to.
        with_runs: tell the score of every single run, and link to it; not for records that may not be passed on.

    Raises:
        ConfigError: if ``output`` cannot be made.
        DataError: if one replicate has two results.
    """
    if output is not None:
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"a report's folder must be one that can be made, '{output}' is not ({error.strerror}); name another"
            ) from error
    folders = (paths.root, paths.reports) if output is None else (output,)
    return write_report(state, paths, boards_from_state(state, read_audit(paths)), folders, with_runs=with_runs)


def write_report(
    state: SweepState, paths: SweepPaths, boards: Boards, folders: Iterable[Path], *, with_runs: bool = True
) -> list[Path]:
    """Write the report of a sweep into each of ``folders``; it is gathered and drawn once.

    Args:
        state: the fold of the ledger.
        paths: the sweep's folder.
        boards: made of the same state.
        folders: the sweep's own among them, if it is to lie there; figures of an earlier report are replaced.
        with_runs: tell the score of every single run, and link to it.

    Returns:
        ``report.html`` and ``report.md`` of each folder.
    """
    whole = gather(state, paths, boards)
    report = whole if with_runs else without_runs(whole)
    drawn = {figure.name: draw(figure) for figure in report.figures}
    written = []
    for folder in folders:
        way = "" if folder.resolve() == paths.root.resolve() else Path(os.path.relpath(paths.root, folder)).as_posix()
        _write_figures(folder / FIGURES, drawn)
        for name, text in ((paths.report.name, to_html(report, drawn, way)), (TEXT, to_markdown(report, way))):
            with written_whole(folder / name) as part:
                part.write_text(text, encoding="utf-8")
            written.append(folder / name)
    return written


def _write_figures(folder: Path, drawn: dict[str, Drawn]) -> None:
    """Write every figure as SVG and PNG; those of an earlier report that this one has not are removed."""
    header = '<?xml version="1.0" encoding="utf-8"?>\n'
    for name, one in drawn.items():
        with written_whole(folder / f"{name}.svg") as part:
            part.write_text(header + one.svg.replace('href="#line-', 'href="../report.html#line-'), encoding="utf-8")
        with written_whole(folder / f"{name}.png") as part:
            part.write_bytes(one.png)
    for file in folder.glob("*"):
        if file.suffix in (".svg", ".png") and file.stem not in drawn:
            file.unlink()
