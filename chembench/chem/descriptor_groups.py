"""The table of descriptors: which are computed together, by which function over a block.

Axis letters: N molecules, K descriptors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rdkit.Chem import Descriptors, MolSurf
from rdkit.Chem.EState import EState_VSA
from rdkit.Chem.rdMolDescriptors import CalcNumHBD, CalcNumRotatableBonds, CalcTPSA

from chembench.chem import descriptor_counts as counts
from chembench.chem import descriptor_surfaces as surfaces
from chembench.chem.descriptor_complexity import bertz_complexity
from chembench.chem.descriptor_distances import balaban_j
from chembench.chem.descriptor_drug import drug_likeness
from chembench.chem.descriptor_graph import Block
from chembench.chem.descriptor_memory import Floats
from chembench.chem.descriptor_morgan import RADII, environment_density
from chembench.chem.descriptor_paths import chi, kappa
from chembench.chem.descriptor_spatial import spacial_score
from chembench.chem.descriptor_spectra import bcut, polynomial_information


@dataclass(frozen=True)
class Group:
    """Descriptors that one function computes; it gives a column for each name."""

    names: tuple[str, ...]
    compute: Callable[[Block], Floats]


def _numbered(stem: str, edges: Sequence[float]) -> tuple[str, ...]:
    return tuple(f"{stem}{number}" for number in range(1, len(edges) + 2))


GROUPS = (
    Group(("MolWt", "HeavyAtomMolWt", "ExactMolWt"), counts.weights),
    Group(("NumValenceElectrons", "NumRadicalElectrons"), counts.electrons),
    Group(("HeavyAtomCount", "NumHeteroatoms", "NOCount", "NHOHCount", "FractionCSP3"), counts.atoms),
    Group(counts.RINGS, counts.rings),
    Group(counts.FRAGMENTS, counts.fragments),
    Group(("TPSA",), lambda block: block.by_rdkit(CalcTPSA)),
    Group(("NumHDonors",), lambda block: block.by_rdkit(CalcNumHBD)),
    Group(("NumRotatableBonds",), lambda block: block.by_rdkit(CalcNumRotatableBonds)),
    Group(("qed",), drug_likeness),
    Group(("SPS",), spacial_score),
    Group(tuple(f"FpDensityMorgan{radius}" for radius in RADII), environment_density),
    Group(("MaxEStateIndex", "MinEStateIndex", "MaxAbsEStateIndex", "MinAbsEStateIndex"), surfaces.state_extremes),
    Group(
        ("MaxPartialCharge", "MinPartialCharge", "MaxAbsPartialCharge", "MinAbsPartialCharge"), surfaces.charge_extremes
    ),
    Group(("MolLogP", "MolMR"), surfaces.crippen_sums),
    Group(_numbered("SlogP_VSA", MolSurf.logpBins), surfaces.surface_by_logp),
    Group(_numbered("SMR_VSA", MolSurf.mrBins), surfaces.surface_by_refractivity),
    Group(_numbered("PEOE_VSA", MolSurf.chgBins), surfaces.surface_by_charge),
    Group(_numbered("EState_VSA", EState_VSA.estateBins), surfaces.surface_by_state),
    Group(_numbered("VSA_EState", EState_VSA.vsaBins), surfaces.state_by_surface),
    Group(("BalabanJ",), balaban_j),
    Group(("BertzCT",), bertz_complexity),
    Group(("AvgIpc", "Ipc"), polynomial_information),
    Group(tuple(name for name, _ in Descriptors.descList if name.startswith("BCUT2D_")), bcut),
    Group(("Chi0", "Chi1", *[f"Chi{order}{kind}" for kind in "nv" for order in range(5)]), chi),
    Group(("Kappa1", "Kappa2", "Kappa3", "Phi"), kappa),
)
