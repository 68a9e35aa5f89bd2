import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chembench.chem.tokens import (
    PROBES,
    ForeignTokenizer,
    SmilesTokenizer,
    audit,
    load_tokenizer,
    paper_substitute,
    require_lossless,
)
from chembench.errors import ConfigError, DataError

OURS = SmilesTokenizer()
HARD = (
    *(f"C%{n}CCCCC%{n}" for n in range(10, 100)),
    *("C%(100)CCCCC%(100)", "[13CH3]C", "[Fe+3]", "[Fe+++]", "[Cu++]", "[OH-]", "[O--]"),
    *(
        "C[Pt@SP1](F)(Cl)Br",
        "[Co@OH12](N)(O)(F)(Cl)(Br)I",
        "S[As@TB1](F)(Cl)(Br)N",
        "[C@TH1](F)(Cl)(Br)I",
        "C[C@AL1]=C",
    ),
    *(
        "N->[Cu]",
        "[Cu]<-N",
        "c1cc[se]c1",
        "c1cc[te]c1",
        "c1cc[as]cc1",
        "C[Se]C",
        "[2H]O[2H]",
        "[H][H]",
        "[H+]",
        "*",
        "*c1*cc1",
    ),
    *(
        "C$C",
        "C~C",
        "CC:CC",
        "F/C=C\\F",
        "F\\C=C/F",
        "[CH3:1][OH:22]",
        "[12C@@H](N)(C)F",
        "[Uuo]",
        "[Og]",
        "[Sc]Sc1cn[cH-]c1",
    ),
)


def tokens(smiles: str) -> list[str]:
    return [OURS.vocabulary[i] for i in OURS.encode(smiles)][1:-1]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    OURS.save(folder)
    return folder


@pytest.fixture(scope="module")
def authors_file(shared_data: Path) -> Path:
    return shared_data / "paper_2405.00949" / "tokenizer.json"


@pytest.mark.parametrize("smiles", [*HARD, *PROBES, ""])
def test_hard_cases_come_back(smiles):
    assert OURS.decode(OURS.encode(smiles)) == smiles


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E)))
def test_any_printable_ascii_comes_back_and_has_no_unknown(text):
    ids = OURS.encode(text)
    assert OURS.decode(ids) == text
    assert OURS.unk_id not in ids


@given(st.lists(st.text(st.sampled_from("CNOScnos[]@+-=#()%123HBrlFe"), max_size=12), max_size=8))
def test_many_at_once_are_the_same_as_one_by_one(smiles):
    stream, offsets = OURS.encode_many(smiles)
    assert [stream[a:b].tolist() for a, b in pairwise(offsets)] == list(map(OURS.encode, smiles))


@pytest.mark.parametrize(
    ("smiles", "expected"),
    [
        ("CCl", ["C", "Cl"]),
        ("BrCc1ccccc1", ["Br", "C", *"c1ccccc1"]),
        ("C[C@@H](N)O", ["C", "[C@@H]", *"(N)O"]),
        ("Sc1ccccc1", [*"Sc1ccccc1"]),
        ("[Sc]", ["[", "Sc", "]"]),
        ("Cn1cccc1", [*"Cn1cccc1"]),
        ("[Cn]CO[Co]", ["[", "Cn", "]", "C", "O", "[", "Co", "]"]),
        ("[13C@@H2]", ["[", "1", "3", "C", "@@", "H", "2", "]"]),
        ("c1[seH]c1", ["c", "1", "[", "se", "H", "]", "c", "1"]),
        ("[Pt@SP1]", ["[", "Pt", "@", "S", "P", "1", "]"]),
        ("[nH]C%12", ["[nH]", "C", "%", "1", "2"]),
        ("[Cl+3][Cl-]", ["[", "Cl", "+", "3", "]", "[Cl-]"]),
    ],
)
def test_parts_are_what_chemists_read(smiles, expected):
    assert tokens(smiles) == expected


def test_the_vocabulary_is_frozen():
    assert len(set(OURS.vocabulary)) == 256
    assert (OURS.bos_id, OURS.pad_id, OURS.eos_id, OURS.unk_id) == (0, 1, 2, 3)
    assert OURS.digest == "ee60e20f7c57"


def test_streams_are_bytes_with_int64_offsets():
    stream, offsets = OURS.encode_many(["CC", "", "CCl"])
    assert stream.dtype == np.uint8
    assert offsets.dtype == np.int64
    assert offsets.tolist() == [0, 4, 6, 10]


