"""The scan by numpy against the regular expression of the vocabulary, which says what is right."""

from itertools import islice, pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chembench.chem.encoders import SmilesTokenizer
from chembench.chem.scanning import scan
from chembench.chem.vocabulary import SPECIALS, VOCABULARY
from chembench.errors import DataError

OURS = SmilesTokenizer()


def assert_as_by_expression(smiles):
    expected = [i for text in smiles for i in OURS.encode(text)]
    assert scan(smiles).tolist() == expected


def test_each_two_tokens_are_cut_as_the_expression_cuts_them():
    tokens = VOCABULARY[len(SPECIALS) :]
    assert_as_by_expression([one + other for one, other in product(tokens, tokens)])


def test_each_two_tokens_inside_a_bracket_are_cut_as_the_expression_cuts_them():
    inner = [token.strip("[]") for token in VOCABULARY[len(SPECIALS) :]]
    assert_as_by_expression([f"C[{one}{other}]l" for one, other in product(inner, inner)])


@pytest.mark.parametrize("frame", ["{}", "[{}]", "[{}", "{}]", "[C{}[N]"])
def test_letters_that_could_belong_to_two_pairs_go_to_the_first(frame):
    runs = ("".join(letters) for letters in product("ACaseti@", repeat=4))
    assert_as_by_expression([frame.format(run) for run in runs])


@given(st.lists(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E)), max_size=8))
def test_any_printable_ascii_is_cut_as_the_expression_cuts_it(smiles):
    assert_as_by_expression(smiles)


@given(st.lists(st.text(st.sampled_from("CNOnos[[]]@+-H123lBrSeaiFt"), max_size=20), max_size=8))
def test_brackets_that_do_not_close_are_cut_as_the_expression_cuts_them(smiles):
    assert_as_by_expression(smiles)


def test_no_molecule_and_an_empty_one_are_no_special_case():
    assert scan([]).tolist() == []
    assert scan(["", "", "C"]).tolist() == [0, 2, 0, 2, *OURS.encode("C")]


@pytest.mark.parametrize("text", ["C C", "C\tC", "C\nC", "C\n\tC", "Cé", "C\x00", "C\x7f", "C\ud800"])
def test_other_characters_are_not_scanned_and_refused(text):
    assert scan(["CC", text]) is None
    with pytest.raises(DataError, match="a SMILES has printable ASCII characters and no blanks"):
        OURS.encode_many(["CC", text])


@pytest.mark.parametrize(
    "other", [SmilesTokenizer(VOCABULARY, "[!-~]"), SmilesTokenizer([*VOCABULARY[:-1], "<none>"], "Cl|[!-~]")]
)
def test_another_expression_or_vocabulary_is_followed(other):
    stream, offsets = other.encode_many(["[I-]Cl", "CCl"])
    assert [stream[a:b].tolist() for a, b in pairwise(offsets)] == [other.encode("[I-]Cl"), other.encode("CCl")]


def test_real_molecules_are_cut_as_the_expression_cuts_them(corpus_100k, task_smiles):
    assert_as_by_expression([*corpus_100k[:20_000], *task_smiles[::5]])


@pytest.mark.slow
def test_every_molecule_at_hand_gets_the_ids_of_the_rust_tokenizer(corpus_stream, task_smiles, tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    OURS.save(tmp_path)
    exported = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))

    def assert_equal(smiles):
        stream, offsets = OURS.encode_many(smiles)
        encodings = exported.encode_batch_fast(smiles)
        ids = np.fromiter((i for encoding in encodings for i in encoding.ids), np.int64)
        assert np.array_equal(ids, stream)
        assert np.diff(offsets).tolist() == [len(encoding) for encoding in encodings]

    assert_equal(task_smiles)
    total = 0
    while part := list(islice(corpus_stream, 50_000)):
        assert_equal(part)
        total += len(part)
    assert total == 3_086_625
