"""What turns SMILES into token ids and back: the interface, and our own tokenizer.

Axis letters: N molecules. A stream is the ids of all molecules one after the other; molecule i stands at
``stream[offsets[i] : offsets[i + 1]]``, start and end token included.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from chembench.chem.scanning import scan
from chembench.chem.vocabulary import BOS_ID, EOS_ID, MASK_ID, PAD_ID, REGEX, SPECIALS, UNK_ID, VOCABULARY
from chembench.config import digest_of
from chembench.errors import ConfigError, DataError
from chembench.paths import read_json, write_json

Stream = NDArray[np.unsignedinteger[Any]]
"""uint8 up to 256 tokens, uint16 above."""
Offsets = NDArray[np.int64]

OWN_KIND = "chembench-smiles"
SETTINGS_FILE = "settings.json"
TOKENIZER_FILE = "tokenizer.json"
_LINES_PER_SCAN = 10_000
_NOT_SMILES = re.compile(r"[^!-~]")


class Tokenizer(Protocol):
    """Ids for SMILES. Every sequence starts with ``bos_id`` and ends with ``eos_id``."""

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The token of each id."""

    @property
    def pad_id(self) -> int: ...

    @property
    def bos_id(self) -> int: ...

    @property
    def eos_id(self) -> int: ...

    @property
    def unk_id(self) -> int | None: ...

    @property
    def digest(self) -> str:
        """12 hex digits that name the content: equal digests give equal ids."""

    def encode(self, smiles: str) -> list[int]: ...

    def encode_many(self, smiles: Sequence[str]) -> tuple[Stream, Offsets]:
        """The ids of N molecules as one stream, and its N + 1 offsets."""

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids``; start, end and padding leave nothing behind."""

    def save(self, folder: Path) -> None: ...


def stream_type(size: int) -> type[np.unsignedinteger[Any]]:
    """The narrowest integers that hold the ids of ``size`` tokens.

    Raises:
        ConfigError: if 16 bits are not enough.
    """
    if size > 65_536:
        raise ConfigError(f"a vocabulary has at most 65536 entries, got {size}; choose a smaller tokenizer")
    return np.uint8 if size <= 256 else np.uint16


def refuse_characters(smiles: Iterable[str]) -> None:
    """Pass only printable ASCII without blanks, which is what SMILES are written in.

    Raises:
        DataError: naming the first other character and where it stands.
    """
    for text in smiles:
        if found := _NOT_SMILES.search(text):
            raise DataError(
                f"a SMILES has printable ASCII characters and no blanks, got {found.group()!r} at character "
                f"{found.start()} of {text!r}; clean the file or choose another SMILES column"
            )


class SmilesTokenizer:
    """A closed vocabulary of SMILES parts, cut out by one regular expression.

    ``decode(encode(s)) == s`` for every string of printable ASCII, and so two SMILES never share their ids.

    Args:
        vocabulary: tokens by id; the first five are `SPECIALS`, and all printable ASCII characters are among them.
        regex: cuts a SMILES into entries of the vocabulary.
    """

    pad_id, bos_id, eos_id, mask_id = PAD_ID, BOS_ID, EOS_ID, MASK_ID
    unk_id: int | None = UNK_ID

    def __init__(self, vocabulary: Sequence[str] = VOCABULARY, regex: str = REGEX) -> None:
        self.vocabulary = tuple(vocabulary)
        self.regex = regex
        self._type = stream_type(len(self.vocabulary))
        self._id_of = {token: i for i, token in enumerate(self.vocabulary)}
        if len(self._id_of) != len(self.vocabulary) or self.vocabulary[: len(SPECIALS)] != SPECIALS:
            raise ConfigError(f"a SMILES vocabulary starts with {' '.join(SPECIALS)} and has no entry twice")
        self._cut = re.compile(regex).findall
        self._is_built_in = regex == REGEX and self.vocabulary[: len(VOCABULARY)] == VOCABULARY

    @property
    def digest(self) -> str:
        """12 hex digits of vocabulary and regular expression."""
        return digest_of({"vocabulary": self.vocabulary, "regex": self.regex})

    def encode(self, smiles: str) -> list[int]:
        """The ids of one SMILES between start and end token.

        Raises:
            DataError: if it holds a blank or a character outside ASCII.
        """
        refuse_characters((smiles,))
        return [BOS_ID, *map(self._id_of.__getitem__, self._cut(smiles)), EOS_ID]

    def encode_many(self, smiles: Sequence[str]) -> tuple[Stream, Offsets]:
        """The ids of N molecules as one stream, and its N + 1 offsets.

        The built-in vocabulary is read ten times as fast as by its regular expression, which any other follows.

        Raises:
            DataError: if one holds a blank or a character outside ASCII.
        """
        starts = range(0, len(smiles), _LINES_PER_SCAN)
        parts = [self._scan(smiles[start : start + _LINES_PER_SCAN]) for start in starts]
        stream: Stream = np.concatenate([np.zeros(0, self._type), *parts])
        offsets = np.zeros(len(smiles) + 1, np.int64)
        offsets[1:] = np.flatnonzero(stream == EOS_ID) + 1
        return stream, offsets

    def _scan(self, smiles: Sequence[str]) -> Stream:
        if not self._is_built_in:
            return np.array([i for text in smiles for i in self.encode(text)], self._type)
        ids = scan(smiles)
        if ids is None:
            refuse_characters(smiles)
            raise AssertionError("what cannot be scanned has a character that is refused")
        return ids.astype(self._type, copy=False)

    def decode(self, ids: Iterable[int]) -> str:
        """The SMILES of ``ids``; start, end, padding and mask leave nothing behind.

        Raises:
            DataError: if an id is not in the vocabulary.
        """
        try:
            return "".join([self.vocabulary[i] for i in ids if i >= len(SPECIALS)])
        except IndexError as error:
            raise DataError(
                f"token ids lie below {len(self.vocabulary)}, got a larger one; decode with the tokenizer that encoded"
            ) from error

    def save(self, folder: Path) -> None:
        """Write the settings, and last of all the Hugging Face ``tokenizer.json``."""
        write_json(folder / SETTINGS_FILE, self._settings())
        write_json(folder / "tokenizer_config.json", self._transformers_settings())
        write_json(folder / TOKENIZER_FILE, self._export())

    @classmethod
    def load(cls, folder: Path) -> SmilesTokenizer:
        """The tokenizer saved in ``folder``, checked against its digest.

        Raises:
            DataError: if the files are not whole or were changed.
        """
        settings = read_json(folder / SETTINGS_FILE)
        try:
            tokenizer = cls(settings["vocabulary"], settings["regex"])
            digest = settings["digest"]
        except KeyError as error:
            raise DataError(
                f"tokenizer settings need the field {error}, those in {folder} lack it; save anew"
            ) from error
        if tokenizer.digest != digest:
            raise DataError(f"tokenizer settings must match their digest, those in {folder} do not; save it anew")
        exported = folder / TOKENIZER_FILE
        if not exported.is_file() or read_json(exported) != tokenizer._export():
            raise DataError(f"{exported} must be what the settings beside it describe, it is not; save it anew")
        return tokenizer

    def _settings(self) -> dict[str, Any]:
        return {
            "kind": OWN_KIND,
            "digest": self.digest,
            "bos_id": BOS_ID,
            "pad_id": PAD_ID,
            "eos_id": EOS_ID,
            "unk_id": UNK_ID,
            "mask_id": MASK_ID,
            "vocabulary": list(self.vocabulary),
            "regex": self.regex,
        }

    def _transformers_settings(self) -> dict[str, Any]:
        names = ("bos_token", "pad_token", "eos_token", "unk_token", "mask_token")
        return {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_input_names": ["input_ids", "attention_mask"],
            "clean_up_tokenization_spaces": False,
            **dict(zip(names, SPECIALS, strict=True)),
        }

    def _export(self) -> dict[str, Any]:
        """The content of a Hugging Face ``tokenizer.json`` that gives the same ids."""
        plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        ends = {name: {"id": name, "ids": [i], "tokens": [name]} for name, i in (("<s>", BOS_ID), ("</s>", EOS_ID))}
        start, end = ({"SpecialToken": {"id": name, "type_id": 0}} for name in ends)
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": i, "content": token, **plain} for i, token in enumerate(SPECIALS)],
            "normalizer": None,
            "pre_tokenizer": {
                "type": "Split",
                "pattern": {"Regex": self.regex},
                "behavior": "Isolated",
                "invert": False,
            },
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [start, {"Sequence": {"id": "A", "type_id": 0}}, end],
                "pair": [start, *({"Sequence": {"id": part, "type_id": 0}} for part in "AB"), end],
                "special_tokens": ends,
            },
            "decoder": {"type": "Fuse"},
            "model": {"type": "WordLevel", "vocab": self._id_of, "unk_token": SPECIALS[UNK_ID]},
        }
