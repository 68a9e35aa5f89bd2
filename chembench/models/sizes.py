"""How large the models are: names of sizes, their dimensions, and what they cost. Imports no torch.

A size is a name of the paper (``13M``, ``30M``) or the pattern ``w{width}x{layers}`` for CPUs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from chembench.errors import ConfigError, UnknownNameError
from chembench.registry import ARCHITECTURES
from chembench.specs import ModelSpec, Pooling

PATTERN = "w{width}x{layers} (for example w64x2)"
HEAD_WIDTH = 32
"""Width of an attention head in the sizes made by the pattern."""
BART_POSITION_OFFSET = 2
"""Position rows that Hugging Face's BART keeps before the first token."""


@dataclass(frozen=True, slots=True)
class Dimensions:
    """The numbers that a size fixes; ``decoder_layers`` belongs to BART alone."""

    hidden: int
    ffn: int
    layers: int
    heads: int
    decoder_layers: int = 0


SIZES: dict[str, dict[str, Dimensions]] = {
    "13M": {
        "roberta": Dimensions(hidden=620, ffn=710, layers=5, heads=5),
        "bart": Dimensions(hidden=624, ffn=624, layers=2, heads=12, decoder_layers=2),
        "llama": Dimensions(hidden=600, ffn=620, layers=5, heads=5),
    },
    "30M": {
        "roberta": Dimensions(hidden=768, ffn=768, layers=8, heads=8),
        "bart": Dimensions(hidden=768, ffn=768, layers=3, heads=12, decoder_layers=3),
        "llama": Dimensions(hidden=768, ffn=768, layers=7, heads=8),
    },
}
"""The models of arXiv 2405.00949. Its BART configurations name 2 and 3 heads, but its training ran with 12."""


def resolve(  # noqa: PLR0913 - the tokenizer's facts are plain keywords
    architecture: str,
    size: str,
    *,
    vocabulary: int,
    max_length: int,
    pad_id: int,
    bos_id: int,
    eos_id: int,
    pooling: Pooling = "default",
) -> ModelSpec:
    """The dimensions of one architecture at one size.

    Args:
        architecture: a name of `ARCHITECTURES`.
        size: ``13M``, ``30M`` or ``w{width}x{layers}``.
        vocabulary: number of tokens.
        max_length: longest token sequence, start and end tokens included.
        pad_id: token that fills a batch on the right.
        bos_id: token that starts a molecule.
        eos_id: token that ends a molecule.
        pooling: how token states become one vector.

    Raises:
        UnknownNameError: if no architecture or size is called so.
        ConfigError: if the combination cannot be built; the text says why.
    """
    ARCHITECTURES.require(architecture)
    dimensions = _dimensions(architecture, size)
    spec = ModelSpec(
        architecture=architecture,
        hidden=dimensions.hidden,
        ffn=dimensions.ffn,
        layers=dimensions.layers,
        decoder_layers=dimensions.decoder_layers,
        heads=dimensions.heads,
        vocabulary=vocabulary,
        max_length=max_length,
        pad_id=pad_id,
        bos_id=bos_id,
        eos_id=eos_id,
        pooling=pooling,
    )
    require_feasible(spec)
    return spec


def require_size(size: str) -> tuple[int, int] | None:
    """Width and layers of a size made by the pattern; none for a named size.

    Raises:
        UnknownNameError: if no size is called so.
    """
    if size in SIZES:
        return None
    match = re.fullmatch(r"w([1-9][0-9]{0,4})x([1-9][0-9]{0,2})", size)
    if match is None:
        raise UnknownNameError("size", size, [*SIZES, PATTERN])
    return int(match[1]), int(match[2])