def test_a_stream_longer_than_one_scan_is_joined():
    smiles = [f"C{'C' * (i % 7)}O" for i in range(25_001)]
    stream, offsets = OURS.encode_many(smiles)
    assert len(offsets) == 25_002
    assert OURS.decode(stream[offsets[10_000] : offsets[10_001]]) == smiles[10_000]
    assert OURS.decode(stream[offsets[-2] : offsets[-1]]) == smiles[-1]


@pytest.mark.parametrize(("text", "character"), [("C C", "' '"), ("CO\n", r"'\\n'"), ("C\tC", r"'\\t'"), ("Cé", "'é'")])
def test_other_characters_are_named(text, character):
    with pytest.raises(DataError, match=f"got {character} at character"):
        OURS.encode(text)
    with pytest.raises(DataError, match=f"got {character} at character"):
        OURS.encode_many(["CC", text])


def test_an_id_outside_the_vocabulary_is_refused():
    with pytest.raises(DataError, match="token ids lie below 256"):
        OURS.decode([0, 300, 2])


def test_a_vocabulary_without_the_special_tokens_is_refused():
    with pytest.raises(ConfigError, match="starts with <s> <pad>"):
        SmilesTokenizer(("C", "<s>"))


def test_what_was_saved_is_loaded(saved):
    loaded = load_tokenizer(saved)
    assert isinstance(loaded, SmilesTokenizer)
    assert loaded.digest == OURS.digest
    assert isinstance(load_tokenizer(saved / "tokenizer.json"), SmilesTokenizer)
    settings = json.loads((saved / "settings.json").read_text())
    assert (settings["pad_id"], settings["bos_id"], settings["eos_id"]) == (1, 0, 2)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("settings.json", '"[nH]"', '"[nX]"', "must match their digest"),
        ("settings.json", '"regex"', '"rex"', "need the field 'regex'"),
        ("settings.json", "{", "", "settings are JSON"),
        ("tokenizer.json", '"[nH]"', '"[nX]"', "must be what the settings beside it describe"),
    ],
)
def test_a_changed_file_is_refused(tmp_path, file, old, new, message):
    OURS.save(tmp_path)
    (tmp_path / file).write_text((tmp_path / file).read_text().replace(old, new))
    with pytest.raises(DataError, match=message):
        load_tokenizer(tmp_path)


def test_a_folder_without_its_tokenizer_file_is_refused(tmp_path):
    OURS.save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(DataError, match="must be what the settings beside it describe"):
        load_tokenizer(tmp_path)


def test_a_place_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="is neither"):
        load_tokenizer(tmp_path / "nowhere")


def test_the_export_gives_the_same_ids(saved):
    tokenizers = pytest.importorskip("tokenizers")
    exported = tokenizers.Tokenizer.from_file(str(saved / "tokenizer.json"))
    for smiles in (*HARD, *PROBES):
        encoding = exported.encode(smiles)
        assert encoding.ids == OURS.encode(smiles)
        assert exported.decode(encoding.ids) == smiles


def test_the_export_gives_the_same_ids_on_real_molecules(saved, corpus_100k, task_smiles):
    tokenizers = pytest.importorskip("tokenizers")
    exported = tokenizers.Tokenizer.from_file(str(saved / "tokenizer.json"))
    smiles = [*corpus_100k[:3000], *task_smiles[::20]]
    stream, offsets = OURS.encode_many(smiles)
    ids = [i for encoding in exported.encode_batch(smiles) for i in encoding.ids]
    assert ids == stream.tolist()
    assert offsets[-1] == len(ids)


def test_the_export_loads_in_transformers(saved):
    from transformers import PreTrainedTokenizerFast

    loaded = PreTrainedTokenizerFast.from_pretrained(saved)
    batch = loaded(["C[C@@H](N)C(=O)O", "CCl"], padding=True)
    assert batch["input_ids"][0] == OURS.encode("C[C@@H](N)C(=O)O")
    assert batch["input_ids"][1][:4] == OURS.encode("CCl")
    assert set(batch["input_ids"][1][4:]) == {OURS.pad_id}
    assert set(batch) == {"input_ids", "attention_mask"}
    assert loaded.decode(batch["input_ids"][1], skip_special_tokens=True) == "CCl"


def test_100_000_molecules_come_back_apart(corpus_100k):
    assert len(corpus_100k) == 100_000
    stream, offsets = OURS.encode_many(corpus_100k)
    back = {OURS.decode(stream[a:b].tolist()) for a, b in pairwise(offsets)}
    keys = {stream[a:b].tobytes() for a, b in pairwise(offsets)}
    assert back == set(corpus_100k)
    assert len(keys) == len(set(corpus_100k))
    assert not (stream == OURS.unk_id).any()


