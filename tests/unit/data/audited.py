"""A small task with everything that an audit looks for, and a corpus that holds some of its molecules."""

from chembench.chem.tokens import SmilesTokenizer
from chembench.data.catalog import TaskDef
from chembench.data.corpora import prepare_corpus
from chembench.data.specs import CorpusSpec
from chembench.data.splits import Division, prepare_split
from chembench.data.tasks import prepare_task
from chembench.sweep.auditing import Inputs

ANION = ("O=c1[n-]c(=O)n(Cl)c(=O)n1Cl", "O=c1nc([O-])n(Cl)c(=O)n1Cl")
"""One InChIKey, two canonical SMILES: a split by SMILES can part them."""
ALKANES = tuple("C" * n for n in range(1, 31))
EVIL = '<script>alert("x")</script>'


def rows_of(first=1.0, second=9.0):
    """30 alkanes with labels 0 to 29, an anion drawn twice, ethanol with two labels, and a row that is no molecule."""
    rows = [(smiles, float(n)) for n, smiles in enumerate(ALKANES)]
    rows += [(ANION[0], 3.0), (ANION[1], 3.5), ("CCO", first), ("OCC", second), (EVIL, 2.0)]
    return rows


def inputs_of(place, cache, *, seed=0, rows=None, corpus=None, scales=(), tokenizer=None, **fields):
    """The inputs of an audit of one task on a random split."""
    text = "".join(f'"{smiles.replace(chr(34), chr(34) * 2)}",{label:g}\n' for smiles, label in rows or rows_of())
    (place / "mine.csv").write_text(f"smiles,y\n{text}")
    given = {"name": "mine", "kind": "regression", "targets": ("y",), "file": "mine.csv", "split": "random"}
    definition = TaskDef(**{**given, "split_seed": seed, "unit": "mg", **fields})
    task = prepare_task(definition, place, cache, place)
    split = prepare_split(task, Division("random", seed), cache)
    made = None
    if corpus:
        (place / "corpus.smi").write_text("".join(f"{smiles}\n" for smiles in corpus))
        made = prepare_corpus(CorpusSpec(files=("corpus.smi",), validation=2), cache, place)
    tokenizer = tokenizer or SmilesTokenizer()
    return Inputs("mine", "task", ((task, split, definition),), tokenizer, made, scales)
