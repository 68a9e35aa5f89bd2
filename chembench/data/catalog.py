"""What a task is, and the tasks and corpora that are known by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator, model_validator

from chembench.config import Spec
from chembench.errors import ConfigError
from chembench.paths import safe_name
from chembench.registry import SPLITTERS
from chembench.specs import TaskKind

FREE_WILSON = "rdkit:freewilson"


class TaskDef(Spec):
    """One property to predict: where its molecules and labels come from, and how they are divided."""

    name: str
    kind: TaskKind
    targets: Annotated[tuple[str, ...], Field(min_length=1)]
    """Columns of the labels."""
    source: str = "file"
    """``file``, ``deepchem:<loader>``, or ``rdkit:freewilson``."""
    file: str | None = None
    """CSV or Parquet with a header, as in a corpus; of a DeepChem task the raw file looked for in the data folder."""
    smiles: str = "smiles"
    """Column of the molecules."""
    cut: float | None = None
    """Turns measurements into classes: a value of at least this is class 1."""
    unit: str = ""
    """Of the labels, for boards."""
    split: str = "deepchem_scaffold"
    """How training, validation and test are divided at split index 0."""
    split_seed: NonNegativeInt = 0
    """Of the splits that follow a seed, and of outer folds."""
    split_similarity: Annotated[float, Field(gt=0.0, le=1.0)] = 0.4
    """Of clusters: smallest Tanimoto similarity of a molecule's ECFP4 to the centre of its cluster."""
    max_rows: PositiveInt | None = None
    """Keep a random sample of this size, the same on every machine; for trials of the program, not for results."""
    max_unreadable: Annotated[float, Field(ge=0.0, le=1.0)] = 0.05
    """Largest share of rows that RDKit may fail to read."""
    mask_missing: bool = True
    """Leave unmeasured labels out; paper mode reads them as 0, also in the test."""
    note: str = ""
    """Shown with the task's results."""

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        try:
            return safe_name("task", name)
        except ConfigError as error:
            raise ValueError(str(error)) from error

    @field_validator("split")
    @classmethod
    def _check_split(cls, split: str) -> str:
        try:
            return SPLITTERS.require(split)
        except ConfigError as error:
            raise ValueError(str(error)) from error

    @field_validator("targets")
    @classmethod
    def _check_targets(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(targets)) < len(targets):
            raise ValueError(f"targets must be different columns, got {list(targets)}")
        return targets

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        kind, _, loader = self.source.partition(":")
        if self.source not in ("file", FREE_WILSON) and not (kind == "deepchem" and loader.isidentifier()):
            raise ValueError(
                f"source of task {self.name} must be 'file', 'deepchem:<loader>' or '{FREE_WILSON}', "
                f"got '{self.source}'; for a table of your own leave it out and give file"
            )
        if self.source != FREE_WILSON and not self.file:
            raise ValueError(f"task {self.name} must say its file, got none; give file = 'my.csv'")
        if self.cut is not None and self.kind != "classification":
            raise ValueError(f"cut makes classes, task {self.name} is a {self.kind}; drop cut or change kind")
        return self


_TOX21 = (
    *("NR-AR", "NR-AR-LBD", "NR-AhR", "NR-Aromatase", "NR-ER", "NR-ER-LBD", "NR-PPAR-gamma"),
    *("SR-ARE", "SR-ATAD5", "SR-HSE", "SR-MMP", "SR-p53"),
)
_SIDER = (
    "Hepatobiliary disorders",
    "Metabolism and nutrition disorders",
    "Product issues",
    "Eye disorders",
    "Investigations",
    "Musculoskeletal and connective tissue disorders",
    "Gastrointestinal disorders",
    "Social circumstances",
    "Immune system disorders",
    "Reproductive system and breast disorders",
    "Neoplasms benign, malignant and unspecified (incl cysts and polyps)",
    "General disorders and administration site conditions",
    "Endocrine disorders",
    "Surgical and medical procedures",
    "Vascular disorders",
    "Blood and lymphatic system disorders",
    "Skin and subcutaneous tissue disorders",
    "Congenital, familial and genetic disorders",
    "Infections and infestations",
    "Respiratory, thoracic and mediastinal disorders",
    "Psychiatric disorders",
    "Renal and urinary disorders",
    "Pregnancy, puerperium and perinatal conditions",
    "Ear and labyrinth disorders",
    "Cardiac disorders",
    "Nervous system disorders",
    "Injury, poisoning and procedural complications",
)
_CONGENERIC = "one congeneric series, demonstration"

