"""Figures of a report as SVG and PNG, the same bytes for the same numbers.

Colours are those of Okabe and Ito, which the colour-blind tell apart; markers and line styles say the same again, for
a print without colours. Text in an SVG stays text, and data in it are never read as mathematics.

Reference:
    Okabe, Ito, Color Universal Design, 2008. https://jfly.uni-koeln.de/color/
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chembench.report.page import drawing_lines, drawing_lists, molecules
from chembench.report.page.blocks import Figure
from chembench.report.page.plots import MoleculesPlot

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "chembench",
    "text.parse_math": False,
    "text.usetex": False,
    "axes.formatter.use_mathtext": False,
    "axes.unicode_minus": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "lines.markersize": 5,
    "lines.linewidth": 1.3,
    "figure.dpi": 100,
    "savefig.facecolor": "white",
}
PNG_DPI = 130
FONTS = "font-family: 'DejaVu Sans', sans-serif"
"""As matplotlib writes it at each text."""

_DRAW: dict[str, Callable[[Any], Canvas]] = {
    "lines": drawing_lines.lines,
    "pareto": drawing_lines.pareto,
    "intervals": drawing_lists.intervals,
    "critical": drawing_lists.critical,
    "matrix": drawing_lists.matrix,
}


@dataclass(frozen=True, slots=True)
class Drawn:
    """One figure."""

    svg: str
    """One element, without XML declaration; ids begin with the figure's name."""
    png: bytes


def draw(figure: Figure) -> Drawn:
    """Draw a figure."""
    if isinstance(figure.plot, MoleculesPlot):
        from PIL import Image

        molecules_drawn = Image.open(io.BytesIO(molecules.png(figure.plot)))
        return Drawn(_inline(figure.name, molecules.svg(figure.plot)), _png(molecules_drawn))
    from matplotlib import rc_context, rcdefaults
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    with rc_context():
        rcdefaults()  # what a user set in matplotlibrc would change the bytes
        with rc_context(SETTINGS):  # type: ignore[arg-type]  # its keys are a literal type of five hundred names
            canvas = _DRAW[figure.plot.kind](figure.plot)
            vector = io.StringIO()
            canvas.savefig(vector, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
            canvas.set_layout_engine("none")  # it is laid out now
            canvas.set_dpi(PNG_DPI)
            pixels: Any = FigureCanvasAgg(canvas)
            pixels.draw()
            picture = Image.frombuffer("RGBA", pixels.get_width_height(), pixels.buffer_rgba(), "raw", "RGBA", 0, 1)
    return Drawn(_inline(figure.name, vector.getvalue()), _png(picture))


def _inline(name: str, text: str) -> str:
    """The ``svg`` element alone, as many of which can stand in one page: no id of one is an id of another.

    What every text and group repeats - fonts, turns by nothing, names that nothing refers to - is said once or not.
    """
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' target="_blank"| transform="rotate\(-?0 [^"]*\)"', "", text)
    if FONTS in text:
        text = text.replace(f" {FONTS};", "").replace("<svg ", f'<svg style="{FONTS}" ', 1)
    used = {found[0] or found[1] for found in re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text)}
    text = re.sub(r' id="([^"]+)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", text)
    text = re.sub(r"url\(#([^)]+)\)", lambda found: f"url(#{name}-{found[1]})", text)
    text = re.sub(r'href="#(?!line-|run-)([^"]+)"', lambda found: f'href="#{name}-{found[1]}"', text)
    return re.sub(r"\n\s*", "\n", text).strip() + "\n"


def _png(picture: Any) -> bytes:
    """A picture in a palette of 128 colours, a third of the size; no colour is off by more than a few steps."""
    from PIL import Image

    written = io.BytesIO()
    few = picture.convert("RGB").quantize(128, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(written, format="png", optimize=True)
    return written.getvalue()
