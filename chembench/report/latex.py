"""Boards as LaTeX tables (booktabs), one per task, for a paper."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "§": r"\S{}",
    "¶": r"\P{}",
    "‖": r"$\Vert$",
    "·": r"$\cdot$",
}
_EVERY = re.compile("|".join(map(re.escape, _SPECIAL)))
_BREAKS = re.compile(r"\s+")


def escaped(text: str) -> str:
    """Text that LaTeX prints as it stands; line breaks become spaces."""
    return _EVERY.sub(lambda found: _SPECIAL[found[0]], _BREAKS.sub(" ", text)).strip()


def table(
    caption: str,
    titles: Sequence[str],
    cells: Iterable[Sequence[str]],
    aligns: Sequence[str],
    notes: Iterable[str] = (),
) -> str:
    """One ``table`` environment.

    Args:
        caption: what the table shows.
        titles: of the columns.
        cells: lines.
        aligns: ``left`` or ``right``, one per column.
        notes: sentences below the lines.
    """
    columns = "".join("r" if align == "right" else "l" for align in aligns)
    body = [" & ".join(map(escaped, line)) + r" \\" for line in cells]
    said = [rf"\par\footnotesize {escaped(note)}" for note in notes]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escaped(caption)}}}",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(map(escaped, titles)) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            *said,
            r"\end{table}",
        ]
    )