_DEFINITIONS = (
    TaskDef(
        name="bace_regression",
        kind="regression",
        targets=("pIC50",),
        source="deepchem:load_bace_regression",
        file="bace.csv",
        smiles="mol",
        unit="pIC50",
    ),
    TaskDef(
        name="delaney",
        kind="regression",
        targets=("measured log solubility in mols per litre",),
        source="deepchem:load_delaney",
        file="delaney-processed.csv",
        unit="log mol/L",
    ),
    TaskDef(
        name="lipo",
        kind="regression",
        targets=("exp",),
        source="deepchem:load_lipo",
        file="Lipophilicity.csv",
        unit="log D",
    ),
    TaskDef(
        name="freesolv",
        kind="regression",
        targets=("expt",),
        source="deepchem:load_sampl",
        file="SAMPL.csv",
        unit="kcal/mol",
    ),
    TaskDef(
        name="bace_classification",
        kind="classification",
        targets=("Class",),
        source="deepchem:load_bace_classification",
        file="bace.csv",
        smiles="mol",
    ),
    TaskDef(
        name="hiv",
        kind="classification",
        targets=("HIV_active",),
        source="deepchem:load_hiv",
        file="HIV.csv",
    ),
    TaskDef(
        name="tox21",
        kind="classification",
        targets=_TOX21,
        source="deepchem:load_tox21",
        file="tox21.csv.gz",
    ),
    TaskDef(
        name="tox21_sr_p53",
        kind="classification",
        targets=("SR-p53",),
        source="deepchem:load_tox21",
        file="tox21.csv.gz",
        split="random",
        note="one target of Tox21 on a random split, as in arXiv 2405.00949",
    ),
    TaskDef(
        name="bbbp",
        kind="classification",
        targets=("p_np",),
        source="deepchem:load_bbbp",
        file="BBBP.csv",
    ),
    TaskDef(
        name="clintox",
        kind="classification",
        targets=("FDA_APPROVED", "CT_TOX"),
        source="deepchem:load_clintox",
        file="clintox.csv.gz",
    ),
    TaskDef(
        name="sider",
        kind="classification",
        targets=_SIDER,
        source="deepchem:load_sider",
        file="sider.csv.gz",
    ),
    TaskDef(
        name="freewilson_pic50",
        kind="regression",
        targets=("Act",),
        source=FREE_WILSON,
        unit="pIC50",
        split="scaffold",
        note=_CONGENERIC,
    ),
    TaskDef(
        name="freewilson_active",
        kind="classification",
        targets=("Act",),
        source=FREE_WILSON,
        cut=6.5,
        split="scaffold",
        note=_CONGENERIC,
    ),
)

TASKS: dict[str, TaskDef] = {definition.name: definition for definition in _DEFINITIONS}
"""The tasks known by name: MoleculeNet through DeepChem, and the activities that come with RDKit."""


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """Where a file of a corpus is published."""

    url: str
    md5_url: str = ""
    """Where its publisher keeps the MD5 of the present version; none where no checksum is published."""


@dataclass(frozen=True, slots=True)
class NamedCorpus:
    """Molecules that a space can name instead of files."""

    files: tuple[CorpusFile, ...]
    note: str
    """What it is, and how large."""


_PUBCHEM = "https://ftp.ncbi.nlm.nih.gov/pubchem/Compound/Extras/CID-SMILES.gz"


def _zinc15(size: str) -> tuple[CorpusFile, ...]:
    return (CorpusFile(f"https://deepchemdata.s3-us-west-1.amazonaws.com/datasets/zinc15_{size}_2D.tar.gz"),)


CORPORA: dict[str, NamedCorpus] = {
    "pubchem": NamedCorpus(
        (CorpusFile(_PUBCHEM, f"{_PUBCHEM}.md5"),), "all compounds of PubChem, over 100 million, 1.4 GB; grows weekly"
    ),
    "zinc": NamedCorpus(_zinc15("10M"), "10 million lead-like molecules of ZINC15, as DeepChem's load_zinc15 has them"),
    "zinc-250k": NamedCorpus(_zinc15("250K"), "250 thousand of them"),
    "zinc-1m": NamedCorpus(_zinc15("1M"), "1 million of them"),
    "zinc-270m": NamedCorpus(_zinc15("270M"), "270 million molecules of ZINC15, 23 GB"),
}
"""The corpora known by name, downloaded when they are first used."""
