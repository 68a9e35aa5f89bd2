"""BART: encoder and decoder read the same molecule; the decoder's state at the last ``</s>`` stands for it."""

from __future__ import annotations

from typing import Self, cast

import torch
from torch import Tensor
from transformers import BartConfig, BartModel
from transformers.models.bart.modeling_bart import BartDecoder, BartDecoderLayer, BartEncoder, BartEncoderLayer

from chembench.errors import DataError
from chembench.models.base import Backbone, causal_for_attention, for_attention
from chembench.specs import ModelSpec


class Bart(Backbone):
    """Hugging Face's ``BartModel``; the decoder reads the ids moved one place to the right, after ``</s>``."""

    lora_targets = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")

    def __init__(self, spec: ModelSpec, model: BartModel) -> None:
        super().__init__(spec)
        self.model = model

    @classmethod
    def build(cls, spec: ModelSpec, dropout: float, attention_dropout: float) -> Self:
        config = BartConfig(
            vocab_size=spec.vocabulary,
            d_model=spec.hidden,
            encoder_ffn_dim=spec.ffn,
            decoder_ffn_dim=spec.ffn,
            encoder_layers=spec.layers,
            decoder_layers=spec.decoder_layers,
            encoder_attention_heads=spec.heads,
            decoder_attention_heads=spec.heads,
            max_position_embeddings=spec.max_length,
            dropout=dropout,
            attention_dropout=attention_dropout,
            pad_token_id=spec.pad_id,
            bos_token_id=spec.bos_id,
            eos_token_id=spec.eos_id,
            decoder_start_token_id=spec.eos_id,
            forced_eos_token_id=None,
            use_cache=False,
            attn_implementation="sdpa",  # type: ignore[call-arg]
        )
        return cls(spec, BartModel(config))

    def states(self, ids_BT: Tensor, mask_BT: Tensor | None) -> Tensor:
        # The decoder needs no mask of padding: it stands on the right, and no real token looks at one that follows.
        output = self.model(
            input_ids=ids_BT, attention_mask=for_attention(mask_BT), decoder_attention_mask=causal_for_attention(ids_BT)
        )
        return cast(Tensor, output.last_hidden_state)

    def check(self, ids_BT: Tensor, mask_BT: Tensor | None) -> None:
        super().check(ids_BT, mask_BT)
        has_end_B = self._is_end(ids_BT, mask_BT).any(1)
        if self.spec.pooling == "default" and not bool(has_end_B.all()):
            row = int((~has_end_B).nonzero()[0])
            raise DataError(
                f"bart pools at the last </s> (id {self.spec.eos_id}), sequence {row} of the batch has none; "
                "encode with the end token kept, or use pooling = 'mean'"
            )

    def summary_index(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """Place of the last ``</s>``."""
        places_T = torch.arange(ids_BT.shape[1], device=ids_BT.device)
        return torch.where(self._is_end(ids_BT, mask_BT), places_T, 0).amax(1)

    def _is_end(self, ids_BT: Tensor, mask_BT: Tensor | None) -> Tensor:
        is_end_BT = ids_BT == self.spec.eos_id
        return is_end_BT if mask_BT is None else is_end_BT & mask_BT

    def set_dropout(self, probability: float) -> None:
        for module in self.model.modules():
            if isinstance(module, BartEncoder | BartDecoder | BartEncoderLayer | BartDecoderLayer):
                module.dropout = probability
