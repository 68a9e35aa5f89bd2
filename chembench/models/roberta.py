"""RoBERTa: an encoder with learnt positions; the first token stands for the molecule."""

from __future__ import annotations

from typing import Self, cast

import torch
from torch import Tensor, nn
from transformers import RobertaConfig, RobertaModel

from chembench.models.base import Backbone, for_attention
from chembench.specs import ModelSpec

LAYER_NORM_EPSILON = 1e-5
"""As in the published RoBERTa checkpoints; the default of Hugging Face's class is 1e-12."""


class Roberta(Backbone):
    """Hugging Face's ``RobertaModel`` without pooler, with one token type."""

    lora_targets = ("query", "key", "value", "dense")

    def __init__(self, spec: ModelSpec, model: RobertaModel) -> None:
        super().__init__(spec)
        self.model = model

    @classmethod
    def build(cls, spec: ModelSpec, dropout: float, attention_dropout: float) -> Self:
        config = RobertaConfig(
            vocab_size=spec.vocabulary,
            hidden_size=spec.hidden,
            intermediate_size=spec.ffn,
            num_hidden_layers=spec.layers,
            num_attention_heads=spec.heads,
            max_position_embeddings=spec.max_length + 1,
            type_vocab_size=1,
            layer_norm_eps=LAYER_NORM_EPSILON,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=attention_dropout,
            pad_token_id=spec.pad_id,
            bos_token_id=spec.bos_id,
            eos_token_id=spec.eos_id,
            use_cache=False,
            attn_implementation="sdpa",  # type: ignore[call-arg]
        )
        model = RobertaModel(config, add_pooling_layer=False)
        # The class freezes position row pad_id at zero; with positions counted from 1 that row may be in use.
        positions = nn.Embedding(spec.max_length + 1, spec.hidden)
        nn.init.normal_(positions.weight, std=config.initializer_range)
        model.embeddings.position_embeddings = positions
        return cls(spec, model)

    def states(self, ids_BT: Tensor, mask_BT: Tensor | None) -> Tensor:
        # Counted from 1, as the class does with pad id 0, so that 513 rows hold 512 tokens whatever the pad id is.
        positions_BT = torch.arange(1, ids_BT.shape[1] + 1, device=ids_BT.device).expand_as(ids_BT)
        output = self.model(input_ids=ids_BT, attention_mask=for_attention(mask_BT), position_ids=positions_BT)
        return cast(Tensor, output.last_hidden_state)

    def summary_index(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        return torch.zeros(len(ids_BT), dtype=torch.long, device=ids_BT.device)

    def set_dropout(self, probability: float) -> None:
        for name, module in self.model.named_modules():
            if isinstance(module, nn.Dropout) and not name.endswith("attention.self.dropout"):
                module.p = probability
