"""LLaMA: a causal decoder with rotary positions; the last real token stands for the molecule."""

from __future__ import annotations

from typing import Self, cast

from torch import Tensor
from transformers import LlamaConfig, LlamaModel

from chembench.models.base import Backbone, causal_for_attention
from chembench.specs import ModelSpec


class Llama(Backbone):
    """Hugging Face's ``LlamaModel``. It has no dropout of hidden states: `PretrainingModel` drops before its head."""

    has_inner_dropout = False
    lora_targets = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

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

    def summary_index(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        return mask_BT.sum(1) - 1

    def set_dropout(self, probability: float) -> None:
        """Nothing to change: the architecture has no dropout of hidden states."""