@pytest.mark.slow
def test_every_molecule_of_the_corpus_and_the_tasks_comes_back(corpus_stream, task_smiles):
    total, part = 0, []
    for smiles in corpus_stream:
        part.append(smiles)
        if len(part) == 100_000:
            total += audited(part)
            part = []
    assert total + audited(part) == 3_086_625
    assert audited(task_smiles) == len(task_smiles) > 70_000


def audited(smiles: list[str]) -> int:
    found = audit(OURS, smiles)
    assert found.is_lossless, found
    return found.molecules


def test_our_tokenizer_is_lossless_on_the_probes():
    assert require_lossless(OURS).molecules == len(set(PROBES))


def test_the_authors_tokenizer_is_refused_with_two_molecules_named(authors_file):
    authors = load_tokenizer(authors_file)
    assert isinstance(authors, ForeignTokenizer)
    assert len(authors.vocabulary) == 591
    assert (authors.pad_id, authors.bos_id, authors.eos_id) == (0, 12, 13)
    assert authors.encode("CCl") == authors.encode("CC") == [12, 16, 16, 13]
    with pytest.raises(ConfigError, match=r"'CC' and 'CCl' the same ids .* allow_lossy"):
        require_lossless(authors)


def test_the_authors_streams_are_16_bit_and_equal_one_by_one(authors_file):
    authors = load_tokenizer(authors_file)
    stream, offsets = authors.encode_many(["CC", "c1ccccc1"])
    assert stream.dtype == np.uint16
    assert stream.tolist() == [*authors.encode("CC"), *authors.encode("c1ccccc1")]
    assert offsets.tolist() == [0, 4, 14]


def foreign(folder: Path, vocabulary: list[str], **model: object) -> Path:
    content = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": False},
        "model": {
            "type": "WordLevel",
            "vocab": {t: i for i, t in enumerate(vocabulary)},
            "unk_token": "<unk>",
            **model,
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder


def test_a_lossless_foreign_tokenizer_is_accepted(tmp_path):
    tokenizer = load_tokenizer(foreign(tmp_path, ["<unk>", "<pad>", "<s>", "</s>", *map(chr, range(0x21, 0x7F))]))
    assert require_lossless(tokenizer, ["CCN"]).is_lossless
    assert tokenizer.decode(tokenizer.encode("CCN")) == "CCN"


def test_a_foreign_tokenizer_survives_being_saved(tmp_path):
    place = tmp_path / "first"
    place.mkdir()
    tokenizer = load_tokenizer(foreign(place, ["<unk>", "<pad>", "<s>", "</s>", "C"]))
    tokenizer.save(tmp_path / "second")
    assert load_tokenizer(tmp_path / "second").digest == tokenizer.digest


def test_unknown_tokens_are_found(tmp_path):
    tokenizer = load_tokenizer(foreign(tmp_path, ["<unk>", "<pad>", "<s>", "</s>", *"CON"]))
    found = audit(tokenizer, ["CCO", "CCF", "CCS", "CCF"])
    assert (found.molecules, found.unknown, found.colliding) == (3, 2, 2)
    assert found.collisions == (("CCF", "CCS"),)
    assert found.unknowns == ("CCF", "CCS")


def test_a_foreign_tokenizer_without_padding_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="needs a padding token"):
        load_tokenizer(foreign(tmp_path, ["<unk>", "<s>", "</s>", "C"]))


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"is a Hugging Face tokenizer\.json"):
        load_tokenizer(tmp_path)


def test_the_substitute_has_the_papers_591_entries_and_our_ids():
    substitute = paper_substitute()
    assert len(set(substitute.vocabulary)) == 591
    assert substitute.encode("C[C@@H](N)Cl") == OURS.encode("C[C@@H](N)Cl")
    assert substitute.encode_many(["CC"])[0].dtype == np.uint16
    assert substitute.digest != OURS.digest


def test_tokens_import_nothing_heavy():
    code = "import sys, chembench.chem.tokens; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"rdkit", "torch", "transformers", "tokenizers", "pandas"} & set(loaded)


def test_a_vocabulary_beyond_16_bits_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="at most 65536 entries, got 65541"):
        load_tokenizer(foreign(tmp_path, ["<unk>", "<pad>", "<s>", "</s>", *(f"C{i}" for i in range(65_537))]))
