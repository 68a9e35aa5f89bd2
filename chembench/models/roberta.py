"""RoBERTa: an encoder with learnt positions; the first token stands for the molecule.

Axes: B molecules, T tokens, S tokens of all molecules, D hidden units.
"""

from __future__ import annotations

from typing import Self, cast

import torch
from torch import Tensor, nn
from transformers import RobertaConfig, RobertaModel
from transformers.models.roberta.modeling_roberta import RobertaLayer

from chembench.models.base import Backbone, for_attention
from chembench.models.ragged import Ragged
from chembench.specs import ModelSpec

LAYER_NORM_EPSILON = 1e-5
"""As in the published RoBERTa checkpoints; the default of Hugging Face's class is 1e-12."""


class Roberta(Backbone):
    """Hugging Face's ``RobertaModel`` without pooler, with one token type."""

    lora_targets = ("query", "key", "value", "dense")
    padding_cost = 0.25

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

    def pooled(self, ids_BT: Tensor, mask_BT: Tensor | None) -> Tensor:
        """As `Backbone.pooled`, with the class's own layers, but without what nobody reads.

        Padding passes attention alone, and of the last layer only what the first token needs: its keys and values of
        every token, and the rest of the first. A model of two layers and width 64 is trained in half the time.
        """
        if self.spec.pooling != "default":
            return super().pooled(ids_BT, mask_BT)
        tokens = Ragged.of(ids_BT, mask_BT)
        embedded_1SD = self.model.embeddings(input_ids=tokens.ids_S[None], position_ids=tokens.positions_S[None] + 1)
        states_SD, layers = embedded_1SD[0], cast(list[RobertaLayer], list(self.model.encoder.layer))
        for layer in layers[:-1]:
            states_SD = _passed(layer, states_SD, tokens)
        return _passed(layers[-1], states_SD, tokens, tokens.firsts())

    def summary_index(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        return torch.zeros(len(ids_BT), dtype=torch.long, device=ids_BT.device)

    def set_dropout(self, probability: float) -> None:
        for name, module in self.model.named_modules():
            if isinstance(module, nn.Dropout) and not name.endswith("attention.self.dropout"):
                module.p = probability


def _passed(layer: RobertaLayer, states_SD: Tensor, tokens: Ragged, wanted_B: Tensor | None = None) -> Tensor:
    """States after one layer, of all tokens or of one a molecule, as the class computes them."""
    attention = layer.attention.self
    heads = attention.num_attention_heads
    own = states_SD if wanted_B is None else states_SD[wanted_B]
    queries = attention.query(own)
    queries = (
        tokens.heads(queries, heads) if wanted_B is None else queries.view(tokens.size, 1, heads, -1).transpose(1, 2)
    )
    attended = nn.functional.scaled_dot_product_attention(
        queries,
        tokens.heads(attention.key(states_SD), heads),
        tokens.heads(attention.value(states_SD), heads),
        attn_mask=tokens.mask_B11T,
        dropout_p=attention.dropout.p if attention.training else 0.0,
    )
    joined = tokens.joined(attended) if wanted_B is None else attended.reshape(tokens.size, -1)
    own = layer.attention.output(joined, own)
    return cast(Tensor, layer.output(layer.intermediate(own), own))