def _dimensions(architecture: str, size: str) -> Dimensions:
    made = require_size(size)
    if made is None:
        return SIZES[size][architecture]
    width, layers = made
    heads = max(1, width // HEAD_WIDTH)
    if architecture == "bart":
        return Dimensions(width, 4 * width, (layers + 1) // 2, heads, decoder_layers=max(1, layers // 2))
    ffn = max(8, 8 * round(width / 3)) if architecture == "llama" else 4 * width
    return Dimensions(width, ffn, layers, heads)


def require_feasible(spec: ModelSpec) -> None:
    """Check that the architecture can be built with these dimensions.

    Raises:
        ConfigError: with every reason why not.
    """
    problems = []
    near = HEAD_WIDTH * max(1, round(spec.hidden / HEAD_WIDTH))
    if spec.hidden % spec.heads:
        problems.append(
            f"width must be divisible by the number of attention heads, got {spec.hidden} with {spec.heads} heads "
            f"({spec.architecture}); choose a multiple of {HEAD_WIDTH} such as w{near}"
        )
    elif spec.architecture == "llama" and spec.hidden // spec.heads % 2:
        problems.append(
            f"rotary positions need heads of even width, got {spec.hidden // spec.heads} "
            f"(llama, width {spec.hidden}, {spec.heads} heads); choose a multiple of {HEAD_WIDTH} such as w{near}"
        )
    if (spec.architecture == "bart") != (spec.decoder_layers > 0):
        problems.append(
            f"bart needs at least 1 decoder layer and the others have none, got {spec.decoder_layers} "
            f"({spec.architecture}); let resolve() choose them"
        )
    ids = {"pad_id": spec.pad_id, "bos_id": spec.bos_id, "eos_id": spec.eos_id}
    problems += [
        f"{name} must be below the vocabulary of {spec.vocabulary}, got {value}; take it from the tokenizer"
        for name, value in ids.items()
        if value >= spec.vocabulary
    ]
    if spec.pad_id in (spec.bos_id, spec.eos_id):
        problems.append(
            f"pad_id must differ from bos_id and eos_id, got pad {spec.pad_id}, bos {spec.bos_id}, "
            f"eos {spec.eos_id}; give padding a token of its own"
        )
    if problems:
        raise ConfigError(problems)


def count_parameters(spec: ModelSpec, outputs: int) -> int:
    """Parameters of the backbone and the pre-training head, exactly those of the built model.

    Args:
        spec: the backbone.
        outputs: number of descriptors predicted.

    Returns:
        The number of trained values; tied embeddings count once.
    """
    return _COUNTS[spec.architecture](spec) + spec.hidden * outputs + outputs


def _roberta_parameters(spec: ModelSpec) -> int:
    h = spec.hidden
    norm = 2 * h
    embeddings = (spec.vocabulary + spec.max_length + 1 + 1) * h + norm  # position row 0 is unused, one token type
    return embeddings + spec.layers * (_attention(h) + _mlp(spec) + 2 * norm)


def _bart_parameters(spec: ModelSpec) -> int:
    h = spec.hidden
    norm = 2 * h
    positions = (spec.max_length + BART_POSITION_OFFSET) * h + norm
    encoder = positions + spec.layers * (_attention(h) + _mlp(spec) + 2 * norm)
    decoder = positions + spec.decoder_layers * (2 * _attention(h) + _mlp(spec) + 3 * norm)
    return spec.vocabulary * h + encoder + decoder


def _llama_parameters(spec: ModelSpec) -> int:
    h = spec.hidden
    return spec.vocabulary * h + spec.layers * (4 * h * h + 3 * h * spec.ffn + 2 * h) + h


def _attention(hidden: int) -> int:
    return 4 * (hidden * hidden + hidden)


def _mlp(spec: ModelSpec) -> int:
    return 2 * spec.hidden * spec.ffn + spec.ffn + spec.hidden


_COUNTS: dict[str, Callable[[ModelSpec], int]] = {
    "roberta": _roberta_parameters,
    "bart": _bart_parameters,
    "llama": _llama_parameters,
}


TOKENS_PER_MOLECULE = 45.0
"""Assumed mean length of drug-like SMILES in tokens, start and end included, wherever a cost is estimated."""


def training_flops(spec: ModelSpec, outputs: int, molecules: float) -> float:
    """Estimated operations of training on so many molecules of mean length; see `flops_per_token`."""
    return flops_per_token(spec, outputs, TOKENS_PER_MOLECULE) * TOKENS_PER_MOLECULE * molecules


def flops_per_token(spec: ModelSpec, outputs: int, length: float) -> float:
    """Estimated floating-point operations of training on one token, forward and backward.

    6 operations for each weight of a matrix product that the token passes (2 forward, 4 backward), and for each
    attention ``12 * length * hidden`` (scores and weighted sum), half of it where attention is causal. Look-ups,
    norms, activations and the optimiser are left out. A BART token passes the encoder and the decoder.

    Args:
        spec: the backbone.
        outputs: number of descriptors predicted; the head runs once a molecule.
        length: mean tokens of a molecule, padding left out.

    Returns:
        Operations per real token.
    """
    h, mlp = spec.hidden, 2 * spec.hidden * spec.ffn
    if spec.architecture == "bart":
        weights = spec.layers * (4 * h * h + mlp) + spec.decoder_layers * (8 * h * h + mlp)
        attentions = spec.layers + 1.5 * spec.decoder_layers  # a decoder layer: causal, and across
    elif spec.architecture == "llama":
        weights, attentions = spec.layers * (4 * h * h + 3 * h * spec.ffn), 0.5 * spec.layers
    else:
        weights, attentions = spec.layers * (4 * h * h + mlp), float(spec.layers)
    return 6.0 * (weights + h * outputs / length) + 12.0 * attentions * length * h
