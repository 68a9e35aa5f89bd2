"""Somebody else's Hugging Face ``tokenizer.json`` behind our interface."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from chembench.chem.encoders import TOKENIZER_FILE, Offsets, Stream, refuse_characters, stream_type
from chembench.config import digest_of
from chembench.errors import ConfigError, DataError
from chembench.paths import written_whole

_NAMES = {
    "padding": ("<pad>", "[PAD]", "<|pad|>"),
    "start": ("<s>", "[CLS]", "<cls>", "<bos>", "[BOS]", "<|begin_of_text|>"),
    "end": ("</s>", "[SEP]", "<eos>", "[EOS]", "<|end_of_text|>", "<|endoftext|>"),
}
_UNKNOWN = ("<unk>", "[UNK]")


class ForeignTokenizer:
    """A tokenizer file as it is, with one start and one end token around every SMILES.

    Args:
        file: a ``tokenizer.json``; truncation and padding set in it are switched off.

    Raises:
        ConfigError: if it has no padding, start or end token.
        DataError: if it cannot be read.
    """

    def __init__(self, file: Path) -> None:
        from tokenizers import Tokenizer as Backend

        self._file = file
        try:
            self._text = file.read_text(encoding="utf-8")
            self._backend = Backend.from_str(self._text)
        except Exception as error:  # tokenizers raises a bare Exception for a malformed file
            raise DataError(f"a tokenizer is a Hugging Face tokenizer.json, reading {file} gave: {error}") from error
        self._backend.no_truncation()
        self._backend.no_padding()
        token_of = {i: token for token, i in self._backend.get_vocab(with_added_tokens=True).items()}
        self.vocabulary = tuple(token_of.get(i, f"<gap_{i}>") for i in range(max(token_of, default=-1) + 1))
        self._type = stream_type(len(self.vocabulary))
        self.pad_id, self.bos_id, self.eos_id = (self._special(role) for role in _NAMES)
        unknown = (self._backend.token_to_id(name) for name in _UNKNOWN)
        self.unk_id: int | None = next((i for i in unknown if i is not None), None)

    def _special(self, role: str) -> int:
        for name in _NAMES[role]:
            if (found := self._backend.token_to_id(name)) is not None:
                return int(found)
        raise ConfigError(
            f"a tokenizer needs a {role} token named {' or '.join(_NAMES[role])}, {self._file} has none; "
            "add one or leave out the setting to use the built-in tokenizer"
        )

    @property
    def digest(self) -> str:
        """12 hex digits of the file's text."""
        return digest_of({"file": self._text, "specials": [self.bos_id, self.pad_id, self.eos_id]})

    def encode(self, smiles: str) -> list[int]:
        """The ids of one SMILES between start and end token.

        Raises:
            DataError: if it holds a blank or a character outside ASCII.
        """
        refuse_characters((smiles,))
        return [self.bos_id, *self._backend.encode(smiles, add_special_tokens=False).ids, self.eos_id]

    def encode_many(self, smiles: Sequence[str]) -> tuple[Stream, Offsets]:
        """The ids of N molecules as one stream, and its N + 1 offsets.

        Raises:
            DataError: if one holds a blank or a character outside ASCII.
        """
        refuse_characters(smiles)
        encodings = self._backend.encode_batch_fast(list(smiles), add_special_tokens=False)
        rows = [[self.bos_id, *encoding.ids, self.eos_id] for encoding in encodings]
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        stream: Stream = np.fromiter((i for row in rows for i in row), self._type, int(offsets[-1]))
        return stream, offsets

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ``ids`` as the file's own decoder gives it, special tokens and blanks left out."""
        ends = (self.pad_id, self.bos_id, self.eos_id)  # a file need not declare them special
        inner = [int(i) for i in ids if i not in ends]
        return str(self._backend.decode(inner, skip_special_tokens=True)).replace(" ", "")

    def save(self, folder: Path) -> None:
        """Write the file as it was read, as ``tokenizer.json``."""
        with written_whole(folder / TOKENIZER_FILE) as part:
            part.write_text(self._text, encoding="utf-8")
