"""LLaMA: a causal decoder with rotary positions; the last real token stands for the molecule.

Axes: B molecules, T tokens, S tokens of all molecules, D hidden units, d of a head.
"""

from __future__ import annotations

from functools import partial
from typing import Self, cast

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, rotate_half

from chembench.models.base import Backbone, causal_for_attention
from chembench.models.ragged import Ragged
from chembench.specs import ModelSpec


class Llama(Backbone):
    """Hugging Face's ``LlamaModel``. It has no dropout of hidden states: `PretrainingModel` drops before its head."""

    has_inner_dropout = False
    lora_targets = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    padding_cost = 0.25

    def __init__(self, spec: ModelSpec, model: LlamaModel) -> None:
        super().__init__(spec)
        self.model = model

    @classmethod
    def build(cls, spec: ModelSpec, dropout: float, attention_dropout: float) -> Self:
        config = LlamaConfig(
            vocab_size=spec.vocabulary,
            hidden_size=spec.hidden,
            intermediate_size=spec.ffn,
            num_hidden_layers=spec.layers,
            num_attention_heads=spec.heads,
            max_position_embeddings=spec.max_length,
            attention_dropout=attention_dropout,
            pad_token_id=spec.pad_id,
            bos_token_id=spec.bos_id,
            eos_token_id=spec.eos_id,
            use_cache=False,
            attn_implementation="sdpa",  # type: ignore[call-arg]
        )
        return cls(spec, LlamaModel(config))

    def states(self, ids_BT: Tensor, mask_BT: Tensor | None) -> Tensor:
        # No mask of padding: it stands on the right, and no real token looks at one that follows. sdpa is faster so.
        output = self.model(input_ids=ids_BT, attention_mask=causal_for_attention(ids_BT))
        return cast(Tensor, output.last_hidden_state)

    def pooled(self, ids_BT: Tensor, mask_BT: Tensor | None) -> Tensor:
        """As `Backbone.pooled`, with the class's own layers, but without what nobody reads; see `Roberta.pooled`."""
        if self.spec.pooling != "default":
            return super().pooled(ids_BT, mask_BT)
        tokens = Ragged.of(ids_BT, mask_BT)
        states_SD, layers = (
            self.model.embed_tokens(tokens.ids_S),
            cast(list[LlamaDecoderLayer], list(self.model.layers)),
        )
        places_1T = torch.arange(tokens.length, device=ids_BT.device)[None]
        turns = self.model.rotary_emb(states_SD, position_ids=places_1T)
        for layer in layers[:-1]:
            states_SD = _passed(layer, states_SD, tokens, turns)
        return cast(Tensor, self.model.norm(_passed(layers[-1], states_SD, tokens, turns, tokens.lasts())))

    def summary_index(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        return mask_BT.sum(1) - 1

    def set_dropout(self, probability: float) -> None:
        """Nothing to change: the architecture has no dropout of hidden states."""


def _passed(
    layer: LlamaDecoderLayer,
    states_SD: Tensor,
    tokens: Ragged,
    turns: tuple[Tensor, Tensor],
    wanted_B: Tensor | None = None,
) -> Tensor:
    """States after one layer, of all tokens or of one a molecule, as the class computes them.

    Args:
        layer: of the model.
        states_SD: before it.
        tokens: where they stand.
        turns: cosines and sines of the rotary positions, shape (1, T, d) each.
        wanted_B: place in S of the last token of each molecule; none: all tokens.
    """
    attention, size = layer.self_attn, tokens.size
    heads = attention.config.num_attention_heads
    normed_SD = layer.input_layernorm(states_SD)
    keys = _turned(tokens.heads(attention.k_proj(normed_SD), heads), turns)
    values = tokens.heads(attention.v_proj(normed_SD), heads)
    dropout = float(attention.attention_dropout or 0.0) if attention.training else 0.0
    attend = partial(nn.functional.scaled_dot_product_attention, dropout_p=dropout)
    if wanted_B is None:
        queries = _turned(tokens.heads(attention.q_proj(normed_SD), heads), turns)
        own, joined = states_SD, tokens.joined(attend(queries, keys, values, is_causal=True))
    else:
        places_B = tokens.positions_S[wanted_B]
        cosines, sines = (turn[0, places_B][:, None] for turn in turns)
        queries = _turned(attention.q_proj(normed_SD[wanted_B]).view(size, heads, 1, -1), (cosines, sines))
        own, joined = states_SD[wanted_B], attend(queries, keys, values, attn_mask=tokens.mask_B11T).reshape(size, -1)
    own = own + attention.o_proj(joined)
    return cast(Tensor, own + layer.mlp(layer.post_attention_layernorm(own)))


def _turned(values_BHTd: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    """Queries or keys with their rotary positions; ``turns`` have the shape (B or 1, T, d)."""
    cosines, sines = (turn[:, None] for turn in turns)
    return cast(Tensor, values_BHTd * cosines + rotate_half(values_BHTd) * sines)  # type: ignore[no-untyped-call]
