"""Molecules side by side, drawn by RDKit."""

from __future__ import annotations

from typing import Any

from chembench.report.page.plots import MoleculesPlot

PANEL = (240, 190)
PER_ROW = 3


def svg(plot: MoleculesPlot) -> str:
    """As SVG; legends are outlines there, so that nothing of the data is markup."""
    from rdkit.Chem.Draw import rdMolDraw2D

    return str(_drawn(plot, rdMolDraw2D.MolDraw2DSVG))


def png(plot: MoleculesPlot) -> bytes:
    """As PNG."""
    from rdkit.Chem.Draw import rdMolDraw2D

    return bytes(_drawn(plot, rdMolDraw2D.MolDraw2DCairo))


def _drawn(plot: MoleculesPlot, canvas: Any) -> Any:
    from rdkit import Chem, RDLogger

    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]
    try:
        known = [Chem.MolFromSmiles(molecule.smiles) for molecule in plot.molecules]
    finally:
        RDLogger.EnableLog("rdApp.*")  # type: ignore[attr-defined]
    unreadable = Chem.MolFromSmiles("")
    columns = min(PER_ROW, len(plot.molecules))
    rows = -(-len(plot.molecules) // columns)
    drawer = canvas(columns * PANEL[0], rows * PANEL[1], *PANEL)
    options = drawer.drawOptions()
    options.legendFontSize = 14
    options.useBWAtomPalette()
    options.bondLineWidth = 1
    options.setBackgroundColour((1, 1, 1))
    legends = [molecule.legend for molecule in plot.molecules]
    drawer.DrawMolecules([molecule or unreadable for molecule in known], legends=legends)
    drawer.FinishDrawing()
    return drawer.GetDrawingText()
